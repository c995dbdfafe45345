"""The pixels of a scene."""

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFilter

from engine.synthetic.outlines import FloatArray
from engine.synthetic.things import (
    BACKDROP_COLOURS,
    COLOURS,
    Backdrop,
    Layout,
    Shape,
    Word,
    ink_box,
    load_font,
    luma,
    sign_quad,
)

Canvas = npt.NDArray[np.float32]  # (height, width, 3), 0 to 255
Alpha = npt.NDArray[np.floating]  # (height, width), 0 to 1

_FINE = 4  # samples per pixel and axis along an edge
_HALF = 0.5  # of a period: stripe and gap are equally wide
_NEAR_BLACK, _BRIGHT = (
    40.0,
    160.0,
)  # luma below which an edge is lighter, above which marks are dark
_LIGHT = np.array([255, 255, 255], np.float32)
_DARK = np.array([0, 0, 0], np.float32)


def paint(layout: Layout, rng: np.random.Generator, width: int, height: int) -> Image.Image:
    """The picture of a layout; `rng` decides shades, lines, light and grain, never what is true."""
    canvas = _paint_backdrop(layout.backdrop, rng, width, height)
    _paint_lines(canvas, layout.backdrop, rng)
    for shape in layout.shapes:
        _paint_shape(canvas, shape, rng)
    for word in layout.words:
        _paint_word(canvas, word, rng)
    return _expose(canvas, rng)


def _happens(rng: np.random.Generator, share: float) -> bool:
    return bool(rng.random() < share)


def _grid(width: int, height: int) -> tuple[Alpha, Alpha]:
    y, x = np.mgrid[0:height, 0:width].astype(np.float32)
    return x, y


def _along(x: Alpha, y: Alpha, angle: float) -> Alpha:
    """Distance of each pixel along a direction, in pixels."""
    return np.asarray(np.cos(angle) * x + np.sin(angle) * y, np.float32)


def _paint_backdrop(
    backdrop: Backdrop, rng: np.random.Generator, width: int, height: int
) -> Canvas:
    first = np.array(BACKDROP_COLOURS[backdrop.colour], np.float32) + rng.uniform(-6, 6, 3)
    second = first + rng.choice([-1, 1]) * rng.uniform(18, 30)
    share = _texture(backdrop.texture, rng, width, height)[..., None]
    return np.asarray(first * (1 - share) + second * share, np.float32)


