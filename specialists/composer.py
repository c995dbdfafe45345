"""Captions put together from what other specialists found: no model, nothing but the kept rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.geometry import reading_order
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import box_array, claims
from specialists.nouns import count_noun

_REVISION = "1"  # a change of the wording changes this
_ORDERS = {
    "area": ["area", "count", "top", "left"],
    "count": ["count", "area", "top", "left"],
    "reading": ["top", "left", "area", "count"],
}


@dataclass(kw_only=True)
class Composer:
    """Answers each image that has kept regions or transcripts with one row `text`, role `brief`.

    `two people and a dog; text reads "STOP"`: classes counted, transcripts quoted in reading order.
    `parents` are the rows it was put together from, `score` and `text_score` are null. Regions that
    mark a crowd (`ignore`) have no count and are left out, as are proposals and region captions.

    Attributes:
        name: The `source` of its rows.
        max_classes: Most classes named; the others go unmentioned.
        max_transcripts: Most transcripts quoted.
        order: Which class comes first: the one of largest summed `area`, of highest `count`, or the
            first in `reading` order (top, then left). Ties go by the others.
        quiet_limit: Null, because images without kept regions are normal.
    """

    name: str = "composer"
    max_classes: int = 5
    max_transcripts: int = 3
    order: Literal["area", "count", "reading"] = "area"
    quiet_limit: int | None = None
    model: str = field(init=False, default="composer")
    produces: tuple[str, ...] = field(init=False, default=("text/brief",))
    requires: tuple[str, ...] = field(init=False, default=("region",))
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False, default=Resources())

    def __post_init__(self) -> None:
        if self.max_classes < 0 or self.max_transcripts < 0:
            raise ConfigError(
                f"specialist {self.name!r}: max_classes {self.max_classes}, max_transcripts "
                f"{self.max_transcripts}; both must be 0 or more"
            )

    def needs(self) -> list[Need]:
        """Nothing."""
        return []

    def prepare(self) -> str:
        """The version of the wording."""
        return _REVISION

    def load(self) -> None:
        """Does nothing."""

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """At most one row per image, in order; see `engine.protocols.Specialist`."""
        keys = list(dict.fromkeys(image.image_key for image in images))
        regions = _Regions.read(rows, keys)
        clauses: list[list[str]] = [[] for _ in keys]
        parents: list[list[str]] = [[] for _ in keys]
        for named, sentence in ((self._objects, "{}"), (self._writing, "text reads {}")):
            for image, (words, used) in named(regions).items():
                clauses[image].append(sentence.format(_join(words)))
                parents[image].extend(used)
        told = [i for i, parts in enumerate(clauses) if parts]
        return claims(
            image_key=[keys[i] for i in told],
            kind="text",
            role="brief",
            text=["; ".join(clauses[i]) for i in told],
            parents=[parents[i] for i in told],
        )

    def _objects(self, regions: "_Regions") -> "_Named":
        """Counted nouns in order, and the ids of their rows."""
        objects = regions.take(np.isin(regions.roles, ("category", "phrase"))).distinct()
        if not self.max_classes or not len(objects.images):
            return {}
        names, numbers = np.unique([t.lower() for t in objects.texts], return_inverse=True)
        group = objects.images * len(names) + numbers
        rows = np.argsort(group, kind="stable")
        starts = np.flatnonzero(np.diff(group[rows], prepend=-1))
        members = np.split(objects.ids[rows], starts[1:])
        measured = {
            "area": -np.add.reduceat(objects.areas[rows], starts),  # the largest first
            "count": -np.diff(starts, append=len(rows)),
            "top": np.fmin.reduceat(objects.boxes[rows, 1], starts),
            "left": np.fmin.reduceat(objects.boxes[rows, 0], starts),
        }
        images, labels = objects.images[rows][starts], numbers[rows][starts]
        by = [images, *(measured[name] for name in _ORDERS[self.order]), labels]
        named: _Named = {}
        for i in np.lexsort(by[::-1]).tolist():
            nouns, used = named.setdefault(int(images[i]), ([], []))
            if len(nouns) < self.max_classes:
                nouns.append(count_noun(names[labels[i]], len(members[i])))
                used.extend(members[i])
        return named

    def _writing(self, regions: "_Regions") -> "_Named":
        """Quoted transcripts in reading order, and the ids of their rows."""
        lines = regions.take(regions.roles == "ocr")
        named: _Named = {}
        for image in np.unique(lines.images).tolist() if self.max_transcripts else []:
            rows = np.flatnonzero(lines.images == image)
            read = rows[reading_order(lines.boxes[rows])][: self.max_transcripts]
            named[image] = ([_quote(text) for text in lines.texts[read]], list(lines.ids[read]))
        return named


_Named = dict[int, tuple[list[str], list[str]]]  # by image: words in order, the ids of their rows


@dataclass(frozen=True)
class _Regions:
    """Columns of the region rows that have words, as far as composing needs them."""

    images: npt.NDArray[np.int64]  # position among the images
    ids: npt.NDArray[np.object_]
    regions: npt.NDArray[np.object_]
    roles: npt.NDArray[np.object_]
    texts: npt.NDArray[np.object_]
    boxes: npt.NDArray[np.float32]  # (n, 4); NaN where there is none

    @classmethod
    def read(cls, rows: pa.Table, keys: list[str]) -> "_Regions":
        is_region = pc.equal(rows["kind"].cast(pa.string()), "region")
        rows = rows.filter(pc.and_(is_region, pc.invert(rows["ignore"])))
        texts = pc.replace_substring_regex(rows["text"].fill_null(""), r"\s+", " ")
        texts = pc.utf8_trim_whitespace(texts)
        rows, texts = (part.filter(pc.not_equal(texts, "")) for part in (rows, texts))
        ids = rows["annotation_id"]
        return cls(
            images=pc.index_in(rows["image_key"], pa.array(keys, pa.string()))
            .to_numpy()
            .astype(int),
            ids=_values(ids),
            regions=_values(pc.coalesce(rows["region_id"], ids)),
            roles=_values(rows["role"].cast(pa.string())),
            texts=_values(texts),
            boxes=box_array(rows),
        )

    @property
    def areas(self) -> npt.NDArray[np.float64]:
        """Pixels squared; 0 without a box."""
        sides = self.boxes[:, 2:].astype(np.float64) - self.boxes[:, :2]
        areas: npt.NDArray[np.float64] = np.nan_to_num(sides.prod(axis=1))
        return areas

    def take(self, wanted: npt.NDArray[Any]) -> "_Regions":
        """The rows of a mask or of positions."""
        return _Regions(*(getattr(self, column.name)[wanted] for column in fields(self)))

    def distinct(self) -> "_Regions":
        """The first row of every region: two texts on one region are one thing."""
        first: dict[tuple[int, str], int] = {}
        for i, region in enumerate(zip(self.images.tolist(), self.regions, strict=True)):
            first.setdefault(region, i)
        return self.take(np.array(list(first.values()), np.intp))


def _values(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    values: npt.NDArray[np.object_] = column.to_numpy(zero_copy_only=False)
    return values.astype(object)


def _quote(transcript: str) -> str:
    mark = "'" if '"' in transcript else '"'
    return f"{mark}{transcript}{mark}"


def _join(parts: list[str]) -> str:
    *first, last = parts or [""]
    return f"{', '.join(first)} and {last}" if first else last
