"""Words read against true words, by the conventions of ICDAR 2015 (Incidental Scene Text)."""

from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.evaluate.pairs import (
    Flags,
    Indices,
    Numbers,
    assign,
    candidates,
    flags_of,
    folded,
    places_by_score,
    shared_codes,
)
from engine.evaluate.polygons import outline_areas, outlines, shared_areas
from engine.evaluate.regions import Score

UNREADABLE = "###"  # ICDAR's transcript of a word that nobody is asked to read
# ICDAR's AREA_PRECISION_CONSTRAINT: a word more than half inside an unreadable one is not judged
_MAX_UNREADABLE_SHARE = 0.5


@dataclass(frozen=True)
class WordScore:
    """Detection, and detection with the right transcript (end to end)."""

    detection: Score
    end_to_end: Score

    @property
    def exact_rate(self) -> float | None:
        """Share of the words found whose transcript is right; null where none was found."""
        found = self.detection.num_matched
        return self.end_to_end.num_matched / found if found else None


class WordScores:
    """Counts of words found and words read, added up shard by shard.

    As the scripts of ICDAR 2015 do: polygons (a row without one has its box), the true words of an
    image in their order, each taking the first free claim with an IoU above the limit. True words
    with `ignore` or the transcript `###` need not be found, and claims of which more than half lies
    in one are not judged. A transcript is compared only after the match. Memory does not grow.

    Args:
        min_iou: Exclusive, as in those scripts; theirs is 0.5.
        ignore_case: Transcripts that differ in case alone are the same; so it is in ICDAR's
            end-to-end task.
        num_worlds: How many sets of claims are compared at once; see `add`.
    """

    def __init__(
        self, *, min_iou: float = 0.5, ignore_case: bool = True, num_worlds: int = 1
    ) -> None:
        self._min_iou = min_iou
        self._ignore_case = ignore_case
        self._matched = np.zeros(num_worlds, np.int64)
        self._exact = np.zeros(num_worlds, np.int64)
        self._claimed = np.zeros(num_worlds, np.int64)
        self._true = 0

    def add(self, claimed: pa.Table, truth: pa.Table, alive: Flags | None = None) -> None:
        """Counts the words of some images; arguments as of `RegionScores.add`."""
        if alive is None:
            alive = np.ones((len(self._claimed), claimed.num_rows), bool)
        unreadable = flags_of(truth["ignore"]) | flags_of(pc.equal(truth["text"], UNREADABLE))
        *images, _ = shared_codes(claimed["image_key"], truth["image_key"])
        pairs, ious, shares = _meetings(claimed, truth, (images[0], images[1]))
        judged = np.ones(claimed.num_rows, bool)
        hidden = unreadable[pairs[1]] & (shares > _MAX_UNREADABLE_SHARE)
        judged[pairs[0][hidden]] = False
        good = (ious > self._min_iou) & judged[pairs[0]] & ~unreadable[pairs[1]]
        claims, truths = (side[good] for side in pairs)
        won = assign(
            truths,
            claims,
            places_by_score(images[1], np.zeros(truth.num_rows))[truths],
            -claims.astype(np.float64),
            allowed=alive[:, claims],
        )
        same = self._same_text(claimed, truth, claims, truths)
        self._matched += won.sum(axis=1)
        self._exact += (won & same).sum(axis=1)
        self._claimed += (alive & judged).sum(axis=1)
        self._true += int((~unreadable).sum())

    def result(self) -> list[WordScore]:
        """The counts of each world."""
        return [
            WordScore(Score(matched, claimed, self._true), Score(exact, claimed, self._true))
            for matched, exact, claimed in zip(
                self._matched.tolist(), self._exact.tolist(), self._claimed.tolist(), strict=True
            )
        ]

    def _same_text(
        self, claimed: pa.Table, truth: pa.Table, claims: Indices, truths: Indices
    ) -> Flags:
        columns = [table["text"] for table in (claimed, truth)]
        if self._ignore_case:
            columns = [folded(column) for column in columns]
        mine, true, _ = shared_codes(*columns)
        return np.equal(mine[claims], true[truths])


def _meetings(
    claimed: pa.Table, truth: pa.Table, images: tuple[Indices, Indices]
) -> tuple[tuple[Indices, Indices], Numbers, Numbers]:
    """Claims and truths that share some area, their IoU, and the share of the claim inside."""
    mine, true = outlines(claimed), outlines(truth)
    areas = outline_areas(mine), outline_areas(true)
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for left, right in candidates(*images):
        shared = shared_areas(mine[left], true[right])
        meets = shared > 0
        found.append((left[meets], right[meets], shared[meets]))
    left, right, shared = (np.concatenate(column) for column in zip(*found, strict=True))
    whole = areas[0][left] + areas[1][right] - shared
    return (left, right), shared / whole, shared / areas[0][left]
