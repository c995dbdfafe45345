"""The twelve classes of the synthetic world as closed outlines."""

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

FloatArray = npt.NDArray[np.float64]

RING_HOLE = 0.6  # diameter of a ring's hole over that of the ring
_ROUND = 48  # vertices of a full circle: within 0.3 px of round at a radius of 120 px


def unit_outline(name: str, angle: float) -> FloatArray:
    """The outline of a class, turned clockwise by `angle` degrees.

    Args:
        name: One of `CLASSES`.
        angle: Degrees; an arrow at 0 points right, everything else stands upright.

    Returns:
        Shape (n, 2), x and y with y downwards. The longer side of its bounding box is 1 and the
        middle of that box is the origin. Clockwise, from the vertex nearest the top left corner. A
        ring is one closed line too, cut open once between its outer edge and its hole, so that its
        area by the shoelace formula is that of the ring alone.
    """
    radians = np.deg2rad(angle)
    turn = np.array(
        [[np.cos(radians), np.sin(radians)], [-np.sin(radians), np.cos(radians)]], dtype=np.float64
    )
    points = _OUTLINES[name]() @ turn
    low, high = points.min(axis=0), points.max(axis=0)
    points = _from_top_left((points - (low + high) / 2) / (high - low).max())
    return _cut_open(points, points[::-1] * RING_HOLE) if name == "ring" else points


def _from_top_left(points: FloatArray) -> FloatArray:
    x, y = points.T
    if np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) < 0:  # anticlockwise where y points down
        points = points[::-1]
    return np.roll(points, -int(np.argmin(points.sum(axis=1).round(6))), axis=0)


def _cut_open(outer: FloatArray, hole: FloatArray) -> FloatArray:
    nearest = int(np.argmin(np.linalg.norm(hole - outer[0], axis=1)))
    hole = np.roll(hole, -nearest, axis=0)
    return np.concatenate([outer, outer[:1], hole, hole[:1]])


def _arc(start: float, stop: float, vertices: int, radius: float = 1.0) -> FloatArray:
    """Points of a circle about the origin between two angles in degrees, both included."""
    angles = np.deg2rad(np.linspace(start, stop, vertices))
    return radius * np.stack([np.cos(angles), np.sin(angles)], axis=1)


def _arrow() -> FloatArray:
    return np.array(
        [[-1, -0.3], [0.1, -0.3], [0.1, -0.8], [1, 0], [0.1, 0.8], [0.1, 0.3], [-1, 0.3]], float
    )


def _bolt() -> FloatArray:
    return np.array(
        [[0.1, -1], [-0.6, 0.15], [-0.1, 0.15], [-0.35, 1], [0.6, -0.3], [0.1, -0.3], [0.5, -1]],
        float,
    )


def _circle() -> FloatArray:
    return _arc(0, 360, _ROUND + 1)[:-1]


def _crescent() -> FloatArray:
    """A disc without a second disc of the same kind, shifted to the right by 0.5."""
    shift, radius = 0.5, 0.8
    x = (1 + shift**2 - radius**2) / (2 * shift)  # where the two circles meet
    tip = np.rad2deg(np.arccos(x))
    inner_tip = np.rad2deg(np.arctan2(np.sqrt(1 - x**2), x - shift))
    outside = _arc(tip, 360 - tip, 36)
    inside = _arc(360 - inner_tip, inner_tip, 28, radius) + np.array([shift, 0])
    return np.concatenate([outside, inside[1:-1]])


def _cross() -> FloatArray:
    a = 0.34
    return np.array(
        [[-a, -1], [a, -1], [a, -a], [1, -a], [1, a], [a, a],
         [a, 1], [-a, 1], [-a, a], [-1, a], [-1, -a], [-a, -a]]
    )  # fmt: skip


def _drop() -> FloatArray:
    """A disc whose top is drawn out to a tip; the sides are the tangents from the tip."""
    tip = 2.1  # radii from the middle of the disc
    touch = np.rad2deg(np.arcsin(1 / tip))
    return np.concatenate([_arc(-touch, 180 + touch, 34), [[0.0, -tip]]])


def _heart() -> FloatArray:
    t = np.linspace(0, 2 * np.pi, 44, endpoint=False)
    x = np.sin(t) ** 3
    y = (13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 16
    return np.stack([x, -y], axis=1)


def _house() -> FloatArray:
    """A body under a roof with eaves, and a chimney that tells it from a broad arrow."""
    return np.array(
        [[0, -1], [0.35, -0.65], [0.35, -0.9], [0.62, -0.9], [0.62, -0.38], [1, 0],
         [0.75, 0], [0.75, 0.9], [-0.75, 0.9], [-0.75, 0], [-1, 0]]
    )  # fmt: skip


def _square() -> FloatArray:
    return np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]], float)


def _star() -> FloatArray:
    tips, notches = _arc(-90, 270, 6)[:-1], _arc(-54, 306, 6, 0.42)[:-1]
    return np.stack([tips, notches], axis=1).reshape(-1, 2)


def _triangle() -> FloatArray:
    return _arc(-90, 270, 4)[:-1]


_OUTLINES: dict[str, Callable[[], FloatArray]] = {
    "arrow": _arrow,
    "bolt": _bolt,
    "circle": _circle,
    "crescent": _crescent,
    "cross": _cross,
    "drop": _drop,
    "heart": _heart,
    "house": _house,
    "ring": _circle,
    "square": _square,
    "star": _star,
    "triangle": _triangle,
}
CLASSES = tuple(_OUTLINES)
