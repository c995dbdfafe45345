"""Boxes against true boxes at one IoU: precision, recall and F1, overall and by class."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.evaluate.pairs import (
    Flags,
    Indices,
    assign,
    flags_of,
    folded,
    near_boxes,
    places_by_score,
    scores_of,
    shared_codes,
)


@dataclass(frozen=True)
class Score:
    """Counts of one comparison; precision, recall and F1 are null where they are 0/0."""

    num_matched: int
    num_claimed: int
    num_true: int

    @property
    def precision(self) -> float | None:
        """Share of claims that are true."""
        return self.num_matched / self.num_claimed if self.num_claimed else None

    @property
    def recall(self) -> float | None:
        """Share of the truth that was claimed."""
        return self.num_matched / self.num_true if self.num_true else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of the two."""
        both = self.num_claimed + self.num_true
        return 2 * self.num_matched / both if both else None


def score_regions(
    claimed: pa.Table, truth: pa.Table, *, min_iou: float = 0.5, same_text: bool = True
) -> Score:
    """Matches boxes one to one within each image, best score first, as COCO does.

    Args:
        claimed: Rows with boxes; every one counts, so filter to kept ones of one role before.
        truth: True rows with boxes of the same images; what matches one with `ignore` is not
            counted.
        min_iou: Least overlap of a match; 0.5 is the usual one (PASCAL VOC).
        same_text: A match must have the same text too, case ignored.

    Returns:
        The counts; no rows on either side give zero matches.
    """
    scores = RegionScores(min_iou=min_iou, same_text=same_text)
    scores.add(claimed, truth)
    return scores.result()[-1]


class Classes:
    """Numbers for class names, given in the order in which the names are first met."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self._codes: dict[str, int] = {}

    def codes(self, words: Iterable[str]) -> Indices:
        """The number of each name."""
        found = []
        for word in words:
            if word not in self._codes:
                self._codes[word] = len(self.names)
                self.names.append(word)
            found.append(self._codes[word])
        return np.array(found, np.int64)


class RegionScores:
    """Counts of claimed and true boxes, added up shard by shard.

    COCO's matching at one IoU: best score first, rows without a score after all that have one. A
    claim that matches no true box but one with `ignore` (a crowd, a difficult object) is neither
    right nor wrong, and such truths need not be found. Memory grows with the number of classes
    alone.

    Args:
        min_iou: Least overlap of a match, in (0, 1].
        same_text: A claim can only match a truth of the same text, case ignored.
        num_worlds: How many sets of claims are compared at once; see `add`.
    """

    def __init__(
        self, *, min_iou: float = 0.5, same_text: bool = True, num_worlds: int = 1
    ) -> None:
        self._min_iou = min_iou
        self._same_text = same_text
        self._classes = Classes()
        self._matched = np.zeros((num_worlds, 0), np.int64)
        self._claimed = np.zeros((num_worlds, 0), np.int64)
        self._true = np.zeros((1, 0), np.int64)

    def add(self, claimed: pa.Table, truth: pa.Table, alive: Flags | None = None) -> None:
        """Counts the rows of some images.

        Args:
            claimed: All rows on these images that are to be compared.
            truth: All true rows on the same images.
            alive: Which claims there are in each world, shape (num_worlds, n); by default all.
        """
        if alive is None:
            alive = np.ones((len(self._claimed), claimed.num_rows), bool)
        ignored = flags_of(truth["ignore"])
        mine, true, groups = self._groups(claimed, truth)
        pairs = near_boxes(claimed, truth, groups, self._min_iou)
        turns = places_by_score(groups[0], scores_of(claimed))
        real = ~ignored[pairs.truths]
        won = assign(
            pairs.claims,
            pairs.truths,
            turns[pairs.claims],
            pairs.overlaps,
            allowed=alive[:, pairs.claims],
            favoured=np.broadcast_to(real, (len(alive), len(real))),
            reusable=ignored,
        )
        self._grow()
        of_pairs = mine[pairs.claims]
        self._matched += _count(won & real, of_pairs, self._matched.shape[1])
        self._claimed += _count(alive, mine, self._claimed.shape[1])
        self._claimed -= _count(won & ~real, of_pairs, self._claimed.shape[1])
        self._true += _count(~ignored[None, :], true, self._true.shape[1])

    def result(self) -> list[Score]:
        """The counts of each world over all classes."""
        true = int(self._true.sum())
        sums = zip(self._matched.sum(axis=1), self._claimed.sum(axis=1), strict=True)
        return [Score(int(matched), int(claimed), true) for matched, claimed in sums]

    def by_class(self) -> dict[str, Score]:
        """The counts of the last world by class, in order of name; one class "" without texts."""
        return {
            name: Score(int(self._matched[-1, i]), int(self._claimed[-1, i]), int(self._true[0, i]))
            for name, i in sorted(zip(self._classes.names, range(self._true.shape[1]), strict=True))
        }

    def _groups(
        self, claimed: pa.Table, truth: pa.Table
    ) -> tuple[Indices, Indices, tuple[Indices, Indices]]:
        """The class of every claim and truth, and the groups in which they meet."""
        images = shared_codes(claimed["image_key"], truth["image_key"])
        words = (folded(claimed["text"]), folded(truth["text"])) if self._same_text else ()
        if not words:
            classes = [np.zeros(table.num_rows, np.int64) for table in (claimed, truth)]
            self._classes.codes([""])
        else:
            *local, names = shared_codes(*words)
            codes = self._classes.codes(names.to_pylist())
            classes = [codes[each] for each in local]
        width = len(self._classes.names)
        groups = tuple(
            image * width + each for image, each in zip(images[:2], classes, strict=True)
        )
        return classes[0], classes[1], (groups[0], groups[1])

    def _grow(self) -> None:
        missing = len(self._classes.names) - self._true.shape[1]
        if missing:
            wider = [np.pad(each, ((0, 0), (0, missing))) for each in self._counts()]
            self._matched, self._claimed, self._true = wider

    def _counts(self) -> tuple[npt.NDArray[np.int64], ...]:
        return self._matched, self._claimed, self._true


def _count(chosen: Flags, classes: Indices, num_classes: int) -> npt.NDArray[np.int64]:
    """How many columns of each class every world has chosen, shape (worlds, num_classes)."""
    worlds, columns = np.nonzero(chosen)
    cells = worlds * num_classes + classes[columns]
    return np.bincount(cells, minlength=len(chosen) * num_classes).reshape(len(chosen), num_classes)
