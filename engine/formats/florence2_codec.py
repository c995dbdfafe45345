"""Florence-2's language, in pure Python and numpy: places as location tokens, answers as items.

The only place that knows location tokens. `florence2_tasks` puts rows on top of it.

Answers are untrusted: any text at all parses to items or to nothing. Where the text is well formed
the items are those of transformers' own `Florence2Processor`. What differs, on purpose:

- every character of a label survives, where its box parsers keep ASCII only;
- a label is what stands between the special token before it and its own location tokens. Theirs
  begins in the middle of a token where the tokens before are too few, and loses what precedes a
  `<`; one with a line break inside is dropped, or cut;
- location tokens without a label where the form wants one are lost; theirs takes the first of
  them for a label and reads the others one token off. Labels of polygon answers are empty;
- a place is dropped when a bin is no bin (`<loc_1000>`), a box runs backwards, or a ring has less
  than three corners;
- plain text has no special token in it; theirs keeps echoed location tokens and pads;
- no phrase is blacklisted here: `phrase_blacklist` is a rule, and leaves a verdict.
"""

import codecs
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import numpy.typing as npt

NUM_BINS = 1000  # per axis, the paper's section 3
BOX_BINS, QUAD_BINS, LEAST_RING_BINS = 4, 8, 6  # numbers of a place; a triangle is the least ring

Span = tuple[int, int]  # half-open range of characters in the text as it was given
Form = Literal["text", "boxes", "labelled_boxes", "quads", "polygons", "labelled_polygons"]
Bins = npt.NDArray[np.int32]
Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]

_MARKS = ("<s>", "</s>", "<pad>")  # begin, end and filler: they may stand anywhere
_LOCATION = r"<loc_\d+>"
_JOINTS = r"<sep>|</?poly>"
# The added tokens that carry no place ("desciption" is how it is spelt) and the tokenizer's own.
_OTHERS = (
    r"</?(?:od|ocr|cap|ncap|dcap|grounding|seg|region_cap|region_to_desciption|proposal)>"
    r"|<(?:and|image|unk|mask)>"
)
_BIN = re.compile(r"<loc_(\d+)>")
_SPECIAL = re.compile(f"{_LOCATION}|{_JOINTS}|{_OTHERS}|{'|'.join(_MARKS)}")
# A run of places, or any other special token, which ends the label before it.
_BOX_RUNS = re.compile(f"((?:{_LOCATION})+)|{_JOINTS}|{_OTHERS}")
_POLYGON_RUNS = re.compile(f"((?:{_LOCATION}|{_JOINTS})+)|{_OTHERS}")
_INSTANCE = re.compile(r"<poly>(.*?)</poly>")
_RING = re.compile(f"((?:{_LOCATION})+)(?:<sep>|$)")


@dataclass(frozen=True)
class Item:
    """One thing an answer says: a label, a place, or both.

    Attributes:
        label: Words, without white space around them; "" where the form has none.
        label_span: The characters from the first to the last of the label; empty without a label.
        places: The bins of a box (x0, y0, x1, y1), of a quad (four corners), or of every ring of a
            polygon; empty for plain text.
        place_spans: The location tokens of each place.
    """

    label: str
    label_span: Span
    places: tuple[tuple[int, ...], ...] = ()
    place_spans: tuple[Span, ...] = ()


class Parsed(NamedTuple):
    """The items of an answer, and how many of its location tokens belong to none of them."""

    items: list[Item]
    num_lost: int


def encode_bins(coords: npt.ArrayLike, size_wh: tuple[int, int]) -> Bins:
    """Location bins of pixels: floor, then clamp, so that the far edge is bin 999 and never 1000.

    The arithmetic is float32, as in transformers' processor: the same bin to the last bit.

    Args:
        coords: Shape (..., 2k), x and y in turn, pixels of the original image; finite.
        size_wh: Its width and height, pixels, 1 or more.

    Returns:
        The same shape, each in 0..999. Nothing in, nothing out.

    Example:
        >>> encode_bins([[0, 0, 639.9, 480]], (640, 480)).tolist()
        [[0, 0, 999, 999]]
    """
    pixels = np.asarray(coords, np.float32)
    bins: Bins = np.floor(pixels / _pixels_per_bin(pixels.shape, size_wh))
    return np.clip(bins, 0, NUM_BINS - 1).astype(np.int32)


def decode_bins(bins: npt.ArrayLike, size_wh: tuple[int, int]) -> Floats:
    """Pixels at the centres of bins; cut to whole numbers they are what the processor gives.

    Args:
        bins: Shape (..., 2k), x and y in turn.
        size_wh: Width and height of the original image, pixels, 1 or more.

    Returns:
        float32, the same shape. At most half a bin from where the thing was.

    Example:
        >>> decode_bins([[53, 333, 933, 774]], (640, 480)).astype(int).tolist()
        [[34, 160, 597, 371]]
    """
    centres = np.asarray(bins, np.float32) + np.float32(0.5)
    pixels: Floats = centres * _pixels_per_bin(centres.shape, size_wh)
    return pixels


