"""Outlines of masks as polygon rings."""

from typing import Any

import numpy as np
import numpy.typing as npt

from engine.geometry import order_ring

_MIN_CORNERS = 3


def mask_outlines(
    mask: npt.NDArray[np.bool_], *, tolerance_px: float = 0.0, min_area_px: float = 0.0
) -> list[list[float]]:
    """Outer outlines of a mask, one ring per connected part, the largest part first.

    The ring of a part runs along the outer edges of its pixels, so that of a full mask is that of
    the image: 0, 0, width, 0, width, height, 0, height. Where the edge turns inwards it cuts the
    corner by half a pixel. Pixels that touch at a corner are connected. Holes are dropped: a ring
    holds what it surrounds.

    Args:
        mask: Shape (height, width), true inside.
        tolerance_px: How far a simplified ring may lie from the edge (Douglas and Peucker); 0 keeps
            every corner. A part that this would make a line keeps its corners. A simplified ring
            may cross itself where a part is about as thin as that.
        min_area_px: Parts whose ring holds less, px squared, are dropped.

    Returns:
        Flat rings x0, y0, x1, y1, ... in pixels of the mask, clockwise from the corner nearest the
        top left. An empty mask has none.
    """
    import cv2

    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    if not len(rows):
        return []
    top, left = int(rows[0]), int(columns[0])
    part = mask[top : rows[-1] + 1, left : columns[-1] + 1]
    # The library's outlines run through the middle of pixels. On a grid twice as fine, where every
    # pixel is a middle and the eight places around it, they run along its edges.
    fine = np.zeros((2 * part.shape[0] + 1, 2 * part.shape[1] + 1), np.uint8)
    fine[1::2, 1::2] = part
    fine = cv2.dilate(fine, np.ones((3, 3), np.uint8))
    outlines, _ = cv2.findContours(fine, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
    sized = [(cv2.contourArea(outline) / 4, outline) for outline in outlines]
    rings = [
        (-area, order_ring(_simplified(outline, tolerance_px) / 2 + (left, top)))
        for area, outline in sized
        if area >= min_area_px
    ]
    return [ring for _, ring in sorted(rings)]


def _simplified(outline: Any, tolerance_px: float) -> npt.NDArray[np.float64]:
    """Corners on the fine grid, shape (n, 2), of an outline as the library gives it."""
    import cv2

    if tolerance_px > 0:
        simple = cv2.approxPolyDP(outline, 2 * tolerance_px, closed=True)
        if len(simple) >= _MIN_CORNERS and cv2.contourArea(simple) > 0:
            outline = simple
    corners: npt.NDArray[np.float64] = outline.reshape(-1, 2).astype(np.float64)
    return corners
