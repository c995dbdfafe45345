"""Images for the tests of specialists: photos from disk, and drawn ones."""

import io
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

from engine.pixels import EncodedImage


def photo(path: Path) -> EncodedImage:
    """A file as the engine hands it to a specialist."""
    return encoded(path.stem, path.read_bytes())


def encoded(image_key: str, data: bytes) -> EncodedImage:
    with Image.open(io.BytesIO(data)) as picture:
        width, height = ImageOps.exif_transpose(picture).size
    return EncodedImage(image_key, memoryview(data), width, height)


def noise(image_key: str, width: int, height: int, seed: int = 0) -> EncodedImage:
    """A PNG of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return encoded(image_key, stream.getvalue())
