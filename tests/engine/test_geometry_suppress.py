"""Grouped suppression against the greedy loop it stands for, and against torchvision's."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

import engine.geometry
from engine.geometry import pairwise_iou, suppress, suppress_contained

NAN = float("nan")


def greedy(boxes, scores, groups, iou, *, fixed, exempt):
    """The sequential algorithm, one box at a time."""
    overlaps = pairwise_iou(boxes, boxes)
    for a, b in exempt:
        overlaps[a, b] = overlaps[b, a] = 0
    worst = np.where(np.isnan(scores), -np.inf, scores)
    order = sorted(range(len(boxes)), key=lambda row: (not fixed[row], -worst[row], row))
    against = np.full(len(boxes), -1)
    for place, better in enumerate(order):
        if against[better] >= 0:
            continue
        for worse in order[place + 1 :]:
            rivals = groups[better] == groups[worse] and not fixed[worse] and against[worse] < 0
            if rivals and overlaps[better, worse] > np.float32(iou):
                against[worse] = better
    return against


def scene(seed, num_boxes, num_groups):
    """Boxes that overlap much, on a coarse grid so that ties and equal overlaps are common."""
    rng = np.random.default_rng(seed)
    corner = rng.integers(-4, 12, (num_boxes, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 9, (num_boxes, 2))], axis=1)
    boxes = boxes.astype(np.float32)
    boxes[rng.random(num_boxes) < 0.05] = NAN
    scores = rng.integers(0, 4, num_boxes).astype(np.float32) / 4
    scores[rng.random(num_boxes) < 0.2] = NAN
    groups = rng.integers(0, num_groups, num_boxes)
    fixed = rng.random(num_boxes) < 0.2
    exempt = rng.integers(0, max(num_boxes, 1), (num_boxes // 4, 2))
    return boxes, scores, groups, fixed, exempt


@given(
    seed=st.integers(0, 2**32),
    num_boxes=st.integers(0, 60),
    num_groups=st.integers(1, 4),
    iou=st.sampled_from([0, 0.1, 0.25, 1 / 3, 0.5, 0.7, 1]),
)
@settings(max_examples=400, deadline=None)
@example(seed=0, num_boxes=0, num_groups=1, iou=0.5)
def test_suppress_equals_the_greedy_algorithm(seed, num_boxes, num_groups, iou):
    boxes, scores, groups, fixed, exempt = scene(seed, num_boxes, num_groups)
    suppressed, against = suppress(boxes, scores, groups, iou, fixed=fixed, exempt=exempt)
    assert (
        against.tolist() == greedy(boxes, scores, groups, iou, fixed=fixed, exempt=exempt).tolist()
    )
    assert suppressed.tolist() == (against >= 0).tolist()


def test_suppress_equals_greedy_on_fractional_boxes_too(monkeypatch):
    monkeypatch.setattr(engine.geometry, "_PAIRS_AT_ONCE", 64)  # many pieces
    rng = np.random.default_rng(1)
    corner = rng.uniform(-50, 500, (600, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(0, 300, (600, 2))], axis=1)
    boxes = boxes.astype(np.float32)
    scores, groups = rng.random(600).astype(np.float32), rng.integers(0, 3, 600)
    _, against = suppress(boxes, scores, groups, 0.3)
    expected = greedy(boxes, scores, groups, 0.3, fixed=np.zeros(600, bool), exempt=[])
    assert 100 < (against >= 0).sum() < 500
    assert against.tolist() == expected.tolist()


def test_suppress_keeps_what_torchvision_keeps():
    torch = pytest.importorskip("torch")
    batched_nms = pytest.importorskip("torchvision").ops.batched_nms
    rng = np.random.default_rng(2)
    corner = rng.uniform(0, 400, (3_000, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(20, 200, (3_000, 2))], axis=1)
    boxes = boxes.astype(np.float32)
    scores = rng.permutation(3_000).astype(np.float32)  # no ties: torchvision's sort is unstable
    groups = rng.integers(0, 20, 3_000)
    suppressed, _ = suppress(boxes, scores, groups, 0.5)
    kept = batched_nms(*(torch.from_numpy(array) for array in (boxes, scores, groups)), 0.5)
    assert np.flatnonzero(~suppressed).tolist() == sorted(kept.tolist())
    assert suppressed.sum() > 500


def rivals(scores, **options):
    """The same box as often as there are scores: which row does each lose against?"""
    boxes = np.tile(np.array([[0, 0, 4, 4]], np.float32), (len(scores), 1))
    groups = np.zeros(len(scores), np.int64)
    return suppress(boxes, np.array(scores, np.float32), groups, 0.5, **options)[1].tolist()


def test_suppress_ranks_by_score_then_row_with_nan_last():
    assert rivals([0.1, 0.9, 0.5]) == [1, -1, 1]
    assert rivals([0.5, 0.5]) == [-1, 0]
    assert rivals([NAN, -1.0]) == [1, -1]
    assert rivals([NAN, NAN]) == [-1, 0]


def test_suppress_never_touches_fixed_rows():
    assert rivals([0.1, 0.9, 0.2], fixed=np.array([True, False, True])) == [-1, 2, -1]


def test_suppress_spares_exempt_pairs_in_either_order():
    assert rivals([0.9, 0.1], exempt=np.array([[0, 1]])) == [-1, -1]
    assert rivals([0.9, 0.1], exempt=np.array([[1, 0]])) == [-1, -1]
    assert rivals([0.9, 0.1, 0.5], exempt=np.array([[1, 0]])) == [-1, -1, 0]


def test_suppress_allows_an_overlap_of_just_the_limit():
    boxes = np.array([[0, 0, 10, 10], [0, 0, 7, 10]], np.float32)
    scores, groups = np.array([0.9, 0.1], np.float32), np.zeros(2, np.int64)
    assert suppress(boxes, scores, groups, 0.7)[0].tolist() == [False, False]
    assert suppress(boxes, scores, groups, 0.69)[0].tolist() == [False, True]


def test_a_suppressed_box_suppresses_none():
    boxes = np.array([[0, 0, 10, 10], [4, 0, 14, 10], [8, 0, 18, 10]], np.float32)
    scores, groups = np.array([0.9, 0.8, 0.7], np.float32), np.zeros(3, np.int64)
    assert suppress(boxes, scores, groups, 0.4)[1].tolist() == [-1, 0, -1]


def test_suppress_lets_a_lower_tier_win_over_any_score():
    boxes = np.array([[0, 0, 10, 10]] * 3, np.float32)
    scores, groups = np.array([0.9, 0.1, NAN], np.float32), np.zeros(3, np.int64)
    _, against = suppress(boxes, scores, groups, 0.5, tiers=np.array([1, 1, 0]))
    assert against.tolist() == [2, 2, -1]
    fixed = np.array([False, True, False])
    _, against = suppress(boxes, scores, groups, 0.5, tiers=np.array([1, 1, 0]), fixed=fixed)
    assert against.tolist() == [1, -1, 1]


def test_suppress_contained_never_lets_a_larger_box_fall_for_one_inside():
    boxes = np.array([[0, 0, 10, 10], [2, 2, 8, 8], [3, 3, 5, 5]], np.float32)
    scores, groups = np.array([0.5, 0.9, 0.1], np.float32), np.zeros(3, np.int64)
    _, against = suppress_contained(boxes, scores, groups, 0.9)
    assert against.tolist() == [-1, -1, 1]


@pytest.mark.parametrize("side", [1e-30, 3e38])
def test_suppress_contained_bears_boxes_whose_area_no_float_holds(side):
    boxes = np.array([[0, 0, side, side]] * 2, np.float32)
    suppressed, _ = suppress_contained(boxes, np.ones(2, np.float32), np.zeros(2, np.int64), 0.5)
    assert suppressed.tolist() == [False, False]
