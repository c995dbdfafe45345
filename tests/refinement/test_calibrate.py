"""Scores that say too much, brought to what they are worth."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from refinement.calibrate import Calibration, agreement, calibration_error, fit
from tests.builders import rows
from tests.refinement.relabel_tables import BOX, FAR, said


def overconfident(count=4_000, temperature=3.0, seed=0):
    """Scores whose log-odds are three times what the answers are worth."""
    rng = np.random.default_rng(seed)
    worth = rng.uniform(0.05, 0.95, count)
    odds = temperature * np.log(worth / (1 - worth))
    return (1 / (1 + np.exp(-odds))).astype(np.float32), rng.random(count) < worth


def test_no_score_teaches_nothing():
    with pytest.raises(ConfigError, match="none of 2 predictions has a score"):
        fit(np.array([np.nan, np.nan], np.float32), np.array([True, False]))
    with pytest.raises(ConfigError, match="they lie in 0 to 1"):
        fit(np.array([1.5], np.float32), np.array([True]))


@pytest.mark.parametrize("method", ["isotonic", "temperature"])
def test_overconfident_scores_come_down_to_their_worth(method):
    scores, correct = overconfident()
    made = fit(scores, correct, method=method)
    assert made.error_before == pytest.approx(calibration_error(scores, correct))
    assert made.error_before > 0.1
    assert made.error_after < 0.03
    fresh_scores, fresh = overconfident(20_000, seed=1)
    assert calibration_error(made.apply(fresh_scores), fresh) < 0.03


def test_the_temperature_that_was_put_in_is_found():
    assert fit(*overconfident(), method="temperature").temperature == pytest.approx(3.0, rel=0.1)


def test_neighbours_that_fall_are_pooled():
    made = fit(np.float32([0.1, 0.2, 0.3, 0.4]), np.array([False, True, False, True]))
    assert made.apply(np.float32([0.1, 0.2, 0.3, 0.4, 0.0, 1.0])).tolist() == [0, 0.5, 0.5, 1, 0, 1]


def test_a_null_score_stays_null():
    made = fit(*overconfident())
    assert np.isnan(made.apply(np.float32([np.nan, 0.5]))).tolist() == [True, False]


@settings(max_examples=50, deadline=None)
@given(
    st.lists(st.tuples(st.floats(0, 1, width=32), st.booleans()), min_size=1, max_size=40),
    st.sampled_from(["isotonic", "temperature"]),
)
def test_calibrated_scores_never_change_the_order_and_survive_json(examples, method):
    scores = np.array([score for score, _ in examples], np.float32)
    correct = np.array([right for _, right in examples])
    made = fit(scores, correct, method=method)
    applied = made.apply(np.sort(scores))
    assert (np.diff(applied) >= 0).all()
    assert applied.min() >= 0
    assert applied.max() <= 1
    again = Calibration.from_json(made.to_json())
    assert again == made


@pytest.mark.parametrize(
    "text",
    [
        "nothing",
        "[]",
        '{"method": "isotonic", "scores": [0, 1], "shares": [1, 0]}',
        '{"method": "isotonic", "scores": [0], "shares": []}',
        '{"method": "temperature", "scores": [], "shares": [], "temperature": 0}',
        '{"method": "magic", "scores": [0], "shares": [1]}',
    ],
)
def test_other_json_is_refused_in_one_line(text):
    with pytest.raises(ConfigError, match="fit it again") as refused:
        Calibration.from_json(text)
    assert "\n" not in str(refused.value)


def test_agreement_is_told_for_every_prediction_in_its_place():
    reference = rows(
        text=["dog", "cat", "dog"],
        box=[BOX, FAR, [0, 50, 30, 80]],
        ignore=[False, False, True],
    )
    predicted = said(
        text=["dog", "dog", "cow", "dog", "dog"],
        box=[BOX, BOX, FAR, [5, 55, 9, 59], None],
        score=[0.9, 0.5, None, 0.4, 0.3],
        text_score=[0.8, None, 0.5, None, None],
    )
    scores, correct = agreement(predicted, reference)
    assert correct.tolist() == [True, False, False, False, False]  # each true row counts once
    np.testing.assert_allclose(scores, [0.72, 0.5, 0.5, np.nan, np.nan])
