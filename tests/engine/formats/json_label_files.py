"""Small label files on disk, and what a format makes of them."""

import json
from pathlib import Path
from typing import Any

from engine.formats.shapes import Format, LabelSet, Part, Place, ReadOptions
from engine.merge import check_rows
from engine.source.local import LocalFolder


def place_of(path: Path) -> Place:
    return Place(LocalFolder(str(path.parent), str(path.parent)), path.name)


def saved(path: Path, content: Any) -> Place:
    """The file with this content: text, bytes, or data to be spelled as JSON."""
    if isinstance(content, bytes):
        path.write_bytes(content)
    else:
        text = content if isinstance(content, str) else json.dumps(content)
        path.write_text(text, encoding="utf-8")
    return place_of(path)


def read(kind: Format, place: Place, **options: Any) -> tuple[LabelSet, list[Part]]:
    """The set, its parts in a list, and every part checked as the engine checks it."""
    labels = kind.read(place, ReadOptions(**options))
    parts = list(labels.parts)
    for part in parts:
        check_rows(part.rows, part.images["image_key"].to_pylist())
    return LabelSet(labels.header, iter(parts)), parts


def column(parts: list[Part], name: str) -> list[Any]:
    """A column of the rows of all parts."""
    return [value for part in parts for value in part.rows[name].to_pylist()]


def image_column(parts: list[Part], name: str) -> list[Any]:
    return [value for part in parts for value in part.images[name].to_pylist()]


def causes(parts: list[Part]) -> list[list[str]]:
    """Causes of the failures of each image."""
    return [[f["cause"] for f in each or []] for each in image_column(parts, "failures")]


def round_trip(kind: Format, place: Place, out: Path, **options: Any) -> list[str]:
    """Reads a set and writes it to `out`; the notes of the writer."""
    labels, _ = read(kind, place, **options)
    return kind.write(place_of(out), labels)
