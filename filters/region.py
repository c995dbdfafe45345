"""Rules on boxes and their scores: broken boxes, low scores, specks, and regions said twice."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.geometry import area, clip, is_box, paired_iou, suppress
from engine.protocols import Context
from engine.schema import Tables, Verdicts, box_array
from filters.columns import (
    Flags,
    Floats,
    Indices,
    flags,
    image_places,
    image_sizes,
    is_word,
    links,
    row_scores,
    words_of,
)

_BOXED = ("region", "grounding")


def _has_box(annotations: pa.Table) -> Flags:
    return flags(pc.is_valid(annotations["box"]))


@dataclass(frozen=True, kw_only=True)
class InvalidBox:
    """Reject a box unless 0 <= x_min < x_max <= width and so in y, and a region without a box.

    Judges rows of kind `region` and `grounding`; grounding without a box is left alone. Measures
    how far, in px, the box reaches beyond its image at its worst side; the limit is 0. Null is
    measured, and the row rejected, where there is nothing to measure: no box, NaN or infinity, or
    sides that enclose nothing. An image of unknown size has no far sides to cross.
    """

    name: ClassVar[str] = "invalid_box"
    applies_to: ClassVar[tuple[str, ...]] = _BOXED

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        boxes = box_array(rows)
        near, far = -boxes[:, :2], np.fmax(boxes[:, 2:] - image_sizes(tables), 0)
        outside = np.maximum(np.maximum(near[:, 0], near[:, 1]), np.maximum(far[:, 0], far[:, 1]))
        measurable = is_box(boxes)
        judged = is_word(rows["kind"], _BOXED) & (
            _has_box(rows) | is_word(rows["kind"], ["region"])
        )
        rejected = judged & (~measurable | (outside > 0))
        measured = pa.array(outside, pa.float32(), mask=~(judged & measurable))
        return Verdicts(pa.array(rejected), measured=measured, limit=0.0)


@dataclass(frozen=True, kw_only=True)
class MinScore:
    """Reject rows whose source was not sure enough of them.

    Judges all kinds. Measures the box score, or the text score of a row without one; kept when
    measured >= limit. A row without any score is left alone: unknown is not low. `limits` names
    `source/class` (class = the row's text, case ignored; of a caption its role) over `source` over
    `*`. `*` is for rows of kind `region` and `grounding` alone, and of region captions (role
    `brief`) for those with a box score: a caption's score is not on a detector's scale, so name its
    source to judge it. The default is Ultralytics' own at prediction (`conf` 0.25).
    """

    limits: Mapping[str, float] = field(default_factory=lambda: {"*": 0.25})
    name: ClassVar[str] = "min_score"
    applies_to: ClassVar[tuple[str, ...]] = ("text", *_BOXED)

    def __post_init__(self) -> None:
        if not self.limits:
            raise ConfigError(
                "rule 'min_score': limits is empty; name a source, or leave the rule out"
            )
        for key, limit in self.limits.items():
            if not 0 <= limit <= 1:
                raise ConfigError(f"rule 'min_score': limits.{key} is {limit}; scores lie in 0..1")

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        measured = row_scores(tables.annotations)
        limits = self._limit_of_rows(tables.annotations)
        return Verdicts(
            pa.array(measured < limits),  # NaN on either side is not less
            measured=pa.array(measured, from_pandas=True),
            limit=pa.array(limits, from_pandas=True),
        )

    def _limit_of_rows(self, rows: pa.Table) -> Floats:
        """The limit that holds for each row, shape (n,); NaN for none."""
        sources = words_of(rows["source"])
        named = [self.limits.get(source, math.nan) for source in sources.words.to_pylist()]
        limits = np.array([*named, math.nan], np.float32)[sources.indices]
        is_caption = is_word(rows["role"], ["brief"]) & flags(pc.is_null(rows["score"]))
        everyone = np.isnan(limits) & is_word(rows["kind"], _BOXED) & ~is_caption
        limits[everyone] = self.limits.get("*", math.nan)
        of_classes = {key: limit for key, limit in self.limits.items() if "/" in key}
        if not of_classes:
            return limits
        is_text = pc.equal(rows["kind"].cast(pa.string()), "text")
        said = pc.if_else(is_text, rows["role"].cast(pa.string()), rows["text"])
        classes = words_of(said, fold=True)
        for key, limit in of_classes.items():
            source, _, class_ = key.partition("/")
            place = pc.index(sources.words, source).as_py()  # -1 where no row has it,
            class_place = pc.index(classes.words, class_.casefold()).as_py()
            if place >= 0 and class_place >= 0:  # as null has in the columns
                limits[(sources.indices == place) & (classes.indices == class_place)] = limit
        return limits


@dataclass(frozen=True, kw_only=True)
class MinArea:
    """Reject specks.

    Judges rows of kind `region` and `grounding` that have a box. Measures the area of the part
    inside the image, px squared; kept when measured >= min_area_px. The default lies just below
    the smallest of the 739 boxes people drew on 80 COCO photos (23.0; one in a hundred is below
    54).
    """

    min_area_px: float = 20.0
    name: ClassVar[str] = "min_area"
    applies_to: ClassVar[tuple[str, ...]] = _BOXED

    def __post_init__(self) -> None:
        if not 0 < self.min_area_px < math.inf:
            raise ConfigError(
                f"rule 'min_area': min_area_px is {self.min_area_px}; "
                "it is an area above 0, in px squared"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        areas = area(clip(box_array(rows), image_sizes(tables)))
        judged = is_word(rows["kind"], _BOXED) & _has_box(rows)
        rejected = judged & (areas < np.float32(self.min_area_px))
        measured = pa.array(areas, pa.float32(), mask=~judged)
        return Verdicts(pa.array(rejected), measured=measured, limit=self.min_area_px)


@dataclass(frozen=True, kw_only=True)
class DuplicateRegion:
    """Reject a region that a better row of its image already claims, whoever said it.

    Judges rows of kind `region` with a box against those of the same image, role and text (case
    ignored; for OCR the transcript), and of the same source unless `across_sources`, greedily: kept
    rows of earlier levels win, then rows said by a person, then the higher score (a row without one
    comes last), then the earlier row. Measures the IoU with the best kept row it overlaps, which
    `against` names; kept when measured <= iou. Rows marked `ignore`, such as crowds, meet only each
    other, and a row never loses to its own parent: it refines it. The default is Ultralytics' own
    at prediction (`iou` 0.7).

    Before a vote of several sources (`consensus`) set `across_sources` to false: the second of two
    detectors that agree would be gone before it is counted.
    """

    iou: float = 0.7
    across_sources: bool = True
    name: ClassVar[str] = "duplicate_region"
    applies_to: ClassVar[tuple[str, ...]] = ("region",)

    def __post_init__(self) -> None:
        if not 0 <= self.iou <= 1:
            raise ConfigError(
                f"rule 'duplicate_region': iou is {self.iou}; an overlap lies in 0..1"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        regions = np.flatnonzero(is_word(rows["kind"], ["region"]))
        place = np.full(rows.num_rows, -1, np.int64)
        place[regions] = np.arange(len(regions))
        boxes = box_array(rows)
        scores = np.where(flags(rows["human"]), np.float32(np.inf), row_scores(rows))
        _, better = suppress(
            boxes[regions],
            scores[regions],
            _claim_groups(tables, across_sources=self.across_sources)[regions],
            self.iou,
            fixed=~context.fresh[regions],
            exempt=_families(rows, place),
        )
        lost = regions[better >= 0]
        winners = regions[better[better >= 0]]
        return _lost_against(rows, lost, winners, paired_iou(boxes[lost], boxes[winners]), self.iou)


def _claim_groups(tables: Tables, *, across_sources: bool) -> Indices:
    """A code per row, shape (n,), equal for rows that say the same thing of the same image."""
    rows = tables.annotations
    groups = image_places(tables) + 1
    texts = words_of(rows["text"], fold=True)
    roles, sources = words_of(rows["role"]), words_of(rows["source"])
    of_source = np.zeros_like(sources.indices) if across_sources else sources.indices + 1
    for codes, count in (
        (texts.indices + 1, len(texts.words) + 1),
        (roles.indices + 1, len(roles.words) + 1),
        (flags(rows["ignore"]).astype(np.int64), 2),
        (of_source, len(sources.words) + 1),
    ):
        groups = groups * count + codes
    dense: Indices = pa.array(groups).dictionary_encode().indices.to_numpy().astype(np.int64)
    return dense


def _families(rows: pa.Table, place: Indices) -> Indices:
    """Pairs of a row and its parent, shape (k, 2), as `place` counts rows; -1 is left out."""
    named = links(rows, ["parents"])
    pairs = place[np.stack([named.rows, named.targets], axis=1)]
    return pairs[(named.targets >= 0) & (pairs >= 0).all(axis=1)]


def _lost_against(
    rows: pa.Table, lost: Indices, winners: Indices, overlaps: Floats, limit: float
) -> Verdicts:
    rejected = np.zeros(rows.num_rows, bool)
    rejected[lost] = True
    measured = np.full(rows.num_rows, np.nan, np.float32)
    measured[lost] = overlaps
    winner = np.full(rows.num_rows, -1, np.int64)
    winner[lost] = winners
    against = rows["annotation_id"].combine_chunks().take(pa.array(winner, mask=~rejected))
    return Verdicts(
        pa.array(rejected),
        measured=pa.array(measured, from_pandas=True),
        limit=limit,
        against=against,
    )
