"""Duplicates by the order of sources and softly; regions inside larger ones.

What `duplicate_region` does by default is in test_region_rules.py.
"""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.geometry import pairwise_iou
from filters.region_duplicates import ContainedRegion, DuplicateRegion
from filters.region_soft import Decay, decay
from tests.builders import all_fresh, tables

HERE, NEAR, FAR = [0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]
NAN = float("nan")


def judge(rule, *, kept=(), **columns):
    given = tables(**columns)
    return rule.judge(given, all_fresh(given, kept=kept))


@pytest.mark.parametrize(
    ("columns", "kept", "winner"),
    [
        pytest.param({"source": ["b", "a"]}, [], 1, id="the-first-named-source"),
        pytest.param({"source": ["a", "b"]}, [], 0, id="whichever-comes-first"),
        pytest.param({"source": ["c", "b"]}, [], 1, id="named-before-not-named"),
        pytest.param({"source": ["c", "d"]}, [], 0, id="none-named-score"),
        pytest.param({"source": ["a", "a"], "score": [0.1, 0.9]}, [], 1, id="one-source-score"),
        pytest.param({"source": ["b", "a"]}, [0], 0, id="kept-earlier-beats-all"),
        pytest.param({"source": ["b", "a"], "human": [True, False]}, [], 0, id="a-person-too"),
    ],
)
def test_duplicate_region_prefers_sources_to_scores(columns, kept, winner):
    rule = DuplicateRegion(sources=("a", "b"))
    verdicts = judge(rule, kept=kept, **{"box": [HERE, NEAR], "score": [0.9, 0.1], **columns})
    assert verdicts.rejected.to_pylist() == [winner == 1, winner == 0]
    assert verdicts.against.to_pylist()[1 - winner] == f"row-{winner}"


def test_soft_suppression_measures_what_is_left_of_a_score():
    """Linear: what overlaps by .9 keeps a tenth of its score."""
    rule = DuplicateRegion(method="linear", iou=0.5, min_score=0.07)
    verdicts = judge(rule, box=[NEAR, HERE, FAR], score=[0.6, 0.9, 0.05])
    assert verdicts.rejected.to_pylist() == [True, False, False]
    assert verdicts.measured.to_pylist() == [pytest.approx(0.06), None, None]
    assert verdicts.against.to_pylist() == ["row-1", None, None]
    assert verdicts.limit == 0.07


def test_soft_suppression_keeps_what_has_enough_left():
    rule = DuplicateRegion(method="gaussian", sigma=0.5, min_score=0.17)
    left = 0.9 * np.exp(-(0.9**2) / 0.5)  # .178
    verdicts = judge(rule, box=[HERE, NEAR], score=[0.95, 0.9])
    assert left > 0.17
    assert verdicts.rejected.to_pylist() == [False, False]
    rule = DuplicateRegion(method="gaussian", sigma=0.5, min_score=0.18)
    verdicts = judge(rule, box=[HERE, NEAR], score=[0.95, 0.9])
    assert verdicts.measured.to_pylist() == [None, pytest.approx(left)]


@pytest.mark.parametrize("method", ["linear", "gaussian"])
@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"box": [HERE, NEAR], "score": [0.9, None]}, id="no-score-loses-nothing"),
        pytest.param({"box": [HERE, NEAR], "score": [None, 0.9]}, id="no-score-takes-nothing"),
        pytest.param({"box": [HERE, FAR], "score": [0.9, 0.01]}, id="low-but-alone"),
        pytest.param(
            {"box": [HERE, NEAR], "score": [0.9, 0.3], "human": [True, True]}, id="people"
        ),
        pytest.param(
            {"box": [HERE, HERE], "score": [0.9, 0.3], "human": True}, id="people-of-one-box"
        ),
        pytest.param(
            {"box": [HERE, NEAR], "score": [0.9, 0.3], "image_key": ["a", "b"]}, id="images"
        ),
        pytest.param(
            {"box": [HERE, NEAR], "score": [0.9, 0.3], "parents": [None, ["row-0"]]}, id="child"
        ),
        pytest.param({"box": []}, id="no-rows"),
    ],
)
def test_soft_suppression_leaves_alone(method, columns):
    assert not any(judge(DuplicateRegion(method=method), **columns).rejected.to_pylist())


