"""Boxes and rings; suppression is in test_geometry_suppress."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.geometry import (
    area,
    clip,
    is_box,
    order_ring,
    paired_iou,
    pairwise_iou,
    reading_order,
    ring_area,
    ring_points,
    rings_box,
)

NAN, INF = float("nan"), float("inf")


def boxes(*given):
    return np.array(given, np.float32).reshape(-1, 4)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param([0, 0, 4, 3], 12, id="plain"),
        pytest.param([-2, -2, 2, 2], 16, id="left-of-zero"),
        pytest.param([4, 0, 0, 3], 0, id="inverted"),
        pytest.param([4, 3, 0, 0], 0, id="inverted-twice-is-not-positive"),
        pytest.param([1, 1, 1, 5], 0, id="no-width"),
        pytest.param([0, NAN, 4, 3], 0, id="nan"),
        pytest.param([-INF, 0, -INF, 3], 0, id="infinite"),
        pytest.param([0, 0, INF, 3], 0, id="infinite-to-the-right"),
        pytest.param([-INF, 0, 4, 3], 0, id="infinite-to-the-left"),
        pytest.param([0, -INF, 4, 3], 0, id="infinite-upwards"),
        pytest.param([0, 0, 4, INF], 0, id="infinite-downwards"),
    ],
)
def test_area_is_zero_unless_the_box_encloses_something(box, expected):
    assert area(boxes(box)).tolist() == [expected]
    assert is_box(boxes(box)).tolist() == [expected > 0]


def test_geometry_of_no_boxes_is_empty():
    none = boxes()
    assert area(none).shape == is_box(none).shape == paired_iou(none, none).shape == (0,)
    assert pairwise_iou(none, boxes([0, 0, 1, 1])).shape == (0, 1)
    assert clip(none, np.array([9, 9])).shape == (0, 4)


@pytest.mark.parametrize(
    ("box", "expected"),
    [
        pytest.param([-5, -5, 105, 85], [0, 0, 100, 80], id="larger-than-the-image"),
        pytest.param([10, 20, 30, 40], [10, 20, 30, 40], id="inside"),
        pytest.param([120, 90, 130, 95], [100, 80, 100, 80], id="wholly-outside"),
    ],
)
def test_clip_leaves_the_part_inside(box, expected):
    assert clip(boxes(box), np.array([100, 80])).tolist() == [expected]


def test_clip_takes_a_size_per_box_and_spares_unknown_ones():
    sizes = np.array([[10, 10], [NAN, NAN]], np.float32)
    clipped = clip(boxes([-1, 0, 20, 20], [-1, 0, 20, 20]), sizes)
    assert clipped.tolist() == [[0, 0, 10, 10], [0, 0, 20, 20]]


def test_clip_keeps_nan_so_that_a_broken_box_stays_broken():
    assert np.isnan(clip(boxes([NAN, 0, 5, 5]), np.array([100, 80]))[0, 0])


@pytest.mark.parametrize(
    ("a", "b", "expected"),
    [
        pytest.param([0, 0, 2, 2], [0, 0, 2, 2], 1, id="same"),
        pytest.param([0, 0, 2, 2], [1, 0, 3, 2], 1 / 3, id="half"),
        pytest.param([0, 0, 2, 2], [2, 0, 4, 2], 0, id="touching"),
        pytest.param([0, 0, 2, 2], [1, 1, 1, 2], 0, id="one-without-area"),
        pytest.param([0, 0, 2, 2], [NAN, 0, 2, 2], 0, id="nan"),
        pytest.param([0, 0, INF, INF], [0, 0, INF, INF], 0, id="infinite"),
    ],
)
def test_iou_of_two_boxes(a, b, expected):
    assert paired_iou(boxes(a), boxes(b)).tolist() == [np.float32(expected)]
    assert pairwise_iou(boxes(a), boxes(b)).tolist() == [[np.float32(expected)]]


def test_pairwise_iou_is_paired_iou_of_every_pair():
    rng = np.random.default_rng(0)
    a, b = (np.sort(rng.uniform(0, 50, (n, 2, 2)), axis=1).reshape(n, 4) for n in (7, 5))
    a, b = a.astype(np.float32), b.astype(np.float32)
    every = paired_iou(np.repeat(a, 5, axis=0), np.tile(b, (7, 1)))
    assert np.array_equal(pairwise_iou(a, b).reshape(-1), every)
    assert (every > 0).any()


def test_paired_iou_stays_float32_so_that_measured_equals_what_was_compared():
    assert paired_iou(boxes([0, 0, 2, 2]), boxes([0, 0, 3, 3])).dtype == np.float32


@pytest.mark.parametrize(
    ("ring", "expected"),
    [
        pytest.param([], 0, id="no-corners"),
        pytest.param([1, 1, 5, 5], 0, id="a-line"),
        pytest.param([0, 0, 4, 0, 4, 3, 0, 3], 12, id="clockwise"),
        pytest.param([0, 3, 4, 3, 4, 0, 0, 0], -12, id="counter-clockwise"),
        pytest.param([1e7, 1e7, 1e7 + 1, 1e7, 1e7 + 1, 1e7 + 1], 0.5, id="far-out"),
    ],
)
def test_ring_area_is_signed(ring, expected):
    assert ring_area(ring) == expected


def test_ring_points_refuses_half_a_corner():
    with pytest.raises(ValueError, match="3 coordinates; wanted x and y for every corner"):
        ring_points([1, 2, 3])


@pytest.mark.parametrize(
    ("ring", "expected"),
    [
        pytest.param([], [], id="no-corners"),
        pytest.param([4, 3, 0, 3, 0, 0, 4, 0], [0, 0, 4, 0, 4, 3, 0, 3], id="turned"),
        pytest.param([0, 3, 4, 3, 4, 0, 0, 0], [0, 0, 4, 0, 4, 3, 0, 3], id="reversed"),
        pytest.param([0, 2, 2, 0, 4, 2, 2, 4], [2, 0, 4, 2, 2, 4, 0, 2], id="tie-takes-the-upper"),
    ],
)
def test_order_ring_runs_clockwise_from_the_top_left(ring, expected):
    assert order_ring(ring) == expected


corners = st.lists(st.tuples(st.integers(0, 50), st.integers(0, 50)), min_size=3, max_size=7)


@given(corners)
def test_order_ring_twice_is_once_and_moves_no_corner(points):
    ring = [float(number) for point in points for number in point]
    ordered = order_ring(ring)
    assert order_ring(ordered) == ordered
    assert sorted(map(tuple, ring_points(ordered))) == sorted(points)
    assert ring_area(ordered) == abs(ring_area(ring))


def test_rings_box_spans_all_rings():
    assert rings_box([]) is None
    assert rings_box([[]]) is None
    assert rings_box([[1, 2, 3, 4, 5, 0], [9, 9, 8, 8]]) == [1, 0, 9, 9]


def test_reading_order_goes_line_by_line():
    boxes = np.float32(
        [[50, 2, 60, 12], [0, 0, 40, 10], [0, 20, 9, 30], [np.nan] * 4, [70, -1, 80, 9]]
    )
    assert reading_order(boxes).tolist() == [1, 0, 4, 2, 3]
    assert reading_order(np.empty((0, 4), np.float32)).tolist() == []
