"""A plain small world: pictures simple enough that a tiny model learns them within minutes."""

import functools
import io
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image, ImageDraw

from engine.errors import ConfigError
from engine.schema import claims
from engine.synthetic.layout import apart
from engine.synthetic.outlines import FloatArray, unit_outline
from engine.synthetic.plain_captions import (
    PlainCaptions,
    PlainShape,
    describe_plain,
    describe_shape,
)
from engine.synthetic.plain_words import PlainWord, dot_of, place_word, word_mask
from engine.synthetic.things import BACKDROP_COLOURS, COLOURS, contrast

PLAIN_SIZE = (64, 64)  # pixels
# Any two differ in 29 or more of 144 pixels where they are 12 px wide, a house and a drop in only
# 16; of a star or a bolt few whole pixels are left there.
PLAIN_CLASSES = ("circle", "square", "triangle", "cross", "ring", "heart", "crescent", "arrow")
# Of `COLOURS`, those that differ from each other by more than 220 in `contrast`.
PLAIN_COLOURS = ("red", "yellow", "green", "blue", "pink", "white", "black")
PLAIN_BACKDROPS = ("cream", "lilac", "gray", "navy")

_UNIT = 64  # px; a picture whose shorter side is n times as long has everything n times as large
_CELL = 4  # px of the grid at that size
_SIDES = {3: "small", 4: "small", 5: "medium", 6: "large", 7: "large"}  # in cells
_MAX_SHAPES = 3
_TRIES = 32  # places drawn for a shape before the scene does without it; the first always fits
_MIN_CONTRAST = 215.0  # of shape and backdrop, in `contrast`'s unit
_FINE = 8  # samples per pixel and axis along an edge
_LIGHT, _TINT = 8, 2  # a shade's difference from the colour named: of all channels, of each
# Of the random numbers: what there is, its shades, its word; the other world has 0 to 2.
_PURPOSES = (3, 4, 5)


@dataclass(frozen=True)
class PlainScene:
    """One picture of the plain world and everything that is true of it.

    The same (seed, index, width, height) is the same scene, and `png` gives the same bytes for the
    same versions of Pillow and zlib; its pixels depend on neither.
    """

    seed: int
    index: int
    width: int  # pixels
    height: int
    backdrop: str  # one of PLAIN_BACKDROPS
    shapes: tuple[PlainShape, ...]  # 1 to 3, from left to right, then from top to bottom
    word: PlainWord | None = None  # only where words were asked for

    @functools.cached_property
    def captions(self) -> PlainCaptions:
        """Three true captions, from short to long, and where the brief one names which shapes."""
        return describe_plain(self.shapes, self.backdrop, self.width, self.height)

    def pixels(self) -> npt.NDArray[np.uint8]:
        """The picture, shape (height, width, 3), RGB."""
        return np.asarray(self._paint())

    def png(self) -> bytes:
        """The picture as a PNG, without any metadata; no codec adds noise to so few pixels."""
        encoded = io.BytesIO()
        self._paint().save(encoded, "PNG")
        return encoded.getvalue()

    def rows(self, image_key: str) -> pa.Table:
        """The truth as claims on `image_key`.

        Returns:
            Three rows `text` (roles brief, detailed, more_detailed); a row `region`/`category` per
            shape, its polygon the whole outline in quarters of a pixel; a row `grounding`/`phrase`
            per shape that the brief text names, several of one span where it counts them. The brief
            row's `annotation_id` is `<image_key>-brief`, which groundings name in `text_id`; all
            other ids, scores and sources are null, and no row is human.
        """
        captions, shapes = self.captions, self.shapes
        named = [(phrase, place) for phrase in captions.phrases for place in phrase.places]
        counts = (3, len(shapes), len(named))
        before = 3 + len(shapes)
        brief = f"{image_key}-brief"
        spans = [(phrase.start, phrase.end) for phrase, _ in named]
        return claims(
            image_key=[image_key] * sum(counts),
            annotation_id=[brief, *[None] * (sum(counts) - 1)],
            kind=_repeated(("text", "region", "grounding"), counts),
            role=[
                *("brief", "detailed", "more_detailed"),
                *_repeated(("category", "phrase"), counts[1:]),
            ],
            text=[captions.brief, captions.detailed, captions.more_detailed]
            + [shape.name for shape in shapes]
            + [captions.brief[start:end] for start, end in spans],
            text_id=[None] * before + [brief] * len(named),
            span_start=[None] * before + [start for start, _ in spans],
            span_end=[None] * before + [end for _, end in spans],
            box=[None] * 3
            + [shape.box for shape in shapes]
            + [shapes[place].box for _, place in named],
            polygon=[None] * 3 + [_ring(shape) for shape in shapes] + [None] * len(named),
        )

    def all_rows(self, image_key: str) -> pa.Table:
        """The rows of `rows`, and behind them what captions leave out.

        Returns:
            Also a row `region`/`brief` per shape, which describes it, and a row `region`/`ocr` of
            the word, its polygon the quad of its box clockwise from its top left.
        """
        words = [] if self.word is None else [self.word]
        corners = [(0, 1), (2, 1), (2, 3), (0, 3)]
        quads = [[[word.box[side] for corner in corners for side in corner]] for word in words]
        count = len(self.shapes) + len(words)
        more = claims(
            image_key=[image_key] * count,
            kind=["region"] * count,
            role=_repeated(("brief", "ocr"), (len(self.shapes), len(words))),
            text=[*map(describe_shape, self.shapes), *(word.text for word in words)],
            box=[*(shape.box for shape in self.shapes), *(word.box for word in words)],
            polygon=[None] * len(self.shapes) + quads,
        )
        rows = pa.concat_tables([self.rows(image_key), more])
        return rows.unify_dictionaries().combine_chunks()

    def _paint(self) -> Image.Image:
        named = [BACKDROP_COLOURS[self.backdrop], *(COLOURS[s.colour] for s in self.shapes)]
        if self.word is not None:
            named.append(COLOURS[self.word.colour])
        rng = np.random.default_rng([self.seed, self.index, self.width, self.height, _PURPOSES[1]])
        # a shade of each colour, so that no two scenes of thousands are the same picture
        light = rng.integers(-_LIGHT, _LIGHT + 1, (len(named), 1))
        jitter = light + rng.integers(-_TINT, _TINT + 1, (len(named), 3))
        ground, *shades = map(tuple, np.clip(np.array(named) + jitter, 0, 255).tolist())
        picture = Image.new("RGB", (self.width, self.height), ground)
        for shape, shade in zip(self.shapes, shades, strict=False):  # the last may be the word's
            x_min, y_min, x_max, _ = map(int, shape.box)
            picture.paste(shade, (x_min, y_min), _stamp(shape.name, x_max - x_min))
        if self.word is not None:
            x_min, y_min, _, _ = map(int, self.word.box)
            picture.paste(shades[-1], (x_min, y_min), word_mask(self.word.text, dot_of(self.word)))
        return picture


