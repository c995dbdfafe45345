"""The photos of the gallery: small pictures, and the rows that are shown with each."""

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import groupby
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from engine.ancestry import read_pixels
from engine.errors import ShardError
from engine.pixels import DecodeError, EncodedImage
from engine.report.counts import read_batches
from engine.report.second import Stratum
from engine.sink import ShardFiles
from engine.source.shapes import Location, ReadError

SIDE = 480  # px, the longer one
_QUALITY = 78  # of JPEG: some 40 KB a photo
ROWS_SHOWN = 40  # of each status: a page is for looking at, `fld inspect` tells the rest
_STATUSES = ("rejected", "kept")
_CLAIM = ("annotation_id", "kind", "role", "text", "box", "score", "text_score", "source", "human")
_COLUMNS = (*_CLAIM, "status", "rule", "measured", "limit", "against")


@dataclass(frozen=True)
class Photo:
    """One image of the gallery.

    Attributes:
        image: Its row of the images table.
        stratum: What it was taken for.
        rows: The rows shown, by status; those of the rule or source it was taken for
            come first.
        totals: How many rows it has, by status.
        picture: A small JPEG as data URI; null where there are no pixels to be had.
        scale: Picture px per px of the upright image.
        size: Of the picture, px.
        against: Source and text of the rows that won, by id.
    """

    image: Mapping[str, Any]
    stratum: Stratum
    rows: Mapping[str, Sequence[Mapping[str, Any]]]
    totals: Mapping[str, int]
    picture: str | None
    scale: float
    size: tuple[int, int]
    against: Mapping[str, str]


def read_photos(
    output: Location, versions: Sequence[str], taken: Sequence[tuple[int, str, Stratum]]
) -> list[Photo]:
    """The photos, in the order in which they were taken.

    Args:
        output: The dataset's.
        versions: The one reported on, then those it came from; see `engine.ancestry`.
        taken: Shard, image key and stratum of each.
    """
    photos: dict[str, Photo] = {}
    by_shard = sorted(taken, key=lambda entry: entry[0])
    for shard, group in groupby(by_shard, key=lambda entry: entry[0]):
        strata = {key: stratum for _, key, stratum in group}
        photos |= _read_shard(output, versions, shard, strata)
    return [photos[key] for _, key, _ in taken if key in photos]


def _read_shard(
    output: Location, versions: Sequence[str], shard: int, strata: Mapping[str, Stratum]
) -> dict[str, Photo]:
    files, wanted = ShardFiles(shard), pa.array(strata, pa.string())
    images, rows = (
        _chosen(output, f"{versions[0]}/{name}", wanted, columns)
        for name, columns in ((files.images, None), (files.annotations, ("image_key", *_COLUMNS)))
    )
    pixels = _pixels(output, versions, shard, strata)
    photos = {}
    for image in images.to_pylist():
        key = image["image_key"]
        own = rows.filter(pc.equal(rows["image_key"], key))
        photos[key] = _photo(image, own, strata[key], pixels.get(key))
    return photos


def _chosen(output: Location, path: str, keys: pa.Array, columns: Sequence[str] | None) -> pa.Table:
    found = [
        table.filter(pc.is_in(table["image_key"], keys))
        for table in read_batches(output, path, columns)
    ]
    return pa.concat_tables(found).unify_dictionaries()


def _pixels(
    output: Location, versions: Sequence[str], shard: int, keys: Mapping[str, Any]
) -> dict[str, bytes]:
    try:
        return dict(read_pixels(output, versions, shard, keys))
    except (ShardError, ReadError):
        return {}  # a report on what is left says so at the photo


def _photo(image: Mapping[str, Any], rows: pa.Table, stratum: Stratum, data: bytes | None) -> Photo:
    status = rows["status"].cast(pa.string())
    totals = {str(e["values"]): e["counts"].as_py() for e in pc.value_counts(status)}
    shown, against = {}, {}
    for name in _STATUSES:
        own = rows.filter(pc.equal(status, name))
        column = "source" if stratum.what == "source" else "rule"
        first = pc.fill_null(pc.equal(own[column].cast(pa.string()), stratum.name), False)
        own = pa.concat_tables([own.filter(first), own.filter(pc.invert(first))])
        shown[name] = own[:ROWS_SHOWN].to_pylist()
    winners = pa.array([row["against"] for row in shown["rejected"]], pa.string())
    for row in rows.filter(pc.is_in(rows["annotation_id"], winners)).to_pylist():
        against[row["annotation_id"]] = f"{row['source']}: {row['text'] or row['role']}"
    picture = _small(image, data) if data is not None else None
    if picture is None:
        return Photo(image, stratum, shown, totals, None, 1.0, (0, 0), against)
    buffer = io.BytesIO()
    picture.save(buffer, "JPEG", quality=_QUALITY)
    uri = "data:image/jpeg;base64," + base64.b64encode(buffer.getvalue()).decode()
    scale = picture.width / max(image["width"] or picture.width, 1)
    return Photo(image, stratum, shown, totals, uri, scale, picture.size, against)


def _small(image: Mapping[str, Any], data: bytes) -> Image.Image | None:
    encoded = EncodedImage(image["image_key"], memoryview(data), 0, 0)
    try:
        picture = Image.fromarray(encoded.rgb(min_side=SIDE))
    except DecodeError:
        return None
    factor = SIDE / max(picture.size)  # small ones are enlarged, so that words fit on them
    width, height = (max(1, round(side * factor)) for side in picture.size)
    return picture.resize((width, height), Image.Resampling.LANCZOS)
