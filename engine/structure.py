"""The outer structure of image files, read without decoding: declared size, parts, checksums.

Pillow says that a file is broken, seldom how. What is read here names the cause, refuses a bomb
before anything is allocated, and finds the EXIF orientation without Pillow's warnings.
"""

# ruff: noqa: PLR2004 (offsets and marker codes are the file formats' own numbers)

import struct
import zlib
from collections.abc import Callable, Collection
from typing import NamedTuple

_ORIENTATION_TAG = 0x0112
_DNG_VERSION_TAG = 0xC612
_WIDTH_TAG, _HEIGHT_TAG = 0x0100, 0x0101
_STRIPS_TAG, _TILES_TAG = 0x0111, 0x0144
_TIFF_VALUES = {1: "B", 3: "H", 4: "I"}  # field type to struct code: BYTE, SHORT, LONG
_JPEG_FRAMES = set(range(0xC0, 0xD0)) - {
    0xC4,
    0xC8,
    0xCC,
}  # SOF0 to SOF15; the three are DHT, JPG, DAC
_JPEG_ALONE = {0x01, *range(0xD0, 0xD9)}  # TEM, RST0-7, SOI carry no length


class Structure(NamedTuple):
    """What the parts of a file say of it.

    `size` is (width, height) as stored, null when the header does not get that far. `ends_early`
    means that the file stops inside or before a part that must be there.
    """

    size: tuple[int, int] | None = None
    pixels: bool = False
    ends_early: bool = False
    checksums: bool = True


def read_structure(image_format: str, data: bytes) -> Structure:
    """The structure of bytes that sniff as `image_format`; bytes that make no sense never raise."""
    try:
        return _READERS[image_format](data)
    except (struct.error, IndexError):  # a fixed field lies beyond the end
        return Structure(ends_early=True)


def header_cause(structure: Structure) -> str:
    """The cause of `engine.failures` for a file no decoder opens, judged by its structure."""
    if structure.size is not None and 0 in structure.size:
        return "zero_size"
    if not structure.checksums:
        return "bad_checksum"
    if structure.ends_early:
        return "truncated"
    return "bad_header" if structure.pixels else "no_pixels"


def orientation_of(exif: bytes | None) -> int:
    """The orientation in an EXIF block or TIFF file, 1 to 8; 1 where there is none or no sense."""
    if not exif:
        return 1
    value = tiff_values(exif.removeprefix(b"Exif\0\0"), {_ORIENTATION_TAG}).get(_ORIENTATION_TAG, 1)
    return value if 1 <= value <= 8 else 1  # EXIF 2.32, tag 274


def is_raw_photo(data: bytes) -> bool:
    """Whether TIFF bytes are a camera's raw file (DNG), whose first picture is only a thumbnail."""
    return _DNG_VERSION_TAG in tiff_values(data, {_DNG_VERSION_TAG})


def tiff_values(data: bytes, tags: Collection[int]) -> dict[int, int]:
    """First value of each wanted tag in the first directory of classic TIFF; others left out."""
    order = {b"II*\0": "<", b"MM\0*": ">"}.get(bytes(data[:4]))
    found: dict[int, int] = {}
    if order is None:
        return found
    try:
        (start,) = struct.unpack_from(f"{order}I", data, 4)
        (count,) = struct.unpack_from(f"{order}H", data, start)
        for entry in range(start + 2, start + 2 + 12 * count, 12):
            tag, kind = struct.unpack_from(f"{order}HH", data, entry)
            if tag in tags and kind in _TIFF_VALUES:
                (found[tag],) = struct.unpack_from(order + _TIFF_VALUES[kind], data, entry + 8)
    except struct.error:  # the directory runs past the end: what was found before still counts
        pass
    return found


def _read_jpeg(data: bytes) -> Structure:
    """Segments up to the first scan; entropy-coded data is not followed."""
    size, at = None, 2
    while at + 4 <= len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if marker == 0xFF or marker in _JPEG_ALONE:
            at += 1 if marker == 0xFF else 2
            continue
        if marker == 0xD9:  # end of image, before any scan
            return Structure(size)
        (length,) = struct.unpack_from(">H", data, at + 2)
        if marker in _JPEG_FRAMES and length >= 7:
            height, width = struct.unpack_from(">HH", data, at + 5)
            size = (width, height)
        if marker == 0xDA:
            return Structure(size, pixels=True)
        at += 2 + max(length, 2)
    closed = data[at : at + 2] == b"\xff\xd9"
    contradiction = at + 4 <= len(data)  # something other than a marker where one must be
    return Structure(size, pixels=contradiction, ends_early=not closed and not contradiction)


