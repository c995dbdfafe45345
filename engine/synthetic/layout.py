"""Where everything in a scene stands: a seeded placement that keeps the truth honest."""

from collections.abc import Collection
from dataclasses import replace

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from engine.synthetic.outlines import CLASSES, RING_HOLE, FloatArray, unit_outline
from engine.synthetic.things import (
    BACKDROP_COLOURS,
    COLOURS,
    DIRECTIONS,
    FONTS,
    MAX_HIDDEN,
    PATTERNS,
    SIZES,
    TEXTURES,
    WORDS,
    Backdrop,
    Colour,
    Layout,
    Shape,
    Word,
    contrast,
    ink_quad,
    luma,
    sign_quad,
)

BoolArray = npt.NDArray[np.bool_]

_TEXT_SIZE = (0.085, 0.14)  # em over the shorter side of the image
_SLANT = (8.0, 20.0)  # degrees, or none at all: what a caption says of it is beyond doubt
_MARGIN = 2.0  # px between anything and the image's edge
_GAP = 3.0  # px between neighbours that do not overlap
_TRIES = 24  # places tried for one thing before the scene does without it
_MIN_CONTRAST = 190.0  # in `contrast`'s unit; looked at: anything above is seen at a glance
_MIN_TEXT_CONTRAST = 70.0  # of the luma of ink and ground, 0 to 255: letters need light and dark


_TOO_THIN = ("arrow", "bolt", "crescent", "cross")  # no room in their middle for another shape
_SIGNS = ("circle", "square", "house")  # broad enough to write on


def fill_mask(outline: FloatArray, width: int, height: int) -> BoolArray:
    """The pixels inside an outline, shape (height, width)."""
    picture = Image.new("1", (width, height))
    ImageDraw.Draw(picture).polygon([(x - 0.5, y - 0.5) for x, y in outline], fill=1)
    return np.asarray(picture)


def lay_out(rng: np.random.Generator, width: int, height: int) -> Layout:
    """A scene of 1 to 7 shapes and 0 to 2 words on a backdrop, all inside the image.

    Args:
        rng: Decides everything; the same state gives the same scene.
        width: Pixels, as `height`; at least 128.
        height: The other side.

    Returns:
        At least one shape: one that finds no free place is left out, but the first always does.
    """
    return _Placing(rng, width, height).run()


