"""The families of rows that have a truth: which rows belong to each, and what is measured."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.evaluate.average_precision import AveragePrecision
from engine.evaluate.captions import CaptionScore, CaptionScores, DocumentFrequencies
from engine.evaluate.pairs import Flags, flags_of
from engine.evaluate.phrases import PhraseScore, PhraseScores, with_captions
from engine.evaluate.regions import RegionScores, Score
from engine.evaluate.results import FamilyResult, Measures, Step
from engine.evaluate.words import WordScore, WordScores

# Kind and role of the rows of each family; captions of every role meet all texts of the truth.
FAMILIES: dict[str, tuple[str, str | None]] = {
    "boxes": ("region", "category"),
    "ocr": ("region", "ocr"),
    "captions": ("text", None),
    "grounding": ("grounding", "phrase"),
    "phrase": ("region", "phrase"),
    "brief": ("region", "brief"),
}
# Free texts of regions seldom agree word by word: only where asked for, and by place alone.
DEFAULT_FAMILIES = ("boxes", "ocr", "captions", "grounding")


@dataclass(frozen=True)
class Shard:
    """Rows of some images and the truth of the same images.

    Attributes:
        rows: All claims.
        compared: Which of them are to be compared, shape (n,).
        alive: Which of them each world has, shape (worlds, n): before the first rule, after it,
            ..., after the last.
        truth: True rows, with a column `area`.
    """

    rows: pa.Table
    compared: Flags
    alive: Flags
    truth: pa.Table

    def claims(self, kind: str, role: str | None) -> tuple[pa.Table, Flags]:
        """The claims of a family to be compared, and which of them each world has."""
        chosen = self.compared & _is(self.rows, kind, role)
        return self.rows.filter(pa.array(chosen)), self.alive[:, chosen]

    def true(self, kind: str, role: str | None) -> pa.Table:
        """The true rows of a family."""
        return self.truth.filter(pa.array(_is(self.truth, kind, role)))


class Family(Protocol):
    """One family, fed shard by shard."""

    def add(self, shard: Shard) -> None:
        """Takes the rows of some images."""

    def result(self, rules: Sequence[str]) -> FamilyResult:
        """What was measured, the worlds being before and after those rules."""


class Boxes:
    """Regions against regions; objects by class and ranked, others by place alone."""

    def __init__(self, role: str, num_worlds: int, min_iou: float) -> None:
        self._role = role
        self._scores = RegionScores(
            min_iou=min_iou, same_text=role == "category", num_worlds=num_worlds
        )
        self._ranked = AveragePrecision() if role == "category" else None
        self._num_alive = np.zeros(num_worlds, np.int64)

    def add(self, shard: Shard) -> None:
        """Takes the rows of some images."""
        claimed, alive = shard.claims("region", self._role)
        truth = shard.true("region", self._role)
        self._scores.add(claimed, truth, alive)
        self._num_alive += alive.sum(axis=1)
        if self._ranked is not None:
            areas = truth["area"].to_numpy()
            self._ranked.add(claimed.filter(pa.array(alive[-1])), truth, areas)

    def result(self, rules: Sequence[str]) -> FamilyResult:
        """Precision, recall and F1, COCO's twelve numbers, the same by class."""
        scores = self._scores.result()
        steps = steps_of(rules, self._num_alive, [_pr(score) for score in scores])
        measures = _pr(scores[-1]) | asdict(scores[-1])
        if self._ranked is None:
            return FamilyResult(measures, {}, steps)
        ranked = asdict(self._ranked.result())
        aps: Mapping[str, tuple[float, float]] = ranked.pop("by_class")
        classes = {
            name: {
                **_pr(score),
                "ap": aps[name][0] if name in aps else None,
                "ap50": aps[name][1] if name in aps else None,
                **asdict(score),
            }
            for name, score in self._scores.by_class().items()
        }
        return FamilyResult(measures | ranked, classes, steps)


