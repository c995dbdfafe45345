"""The column `objects` of Hugging Face detection datasets: boxes and their categories as rows."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from engine.errors import ConfigError
from engine.source.labels import LabelError

OBJECTS = "objects"
FORMATS = ("xywh", "xyxy")

_BOXES = ("bbox", "boxes", "bboxes", "box")
_CATEGORIES = ("category", "categories", "category_name", "label", "labels", "category_id")
_IDS = ("id", "ids", "bbox_id", "bbox_ids")
_CORNERS = 4


def check_format(boxes: str | None) -> None:
    """Refuses what is no format of boxes.

    Raises:
        ConfigError: It is neither null nor one of FORMATS.
    """
    if boxes is not None and boxes not in FORMATS:
        raise ConfigError(f"source.boxes is {boxes!r}; allowed: {', '.join(FORMATS)}")


def category_names(schema: pa.Schema) -> Sequence[str]:
    """Names of the categories of the objects, as Hugging Face keeps them; none where it does not.

    Versions nest them differently, so they are looked for.
    """
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        feature = told["info"]["features"][OBJECTS]
    except (ValueError, LookupError, TypeError, RecursionError):
        return ()
    return _names_in(feature, 0)


def regions_of(objects: Any, boxes: str, names: Sequence[str]) -> list[dict[str, Any]]:
    """A row per object: a region of role `category`, its box xyxy.

    Args:
        objects: Lists by name (`bbox`, `category`, `id`), or a list of such objects, or null.
        boxes: How four numbers make a box, one of FORMATS; pixels of the upright image.
        names: Of numbered categories; a number without a name stays as it is when there are none.

    Raises:
        LabelError: `bad_labels` for another shape; an object is never taken without the others.

    Example:
        >>> regions_of({"bbox": [[1, 2, 3, 4]], "category": [0]}, "xywh", ["cat"])[0]["box"]
        [1, 2, 4, 6]
    """
    if not objects:
        return []
    columns = _columns(objects)
    found, categories = _first(columns, _BOXES), _first(columns, _CATEGORIES)
    if found is None or categories is None:
        raise LabelError("bad_labels", f"objects of {', '.join(columns)}; wanted bbox and category")
    ids = _first(columns, _IDS) or [None] * len(found)
    if not len(found) == len(categories) == len(ids):
        counts = f"{len(found)} boxes, {len(categories)} categories, {len(ids)} ids"
        raise LabelError("bad_labels", f"objects: {counts}")
    return [
        {
            "kind": "region",
            "role": "category",
            "text": _category(category, names),
            "box": _xyxy(box, boxes),
            "prompt": OBJECTS,
            "source_id": None if own is None else str(own),
        }
        for box, category, own in zip(found, categories, ids, strict=True)
    ]


def _names_in(feature: Any, depth: int) -> Sequence[str]:
    """The names of the only ClassLabel within a feature; none where there are several."""
    if depth > len(_CATEGORIES):  # no version of the library nests that deep
        return ()
    if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        names = feature.get("names")
        is_list = isinstance(names, list) and all(isinstance(name, str) for name in names)
        return names if is_list and names is not None else ()
    inner = feature.values() if isinstance(feature, dict) else feature
    if not isinstance(feature, (dict, list)):
        return ()
    found = [names for item in inner if (names := _names_in(item, depth + 1))]
    return found[0] if len(found) == 1 else ()


def _columns(objects: Any) -> Mapping[str, Any]:
    if isinstance(objects, list) and all(isinstance(item, dict) for item in objects):
        return {name: [item.get(name) for item in objects] for name in objects[0]}
    if isinstance(objects, dict):
        return {name: value or [] for name, value in objects.items()}
    raise LabelError("bad_labels", f"objects holds {type(objects).__name__}")


def _first(columns: Mapping[str, Any], names: Sequence[str]) -> list[Any] | None:
    value = next((columns[name] for name in names if name in columns), None)
    return value if isinstance(value, list) else None


def _category(category: Any, names: Sequence[str]) -> str:
    if isinstance(category, str) and category.strip():
        return category
    if isinstance(category, bool) or not isinstance(category, int):
        raise LabelError("bad_labels", f"objects: a category is {category!r}"[:80])
    if not names:
        return str(category)
    if not 0 <= category < len(names):
        raise LabelError("bad_labels", f"objects: category {category}; {len(names)} known")
    return names[category]


def _xyxy(box: Any, boxes: str) -> list[float]:
    if (
        not isinstance(box, list)
        or len(box) != _CORNERS
        or not all(isinstance(value, (int, float)) and math.isfinite(value) for value in box)
    ):
        raise LabelError("bad_labels", f"objects: a box is {box!r}"[:80])
    x, y, right, bottom = box
    return [x, y, x + right, y + bottom] if boxes == "xywh" else box
