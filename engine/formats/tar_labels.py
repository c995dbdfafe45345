"""Label members of a WebDataset sample without the texts that were rejected."""

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any

import msgspec

from engine.formats.parts import spell
from engine.schema import BOX, ROLES
from engine.source.labels import LabelError, Labels

_NAMES = ("text", "annotation_id", "region_id", "text_id", "source_id", "prompt")
_MOST = 1 << 31  # of a place in a text
_HUGE = 10**300  # a number beyond it may not fit into a float


def check_row(row: Mapping[str, Any]) -> None:
    """Refuses what JSON can say and no table can hold.

    Raises:
        LabelError: Half a surrogate pair in a text, a role that is not known, or places and scores
            that are no numbers.
    """
    named = [row.get(name) for name in _NAMES]
    if any(value is not None and not _is_text(value) for value in named):
        raise LabelError("bad_labels", "a text or name that is none")
    kind, role = row["kind"], row.get("role")
    if role not in ROLES[kind] or (row.get("text") is None and role != "proposal"):
        raise LabelError("bad_labels", f"a {kind} of role {str(role)[:40]!r} without words")
    scores = [row.get(name) for name in ("score", "text_score")]
    if any(value is not None and not (_is_number(value) and isfinite(value)) for value in scores):
        raise LabelError("bad_labels", "a score that is no finite number")
    box, polygon = row.get("box"), row.get("polygon")
    if box is not None and not (_are_numbers(box) and len(box) == BOX.list_size):
        raise LabelError("bad_labels", "a box that is not four numbers")
    is_outline = isinstance(polygon, list) and all(
        _are_numbers(ring) and not len(ring) % 2 and all(map(isfinite, ring)) for ring in polygon
    )
    if polygon is not None and not is_outline:
        raise LabelError("bad_labels", "a polygon that is not rings of finite corners")
    span = [row.get("span_start"), row.get("span_end")]
    if any(value is not None and not (type(value) is int and 0 <= value < _MOST) for value in span):
        raise LabelError("bad_labels", "a span that is no place in a text")


def _is_row(row: Mapping[str, Any]) -> bool:
    try:
        check_row(row)
    except LabelError:
        return False
    return True


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and not any("\ud800" <= char <= "\udfff" for char in value)


def _is_number(value: Any) -> bool:
    return type(value) is float or (type(value) is int and abs(value) < _HUGE)


def _are_numbers(values: Any) -> bool:
    return isinstance(values, list) and all(map(_is_number, values))


@dataclass(frozen=True)
class Kept:
    """What is kept of one sample.

    Attributes:
        texts: What its kept text rows say.
        ids: Ids its kept rows have in a nested view.
    """

    texts: frozenset[str]
    ids: frozenset[str]


def thinned(name: str, content: bytes, labels: Labels, kept: Kept) -> bytes | None:
    """A label member with what is kept: as it was, less, or null where nothing is left of it.

    What makes no row (other members of a JSON object, a text that is blank, anything that cannot be
    read) stays as it is.

    Args:
        name: Of the field, as `json` or `txt`.
        content: Its bytes.
        labels: How it was read.
        kept: Of this sample.
    """
    rows = [row for row in labels.read({name: content}).rows if _is_row(row)]
    if any("annotation_id" in row for row in rows):
        gone = {row["annotation_id"] for row in rows} - kept.ids
        return _thinned_view(content.decode("utf-8-sig"), gone) if gone else content
    if all(row["text"] in kept.texts for row in rows):
        return content
    return _thinned_object(content, labels, kept.texts) if name == "json" else None


def _thinned_object(content: bytes, labels: Labels, texts: frozenset[str]) -> bytes:
    """The JSON object without the rejected texts; every other member is spelt as it was."""
    spelt: dict[str, str] = {}
    for name, text in _members(content.decode("utf-8-sig")).items():
        said = json.loads(text) if name in labels.fields else None
        if isinstance(said, list):
            left = [one for one in said if _is_kept(name, [one], labels, texts)]
            spelt[name] = text if left == said else spell(left, text)
        elif said is None or _is_kept(name, said, labels, texts):
            spelt[name] = text
    shown = ((spell(name, name), text) for name, text in spelt.items())
    return ("{" + ", ".join(f"{name}: {text}" for name, text in shown) + "}").encode()


def _members(text: str) -> dict[str, str]:
    """The members of a JSON object, each value as it is spelt."""
    try:
        raw = msgspec.json.decode(text, type=dict[str, msgspec.Raw])
    except msgspec.DecodeError:  # NaN, or half a character: JSON to Python alone
        return {name: spell(value, text) for name, value in json.loads(text).items()}
    return {name: bytes(value).decode() for name, value in raw.items()}


def _is_kept(name: str, value: Any, labels: Labels, texts: frozenset[str]) -> bool:
    rows = labels.read({"json": {name: value}}).rows
    return all(row["text"] in texts for row in rows if _is_row(row))


def _thinned_view(text: str, gone: Collection[str]) -> bytes:
    """Our own nested view of an image without the rejected rows; a region without words goes."""
    view = json.loads(text)
    regions = [
        {**region, "texts": [said for said in region["texts"] if said["annotation_id"] not in gone]}
        for region in view["regions"]
    ]
    left = {
        **view,
        "texts": [said for said in view["texts"] if said["annotation_id"] not in gone],
        "regions": [
            new
            for new, old in zip(regions, view["regions"], strict=True)
            if new["texts"] or not old["texts"]
        ],
        "grounding": [said for said in view["grounding"] if said["annotation_id"] not in gone],
    }
    return spell(left, text, compact=True).encode()
