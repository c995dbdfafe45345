"""Rounds that train: the whole loop with tiny models of a few steps.

How well they answer is not tested here: they have learnt next to nothing.
"""

import json

import pytest

from engine.source.filesystem import open_location
from refinement.pairs.stream import Pairs
from tests.refinement.rounds_runs import (
    annotate_in,
    current,
    refine_in,
    rows_of,
    stored_rounds,
)

pytestmark = [pytest.mark.slow]

TRAIN = {"steps": 3, "batch_size": 4, "validate_every": None, "warmup": 0, "save_every": 3}
PAIRS = {"tasks": {"od": 1}}


def targets_of(out, round_="round-1"):
    pairs = Pairs.open(out / "_refine" / round_ / "pairs", open_location(str(out)))
    count = pairs.counts.examples["od"]
    return [pairs.example("od", number) for number in range(count)]


def test_a_model_of_our_own_that_has_learnt_nothing_is_rolled_back(noisy, untrained):
    predictor = {"kind": "florence2", "tasks": ["od"], "max_new_tokens": 12}
    refine = {"train": {**TRAIN, "steps": 20}, "pairs": PAIRS, "predictor": predictor}
    series, _ = refine_in(noisy, model=str(untrained), refine=refine)
    after = stored_rounds(noisy)[1]
    assert not after["accepted"]
    assert current(noisy) == "round-0"
    assert set(after["cost"]) == {"pairs", "train", "predict", "relabel", "measure"}
    model = noisy / "_refine" / "round-1" / "fold-0" / "model"
    assert after["model"] == str(model)
    assert json.loads((model.parent / "done.json").read_text())["steps"] == 20
    assert series.model is None  # it has no part in the labels


def test_folds_rounds_and_gold_of_a_dataset_with_gold_in_it(tmp_path, known_oracle):
    """Gold is a source of the dataset too, whose rows say what no other source says."""
    checked = {"kind": "oracle", "name": "checked", "says": "garbage"}
    out = annotate_in(tmp_path / "out", specialists=[checked])
    gold = {"uri": "synthetic", "world": "plain", "num_images": 60, "name": "checked"}
    refine = {
        "rounds": 2,
        "folds": 2,
        "min_gain": 0,
        "policy": {"name": "append"},
        "init": {"preset": "tiny", "image_size": 64},
        "pairs": PAIRS,
        "train": TRAIN,
        "predictor": {"kind": "oracle"},
    }
    series, _ = refine_in(out, refine=refine, gold=gold)
    rows = rows_of(out, "round-0")
    assert set(rows["source"].to_pylist()) == {"synthetic", "checked"}
    examples = targets_of(out)
    assert len(examples) > 30
    assert not any("nonsense" in example.target for example in examples)
    start, first, second = series.rounds
    assert (start.round, first.accepted) == (0, True)
    assert not second.accepted  # the oracle says the same again
    assert second.reason.startswith("no label changed")
    assert first.f1 > start.f1
    work = out / "_refine"
    begun = [json.loads((work / f"round-{n}/fold-1/job.json").read_text()) for n in (1, 2)]
    assert [job["without_fold"] for job in begun] == [[2, 1], [2, 1]]
    done = json.loads((work / "round-1/fold-1/done.json").read_text())
    assert begun[1]["start"] != begun[0]["start"]
    assert done["steps"] == 3
    assert series.model == str(work / "round-1" / "full" / "model")


def test_more_rounds_of_an_ended_series_go_on_with_it(noisy, untrained):
    refine = {"pairs": PAIRS, "train": TRAIN, "predictor": {"kind": "oracle"}, "min_gain": 0}
    refine |= {"policy": "append"}
    first, _ = refine_in(noisy, model=str(untrained), refine=refine)
    assert first.ended == "1 round, as asked"
    again, _ = refine_in(noisy, model=str(untrained), refine=refine | {"rounds": 2})
    assert [each.round for each in again.rounds] == [0, 1, 2]
    assert again.rounds[1] == first.rounds[1]
    assert again.earlier == ()
