"""Rules that choose regions by their scores: a limit for each source and class, a cap per image."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.protocols import Context
from engine.schema import Tables, Verdicts
from filters.columns import (
    Flags,
    Floats,
    Indices,
    flags,
    image_places,
    is_word,
    row_scores,
    words_of,
)
from filters.region_boxes import check_roles

_BOXED = ("region", "grounding")


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
class MaxRegions:
    """Reject the regions of an image beyond the best so many.

    Judges rows of kind `region` of the named roles, each role of an image by itself. Best are kept
    rows of earlier levels, which are never rejected but count, then rows said by a person, then the
    higher score (a row without one comes last), then the earlier row. Measures the row's rank,
    from 1; kept when measured <= max_regions. With `per_class` the rank among rows of the same text
    (case ignored) is looked at first, and is what is measured where it is too high. Rows marked
    `ignore`, such as crowds, are neither judged nor counted.

    The default is COCO's own: its evaluation looks at the best 100 detections of an image (people
    marked no more than 35 objects on any of 80 photos, 14 of a class). OCR is left alone by
    default: a page has more words than that.
    """

    max_regions: int = 100
    per_class: int | None = None
    roles: tuple[str, ...] = ("category", "phrase", "brief", "proposal")
    name: ClassVar[str] = "max_regions"
    applies_to: ClassVar[tuple[str, ...]] = ("region",)

    def __post_init__(self) -> None:
        for option in ("max_regions", "per_class"):
            count = getattr(self, option)
            if count is not None and count < 1:
                raise ConfigError(f"rule 'max_regions': {option} is {count}; allowed: 1 or more")
        check_roles(self.name, self.roles)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        counted = is_word(rows["kind"], ["region"]) & is_word(rows["role"], self.roles)
        counted &= ~flags(rows["ignore"])
        roles = words_of(rows["role"])
        lists = (image_places(tables) + 1) * (len(roles.words) + 1) + roles.indices + 1
        scores = row_scores(rows)
        better: list[Flags | Floats] = [
            -scores,
            ~flags(rows["human"]),
            context.fresh,
        ]  # lexsort: the last counts most
        measured = np.full(rows.num_rows, np.nan, np.float32)
        limits = np.full(rows.num_rows, np.float32(self.max_regions))
        rejected = np.zeros(rows.num_rows, bool)
        if self.per_class is not None:
            texts = words_of(rows["text"], fold=True)
            classes = lists * (len(texts.words) + 1) + texts.indices + 1
            _beyond(classes, counted, better, self.per_class, measured)
            rejected = measured > self.per_class
            limits[rejected] = self.per_class
        _beyond(lists, counted & ~rejected, better, self.max_regions, measured)
        rejected |= measured > limits
        rejected &= context.fresh
        return Verdicts(
            pa.array(rejected),
            measured=pa.array(measured, pa.float32(), mask=~rejected),
            limit=pa.array(limits),
        )


def _beyond(
    groups: Indices, counted: Flags, better: list[Flags | Floats], most: int, measured: Floats
) -> None:
    """Writes the rank of every counted row whose group has more than `most` of them."""
    rows = np.flatnonzero(counted)
    codes = pa.array(groups[rows]).dictionary_encode().indices.to_numpy()
    sizes = np.bincount(codes) if len(rows) else codes
    crowded = sizes[codes] > most
    rows, codes = rows[crowded], codes[crowded]  # few or none, and only those are sorted
    order = np.lexsort((*(key[rows] for key in better), codes))  # stable: then the earlier row
    starts = np.flatnonzero(np.diff(codes[order], prepend=-1))
    counts = np.diff(starts, append=len(rows))
    measured[rows[order]] = np.arange(len(rows)) - np.repeat(starts, counts) + 1