class Words:
    """Words against words, as ICDAR does."""

    def __init__(self, num_worlds: int, min_iou: float, *, ignore_case: bool) -> None:
        self._scores = WordScores(min_iou=min_iou, ignore_case=ignore_case, num_worlds=num_worlds)
        self._num_alive = np.zeros(num_worlds, np.int64)

    def add(self, shard: Shard) -> None:
        """Takes the rows of some images."""
        claimed, alive = shard.claims("region", "ocr")
        self._scores.add(claimed, shard.true("region", "ocr"), alive)
        self._num_alive += alive.sum(axis=1)

    def result(self, rules: Sequence[str]) -> FamilyResult:
        """Detection, the share of exact transcripts, and both together (end to end)."""
        scores = self._scores.result()
        steps = steps_of(rules, self._num_alive, [_words(score) for score in scores])
        last = scores[-1]
        counts = {"num_exact": last.end_to_end.num_matched, **asdict(last.detection)}
        end_to_end = {f"end_to_end_{name}": value for name, value in _pr(last.end_to_end).items()}
        return FamilyResult(_words(last) | end_to_end | counts, {}, steps)


class Captions:
    """Captions of one role against all texts of the truth."""

    def __init__(self, role: str, frequencies: DocumentFrequencies, num_worlds: int) -> None:
        self._role = role
        self._scores = CaptionScores(frequencies, num_worlds=num_worlds)
        self._num_alive = np.zeros(num_worlds, np.int64)

    def add(self, shard: Shard) -> None:
        """Takes the rows of some images."""
        claimed, alive = shard.claims("text", self._role)
        self._scores.add(claimed, shard.true("text", None), alive)
        self._num_alive += alive.sum(axis=1)

    def result(self, rules: Sequence[str]) -> FamilyResult:
        """CIDEr-D, BLEU-4, ROUGE-L, and how many images have a caption."""
        scores = self._scores.result()
        steps = steps_of(rules, self._num_alive, [_caption(score) for score in scores])
        counts = ("num_captions", "num_captioned", "num_images")
        return FamilyResult(
            _caption(scores[-1]) | {name: getattr(scores[-1], name) for name in counts}, {}, steps
        )


class Groundings:
    """Phrases against phrases, as on Flickr30k Entities."""

    def __init__(self, num_worlds: int, min_iou: float, *, merged: bool) -> None:
        self._scores = PhraseScores(min_iou=min_iou, merged=merged, num_worlds=num_worlds)
        self._num_alive = np.zeros(num_worlds, np.int64)

    def add(self, shard: Shard) -> None:
        """Takes the rows of some images."""
        claimed, alive = shard.claims("grounding", "phrase")
        texts = shard.rows.filter(pa.array(_is(shard.rows, "text", None)))
        truth = with_captions(shard.true("grounding", "phrase"), shard.true("text", None))
        self._scores.add(with_captions(claimed, texts), truth, alive)
        self._num_alive += alive.sum(axis=1)

    def result(self, rules: Sequence[str]) -> FamilyResult:
        """Recall at 1."""
        scores = self._scores.result()
        steps = steps_of(rules, self._num_alive, [_recall(score) for score in scores])
        return FamilyResult(_recall(scores[-1]) | asdict(scores[-1]), {}, steps)


def steps_of(rules: Sequence[str], num_alive: np.ndarray, states: Sequence[Measures]) -> list[Step]:
    """One step a rule, from what each world measured."""
    rejected = (-np.diff(num_alive)).tolist()
    return [Step(rule, rejected[i], states[i], states[i + 1]) for i, rule in enumerate(rules)]


def _is(table: pa.Table, kind: str, role: str | None) -> Flags:
    chosen = flags_of(pc.equal(table["kind"].cast(pa.string()), kind))
    if role is not None:
        chosen &= flags_of(pc.equal(table["role"].cast(pa.string()), role))
    return chosen


def _pr(score: Score) -> Measures:
    return {"precision": score.precision, "recall": score.recall, "f1": score.f1}


def _words(score: WordScore) -> Measures:
    return {**_pr(score.detection), "exact_rate": score.exact_rate}


def _caption(score: CaptionScore) -> Measures:
    names = ("cider_d", "bleu4", "rouge_l", "coverage")
    return {name: getattr(score, name) for name in names}


def _recall(score: PhraseScore) -> Measures:
    return {"recall_at_1": score.recall_at_1}
