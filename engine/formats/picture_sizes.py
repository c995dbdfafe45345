"""The upright size of a picture, from the start of its file: labels in fractions need it."""

import io

from PIL import (
    BmpImagePlugin,
    GifImagePlugin,
    ImageFile,
    JpegImagePlugin,
    PngImagePlugin,
    TiffImagePlugin,
    WebPImagePlugin,
)

from engine.sniff import sniff
from engine.source.shapes import Location, ReadError
from engine.structure import orientation_of

_HEAD = 65_536  # bytes; holds the EXIF of nearly every photo, so that one short read is enough
_SIDEWAYS = 5  # EXIF orientations from here on swap width and height
_PLUGINS: dict[str, type[ImageFile.ImageFile]] = {
    "jpeg": JpegImagePlugin.JpegImageFile,
    "png": PngImagePlugin.PngImageFile,
    "webp": WebPImagePlugin.WebPImageFile,
    "tiff": TiffImagePlugin.TiffImageFile,
    "bmp": BmpImagePlugin.BmpImageFile,
    "gif": GifImagePlugin.GifImageFile,
}


def read_size(location: Location, path: str, max_bytes: int) -> tuple[int, int] | None:
    """Width and height, px, as a viewer shows the picture; null if the file is no picture we read.

    Nothing is decoded. More than the start of a file is read only where its header lies further
    back.
    """
    try:
        head = location.read_head(path, _HEAD)
        is_whole = len(head) < _HEAD
        # the directory of a TIFF may be anywhere, and Pillow warns where it is not
        size = _size_of(head) if is_whole or sniff(head) != "tiff" else None
        if size is None and not is_whole:
            size = _size_of(bytes(location.read(path, max_bytes=max_bytes).data))
    except ReadError:
        return None
    return size


def _size_of(data: bytes) -> tuple[int, int] | None:
    kind = sniff(data)
    if kind is None:
        return None
    try:
        picture = _PLUGINS[kind](io.BytesIO(data))
        width, height = picture.size
        orientation = orientation_of(picture.info.get("exif"))
    except Exception:  # noqa: BLE001  # Pillow raises anything on broken headers; there is no size
        return None
    if width <= 0 or height <= 0:
        return None
    # Pillow tells the size of a TIFF as it will turn it
    return (height, width) if orientation >= _SIDEWAYS and kind != "tiff" else (width, height)
