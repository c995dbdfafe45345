"""Pictures of one image and everything said about it: regions on the photo, captions below."""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageDraw

from engine.draw_marks import Mark, Point, area_of, draw_labels, draw_shapes
from engine.draw_panel import draw_panel
from engine.draw_style import (
    FAINT,
    INK,
    PAPER,
    REJECTED,
    SUPERSEDED,
    Colour,
    colours_of,
    font,
    shorten,
)
from engine.schema import VERDICT

Row = dict[str, Any]

# A longer side between these, px: small photos are enlarged so that labels fit, huge ones shrunk.
_MIN_SIDE, _MAX_SIDE = 1_000, 1_600
_LABEL_CHARACTERS = 30


def draw_image(pixels: npt.NDArray[np.uint8], rows: pa.Table, *, title: str = "") -> Image.Image:
    """One image with its rows: regions and grounding on the photo, captions in a panel below.

    Kept rows have solid lines in the colour of their text, and their polygons a tint; rejected rows
    are red and dashed and name their rule; superseded ones are grey and dotted. Labels give the
    score, and the source where it is not the one most rows are from. A label that finds no room is
    left out and counted in the panel, as is a row whose box cannot be drawn. Kept rows of one
    region are one mark with all their words; a phrase that points at it has its colour in the
    panel.

    Args:
        pixels: Upright, shape (height, width, 3).
        rows: Rows of that image, claims or annotations; a row without a status counts as kept. No
            rows, the photo with a panel that says so.
        title: First line of the panel.
    """
    factor = _display_factor(*pixels.shape[:2])
    size = (round(pixels.shape[1] * factor), round(pixels.shape[0] * factor))
    canvas = Image.fromarray(pixels).resize(size, Image.Resampling.LANCZOS)
    font_size = max(13, round(max(size) / 68))
    drawn = _with_colours(_gathered(_as_dicts(rows)))
    alone = [row for row in drawn if row["owner"] is None]
    quiet = _main_source(alone)
    marks = [mark for row in alone if (mark := _to_mark(row, factor, size, quiet))]
    marks.sort(key=lambda mark: -area_of(mark.box))
    canvas = draw_shapes(canvas, marks, line=max(2, round(max(size) / 420)))
    hidden = draw_labels(canvas, marks, size=font_size - 1)
    panel = draw_panel(
        size[0], drawn, title=title, notes=_notes(alone, len(marks), hidden), size=font_size
    )
    page = Image.new("RGB", (size[0], size[1] + panel.height), PAPER)
    page.paste(canvas, (0, 0))
    page.paste(panel, (0, size[1]))
    return page


