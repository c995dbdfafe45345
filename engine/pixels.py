"""Encoded images: what they are, whether they decode, and their pixels turned upright.

Pixels are what a viewer shows: turned by the EXIF orientation, transparent parts on white, 16-bit
grey scaled to 8 bits (65535 is white), the first frame of an animation, CMYK as Adobe writes it.
"""

import io
import struct
import threading
import warnings
import zlib
from dataclasses import dataclass
from types import TracebackType
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)
from PIL import Image as PillowImage

from engine.sniff import foreign_cause, sniff
from engine.structure import (
    Structure,
    header_cause,
    is_raw_photo,
    orientation_of,
    read_structure,
)

THUMBNAIL_SIDE = (
    256  # px; libjpeg then shrinks a 640 px photo by 2 and a 12 Mpx one by 8 while decoding
)

# Opened as classes and not by Image.open, which tries every plugin and knows one pixel limit per
# process. The plain JPEG class also takes the first picture of a multi-picture file.
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "gif": GifImagePlugin.GifImageFile,
}
# What Pillow's Python and C parts raise on broken input; anything else is our own bug.
_PILLOW_ERRORS = (
    OSError,
    SyntaxError,
    ValueError,
    LookupError,
    EOFError,
    TypeError,
    AttributeError,
    ArithmeticError,
    RuntimeError,
    struct.error,
    zlib.error,
)
_SIXTEEN_BIT = ("I;16", "I;16L", "I;16B", "I;16N")
_EIGHT_BIT = ("1", "L", "LA", "La", "P", "PA", "RGB", "RGBA", "RGBa", "RGBX", "CMYK", "YCbCr")
_UNSUPPORTED = (
    "unsupported",
    "not supported",
    "cannot handle",
    "unknown pixel mode",
    "unknown data org",
)
_UNAVAILABLE = ("not available", "unrecognized image mode", "conversion")
_UPRIGHT = {
    2: PillowImage.Transpose.FLIP_LEFT_RIGHT,
    3: PillowImage.Transpose.ROTATE_180,
    4: PillowImage.Transpose.FLIP_TOP_BOTTOM,
    5: PillowImage.Transpose.TRANSPOSE,
    6: PillowImage.Transpose.ROTATE_270,
    7: PillowImage.Transpose.TRANSVERSE,
    8: PillowImage.Transpose.ROTATE_90,
}
_SIDEWAYS = 5  # orientations from here on swap width and height


class DecodeError(Exception):
    """Bytes that give no picture; `cause` is one of `engine.failures` for the stage `decode`."""

    def __init__(self, cause: str, message: object) -> None:
        super().__init__(str(message))
        self.cause = cause


class Probe(NamedTuple):
    """What one decode at reduced size tells of an image.

    `width` and `height` are upright pixels of the full picture; `orientation` is EXIF's, 1 to 8;
    `thumbnail` is grey, upright, its longer side at most THUMBNAIL_SIDE, never enlarged.
    """

    format: str
    width: int
    height: int
    orientation: int
    thumbnail: PillowImage.Image


