"""Rows out of one task of Label Studio."""

import json
import math
from collections.abc import Mapping
from typing import Any
from urllib.parse import parse_qs, urlsplit

import msgspec

from engine.formats.image_records import elements, known_side, members, with_members
from engine.formats.json_decode import Flaw, RecordDecoder
from engine.geometry import rings_box
from engine.schema import ROLES

ANSWERS = ("annotations", "completions", "predictions")  # completions: annotations before 2021
_RECTANGLES = ("rectanglelabels", "rectangle")
_POLYGONS = ("polygonlabels", "polygon")
_LABELS = (*_RECTANGLES, *_POLYGONS, "labels")
_PERCENT = 100.0
_CORNER = 2  # numbers
_LARGEST = 3.4028234e38  # of float32


class Task(msgspec.Struct):
    """What we take of a task."""

    data: dict[str, Any] = {}
    id: int | str | None = None

    def image(self) -> dict[str, Any]:
        """Name and number of its image."""
        texts = [value for value in self.data.values() if isinstance(value, str)]
        own = self.data.get("image")
        uri = own if isinstance(own, str) else next(iter(texts), "")
        if "local-files" in uri:  # how it serves files of its own machine
            uri = parse_qs(urlsplit(uri).query).get("d", [uri])[0]
        return {"uri": uri, "source_id": None if self.id is None else str(self.id)}


class _Value(msgspec.Struct):
    x: float | None = None
    y: float | None = None
    width: float | None = None
    height: float | None = None
    rotation: float | None = None
    points: list[list[float]] | None = None
    text: str | list[str] | None = None
    rectanglelabels: list[str] | None = None
    polygonlabels: list[str] | None = None
    labels: list[str] | None = None


class _Item(msgspec.Struct):
    """One entry of a result: percent of the picture's width and height."""

    type: str
    value: _Value
    id: str | None = None
    score: float | None = None
    original_width: float | None = None
    original_height: float | None = None
    image_rotation: float | None = None
    from_name: str | None = None


_ITEMS = RecordDecoder(_Item)


class TaskReader:
    """Rows of a task, and the task without what became rows.

    Attributes:
        rows: Values by column; `extra` says where in the task the row's entries belong.
        skeleton: The task, JSON, with null in the place of every entry that became part of a row.
        size: Width and height, px, where an entry tells them.
        flaws: Cause and message of what could not be taken; it stays in the task.
    """

    def __init__(self, task: Task, text: str) -> None:
        self.rows: list[dict[str, Any]] = []
        self.flaws: list[tuple[str, str]] = []
        self.size: dict[str, int] = {}
        found = members(text)
        for key in ANSWERS:
            if key in found:
                found[key] = self._answers(key, found[key])
        self.skeleton = with_members(found)

    def _answers(self, key: str, text: bytes) -> bytes:
        if not text.startswith(b"["):
            return text
        answers = elements(text)
        for number, answer in enumerate(answers):
            if not answer.startswith(b"{"):  # a bare id
                continue
            found = members(answer.decode())
            if found.get("result", b"").startswith(b"["):
                found["result"] = self._result(key, number, found["result"])
                answers[number] = with_members(found).encode()
        return b"[" + b", ".join(answers) + b"]"

    def _result(self, key: str, number: int, text: bytes) -> bytes:
        raws = elements(text)
        groups: dict[str, list[tuple[int, _Item]]] = {}
        for place, raw in enumerate(raws):
            item = _ITEMS.one(raw)
            if isinstance(item, Flaw):
                if b'"relation"' not in raw:
                    self.flaws.append((item.cause, f"{key}[{number}].result[{place}]: {item[1]}"))
            elif item.type in (*_LABELS, "textarea"):
                groups.setdefault(item.id or f"#{place}", []).append((place, item))
        for group in groups.values():
            row = self._row([item for _, item in group], f"{key}[{number}]")
            if row is None:
                continue
            at = [place for place, _ in group]
            entries = ", ".join(raws[place].decode() for place in at)
            row["human"] = key != "predictions"
            row["extra"] = (
                f'{{"in": "{key}", "index": {number}, "at": {at}, "result": [{entries}]}}'
            )
            self.rows.append(row)
            for place in at:
                raws[place] = b"null"
        return b"[" + b", ".join(raws) + b"]"

    def _row(self, items: list[_Item], where: str) -> dict[str, Any] | None:
        shapes = [item for item in items if item.type in (*_RECTANGLES, *_POLYGONS)]
        texts = [_joined(item.value.text) for item in items if item.value.text is not None]
        score = next((item.score for item in items if item.score is not None), None)
        if score is not None and not _fits(score):
            self.flaws.append(("bad_labels", f"{where}: score is {score}"))
            return None
        row: dict[str, Any] = {"score": score, "source_id": items[0].id}
        if not shapes:
            if not texts:
                return None
            role = items[0].from_name if items[0].from_name in ROLES["text"] else "brief"
            return {**row, "kind": "text", "role": role, "text": texts[0]}
        try:
            polygon, box = self._geometry(shapes[0])
        except ValueError as err:
            self.flaws.append(("bad_labels", f"{where}: {shapes[0].type} {items[0].id}: {err}"))
            return None
        role, text = _said(items, texts)
        return {**row, "kind": "region", "role": role, "text": text, "box": box, "polygon": polygon}

    def _geometry(self, item: _Item) -> tuple[list[list[float]] | None, list[float]]:
        """Polygon, where it is one, and box in pixels."""
        width, height = known_side(item.original_width), known_side(item.original_height)
        if width is None or height is None:
            raise ValueError("no original_width and original_height, which percents are of")
        if item.image_rotation:
            raise ValueError(f"on a picture turned by {item.image_rotation}; turn it back first")
        self.size = self.size or {"width": width, "height": height}
        value, scale = item.value, (width / _PERCENT, height / _PERCENT)
        if item.type in _POLYGONS:
            ring = _ring(value.points, scale)
            box = rings_box([ring])
            assert box is not None  # a ring has corners
            return [ring], box
        sides = (value.x, value.y, value.width, value.height)
        if any(side is None for side in sides):
            raise ValueError("wanted x, y, width and height")
        x, y, w, h = (side * scale[n % _CORNER] for n, side in enumerate(sides) if side is not None)
        if not value.rotation:
            return None, [x, y, x + w, y + h]
        turn = math.radians(value.rotation)  # about the top left corner, clockwise
        cos, sin = math.cos(turn), math.sin(turn)
        ring = []
        for along, below in ((0.0, 0.0), (w, 0.0), (w, h), (0.0, h)):
            ring += [x + along * cos - below * sin, y + along * sin + below * cos]
        box = rings_box([_checked(ring)])
        assert box is not None  # four corners
        return [ring], box


