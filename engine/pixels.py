"""Encoded images: what they are, whether they decode, and their pixels turned upright."""

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage
from PIL import ImageOps


@dataclass(frozen=True)
class EncodedImage:
    """One image that is known to decode: its bytes, unchanged, and its upright size in pixels."""

    image_key: str
    data: memoryview
    width: int
    height: int

    def rgb(self, min_side: int | None = None) -> npt.NDArray[np.uint8]:
        """Upright pixels, shape (height, width, 3); see `engine.protocols.Image`."""
        with PillowImage.open(io.BytesIO(self.data)) as picture:
            if min_side is not None:
                picture.draft("RGB", (min_side, min_side))
            upright = ImageOps.exif_transpose(picture)
            return np.asarray(upright.convert("RGB"))
