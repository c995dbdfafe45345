"""What a scene is made of: the vocabulary, and shapes, words and backdrop as plain values."""

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from engine.synthetic.outlines import FloatArray

Colour = tuple[int, int, int]

COLOURS: dict[str, Colour] = {
    "red": (212, 38, 40),
    "orange": (246, 132, 30),
    "yellow": (250, 214, 44),
    "green": (44, 158, 66),
    "teal": (18, 158, 164),
    "blue": (38, 88, 216),
    "purple": (128, 56, 178),
    "pink": (246, 134, 188),
    "brown": (122, 76, 42),
    "white": (246, 246, 246),
    "black": (26, 26, 30),
}
BACKDROP_COLOURS: dict[str, Colour] = {
    "cream": (240, 228, 202),
    "pale blue": (198, 218, 240),
    "pale green": (204, 230, 204),
    "lilac": (220, 204, 236),
    "tan": (204, 174, 134),
    "gray": (150, 152, 156),
    "olive": (112, 116, 62),
    "navy": (34, 44, 86),
    "maroon": (94, 34, 46),
    "charcoal": (54, 56, 62),
}
TEXTURES = ("plain", "shaded", "striped", "checkered", "speckled", "cloudy")
PATTERNS = ("plain", "striped", "spotted")
DIRECTIONS = {"right": 0.0, "down": 90.0, "left": 180.0, "up": 270.0}
WORDS = (
    "bakery", "bank", "bar", "beach", "bike", "books", "bread", "bus", "cafe", "camp", "city",
    "coffee", "danger", "depot", "diner", "dock", "exit", "farm", "fish", "flour", "fruit",
    "garden", "gate", "gold", "harbor", "honey", "hotel", "ice", "island", "juice", "lake",
    "lemon", "market", "milk", "motel", "museum", "north", "ocean", "office", "open", "orange",
    "paper", "park", "pizza", "police", "post", "press", "radio", "river", "salad", "sale",
    "salt", "school", "shop", "soap", "soup", "south", "station", "stop", "sugar", "taxi", "tea",
    "train", "water", "west", "wine", "zebra", "zoo",
)  # fmt: skip
FONTS = (
    "DejaVuSans",
    "DejaVuSans-Bold",
    "DejaVuSans-Oblique",
    "DejaVuSansMono-Bold",
    "DejaVuSerif",
    "DejaVuSerif-Bold",
    "STIXGeneralBol",
)

MAX_HIDDEN = 0.25  # the largest share of a shape that others may cover: class and box stay evident
# Longer side of a shape's box over the shorter side of the image. The gaps between the sizes are
# wider than any jitter, so that the word in a caption can be told from the box alone.
SIZES = {"small": (0.10, 0.14), "medium": (0.19, 0.26), "large": (0.33, 0.44)}


@dataclass(frozen=True)
class Backdrop:
    """The ground of a scene: texture, colour name and the number of thin lines across it."""

    texture: str
    colour: str
    num_lines: int


@dataclass(frozen=True)
class Shape:
    """One object. Its outline and box are whole, as if nothing were drawn over it."""

    name: str  # one of CLASSES
    colour: str
    pattern: str
    size: str  # a key of SIZES
    direction: str | None  # where an arrow points; null for every other class
    outline: FloatArray  # (n, 2), pixels, in quarters; closed, clockwise from the top left
    hidden: float = 0.0  # share of its pixels covered by later shapes, at most MAX_HIDDEN
    host: int | None = None  # the shape it lies wholly inside, by place in `Layout.shapes`

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Bounding box of the outline, xyxy in pixels, inside the image."""
        return bounds(self.outline)


@dataclass(frozen=True)
class Word:
    """One rendered word. Nothing is drawn over it."""

    transcript: str
    colour: str
    label: str | None  # colour of the sign it is written on; null without one
    font: str
    em: int  # font size, pixels
    angle: float  # degrees, anticlockwise as the reader sees it
    quad: FloatArray  # (4, 2), around the ink, clockwise from the top left of the unturned word
    host: int | None = None  # the shape it is written on

    @property
    def box(self) -> tuple[float, float, float, float]:
        """Bounding box of the quad, xyxy in pixels, inside the image."""
        return bounds(self.quad)


@dataclass(frozen=True)
class Layout:
    """Everything in a scene, shapes in the order they are drawn."""

    backdrop: Backdrop
    shapes: tuple[Shape, ...]
    words: tuple[Word, ...]


def bounds(points: FloatArray) -> tuple[float, float, float, float]:
    """Bounding box, xyxy, of points of shape (n, 2)."""
    (x_min, y_min), (x_max, y_max) = points.min(axis=0), points.max(axis=0)
    return float(x_min), float(y_min), float(x_max), float(y_max)


def contrast(a: Colour, b: Colour) -> float:
    """How different two colours look, 0 to about 765: the "redmean" weighting of RGB distance.

    The formula is Thiadmer Riemersma's (CompuPhase, "Colour metric"); it needs no colour space.
    """
    (r, g, b_), (s, t, u) = a, b
    mean = (r + s) / 2
    red, green, blue = 2 + mean / 256, 4.0, 2 + (255 - mean) / 256
    return float(np.sqrt(red * (r - s) ** 2 + green * (g - t) ** 2 + blue * (b_ - u) ** 2))


def luma(colour: Colour) -> float:
    """Brightness of a colour, 0 to 255, as ITU-R BT.601 weighs it."""
    return 0.299 * colour[0] + 0.587 * colour[1] + 0.114 * colour[2]


def font_path(font: str) -> Path:
    """The file of a font that matplotlib ships."""
    import matplotlib as mpl

    return Path(mpl.get_data_path()) / "fonts" / "ttf" / f"{font}.ttf"


@functools.lru_cache(maxsize=512)
def load_font(font: str, em: int) -> ImageFont.FreeTypeFont:
    """The font at `em` pixels, laid out without optional libraries: the same ink everywhere."""
    return ImageFont.truetype(font_path(font), em, layout_engine=ImageFont.Layout.BASIC)


@functools.lru_cache(maxsize=4096)
def ink_box(transcript: str, font: str, em: int) -> tuple[int, int, int, int]:
    """The pixels a word inks, xyxy from where it is drawn; a font's own box has room around it."""
    picture = Image.new("L", (em * (len(transcript) + 2), em * 3))
    ImageDraw.Draw(picture).text((em, em), transcript, fill=255, font=load_font(font, em))
    left, top, right, bottom = picture.getbbox() or (em, em, em + 1, em + 1)
    return left - em, top - em, right - em, bottom - em


def ink_quad(word: Word, pad: float = 0.0) -> FloatArray:
    """Corners of the ink of a word, `pad` pixels around it, about its own middle; shape (4, 2).

    Turned by its angle; clockwise from the corner that is the top left one when unturned.
    """
    left, top, right, bottom = ink_box(word.transcript, word.font, word.em)
    half = (right - left) / 2 + pad, (bottom - top) / 2 + pad
    radians = np.deg2rad(word.angle)
    cos, sin = np.cos(radians), np.sin(radians)
    corners = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]]) * half
    return np.asarray(corners @ np.array([[cos, -sin], [sin, cos]]))


def sign_quad(word: Word) -> FloatArray:
    """The quad of a word's sign, a quarter em around its ink; without a sign, that of the ink."""
    pad = word.em / 4 if word.label else 0.0
    return np.asarray(ink_quad(word, pad) + word.quad.mean(axis=0))
