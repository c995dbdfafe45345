"""Phrases of captions and where they point: recall@1 as on Flickr30k Entities."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.evaluate.pairs import (
    Flags,
    Indices,
    Numbers,
    flags_of,
    folded,
    scores_of,
    shared_codes,
)
from engine.geometry import Boxes, is_box, paired_iou
from engine.schema import box_array


@dataclass(frozen=True)
class PhraseScore:
    """Phrases of the truth that have a box, those that were answered, those answered right."""

    num_right: int
    num_answered: int
    num_phrases: int

    @property
    def recall_at_1(self) -> float | None:
        """Share of the true phrases whose best box is right; null where there is no phrase."""
        return self.num_right / self.num_phrases if self.num_phrases else None


class PhraseScores:
    """Counts of phrases grounded, added up shard by shard; memory does not grow.

    The protocol of Flickr30k Entities (Plummer et al., ICCV 2015): of the boxes claimed for a
    phrase the one with the highest score counts (without a score: after all that have one, then by
    row), and it is right if its IoU with the truth is `min_iou` or more. Phrases to which the
    truth gives no box are left out.

    A phrase of the truth is looked up by its caption and place there; where nothing is claimed of
    it, by its image and words; case is ignored. The column `caption` of both tables tells the
    caption of a row (see `with_captions`).

    Args:
        min_iou: Least overlap, 0.5 in that protocol.
        merged: Compare with the one box around all true boxes of the phrase (MERGED-BOXES), instead
            of with any of them (ANY-BOX).
        num_worlds: How many sets of claims are compared at once; see `add`.
    """

    def __init__(self, *, min_iou: float = 0.5, merged: bool = False, num_worlds: int = 1) -> None:
        self._min_iou = min_iou
        self._merged = merged
        self._right = np.zeros(num_worlds, np.int64)
        self._answered = np.zeros(num_worlds, np.int64)
        self._num_phrases = 0

    def add(self, claimed: pa.Table, truth: pa.Table, alive: Flags | None = None) -> None:
        """Counts the phrases of some images; arguments as of `RegionScores.add`."""
        if alive is None:
            alive = np.ones((len(self._right), claimed.num_rows), bool)
        truth = truth.filter(pa.array(is_box(box_array(truth))))
        mine, true = box_array(claimed), box_array(truth)
        placed, worded = _keys(claimed, truth)
        phrases, firsts = np.unique(placed[1], return_index=True)
        of_row = np.searchsorted(phrases, placed[1])
        self._num_phrases += len(phrases)
        if self._merged:
            true = _around(true, of_row, len(phrases))
            of_row, words = np.arange(len(phrases)), worded[1][firsts]
        else:
            words = worded[1]
        asked = phrases[of_row]
        known = np.isin(asked, placed[0])
        scores = scores_of(claimed)
        for world, there in enumerate(alive):
            by_place = _best(placed[0], scores, there, asked)
            by_words = _best(worded[0], scores, there, words)
            best = np.where(known, by_place, by_words)
            answered = best >= 0
            right = np.zeros(len(best), bool)
            right[answered] = paired_iou(mine[best[answered]], true[answered]) >= self._min_iou
            self._answered[world] += len(np.unique(of_row[answered]))
            self._right[world] += len(np.unique(of_row[right]))

    def result(self) -> list[PhraseScore]:
        """The counts of each world."""
        return [
            PhraseScore(right, answered, self._num_phrases)
            for right, answered in zip(self._right.tolist(), self._answered.tolist(), strict=True)
        ]


def with_captions(groundings: pa.Table, texts: pa.Table) -> pa.Table:
    """The rows with a column `caption`: the text that their `text_id` names, null where it is none.

    Args:
        groundings: Rows of kind `grounding`.
        texts: Rows of kind `text` of the same images, with their `annotation_id`.
    """
    # names need only differ within an image
    named = _joined(groundings["image_key"], groundings["text_id"])
    mine, true, _ = shared_codes(named, _joined(texts["image_key"], texts["annotation_id"]))
    order = np.argsort(true, kind="stable")
    at = np.minimum(np.searchsorted(true[order], mine), max(0, len(true) - 1))
    if not len(true):
        return groundings.append_column("caption", pa.nulls(len(mine), pa.string()))
    found = (true[order][at] == mine) & flags_of(groundings["text_id"].is_valid())
    captions = texts["text"].take(pa.array(order[at], mask=~found))
    return groundings.append_column("caption", captions)


def _joined(*columns: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.binary_join_element_wise(
        *(pc.fill_null(column.cast(pa.string()), "") for column in columns), "\0"
    )


def _keys(claimed: pa.Table, truth: pa.Table) -> tuple[tuple[Indices, Indices], ...]:
    """Codes of (image, caption, place) and of (image, words), of claims and of truths each.

    A truth without caption is one phrase of its image for every wording.
    """
    placed = [
        _joined(
            table["image_key"],
            folded(table["caption"]),
            table["span_start"],
            table["span_end"],
            folded(table["text"]),
        )
        for table in (claimed, truth)
    ]
    worded = [_joined(table["image_key"], folded(table["text"])) for table in (claimed, truth)]
    return shared_codes(*placed)[:2], shared_codes(*worded)[:2]


def _best(keys: Indices, scores: Numbers, there: Flags, asked: Indices) -> Indices:
    """The claim of the highest score with each asked key, shape of `asked`; -1 for none."""
    rows = np.flatnonzero(there)
    order = rows[np.lexsort((-scores[rows], keys[rows]))]
    ordered = keys[order]
    at = np.searchsorted(ordered, asked)
    inside = np.minimum(at, max(0, len(order) - 1))
    if not len(order):
        return np.full(len(asked), -1, np.int64)
    best: Indices = np.where((at < len(order)) & (ordered[inside] == asked), order[inside], -1)
    return best


def _around(boxes: Boxes, groups: Indices, num_groups: int) -> Boxes:
    """The smallest box around all boxes of each group, shape (num_groups, 4)."""
    merged = np.concatenate(
        [np.full((num_groups, 2), np.inf), np.full((num_groups, 2), -np.inf)], axis=1
    ).astype(np.float32)
    np.minimum.at(merged[:, :2], groups, boxes[:, :2])
    np.maximum.at(merged[:, 2:], groups, boxes[:, 2:])
    return merged
