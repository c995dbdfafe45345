"""Outlines of masks: drawn back, they are the masks."""

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.path import Path

from engine.geometry import order_ring, ring_area
from specialists.outlines import mask_outlines


def drawn(rings, shape):
    """Pixels whose middle lies in a ring."""
    ys, xs = np.mgrid[: shape[0], : shape[1]]
    middles = np.stack([xs.ravel(), ys.ravel()], axis=1) + 0.5
    inside = np.zeros(len(middles), bool)
    for ring in rings:
        inside |= Path(np.reshape(ring, (-1, 2))).contains_points(middles)
    return inside.reshape(shape)


def filled(mask):
    """The mask without holes: what no path from outside, side by side, can reach."""
    free = np.pad(~mask, 1, constant_values=True)
    _, parts = cv2.connectedComponents(free.astype(np.uint8), connectivity=4)
    return (parts != parts[0, 0])[1:-1, 1:-1]


def iou(a, b):
    return (a & b).sum() / (a | b).sum()


def disc(shape, x, y, radius):
    ys, xs = np.mgrid[: shape[0], : shape[1]]
    return (xs + 0.5 - x) ** 2 + (ys + 0.5 - y) ** 2 <= radius**2


def mask_of(text):
    return np.array([[mark == "#" for mark in line] for line in text.split()])


@pytest.mark.parametrize("shape", [(0, 0), (1, 1), (5, 7)])
def test_an_empty_mask_has_no_outline(shape):
    assert mask_outlines(np.zeros(shape, bool)) == []


@pytest.mark.parametrize("tolerance", [0, 1, 50])
def test_a_full_mask_is_outlined_like_its_image(tolerance):
    rings = mask_outlines(np.ones((3, 5), bool), tolerance_px=tolerance)
    assert rings == [[0, 0, 5, 0, 5, 3, 0, 3]]


@pytest.mark.parametrize(
    ("mask", "rings"),
    [
        pytest.param(".... .#.. ....", [[1, 1, 2, 1, 2, 2, 1, 2]], id="one-pixel"),
        pytest.param("..... .###. .###.", [[1, 1, 4, 1, 4, 3, 1, 3]], id="a-box"),
        pytest.param(
            "#..## ...##", [[3, 0, 5, 0, 5, 2, 3, 2], [0, 0, 1, 0, 1, 1, 0, 1]], id="larger-first"
        ),
        pytest.param(
            "##..# ##... ....#",
            [[0, 0, 2, 0, 2, 2, 0, 2], [4, 0, 5, 0, 5, 1, 4, 1], [4, 2, 5, 2, 5, 3, 4, 3]],
            id="of-equals-the-upper-first",
        ),
        pytest.param("### #.# ###", [[0, 0, 3, 0, 3, 3, 0, 3]], id="a-hole-is-dropped"),
    ],
)
def test_outlines_run_along_the_outer_edge_of_pixels(mask, rings):
    assert mask_outlines(mask_of(mask)) == rings


def test_pixels_that_touch_at_a_corner_are_one_part():
    (ring,) = mask_outlines(mask_of("#. .#"))
    assert drawn([ring], (2, 2)).tolist() == [[True, False], [False, True]]


def test_parts_smaller_than_asked_are_dropped():
    mask = mask_of("##.# ##.# ....")
    assert len(mask_outlines(mask, min_area_px=2)) == 2
    assert mask_outlines(mask, min_area_px=3) == [[0, 0, 2, 0, 2, 2, 0, 2]]
    assert mask_outlines(mask, min_area_px=5) == []


def test_a_part_thinner_than_the_tolerance_is_no_line():
    (ring,) = mask_outlines(np.ones((1, 30), bool), tolerance_px=3)
    assert ring == [0, 0, 30, 0, 30, 1, 0, 1]


@pytest.mark.parametrize("tolerance", [0, 0.75])
def test_outlines_of_known_shapes_drawn_back_are_the_shapes(tolerance):
    shape = (80, 100)
    square = np.zeros(shape, bool)
    square[10:40, 20:70] = True
    two = square.copy()
    two[50:75, 5:30] = True
    ring = disc(shape, 50, 40, 30) & ~disc(shape, 50, 40, 12)
    for mask, count in ((square, 1), (two, 2), (disc(shape, 50, 40, 30), 1), (ring, 1)):
        rings = mask_outlines(mask, tolerance_px=tolerance)
        assert len(rings) == count
        assert iou(drawn(rings, shape), filled(mask)) > 0.97
    assert not np.array_equal(filled(ring), ring)


pixels = st.integers(1, 14).flatmap(
    lambda width: st.lists(
        st.lists(st.booleans(), min_size=width, max_size=width), min_size=1, max_size=14
    )
)


@given(pixels)
def test_every_corner_kept_the_outlines_are_the_mask_without_its_holes(rows):
    mask = np.array(rows)
    rings = mask_outlines(mask)
    count, _ = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    assert len(rings) == count - 1 - lost_in_holes(mask)
    assert np.array_equal(drawn(rings, mask.shape), filled(mask))
    for ring in rings:
        assert ring_area(ring) > 0
        assert order_ring(ring) == ring


def lost_in_holes(mask):
    """Parts that lie inside a hole of another: its outline holds them already."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=8)
    outer = [filled(parts == part) for part in range(1, parts.max() + 1)]
    return sum(
        any((other & part).sum() == part.sum() for other in outer if other is not part)
        for part in outer
    )


discs = st.tuples(st.floats(15, 85), st.floats(15, 65), st.floats(10, 30))


@given(st.lists(discs, min_size=1, max_size=4))
def test_simplified_outlines_of_round_things_drawn_back_overlap_the_mask(parts):
    mask = np.any([disc((80, 100), *part) for part in parts], axis=0)
    rings = mask_outlines(mask, tolerance_px=0.75)
    assert iou(drawn(rings, mask.shape), filled(mask)) >= 0.9
    assert sum(map(len, rings)) < sum(map(len, mask_outlines(mask))) / 2
