"""A scene of the synthetic world: its picture, its truth as claim rows, and the two in numbers."""

import functools
import io
from dataclasses import dataclass
from itertools import chain

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import ConfigError
from engine.schema import claims
from engine.synthetic.captions import Captions, describe
from engine.synthetic.layout import lay_out
from engine.synthetic.outlines import FloatArray
from engine.synthetic.paint import paint
from engine.synthetic.things import Backdrop, Layout, Shape, Word

DEFAULT_SIZE = (384, 288)  # pixels; an OCR model answers in about a second, words stay legible
_MIN_SIDE = 128  # below it the smallest words are under 11 px
_JPEG_QUALITY = 90


@dataclass(frozen=True)
class Scene:
    """One picture of the synthetic world and everything that is true of it.

    The same (seed, index, width, height) is the same scene, and `jpeg` gives the same bytes for the
    same versions of Pillow and numpy.
    """

    seed: int
    index: int
    width: int  # pixels
    height: int
    layout: Layout

    @property
    def shapes(self) -> tuple[Shape, ...]:
        """The objects in drawing order: a later one may cover up to a quarter of an earlier one."""
        return self.layout.shapes

    @property
    def words(self) -> tuple[Word, ...]:
        """The rendered words; nothing covers them."""
        return self.layout.words

    @property
    def backdrop(self) -> Backdrop:
        """What is behind them."""
        return self.layout.backdrop

    @functools.cached_property
    def captions(self) -> Captions:
        """Three true captions, from short to long."""
        return describe(self.layout, self._rng(2), self.width, self.height)

    def pixels(self) -> npt.NDArray[np.uint8]:
        """The picture, shape (height, width, 3), RGB."""
        return np.asarray(paint(self.layout, self._rng(1), self.width, self.height))

    def jpeg(self) -> bytes:
        """The picture as a baseline JPEG, without any metadata."""
        picture = paint(self.layout, self._rng(1), self.width, self.height)
        encoded = io.BytesIO()
        picture.save(encoded, "JPEG", quality=_JPEG_QUALITY)
        return encoded.getvalue()

    def rows(self, image_key: str) -> pa.Table:
        """The truth as claims on `image_key`.

        Returns:
            Three rows `text` (roles brief, detailed, more_detailed), a row `region`/`category` per
            shape in drawing order, a row `region`/`ocr` per word. Boxes lie inside the image; they
            are of whole outlines, also where another shape covers a part. Polygons are the whole
            outline, or the quad of the word's ink clockwise from its top left, in quarters of a
            pixel. Scores, sources and ids are null; no row is human.
        """
        boxes = [shape.box for shape in self.shapes] + [word.box for word in self.words]
        texts = (self.captions.brief, self.captions.detailed, self.captions.more_detailed)
        return claims(
            image_key=[image_key] * (3 + len(boxes)),
            kind=["text"] * 3 + ["region"] * len(boxes),
            role=[
                *("brief", "detailed", "more_detailed"),
                *("category" for _ in self.shapes),
                *("ocr" for _ in self.words),
            ],
            text=[*texts, *(s.name for s in self.shapes), *(w.transcript for w in self.words)],
            box=[None] * 3 + boxes,
            polygon=[None] * 3
            + [_ring(s.outline) for s in self.shapes]
            + [_ring(w.quad) for w in self.words],
        )

    def _rng(self, purpose: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.index, self.width, self.height, purpose])


def scene(seed: int, index: int, *, size: tuple[int, int] = DEFAULT_SIZE) -> Scene:
    """Scene number `index` of the world `seed`.

    Args:
        seed: Which world, 0 or more.
        index: Which of its endlessly many scenes, 0 or more.
        size: Width and height in pixels, each at least 128.

    Raises:
        ConfigError: A number is out of its range.
    """
    width, height = size
    if min(seed, index) < 0:
        raise ConfigError(f"scene: seed {seed}, index {index}; both must be 0 or more")
    if min(width, height) < _MIN_SIDE:
        raise ConfigError(
            f"scene: size {width}x{height}; each side must be at least {_MIN_SIDE} px, "
            "or its words could not be read"
        )
    rng = np.random.default_rng([seed, index, width, height, 0])
    return Scene(seed, index, width, height, lay_out(rng, width, height))


def _ring(points: FloatArray) -> list[list[float]]:
    return [list(chain.from_iterable(points.tolist()))]
