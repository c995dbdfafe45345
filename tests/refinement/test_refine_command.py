"""`fld refine`: one plain line for every mistake in a config, before any work."""

import json
import re
import shutil

import pytest
import yaml

from engine import cli
from engine.errors import ConfigError, EngineError
from tests.refinement.rounds_runs import files_of, oracle, refine_in, settings, stored_rounds

TRAINED = {"train": {"steps": 1}, "predictor": {"kind": "florence2", "tasks": ["od"]}}


def refusal(out, **sections):
    """The line with which it is refused; nothing was written."""
    before = files_of(out.parent)
    with pytest.raises(EngineError) as refused:
        refine_in(out, **sections)
    assert files_of(out.parent) == before
    assert "\n" not in str(refused.value)
    return str(refused.value)


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        pytest.param(
            {"refine": oracle() | {"policy": "consensis"}},
            r"refine\.policy 'consensis': did you mean 'consensus'\? known: append, consensus, rep",
            id="policy",
        ),
        pytest.param(
            {"refine": oracle() | {"policy": {"name": "consensus", "min_add": 0.2}}},
            r"refine\.policy\.min_add is not an option; did you mean 'min_add_score'\?",
            id="policy-option",
        ),
        pytest.param(
            {"refine": oracle() | {"polic": "append"}},
            r"refine\.polic is not an option; did you mean 'policy'\?",
            id="option",
        ),
        pytest.param(
            {"refine": oracle() | {"folds": 3}},
            r"refine\.train is null: .* rounds and folds must be 1",
            id="folds-untrained",
        ),
        pytest.param(
            {"refine": oracle() | {"rounds": 0}},
            r"refine\.rounds is 0; allowed: 1 or more",
            id="no-rounds",
        ),
        pytest.param(
            {"refine": {"train": None, "predictor": {"model": "x"}}},
            r"refine\.predictor\.kind is missing; `fld specialists` lists",
            id="no-predictor",
        ),
        pytest.param(
            {"refine": {"train": None, "predictor": {"kind": "yola"}}},
            r"specialist 'yola' is not known; did you mean 'yolo'\?",
            id="predictor",
        ),
        pytest.param(
            {"refine": oracle(sayz="truth")},
            r"refine\.predictor\.sayz is not an option; did you mean 'says'\?",
            id="predictor-option",
        ),
        pytest.param(
            {"refine": oracle(model="mine"), "model": "other"},
            r"refine\.predictor\.model is 'mine', and model is 'other'; take one of the two out",
            id="two-models",
        ),
        pytest.param(
            {"refine": TRAINED | {"predictor": {"kind": "florence2", "model": "m"}}, "model": "x"},
            r"refine\.predictor\.model is 'm', and the trained one predicts; take one",
            id="model-of-a-trained-predictor",
        ),
        pytest.param({"refine": TRAINED}, r"^model is missing: .* refine\.init", id="no-model"),
        pytest.param(
            {"refine": TRAINED | {"init": {"preset": "tiny"}}, "model": "x"},
            r"refine\.init: model is 'x', and a training starts from one checkpoint",
            id="model-and-init",
        ),
        pytest.param(
            {"refine": TRAINED | {"init": {"pre": "tiny"}}},
            r"refine\.init\.pre is not an option; did you mean 'preset'\?",
            id="init-option",
        ),
        pytest.param(
            {"refine": TRAINED | {"init": {"preset": "tinny"}}},
            r"preset 'tinny'.*tiny",
            id="preset",
        ),
        pytest.param(
            {"refine": TRAINED | {"init": {"preset": "tiny", "image_size": 3}}},
            r"image_size 3|3 px",
            id="preset-size",
        ),
        pytest.param(
            {"refine": oracle() | {"calibrate": "gold"}, "gold": None},
            r"refine\.calibrate is gold, and there is no `gold`; give its uri",
            id="calibrate-without-gold",
        ),
        pytest.param(
            {"rules": [{"rule": "near_duplicate"}]},
            r"rules: 'near_duplicate' must have seen the whole dataset; leave it out here",
            id="global-rule",
        ),
        pytest.param(
            {"gold": {"uri": "nowhere/gold.json", "kind": "coco"}}, r"nowhere/gold\.json", id="gold"
        ),
    ],
)
@pytest.mark.parametrize("is_there", [False, True], ids=["photos", "dataset"])
def test_a_mistake_is_told_before_anything_is_written(
    tmp_path, noisy_labels, sections, message, is_there
):
    out = tmp_path / "out"
    if is_there:
        shutil.copytree(noisy_labels, out)
    assert re.search(message, refusal(out, **sections))


def test_the_dataset_itself_is_no_gold(noisy, monkeypatch):
    monkeypatch.chdir(noisy.parent)
    for uri in (str(noisy), f"{noisy}/", "./out", f"file://{noisy}"):
        said = refusal(noisy, gold={"uri": uri, "world": None, "num_images": None})
        assert re.search("is the dataset that is refined, whose labels train; gold never", said)


def test_gold_of_other_images_is_refused(noisy, tmp_path):
    truth = {"images": [], "annotations": [], "categories": []}
    (tmp_path / "gold.json").write_text(json.dumps(truth))
    gold = {"uri": str(tmp_path / "gold.json"), "kind": "coco", "world": None, "num_images": None}
    with pytest.raises(ConfigError, match="the truth has no rows to compare with"):
        refine_in(noisy, gold=gold)
    assert not (noisy / "rounds.json").exists()


