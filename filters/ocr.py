"""Rules on what was read in the picture: too small, no writing, read twice."""

import math
from dataclasses import dataclass, replace
from typing import ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.geometry import suppress
from engine.protocols import Context
from engine.schema import Tables, Verdicts, box_array
from filters.columns import (
    Flags,
    Floats,
    Indices,
    flags,
    groups_of,
    image_places,
    lost_against,
    row_scores,
    words_of,
)
from filters.ocr_quads import outline_iou, quads_of
from filters.text_letters import surprise
from filters.text_limits import measure_texts, of_place
from filters.text_words import normalised

_KINDS = ("region",)
_NO_WORD = r"\S*\pN\S*|\b[A-Za-z]{1,4}\b"  # codes, numbers, initials: they spell nothing


def _readings(rows: pa.Table) -> Flags:
    """OCR rows but those marked `ignore`, such as ICDAR's `###`, shape (n,)."""
    return of_place(rows, "region/ocr") & ~flags(rows["ignore"])


@dataclass(frozen=True, kw_only=True)
class MinTextHeight:
    """Reject readings too small to be read with any certainty.

    Judges rows of role `ocr` but those marked `ignore`. Measures the height of the writing, px: the
    shorter of the two mean sides of its quad, which is the height of a line however it is turned;
    of one character the side that is upright; without a quad the same of its box. Kept when
    measured >= min_height_px. A row with neither is left alone. The default lies well below the
    smallest of the 90 readings that people found legible on 5 photos of ICDAR 2015 and 2 receipts
    (13.1), and below the smallest they found illegible (8.1).
    """

    min_height_px: float = 8.0
    name: ClassVar[str] = "min_text_height"
    applies_to: ClassVar[tuple[str, ...]] = _KINDS

    def __post_init__(self) -> None:
        if not 0 < self.min_height_px < math.inf:
            raise ConfigError(
                f"rule 'min_text_height': min_height_px is {self.min_height_px}; "
                "it is a height above 0, in px"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        sides = quads_of(rows) - np.roll(quads_of(rows), 1, axis=1)
        lengths = np.hypot(sides[..., 0], sides[..., 1])
        upright, level = (lengths[:, i::2].mean(axis=1) for i in (0, 1))
        is_single = measure_texts(rows, _readings(rows), _num_chars) <= 1
        heights = np.where(is_single, upright, np.minimum(upright, level)).astype(np.float32)
        heights[~_readings(rows)] = np.nan
        return Verdicts(
            pa.array(heights < np.float32(self.min_height_px)),
            measured=pa.array(heights, from_pandas=True),
            limit=self.min_height_px,
        )


def _num_chars(texts: pa.Array) -> Floats:
    lengths = pc.utf8_length(pc.utf8_trim_whitespace(texts))
    return np.asarray(lengths.to_numpy(zero_copy_only=False), np.float32)


@dataclass(frozen=True, kw_only=True)
class MinLegibility:
    """Reject readings that are no writing: signs for texture, letters at random.

    Judges rows of role `ocr` but those marked `ignore`. Measures the share of letters, digits and
    signs of currency among the characters, spaces apart; rejected below `min_share`, as is a
    reading of no character. Of words of at least five letters a to z and no digit it measures how
    surprising the letters are in English words, in bits (`filters.text_letters.surprise`); rejected
    above `max_surprise`. `against` says which: `signs` or `spelling`. Prices, dates and codes have
    no such words.

    No default rejects one of the 90 truths of 5 photos of ICDAR 2015 and 2 receipts: their lowest
    share is .5 (`.49`), their highest surprise 6.25 bits (`MfrCpn`, for words that were shortened);
    of random runs of eight letters the default takes 4 in 10.
    """

    min_share: float = 0.5
    max_surprise: float = 6.5
    name: ClassVar[str] = "min_legibility"
    applies_to: ClassVar[tuple[str, ...]] = _KINDS

    def __post_init__(self) -> None:
        if not 0 <= self.min_share <= 1:
            raise ConfigError(
                f"rule 'min_legibility': min_share is {self.min_share}; a share lies in 0..1"
            )
        if not 0 < self.max_surprise < math.inf:
            raise ConfigError(
                f"rule 'min_legibility': max_surprise is {self.max_surprise}; "
                "it is above 0, in bits"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        share = measure_texts(rows, _readings(rows), legible_share)
        few = share < np.float32(self.min_share)
        bits = measure_texts(rows, _readings(rows) & ~few, _spelling)
        odd = bits > np.float32(self.max_surprise)
        reason = np.where(few, 0, 1)
        return Verdicts(
            pa.array(few | odd),
            measured=pa.array(np.where(odd, bits, share), from_pandas=True),
            limit=pa.array(np.where(odd, self.max_surprise, self.min_share).astype(np.float32)),
            against=pa.array(["signs", "spelling"]).take(pa.array(reason, mask=~(few | odd))),
        )


def _spelling(texts: pa.Array) -> Floats:
    """How surprising the letters of whole words are, bits, shape (k,)."""
    return surprise(pc.replace_substring_regex(texts, _NO_WORD, " "))


def legible_share(texts: pa.Array) -> Floats:
    """Letters, digits and signs of currency among characters, shape (k,); 0 where there is none."""
    legible, others = (
        np.asarray(
            pc.utf8_length(pc.replace_substring_regex(texts, pattern, "")).to_numpy(
                zero_copy_only=False
            ),
            np.float32,
        )
        for pattern in (r"[^\pL\pM\pN\p{Sc}]+", r"[\pL\pM\pN\p{Sc}\s]+")
    )
    share: Floats = legible / np.maximum(legible + others, 1)
    return share


@dataclass(frozen=True, kw_only=True)
class DuplicateReading:
    """Reject a reading of what a better one reads already.

    Judges rows of role `ocr` but those marked `ignore` against those of the same image, whoever
    said them: kept rows of earlier levels win, then rows said by a person, then the higher score (a
    row without one comes last), then the earlier row. Measures the overlap of their boxes (IoU), of
    quads that stand aslant that of the quads. Of two with the same transcript (case, spaces and
    signs ignored) the worse is kept when measured <= iou; then of those left with any transcripts,
    as one line has at several rotations, when measured <= iou_any. `against` names the better row.
    The defaults are ICDAR's for a match, and ours: no two of the 113 places marked on 5 photos of
    ICDAR 2015 and 2 receipts overlap by more than .3.
    """

    iou: float = 0.5
    iou_any: float = 0.8
    name: ClassVar[str] = "duplicate_reading"
    applies_to: ClassVar[tuple[str, ...]] = _KINDS

    def __post_init__(self) -> None:
        for option in ("iou", "iou_any"):
            value = getattr(self, option)
            if not 0 <= value <= 1:
                raise ConfigError(
                    f"rule 'duplicate_reading': {option} is {value}; an overlap lies in 0..1"
                )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        places = image_places(tables) + 1
        texts = words_of(rows["text"])
        plain = _plain(texts.words)
        said = np.append(plain, -1)[texts.indices]
        same = groups_of(places, said + 1)
        alone = said < 0  # no letter to compare: such readings are of different transcripts
        same[alone] = same.max(initial=0) + 1 + np.flatnonzero(alone)
        readings = np.flatnonzero(_readings(rows))
        lost, better, overlaps = _read_again(rows, readings, same, self.iou, context)
        others = np.setdiff1d(readings, lost)
        again = _read_again(rows, others, places, self.iou_any, context)
        verdicts = lost_against(
            rows,
            np.append(lost, again.lost),
            np.append(better, again.better),
            np.append(overlaps, again.overlaps),
            self.iou,
        )
        limit = np.full(rows.num_rows, self.iou, np.float32)
        limit[again.lost] = self.iou_any
        return replace(verdicts, limit=pa.array(limit))


class _Again(NamedTuple):
    """Rows that read what a better row reads, and how far they overlap; shapes (k,)."""

    lost: Indices
    better: Indices
    overlaps: Floats


def _read_again(
    rows: pa.Table, readings: Indices, groups: Indices, iou: float, context: Context
) -> _Again:
    """Suppression by boxes; pairs whose quads overlap less are then taken out, and it is redone."""
    boxes, quads = box_array(rows)[readings], quads_of(rows)[readings]
    scores = np.where(flags(rows["human"]), np.float32(np.inf), row_scores(rows))[readings]
    dense = groups_of(groups[readings])
    apart = np.empty((0, 2), np.int64)
    while True:
        _, against = suppress(
            boxes, scores, dense, iou, fixed=~context.fresh[readings], exempt=apart
        )
        lost = np.flatnonzero(against >= 0)
        better = against[lost]
        overlaps = outline_iou(boxes, quads, lost, better)
        too_far = overlaps <= np.float32(iou)
        if not too_far.any():
            return _Again(readings[lost], readings[better], overlaps)
        apart = np.concatenate([apart, np.stack([lost, better], axis=1)[too_far]])


def _plain(transcripts: pa.Array) -> Indices:
    """A number per transcript, equal where letters and digits are, -1 where there are none."""
    plain = pc.replace_substring_regex(normalised(transcripts), " ", "").dictionary_encode()
    codes = plain.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    empty = pc.equal(plain.dictionary, "").to_numpy(zero_copy_only=False)
    found: Indices = np.where(np.append(empty, False)[codes], -1, codes)
    return found