def plain_scene(
    seed: int, index: int, *, size: tuple[int, int] = PLAIN_SIZE, words: bool = False
) -> PlainScene:
    """Scene number `index` of the plain world `seed`: one to three shapes on a plain backdrop.

    At 64 px every box is a square of 12 to 28 px, its corners on a grid of 4 px, with at least 4 px
    between any two; a larger picture has all that enlarged by its shorter side over 64.

    Args:
        seed: Which world, 0 or more.
        index: Which of its endlessly many scenes, 0 or more.
        size: Width and height in pixels, each a multiple of 64.
        words: Whether a word stands beside the shapes, which are the same, where it has a place.

    Raises:
        ConfigError: A number is out of its range.
    """
    width, height = size
    if min(seed, index) < 0:
        raise ConfigError(f"plain_scene: seed {seed}, index {index}; both must be 0 or more")
    if min(size) < _UNIT or width % _UNIT or height % _UNIT:
        raise ConfigError(
            f"plain_scene: size {width}x{height}; each side must be a multiple of {_UNIT} px"
        )
    rng = np.random.default_rng([seed, index, width, height, _PURPOSES[0]])
    # all at once: a call per number would take longer than everything else
    draws = iter(rng.random(2 + _MAX_SHAPES * (3 + 2 * _TRIES)).tolist())
    backdrop, shapes = _lay_out(lambda n: int(next(draws) * n), width, height)
    word = None
    if words:
        rng = np.random.default_rng([seed, index, width, height, _PURPOSES[2]])
        boxes = [shape.box for shape in shapes]
        word = place_word(rng, _clear_colours(backdrop), boxes, width, height)
    return PlainScene(seed, index, width, height, backdrop, shapes, word)


def _lay_out(
    draw: Callable[[int], int], width: int, height: int
) -> tuple[str, tuple[PlainShape, ...]]:
    """Backdrop and shapes; `draw(n)` is a number from 0 to n - 1."""
    cell = _CELL * (min(width, height) // _UNIT)
    backdrop = PLAIN_BACKDROPS[draw(len(PLAIN_BACKDROPS))]
    colours = _clear_colours(backdrop)
    shapes: list[PlainShape] = []
    for _ in range(1 + draw(_MAX_SHAPES)):
        name = PLAIN_CLASSES[draw(len(PLAIN_CLASSES))]
        colour = colours[draw(len(colours))]
        num_cells = list(_SIDES)[draw(len(_SIDES))]
        side = num_cells * cell
        for _ in range(_TRIES):
            x = cell * draw((width - side) // cell + 1)
            y = cell * draw((height - side) // cell + 1)
            box = (float(x), float(y), float(x + side), float(y + side))
            if all(apart(box, other.box, cell) for other in shapes):
                shapes.append(PlainShape(name, colour, _SIDES[num_cells], box))
                break
    return backdrop, tuple(sorted(shapes, key=lambda s: (s.box[0] + s.box[2], s.box[1])))


@functools.cache
def _clear_colours(backdrop: str) -> tuple[str, ...]:
    """The colours that are seen at a glance on a backdrop."""
    ground = BACKDROP_COLOURS[backdrop]
    return tuple(c for c in PLAIN_COLOURS if contrast(COLOURS[c], ground) >= _MIN_CONTRAST)


@functools.lru_cache(maxsize=1024)
def _outline(name: str, side: int) -> FloatArray:
    """The outline of a class stretched over a square, shape (n, 2), in quarters of a pixel."""
    points = unit_outline(name, 0)
    low, high = points.min(axis=0), points.max(axis=0)
    return np.asarray(np.round((points - low) / (high - low) * side * 4) / 4)


@functools.lru_cache(maxsize=1024)
def _stamp(name: str, side: int) -> Image.Image:
    """How much of each pixel of a shape's box the shape covers, as an 8-bit mask."""
    mask = Image.new("L", (side * _FINE, side * _FINE))
    fine = _outline(name, side) * _FINE - 0.5
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in fine], fill=255)
    return mask.reduce(_FINE)


def _ring(shape: PlainShape) -> list[list[float]]:
    x_min, y_min, x_max, _ = shape.box
    points = np.add(_outline(shape.name, int(x_max - x_min)), [x_min, y_min])
    return [points.ravel().tolist()]


def _repeated(words: tuple[str, ...], counts: tuple[int, ...]) -> list[str]:
    return [word for word, count in zip(words, counts, strict=True) for _ in range(count)]
