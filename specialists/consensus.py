"""What several detectors agree on: their boxes fused into one row each, by no model.

Weighted boxes fusion as R. Solovyev, W. Wang and T. Gabruseva describe it ("Weighted boxes fusion:
Ensembling boxes from different object detection models", arXiv:1910.13302), with one change: a
source has one vote per object. Their clusters take in every box of a source that overlaps; on 80
COCO photos and two detectors that cost .018 AP, because what a detector itself calls two objects
was made one (.460 against .442; `tests/specialists/test_consensus_ap.py` holds the comparison with
the single detectors).
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.geometry import is_box, paired_iou, suppress
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import box_array, claims, empty_claims
from specialists.synonyms import Synonyms, read_synonyms

_REVISION = "1"  # a change of the formula or of the shipped synonyms changes this

Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


@dataclass(kw_only=True)
class Consensus:
    """Answers each image with one row `region`, role `category`, per object its sources claim.

    Boxes of one class (equal after synonyms) whose overlap with the best of them is above `iou` are
    one object, and of every source one box, the nearest, takes part; what is left over is matched
    again in the same way. A fused row supersedes all it was fused from (`replaces`, `parents`),
    also where that is a single row without a partner, and also where a rule rejects the fused row:
    the vote was against them.

    `box` is the mean of the boxes weighted by score and `weights`; a box without a score weighs by
    `weights` alone. `score` is `sum(w * s) / sum(w) * agreement`: the mean of the scores there are,
    times the share of the sources, by weight, that have a box in the cluster. Where all have scores
    that is the mean over all sources with silence as 0, the paper's `min(T, N) / N`. It is null
    where no parent has a score. `text` is the name of the class in the table of synonyms, or as the
    best box has it; `polygon` is that of the best box with one.

    It sees what the rules left of the earlier levels: give its sources a low `min_score`, leave
    them apart in `duplicate_region` (`across_sources: false`), and give the fused rows a
    `min_score` of their own.

    What a person said stands: a person's box draws the boxes of models to itself, is not moved, and
    the row that supersedes those is another text of the person's region (its `region_id`, box and
    name), scored by the models. Where no model agrees nothing is written, and two boxes of people
    are never one. Rows of `ignore`, such as crowds, take no part.

    Attributes:
        name: The `source` of its rows.
        sources: The models that vote. Null: all that have a row on the image; one silent on an
            image then does not count as one that disagrees, so name them where they are known.
            People do not vote: they decide, and need not be named.
        weights: How much the vote of a source counts; those not named count 1.
        iou: Overlap above which two boxes are one object; 0.55 is the paper's. Measured: 0.5 to 0.7
            differ by less than .002 AP.
        synonyms: More names of classes, `{couch: [sofa]}`; see `specialists.synonyms`.
        quiet_limit: Null, because images without kept regions are normal.
    """

    name: str = "consensus"
    sources: tuple[str, ...] | None = None
    weights: Mapping[str, float] = field(default_factory=dict)
    iou: float = 0.55
    synonyms: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    quiet_limit: int | None = None
    _table: Any = field(init=False, repr=False, default=None)
    model: str = field(init=False, default="consensus")
    produces: tuple[str, ...] = field(init=False, default=("region/category",))
    requires: tuple[str, ...] = field(init=False, default=("region/category",))
    replaces: Replaces = field(init=False, default="always")
    resources: Resources = field(init=False, default=Resources())

    def __post_init__(self) -> None:
        if not 0 < self.iou < 1:
            raise ConfigError(
                f"specialist {self.name!r}: iou {self.iou}; an overlap between 0 and 1"
            )
        if self.sources is not None and (
            not self.sources or len(set(self.sources)) < len(self.sources)
        ):
            raise ConfigError(
                f"specialist {self.name!r}: sources {list(self.sources)}; name each voter once, or "
                "leave it out for all"
            )
        for source, weight in self.weights.items():
            if not 0 < weight < math.inf:
                raise ConfigError(
                    f"specialist {self.name!r}: weights.{source} {weight}; allowed: above 0"
                )
            if self.sources is not None and source not in self.sources:
                raise ConfigError(
                    f"specialist {self.name!r}: weights.{source} is none of its sources; "
                    f"those are: {', '.join(self.sources)}"
                )
        read_synonyms(self.synonyms)

    def needs(self) -> list[Need]:
        """Nothing."""
        return []

    def prepare(self) -> str:
        """The version of the formula."""
        return _REVISION

    def load(self) -> None:
        """Reads the table of synonyms."""
        self._table = read_synonyms(self.synonyms)

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """Rows in the images' order, then by falling score; see `engine.protocols.Specialist`."""
        keys = list(dict.fromkeys(image.image_key for image in images))
        votes = _Votes.read(rows, keys, self.sources, self.weights, self._table)
        if not len(votes.images):
            return empty_claims()
        leaders = _cluster(votes, self.iou)
        return _fused(votes, leaders, keys, self._say(votes))

    def _say(self, votes: "_Votes") -> Floats:
        """The summed weight of all sources that vote on each image, shape (number of images,)."""
        num_images = votes.images.max() + 1
        if self.sources is not None:
            total = sum(sorted(self.weights.get(source, 1.0) for source in self.sources))
            return np.full(num_images, total)
        models = np.flatnonzero(~votes.humans)
        pairs = np.stack([votes.images, votes.sources])[:, models]
        voters = models[np.unique(pairs, axis=1, return_index=True)[1]]
        totals: Floats = np.bincount(
            votes.images[voters], votes.weights[voters], num_images
        ).astype(np.float64)
        return totals


