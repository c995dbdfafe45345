"""Rules on what ties a phrase to its caption and to its boxes."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.geometry import paired_iou, suppress
from engine.protocols import Context
from engine.schema import Tables, Verdicts, box_array
from filters.columns import (
    Flags,
    Floats,
    Indices,
    flags,
    groups_of,
    image_places,
    is_word,
    links,
    lost_against,
    one_chunk,
    row_scores,
    words_of,
)

_LEAD_MASK, _CONTINUES = 0xC0, 0x80  # bytes of UTF-8 that go on with a code point: 10xxxxxx


@dataclass(frozen=True, kw_only=True)
class MinPhraseScore:
    """Reject grounded phrases whose source was not sure that the phrase names the box.

    Judges rows of kind `grounding`. Measures the text score; kept when measured >= min_score. A row
    without one is left alone. `min_score` limits the score of the box: FLD-5B asks for both
    (Florence-2, 4.3). The default is the text threshold in Grounding DINO's own demos.
    """

    min_score: float = 0.25
    name: ClassVar[str] = "min_phrase_score"
    applies_to: ClassVar[tuple[str, ...]] = ("grounding",)

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ConfigError(
                f"rule 'min_phrase_score': min_score is {self.min_score}; scores lie in 0..1"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        scores = np.where(_is_grounding(rows), rows["text_score"].to_numpy(), np.float32(np.nan))
        return Verdicts(
            pa.array(scores < np.float32(self.min_score)),
            measured=pa.array(scores, pa.float32(), from_pandas=True),
            limit=self.min_score,
        )


@dataclass(frozen=True, kw_only=True)
class SpanEqualsPhrase:
    """Reject grounded phrases that do not stand in their text where they say they do.

    Judges rows of kind `grounding` that have a phrase, a span and a text in the table. Code points
    `span_start` to `span_end` of the text must be the phrase to the letter, `against` names the
    text; nothing is measured. A text that is not there is for `orphan`. There is nothing to choose:
    what is trained on the span would learn another word.
    """

    name: ClassVar[str] = "span_equals_phrase"
    applies_to: ClassVar[tuple[str, ...]] = ("grounding",)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        named = links(rows, ["text_id"])
        text = np.full(rows.num_rows, -1, np.int64)
        text[named.rows] = named.targets
        judged = np.flatnonzero(
            _is_grounding(rows)
            & (text >= 0)
            & np.append(flags(pc.is_valid(rows["text"])), False)[text]
            & flags(pc.is_valid(rows["text"]))
            & flags(pc.is_valid(rows["span_start"]))
            & flags(pc.is_valid(rows["span_end"]))
        )
        places = pa.array(judged)
        starts, ends = (
            rows[name].take(places).to_numpy().astype(np.int64)
            for name in ("span_start", "span_end")
        )
        texts = one_chunk(rows["text"])
        equal = _stands_at(texts.take(pa.array(text[judged])), starts, ends, texts.take(places))
        rejected = np.zeros(rows.num_rows, bool)
        rejected[judged] = ~equal
        against = one_chunk(rows["text_id"]).filter(pa.array(rejected))
        names = pc.replace_with_mask(
            pa.nulls(rows.num_rows, pa.string()), pa.array(rejected), against
        )
        return Verdicts(pa.array(rejected), against=names)


@dataclass(frozen=True, kw_only=True)
class MaxBoxesPerPhrase:
    """Reject the weakest boxes of a phrase that has too many.

    Judges rows of kind `grounding` with a box against those of the same phrase: the same text and
    span, or without a text the same image and words; and of the same source. Kept rows of earlier
    levels come first, then rows said by a person, then the higher score (a row without one comes
    last), then the earlier row. Measures the place in this order, from 1; kept when measured <=
    max_boxes. By default one phrase has no more boxes than all phrases of a detailed text together
    have in FLD-5B in the mean (10.25, Table 2).
    """

    max_boxes: int = 10
    name: ClassVar[str] = "max_boxes_per_phrase"
    applies_to: ClassVar[tuple[str, ...]] = ("grounding",)

    def __post_init__(self) -> None:
        if self.max_boxes < 1:
            raise ConfigError(
                f"rule 'max_boxes_per_phrase': max_boxes is {self.max_boxes}; it is 1 box or more"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        judged = np.flatnonzero(_is_grounding(rows) & flags(pc.is_valid(rows["box"])))
        sources = words_of(rows["source"])
        groups = groups_of(_phrase_groups(tables), sources.indices + 1)[judged]
        weakness = -np.nan_to_num(_rank_scores(rows), nan=-np.inf)[judged]
        order = np.lexsort((weakness, context.fresh[judged], groups))
        starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
        counts = np.diff(starts, append=len(order))
        measured = np.full(rows.num_rows, np.nan, np.float32)
        measured[judged[order]] = np.arange(len(order)) - np.repeat(starts, counts) + 1
        return Verdicts(
            pa.array(measured > np.float32(self.max_boxes)),
            measured=pa.array(measured, from_pandas=True),
            limit=float(self.max_boxes),
        )


@dataclass(frozen=True, kw_only=True)
class DuplicateTriplet:
    """Reject a text, phrase and region that a better row says already, whoever said it.

    Judges rows of kind `grounding` with a box against those of the same phrase: the same text and
    span, or without a text the same image and words. Kept rows of earlier levels win, then rows
    said by a person, then the higher score (a row without one comes last), then the earlier row.
    Measures the IoU with the best kept row it overlaps, which `against` names; kept when measured
    <= iou. The default is that of `duplicate_region`; GranD takes 0.9 for boxes of one model.
    """

    iou: float = 0.7
    name: ClassVar[str] = "duplicate_triplet"
    applies_to: ClassVar[tuple[str, ...]] = ("grounding",)

    def __post_init__(self) -> None:
        if not 0 <= self.iou <= 1:
            raise ConfigError(
                f"rule 'duplicate_triplet': iou is {self.iou}; an overlap lies in 0..1"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        judged = np.flatnonzero(_is_grounding(rows))
        boxes = box_array(rows)
        groups = groups_of(_phrase_groups(tables), flags(rows["ignore"]).astype(np.int64))
        _, better = suppress(
            boxes[judged],
            _rank_scores(rows)[judged],
            groups[judged],
            self.iou,
            fixed=~context.fresh[judged],
        )
        lost, winners = judged[better >= 0], judged[better[better >= 0]]
        overlaps = paired_iou(boxes[lost], boxes[winners])
        return lost_against(rows, lost, winners, overlaps, self.iou)


def _is_grounding(rows: pa.Table) -> Flags:
    return is_word(rows["kind"], ["grounding"])


def _rank_scores(rows: pa.Table) -> Floats:
    """Row scores, what people say above all; shape (n,)."""
    scores: Floats = np.where(flags(rows["human"]), np.float32(np.inf), row_scores(rows))
    return scores


def _phrase_groups(tables: Tables) -> Indices:
    """A code per row, shape (n,), equal for rows of one phrase of one text or image."""
    rows = tables.annotations
    spans = [
        pc.fill_null(rows[name], -1).to_numpy().astype(np.int64) + 1
        for name in ("span_start", "span_end")
    ]
    words, texts = words_of(rows["text"], fold=True), words_of(rows["text_id"])
    return groups_of(image_places(tables) + 1, texts.indices + 1, words.indices + 1, *spans)


def _stands_at(texts: pa.Array, starts: Indices, ends: Indices, phrases: pa.Array) -> Flags:
    """Whether code points `starts` to `ends` of each text are its phrase, shape (k,)."""
    data, offsets = _bytes_of(texts)
    wanted, wanted_offsets = _bytes_of(phrases)
    continues = (data & _LEAD_MASK) == _CONTINUES
    first_bytes = np.append(np.flatnonzero(~continues), len(data))  # of every code point
    before = np.searchsorted(first_bytes, offsets)  # code points before each text
    lengths = np.diff(before)
    inside = (starts >= 0) & (starts <= ends) & (ends <= lengths)
    low, high = (first_bytes[before[:-1] + np.clip(point, 0, lengths)] for point in (starts, ends))
    sizes = np.diff(wanted_offsets)
    inside &= high - low == sizes
    owner = np.repeat(np.arange(len(sizes)), np.where(inside, sizes, 0))
    step = np.arange(len(owner)) - (np.cumsum(np.where(inside, sizes, 0)) - sizes * inside)[owner]
    differs = data[low[owner] + step] != wanted[wanted_offsets[:-1][owner] + step]
    inside[owner[differs]] = False
    return inside


def _bytes_of(strings: pa.Array) -> tuple[npt.NDArray[np.uint8], Indices]:
    """The UTF-8 of k strings, none null, one after another, and where each starts, (k + 1,)."""
    lengths = pc.binary_length(strings).to_numpy(zero_copy_only=False).astype(np.int64)
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    packed = pa.concat_arrays([strings.cast(pa.large_string())])
    start = packed.offset
    at = np.frombuffer(packed.buffers()[1] or b"\0" * 8, np.int64)[start] if len(packed) else 0
    data = np.frombuffer(packed.buffers()[2] or b"", np.uint8)
    return data[at : at + offsets[-1]], offsets
