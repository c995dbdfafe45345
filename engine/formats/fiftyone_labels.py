"""Labels of FiftyOne samples as rows, and rows as labels."""

import json
from collections.abc import Collection, Iterator, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np

from engine.formats.parts import Losses, spell
from engine.geometry import rings_box
from engine.schema import ROLES
from engine.source.labels import LabelError

# Class of a list of labels: the member that holds them.
LISTS = {
    "Detections": "detections",
    "Polylines": "polylines",
    "Classifications": "classifications",
}
_SINGLE = ("Detection", "Polyline", "Classification")
# Attributes by which our own labels tell which rows they were.
_ATTRIBUTES = ("role", "source", "model", "annotation_id", "region_id", "source_id")
_SPAN = ("text_id", "span_start", "span_end")


def labels_in(sample: Mapping[str, Any]) -> Iterator[tuple[str, int, Mapping[str, Any]]]:
    """Every label of a sample that can be a row: its field, its place in it, itself."""
    for field, value in sample.items():
        if not isinstance(value, dict):
            continue
        kind = value.get("_cls")
        if kind in _SINGLE:
            yield field, 0, value
        elif kind in LISTS and isinstance(value.get(LISTS[kind]), list):
            for index, label in enumerate(value[LISTS[kind]]):
                yield field, index, label if isinstance(label, dict) else {}


def outlines_in(sample: Mapping[str, Any]) -> dict[tuple[str, int], tuple[str, int]]:
    """Polylines that are the outline of a detection, with that detection; both by their place.

    Ours bear the id of the detection.
    """
    found = [(field, index, label) for field, index, label in labels_in(sample)]
    detections = {
        label["annotation_id"]: (field, index)
        for field, index, label in found
        if label.get("_cls") == "Detection" and isinstance(label.get("annotation_id"), str)
    }
    return {
        (field, index): detections[label["annotation_id"]]
        for field, index, label in found
        if label.get("_cls") == "Polyline"
        and isinstance(label.get("annotation_id"), str)
        and label["annotation_id"] in detections
    }


def row_of(label: Mapping[str, Any], size_wh: tuple[int, int] | None) -> dict[str, Any] | None:
    """The claim a label makes; null where it needs a size nothing tells.

    A label of ours is the row it was; of others a detection or polyline is a region with a class, a
    classification a text about the whole image.

    Raises:
        LabelError: No text, or numbers that are none.
    """
    kind, text = label.get("_cls"), label.get("label")
    if not isinstance(text, str) or any("\ud800" <= char <= "\udfff" for char in text):
        raise LabelError("bad_labels", f"label is {type(text).__name__}, wanted a text")
    score = _finite(label.get("confidence"))
    row: dict[str, Any] = {"text": text, "ignore": bool(label.get("iscrowd"))}
    row["source_id"] = _identity(label)
    names = {name: label.get(name) for name in ("annotation_id", "region_id")}
    row |= {name: value for name, value in names.items() if isinstance(value, str)}
    if kind == "Classification":
        return {**row, "kind": "text", "role": _role(label, "text", "alt"), "text_score": score}
    if size_wh is None:
        return None
    row |= {"score": score, **_place(label, size_wh)}
    if isinstance(label.get("text_id"), str):
        told = {name: label.get(name) for name in _SPAN}
        if not all(isinstance(told[name], int) for name in _SPAN[1:]):
            raise LabelError("bad_labels", "its span is no pair of numbers")
        return {**row, **told, "kind": "grounding", "role": "phrase"}
    return {**row, "kind": "region", "role": _role(label, "region", "category")}


def _identity(label: Mapping[str, Any]) -> str | None:
    identity = label.get("_id")
    found = identity.get("$oid") if isinstance(identity, dict) else label.get("annotation_id")
    return found if isinstance(found, str) else None


def _role(label: Mapping[str, Any], kind: str, usual: str) -> str:
    role = label.get("role")
    return role if role in ROLES[kind] else usual


