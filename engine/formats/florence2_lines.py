"""One line of a Florence-2 training file: what it says as rows, and what is left of it."""

import json
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import msgspec
import numpy as np

from engine.errors import ConfigError
from engine.formats.florence2_codec import Item, Span, decode_bins, parse_answer
from engine.formats.florence2_tasks import (
    TASKS,
    Task,
    decode_answer,
    locate_phrases,
    read_prompt,
)
from engine.formats.parts import dump
from engine.source.labels import LabelError

_SENTENCES = {task.sentence: task for task in TASKS.values() if task.takes == "nothing"}
_NO_POLYGON = re.compile(r"<poly>(?:<sep>)*</poly>")  # what stood around one that is gone


class _Record(msgspec.Struct):
    image: str
    prefix: str
    suffix: str


@dataclass(frozen=True)
class Question:
    """What a line asks: the task, its input, and the answer given."""

    task: Task
    given: str
    suffix: str

    @property
    def has_places(self) -> bool:
        """Whether its rows need the size of the image."""
        return self.task.form != "text" or self.task.takes == "region"


def image_of(data: bytes) -> str | None:
    """The image a line names; null where it cannot be told."""
    try:
        return msgspec.json.decode(data, type=_Record).image
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None


def read_question(text: str) -> Question:
    """What a line asks and answers.

    Raises:
        LabelError: It is no JSON object with the texts image, prefix and suffix, or the prefix is
            no task.
    """
    try:
        record = msgspec.json.decode(text, type=_Record)
    except msgspec.ValidationError as err:
        raise LabelError("bad_labels", err) from err
    except (msgspec.DecodeError, RecursionError) as err:
        raise LabelError("not_json", err) from err
    if record.prefix in _SENTENCES:
        return Question(_SENTENCES[record.prefix], "", record.suffix)
    try:
        task, given = read_prompt(record.prefix)
    except ConfigError as err:
        raise LabelError("bad_labels", f"prefix {record.prefix[:60]!r} is no task") from err
    return Question(task, given, record.suffix)


class Claims(NamedTuple):
    """What a line says: its rows, and what of its answer is none of them, if anything."""

    rows: list[dict[str, Any]]
    lost: str | None = None


def claims_of(question: Question, number: int, size_wh: tuple[int, int] | None) -> Claims:
    """The claims of a line, in the order of its answer; each names its line and item in `extra`.

    `<OCR>` answers make none: words without a place have no row. A caption whose phrases are
    located is a row too, with no item.

    Args:
        question: What the line says.
        number: Of the line; it makes names of rows differ from those of other lines.
        size_wh: Width and height of the image, pixels; null for tasks without places.

    Raises:
        LabelError: The input is no region.
    """
    task = question.task
    if task.kind is None:
        return Claims([])
    if size_wh is None:
        return Claims(_texts(question, number))
    if task.takes == "region":
        return _region_claims(question, number, size_wh)
    items, columns, num_lost = decode_answer(task, question.suffix, size_wh)
    made = {"kind": task.kind, "role": task.roles[0]}
    if task.takes == "text" and task.kind == "region":
        made["text"] = question.given
    rows = [{**_cells(columns, i), **made, "extra": dump([number, i])} for i in range(len(items))]
    if task.kind == "grounding":
        rows = _grounded(question, number, items, rows)
    return Claims(rows, _lost(question, items, num_lost))


def remaining(text: str, kept: Collection[int]) -> str | None:
    """The line with those items of its answer alone; null where none is left of some.

    Everything but the value of `suffix` is as it was, white space between members aside.
    """
    question = read_question(text)
    items = _items(question)
    if len(kept) == len(items):
        return text
    if not kept:
        return None
    suffix = _without(question.suffix, items, kept)
    members = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    spelt = {name: bytes(raw).decode() for name, raw in members.items()}
    spelt["suffix"] = json.dumps(suffix, ensure_ascii=text.isascii())
    pairs = (f"{json.dumps(name, ensure_ascii=False)}: {raw}" for name, raw in spelt.items())
    return "{" + ", ".join(pairs) + "}"


def _items(question: Question) -> list[Item]:
    """The items that became rows."""
    if question.task.kind is None:
        return []
    items = parse_answer(question.suffix, question.task.form).items
    if question.task.form == "text" or question.task.takes == "region":
        return items[:1]
    return items


def _lost(question: Question, items: Sequence[Item], num_lost: int) -> str | None:
    token = question.task.token
    if num_lost:
        return f"suffix: {num_lost} location tokens belong to no answer of {token}"
    if question.suffix.strip() and not items:
        return f"suffix: {question.suffix[:60]!r} is no answer of {token}"
    return None


def _cells(columns: Mapping[str, Any], place: int) -> dict[str, Any]:
    told = {name: column[place] for name, column in columns.items() if column is not None}
    return {**told, "box": [float(side) for side in told["box"]]}


def _texts(question: Question, number: int) -> list[dict[str, Any]]:
    items = parse_answer(question.suffix, "text").items
    made = {"kind": "text", "role": question.task.roles[0], "annotation_id": f"line {number}"}
    return [{**made, "text": item.label, "extra": dump([number, 0])} for item in items]


def _region_claims(question: Question, number: int, size_wh: tuple[int, int]) -> Claims:
    """The one row of a line about a region: the input is its box, the answer a text or outline."""
    places = parse_answer(question.given, "boxes")
    if len(places.items) != 1 or places.num_lost:
        raise LabelError("bad_labels", f"prefix: {question.given[:60]!r} is no region")
    items, columns, num_lost = decode_answer(question.task, question.suffix, size_wh)
    box = decode_bins([places.items[0].places[0]], size_wh)[0]
    row = {"kind": "region", "box": box.tolist(), "extra": dump([number, 0])}
    if question.task.form == "text":
        made = [{**row, "role": question.task.roles[0], "text": item.label} for item in items]
        return Claims(made)
    rings = [ring for polygon in columns["polygon"] or () for ring in polygon]
    made = [{**row, "role": "proposal", "polygon": rings}] if rings else []
    return Claims(made, _lost(question, items, num_lost))


def _grounded(
    question: Question, number: int, items: list[Item], rows: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """The caption that was asked about, then its phrases with their places in it."""
    name = f"caption of line {number}"
    caption = {"kind": "text", "role": "brief", "text": question.given, "annotation_id": name}
    found: list[dict[str, Any]] = [{**caption, "extra": dump([number, None])}]
    for row, span in zip(rows, locate_phrases(question.given, items), strict=True):
        start, end = span or (None, None)
        found.append({**row, "text_id": name, "span_start": start, "span_end": end})
    return found


def _without(suffix: str, items: Sequence[Item], kept: Collection[int]) -> str:
    """The answer without the other items: their places go, and labels that name no place more."""
    named = {item.label_span for i, item in enumerate(items) if i in kept}
    cut: list[Span] = []
    for i, item in enumerate(items):
        if i in kept:
            continue
        cut.extend(item.place_spans)
        if item.label_span not in named:
            cut.append(item.label_span)
    left = np.ones(len(suffix), bool)
    for start, end in cut:
        left[start:end] = False
    text = "".join(char for char, stays in zip(suffix, left.tolist(), strict=True) if stays)
    return _NO_POLYGON.sub("", text)
