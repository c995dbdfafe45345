"""What holds between things of a scene, and how each can be named without doubt."""

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import NamedTuple

import numpy as np

from engine.synthetic.layout import fill_mask
from engine.synthetic.things import Layout, Shape

Box = tuple[float, float, float, float]

OPPOSITE = {"left of": "right of", "right of": "left of", "above": "below", "below": "above"}
_MIN_COVERED = 0.03  # share of the lower shape; less is hard to see

# The ninths of an image, by row and column of the middle of a box.
_POSITIONS = (
    ("in the top left", "at the top", "in the top right"),
    ("on the left", "in the center", "on the right"),
    ("in the bottom left", "at the bottom", "in the bottom right"),
)


class Relation(NamedTuple):
    """`subject` `predicate` `object`, both by place in `Layout.shapes`."""

    subject: int
    predicate: str  # "inside", "partly covers", "left of", "right of", "above", "below"
    object: int


def position(box: Box, width: int, height: int) -> str:
    """The ninth of the image in which the middle of a box lies, as a phrase."""
    column = min(int((box[0] + box[2]) / 2 / width * 3), 2)
    row = min(int((box[1] + box[3]) / 2 / height * 3), 2)
    return _POSITIONS[row][column]


def direction(a: Box, b: Box) -> str | None:
    """Where box `a` is seen from box `b`: "left of", "right of", "above", "below", or null.

    Said only if a straight line along the other axis parts the boxes, and if their middles differ
    more along this axis than along the other: what nobody would dispute.
    """
    dx, dy = (b[0] + b[2] - a[0] - a[2]) / 2, (b[1] + b[3] - a[1] - a[3]) / 2
    if abs(dx) > abs(dy):
        if a[2] <= b[0]:
            return "left of"
        return "right of" if b[2] <= a[0] else None
    if a[3] <= b[1]:
        return "above"
    return "below" if b[3] <= a[1] else None


def relations(layout: Layout, width: int, height: int) -> Iterator[Relation]:
    """Every "inside" and "partly covers" first, then the direction of neighbours, left to right.

    A shape inside another is not said to cover it. Neighbours are those next to each other when the
    middles of their boxes are sorted from left to right.
    """
    shapes = layout.shapes
    for i, shape in enumerate(shapes):
        if shape.host is not None:
            yield Relation(i, "inside", shape.host)
    yield from _coverings(shapes, width, height)
    order = from_left(shapes)
    for a, b in pairwise(order):
        predicate = direction(shapes[a].box, shapes[b].box)
        if predicate is not None:
            yield Relation(a, predicate, b)


def _coverings(shapes: Sequence[Shape], width: int, height: int) -> Iterator[Relation]:
    for i, lower in enumerate(shapes):
        if not lower.hidden:
            continue
        whole = fill_mask(lower.outline, width, height)
        for j in range(i + 1, len(shapes)):
            if shapes[j].host == i:
                continue
            covered = (fill_mask(shapes[j].outline, width, height) & whole).sum()
            if covered >= _MIN_COVERED * whole.sum():
                yield Relation(j, "partly covers", i)


def from_left(shapes: Sequence[Shape]) -> list[int]:
    """Places of the shapes, sorted by the middle of their boxes from left to right."""
    middles = [shape.box[0] + shape.box[2] for shape in shapes]
    return [int(i) for i in np.argsort(middles, kind="stable")]


def unique_name(shapes: Sequence[Shape], i: int) -> str | None:
    """The shortest description that fits shape `i` and no other, without article; null if none.

    Colour and class, then size before them, then pattern and an arrow's direction too.
    """
    for words in (_short_name, _sized_name, full_name):
        name = words(shapes[i])
        if sum(words(shape) == name for shape in shapes) == 1:
            return name
    return None


def _short_name(shape: Shape) -> str:
    return f"{shape.colour} {shape.name}"


def _sized_name(shape: Shape) -> str:
    return f"{shape.size} {shape.colour} {shape.name}"


def full_name(shape: Shape, noun: str | None = None) -> str:
    """Size, pattern (a plain one is not named), colour, class, direction; `noun` for the class."""
    pattern = "" if shape.pattern == "plain" else f"{shape.pattern} "
    pointing = f" pointing {shape.direction}" if shape.direction else ""
    return f"{shape.size} {pattern}{shape.colour} {noun or shape.name}{pointing}"
