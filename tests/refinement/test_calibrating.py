"""What the scores of a predictor are worth, learned from half of the gold or from the labels."""

import json

import pytest

from engine.errors import ConfigError
from tests.refinement.rounds_runs import current, oracle, refine_in, stored_rounds

# Right, and less sure of it (0.5 of place and of text) than the policy asks of what is added.
MISJUDGED = {"score": 0.5, "false_score": 0.2}


def calibration(out):
    return json.loads((out / "_refine" / "round-1" / "calibration.json").read_text())


def test_half_of_gold_calibrates_and_the_other_half_measures(noisy):
    refine_in(noisy, refine=oracle(**MISJUDGED) | {"calibrate": "gold"})
    found = calibration(noisy)
    shares = dict(zip(found["scores"], found["shares"], strict=True))
    assert [round(score, 2) for score in shares] == [0.04, 0.25]
    assert list(shares.values()) == pytest.approx([0, 1], abs=0.05)
    before, after = stored_rounds(noisy)
    assert after["accepted"]
    assert after["f1"] > 0.95 > before["f1"]


def test_agreement_calibrates_without_gold(noisy):
    refine_in(noisy, refine=oracle(**MISJUDGED) | {"calibrate": "agreement"}, gold=None)
    found = calibration(noisy)
    assert max(found["shares"]) == pytest.approx(0.72, abs=0.03)  # 30 % of the labels are wrong
    assert current(noisy) == "round-1"


def test_a_calibrated_round_is_no_worse_than_one_that_believes_the_scores(noisy, tmp_path):
    refine_in(noisy, refine=oracle(**MISJUDGED))
    raw = stored_rounds(noisy)[1]
    (noisy / "rounds.json").unlink()
    content = json.loads((noisy / "dataset.json").read_text())
    (noisy / "dataset.json").write_text(json.dumps(content | {"current": "round-0"}))
    refine_in(noisy, refine=oracle(**MISJUDGED) | {"calibrate": "gold"})
    calibrated = stored_rounds(noisy)[1]
    assert raw["outcomes"].get("added", 0) == 0 < calibrated["outcomes"]["added"]
    assert calibrated["f1"] > raw["f1"]


def test_a_model_that_says_nothing_is_rolled_back_and_not_calibrated(noisy):
    refine_in(noisy, refine=oracle(says="nothing") | {"calibrate": "gold"})
    assert stored_rounds(noisy)[1]["reason"].startswith("no label changed")
    assert not (noisy / "_refine" / "round-1" / "calibration.json").exists()


def test_predictions_without_scores_cannot_be_calibrated(noisy):
    with pytest.raises(ConfigError, match=r"none of \d+ predictions has a score"):
        refine_in(noisy, refine=oracle(score=None) | {"calibrate": "agreement"})
    assert current(noisy) == "round-0"
