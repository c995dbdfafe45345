"""Sizes of pictures from their headers, for labels that speak in fractions of them."""

import io
import warnings
from collections.abc import Sequence

from PIL import Image as PillowImage

from engine.sniff import sniff
from engine.source.images import EXTENSIONS
from engine.source.labels import LabelError
from engine.source.shapes import Location, ReadError

_HEAD_BYTES = 1 << 16  # holds the header of nearly every photo, its thumbnail included
_ORIENTATION = 0x0112  # EXIF tag
_SIDEWAYS = range(5, 9)  # the orientations that swap width and height
_MAX_NAME = 255  # bytes; no file system takes a longer one


class HeaderSizes:
    """Finds pictures by the names labels give them, and reads their upright sizes.

    Args:
        images: Where they are.
        endings: Tried first for a name without an extension, in this order.
        max_bytes: Of a picture.
    """

    def __init__(self, images: Location, endings: Sequence[str], max_bytes: int) -> None:
        self._images = images
        self._endings = endings
        self._max_bytes = max_bytes
        self._by_name: dict[str, str] | None = None

    def find(self, name: str) -> str | None:
        """The path of a picture, relative to its location; null where there is none.

        `name` may have an extension or none, and may stand in a folder that it does not name.
        """
        for ending in ("", *self._endings):
            if not _leads_out(name) and self._images.exists(name + ending):
                return name + ending
        if self._by_name is None:
            self._by_name = self._walk()
        base = name.rpartition("/")[2]
        return self._by_name.get(base) or self._by_name.get(base.rpartition(".")[0])

    def size(self, path: str) -> tuple[int, int]:
        """Width and height of a picture, upright.

        Raises:
            LabelError: It cannot be read, or is no picture.
        """
        try:
            head = self._images.read_head(path, _HEAD_BYTES)
            found = _header_size(head)
            if found is None and len(head) == _HEAD_BYTES:
                whole = self._images.read(path, max_bytes=self._max_bytes).data
                found = _header_size(whole.to_pybytes())
        except ReadError as err:
            raise LabelError("bad_labels", f"its picture, which tells its size: {err}") from err
        if found is None:
            raise LabelError("bad_labels", "its picture, which tells its size, has no header")
        return found

    def _walk(self) -> dict[str, str]:
        """Path by file name, and by file name without its extension; the first of equal ones."""
        known: dict[str, str] = {}
        for entry in self._images.walk():
            base = entry.uri.rpartition("/")[2]
            stem, dot, ending = base.rpartition(".")
            if entry.ignored is None and dot and ending.lower() in EXTENSIONS:
                known.setdefault(base, entry.uri)
                known.setdefault(stem, entry.uri)
        return known


def _leads_out(name: str) -> bool:
    is_path = not name.startswith("/") and ".." not in name.split("/")
    return not is_path or "\\" in name or "\0" in name or len(name.encode()) > _MAX_NAME


def _header_size(data: bytes) -> tuple[int, int] | None:
    if sniff(data) is None:
        return None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a large picture is no matter where none is decoded
            with PillowImage.open(io.BytesIO(data)) as picture:
                width, height = picture.size
                orientation = picture.getexif().get(_ORIENTATION, 1)
    except (OSError, SyntaxError, ValueError, PillowImage.DecompressionBombError):
        return None
    is_sideways = orientation in _SIDEWAYS
    return (height, width) if is_sideways else (width, height)
