"""The rule that picks one text for a region from the candidates a source scored against it."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.protocols import Context
from engine.schema import Tables, Verdicts
from filters.columns import Flags, Floats, Indices, flags, is_word, one_chunk, words_of


@dataclass(frozen=True, kw_only=True)
class BestRegionText:
    """Reject all texts of a region but the one its source scored highest.

    Judges fresh rows of kind `region`, role `brief`, that have a `text_score`, against those of the
    same source and region: of several the highest is kept, of equal ones the first. Measures the
    text score; the limit is the winner's, which `against` names. A source that gives a region one
    text only, as `region_caption` does, loses none, nor does a row without a text score; sources
    never compete with each other. List it after `phrase_blacklist`, so that no banned phrase wins,
    and before `duplicate_region`, which would take a text from one region because another has it.
    The choice by similarity is the paper's (Florence-2, 4.3).
    """

    name: ClassVar[str] = "best_region_text"
    applies_to: ClassVar[tuple[str, ...]] = ("region",)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        judged = np.flatnonzero(_candidates(rows) & context.fresh)
        scores = rows["text_score"].to_numpy()[judged]
        winner = np.full(rows.num_rows, -1, np.int64)
        winner[judged] = judged[_best_of_group(_groups(rows)[judged], scores)]
        rejected = (winner >= 0) & (winner != np.arange(rows.num_rows))
        against = pa.array(winner, mask=~rejected)
        return Verdicts(
            pa.array(rejected),
            measured=one_chunk(rows["text_score"]),
            limit=one_chunk(rows["text_score"]).take(against),
            against=one_chunk(rows["annotation_id"]).take(against),
        )


def _candidates(rows: pa.Table) -> Flags:
    scored = flags(pc.is_valid(rows["text_score"]))
    return is_word(rows["kind"], ["region"]) & is_word(rows["role"], ["brief"]) & scored


def _groups(rows: pa.Table) -> Indices:
    """A code per row, shape (n,), equal for rows of one source on one region of one image."""
    groups = np.zeros(rows.num_rows, np.int64)
    for name in ("image_key", "source", "region_id"):
        words = words_of(rows[name])
        groups = groups * (len(words.words) + 1) + words.indices + 1
    return groups


def _best_of_group(groups: Indices, scores: Floats) -> Indices:
    """The place of the highest score, of equal ones the first, among the rows of each one's group.

    Shapes (n,); both columns are of the same rows.
    """
    order = np.lexsort((-scores, groups))  # stable: of equal scores the earlier row first
    starts = np.flatnonzero(np.diff(groups[order], prepend=-1))
    counts = np.diff(starts, append=len(order))
    best = np.empty(len(order), np.int64)
    best[order] = np.repeat(order[starts], counts)
    return best
