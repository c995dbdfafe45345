"""Rounds over scenes whose truth is known: what a perfect, a bad and a silent model come to.

Mistakes in the config are tested in test_refine_command, kills in test_rounds_killed, rounds that
train in test_rounds_trained, real photos in test_rounds_photos.
"""

import json
import re
import shutil
import tarfile

import pyarrow.compute as pc
import pytest

from engine import cli, load
from engine.errors import StoppedError
from engine.reading import read_parquet
from engine.source.filesystem import open_location
from refinement.acceptance import judge_round
from refinement.lineage import roots
from refinement.options import RefineOptions
from refinement.series import Round
from tests.refinement.rounds_runs import (
    NUM_IMAGES,
    annotate_in,
    current,
    files_of,
    oracle,
    refine_in,
    rows_of,
    stored_rounds,
)

SPOKEN = ("confirmed", "moved", "renamed", "superseded", "contested")


@pytest.fixture(scope="module")
def perfect(tmp_path_factory, noisy_labels):
    """The dataset after one round with the perfect oracle, and what was printed; never changed."""
    out = shutil.copytree(noisy_labels, tmp_path_factory.mktemp("perfect") / "out")
    return out, refine_in(out)[1]


@pytest.fixture
def refined(tmp_path, perfect):
    """A copy to change."""
    return shutil.copytree(perfect[0], tmp_path / "refined")


def fld(monkeypatch, capsys, *arguments):
    """Output of a command that succeeds."""
    monkeypatch.setattr("sys.argv", ["fld", *map(str, arguments)])
    monkeypatch.setattr("signal.signal", lambda *_: None)
    with pytest.raises(SystemExit) as ended:
        cli.main()
    said = capsys.readouterr()
    assert not ended.value.code, said.err
    return said.out


def verdicts(out, version):
    rows = rows_of(out, version).select(["annotation_id", "status", "rule"])
    return rows.to_pylist()


def test_a_perfect_model_mends_the_labels(perfect):
    out, told = perfect
    before, after = stored_rounds(out)
    assert before["round"] == 0
    assert before["version"] == "round-0"
    assert 0.65 < before["f1"] < 0.75
    for name in ("f1", "precision", "recall"):
        assert after[name] > 0.95 > before[name], name
    assert (after["accepted"], after["version"], current(out)) == (True, "round-1", "round-1")
    assert after["reason"] == f"F1 {before['f1']:.4f} -> {after['f1']:.4f}"
    assert after["model"] == "oracle"
    assert {"predict", "relabel", "measure"} <= set(after["cost"])
    assert "round-1: accepted: F1" in told


def test_counts_by_outcome_are_those_of_labels_and_rows(perfect):
    out, _ = perfect
    before, after = stored_rounds(out)
    spoken = sum(after["outcomes"].get(name, 0) for name in SPOKEN)
    assert spoken == before["kept"]
    gone = after["outcomes"]["superseded"]
    assert after["kept"] == before["kept"] - gone + after["outcomes"]["added"]
    assert after["agreement"] == pytest.approx(after["outcomes"]["confirmed"] / spoken)


def test_every_new_row_with_a_parent_leads_to_a_first_annotation(perfect):
    rows = rows_of(perfect[0], "round-1")
    first = set(rows.filter(pc.equal(rows["round"], 0))["annotation_id"].to_pylist())
    made = rows.append_column("roots", roots(rows)).filter(pc.equal(rows["round"], 1)).to_pylist()
    assert {row["source"] for row in made} == {"oracle"}
    assert any(row["parents"] for row in made)
    for row in made:
        assert row["roots"] == row["parents"]
        assert set(row["roots"]) <= first
    old = rows.filter(pc.equal(rows["round"], 0))
    assert (
        old.select(["annotation_id", "text", "box"]).to_pylist()
        == rows_of(perfect[0], "round-0").select(["annotation_id", "text", "box"]).to_pylist()
    )


def test_the_ledger_has_an_outcome_for_every_label(perfect):
    place = open_location(str(perfect[0]))
    ledgers = [read_parquet(place, f"_refine/round-1/ledger/00000{n}.parquet") for n in range(3)]
    told = [name for ledger in ledgers for name in ledger["annotation_id"].to_pylist() if name]
    kept = rows_of(perfect[0], "round-0").filter(pc.field("status") == "kept")
    assert sorted(told) == sorted(kept["annotation_id"].to_pylist())


def test_the_same_rules_again_change_no_verdict_of_a_round(refined, monkeypatch, capsys):
    fld(monkeypatch, capsys, "filter", f"source.uri={refined}", "rules=[]", "runner.kind=serial")
    assert current(refined) == "round-1.filter-1"
    assert verdicts(refined, "round-1.filter-1") == verdicts(refined, "round-1")
    statuses = {row["status"] for row in verdicts(refined, "round-1")}
    assert statuses == {"kept", "superseded"}


def test_undo_goes_back_to_the_labels_before_the_round(refined, monkeypatch, capsys):
    fld(monkeypatch, capsys, "filter", f"source.uri={refined}", "--undo")
    assert current(refined) == "round-0"
    assert "round-1" in fld(monkeypatch, capsys, "versions", refined)


