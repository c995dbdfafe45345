"""The rows of one image as tables for a terminal: what was kept, and why the rest was not."""

from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa
from rich import box
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text

from engine.schema import VERDICT

Row = dict[str, Any]
_STYLES = {"kept": "green", "rejected": "red", "superseded": "dim"}
_KINDS = ("text", "region", "grounding")  # captions first: they say what the picture is about
_ID_DIGITS = 8  # enough to tell the rows of one image apart


def format_rows(image: Mapping[str, Any], rows: pa.Table) -> RenderableType:
    """One image and its rows, kept ones first, then those rejected, then those superseded.

    Args:
        image: Its row of the images table.
        rows: Its annotations; a row without a status counts as kept. No rows, a line that says so.

    Returns:
        Something `rich.print` writes; from 80 columns on nothing is cut but ids, long texts wrap.
    """
    verdicts = dict.fromkeys(VERDICT.names)
    found = [{**verdicts, **row} for row in rows.to_pylist()]
    by_id = {row["annotation_id"]: row for row in found}
    parts: list[RenderableType] = [_heading(image), *_failures(image)]
    for status in _STYLES:
        chosen = [row for row in found if (row["status"] or "kept") == status]
        if chosen:
            chosen.sort(key=lambda row: _KINDS.index(row["kind"]))
            parts.append(_table(status, chosen, by_id))
    if not found:
        parts.append(Text("no rows: nobody said anything about this image", style="yellow"))
    return Group(*parts)


def _heading(image: Mapping[str, Any]) -> Text:
    line = Text(image["image_key"], style="bold")
    size = f"{image['width']} x {image['height']} px" if image["width"] else "size unknown"
    line.append(f"  {size}  {image['format'] or ''}  {image['uri'] or ''}", style="dim")
    if image["status"] not in (None, "ok"):
        line.append(f"  {image['status']}", style="bold red")
        reason = image["rule"] or image["duplicate_of"]
        line.append(f" ({reason})" if reason else "")
        if image["measured"] is not None:
            line.append(f" measured {image['measured']:.4g}, limit {_number(image['limit'])}")
    return line


def _failures(image: Mapping[str, Any]) -> list[Text]:
    return [
        Text(
            f"failed: {' / '.join(filter(None, (f['stage'], f['source'])))}: ", style="red"
        ).append(f"{f['cause']} {f['message'] or ''}")
        for f in image["failures"] or []
    ]


def _table(status: str, rows: Sequence[Row], by_id: Mapping[str, Row]) -> Table:
    title = Text(f"{len(rows)} {status}", style=f"bold {_STYLES[status]}")
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, pad_edge=False)
    table.add_column("id", style="dim", no_wrap=True)
    table.add_column("what", no_wrap=True)
    table.add_column("source")
    table.add_column("score", justify="right", no_wrap=True)
    table.add_column("text", overflow="fold", ratio=1)
    if status == "kept":
        table.add_column("box x0 y0 x1 y1", style="dim", no_wrap=True)
    else:
        table.add_column("why", overflow="fold", ratio=1)
    for row in rows:
        corners = " ".join(f"{number:.0f}" for number in row["box"] or [])
        if status == "kept":
            table.add_row(*_claim_cells(row), Text(row["text"] or ""), Text(corners))
        else:  # the box moves under the text: there is a reason to be told, and 80 columns
            text = Text("\n".join(filter(None, (row["text"], corners))))
            table.add_row(*_claim_cells(row), text, _why(row, by_id))
    return table


def _claim_cells(row: Row) -> list[Text]:
    what = row["role"] if row["kind"] == "region" else row["kind"]
    if row["kind"] == "text":
        what = f"text {row['role']}"
    marks = [mark for mark in ("human", "ignore") if row[mark]]
    return [
        Text(_short_id(row["annotation_id"])),
        Text(what or row["kind"]),
        Text(" ".join([row["source"] or "?", *marks])),
        Text(_scores(row)),
    ]


def _why(row: Row, by_id: Mapping[str, Row]) -> Text:
    """The rule, what it measured against which limit, and the row or term that won."""
    why = Text(row["rule"] or "", style=_STYLES[row["status"]])
    if row["measured"] is not None:
        why.append(f" measured {_number(row['measured'])}", style="default")
    if row["limit"] is not None:
        why.append(f" limit {_number(row['limit'])}", style="default")
    if row["against"]:
        why.append(f"\nagainst {_against(row['against'], by_id)}", style="default")
    return why


def _scores(row: Row) -> str:
    """Box score, text score after a slash; nothing where the source gave none."""
    box_score, text_score = (
        "" if row[name] is None else f"{row[name]:.3f}" for name in ("score", "text_score")
    )
    return f"{box_score}/{text_score}" if text_score else box_score


def _against(against: str | None, by_id: Mapping[str, Row]) -> str:
    """The term, or the row lost against by its short id and, if it is here, who said what."""
    winner = by_id.get(against or "")
    if winner is None:
        return against or ""
    return (
        f"{_short_id(winner['annotation_id'])} {winner['source']} {winner['text'] or ''}".rstrip()
    )


def _short_id(annotation_id: str | None) -> str:
    return (annotation_id or "")[:_ID_DIGITS]


def _number(value: float | None) -> str:
    return "" if value is None else f"{value:.4g}"