@pytest.mark.parametrize("method", ["linear", "gaussian"])
def test_soft_suppression_takes_nothing_from_what_was_kept_earlier(method):
    rule = DuplicateRegion(method=method)
    verdicts = judge(rule, kept=[1], box=[HERE, NEAR], score=[0.9, 0.3])
    assert verdicts.rejected.to_pylist() == [True, False]
    assert verdicts.against.to_pylist() == ["row-1", None]


def one_after_the_other(overlaps, left, scores, tiers, immune):
    """Soft-NMS as its paper has it, one group, over the least key of what is left."""
    now = scores.astype(np.float64)
    against, taken = np.full(len(scores), -1), np.zeros(len(scores))
    open_ = [row for row in range(len(scores)) if not np.isnan(scores[row])]
    while open_:
        best = min(open_, key=lambda row: (tiers[row], -now[row], row))
        open_.remove(best)
        for row in open_:
            if overlaps[best, row] > 0 and not immune[row]:
                now[row] *= left[best, row]
                if overlaps[best, row] > taken[row]:
                    against[row], taken[row] = best, overlaps[best, row]
    return now, against


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 25),
    method=st.sampled_from(["linear", "gauss"]),
)
@settings(max_examples=200, deadline=None)
@example(seed=0, count=0, method="linear")
def test_decay_equals_one_row_after_the_other(seed, count, method):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 12, (count, 2))
    sides = rng.uniform(1, 9, (count, 2))
    boxes = np.concatenate([corner, corner + sides], axis=1).astype(np.float32)
    scores = rng.uniform(0, 1, count).astype(np.float32)
    scores[rng.random(count) < 0.1] = NAN
    tiers, immune = rng.integers(0, 3, count), rng.random(count) < 0.1
    overlaps = pairwise_iou(boxes, boxes)
    left = 1 - overlaps if method == "linear" else np.exp(-(overlaps**2) / 0.5)
    pairs = np.argwhere(np.triu(overlaps > 0, 1))
    rng.shuffle(pairs)
    meeting = Decay(pairs, overlaps[tuple(pairs.T)], left[tuple(pairs.T)])
    found = decay(meeting, scores, tiers, immune)
    now, against = one_after_the_other(overlaps, left, scores, tiers, immune)
    np.testing.assert_allclose(found.scores, now, rtol=1e-5)
    assert found.against.tolist() == against.tolist()


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"sources": ["a"], "across_sources": False}, "sources orders what never meets"),
        ({"sources": ["a", "b", "a"]}, "sources a, b, a names one twice"),
        ({"method": "soft"}, "method is 'soft'; allowed: hard, linear, gaussian"),
        ({"sigma": 0.3}, "sigma has no effect with method hard"),
        ({"min_score": 0.3}, "min_score has no effect with method hard"),
        ({"method": "gaussian", "iou": 0.5}, "iou has no effect with method gaussian"),
        ({"method": "linear", "sigma": 0.3}, "sigma has no effect with method linear"),
        ({"method": "gaussian", "sigma": 0}, "sigma is 0; it is above 0"),
        ({"method": "linear", "min_score": 25}, "min_score is 25; scores lie in 0..1"),
    ],
)
def test_duplicate_region_refuses_options_without_effect(options, complaint):
    with pytest.raises(ConfigError, match=complaint):
        DuplicateRegion(**options)


INSIDE = [0, 0, 5, 10]  # wholly in HERE, half of it


