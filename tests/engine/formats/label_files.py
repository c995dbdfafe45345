"""Label sets read whole, written back, and made from rows: what tests of formats share."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import pyarrow as pa

from engine.config import LimitsConfig
from engine.formats.shapes import Header, LabelSet, Part, Place, ReadOptions
from engine.merge import check_rows, identify
from engine.schema import CLAIM, IMAGES, claims, image_rows
from engine.source.filesystem import open_location


def place_of(path: Path) -> Place:
    """A file, or all of a folder."""
    if path.is_dir():
        return Place(open_location(str(path)))
    return Place(open_location(str(path.parent)), path.name)


class Told(NamedTuple):
    """A label set read to its end."""

    header: Header
    parts: list[Part]

    @property
    def images(self) -> list[dict]:
        return [row for part in self.parts for row in part.images.to_pylist()]

    @property
    def rows(self) -> list[dict]:
        """With the uri of their image."""
        found = []
        for part in self.parts:
            uris = dict(
                zip(
                    part.images["image_key"].to_pylist(),
                    part.images["uri"].to_pylist(),
                    strict=True,
                )
            )
            found += [{**row, "uri": uris[row["image_key"]]} for row in part.rows.to_pylist()]
        return found

    @property
    def failures(self) -> list[tuple[str, str, str]]:
        """Uri, cause and message."""
        return [
            (image["uri"], failure["cause"], failure["message"])
            for image in self.images
            for failure in image["failures"] or ()
        ]


def read(kind, path: Path, *, images: Path | None = None, **options) -> Told:
    """All of a set, every part checked as whoever asks for it would."""
    if images is not None:
        options["images"] = open_location(str(images))
    labels = kind.read(place_of(path), ReadOptions(**options))
    parts = []
    for part in labels.parts:
        assert part.images.schema == IMAGES
        assert part.rows.schema == CLAIM
        keys = part.images["image_key"].to_pylist()
        assert keys == [str(n) for n in range(len(keys))]
        check_rows(part.rows, keys)
        identify(part.rows, source="labels", model=None, revision=None)
        parts.append(part)
    return Told(labels.header, parts)


def write(kind, path: Path, told: Told, keep: Callable[[dict], bool] = lambda _: True) -> list[str]:
    """Writes the rows that `keep` holds true, and all images, with final ids; gives the notes."""
    parts = []
    for part in told.parts:
        mask = pa.array([keep(row) for row in part.rows.to_pylist()], pa.bool_())
        rows = identify(part.rows, source="labels", model=None, revision=None)
        parts.append(Part(part.images, rows.filter(mask)))
    place = Place(open_location(str(path.parent)), path.name)
    if kind.is_folder:
        place = Place(open_location(str(path)))
    return kind.write(place, LabelSet(told.header, iter(parts)))


def foreign(images: list[dict], rows: list[dict]) -> Told:
    """A set that came from elsewhere: no records of any format; rows name images by uri."""
    keys = {image["uri"]: str(n) for n, image in enumerate(images)}
    shown = [{"status": "ok", **image, "image_key": keys[image["uri"]]} for image in images]
    placed = [
        {"human": False, "ignore": False, **row, "image_key": keys[row["uri"]]} for row in rows
    ]
    for row in placed:
        del row["uri"]
    return Told(Header("other"), [Part(image_rows(**_columns(shown)), claims(**_columns(placed)))])


def _columns(records: list[dict]) -> dict[str, list]:
    names = dict.fromkeys(name for record in records for name in record)
    return {name: [record.get(name) for record in records] for name in names}


def small_limits(max_label_bytes: int) -> LimitsConfig:
    """The usual limits but one."""
    return LimitsConfig(max_label_bytes=max_label_bytes)


def as_other(told: Told) -> Told:
    """The same rows and images, as if another format had given them."""
    return Told(replace(told.header, kind="other", content={}), told.parts)
