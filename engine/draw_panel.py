"""The panel under a picture: its title, what was kept and rejected, and its captions."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from PIL import Image, ImageDraw

from engine.draw_style import (
    DIM,
    FAINT,
    INK,
    PAPER,
    REJECTED,
    SUPERSEDED,
    Colour,
    font,
    shorten,
)

Row = dict[str, Any]
_LEGEND_ENTRIES = 24
_OUTCOME_INK = {"kept": INK, "rejected": REJECTED, "superseded": SUPERSEDED}


@dataclass(frozen=True)
class Word:
    """One word of a caption and how it is written."""

    text: str
    colour: Colour
    bold: bool = False
    struck: bool = False


def draw_panel(
    width: int, rows: Sequence[Row], *, title: str, notes: Sequence[str], size: int
) -> Image.Image:
    """The panel, as wide as its picture and as high as its texts need.

    Args:
        width: Pixels.
        rows: All rows of the image; those of kind `text` are written out, a phrase that a kept
            grounding row points at in the colour that row carries in `colour`. The legend leaves
            out rows that have an `owner`: they are drawn as part of it.
        title: First line.
        notes: Further remarks, such as how many labels found no room.
        size: Font height, px.
    """
    page = _Page(width, size)
    page.write([Word(title, INK, bold=True)], size + 2)
    page.write([*_counts(rows), *(Word(note, DIM) for note in notes)], size - 2, gap=size // 2)
    page.write(_legend(rows), size - 2, gap=size // 2)
    grounding = [row for row in rows if row["kind"] == "grounding" and row["status"] == "kept"]
    for row in rows:
        if row["kind"] == "text":
            page.rule()
            page.write(_byline(row), size - 3)
            page.write(_words_of_caption(row, grounding), size, gap=0)
    return page.finish()


def _counts(rows: Sequence[Row]) -> list[Word]:
    words = []
    for status, ink in _OUTCOME_INK.items():
        count = sum(row["status"] == status for row in rows)
        if count or status == "kept":
            words.append(Word(f"{count} {status}", ink, bold=True))
    sources = Counter(row["source"] or "unnamed source" for row in rows)
    words += [Word(f"{source} {count}", DIM) for source, count in sorted(sources.items())]
    return words


def _legend(rows: Sequence[Row]) -> list[Word]:
    """What the colours mean: the texts of the kept regions, the frequent first."""
    kept = [row for row in rows if row["kind"] != "text" and row["status"] == "kept"]
    kept = [row for row in kept if row["owner"] is None]
    counts = Counter((shorten(row["text"] or row["role"], 30), row["colour"]) for row in kept)
    words = [
        Word(name if count == 1 else f"{name} x {count}", colour, bold=True)
        for (name, colour), count in counts.most_common()
    ]
    more = len(words) - _LEGEND_ENTRIES
    return [*words[:_LEGEND_ENTRIES], *([Word(f"and {more} more", DIM)] if more > 0 else [])]


def _byline(row: Row) -> list[Word]:
    words = [Word(row["role"] or "text", INK, bold=True), Word(row["source"] or "", DIM)]
    score = row["score"] if row["score"] is not None else row["text_score"]
    if score is not None:
        words.append(Word(f"{score:.2f}", DIM))
    if row["status"] != "kept":
        reason = row["rule"] or row["status"]
        against = f" ({shorten(row['against'], 24)})" if row["against"] else ""
        words.append(Word(f"{row['status']}: {reason}{against}", _OUTCOME_INK[row["status"]]))
    return words


def _words_of_caption(row: Row, grounding: Sequence[Row]) -> list[Word]:
    """The caption word by word; a word inside a grounded span has that span's colour."""
    spans = [
        (own["span_start"], own["span_end"], own["colour"])
        for own in grounding
        if own["text_id"] == row["annotation_id"] and own["span_start"] is not None
    ]
    kept = row["status"] == "kept"
    words = []
    for start, text in _split(row["text"] or ""):
        hits = [colour for first, end, colour in spans if first < start + len(text) and start < end]
        if hits and kept:
            words.append(Word(text, hits[0], bold=True))
        else:
            words.append(Word(text, INK if kept else DIM, struck=not kept))
    return words


def _split(text: str) -> Iterator[tuple[int, str]]:
    start = 0
    for word in text.split():
        start = text.index(word, start)
        yield start, word
        start += len(word)


class _Page:
    """Lines of words from top to bottom; drawn once their height is known."""

    def __init__(self, width: int, size: int) -> None:
        self._width = width
        self._margin = size
        self._y = size
        self._placed: list[tuple[int, int, Word, int]] = []
        self._rules: list[int] = []

    def rule(self) -> None:
        """A thin line across, with air on both sides."""
        self._y += self._margin // 2
        self._rules.append(self._y)
        self._y += self._margin // 2

    def write(self, words: Sequence[Word], size: int, *, gap: int | None = None) -> None:
        """The words in lines, no words in none; `gap` px more than a space between two of them."""
        if not words:
            return
        between = round(font(size).getlength(" ")) + (size // 2 if gap is None else gap)
        line_height = round(size * 1.4)
        x = self._margin
        for word in words:
            long = round(font(size, bold=word.bold).getlength(word.text))
            if x > self._margin and x + long > self._width - self._margin:
                x = self._margin
                self._y += line_height
            self._placed.append((x, self._y, word, size))
            x += long + between
        self._y += line_height

    def finish(self) -> Image.Image:
        """The drawn panel."""
        image = Image.new("RGB", (self._width, self._y + self._margin // 2), PAPER)
        pen = ImageDraw.Draw(image)
        for y in self._rules:
            pen.line([(self._margin, y), (self._width - self._margin, y)], fill=FAINT)
        for x, y, word, size in self._placed:
            face = font(size, bold=word.bold)
            pen.text((x, y), word.text, font=face, fill=word.colour)
            if word.struck:
                middle = y + round(size * 0.62)
                pen.line([(x, middle), (x + face.getlength(word.text), middle)], fill=word.colour)
        return image