class _Strictly:
    """Pillow without warnings and without its process-wide tolerance for truncated files.

    Both are global to the process, so they are changed while any thread decodes and put back when
    the last one leaves. Some model libraries set LOAD_TRUNCATED_IMAGES when imported; a verdict on
    an image must not depend on that.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._inside = 0
        self._tolerance = False
        self._catcher = warnings.catch_warnings()

    def __enter__(self) -> None:
        with self._lock:
            if self._inside == 0:
                self._catcher = warnings.catch_warnings()
                self._catcher.__enter__()
                warnings.simplefilter("ignore")
                self._tolerance = ImageFile.LOAD_TRUNCATED_IMAGES
                ImageFile.LOAD_TRUNCATED_IMAGES = False
            self._inside += 1

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        with self._lock:
            self._inside -= 1
            if self._inside == 0:
                ImageFile.LOAD_TRUNCATED_IMAGES = self._tolerance
                self._catcher.__exit__(kind, error, trace)


_STRICTLY = _Strictly()


@dataclass(frozen=True)
class EncodedImage:
    """One image that is known to decode: its bytes, unchanged, and its upright size in pixels."""

    image_key: str
    data: memoryview
    width: int
    height: int

    def rgb(self, min_side: int | None = None) -> npt.NDArray[np.uint8]:
        """Upright pixels, shape (height, width, 3), writable; see `engine.protocols.Image`.

        Only JPEG shrinks while it decodes (by 2, 4 or 8); other formats ignore `min_side`.

        Raises:
            DecodeError: The bytes do not decode after all.
        """
        data = bytes(self.data)
        image_format = _sniffed(data)
        with _STRICTLY:
            picture = _open(image_format, data)
            if min_side is not None:
                picture.draft("RGB", (min_side, min_side))
            orientation = _load(picture, image_format, data)
            flat = _turned(_flattened(picture), image_format, orientation)
            return np.array(flat.convert("RGB"))


def probe(data: bytes, *, max_pixels: int) -> Probe:
    """Proves that an image decodes, at the least cost its format allows, and measures it.

    Nothing is allocated for a picture of more than `max_pixels`. Trailing bytes, a wrong extension
    and odd shapes are no failure; a PNG whose critical chunks fail their checksum is.

    Raises:
        DecodeError: With one of the causes of `engine.failures` for the stage `decode`.
    """
    image_format = _sniffed(data)
    with _STRICTLY:
        if (
            image_format != "jpeg"
        ):  # opening a JPEG allocates nothing and tells its size just as well
            _check_structure(read_structure(image_format, data), max_pixels)
        picture = _open(image_format, data)
        width, height = picture.size
        _check_size(width, height, max_pixels)
        longer = max(width, height)
        if longer > THUMBNAIL_SIDE:
            shrunk = (max(side * THUMBNAIL_SIDE // longer, 1) for side in (width, height))
            picture.draft("L", (next(shrunk), next(shrunk)))
        orientation = _load(picture, image_format, data)
        thumbnail = _turned(_thumbnail(_flattened(picture)), image_format, orientation)
    if orientation >= _SIDEWAYS and image_format != "tiff":
        width, height = height, width
    return Probe(image_format, width, height, orientation, thumbnail)


def _sniffed(data: bytes) -> str:
    image_format = sniff(data)
    if image_format is None:
        raise DecodeError(*foreign_cause(data))
    return image_format


def _check_structure(structure: Structure, max_pixels: int) -> None:
    """What must hold before Pillow sees the bytes: for some formats it allocates on opening."""
    if not structure.checksums and structure.size and 0 not in structure.size:
        raise DecodeError("bad_checksum", "a chunk that the picture needs fails its CRC")
    if structure.size is not None:
        _check_size(*structure.size, max_pixels)


def _check_size(width: int, height: int, max_pixels: int) -> None:
    if width == 0 or height == 0:
        raise DecodeError("zero_size", f"the header says {width} x {height} pixels")
    if width * height > max_pixels:
        raise DecodeError(
            "too_many_pixels", f"{width} x {height} pixels, limits.max_pixels is {max_pixels}"
        )


def _open(image_format: str, data: bytes) -> ImageFile.ImageFile:
    try:
        picture = _PLUGINS[image_format](io.BytesIO(data))
    except PillowImage.DecompressionBombError as err:
        raise DecodeError("too_many_pixels", err) from err
    except _PILLOW_ERRORS as err:
        if _is_unsupported(err):
            raise DecodeError("unsupported_mode", err) from err
        raise DecodeError(header_cause(read_structure(image_format, data)), err) from err
    if image_format == "tiff" and is_raw_photo(data):
        raise DecodeError("unsupported_format", "a camera's raw file (DNG)")
    return picture


def _load(picture: ImageFile.ImageFile, image_format: str, data: bytes) -> int:
    """Decodes, and returns the EXIF orientation: a PNG's may follow its pixels."""
    try:
        picture.load()
    except PillowImage.DecompressionBombError as err:
        raise DecodeError("too_many_pixels", err) from err
    except _PILLOW_ERRORS as err:
        raise DecodeError(_load_cause(err, image_format, data), err) from err
    if image_format == "tiff":
        return orientation_of(data)
    return orientation_of(picture.info.get("exif"))


def _load_cause(error: Exception, image_format: str, data: bytes) -> str:
    if _is_unsupported(error):
        return "unsupported_mode"
    structure = read_structure(image_format, data)
    if not structure.pixels:
        return header_cause(structure)
    if "truncated" in str(error).lower() or structure.ends_early:
        return "truncated"
    return "corrupt"


def _is_unsupported(error: Exception) -> bool:
    said = str(error).lower()
    return any(words in said for words in _UNSUPPORTED + _UNAVAILABLE)


def _flattened(picture: PillowImage.Image) -> PillowImage.Image:
    """The loaded picture without transparency, palette or more than 8 bits a channel."""
    if picture.mode in _SIXTEEN_BIT:
        wide = np.asarray(picture).astype(np.uint32)
        return PillowImage.fromarray(((wide + 128) // 257).astype(np.uint8))  # 65535 = 255 * 257
    if picture.mode not in _EIGHT_BIT:
        raise DecodeError(
            "unsupported_mode", f"pixels of mode {picture.mode!r} have no defined white"
        )
    if picture.has_transparency_data:
        drawn = picture.convert("RGBA")
        white = PillowImage.new("RGBA", drawn.size, "white")
        return PillowImage.alpha_composite(white, drawn).convert("RGB")
    return picture.convert("RGB") if picture.mode in ("P", "RGBX") else picture


def _thumbnail(picture: PillowImage.Image) -> PillowImage.Image:
    """Grey, longer side at most THUMBNAIL_SIDE, by a triangle filter as wide as the reduction."""
    grey = picture.convert("RGB").convert("L") if picture.mode == "CMYK" else picture.convert("L")
    longer = max(grey.size)
    if longer <= THUMBNAIL_SIDE:
        return grey
    width, height = (max(round(side * THUMBNAIL_SIDE / longer), 1) for side in grey.size)
    return grey.resize((width, height), PillowImage.Resampling.BILINEAR)


def _turned(picture: PillowImage.Image, image_format: str, orientation: int) -> PillowImage.Image:
    if image_format == "tiff" or orientation not in _UPRIGHT:  # Pillow turns TIFF as it loads it
        return picture
    return picture.transpose(_UPRIGHT[orientation])