def test_other_commands_work_on_a_round(refined, monkeypatch, capsys, tmp_path):
    assert "round-1" in fld(monkeypatch, capsys, "versions", refined)
    assert "accepted" in fld(monkeypatch, capsys, "rounds", refined)
    assert (refined / "_run" / "rounds.png").read_bytes().startswith(b"\x89PNG")
    fld(monkeypatch, capsys, "report", refined)
    numbers = tmp_path / "numbers.json"
    truth = ["synthetic", "world=plain", f"num_images={NUM_IMAGES}", "--json", numbers]
    fld(monkeypatch, capsys, "evaluate", refined, *truth)
    found = json.loads(numbers.read_text())["families"]["boxes"]["measures"]
    assert found["f1"] == stored_rounds(refined)[1]["f1"]
    fld(monkeypatch, capsys, "export", refined, tmp_path / "labels.json", "kind=coco")
    exported = json.loads((tmp_path / "labels.json").read_text())
    assert len(exported["annotations"]) == stored_rounds(refined)[1]["kept"]


def test_training_reads_pictures_of_the_first_version_and_labels_of_the_round(perfect):
    samples = list(load.load(perfect[0]))
    assert len(samples) == NUM_IMAGES
    assert {sample["image"].size for sample in samples} == {(64, 64)}
    regions = sum(len(sample["regions"]["text"]) for sample in samples)
    assert regions == stored_rounds(perfect[0])[1]["kept"]
    with tarfile.open(perfect[0] / "round-1" / "000000.tar") as tar:
        assert {name.partition(".")[2] for name in tar.getnames()} == {"json"}


def test_the_same_command_again_changes_nothing(refined):
    before = files_of(refined)
    series, _ = refine_in(refined)
    assert series.ended == "1 round, as asked"
    after = files_of(refined)
    changing = {path for path in before | after if before.get(path) != after.get(path)}
    assert changing <= {path for path in after if path.startswith("_run/")} | {"rounds.json"}


def labels_of(out):
    """Everything a round that is rolled back may not touch."""
    files = files_of(out)
    return {path: digest for path, digest in files.items() if path.startswith("round-0/")}


BAD = [
    pytest.param({"says": "garbage"}, "consensus", "no label changed", id="garbage"),
    pytest.param({"says": "garbage"}, "replace", "F1 0.7.* -> 0.0000: it fell", id="replace"),
    pytest.param({"says": "nothing"}, "replace", "F1 0.7.* -> 0.0000: it fell", id="erase"),
]


@pytest.mark.parametrize(("model", "policy", "reason"), BAD)
def test_a_bad_model_is_rolled_back_with_gold(noisy, model, policy, reason):
    before = labels_of(noisy)
    series, told = refine_in(noisy, refine=oracle(**model) | {"policy": policy})
    assert current(noisy) == "round-0"
    assert labels_of(noisy) == before
    after = stored_rounds(noisy)[1]
    assert not after["accepted"]
    assert re.search(reason, after["reason"])
    assert series.ended == f"round 1 was rolled back: {after['reason']}"
    assert f"round-1: rolled back, the labels are as they were: {after['reason']}" in told
    assert series.last.version == "round-0"


@pytest.mark.parametrize(
    ("model", "policy", "reason"),
    [
        pytest.param({"says": "garbage"}, "replace", "0.0% of the regions confirmed", id="replace"),
        pytest.param({"says": "nothing"}, "consensus", "no label changed", id="nothing"),
    ],
)
def test_a_bad_model_is_rolled_back_without_gold(noisy, model, policy, reason):
    before = labels_of(noisy)
    refine_in(noisy, refine=oracle(**model) | {"policy": policy}, gold=None)
    assert (current(noisy), labels_of(noisy)) == ("round-0", before)
    after = stored_rounds(noisy)[1]
    assert not after["accepted"]
    assert reason in after["reason"]
    assert (after["f1"], after["precision"], after["recall"]) == (None, None, None)


@pytest.mark.parametrize("policy", ["consensus", "replace"])
def test_agreement_decides_without_gold_whatever_the_policy(noisy, policy):
    _, told = refine_in(noisy, refine=oracle() | {"policy": policy}, gold=None)
    start, after = stored_rounds(noisy)
    assert after["accepted"]
    assert after["agreement"] == pytest.approx(0.72, abs=0.01)
    assert after["reason"] == f"without gold: {after['agreement']:.1%} of the regions confirmed"
    assert after["reason"] in told
    assert start["agreement"] is None
    assert current(noisy) == "round-1"


def test_an_alarm_stops_a_round_until_it_is_lifted(tmp_path, known_oracle):
    # of labels and predictions together, of which it rejects the half
    harsh = {"rule": "min_score", "limits": {"oracle": 0.95}, "alarm_share": 0.4}
    sections = {
        "source": {"num_images": 300, "shard_size": 100},
        "refine": oracle() | {"policy": "replace"},
        "gold": {"num_images": 300},
    }
    for _ in range(4):  # more often than there are shards: patience lifts no alarm
        with pytest.raises(StoppedError, match=r"'min_score' rejected .*% of .* rows"):
            refine_in(tmp_path / "out", **sections, rules=[harsh])
    assert current(tmp_path / "out") == "round-0"
    series, _ = refine_in(tmp_path / "out", **sections, rules=[{**harsh, "alarm_share": 1}])
    assert [made.round for made in series.rounds] == [0, 1]