class _Placing:
    """The things placed so far, and which of their pixels are still to be seen."""

    def __init__(self, rng: np.random.Generator, width: int, height: int) -> None:
        self.rng, self.width, self.height = rng, width, height
        self.side = min(width, height)
        self.shapes: list[Shape] = []
        self.full: list[BoolArray] = []  # pixels of each shape, whole
        self.seen: list[BoolArray] = []  # and those nothing covers yet
        self.words: list[Word] = []

    def run(self) -> Layout:
        backdrop = Backdrop(
            self.pick(TEXTURES), self.pick(BACKDROP_COLOURS), int(self.rng.choice([0, 0, 3, 6, 9]))
        )
        ground = BACKDROP_COLOURS[backdrop.colour]
        wanted = int(self.rng.choice(np.arange(1, 8), p=[0.06, 0.14, 0.2, 0.22, 0.18, 0.12, 0.08]))
        for _ in range(wanted):
            self.add_shape(ground)
        for _ in range(int(self.rng.choice([0, 1, 2], p=[0.25, 0.45, 0.3]))):
            self.add_word(ground)
        shapes = tuple(self.judged(i) for i in range(len(self.shapes)))
        return Layout(backdrop, shapes, tuple(self.words))

    def happens(self, share: float) -> bool:
        return bool(self.rng.random() < share)

    def pick(self, names: Collection[str]) -> str:
        return list(names)[int(self.rng.integers(len(names)))]

    def judged(self, i: int) -> Shape:
        shape = self.shapes[i]
        hidden = 1 - self.seen[i].sum() / self.full[i].sum()
        return replace(shape, hidden=float(hidden))

    def pick_colour(self, *grounds: Colour) -> str:
        clear = [
            name
            for name, colour in COLOURS.items()
            if all(contrast(colour, ground) >= _MIN_CONTRAST for ground in grounds)
        ]
        return self.pick(clear)

    def add_shape(self, ground: Colour) -> None:
        if self.happens(0.6) and self.add_inside():
            return
        sizes = [size for size in SIZES for _ in range(2 if size == "medium" else 1)]
        size, overlaps = self.pick(sizes), self.happens(0.3)
        shape = self.draw_shape(size, self.pick_colour(ground))
        for _ in range(_TRIES):
            moved = self.moved(shape, self.free_place(shape.outline))
            if overlaps and self.shapes:
                moved = self.moved(shape, self.place_beside(shape.outline))
            if self.fits(moved, overlaps=overlaps):
                self.place(moved)
                return

    def add_inside(self) -> bool:
        """A small shape in the middle of a large plain one, if there is one still untouched."""
        hosts = [
            i
            for i, shape in enumerate(self.shapes)
            if shape.size == "large" and self.is_free_host(i) and shape.name not in _TOO_THIN
        ]
        if not hosts:
            return False
        host = hosts[int(self.rng.integers(len(hosts)))]
        colour = self.pick_colour(COLOURS[self.shapes[host].colour])
        shape = self.draw_shape("small", colour)
        shape = self.moved(shape, self.middle(host))
        mask = fill_mask(shape.outline, self.width, self.height)
        if (mask & ~self.room(host)).any() or not self.leaves_enough(mask):
            return False
        self.place(replace(shape, host=host))
        return True

    def is_free_host(self, i: int) -> bool:
        taken = {shape.host for shape in self.shapes} | {word.host for word in self.words}
        whole = bool(self.seen[i].sum() == self.full[i].sum())
        return i not in taken and whole and self.shapes[i].pattern == "plain"

    def middle(self, i: int) -> FloatArray:
        rows, columns = np.nonzero(self.full[i])
        return np.array([columns.mean() + 0.5, rows.mean() + 0.5])

    def room(self, i: int) -> BoolArray:
        """Where a thing inside shape `i` may lie: its hole if it is a ring, else well within it."""
        shape = self.shapes[i]
        if shape.name == "ring":
            corner = np.array(shape.box[:2])
            extent = np.array(shape.box[2:]) - corner
            hole = unit_outline("circle", 0) * extent * RING_HOLE + corner + extent / 2
            return fill_mask(_inset(hole), self.width, self.height)
        return fill_mask(_inset(shape.outline), self.width, self.height)

    def draw_shape(self, size: str, colour: str) -> Shape:
        name = self.pick(CLASSES)
        direction = self.pick(list(DIRECTIONS)) if name == "arrow" else None
        angle = self.rng.uniform(-14, 14) + (DIRECTIONS[direction] if direction else 0.0)
        length = self.side * self.rng.uniform(*SIZES[size])
        outline = unit_outline(name, angle) * length
        pattern = "plain" if size == "small" else self.pick(["plain", "plain", *PATTERNS[1:]])
        return Shape(name, colour, pattern, size, direction, outline)

    def free_place(self, points: FloatArray) -> FloatArray:
        """A middle for these points, given about the origin, that keeps them inside the image."""
        low, high = points.min(axis=0), points.max(axis=0)
        return np.asarray(
            self.rng.uniform(_MARGIN - low, [self.width, self.height] - high - _MARGIN)
        )

    def place_beside(self, points: FloatArray) -> FloatArray:
        """A middle about half way over the edge of the last shape, moved inside the image."""
        low, high = points.min(axis=0), points.max(axis=0)
        box = np.array(self.shapes[-1].box)
        reach = (box[2:] - box[:2]) / 2 + (high - low) * self.rng.uniform(0.1, 0.45)
        radians = self.rng.uniform(0, 2 * np.pi)
        place = (box[:2] + box[2:]) / 2 + reach * [np.cos(radians), np.sin(radians)]
        edge = np.array([self.width, self.height])
        return np.asarray(np.clip(place, _MARGIN - low, edge - high - _MARGIN))

    @staticmethod
    def moved(shape: Shape, middle: FloatArray) -> Shape:
        return replace(shape, outline=quarters(shape.outline + middle))

    def fits(self, shape: Shape, *, overlaps: bool) -> bool:
        for other in self.shapes:
            if not apart(shape.box, other.box, _GAP) and (
                not overlaps
                or contrast(COLOURS[shape.colour], COLOURS[other.colour]) < _MIN_CONTRAST
            ):
                return False
        return self.leaves_enough(fill_mask(shape.outline, self.width, self.height))

    def leaves_enough(self, mask: BoolArray) -> bool:
        return all(
            (seen & ~mask).sum() >= (1 - MAX_HIDDEN) * full.sum()
            for seen, full in zip(self.seen, self.full, strict=True)
        )

    def place(self, shape: Shape) -> None:
        mask = fill_mask(shape.outline, self.width, self.height)
        self.seen = [seen & ~mask for seen in self.seen]
        self.shapes.append(shape)
        self.full.append(mask)
        self.seen.append(mask)

    def add_word(self, ground: Colour) -> None:
        hosts = [
            i
            for i, shape in enumerate(self.shapes)
            if shape.size == "large" and shape.name in _SIGNS and self.is_free_host(i)
        ]
        host = hosts[0] if hosts and self.happens(0.8) else None
        word = self.draw_word(COLOURS[self.shapes[host].colour] if host is not None else ground)
        for _ in range(_TRIES):
            place = self.middle(host) if host is not None else self.free_place(word.quad)
            moved = replace(word, quad=quarters(word.quad + place.round()), host=host)
            if self.is_readable(moved):
                self.words.append(moved)
                return
            word = self.shrunk(word)

    def draw_word(self, ground: Colour) -> Word:
        text = self.pick(WORDS)
        transcript = text.upper() if self.happens(0.6) else text.capitalize()
        label = None
        if self.happens(0.3):
            label = self.pick_colour(ground)
            ground = COLOURS[label]
        slant = float(self.rng.uniform(*_SLANT)) * int(self.rng.choice([-1, 0, 0, 1]))
        em = round(self.side * self.rng.uniform(*_TEXT_SIZE))
        font = self.pick(FONTS)
        colour = self.pick(
            [c for c in COLOURS if abs(luma(COLOURS[c]) - luma(ground)) >= _MIN_TEXT_CONTRAST]
        )
        word = Word(transcript, colour, label, font, em, slant, np.zeros((4, 2)))
        return replace(word, quad=ink_quad(word))

    def shrunk(self, word: Word) -> Word:
        """The word a pixel smaller, down to the smallest allowed: for signs and full scenes."""
        em = max(round(self.side * _TEXT_SIZE[0]), word.em - 1)
        smaller = replace(word, em=em)
        return replace(smaller, quad=ink_quad(smaller))

    def is_readable(self, word: Word) -> bool:
        gap = 3 * _GAP if word.label else 2 * _GAP
        x_min, y_min, x_max, y_max = word.box
        if min(x_min, y_min, self.width - x_max, self.height - y_max) < gap:
            return False
        mask = fill_mask(sign_quad(word), self.width, self.height)
        if word.host is not None and (mask & ~self.room(word.host)).any():
            return False
        others = [shape.box for i, shape in enumerate(self.shapes) if i != word.host]
        others += [other.box for other in self.words]
        return all(apart(word.box, other, gap) for other in others)


def apart(a: tuple[float, ...], b: tuple[float, ...], gap: float) -> bool:
    """Whether two xyxy boxes leave at least `gap` pixels between them along one axis."""
    return a[2] + gap <= b[0] or b[2] + gap <= a[0] or a[3] + gap <= b[1] or b[3] + gap <= a[1]


def quarters(points: FloatArray) -> FloatArray:
    """Coordinates rounded to quarter pixels: exact in float32, and blind to a CPU's last bit."""
    return np.asarray(np.round(points * 4) / 4)


def _inset(outline: FloatArray) -> FloatArray:
    middle = outline.mean(axis=0)
    return np.asarray((outline - middle) * 0.88 + middle)