@pytest.mark.parametrize(
    ("columns", "kept", "rejected"),
    [
        pytest.param({"box": [HERE, INSIDE]}, [], [False, True], id="inside-a-better-one"),
        pytest.param({"box": [INSIDE, HERE]}, [], [False, False], id="a-worse-one-around-a-better"),
        pytest.param({"box": [HERE, [0, 0, 5, 12.5]]}, [], [False, False], id="at-the-limit"),
        pytest.param({"box": [HERE, [0, 0, 5, 12.4]]}, [], [False, True], id="just-above"),
        pytest.param({"box": [HERE, HERE]}, [], [False, True], id="no-smaller-than-itself"),
        pytest.param({"box": [HERE, [0, 0, 4, 10]]}, [], [False, True], id="just-large-enough"),
        pytest.param({"box": [HERE, [0, 0, 3.9, 10]]}, [], [False, False], id="farther-away"),
        pytest.param({"box": [INSIDE, HERE]}, [1], [True, False], id="kept-earlier-beats-score"),
        pytest.param({"box": [HERE, INSIDE]}, [1], [False, False], id="an-earlier-verdict-stays"),
        pytest.param(
            {"box": [HERE, INSIDE], "human": [False, True]}, [], [False, False], id="a-person"
        ),
        pytest.param({"box": [HERE, INSIDE], "text": ["a", "b"]}, [], [False] * 2, id="classes"),
        pytest.param(
            {"box": [HERE, INSIDE], "image_key": ["a", "b"]}, [], [False] * 2, id="images"
        ),
        pytest.param({"box": [HERE, INSIDE], "ignore": [True, False]}, [], [False] * 2, id="crowd"),
        pytest.param({"box": [HERE, None]}, [], [False, False], id="no-box"),
        pytest.param(
            {"box": [HERE, INSIDE], "parents": [None, ["row-0"]]}, [], [False] * 2, id="a-child"
        ),
        pytest.param({"box": []}, [], [], id="no-rows"),
    ],
)
def test_contained_region_rejects_the_worse_inside_the_better(columns, kept, rejected):
    scores = [0.9, 0.5][: len(columns["box"])]
    verdicts = judge(ContainedRegion(max_inside=0.8), kept=kept, **{"score": scores, **columns})
    assert verdicts.rejected.to_pylist() == rejected


def test_contained_region_measures_the_share_of_the_rows_own_area():
    rule = ContainedRegion(max_inside=0.5, min_size=0)
    verdicts = judge(rule, box=[HERE, [0, 5, 4, 12]], score=[0.9, 0.5])
    assert verdicts.measured.to_pylist() == [None, pytest.approx(5 / 7)]
    assert verdicts.against.to_pylist() == [None, "row-0"]


def test_contained_region_of_one_source_leaves_those_of_others_alone():
    columns = {"box": [HERE, INSIDE], "score": [0.9, 0.5], "source": ["a", "b"]}
    assert judge(ContainedRegion(across_sources=False), **columns).rejected.to_pylist() == [
        False,
        False,
    ]


def greedy(boxes, scores, texts, limit, size):
    """The rule one row at a time, best first."""
    areas = (boxes[:, 2] - boxes[:, 0]) * (boxes[:, 3] - boxes[:, 1])
    kept = []
    for row in sorted(range(len(boxes)), key=lambda row: (-scores[row], row)):
        low = np.maximum(boxes[row, :2], boxes[kept, :2])
        high = np.minimum(boxes[row, 2:], boxes[kept, 2:])
        shared = np.clip(high - low, 0, None).prod(axis=1)
        same = np.array([texts[other] == texts[row] for other in kept], bool)
        around = same & (areas[kept] >= areas[row]) & (areas[row] >= size * areas[kept])
        around &= shared / areas[row] > np.float32(limit)
        if not around.any():
            kept.append(row)
    return [row not in kept for row in range(len(boxes))]


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 40),
    limit=st.sampled_from([0, 0.5, 0.9, 1]),
    size=st.sampled_from([0, 0.25, 0.5]),
)
@settings(max_examples=200, deadline=None)
def test_contained_region_equals_the_greedy_algorithm(seed, count, limit, size):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 12, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(1, 12, (count, 2))], axis=1)
    boxes = boxes.astype(np.float32)
    scores = (rng.integers(0, 5, count) / 4).astype(np.float32)
    texts = rng.choice(["a", "b"], count).tolist()
    rule = ContainedRegion(max_inside=limit, min_size=size)
    verdicts = judge(rule, box=boxes, score=scores, text=texts)
    assert verdicts.rejected.to_pylist() == greedy(boxes, scores, texts, limit, size)


@pytest.mark.parametrize("option", ["max_inside", "min_size"])
@pytest.mark.parametrize("limit", [-0.1, 90, NAN])
def test_contained_region_refuses_what_is_no_share(option, limit):
    with pytest.raises(ConfigError, match=rf"{option} is .*; a share lies in 0..1"):
        ContainedRegion(**{option: limit})
