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


def _picture(one: OneImage, *, rejected: bool) -> Image.Image:
    image = one.image.to_pylist()[0]
    if one.data is None:
        raise ConfigError(
            f"image {image['image_key']!r}: status {image['status']}, "
            "the dataset holds no pixels of it"
        )
    rows = one.annotations
    if not rejected:
        rows = rows.filter(pc.equal(rows["status"].cast(pa.string()), "kept"))
    return draw_image(_upright(one.data), rows, title=image["uri"])


def _upright(data: bytes) -> npt.NDArray[np.uint8]:
    with Image.open(io.BytesIO(data)) as picture:
        return np.asarray(ImageOps.exif_transpose(picture).convert("RGB"))


def _save(picture: Image.Image, path: Path) -> None:
    try:
        picture.save(path, format="PNG")
    except OSError as err:
        raise ConfigError(f"{path}: cannot be written: {err.strerror or err}") from err