def _texture(texture: str, rng: np.random.Generator, width: int, height: int) -> Alpha:
    """How much of the second tone each pixel has, 0 to 1."""
    x, y = _grid(width, height)
    period, angle = rng.uniform(14, 40), rng.uniform(0, np.pi)
    along, across = _along(x, y, angle), _along(x, y, angle + np.pi / 2)
    if texture == "plain":
        return np.zeros((height, width), np.float32)
    if texture == "shaded":
        return np.asarray((along - along.min()) / np.ptp(along), np.float32)
    if texture == "striped":
        return np.asarray((along / period) % 1 < _HALF, np.float32)
    if texture == "checkered":
        return np.asarray((along // period + across // period) % 2, np.float32)
    cell = 2 if texture == "speckled" else round(period)
    coarse = rng.random((height // cell + 2, width // cell + 2)).astype(np.float32)
    spread = Image.fromarray(coarse).resize((width, height), Image.Resampling.BICUBIC)
    return np.asarray(np.clip(np.asarray(spread), 0, 1))


def _paint_lines(canvas: Canvas, backdrop: Backdrop, rng: np.random.Generator) -> None:
    """Thin bent lines behind everything: clutter that is no object."""
    height, width = canvas.shape[:2]
    for _ in range(backdrop.num_lines):
        ends = rng.uniform(-0.1, 1.1, (3, 2)) * [width, height]
        t = np.linspace(0, 1, 24)[:, None]
        curve = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * ends[1] + t**2 * ends[2]
        mask = Image.new("L", (width * 2, height * 2))
        points = [(float(x) * 2, float(y) * 2) for x, y in curve]
        ImageDraw.Draw(mask).line(points, fill=255, width=int(rng.integers(2, 6)), joint="curve")
        alpha = np.asarray(mask.reduce(2), np.float32) / 255 * rng.uniform(0.3, 0.8)
        _blend(canvas, (0, 0), alpha, rng.uniform(20, 235, 3))


def _paint_shape(canvas: Canvas, shape: Shape, rng: np.random.Generator) -> None:
    origin, alpha = _coverage(shape.outline, canvas.shape, pad=8)
    if _happens(rng, 0.4):
        _paint_shadow(canvas, origin, alpha, rng)
    _blend(canvas, origin, alpha, _surface(shape, alpha.shape, rng))
    if _happens(rng, 0.4):
        named = COLOURS[shape.colour]
        colour = np.array(named, np.float32)
        edge = np.clip(alpha - _shrunk(alpha), 0, 1)
        _blend(canvas, origin, edge, colour * 0.55 if luma(named) > _NEAR_BLACK else colour + 70)


def _shrunk(alpha: Alpha) -> Alpha:
    picture = Image.fromarray(np.round(alpha * 255).astype(np.uint8))
    return np.asarray(picture.filter(ImageFilter.MinFilter(5)), np.float32) / 255


def _paint_shadow(
    canvas: Canvas, origin: tuple[int, int], alpha: Alpha, rng: np.random.Generator
) -> None:
    picture = Image.fromarray(np.round(alpha * 255).astype(np.uint8))
    soft = np.asarray(picture.filter(ImageFilter.GaussianBlur(2)), np.float32) / 255
    shift = rng.integers(1, 4, 2)
    _blend(canvas, (origin[0] + int(shift[0]), origin[1] + int(shift[1])), soft * 0.4, _DARK)


def _surface(shape: Shape, extent: tuple[int, ...], rng: np.random.Generator) -> Canvas:
    """Colour of every pixel of a shape's patch: a jittered shade, lit from one side, patterned."""
    height, width = extent
    x, y = _grid(width, height)
    colour = np.array(COLOURS[shape.colour], np.float32) + rng.uniform(-9, 9, 3)
    light = _along(x, y, rng.uniform(0, 2 * np.pi))
    lit = 1 + rng.uniform(0, 0.12) * (2 * (light - light.min()) / np.ptp(light) - 1)
    surface = colour * lit[..., None]
    period, angle = max(width, height) / rng.uniform(5.5, 7.5), rng.uniform(0, np.pi)
    along, across = _along(x, y, angle), _along(x, y, angle + np.pi / 2)
    marked = np.zeros(extent, bool)
    if shape.pattern == "striped":
        marked = (along / period) % 1 < _HALF
    elif shape.pattern == "spotted":
        marked = np.hypot(along % period - period / 2, across % period - period / 2) < period * 0.3
    # Marks are a tint of the shape's own colour, so that its colour keeps its name.
    bright = luma(COLOURS[shape.colour]) > _BRIGHT
    tint, strength = (_DARK, 0.28) if bright else (_LIGHT, 0.45)
    surface[marked] = surface[marked] * (1 - strength) + tint * strength
    return np.asarray(surface, np.float32)


def _paint_word(canvas: Canvas, word: Word, rng: np.random.Generator) -> None:
    if word.label is not None:
        origin, alpha = _coverage(sign_quad(word), canvas.shape, pad=1)
        _blend(canvas, origin, alpha, np.array(COLOURS[word.label]) + rng.uniform(-6, 6, 3))
    font = load_font(word.font, word.em)
    left, top, right, bottom = ink_box(word.transcript, word.font, word.em)
    ink = Image.new("L", (right - left + 4, bottom - top + 4))
    ImageDraw.Draw(ink).text((2 - left, 2 - top), word.transcript, fill=255, font=font)
    origin, extent = _patch(word.quad, canvas.shape, pad=3)
    middle = word.quad.mean(axis=0) - origin
    radians = np.deg2rad(word.angle)
    cos, sin = float(np.cos(radians)), float(np.sin(radians))
    dx, dy = ink.width / 2, ink.height / 2
    inverse = (
        *(cos, -sin, dx - cos * middle[0] + sin * middle[1]),
        *(sin, cos, dy - sin * middle[0] - cos * middle[1]),
    )
    turned = ink.transform(extent, Image.Transform.AFFINE, inverse, Image.Resampling.BICUBIC)
    _blend(canvas, origin, np.asarray(turned, np.float32) / 255, COLOURS[word.colour])


def _patch(
    points: FloatArray, shape: tuple[int, ...], pad: int
) -> tuple[tuple[int, int], tuple[int, int]]:
    """Top left pixel and (width, height) of the part of the image around some points."""
    low = np.maximum(np.floor(points.min(axis=0)) - pad, 0).astype(int)
    high = np.minimum(np.ceil(points.max(axis=0)) + pad, [shape[1], shape[0]]).astype(int)
    return (int(low[0]), int(low[1])), (int(high[0] - low[0]), int(high[1] - low[1]))


def _coverage(
    outline: FloatArray, shape: tuple[int, ...], pad: int
) -> tuple[tuple[int, int], Alpha]:
    """How much of each pixel around an outline lies inside it, and where that patch begins."""
    origin, (width, height) = _patch(outline, shape, pad)
    mask = Image.new("L", (width * _FINE, height * _FINE))
    fine = (outline - origin) * _FINE - 0.5
    ImageDraw.Draw(mask).polygon([(float(x), float(y)) for x, y in fine], fill=255)
    return origin, np.asarray(mask.reduce(_FINE), np.float32) / 255


def _blend(canvas: Canvas, origin: tuple[int, int], alpha: Alpha, colour: npt.ArrayLike) -> None:
    """Lay a colour, or a patch of colours, over the canvas in place; what lies outside is cut."""
    x, y = origin
    part = canvas[y : y + alpha.shape[0], x : x + alpha.shape[1]]
    height, width = part.shape[:2]
    tone = np.asarray(colour, np.float32)
    tone = tone[:height, :width] if tone.ndim > 1 else tone
    share = alpha[:height, :width, None]
    part[:] = part * (1 - share) + tone * share


def _expose(canvas: Canvas, rng: np.random.Generator) -> Image.Image:
    """Uneven light, a slight blur and grain, as a camera would add them."""
    height, width = canvas.shape[:2]
    x, y = _grid(width, height)
    light = _along(x, y, rng.uniform(0, 2 * np.pi))
    lit = 1 + rng.uniform(0, 0.12) * (2 * (light - light.min()) / np.ptp(light) - 1)
    grain = rng.normal(0, rng.uniform(1, 7), canvas.shape[:2])
    exposed = np.clip(canvas * lit[..., None], 0, 255).astype(np.uint8)
    blurred = Image.fromarray(exposed).filter(ImageFilter.GaussianBlur(rng.uniform(0, 0.7)))
    return Image.fromarray(
        np.clip(np.asarray(blurred, np.float32) + grain[..., None], 0, 255).astype(np.uint8)
    )
