"""Pictures as data URLs: upright, no larger than asked, and without what a camera notes beside."""

import base64
import io

from PIL import Image as PillowImage

from engine.protocols import Image
from engine.sniff import sniff

_JPEG_QUALITY = 90  # small print stays legible; Pillow's own default is 75
_MAX_ORIGINAL_BYTES = 1_000_000  # a larger file of that few pixels is noise or a wasteful encoder
# What a file may say beside its pixels and still be sent as it is. EXIF may turn the picture and
# name the place; a profile or transparency changes what is seen.
_HARMLESS = frozenset(
    [
        *("jfif", "jfif_version", "jfif_unit", "jfif_density", "progressive", "progression"),
        *("adobe", "adobe_transform", "dpi", "aspect", "gamma", "srgb", "interlace"),
    ]
)


def data_url(image: Image, max_side_px: int) -> str:
    """The picture as `data:image/...;base64,...`, as every specialist sees it.

    A JPEG or PNG that is small enough, upright, opaque and without notes goes as it is; anything
    else is decoded, scaled down where its longer side is over the limit, and sent as JPEG.

    Args:
        image: One decodable image.
        max_side_px: Longest side of what is sent, pixels.
    """
    longer = max(image.width, image.height)
    if longer <= max_side_px and len(image.data) <= _MAX_ORIGINAL_BYTES:
        kind = _plain_kind(bytes(image.data))
        if kind is not None:
            return _spelled(kind, bytes(image.data))
    return _spelled("jpeg", _shrunk(image, max_side_px))


def _plain_kind(data: bytes) -> str | None:
    """`jpeg` or `png` where the file holds a plain picture and nothing else; null otherwise."""
    if sniff(data) not in ("jpeg", "png"):
        return None
    try:
        picture = PillowImage.open(io.BytesIO(data), formats=("JPEG", "PNG"))
        picture.load()  # a PNG's notes may follow its pixels
    except (OSError, SyntaxError, ValueError):
        return None  # one that only the engine's decoder knows to read
    plain = picture.mode in ("L", "RGB") and picture.info.keys() <= _HARMLESS
    return str(picture.format).lower() if plain and picture.format in ("JPEG", "PNG") else None


def _shrunk(image: Image, max_side_px: int) -> bytes:
    scale = min(1.0, max_side_px / max(image.width, image.height))
    size = [max(1, round(side * scale)) for side in (image.width, image.height)]
    picture = PillowImage.fromarray(image.rgb(min_side=min(size)))
    if list(picture.size) != size:
        picture = picture.resize((size[0], size[1]), PillowImage.Resampling.LANCZOS)
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=_JPEG_QUALITY)
    return out.getvalue()


def _spelled(kind: str, data: bytes) -> str:
    return f"data:image/{kind};base64,{base64.b64encode(data).decode()}"