def test_who_rolls_back_may_ask_for_another_round_with_another_model(noisy):
    refine_in(noisy, refine=oracle(says="garbage"))
    refine_in(noisy)
    series = json.loads((noisy / "rounds.json").read_text())
    assert [each["version"] for each in series["rounds"]] == ["round-0", "round-2"]
    assert series["rounds"][1]["accepted"]
    [earlier] = series["earlier"]
    assert [each["version"] for each in earlier["rounds"]] == ["round-0", "round-1"]
    assert current(noisy) == "round-2"
    rounds = rows_of(noisy, "round-2")["round"].to_pylist()
    assert set(rounds) == {0, 2}


def test_a_series_begun_anew_takes_nothing_from_the_one_before(noisy):
    refine_in(noisy, refine=oracle() | {"policy": "append"})
    (noisy / "rounds.json").unlink()
    refine_in(noisy, refine=oracle() | {"policy": "replace"})
    start, after = stored_rounds(noisy)
    assert (start["version"], after["version"]) == ("round-1", "round-2")
    assert set(after["outcomes"]) == {"moved", "renamed", "superseded", "added"} & set(
        after["outcomes"]
    )


def test_images_the_model_failed_on_keep_their_labels(noisy):
    refine_in(noisy, refine=oracle(fails_every=2) | {"policy": "replace"})
    rows = rows_of(noisy, "round-1").to_pylist()
    failed = [row for row in rows if int(row["image_key"].split("-")[1]) % 2 == 0]
    assert {(row["round"], row["status"]) for row in failed} == {(0, "kept")}
    assert {row["round"] for row in rows} == {0, 1}
    assert stored_rounds(noisy)[1]["accepted"]


def test_captions_alone_are_only_taken_unmeasured_where_that_is_asked_for(noisy, tmp_path):
    out = annotate_in(tmp_path / "captions", source={"gives": ["text/brief"]})
    captions = oracle(roles=["brief"]) | {
        "policy": {"name": "consensus", "replace_texts": ["brief"]}
    }
    refine_in(out, refine=captions, gold=None)
    after = stored_rounds(out)[1]
    assert not after["accepted"]
    assert after["reason"].startswith("without gold: no region to agree with; give gold, or")
    refine_in(out, refine=captions | {"min_agreement": 0}, gold=None)
    after = stored_rounds(out)[1]
    assert (after["accepted"], after["agreement"]) == (True, None)
    assert current(out) == "round-2"


def made(**values):
    return Round(round=1, version="round-1", **{"outcomes": {"moved": 1}, **values})


@pytest.mark.parametrize(
    ("before", "after", "accepted", "reason"),
    [
        pytest.param({"f1": 0.5}, {"f1": 0.5}, True, "F1 0.5000 -> 0.5000", id="equal"),
        pytest.param({"f1": 0.5}, {"f1": 0.49}, False, "it fell", id="fell"),
        pytest.param({"f1": None}, {"f1": 0.0}, False, "1.0000 -> 0.0000", id="invented"),
        pytest.param({"f1": 0.0}, {"f1": None}, True, "0.0000 -> 1.0000", id="taken-back"),
    ],
)
def test_gold_decides_by_f1(before, after, accepted, reason):
    start = Round(round=0, version="round-0", family="boxes", **before)
    found = judge_round(start, made(family="boxes", agreement=1, **after), RefineOptions())
    assert found[0] == accepted
    assert reason in found[1]


@pytest.mark.parametrize(
    ("before", "after", "accepted", "reason"),
    [
        pytest.param(None, 0.2, True, "20.0% of the regions confirmed", id="at-the-limit"),
        pytest.param(None, 0.19, False, "min_agreement is 20.0%", id="below"),
        pytest.param(0.5, 0.4, False, "50.0% in the round before", id="fell"),
        pytest.param(0.5, 0.5, True, "50.0%", id="equal"),
    ],
)
def test_without_gold_agreement_may_not_fall(before, after, accepted, reason):
    start = Round(round=1, version="round-1", agreement=before)
    found = judge_round(start, made(agreement=after), RefineOptions())
    assert found[0] == accepted
    assert reason in found[1]


@pytest.mark.parametrize("outcomes", [{}, {"confirmed": 4, "contested": 1, "added": 0}])
def test_a_round_that_changed_nothing_is_no_gain(outcomes):
    start = Round(round=0, version="round-0", family="boxes", f1=0.5)
    found = judge_round(start, made(family="boxes", f1=0.5, outcomes=outcomes), RefineOptions())
    told = "the model confirmed 4 of 5" if outcomes else "the model confirmed 0 of 0"
    assert found == (False, f"no label changed: {told}")
