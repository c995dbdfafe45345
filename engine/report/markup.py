"""The few pieces of HTML the report is made of. Whatever comes from data is escaped here."""

import html
import math
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

# Invisible ones: they could hide or reorder what a reader sees. Shown as their code point instead.
_HIDDEN = re.compile(
    "[\u0000-\u0008\u000b\u000c\u000e-\u001f\u007f-\u009f\u00ad\u061c\u200b\u200e\u200f"
    "\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb\U000e0000-\U000e007f]"
)
_MAX_TEXT = 400  # characters of a caption; more says nothing to a reader of a page


def _code_point(found: re.Match[str]) -> str:
    return f"\u2039U+{ord(found[0]):04X}\u203a"


class Markup(NamedTuple):
    """HTML that is safe: made here, everything inside it escaped."""

    html: str


Cell = Markup | str | float | None  # a string is our own


def text(value: object, *, limit: int = _MAX_TEXT) -> Markup:
    """Text from data: cut, invisible characters spelled out, isolated from the text around it."""
    spelled = str(value)
    cut = spelled[:limit]
    shown = _HIDDEN.sub(_code_point, html.escape(cut))
    more = (
        f' <span class="dim">\u2026 ({len(spelled):,} characters)</span>' if spelled[limit:] else ""
    )
    return Markup(f"<bdi>{shown}</bdi>{more}")


def said(value: str | None, *, limit: int = _MAX_TEXT) -> Markup:
    """What a row says, also when that is nothing."""
    if value:
        return text(value, limit=limit)
    return Markup(f'<i class="dim">{"no text" if value is None else "empty text"}</i>')


def plain(value: object, *, limit: int = _MAX_TEXT) -> str:
    """Text from data on one line, cut, invisible characters spelled out; not escaped for HTML."""
    spelled = str(value)[: limit + 1]
    line = " ".join(spelled[:limit].split()) + ("\u2026" if spelled[limit:] else "")
    return _HIDDEN.sub(_code_point, line)


def attribute(value: object, *, limit: int = _MAX_TEXT) -> str:
    """Text from data between double quotes, or inside an SVG."""
    spelled = str(value)
    cut = spelled[:limit] + ("\u2026" if spelled[limit:] else "")
    return _HIDDEN.sub(_code_point, html.escape(cut))


def number(value: float | None) -> str:
    """A number as people read it: 12,345, 0.25, 1.2e-05; a dash for none."""
    if value is None:
        return "\u2013"
    if isinstance(value, int) or (math.isfinite(value) and float(value).is_integer()):
        return f"{int(value):,}" if abs(value) < 1e15 else f"{value:.3g}"  # noqa: PLR2004
    return f"{value:,.4g}" if abs(value) < 1e4 or not math.isfinite(value) else f"{value:,.0f}"  # noqa: PLR2004


def measure(value: float) -> str:
    """A float32 with the digits somebody may have written: 0.15, not 0.15000000596."""
    return number(float(f"{value:.5g}"))


def share(part: int, whole: int) -> str:
    """A percentage that never rounds something to 0 or all but all to 100."""
    if not whole:
        return "\u2013"
    percent = 100 * part / whole
    if 0 < percent < 0.1:  # noqa: PLR2004
        return "< 0.1%"
    if 99.9 < percent < 100:  # noqa: PLR2004
        return "> 99.9%"
    return f"{percent:.1f}%"


def join(parts: Iterable[Markup]) -> Markup:
    """All of them, one after another."""
    return Markup("".join(part.html for part in parts))


def tag(name: str, content: Markup | str, *, css: str = "") -> Markup:
    """An element; a string inside it is our own and is escaped all the same."""
    inner = content.html if isinstance(content, Markup) else html.escape(content)
    return Markup(f"<{name}{f' class={chr(34)}{css}{chr(34)}' if css else ''}>{inner}</{name}>")


def table(headings: Sequence[str], rows: Iterable[Sequence[Cell]], *, words: int = 1) -> Markup:
    """A table that scrolls by itself where it is wider than the page; no rows, a dash.

    Args:
        headings: Of the columns.
        rows: Cells; a string is our own.
        words: How many first columns hold words; the others are numbers, set to the right.
    """
    head = "".join(
        f'<th{"" if place < words else " class=num"} scope="col">{html.escape(heading)}</th>'
        for place, heading in enumerate(headings)
    )
    body = "".join(f"<tr>{_cells(row, words)}</tr>" for row in rows)
    if not body:
        body = f'<tr><td colspan="{len(headings)}" class="dim">none</td></tr>'
    parts = f"<thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
    return Markup(f'<div class="scroll"><table>{parts}</table></div>')


def _cells(row: Sequence[Cell], words: int) -> str:
    return "".join(
        f"<td{_css(cell, place < words)}>{_cell(cell)}</td>" for place, cell in enumerate(row)
    )


def _css(cell: Cell, word: bool) -> str:
    if isinstance(cell, Markup) and cell.html.startswith("<svg"):
        return " class=bars"
    return "" if word else " class=num"


def _cell(cell: Cell) -> str:
    if isinstance(cell, Markup):
        return cell.html
    return html.escape(cell) if isinstance(cell, str) else number(cell)


def section(anchor: str, title: str, *parts: Markup, note: str = "") -> Markup:
    """A part of the page with its heading, and a sentence that says how to read it."""
    lead = f'<p class="note">{html.escape(note)}</p>' if note else ""
    inner = "".join(part.html for part in parts)
    return Markup(f'<section id="{anchor}"><h2>{html.escape(title)}</h2>{lead}{inner}</section>')


def fold(title: Markup, content: Markup) -> Markup:
    """Something to be opened by a click."""
    return Markup(f"<details><summary>{title.html}</summary>{content.html}</details>")
