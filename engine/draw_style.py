"""Fonts and colours of the pictures people look at."""

import hashlib
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from PIL import ImageFont

Colour = tuple[int, int, int]

INK: Colour = (24, 26, 30)
DIM: Colour = (112, 117, 126)
FAINT: Colour = (222, 225, 230)
PAPER: Colour = (255, 255, 255)
REJECTED: Colour = (225, 45, 57)
SUPERSEDED: Colour = (140, 145, 155)
# Bright enough on dark photos, dark enough on white paper, and none near the red of a rejection.
PALETTE: tuple[Colour, ...] = (
    (0, 138, 230),
    (245, 130, 16),
    (22, 160, 74),
    (160, 80, 220),
    (0, 165, 170),
    (226, 66, 160),
    (150, 110, 30),
    (92, 96, 235),
    (106, 150, 0),
    (0, 110, 120),
    (190, 110, 230),
    (200, 150, 0),
)


def colours_of(words: Iterable[str]) -> dict[str, Colour]:
    """A colour for each word, its own while the palette lasts.

    A word has the same colour in every picture, unless another word of this picture took it first.
    """
    chosen: dict[str, Colour] = {}
    for word in sorted(set(words)):
        digest = hashlib.blake2b(word.encode(), digest_size=4).digest()
        first = int.from_bytes(digest, "big")
        order = [PALETTE[(first + step) % len(PALETTE)] for step in range(len(PALETTE))]
        free = [colour for colour in order if colour not in chosen.values()]
        chosen[word] = (free or order)[0]
    return chosen


@cache
def font(size: int, *, bold: bool = False) -> ImageFont.FreeTypeFont:
    """DejaVu Sans, the font matplotlib brings along, of that height in px."""
    import matplotlib as mpl

    file = "DejaVuSans-Bold.ttf" if bold else "DejaVuSans.ttf"
    return ImageFont.truetype(str(Path(mpl.get_data_path()) / "fonts" / "ttf" / file), size)


def shorten(text: str, max_characters: int) -> str:
    """The text on one line, cut with an ellipsis where it is longer."""
    line = " ".join(text.split())
    return line if len(line) <= max_characters else line[: max_characters - 1].rstrip() + "\u2026"
