"""Pictures and tables of what a dataset says about its images."""

import io
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageOps
from rich.console import RenderableType

from engine.draw import contact_sheet, draw_image
from engine.errors import ConfigError
from engine.inspect import format_rows
from engine.reading import OneImage, read_image, read_pixels, read_tables
from engine.source.shapes import Location


def print_one(output: Location, version: str, name: str) -> RenderableType:
    """The rows of one image, kept first; see `read_image` for `name` and errors."""
    found = read_image(output, version, name)
    return format_rows(found.image.to_pylist()[0], found.annotations)


def draw_one(
    output: Location, version: str, name: str, path: Path, *, rejected: bool = True
) -> None:
    """Writes a PNG of one image with its rows.

    Raises:
        ConfigError: No such image, or the dataset holds no pixels of it.
    """
    found = read_image(output, version, name)
    _save(_picture(found, rejected=rejected), path)


def draw_sheet(
    output: Location, version: str, path: Path, *, num_images: int, rejected: bool = True
) -> None:
    """Writes a PNG with the first images of a dataset, each with its rows.

    Raises:
        ConfigError: The dataset holds no pixels yet.
    """
    pictures: list[Image.Image] = []
    for shard, images, annotations in read_tables(output, version):
        ok = images.filter(pc.equal(images["status"], "ok")).slice(0, num_images - len(pictures))
        pixels = read_pixels(output, version, shard, ok["image_key"].to_pylist())
        for row in range(ok.num_rows):
            image = ok.slice(row, 1)
            key = image["image_key"][0].as_py()
            rows = annotations.filter(pc.equal(annotations["image_key"], key))
            one = OneImage(image, rows, pixels.get(key))
            pictures.append(_picture(one, rejected=rejected))
        if len(pictures) >= num_images:
            break
    if not pictures:
        raise ConfigError(f"{output.uri}: no image with pixels to draw")
    _save(contact_sheet(pictures), path)


def draw_change(output: Location, before: str, after: str, path: Path, *, num_images: int) -> None:
    """Writes a PNG with the first images whose kept rows differ between two label versions.

    Each stands there twice, as it was and as it is.

    Raises:
        ConfigError: The dataset holds no pixels, or no image differs.
    """
    pictures: list[Image.Image] = []
    older = read_tables(output, before)
    for (shard, images, was), (_, _, now) in zip(older, read_tables(output, after), strict=True):
        changed = _changed(was, now)
        chosen = images.filter(pc.is_in(images["image_key"], changed))
        chosen = chosen.slice(0, num_images - len(pictures) // 2)
        pixels = read_pixels(output, after, shard, chosen["image_key"].to_pylist())
        for row in range(chosen.num_rows):
            image = chosen.slice(row, 1)
            key = image["image_key"][0].as_py()
            for rows, word in ((was, "before"), (now, "after")):
                mine = rows.filter(pc.equal(rows["image_key"], key))
                one = OneImage(image, mine, pixels.get(key))
                pictures.append(_picture(one, rejected=False, word=f"{word}: "))
        if len(pictures) >= 2 * num_images:
            break
    if not pictures:
        raise ConfigError(f"{output.uri}: no kept row differs between {before} and {after}")
    _save(contact_sheet(pictures, columns=4, column_width=400), path)


def _changed(was: pa.Table, now: pa.Table) -> pa.Array:
    """Keys of the images of which a row is kept in one of the tables alone."""
    ids = []
    for rows in (was, now):
        kept = rows.filter(pc.equal(rows["status"].cast(pa.string()), "kept"))
        ids.append(kept.select(["annotation_id", "image_key"]))
    alone = [
        mine["image_key"].filter(
            pc.invert(pc.is_in(mine["annotation_id"], others["annotation_id"].combine_chunks()))
        )
        for mine, others in (ids, ids[::-1])
    ]
    return pa.chunked_array([*alone[0].chunks, *alone[1].chunks], pa.string()).unique()


def _picture(one: OneImage, *, rejected: bool, word: str = "") -> Image.Image:
    image = one.image.to_pylist()[0]
    if one.data is None:
        raise ConfigError(
            f"image {image['image_key']!r}: status {image['status']}, "
            "the dataset holds no pixels of it"
        )
    rows = one.annotations
    if not rejected:
        rows = rows.filter(pc.equal(rows["status"].cast(pa.string()), "kept"))
    return draw_image(_upright(one.data), rows, title=word + image["uri"])


def _upright(data: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def _save(picture: Image.Image, path: Path) -> None:
    try:
        picture.save(path, format="PNG")
    except OSError as err:
        raise ConfigError(f"{path}: cannot be written: {err.strerror or err}") from err
