"""Pictures of sizes and turns that model libraries stumble over."""

import io

import numpy as np
import pyarrow as pa
from PIL import Image
from specialist_photos import encoded, noise

from engine.pixels import EncodedImage
from engine.worker import BATCH

SIZES = [(64, 48), (40, 64), (1, 1), (100, 30), (64, 48), (20, 90), (48, 64)]
PICTURES = [noise(f"image-{i}", *size, seed=i) for i, size in enumerate(SIZES)]
SLIVER = noise("sliver", 2, 3000, seed=9)


def turned(image_key: str, width: int, height: int, seed: int) -> EncodedImage:
    """The pixels of `noise` of that size and seed, stored lying on their side with a mark of it."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    lying = Image.fromarray(pixels).transpose(Image.Transpose.ROTATE_90)
    exif = Image.Exif()
    exif[0x0112] = 6  # to be shown turned back
    stream = io.BytesIO()
    lying.save(stream, "PNG", exif=exif)
    picture = encoded(image_key, stream.getvalue())
    assert np.array_equal(picture.rgb(), pixels)
    return picture


def batch_of(pictures: list[EncodedImage]) -> pa.Table:
    """As a worker gets them."""
    return pa.table(
        {
            "image_key": [picture.image_key for picture in pictures],
            "width": [picture.width for picture in pictures],
            "height": [picture.height for picture in pictures],
            "data": [bytes(picture.data) for picture in pictures],
        },
        schema=BATCH,
    )