def _read_png(data: bytes) -> Structure:
    if data[:8] != b"\x89PNG\r\n\x1a\n":  # a text-mode copy rewrote the line ends
        return Structure(pixels=True)
    size = struct.unpack_from(">II", data, 16)
    pixels, checksums, at = False, True, 8
    while at + 8 <= len(data):
        length, name = struct.unpack_from(">I4s", data, at)
        end = at + 8 + length
        pixels = pixels or (name == b"IDAT" and length > 0)
        if end + 4 > len(data):
            return Structure(size, pixels, ends_early=True, checksums=checksums)
        if name[:1].isupper():  # critical chunks; a broken note does not spoil the picture
            (stored,) = struct.unpack_from(">I", data, end)
            checksums = checksums and stored == zlib.crc32(memoryview(data)[at + 4 : end])
        if name == b"IEND":
            return Structure(size, pixels, checksums=checksums)
        at = end + 4
    return Structure(size, pixels, ends_early=True, checksums=checksums)


def _read_gif(data: bytes) -> Structure:
    """Blocks up to the first picture."""
    size = struct.unpack_from("<HH", data, 6)
    at = 13 + (3 << (data[10] & 7) + 1 if data[10] & 0x80 else 0)
    while data[at] == 0x21:  # extensions: a label, then sub-blocks closed by an empty one
        at += 2
        while data[at]:
            at += 1 + data[at]
        at += 1
    if data[at] == 0x2C:
        frame = struct.unpack_from("<HHHH", data, at + 1)
        size = (max(size[0], frame[0] + frame[2]), max(size[1], frame[1] + frame[3]))
    return Structure(size, pixels=data[at] != 0x3B)


def _read_bmp(data: bytes) -> Structure:
    offset, header = struct.unpack_from("<II", data, 10)
    width, height = struct.unpack_from("<HH" if header in (12, 16) else "<ii", data, 18)
    size = (abs(width), abs(height))
    return Structure(size, pixels=len(data) > offset or len(data) < 14 + header)


def _read_webp(data: bytes) -> Structure:
    (length,) = struct.unpack_from("<I", data, 4)
    name, payload = data[12:16], 20
    short = len(data) < 8 + length
    if name == b"VP8X":
        size = tuple(1 + int.from_bytes(data[at : at + 3], "little") for at in (24, 27))
        pixels = any(part in data for part in (b"VP8 ", b"VP8L"))
        return Structure((size[0], size[1]), pixels, ends_early=short or len(data) < 30)
    if name == b"VP8L":
        (bits,) = struct.unpack_from("<I", data, payload + 1)
        size = (1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF))
    elif name == b"VP8 ":
        width, height = struct.unpack_from("<HH", data, payload + 6)
        size = (width & 0x3FFF, height & 0x3FFF)
    else:
        return Structure(pixels=bool(name), ends_early=short)
    return Structure(size, pixels=True, ends_early=short)


def _read_tiff(data: bytes) -> Structure:
    values = tiff_values(data, {_WIDTH_TAG, _HEIGHT_TAG, _STRIPS_TAG, _TILES_TAG})
    pixels = _STRIPS_TAG in values or _TILES_TAG in values or data[2:4] in (b"+\0", b"\0+")
    size = (
        (values[_WIDTH_TAG], values[_HEIGHT_TAG])
        if values.keys() >= {_WIDTH_TAG, _HEIGHT_TAG}
        else None
    )
    (start,) = struct.unpack_from("<I" if data[:2] == b"II" else ">I", data, 4)
    return Structure(size, pixels, ends_early=start + 2 > len(data))


_READERS: dict[str, Callable[[bytes], Structure]] = {
    "jpeg": _read_jpeg,
    "png": _read_png,
    "gif": _read_gif,
    "bmp": _read_bmp,
    "webp": _read_webp,
    "tiff": _read_tiff,
}