def _ring(points: list[list[float]] | None, scale: tuple[float, float]) -> list[float]:
    if not points or any(len(point) != _CORNER for point in points):
        raise ValueError("wanted points of x and y")
    ring = [number * scale[n] for point in points for n, number in enumerate(point)]
    return _checked(ring)


def _checked(ring: list[float]) -> list[float]:
    if not all(map(_fits, ring)):
        raise ValueError("corners that are no finite numbers")
    return ring


def _fits(number: float) -> bool:
    """Whether it is a finite number as float32."""
    return abs(number) <= _LARGEST  # false for NaN


def _joined(text: str | list[str] | None) -> str:
    return text if isinstance(text, str) else "\n".join(text or [])


def _said(items: list[_Item], texts: list[str]) -> tuple[str, str | None]:
    """Role and text of a region."""
    labels: list[str] = []
    for item in items:
        value = item.value
        labels += value.rectanglelabels or value.polygonlabels or value.labels or []
    label = next(iter(labels), None)
    if texts:
        return (label if label in ROLES["region"] and label != "category" else "ocr"), texts[0]
    return ("proposal", None) if label in (None, "proposal") else ("category", label)


def filled(skeleton: str, rows: list[str], predictions: list[Any]) -> str:
    """The task with the entries of these rows (their `extra`) back in their places.

    `predictions` are new ones, which come after those it has.
    """
    found = members(skeleton)
    if not found:
        return skeleton
    entries: dict[tuple[str, int], dict[int, bytes]] = {}
    for row in rows:
        extra = members(row)
        key = (json.loads(extra["in"]), int(extra["index"]))
        raws = elements(extra["result"])
        entries.setdefault(key, {}).update(zip(json.loads(extra["at"]), raws, strict=True))
    for name in ANSWERS:
        if found.get(name, b"").startswith(b"["):
            answers = [
                _refilled(answer, entries.get((name, number), {}))
                for number, answer in enumerate(elements(found[name]))
            ]
            found[name] = b"[" + b", ".join(answers) + b"]"
    if predictions:
        old = found.get("predictions", b"")
        told = elements(old) if old.startswith(b"[") else []
        told += [msgspec.json.encode(each) for each in predictions]
        found["predictions"] = b"[" + b", ".join(told) + b"]"
    return with_members(found)


def _refilled(answer: bytes, entries: Mapping[int, bytes]) -> bytes:
    if not answer.startswith(b"{"):
        return answer
    found = members(answer.decode())
    if found.get("result", b"").startswith(b"["):
        places = enumerate(elements(found["result"]))
        kept = [entries.get(place, raw) for place, raw in places]
        found["result"] = b"[" + b", ".join(raw for raw in kept if raw != b"null") + b"]"
    return with_members(found).encode()
