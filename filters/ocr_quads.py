"""Outlines of what was read: quads as arrays, and how far two of them overlap."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.geometry import area, paired_iou, ring_area
from engine.schema import box_array
from filters.columns import Floats, Indices, flags, one_chunk

Quads = npt.NDArray[np.float32]  # (n, 4, 2), clockwise from the top left, px

_QUAD_NUMBERS = 8
_MIN_FILL = 0.9  # of its box: a quad that fills so much is as good as level


def quads_of(rows: pa.Table) -> Quads:
    """The quad of each row, else the corners of its box, shape (n, 4, 2); NaN without either."""
    boxes = box_array(rows)
    quads = boxes[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 4, 2)
    polygons = one_chunk(rows["polygon"])
    has_one = flags(pc.equal(pc.list_value_length(polygons), 1))
    rings = pc.list_flatten(polygons.filter(pa.array(has_one)))
    is_quad = flags(pc.equal(pc.list_value_length(rings), _QUAD_NUMBERS))
    corners = pc.list_flatten(rings.filter(pa.array(is_quad))).to_numpy(zero_copy_only=False)
    quads[np.flatnonzero(has_one)[is_quad]] = corners.reshape(-1, 4, 2)
    return quads


def outline_iou(boxes: Floats, quads: Quads, one: Indices, other: Indices) -> Floats:
    """Overlap of the outlines of pairs of rows, shape (k,), in 0..1.

    That of the boxes, but where a quad stands aslant in its box that of the quads.
    """
    overlaps = paired_iou(boxes[one], boxes[other])
    slanted = _areas(quads) < _MIN_FILL * area(boxes)
    for pair in np.flatnonzero(slanted[one] | slanted[other]):
        overlaps[pair] = _quad_iou(quads[one[pair]], quads[other[pair]])
    return overlaps


def _areas(quads: Quads) -> npt.NDArray[np.float64]:
    """The shoelace formula, px squared, shape (n,); NaN for a quad with NaN."""
    x, y = np.moveaxis(quads.astype(np.float64), 2, 0)
    following_x, following_y = np.roll(x, -1, axis=1), np.roll(y, -1, axis=1)
    doubled: npt.NDArray[np.float64] = (x * following_y - y * following_x).sum(axis=1)
    return np.abs(doubled) / 2


def _quad_iou(one: npt.NDArray[np.float32], other: npt.NDArray[np.float32]) -> float:
    shared = abs(ring_area(_clip(one.astype(np.float64), other.astype(np.float64)).reshape(-1)))
    union = abs(ring_area(one.reshape(-1))) + abs(ring_area(other.reshape(-1))) - shared
    return min(shared / union, 1.0) if union > 0 else 0.0


def _clip(
    subject: npt.NDArray[np.float64], window: npt.NDArray[np.float64]
) -> npt.NDArray[np.float64]:
    """The part of a ring inside a convex one, shape (k, 2) (Sutherland and Hodgman, 1974)."""
    turn = np.sign(ring_area(window.reshape(-1)))
    for start, end in zip(window, np.roll(window, -1, axis=0), strict=True):
        if len(subject) == 0:
            break
        step = end - start
        side = turn * (step[0] * (subject[:, 1] - start[1]) - step[1] * (subject[:, 0] - start[0]))
        following = np.roll(np.arange(len(subject)), -1)
        kept = []
        for here, there in enumerate(following):
            if side[here] >= 0:
                kept.append(subject[here])
            if (side[here] >= 0) != (side[there] >= 0):
                part = side[here] / (side[here] - side[there])
                kept.append(subject[here] + part * (subject[there] - subject[here]))
        subject = np.array(kept).reshape(-1, 2)
    return subject