def _pixels_per_bin(shape: tuple[int, ...], size_wh: tuple[int, int]) -> Floats:
    if min(size_wh) < 1:
        raise ValueError(f"image size {size_wh[0]} x {size_wh[1]}; both must be 1 or more")
    pair = np.array([side / NUM_BINS for side in size_wh], np.float32)
    return np.tile(pair, shape[-1] // 2)


def spell_places(bins: npt.ArrayLike) -> list[str]:
    """The location tokens of each place, shape (n, 2k) in, n strings out.

    Example:
        >>> spell_places([[1, 2, 30, 40]])
        ['<loc_1><loc_2><loc_30><loc_40>']
    """
    places = np.asarray(bins).tolist()
    return ["".join(f"<loc_{number}>" for number in place) for place in places]


def spell_polygons(instances: Sequence[Sequence[str]]) -> str:
    """The target of a segmentation task, from the spelled rings of every instance.

    Rings of one instance are parted by `<sep>`; several instances are wrapped in `<poly>`.
    """
    joined = ["<sep>".join(rings) for rings in instances]
    return joined[0] if len(joined) == 1 else "".join(f"<poly>{one}</poly>" for one in joined)


def is_speakable(text: str | None) -> bool:
    """Whether a text can be a label or a caption: it has words, and spells no special token."""
    return bool(text and text.strip()) and _SPECIAL.search(text or "") is None


def classify_pieces(pieces: Sequence[str]) -> tuple[Flags, Flags]:
    """Which tokens are words, and which are begin, end or pad; both shape (n,).

    Location tokens and markers are neither, whatever a tokenizer's own list of special ones says.
    """
    is_word = [_SPECIAL.fullmatch(piece) is None for piece in pieces]
    return np.array(is_word, bool), np.array([piece in _MARKS for piece in pieces], bool)


def parse_answer(text: str, form: Form) -> Parsed:
    """What a generated text says, for any text whatever; see the top of this file.

    Args:
        text: As the tokenizer decodes it with its special tokens, or as `join_pieces` does.
        form: `text` is one item; `boxes` are bare; `labelled_boxes` are any number of boxes behind
            each label; `quads` is one behind each; `polygons` are bare instances of rings;
            `labelled_polygons` are instances behind a label, or labelled boxes in a text that has
            no `<poly>`.

    Returns:
        Items in the order of the text.
    """
    cleaned, origins = _without_marks(text)
    if form == "labelled_polygons" and "<poly>" not in text:
        form = "labelled_boxes"
    if form == "text":
        return Parsed(list(_plain(cleaned, origins)), 0)
    find = _polygons if form.endswith("polygons") else _boxes
    items = list(find(cleaned, origins, form))
    num_used = sum(len(place) for item in items for place in item.places)
    return Parsed(items, len(_BIN.findall(cleaned)) - num_used)


def join_pieces(pieces: Sequence[str]) -> tuple[str, npt.NDArray[np.int64]]:
    """The text of byte-level tokens, and the characters each of them has a part in.

    Args:
        pieces: As `convert_ids_to_tokens` gives them: a character for each byte, special tokens as
            they are.

    Returns:
        The text, with U+FFFD where bytes are no UTF-8; and half-open ranges in it, shape (n, 2).
        Those of neighbours overlap where a character is made of both.
    """
    raw = [_bytes_of(piece) for piece in pieces]
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    text, chars = "", []  # chars: of each byte, the place of its character
    for number in b"".join(raw):
        text += decoder.decode(bytes([number]))
        is_waiting = bool(decoder.getstate()[0])  # for the rest of its character
        chars.append(len(text) if is_waiting else len(text) - 1)
    text += decoder.decode(b"", final=True)
    places = np.array([*chars, len(text)], np.int64)
    bounds = np.cumsum([0, *(len(part) for part in raw)])
    first, last = bounds[:-1], bounds[1:]
    starts = places[first]
    return text, np.stack([starts, np.where(last > first, places[last - 1] + 1, starts)], axis=1)


def _bytes_of(piece: str) -> bytes:
    numbers = [_BYTE_OF.get(char) for char in piece]
    if any(number is None for number in numbers):  # an added token, which is spelt as it is
        return piece.encode("utf-8", "replace")
    return bytes(number for number in numbers if number is not None)


def _byte_alphabet() -> dict[str, int]:
    """The byte each character of a byte-level token stands for (GPT-2's byte-pair encoding).

    Printable Latin-1 stands for itself, the other bytes for U+0100 onwards in their order.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [number for number in range(0x100) if number not in printable]
    alphabet = {chr(number): number for number in printable}
    return alphabet | {chr(0x100 + place): number for place, number in enumerate(others)}


_BYTE_OF = _byte_alphabet()


class _Place(NamedTuple):
    bins: tuple[int, ...]
    start: int  # in the cleaned text
    end: int


def _without_marks(text: str) -> tuple[str, npt.NDArray[np.int64]]:
    """The text without begin, end and pads, and where each of its characters stood before."""
    origins = np.arange(len(text))
    for mark in _MARKS:
        found = [match.start() for match in re.finditer(mark, text)]
        if found:
            origins = np.delete(origins, np.add.outer(found, np.arange(len(mark))))
            text = text.replace(mark, "")
    return text, origins


def _plain(text: str, origins: npt.NDArray[np.int64]) -> Iterator[Item]:
    pieces, places, start = [], [], 0
    for match in _SPECIAL.finditer(text):
        pieces.append(text[start : match.start()])
        places.append(origins[start : match.start()])
        start = match.end()
    words = "".join([*pieces, text[start:]])
    if label := words.strip():
        kept = np.concatenate([*places, origins[start:]])
        first = len(words) - len(words.lstrip())
        yield Item(label, (int(kept[first]), int(kept[first + len(label) - 1]) + 1))


def _boxes(text: str, origins: npt.NDArray[np.int64], form: Form) -> Iterator[Item]:
    size = QUAD_BINS if form == "quads" else BOX_BINS
    for label_start, start, end in _runs(text, _BOX_RUNS):
        label, span = _label(text, label_start, start, origins)
        if not label and form != "boxes":
            continue
        numbers = [(_bin(match[1]), match) for match in _BIN.finditer(text, start, end)]
        count = len(numbers) // size
        for i in range(min(count, 1) if form == "quads" else count):
            part = numbers[i * size : (i + 1) * size]
            bins = tuple(number for number, _ in part)
            if max(bins) < NUM_BINS and (size == QUAD_BINS or _runs_forwards(bins)):
                place = _Place(bins, part[0][1].start(), part[-1][1].end())
                shown = ("", (0, 0)) if form == "boxes" else (label, span)
                yield _item(*shown, [place], origins)


def _polygons(text: str, origins: npt.NDArray[np.int64], form: Form) -> Iterator[Item]:
    for label_start, start, end in _runs(text, _POLYGON_RUNS):
        label, span = ("", (0, 0))
        if form == "labelled_polygons":
            label, span = _label(text, label_start, start, origins)
            if not label:
                continue
        for instance_start, instance_end in _instances(text, start, end):
            if rings := list(_rings(text, instance_start, instance_end)):
                yield _item(label, span, rings, origins)


def _instances(text: str, start: int, end: int) -> list[Span]:
    """The parts between `<poly>` and `</poly>`; where one of them is missing, all is one."""
    run = text[start:end]
    if "<poly>" in run and "</poly>" in run:
        return [(start + m.start(1), start + m.end(1)) for m in _INSTANCE.finditer(run)]
    return [(start, end)]


def _rings(text: str, start: int, end: int) -> Iterator[_Place]:
    for ring in _RING.finditer(text[start:end]):
        numbers = list(_BIN.finditer(ring[1]))
        numbers = numbers[: len(numbers) // 2 * 2]  # half a corner is none
        bins = tuple(_bin(match[1]) for match in numbers)
        if len(bins) >= LEAST_RING_BINS and max(bins) < NUM_BINS:
            at = start + ring.start(1)
            yield _Place(bins, at, at + numbers[-1].end())


def _runs(text: str, pattern: re.Pattern[str]) -> Iterator[tuple[int, int, int]]:
    """Where the label before each run of places starts, and the run itself."""
    label_start = 0
    for match in pattern.finditer(text):
        if match[1]:
            yield label_start, match.start(), match.end()
        label_start = match.end()


def _label(text: str, start: int, end: int, origins: npt.NDArray[np.int64]) -> tuple[str, Span]:
    words = text[start:end]
    label = words.strip()
    first = start + len(words) - len(words.lstrip())
    return label, _original(first, first + len(label), origins) if label else (0, 0)


def _item(label: str, span: Span, places: list[_Place], origins: npt.NDArray[np.int64]) -> Item:
    spans = tuple(_original(place.start, place.end, origins) for place in places)
    return Item(label, span, tuple(place.bins for place in places), spans)


def _original(start: int, end: int, origins: npt.NDArray[np.int64]) -> Span:
    return int(origins[start]), int(origins[end - 1]) + 1


def _bin(digits: str) -> int:
    # a number of a thousand digits is no bin either, and takes Python long to read
    return min(int(digits), NUM_BINS) if len(digits) < len(str(NUM_BINS)) * 4 else NUM_BINS


def _runs_forwards(box: tuple[int, ...]) -> bool:
    x_min, y_min, x_max, y_max = box
    return x_min <= x_max and y_min <= y_max