def contact_sheet(
    pictures: Sequence[Image.Image], *, columns: int = 3, column_width: int = 640, title: str = ""
) -> Image.Image:
    """Many pictures on one page, each in the column that is shortest when its turn comes.

    Args:
        pictures: In order of importance; none gives a page with the title alone.
        columns: How many; no more than there are pictures.
        column_width: Pixels; every picture is scaled to it.
        title: Written above; empty leaves no room for it.
    """
    gap = column_width // 32
    top = gap + (column_width // 12 if title else 0)
    columns = max(1, min(columns, len(pictures)))
    heights = [top] * columns
    placed = []
    for picture in pictures:
        column = heights.index(min(heights))
        size = (column_width, max(1, round(picture.height * column_width / picture.width)))
        placed.append((picture.resize(size, Image.Resampling.LANCZOS), column, heights[column]))
        heights[column] += size[1] + gap
    page = Image.new("RGB", (columns * (column_width + gap) + gap, max(heights)), FAINT)
    for picture, column, y in placed:
        page.paste(picture, (gap + column * (column_width + gap), y))
    pen = ImageDraw.Draw(page)
    pen.text((gap, gap), title, font=font(column_width // 22, bold=True), fill=INK)
    return page


def _display_factor(height: int, width: int) -> float:
    longest = max(height, width)
    return min(max(longest, _MIN_SIDE), _MAX_SIDE) / longest


def _as_dicts(rows: pa.Table) -> list[Row]:
    verdicts = dict.fromkeys(VERDICT.names)
    found = [{**verdicts, **row} for row in rows.to_pylist()]
    return [{**row, "status": row["status"] or "kept"} for row in found]


def _gathered(rows: list[Row]) -> list[Row]:
    """The rows, each with the row it is drawn with as `owner` (null: by itself).

    The first kept region row of a region owns the others that are kept and share its box: their
    words join its own in `words`, and it takes the outline of the first that has one.
    """
    found = [
        {**row, "owner": None, "words": [row["text"] or row["role"] or "region"]} for row in rows
    ]
    owners: dict[str, Row] = {}
    for row in sorted(found, key=lambda row: row["kind"] != "region"):  # stable: in their order
        if row["kind"] == "text" or row["status"] != "kept" or row["region_id"] is None:
            continue
        owner = owners.get(row["region_id"])
        if owner is None:
            owners |= {row["region_id"]: row} if row["kind"] == "region" else {}
        elif owner["box"] == row["box"]:
            row["owner"] = owner["text"] or ""
            owner["polygon"] = owner["polygon"] or row["polygon"]
            if row["kind"] == "region":
                owner["words"] = list(dict.fromkeys([*owner["words"], *row["words"]]))
    return found


def _with_colours(rows: list[Row]) -> list[Row]:
    def said(row: Row) -> str:
        return str(row["text"] or "" if row["owner"] is None else row["owner"]).casefold()

    colours = colours_of(said(row) for row in rows if row["kind"] != "text")
    of_status = {"rejected": REJECTED, "superseded": SUPERSEDED}

    def colour(row: Row) -> Colour | None:
        return of_status.get(row["status"], colours.get(said(row)))

    return [{**row, "colour": colour(row)} for row in rows]


def _main_source(rows: Iterable[Row]) -> str | None:
    """The source most regions are from; naming it on every label would say nothing."""
    counts = Counter(row["source"] for row in rows if row["kind"] != "text")
    return counts.most_common(1)[0][0] if counts else None


def _to_mark(row: Row, factor: float, size: tuple[int, int], quiet: str | None) -> Mark | None:
    """The row as a mark, or null when it has no box that touches the canvas."""
    box = row["box"]
    if row["kind"] == "text" or box is None or not all(map(math.isfinite, box)):
        return None
    corners = [min(max(number * factor, 0), size[axis % 2]) for axis, number in enumerate(box)]
    if corners[0] >= corners[2] or corners[1] >= corners[3]:
        return None
    rings = [_scaled_ring(ring, factor) for ring in row["polygon"] or []]
    x_min, y_min, x_max, y_max = corners
    label = _label(row, quiet)
    return Mark((x_min, y_min, x_max, y_max), rings, label, row["status"], row["colour"])


def _scaled_ring(ring: Sequence[float], factor: float) -> list[Point]:
    return [(x * factor, y * factor) for x, y in zip(ring[::2], ring[1::2], strict=False)]


def _label(row: Row, quiet: str | None) -> str:
    parts = [shorten(" \u00b7 ".join(row["words"]), _LABEL_CHARACTERS)]
    if row["source"] and row["source"] != quiet:
        parts.append(row["source"])
    score = row["score"] if row["score"] is not None else row["text_score"]
    if score is not None:
        parts.append(f"{score:.2f}")
    if row["ignore"]:
        parts.append("(ignore)")
    if row["status"] != "kept":
        parts.append(f"\u2715 {row['rule'] or row['status']}")
    return "  ".join(parts)


def _notes(rows: Sequence[Row], num_marks: int, hidden: int) -> list[str]:
    notes = []
    undrawn = sum(row["kind"] == "region" for row in rows)
    undrawn += sum(row["kind"] == "grounding" and row["box"] is not None for row in rows)
    if undrawn > num_marks:
        notes.append(f"{undrawn - num_marks} not drawable")
    if hidden:
        notes.append(f"{hidden} labels left out for room")
    return notes
