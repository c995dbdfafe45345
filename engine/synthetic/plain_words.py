"""Words of the plain world: three capitals each, of whole pixels."""

import functools
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from PIL import Image

from engine.synthetic.layout import apart
from engine.synthetic.relations import Box

# Any two differ in two letters or more: one that is misread is still the nearest to itself.
PLAIN_WORDS = (
    *("BOX", "CAT", "DOG", "FIG", "HUT", "JAR"),
    *("KEY", "MAP", "OWL", "PIE", "SUN", "WEB"),
)

# 5 x 7 pixels to a letter, one column between two.
_LETTERS = (
    (
        "ABCDEFGHIJKL",
        (
            ".###. ####. .###. ####. ##### ##### .###. #...# .###. ..### #...# #....",
            "#...# #...# #...# #...# #.... #.... #...# #...# ..#.. ...#. #..#. #....",
            "#...# #...# #.... #...# #.... #.... #.... #...# ..#.. ...#. #.#.. #....",
            "##### ####. #.... #...# ####. ####. #.### ##### ..#.. ...#. ##... #....",
            "#...# #...# #.... #...# #.... #.... #...# #...# ..#.. ...#. #.#.. #....",
            "#...# #...# #...# #...# #.... #.... #...# #...# ..#.. #..#. #..#. #....",
            "#...# ####. .###. ####. ##### #.... .#### #...# .###. .##.. #...# #####",
        ),
    ),
    (
        "MNOPRSTUWXY",
        (
            "#...# #...# .###. ####. ####. .#### ##### #...# #...# #...# #...#",
            "##.## ##..# #...# #...# #...# #.... ..#.. #...# #...# #...# #...#",
            "#.#.# #.#.# #...# #...# #...# #.... ..#.. #...# #...# .#.#. .#.#.",
            "#.#.# #..## #...# ####. ####. .###. ..#.. #...# #.#.# ..#.. ..#..",
            "#...# #...# #...# #.... #.#.. ....# ..#.. #...# #.#.# .#.#. ..#..",
            "#...# #...# #...# #.... #..#. ....# ..#.. #...# ##.## #...# ..#..",
            "#...# #...# .###. #.... #...# ####. ..#.. .###. #...# #...# ..#..",
        ),
    ),
)
_WIDTH, _HEIGHT, _PITCH = 5, 7, 6  # of a letter, and from one to the next
_DOT = 2  # px of a letter's pixel where the picture is 64 px
_CELL = 4  # px of the grid there, as that of the shapes
_TRIES = 32  # places drawn before the scene does without a word


class PlainWord(NamedTuple):
    """The one word of a plain scene."""

    text: str  # one of PLAIN_WORDS
    colour: str
    box: Box  # xyxy in pixels, of the letters' ink


def place_word(
    rng: np.random.Generator, colours: Sequence[str], shapes: Sequence[Box], width: int, height: int
) -> PlainWord | None:
    """A word at least a cell away from all shapes; null where no place was found.

    Args:
        rng: What is drawn from, always as often.
        colours: One of which it gets.
        shapes: Boxes in pixels.
        width: Of the picture, pixels.
        height: Of the picture, pixels.
    """
    scale = min(width, height) // 64
    draws = iter(rng.random(2 + 2 * _TRIES).tolist())
    text = PLAIN_WORDS[int(next(draws) * len(PLAIN_WORDS))]
    colour = colours[int(next(draws) * len(colours))]
    across, down = _size(text, _DOT * scale)
    cell = _CELL * scale
    for _ in range(_TRIES):
        x = cell * int(next(draws) * ((width - across) // cell + 1))
        y = cell * int(next(draws) * ((height - down) // cell + 1))
        box = (float(x), float(y), float(x + across), float(y + down))
        if all(apart(box, shape, cell) for shape in shapes):
            return PlainWord(text, colour, box)
    return None


@functools.lru_cache(maxsize=256)
def word_mask(text: str, dot: int) -> Image.Image:
    """The ink of a word as an 8-bit mask of its box, `dot` pixels to a letter's pixel."""
    across, down = _size(text, 1)
    ink = np.zeros((down, across), np.uint8)
    for place, letter in enumerate(text):
        start = place * _PITCH
        ink[:, start : start + _WIDTH] = _glyph(letter)
    return Image.fromarray(np.kron(ink, np.ones((dot, dot), np.uint8)) * 255)


def dot_of(word: PlainWord) -> int:
    """Pixels to a pixel of its letters."""
    return int(word.box[3] - word.box[1]) // _HEIGHT


@functools.cache
def _glyph(letter: str) -> np.ndarray[tuple[int, ...], np.dtype[np.uint8]]:
    """A letter's ink, 0 or 1, shape (7, 5)."""
    names, rows = next(block for block in _LETTERS if letter in block[0])
    start = names.index(letter) * _PITCH
    dots = [[dot == "#" for dot in row[start : start + _WIDTH]] for row in rows]
    return np.array(dots, np.uint8)


def _size(text: str, dot: int) -> tuple[int, int]:
    return (len(text) * _PITCH - (_PITCH - _WIDTH)) * dot, _HEIGHT * dot
