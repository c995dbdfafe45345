"""Folders of label files for tests: written from a mapping, read by a format, written again."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pyarrow as pa
from PIL import Image

from engine.formats.shapes import Format, Header, LabelSet, Part, Place, ReadOptions
from engine.merge import check_rows
from engine.source.filesystem import open_location


def place(path: Path) -> Place:
    """A folder, or one file of it."""
    if path.is_file():
        return Place(open_location(str(path.parent)), path.name)
    return Place(open_location(str(path)))


def fill(folder: Path, files: Mapping[str, bytes | str]) -> Path:
    """The folder with those files in it."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return folder


def content(folder: Path, *, endings: tuple[str, ...] = ()) -> dict[str, bytes]:
    """Every file below a folder by its path; only those of some endings where any are given."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and (not endings or path.suffix in endings)
    }


def picture(path: Path, width: int, height: int) -> None:
    """A blank picture of that size, px."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("L", (width, height)).save(path)


def read(kind: Format, path: Path, **options: object) -> tuple[Header, pa.Table, pa.Table]:
    """Header, images and rows of a set, every part checked; keys made unique over the parts."""
    labels = kind.read(place(path), ReadOptions(**options))
    parts = []
    for number, part in enumerate(labels.parts):
        keys = part.images["image_key"].to_pylist()
        assert keys == [str(n) for n in range(len(keys))]
        check_rows(part.rows, keys)
        parts.append(Part(*(_renamed(table, number) for table in part)))
    if not parts:
        return labels.header, pa.table({}), pa.table({})
    images, rows = (pa.concat_tables(tables) for tables in zip(*parts, strict=True))
    return labels.header, images, rows


def _renamed(table: pa.Table, number: int) -> pa.Table:
    keys = [f"{number}-{key}" for key in table["image_key"].to_pylist()]
    return table.set_column(0, "image_key", pa.array(keys, pa.string()))


def copy(kind: Format, source: Path, target: Path, keep=None, **options: object) -> list[str]:
    """Reads a set and writes it again; `keep` chooses rows by a mask of the table. The notes."""
    labels = kind.read(place(source), ReadOptions(**options))
    parts = (
        part if keep is None else Part(part.images, part.rows.filter(pa.array(keep(part.rows))))
        for part in labels.parts
    )
    return kind.write(_target(kind, target), LabelSet(labels.header, parts))


def export(kind: Format, target: Path, images: pa.Table, rows: pa.Table) -> list[str]:
    """Writes tables of another origin. The notes."""
    labels = LabelSet(Header("dataset"), iter([Part(images, rows)]))
    return kind.write(_target(kind, target), labels)


def _target(kind: Format, target: Path) -> Place:
    if kind.is_folder:
        target.mkdir(parents=True, exist_ok=True)
        return Place(open_location(str(target)))
    target.parent.mkdir(parents=True, exist_ok=True)
    return Place(open_location(str(target.parent)), target.name)


def failures(images: pa.Table) -> list[tuple[str, str]]:
    """Cause and message of every failure, in the order of the images."""
    found = [failure for of_one in images["failures"].to_pylist() for failure in of_one or []]
    assert {failure["stage"] for failure in found} <= {"labels"}
    return [(failure["cause"], failure["message"]) for failure in found]


def nothing(rows: pa.Table) -> list[bool]:
    """A choice of rows: none."""
    return [False] * rows.num_rows


def boxes(rows: pa.Table) -> list[list[float] | None]:
    """Boxes rounded to a thousandth of a pixel."""
    return [
        None if box is None else [round(float(np.float64(side)), 3) for side in box]
        for box in rows["box"].to_pylist()
    ]
