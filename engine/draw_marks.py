"""Boxes, polygons and their labels on a photo."""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from PIL import Image, ImageDraw

from engine.draw_style import PAPER, Colour, font

Point = tuple[float, float]
Rectangle = tuple[float, float, float, float]

_OVERSAMPLE = 2  # lines are drawn this much larger and shrunk, which smooths them
_TINT = 72  # opacity of a polygon's inside, of 255
_HALO = (0, 0, 0, 110)  # under every line, so that it shows on a ground of its own colour
_MAX_COVERED = 0.05  # a label that others would cover more than this is left out
_CROWD = 12  # from here on, marks smaller than their label go without: the panel has the colours
# Dash and gap in line widths.
_DASHES = {"rejected": (6.0, 5.0), "superseded": (1.5, 3.5)}


@dataclass(frozen=True)
class Mark:
    """A region as drawn, in canvas pixels."""

    box: Rectangle
    rings: list[list[Point]]
    label: str
    status: str
    colour: Colour


def draw_shapes(canvas: Image.Image, marks: Sequence[Mark], *, line: int) -> Image.Image:
    """The canvas with the outlines, and the tinted polygons of kept marks, later ones on top.

    Args:
        canvas: RGB.
        marks: Large ones first, or they cover the small.
        line: Width in px; a box around a polygon gets a thinner one.
    """
    size = (canvas.width * _OVERSAMPLE, canvas.height * _OVERSAMPLE)
    layer = Image.new("RGBA", size, (0, 0, 0, 0))
    pen = ImageDraw.Draw(layer)  # overwrites what is there, transparency included
    for mark in marks:
        rings = [[_enlarge(point) for point in ring] for ring in mark.rings if len(ring) > 1]
        for ring in rings:
            if mark.status == "kept":
                pen.polygon(ring, fill=(*mark.colour, _TINT))
        for ring in rings:
            _outline(pen, ring, mark, line * _OVERSAMPLE)
        if not rings:
            _outline(pen, _corners(mark.box, line), mark, line * _OVERSAMPLE)
    layer = layer.resize(canvas.size, Image.Resampling.LANCZOS)
    return Image.alpha_composite(canvas.convert("RGBA"), layer).convert("RGB")


def _enlarge(point: Point) -> Point:
    return point[0] * _OVERSAMPLE, point[1] * _OVERSAMPLE


def _corners(box: Rectangle, line: int) -> list[Point]:
    """The corners of the line's middle, half its width inside the box, so that none is cut off."""
    x_min, y_min, x_max, y_max = box
    inset = min(line / 2, (x_max - x_min) / 2, (y_max - y_min) / 2)
    left, top, right, bottom = x_min + inset, y_min + inset, x_max - inset, y_max - inset
    return [_enlarge(p) for p in ((left, top), (right, top), (right, bottom), (left, bottom))]


def _outline(pen: ImageDraw.ImageDraw, ring: list[Point], mark: Mark, width: int) -> None:
    closed = [*ring, ring[0]]
    dash = _DASHES.get(mark.status)
    strokes = [closed] if dash is None else list(_dashes(closed, dash[0] * width, dash[1] * width))
    for stroke in strokes:
        pen.line(stroke, fill=_HALO, width=width + 2 * _OVERSAMPLE, joint="curve")
    for stroke in strokes:
        pen.line(stroke, fill=(*mark.colour, 255), width=width, joint="curve")
    if dash is None:  # the joint leaves the last corner open
        x, y = ring[0]
        pen.ellipse([x - width / 2, y - width / 2, x + width / 2, y + width / 2], fill=mark.colour)


def _dashes(path: Sequence[Point], on: float, off: float) -> Iterator[list[Point]]:
    """Straight pieces of length `on`, `off` apart, along the path; its corners interrupt none."""
    phase = 0.0
    for (x0, y0), (x1, y1) in pairwise(path):
        length = math.hypot(x1 - x0, y1 - y0)
        if length == 0:  # a side of a box that is no wider than nothing
            continue
        start = -phase
        while start < length:
            a, b = max(start, 0) / length, min(start + on, length) / length
            if b > a:
                yield [(x0 + (x1 - x0) * t, y0 + (y1 - y0) * t) for t in (a, b)]
            start += on + off
        phase = (phase + length) % (on + off)


def draw_labels(canvas: Image.Image, marks: Sequence[Mark], *, size: int) -> int:
    """Writes the labels on the canvas, each where it covers no other; returns how many had no room.

    Kept marks choose first, and among them the large. `size` is the font height in px; in a crowd
    it shrinks by a tenth.
    """
    pen = ImageDraw.Draw(canvas)
    crowded = len(marks) > _CROWD
    size = round(size * 0.9) if crowded else size
    face = font(size, bold=True)
    padding = max(2, size // 4)
    height = size + 2 * padding - 1
    taken: list[Rectangle] = []
    for mark in sorted(marks, key=lambda mark: mark.status != "kept"):
        width = face.getlength(mark.label) + 2 * padding + 2
        if crowded and area_of(mark.box) < width * height:
            continue
        spot = find_spot(mark.box, (width, height), canvas.size, taken)
        if spot is None:
            continue
        x, y = spot
        taken.append((x, y, x + width, y + height))
        kept = mark.status == "kept"
        fill, ink = (mark.colour, PAPER) if kept else (PAPER, mark.colour)
        pen.rounded_rectangle(taken[-1], radius=size // 4, fill=fill, outline=mark.colour)
        pen.text((x + padding + 1, y + height / 2), mark.label, font=face, fill=ink, anchor="lm")
    return len(marks) - len(taken)


def find_spot(
    box: Rectangle, label: tuple[float, float], canvas: tuple[int, int], taken: list[Rectangle]
) -> Point | None:
    """Where to put a label: the first free place at the box's corners, else the least covered.

    Args:
        box: The mark's.
        label: Width and height, px.
        canvas: Width and height, px.
        taken: Labels already placed.

    Returns:
        Its top left corner, inside the canvas if the label fits there at all; null when every place
        is covered too much.
    """
    (x_min, y_min, x_max, y_max), (width, height) = box, label
    corners = [
        (x_min, y_min - height),
        (x_min, y_min),
        (x_max - width, y_min - height),
        (x_min, y_max),
        (x_max - width, y_max),
        (x_min, y_max - height),
        (x_max - width, y_min),
        (x_max - width, y_max - height),
        ((x_min + x_max - width) / 2, (y_min + y_max - height) / 2),
        (x_max, y_min),
        (x_min - width, y_min),
    ]
    spots = [(_within(x, canvas[0] - width), _within(y, canvas[1] - height)) for x, y in corners]

    def covered(spot: Point) -> float:
        own = (*spot, spot[0] + width, spot[1] + height)
        return sum(_shared(own, other) for other in taken) / (width * height)

    best = min(spots, key=covered)  # the first of equals
    return best if covered(best) <= _MAX_COVERED else None


def area_of(box: Rectangle) -> float:
    """Width times height."""
    return (box[2] - box[0]) * (box[3] - box[1])


def _within(value: float, limit: float) -> float:
    return max(0.0, min(value, limit))


def _shared(a: Rectangle, b: Rectangle) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    return max(0.0, width) * max(0.0, height)
