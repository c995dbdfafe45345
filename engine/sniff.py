"""What bytes are, judged by their start: an image format the engine reads, or what else."""

import re

# Formats the engine decodes. The name is also the extension the sink gives the bytes.
FORMATS = ("jpeg", "png", "webp", "tiff", "bmp", "gif")
HEAD_BYTES = 4096  # enough for every signature below, and to tell prose from markup

_BMP_HEADER_SIZES = {12, 16, 40, 52, 56, 64, 108, 124}  # BITMAPCOREHEADER to BITMAPV5HEADER
_TIFF_STARTS = (b"II*\x00", b"MM\x00*", b"II+\x00", b"MM\x00+")  # classic and BigTIFF
_IMAGE_BRANDS = (b"avif", b"avis", b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx")
_CAMERA_BRANDS = (b"mif1", b"msf1", b"crx ", b"jxl ")
_MPEG_TS_PACKET = 188  # bytes between two sync bytes, ISO/IEC 13818-1

# (offset, signature, cause, what it is); the first that fits wins.
_FOREIGN: tuple[tuple[int, bytes, str, str], ...] = (
    (0, b"version https://git-lfs.github.com/spec", "pointer_file", "a Git LFS pointer"),
    (0, b"/annex/objects/", "pointer_file", "a git-annex pointer"),
    (0, b"%!PS", "document", "PostScript"),
    (0, b"\xc5\xd0\xd3\xc6", "document", "EPS"),
    (0, b"{\\rtf", "document", "rich text"),
    (0, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "document", "an Office document"),
    (0, b"\x1aE\xdf\xa3", "video", "Matroska or WebM"),
    (8, b"AVI ", "video", "AVI"),
    (0, b"OggS", "video", "Ogg"),
    (0, b"FLV\x01", "video", "Flash video"),
    (0, b"\x00\x00\x01\xba", "video", "MPEG"),
    (0, b"\x00\x00\x01\xb3", "video", "MPEG"),
    (0, b"0&\xb2u\x8ef\xcf\x11", "video", "Windows Media"),
    (4, b"moov", "video", "QuickTime"),
    (4, b"mdat", "video", "QuickTime"),
    (0, b"PK\x03\x04", "archive", "zip"),
    (0, b"PK\x05\x06", "archive", "zip"),
    (0, b"\x1f\x8b", "archive", "gzip"),
    (0, b"BZh", "archive", "bzip2"),
    (0, b"\xfd7zXZ\x00", "archive", "xz"),
    (0, b"7z\xbc\xaf\x27\x1c", "archive", "7-Zip"),
    (0, b"Rar!\x1a\x07", "archive", "RAR"),
    (0, b"(\xb5/\xfd", "archive", "zstd"),
    (257, b"ustar", "archive", "tar"),
    (0, b"\xff\x0a", "unsupported_format", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cJXL ", "unsupported_format", "JPEG XL"),
    (0, b"\x00\x00\x00\x0cjP  ", "unsupported_format", "JPEG 2000"),
    (0, b"\xff\x4f\xff\x51", "unsupported_format", "JPEG 2000"),
    (0, b"8BPS", "unsupported_format", "Photoshop"),
    (0, b"gimp xcf", "unsupported_format", "GIMP"),
    (0, b"\x00\x00\x01\x00", "unsupported_format", "Windows icon"),
    (0, b"\x00\x00\x02\x00", "unsupported_format", "Windows cursor"),
    (0, b"icns", "unsupported_format", "Apple icon"),
    (0, b"v/1\x01", "unsupported_format", "OpenEXR"),
    (0, b"#?R", "unsupported_format", "Radiance HDR"),
    (0, b"DDS ", "unsupported_format", "DirectDraw surface"),
    (0, b"qoif", "unsupported_format", "QOI"),
    (0, b"AT&TFORM", "unsupported_format", "DjVu"),
    (0, b"SIMPLE  =", "unsupported_format", "FITS"),
    (128, b"DICM", "unsupported_format", "DICOM"),
    (0, b"\x8aMNG", "unsupported_format", "MNG"),
    (0, b"\x8bJNG", "unsupported_format", "JNG"),
    (0, b"FUJIFILM", "unsupported_format", "a camera's raw file"),
    (0, b"IIU\x00", "unsupported_format", "a camera's raw file"),
    (0, b"IIRO", "unsupported_format", "a camera's raw file"),
    (8, b"CR\x02", "unsupported_format", "a camera's raw file"),  # opens as TIFF, shows a thumbnail
)
_NETPBM = re.compile(rb"P[1-7]\s[\s\d#]")
_TEXT_CONTROLS = re.compile(r"[\x00-\x08\x0b\x0e-\x1a\x1c-\x1f]")


def sniff(data: bytes) -> str | None:  # noqa: PLR0911 (one return per format)
    """The image format of bytes that start like `data`, one of FORMATS; null for anything else.

    The extension plays no part. Only the first 32 bytes are looked at, so a header that sniffs may
    still turn out broken.
    """
    head = bytes(data[:32])
    if head.startswith(b"\xff\xd8\xff"):
        return "jpeg"
    if head.startswith(
        b"\x89PNG"
    ):  # the rest of the signature tells a damaged copy from a good one
        return "png"
    if head.startswith((b"GIF87a", b"GIF89a")):
        return "gif"
    if head.startswith(b"RIFF") and head[8:12] == b"WEBP":
        return "webp"
    if head.startswith(_TIFF_STARTS) and head[8:11] != b"CR\x02":
        return "tiff"
    # "BM" alone also starts a sentence; the size of the second header does not.
    if head.startswith(b"BM") and int.from_bytes(head[14:18], "little") in _BMP_HEADER_SIZES:
        return "bmp"
    return None


def foreign_cause(data: bytes) -> tuple[str, str]:  # noqa: PLR0911 (one return per kind)
    """Why bytes that do not `sniff` are no image: a cause of `engine.failures` and what was found.

    `data` may be the whole file or its first HEAD_BYTES; a file of zeros is told from one with a
    hole in front only when it is whole.
    """
    if not data.strip(b"\0"):
        return "all_zeros", f"{len(data)} zero bytes"
    head = bytes(data[:HEAD_BYTES])
    if head[4:8] == b"ftyp":
        brand = head[8:12]
        cause = "unsupported_format" if brand in _IMAGE_BRANDS + _CAMERA_BRANDS else "video"
        return cause, f"an ISO media file of brand {brand!r}"
    for offset, signature, cause, what in _FOREIGN:
        if head.startswith(signature, offset):
            return cause, what
    if _NETPBM.match(head):
        return "unsupported_format", "a Netpbm picture"
    if head[:1] == head[_MPEG_TS_PACKET : _MPEG_TS_PACKET + 1] == b"G":
        return "video", "an MPEG transport stream"
    if b"%PDF-" in head[:1024]:  # readers accept a preamble of 1024 bytes, ISO 32000-1 annex H
        return "document", "PDF"
    return _prose_cause(head)


def _prose_cause(head: bytes) -> tuple[str, str]:
    """Text, markup or binary; a multi-byte character cut at the end is still text."""
    encoding = "utf-16" if head.startswith((b"\xff\xfe", b"\xfe\xff")) else "utf-8-sig"
    text = head[: len(head) // 2 * 2].decode(encoding, errors="replace")
    if text[:-1].count("\ufffd") > len(text) // 20 or _TEXT_CONTROLS.search(text):
        return "not_an_image", f"unknown binary content starting {head[:8].hex(' ')}"
    start = text.lstrip().lower()
    if start.startswith(("<!doctype html", "<html")) or "<html" in start[:1024]:
        return "html_page", "a web page"
    if start.startswith("<") and "<svg" in start:
        return "svg", "SVG"
    return "text_file", f"text starting {text.lstrip()[:24]!r}"