class _Votes(NamedTuple):
    """Boxes that take part, best first, whatever order they came in."""

    rows: pa.Table
    images: Indices  # position among the images
    groups: Indices  # dense code of image and class
    sources: Indices
    boxes: npt.NDArray[np.float32]
    scores: npt.NDArray[np.float32]  # NaN where there is none
    weights: Floats  # of the source; a person's is 0: they do not vote, they decide
    humans: npt.NDArray[np.bool_]
    names: list[str]  # of the class

    @classmethod
    def read(
        cls,
        rows: pa.Table,
        keys: list[str],
        sources: tuple[str, ...] | None,
        weights: Mapping[str, float],
        synonyms: Synonyms,
    ) -> "_Votes":
        """The votes among the rows on those images."""
        said = pc.and_(pc.is_valid(rows["text"]), pc.invert(rows["ignore"]))
        if sources is not None:
            voters = pa.array(sources, pa.string())
            votes = pc.is_in(rows["source"].cast(pa.string()), voters)
            said = pc.and_(said, pc.or_(votes, rows["human"]))
        said = pc.and_(said, pc.is_in(rows["image_key"], pa.array(keys, pa.string())))
        rows = rows.filter(pc.and_(said, pa.array(is_box(box_array(rows)))))
        classes = [synonyms.key(label) for label in rows["text"].to_pylist()]
        rows = rows.take(pa.array(_best_first(rows, classes)))
        labels = rows["text"].to_pylist()
        said_by = np.array(rows["source"].cast(pa.string()).to_pylist(), np.str_)
        humans = rows["human"].to_numpy().astype(bool)
        found = pc.index_in(rows["image_key"], pa.array(keys, pa.string()))
        images = found.to_numpy().astype(np.int64)
        codes = _codes([synonyms.key(label) for label in labels])
        shares = [weights.get(source, 1.0) for source in said_by.tolist()]
        return cls(
            rows=rows,
            images=images,
            groups=np.unique(images * (codes.max(initial=0) + 1) + codes, return_inverse=True)[1],
            sources=np.unique(said_by, return_inverse=True)[1],
            boxes=box_array(rows),
            scores=rows["score"].to_numpy().astype(np.float32),
            weights=np.where(humans, 0.0, shares),
            humans=humans,
            names=[synonyms.name(label) for label in labels],
        )


def _best_first(rows: pa.Table, classes: list[str]) -> Indices:
    """Positions: people, then the higher score (none last), then whatever tells two rows apart."""
    scores = pc.fill_null(rows["score"], -1.0).to_numpy()
    words = [rows["annotation_id"].to_pylist(), classes, rows["source"].to_pylist()]
    codes = [np.unique(np.array(column, np.str_), return_inverse=True)[1] for column in words]
    humans = rows["human"].to_numpy().astype(bool)
    return np.lexsort((*codes, *box_array(rows).T, -scores, ~humans))


def _codes(words: list[str]) -> Indices:
    codes: Indices = pa.array(words, pa.string()).dictionary_encode().indices.to_numpy()
    return codes.astype(np.int64)


