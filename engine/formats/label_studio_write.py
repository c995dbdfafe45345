"""Writing tasks for Label Studio."""

import tempfile
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from engine.formats.coco_boxes import as_decimals
from engine.formats.image_records import rows_by_image
from engine.formats.label_studio_rows import filled
from engine.formats.shapes import LabelSet, Place

_NAME = "label_studio"
_PERCENT = 100.0


def write_label_studio(place: Place, labels: LabelSet) -> list[str]:
    """Writes a set of labels as an array of tasks.

    Tasks that came from Label Studio are written as they were, without the rows that are gone. Of
    other rows those of a person become an annotation, those of each source a prediction named
    after it in `model_version`. The set-up of the project needs these control tags, all on the
    image tag `image` with the value `$image`: `label` (RectangleLabels) and `outline`
    (PolygonLabels) with the classes and, for regions that are no class, their roles; `text`
    (TextArea, perRegion), which holds what those say; `alt`, `brief`, `detailed` and
    `more_detailed` (TextArea) for captions.

    Returns:
        What could not be written, one sentence each.
    """
    lost: Counter[str] = Counter()
    is_own = labels.header.kind == _NAME
    with tempfile.NamedTemporaryFile() as out:
        separator = b"["
        for part in labels.parts:
            for image, rows in rows_by_image(part):
                is_told = is_own and image["extra"] is not None
                task = _told(image, rows, lost) if is_told else _task(image, rows, lost)
                out.write(separator + task)
                separator = b",\n"
        out.write(b"[]\n" if separator == b"[" else b"]\n")
        out.flush()
        with pa.memory_map(out.name) as mapped:
            place.location.write(place.path, mapped.read_buffer())
    return [f"{count} {what}" for what, count in lost.items()]


def _told(image: dict[str, Any], rows: list[dict[str, Any]], lost: Counter[str]) -> bytes:
    extras = [row["extra"] for row in rows if row["extra"] is not None]
    new = _answers(image, [row for row in rows if row["extra"] is None], lost)
    return filled(image["extra"], extras, new).encode()


def _task(image: dict[str, Any], rows: list[dict[str, Any]], lost: Counter[str]) -> bytes:
    task: dict[str, Any] = {
        "data": {"image": image["uri"]},
        "predictions": _answers(image, [row for row in rows if not row["human"]], lost),
    }
    human = _answers(image, [row for row in rows if row["human"]], lost)
    if human:
        task["annotations"] = [{"result": answer["result"]} for answer in human]
    return msgspec.json.encode(task)


def _answers(
    image: dict[str, Any], rows: list[dict[str, Any]], lost: Counter[str]
) -> list[dict[str, Any]]:
    """A prediction per source, in the order in which they are met."""
    answers: dict[str, dict[str, Any]] = {}
    for number, row in enumerate(rows):
        version = "/".join(row[name] for name in ("source", "model", "revision") if row[name])
        entries = _entries(image, row, row["annotation_id"] or f"row-{number}", lost)
        if entries:
            answer = answers.setdefault(version, {"model_version": version, "result": []})
            answer["result"] += entries
    return list(answers.values())


def _entries(
    image: dict[str, Any], row: dict[str, Any], name: str, lost: Counter[str]
) -> list[dict[str, Any]]:
    entry: dict[str, Any] = {"id": name, "to_name": "image"}
    if row["score"] is not None:
        entry["score"] = float(as_decimals(np.array([row["score"]], np.float32))[0])
    if row["kind"] == "text":
        value = {"text": [row["text"]]}
        return [{**entry, "type": "textarea", "from_name": row["role"], "value": value}]
    width, height = image["width"], image["height"]
    if not width or not height:
        lost["regions are left out: they are percents of a size, and the image has none"] += 1
        return []
    if row["box"] is None or not np.isfinite(row["box"]).all():
        lost["rows without a box of finite numbers are left out"] += 1
        return []
    role = row["role"]
    if row["kind"] == "grounding":
        lost["phrases are written as regions of their own, without their place in a text"] += 1
    entry |= {"original_width": width, "original_height": height, "image_rotation": 0}
    label = row["text"] if role == "category" else role
    shape = _shape(row, (width / _PERCENT, height / _PERCENT), lost)
    # Label Studio checks predictions against its set-up, where each shape has a tag of its own
    kind, tag = ("polygonlabels", "outline") if "points" in shape else ("rectanglelabels", "label")
    found = [{**entry, "type": kind, "from_name": tag, "value": {**shape, kind: [label]}}]
    if role != "category" and row["text"] is not None:
        value = {**shape, "text": [row["text"]]}
        found.append({**entry, "type": "textarea", "from_name": "text", "value": value})
    return found


def _shape(row: dict[str, Any], scale: tuple[float, float], lost: Counter[str]) -> dict[str, Any]:
    """Percents of width and height: the outline where it is one ring, else the box."""
    rings = row["polygon"] or []
    if len(rings) == 1:
        corners = as_decimals(np.array(rings[0], np.float32)).reshape(-1, 2) / scale
        return {"points": corners.tolist(), "closed": True}
    if rings:
        lost["outlines of several rings are written as their box"] += 1
    box = as_decimals(np.array(row["box"], np.float32)).reshape(2, 2) / scale
    (x, y), (width, height) = box[0].tolist(), (box[1] - box[0]).tolist()
    return {"x": x, "y": y, "width": width, "height": height, "rotation": 0}
