"""The nested per-image view of kept rows, made only at the edge: what KEY.json in a tar holds."""

import json
from collections.abc import Iterator
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

# Columns of a row that its nested form shows, where they are not null.
_COMMON = ("annotation_id", "role", "text", "text_score", "source", "model", "revision", "prompt")
_PLACE = ("box", "polygon", "score")
_IMAGE = ("image_key", "uri", "width", "height", "sha256", "format", "orientation", "licence")


def nested_views(images: pa.Table, annotations: pa.Table) -> Iterator[dict[str, Any]]:
    """One dictionary per `ok` image, in order: image, texts, regions with their texts, grounding.

    Args:
        images: Rows of the images table; those that are not `ok` give nothing.
        annotations: Rows with verdicts; those not kept are left out.
    """
    kept = annotations.filter(pc.equal(annotations["status"].cast(pa.string()), "kept"))
    by_image: dict[str, list[dict[str, Any]]] = {}
    for row in kept.to_pylist():
        by_image.setdefault(row["image_key"], []).append(row)
    for image in images.filter(pc.equal(images["status"], "ok")).to_pylist():
        yield _nest(image, by_image.get(image["image_key"], []))


def to_json(view: dict[str, Any]) -> bytes:
    """The view as compact UTF-8 JSON, the same bytes for the same view."""
    return json.dumps(view, ensure_ascii=False, separators=(",", ":")).encode()


def _nest(image: dict[str, Any], rows: list[dict[str, Any]]) -> dict[str, Any]:
    texts = [_pick(row, _COMMON) for row in rows if row["kind"] == "text"]
    groundings = [
        {
            "text_id": row["text_id"],
            "span": [row["span_start"], row["span_end"]],
            **_pick(row, _PLACE),
            **_pick(row, _COMMON),
        }
        for row in rows
        if row["kind"] == "grounding"
    ]
    return {
        "image": _pick(image, _IMAGE),
        "texts": texts,
        "regions": _regions(row for row in rows if row["kind"] == "region"),
        "grounding": groundings,
    }


def _regions(rows: Iterator[dict[str, Any]]) -> list[dict[str, Any]]:
    regions: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        regions.setdefault(row["region_id"], []).append(row)
    return [_region(name, told) for name, told in regions.items()]


def _region(region_id: str, rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Where the first row of a region says it is, the first outline there is, each text once.

    A mask is a later row that repeats the text: its score is not the region's.
    """
    outlines = [row["polygon"] for row in rows if row["polygon"] is not None]
    place = {**rows[0], "polygon": outlines[0] if outlines else None}
    texts: dict[tuple[str, str | None], dict[str, Any]] = {}
    for row in rows:
        texts.setdefault((row["role"], row["text"]), _pick(row, _COMMON))
    return {"region_id": region_id, **_pick(place, _PLACE), "texts": list(texts.values())}


def _pick(row: dict[str, Any], names: tuple[str, ...]) -> dict[str, Any]:
    return {name: _plain(row[name]) for name in names if row[name] is not None}


def _plain(value: Any) -> Any:
    # the shortest decimal that is the same float32: as float64 it would show digits never measured
    if isinstance(value, float):
        return float(str(np.float32(value)))
    if isinstance(value, list):
        return [_plain(v) for v in value]
    return value