def _cluster(votes: _Votes, iou: float) -> Indices:
    """The place of the best box of each box's cluster, shape (n,); the best leads itself.

    Rounds of suppression: leaders draw the boxes they overlap, and of every source take the nearest
    unless they have one. A box that was refused never meets that leader again; in the next round it
    goes to another, or leads.
    """
    leaders = np.full(len(votes.images), -1)
    refused = np.empty((0, 2), np.int64)
    while (left := np.flatnonzero(leaders < 0)).size:
        led = np.flatnonzero(leaders == np.arange(len(leaders)))
        met = np.sort(np.append(led, left))
        place = np.full(len(leaders), -1)
        place[met] = np.arange(len(met))
        _, lost_to = suppress(
            votes.boxes[met],
            votes.scores[met],
            votes.groups[met],
            iou,
            fixed=votes.humans[met] | (leaders[met] >= 0),
            exempt=place[refused],
        )
        best = np.where(lost_to >= 0, met[lost_to], met)[place[left]]
        joins = _nearest(votes, leaders, left, best)
        leaders[left[joins]] = best[joins]
        refused = np.append(refused, np.stack([best, left], axis=1)[~joins], axis=0)
        is_met = np.isin(refused[:, 1], np.flatnonzero(leaders < 0))
        refused = refused[is_met]
    return leaders


def _nearest(
    votes: _Votes, leaders: Indices, boxes: Indices, best: Indices
) -> npt.NDArray[np.bool_]:
    """Which boxes are the first of their source with their leader, and the nearest, shape (k,)."""
    num_sources = votes.sources.max() + 1
    nearness = paired_iou(votes.boxes[boxes], votes.boxes[best])
    seats = best * num_sources + votes.sources[boxes]
    has_led = np.flatnonzero(leaders >= 0)
    taken = leaders[has_led] * num_sources + votes.sources[has_led]
    order = np.lexsort((boxes, -nearness, seats))
    is_first = np.append(True, np.diff(seats[order]) != 0)
    joins = np.zeros(len(boxes), bool)
    joins[order[is_first]] = True
    return joins & ~np.isin(seats, taken)


def _fused(votes: _Votes, leaders: Indices, keys: list[str], say: Floats) -> pa.Table:
    """One row per cluster; none where a person's box has nobody with it."""
    order = np.lexsort((np.arange(len(leaders)), leaders))
    starts = np.flatnonzero(np.diff(leaders[order], prepend=-1))
    best = leaders[order][starts]
    counts = np.diff(starts, append=len(order))
    scored = ~np.isnan(votes.scores)
    scores = np.where(scored, votes.scores.astype(np.float64), 0.0)

    def total(values: Floats) -> Floats:
        sums: Floats = np.add.reduceat(values[order], starts)
        return sums

    pull = votes.weights * np.where(scored, scores, 1.0)
    pull = np.where(pull > 0, pull, np.finfo(np.float32).tiny)  # a score of 0 still has a box
    means = [total(pull * side) / total(pull) for side in votes.boxes.T.astype(np.float64)]
    boxes = np.stack(means, axis=1).astype(np.float32)
    with np.errstate(invalid="ignore"):  # 0/0 where nobody has a score: null
        agreement = np.minimum(total(votes.weights) / say[votes.images[best]], 1.0)
        score = total(votes.weights * scores) / total(votes.weights * scored) * agreement
    by_person = votes.humans[best]
    boxes[by_person] = votes.boxes[best][by_person]
    written = np.flatnonzero(~by_person | (counts > 1))
    written = written[np.lexsort((best[written], -np.nan_to_num(score[written], nan=-1.0)))]
    written = written[np.argsort(votes.images[best[written]], kind="stable")]
    ids = votes.rows["annotation_id"].to_pylist()
    regions = votes.rows["region_id"].to_pylist()
    members = np.split(order, starts[1:])
    return claims(
        image_key=[keys[votes.images[best[i]]] for i in written],
        kind="region",
        role="category",
        text=[votes.names[best[i]] for i in written],
        region_id=[regions[best[i]] if by_person[i] else None for i in written],
        box=boxes[written],
        polygon=_outlines(votes.rows, members, written),
        score=pa.array(score[written], pa.float32(), from_pandas=True),
        parents=[[ids[j] for j in members[i]] for i in written],
    )


def _outlines(rows: pa.Table, members: list[Indices], written: Indices) -> pa.Array:
    """The polygon of the best member that has one."""
    has_one = rows["polygon"].is_valid().to_numpy()
    chosen = [next((int(j) for j in members[i] if has_one[j]), None) for i in written]
    return rows["polygon"].combine_chunks().take(pa.array(chosen, pa.int64()))
