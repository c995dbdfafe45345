"""A page of rejected rows, drawn at random: what somebody looks at before a rule is trusted."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image, ImageDraw

from engine.ancestry import ancestors, read_pixels
from engine.dataset import read_dataset
from engine.draw import contact_sheet
from engine.draw_marks import Mark, Rectangle, draw_labels, draw_shapes
from engine.draw_style import DIM, FAINT, INK, PAPER, REJECTED, Colour, font, shorten
from engine.pixels import DecodeError, EncodedImage
from engine.reading import read_tables
from engine.schema import VERDICT
from engine.source.shapes import Location

Row = dict[str, Any]
Shard = tuple[pa.Table, pa.Table, Mapping[str, bytes]]

_WIDTH, _PHOTO_HEIGHT = 640, 440  # px of a tile and of the photo in it
_WINNER: Colour = (0, 138, 230)
_AROUND = 2.2  # how much larger than its boxes a crop is
_LEAST = 0.4  # of the photo's sides: a crop shows where it is from
_TEXT_CHARACTERS = 220
_THINNEST = 8  # px of a box as drawn
_SIZE = 20  # px, of the words below a photo


@dataclass(frozen=True)
class _Candidate:
    """A row that may be drawn: its random number and where it is."""

    draw: float
    rule: str
    shard: int
    row: int


def draw_rejects(shards: Iterable[Shard], *, count: int = 20, seed: int = 0) -> Image.Image:
    """A contact sheet of rejected rows, chosen at random, one of every rule in turn.

    Each tile has the photo around the rejected box (red, dashed) and, where it lost to a row that
    is there, that row's box (blue); below it the rule, what it measured and its limit, the text and
    who said it. A row without a box shows the whole photo. The same input gives the same page.

    Args:
        shards: Images, annotations with verdicts, and encoded bytes by image key, of each shard;
            the bytes may be looked up lazily, and may be missing. Read once, one at a time.
        count: How many rows, at most.
        seed: Of the choice.

    Returns:
        The page; if nothing was rejected, one that says so.
    """
    chosen: dict[_Candidate, Image.Image] = {}
    total = 0
    for place, (images, annotations, data) in enumerate(shards):
        found, rejected = _candidates(annotations, place, count, seed)
        total += rejected
        kept = _in_turn([*chosen, *found], count)
        drawn = {one: _tile(images, annotations, data, one.row) for one in kept if one in found}
        chosen = {one: chosen[one] if one in chosen else drawn[one] for one in kept}
    title = f"{len(chosen)} of {total:,} rejected rows" if total else "no row was rejected"
    return contact_sheet(list(chosen.values()), columns=4, column_width=_WIDTH, title=title)


def dataset_shards(output: Location, version: str) -> Iterator[Shard]:
    """The shards of a label version for `draw_rejects`; its pixels may lie in another version."""
    versions = ancestors(read_dataset(output), version)
    for shard, images, annotations in read_tables(output, version):
        yield images, annotations, ShardPixels(output, versions, shard)


@dataclass(frozen=True)
class ShardPixels(Mapping[str, bytes]):
    """The pictures of one shard, each read when it is asked for."""

    output: Location
    versions: Sequence[str]
    shard: int

    def __getitem__(self, key: str) -> bytes:
        for _, data in read_pixels(self.output, self.versions, self.shard, {key}):
            return data
        raise KeyError(key)

    def __iter__(self) -> Iterator[str]:
        raise TypeError("pictures are only looked up")

    def __len__(self) -> int:
        raise TypeError("pictures are only looked up")


def _candidates(
    annotations: pa.Table, shard: int, count: int, seed: int
) -> tuple[set[_Candidate], int]:
    """Of every rule the rows with the smallest random numbers; and how many rows are rejected."""
    status = annotations["status"].cast(pa.string())
    rejected = np.flatnonzero(pc.fill_null(pc.equal(status, "rejected"), False).to_numpy())
    draws: npt.NDArray[np.float64] = np.random.default_rng([seed, shard]).random(len(rejected))
    rules = annotations["rule"].cast(pa.string()).take(pa.array(rejected)).fill_null("")
    codes = rules.combine_chunks().dictionary_encode()
    indices = codes.indices.to_numpy()
    found = set()
    for code, rule in enumerate(codes.dictionary.to_pylist()):
        own = np.flatnonzero(indices == code)
        best = own[np.argsort(draws[own], kind="stable")[:count]]
        found |= {_Candidate(float(draws[i]), rule, shard, int(rejected[i])) for i in best}
    return found, len(rejected)


def _in_turn(candidates: Sequence[_Candidate], count: int) -> list[_Candidate]:
    """One of every rule in turn: who is left out now stays out when more come to choose from."""
    ordered = sorted(candidates, key=lambda one: (one.rule, one.draw, one.shard, one.row))
    queues: dict[str, list[_Candidate]] = {}
    for one in ordered:
        queues.setdefault(one.rule, []).append(one)
    rounds = zip_longest(*queues.values())
    return [one for some in rounds for one in some if one is not None][:count]


def _tile(
    images: pa.Table, annotations: pa.Table, data: Mapping[str, bytes], place: int
) -> Image.Image:
    row = annotations.slice(place, 1).to_pylist()[0]
    image = images.filter(pc.equal(images["image_key"], row["image_key"])).slice(0, 1).to_pylist()
    winner = _winner(annotations, row["against"])
    photo = _photo(data.get(row["image_key"]), row, winner)
    caption = _caption(row, winner, image[0] if image else {})
    tile = Image.new("RGB", (_WIDTH, photo.height + caption.height), PAPER)
    tile.paste(photo, (0, 0))
    tile.paste(caption, (0, photo.height))
    return tile


def _winner(annotations: pa.Table, against: str | None) -> Row | None:
    if against is None:
        return None
    found = annotations.filter(pc.equal(annotations["annotation_id"], against)).slice(0, 1)
    return found.to_pylist()[0] if found.num_rows else None


def _photo(data: bytes | None, row: Row, winner: Row | None) -> Image.Image:
    """The picture around the boxes, with them drawn; a grey field where there is none."""
    frame = Image.new("RGB", (_WIDTH, _PHOTO_HEIGHT), FAINT)
    picture = _decoded(data)
    if picture is None:
        words = "no picture given" if data is None else "does not decode"
        ImageDraw.Draw(frame).text(
            (_WIDTH / 2, _PHOTO_HEIGHT / 2), words, font=font(_SIZE), fill=DIM, anchor="mm"
        )
        return frame
    boxes = {"rejected": _box_of(row), "kept": _box_of(winner)}
    window = _window([box for box in boxes.values() if box], picture.size)
    factor = min(_WIDTH / (window[2] - window[0]), _PHOTO_HEIGHT / (window[3] - window[1]))
    size = (
        max(1, round((window[2] - window[0]) * factor)),
        max(1, round((window[3] - window[1]) * factor)),
    )
    crop = picture.resize(size, Image.Resampling.LANCZOS, box=window)
    marks = [
        Mark(shown, [], _label(one, status), status, colour)
        for (status, box), one, colour in zip(
            boxes.items(), (row, winner), (REJECTED, _WINNER), strict=True
        )
        if box and one and (shown := _moved(box, window, factor, size))
    ]
    crop = draw_shapes(crop, marks, line=3)
    draw_labels(crop, marks, size=17)
    frame.paste(crop, ((_WIDTH - size[0]) // 2, (_PHOTO_HEIGHT - size[1]) // 2))
    return frame


def _decoded(data: bytes | None) -> Image.Image | None:
    if data is None:
        return None
    try:
        return Image.fromarray(EncodedImage("", memoryview(data), 0, 0).rgb())
    except DecodeError:
        return None


def _box_of(row: Row | None) -> Rectangle | None:
    box = row["box"] if row is not None else None
    if box is None or not np.isfinite(box).all():
        return None
    x0, y0, x1, y1 = box
    return (x0, y0, x1, y1)


def _window(boxes: Sequence[Rectangle], size: tuple[int, int]) -> Rectangle:
    """The part of the photo to show, px: around the boxes, as wide and high as a tile if it can."""
    if not boxes:
        return (0.0, 0.0, float(size[0]), float(size[1]))
    corners = np.clip(np.array(boxes, np.float64).reshape(-1, 2), 0, size)
    low, high = corners.min(axis=0), corners.max(axis=0)
    wanted = np.maximum((high - low) * _AROUND, np.array(size) * _LEAST)
    wanted = np.maximum(wanted, wanted[::-1] * [_WIDTH / _PHOTO_HEIGHT, _PHOTO_HEIGHT / _WIDTH])
    length = np.clip(wanted, 1, size)
    start = np.clip((low + high - length) / 2, 0, size - length)
    (x0, y0), (x1, y1) = start.tolist(), (start + length).tolist()
    return (x0, y0, x1, y1)


def _moved(
    box: Rectangle, window: Rectangle, factor: float, size: tuple[int, int]
) -> Rectangle | None:
    """The box in px of the crop, clipped to it; null where nothing of it is inside."""
    x0, y0, x1, y1 = (
        min(max((corner - window[axis % 2]) * factor, 0.0), float(size[axis % 2]))
        for axis, corner in enumerate(box)
    )
    if x0 >= x1 or y0 >= y1:
        return None
    # a line too thin to be drawn as a box is still seen
    dx, dy = (max(_THINNEST - side, 0) / 2 for side in (x1 - x0, y1 - y0))
    return (x0 - dx, y0 - dy, x1 + dx, y1 + dy)


def _label(row: Row, status: str) -> str:
    score = row["score"] if row["score"] is not None else row["text_score"]
    told = f" {score:.3g}" if score is not None else ""
    mark = "\u2715 " if status == "rejected" else ""
    return f"{mark}{_plain(row['text'] or row['role'] or '', 26)}{told}"


def _caption(row: Row, winner: Row | None, image: Mapping[str, Any]) -> Image.Image:
    verdict = {name: row[name] for name in VERDICT.names}
    numbers = [
        f"{name} {verdict[name]:.4g}" for name in ("measured", "limit") if verdict[name] is not None
    ]
    lost = verdict["against"]
    if winner is not None:
        lost = f"{winner['source']}: {winner['text'] or winner['role'] or ''}"
    if lost:
        numbers.append(f"against {_plain(lost, 60)}")
    said = _plain(row["text"], _TEXT_CHARACTERS) if row["text"] is not None else "(no text)"
    who = [row["source"] or "no source", f"{row['kind']} {row['role'] or ''}".strip()]
    who.append(_plain(image.get("uri") or row["image_key"], 60))
    return _written(
        [
            (_plain(verdict["rule"] or "rejected", 50), REJECTED, True),
            (", ".join(numbers), INK, False),
            (said or "(empty text)", INK, True),
            (" \u00b7 ".join(who), DIM, False),
        ]
    )


def _plain(text: str, max_characters: int) -> str:
    """One line of what a font can show; a text of a megabyte is not looked at to its end."""
    line = shorten(str(text)[: max_characters * 8], max_characters)
    return "".join(char if char.isprintable() else "\ufffd" for char in line)


def _written(paragraphs: Sequence[tuple[str, Colour, bool]]) -> Image.Image:
    """Paragraphs below each other, broken where they are too wide; empty ones take no room."""
    margin, line_height = 14, round(_SIZE * 1.35)
    lines = [
        (line, colour, bold)
        for text, colour, bold in paragraphs
        for line in _broken(text, _WIDTH - 2 * margin, bold=bold)
    ]
    image = Image.new("RGB", (_WIDTH, len(lines) * line_height + 2 * margin), PAPER)
    pen = ImageDraw.Draw(image)
    for place, (line, colour, bold) in enumerate(lines):
        pen.text(
            (margin, margin + place * line_height), line, font=font(_SIZE, bold=bold), fill=colour
        )
    return image


def _broken(text: str, width: int, *, bold: bool) -> list[str]:
    """The text in lines, between words where there are such, else inside of one."""
    face, lines, line = font(_SIZE, bold=bold), [], ""
    for word in text.split():
        rest = word
        while rest:
            tried = f"{line} {rest}".strip()
            if face.getlength(tried) <= width:
                line, rest = tried, ""
            elif line:
                lines.append(line)
                line = ""
            else:
                fits = next(
                    n
                    for n in range(len(rest), 0, -1)
                    if n == 1 or face.getlength(rest[:n]) <= width
                )
                lines.append(rest[:fits])
                rest = rest[fits:]
    return [*lines, line] if line else lines