def _finite(value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not isfinite(value):
        raise LabelError("bad_labels", f"confidence is {str(value)[:40]}, wanted a finite number")
    return float(value)


def _place(label: Mapping[str, Any], size_wh: tuple[int, int]) -> dict[str, Any]:
    if label["_cls"] == "Polyline":
        rings = label.get("points")
        if not isinstance(rings, list):
            raise LabelError("bad_labels", "points is no list of rings")
        scaled = [(_numbers(ring) * np.array(size_wh)).reshape(-1) for ring in rings]
        if not scaled or any(len(ring) < 2 for ring in scaled):  # noqa: PLR2004 (x and y)
            raise LabelError("bad_labels", "points has a ring without a corner")
        if not all(np.isfinite(ring).all() for ring in scaled):
            raise LabelError("bad_labels", "points has a number that is not finite")
        polygon = [ring.tolist() for ring in scaled]
        return {"polygon": polygon, "box": rings_box(polygon)}
    x, y, width, height = _numbers([label.get("bounding_box")], 4)[0].tolist()
    sides = np.array([x, y, x + width, y + height]) * np.tile(size_wh, 2)
    return {"box": sides.tolist()}


def _numbers(values: Any, count: int = 2) -> Any:
    try:
        numbers = np.array(values, np.float64)
    except (ValueError, TypeError, OverflowError) as err:
        raise LabelError("bad_labels", f"coordinates that are no numbers: {err}") from err
    if numbers.ndim != 2 or numbers.shape[1] != count:  # noqa: PLR2004 (rows of coordinates)
        raise LabelError("bad_labels", f"coordinates that do not come {count} at a time")
    return numbers


def without_labels(text: str, kept: Mapping[str, Collection[int]]) -> str:
    """The sample of that JSON with the kept labels alone; those that made no row stay too.

    `kept` has the places of the labels in each field.
    """
    sample = json.loads(text)
    if not isinstance(sample, dict):
        return text
    gone: dict[str, set[int]] = {}
    outlines = outlines_in(sample)
    for field, index, label in labels_in(sample):
        owner, place = outlines.get((field, index), (field, index))
        if place not in kept.get(owner, ()) and _makes_row(label):
            gone.setdefault(field, set()).add(index)
    if not gone:
        return text
    for field, places in gone.items():
        value = sample[field]
        if value["_cls"] in _SINGLE:
            sample[field] = None
            continue
        name = LISTS[value["_cls"]]
        value[name] = [label for i, label in enumerate(value[name]) if i not in places]
    return spell(sample, text)


def _makes_row(label: Mapping[str, Any]) -> bool:
    try:
        return row_of(label, (1, 1)) is not None
    except LabelError:
        return False


def sample_of(
    image: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], losses: Losses
) -> dict[str, Any]:
    """A sample made from the columns of an image and its rows."""
    size = (image["width"], image["height"])
    sample: dict[str, Any] = {"filepath": image["uri"], "tags": []}
    if all(size):
        sample["metadata"] = {"_cls": "ImageMetadata", "width": size[0], "height": size[1]}
    fields: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        if row["kind"] == "text":
            label = {**_attributes(row, "Classification"), "confidence": row["text_score"]}
            fields.setdefault("captions", []).append(label)
        elif row["box"] is None or not all(size) or not all(map(isfinite, row["box"])):
            losses.note("boxes that are no numbers, or on images of unknown size")
        else:
            _add_placed(row, size, fields)
            if row["text_score"] is not None:
                losses.note("scores of texts of regions: a detection has one confidence")
    classes = {"captions": "Classifications", "polylines": "Polylines"}
    for name, labels in fields.items():
        kind = classes.get(name, "Detections")
        sample[name] = {"_cls": kind, LISTS[kind]: labels}
    return sample


def _add_placed(
    row: Mapping[str, Any], size: tuple[int, int], fields: dict[str, list[dict[str, Any]]]
) -> None:
    """A box as a detection; its outline as a polyline of the same id beside it."""
    label = {**_attributes(row, "Detection"), "confidence": row["score"]}
    if row["ignore"]:
        label["iscrowd"] = 1
    if row["kind"] == "grounding":
        label |= {name: row[name] for name in _SPAN}
    x_min, y_min, x_max, y_max = row["box"]
    width, height = size
    if row["polygon"]:
        points = [
            [[x / width, y / height] for x, y in zip(ring[::2], ring[1::2], strict=True)]
            for ring in row["polygon"]
        ]
        outline = {**label, "_cls": "Polyline", "points": points, "closed": True, "filled": True}
        fields.setdefault("polylines", []).append(outline)
    label["bounding_box"] = [
        x_min / width,
        y_min / height,
        (x_max - x_min) / width,
        (y_max - y_min) / height,
    ]
    name = "grounding" if row["kind"] == "grounding" else "detections"
    fields.setdefault(name, []).append(label)


def _attributes(row: Mapping[str, Any], kind: str) -> dict[str, Any]:
    told = {name: row[name] for name in _ATTRIBUTES if row[name] is not None}
    # a proposal has no class; a label without a text is shown as such
    return {"_cls": kind, "label": row["text"] or row["role"], "tags": [], **told}