def test_a_model_that_is_none_is_refused(noisy, tmp_path):
    model = tmp_path / "model"
    model.mkdir()
    (model / "config.json").write_text('{"model_type": "florence2"}')
    (model / "pytest_model.bin").write_bytes(b"\x80\x04")
    said = refusal(noisy, model=str(model), refine=TRAINED)
    assert re.search(r"holds only pytest_model\.bin, a pickle, which can run code", said)
    said = refusal(noisy, model=str(tmp_path / "none"), refine=TRAINED)
    assert re.search(r"none: no such folder", said)
    given = {"train": None, "predictor": {"kind": "florence2", "tasks": ["od"]}}
    said = refusal(noisy, model=str(model), refine=given)
    assert re.search(r"model.*safetensors|pickle", said)


def test_a_truncated_model_is_refused(noisy, tmp_path, untrained):
    model = shutil.copytree(untrained, tmp_path / "model")
    weights = model / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])
    said = refusal(noisy, model=str(model), refine=TRAINED)
    assert re.search(r"model\.safetensors cannot be read .*; it is cut short or damaged", said)


def test_a_task_of_which_no_row_is_kept_is_refused_before_training(noisy, untrained):
    refine = TRAINED | {"pairs": {"tasks": {"od": 1, "caption": 1}}}
    with pytest.raises(ConfigError, match=r"round-0.*caption"):
        refine_in(noisy, model=str(untrained), refine=refine)
    assert not list((noisy / "_refine" / "round-1").glob("fold-*"))


@pytest.fixture(scope="module")
def ended(tmp_path_factory, noisy_labels):
    """A series of one round, and the rules it was judged by."""
    out = shutil.copytree(noisy_labels, tmp_path_factory.mktemp("ended") / "out")
    rules = [{"rule": "min_score", "limits": {"oracle": 0.5}, "alarm_share": 1}]
    refine_in(out, rules=rules)
    return out, rules


@pytest.fixture
def cut_off(tmp_path, ended):
    """The same before its round, as far as `rounds.json` knows."""
    out = shutil.copytree(ended[0], tmp_path / "out")
    series = json.loads((out / "rounds.json").read_text())
    series |= {"ended": None, "rounds": series["rounds"][:1]}
    (out / "rounds.json").write_text(json.dumps(series))
    return out, ended[1]


def test_another_series_that_has_not_ended_shows_what_differs(cut_off):
    out, rules = cut_off
    said = refusal(out, refine=oracle(score=0.5), seed=1, rules=rules)
    assert "another refinement has not ended; differences:" in said
    assert "refine.predictor.score: nothing -> 0.5" in said
    assert "seed: 0 -> 1" in said
    assert "rules" not in said
    assert "finish it, or move rounds.json away" in said


def test_rounds_go_on_from_the_labels_one_sees(cut_off):
    out, rules = cut_off
    content = json.loads((out / "dataset.json").read_text())
    content["versions"]["round-1.filter-1"] = content["versions"]["round-1"]
    (out / "dataset.json").write_text(json.dumps(content | {"current": "round-1.filter-1"}))
    said = refusal(out, rules=rules)
    assert "current label version is 'round-1.filter-1', and the rounds would go on from" in said


def test_a_lifted_alarm_and_more_patience_are_no_other_series(ended):
    out, rules = ended
    before = (out / "rounds.json").read_text()
    lifted = [{**rules[0], "alarm_share": 0.5}]
    series, _ = refine_in(out, refine=oracle(quiet_limit=3) | {"min_gain": 0.5}, rules=lifted)
    assert (len(series.rounds), series.earlier) == (2, ())
    assert (out / "rounds.json").read_text() == before


def test_broken_rounds_are_told(noisy):
    (noisy / "rounds.json").write_text('{"rounds": 3}')
    assert re.search(r"rounds\.json is not what a refinement writes", refusal(noisy))
    (noisy / "rounds.json").write_text("[1")
    assert re.search(r"rounds\.json is not what a refinement writes", refusal(noisy))


def test_a_version_that_is_not_current_is_refused(noisy):
    content = json.loads((noisy / "dataset.json").read_text())
    content["versions"]["round-0.filter-1"] = content["versions"]["round-0"]
    (noisy / "dataset.json").write_text(json.dumps(content | {"current": "round-0.filter-1"}))
    config = settings(noisy) | {"source": {"uri": str(noisy), "version": "round-0"}}
    path = noisy.parent / "refine.yaml"
    path.write_text(yaml.safe_dump({k: v for k, v in config.items() if k != "output"}))
    with pytest.raises(ConfigError, match=r"source\.version is 'round-0': rounds go on from the c"):
        cli.refine(str(path))


def test_rows_of_golds_name_are_in_no_pair(noisy, tmp_path, untrained):
    """Its own name is that of all labels there are: nothing is left to train on."""
    gold = {"uri": "synthetic", "world": "plain", "num_images": 60, "name": "synthetic"}
    with pytest.raises(ConfigError, match="gold"):
        refine_in(noisy, model=str(untrained), refine=TRAINED, gold=gold)
    assert stored_rounds(noisy)[1:] == []
