"""COCO's mean average precision, added up shard by shard: the twelve numbers of pycocotools."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.evaluate.pairs import (
    Flags,
    Indices,
    Numbers,
    assign,
    box_areas,
    flags_of,
    folded,
    near_boxes,
    places_by_score,
    scores_of,
    shared_codes,
)
from engine.evaluate.regions import Classes

# COCOeval's parameters (pycocotools.cocoeval.Params): how much must overlap, where the curve is
# read, how large small, medium and large objects are (px squared), how many boxes an image may have
_IOUS = np.linspace(0.5, 0.95, 10)
_RECALLS = np.linspace(0.0, 1.0, 101)
_AREAS = {
    "all": (0.0, 1e10),
    "small": (0.0, 32.0**2),
    "medium": (32.0**2, 96.0**2),
    "large": (96.0**2, 1e10),
}
_MAX_BOXES = (1, 10, 100)
_CASES = (len(_AREAS), len(_IOUS))
_NUM_CASES = len(_AREAS) * len(_IOUS)


@dataclass(frozen=True)
class MeanPrecision:
    """What COCO's summary prints; null where the truth has nothing to measure it on.

    Attributes:
        ap: Mean over IoU 0.50 to 0.95 and all classes of the truth; `ap50`, `ap75` at one IoU;
            `ap_small`, `ap_medium`, `ap_large` by the area of the true object.
        ar1: Mean recall with the best 1 box of an image and class; `ar10`, `ar100` with more;
            `ar_small`, `ar_medium`, `ar_large` by area.
        by_class: `ap` and `ap50` of every class of the truth.
        num_unscored: Claims without a score: they rank last. If none has one, all is null.
    """

    ap: float | None
    ap50: float | None
    ap75: float | None
    ap_small: float | None
    ap_medium: float | None
    ap_large: float | None
    ar1: float | None
    ar10: float | None
    ar100: float | None
    ar_small: float | None
    ar_medium: float | None
    ar_large: float | None
    by_class: dict[str, tuple[float, float]]
    num_unscored: int


class AveragePrecision:
    """Ranked boxes against true ones, by class; equal to pycocotools' COCOeval for `bbox`.

    The curve over all images needs every box: 19 bytes are kept of each (score, class, place in its
    image, and whether it is right, wrong or not judged in 40 cases), whatever its columns were.
    Boxes of equal score rank in the order in which they were added (COCOeval: by image id). Boxes
    past the best 100 of an image and class are not kept, for they do not count.
    """

    def __init__(self) -> None:
        self._classes = Classes()
        self._kept: list[tuple[npt.NDArray[np.generic], ...]] = []
        self._true = np.zeros((len(_AREAS), 0), np.int64)
        self._num_boxes = 0
        self._num_unscored = 0

    def add(self, claimed: pa.Table, truth: pa.Table, areas: Numbers | None = None) -> None:
        """Takes the boxes of some images.

        Args:
            claimed: All boxes claimed on these images.
            truth: All true boxes on the same images; those with `ignore` are COCO's crowds.
            areas: Of the true objects, px squared, shape (rows of truth,); that of a mask may be
                smaller than its box. Default: of their boxes.
        """
        images = shared_codes(claimed["image_key"], truth["image_key"])
        *local, names = shared_codes(folded(claimed["text"]), folded(truth["text"]))
        codes = self._classes.codes(names.to_pylist())
        mine, true = (codes[each] for each in local)
        width = len(self._classes.names)
        groups = (images[0] * width + mine, images[1] * width + true)
        scores = scores_of(claimed)
        self._num_boxes += len(scores)
        self._num_unscored += int(np.isnan(scores).sum())
        places = places_by_score(groups[0], scores)
        ignored = _outside(box_areas(truth) if areas is None else areas)
        ignored |= flags_of(truth["ignore"])
        self._count_truth(true, ignored)
        chosen = np.flatnonzero(places < _MAX_BOXES[-1])
        some = claimed.take(pa.array(chosen))
        right, void = _judge(some, truth, (groups[0][chosen], groups[1]), places[chosen], ignored)
        self._kept.append(
            (
                mine[chosen].astype(np.int32),
                scores[chosen].astype(np.float32),
                places[chosen].astype(np.uint8),
                np.packbits(right.reshape(_NUM_CASES, len(chosen)).T, axis=1),
                np.packbits(void.reshape(_NUM_CASES, len(chosen)).T, axis=1),
            )
        )

    def result(self) -> MeanPrecision:
        """The means over everything added so far."""
        if self._num_boxes and self._num_boxes == self._num_unscored:
            nothing = np.empty((0, *_CASES))
            return self._summary(nothing, np.empty((0, len(_MAX_BOXES), *_CASES)), [])
        present = np.flatnonzero(self._true[0])
        precisions = np.full((len(present), *_CASES), np.nan)
        recalls = np.full((len(present), len(_MAX_BOXES), *_CASES), np.nan)
        columns = self._columns()
        bounds = np.searchsorted(columns[0], np.stack([present, present + 1]))
        for i, (start, stop) in enumerate(bounds.T.tolist()):
            rows = tuple(column[start:stop] for column in columns[1:])
            precisions[i], recalls[i] = _curves(rows, self._true[:, present[i]])
        return self._summary(precisions, recalls, [self._classes.names[i] for i in present])

    def _columns(self) -> tuple[npt.NDArray[np.generic], ...]:
        """What was kept, by class, and in a class from the top score, null last."""
        if not self._kept:
            bits = np.empty((0, 5), np.uint8)
            return np.empty(0, np.int32), np.empty(0), np.empty(0, np.uint8), bits, bits
        columns = [np.concatenate(parts) for parts in zip(*self._kept, strict=True)]
        self._kept = [tuple(columns)]
        order = np.lexsort((-columns[1], columns[0]))
        return tuple(column[order] for column in columns)

    def _count_truth(self, true: Indices, ignored: Flags) -> None:
        missing = len(self._classes.names) - self._true.shape[1]
        self._true = np.pad(self._true, ((0, 0), (0, missing)))
        for i, hidden in enumerate(ignored):
            self._true[i] += np.bincount(true[~hidden], minlength=self._true.shape[1])

    def _summary(self, precisions: Numbers, recalls: Numbers, names: list[str]) -> MeanPrecision:
        at50, at75 = np.searchsorted(_IOUS, (0.5, 0.75)).tolist()
        overall = precisions[:, 0]
        return MeanPrecision(
            ap=_mean(overall),
            ap50=_mean(overall[:, at50]),
            ap75=_mean(overall[:, at75]),
            ap_small=_mean(precisions[:, 1]),
            ap_medium=_mean(precisions[:, 2]),
            ap_large=_mean(precisions[:, 3]),
            ar1=_mean(recalls[:, 0, 0]),
            ar10=_mean(recalls[:, 1, 0]),
            ar100=_mean(recalls[:, 2, 0]),
            ar_small=_mean(recalls[:, 2, 1]),
            ar_medium=_mean(recalls[:, 2, 2]),
            ar_large=_mean(recalls[:, 2, 3]),
            by_class={
                name: (float(ap.mean()), float(ap[at50]))
                for name, ap in zip(names, overall, strict=True)
            },
            num_unscored=self._num_unscored,
        )


def _outside(areas: Numbers) -> Flags:
    """Which objects are of another size, shape (sizes, n)."""
    return np.stack([(areas < low) | (areas > high) for low, high in _AREAS.values()])


def _judge(
    claimed: pa.Table,
    truth: pa.Table,
    groups: tuple[Indices, Indices],
    places: Indices,
    ignored: Flags,
) -> tuple[Flags, Flags]:
    """Which boxes are right, and which are not judged, shape (sizes, IoUs, n)."""
    pairs = near_boxes(claimed, truth, groups, _IOUS[0])
    enough = pairs.overlaps >= np.minimum(_IOUS, 1 - 1e-10)[:, None]  # as COCOeval bounds them
    shape = (*_CASES, len(pairs.claims))
    unwanted = ignored[:, pairs.truths]
    won = assign(
        pairs.claims,
        pairs.truths,
        places[pairs.claims],
        pairs.overlaps,
        allowed=np.broadcast_to(enough, shape).reshape(_NUM_CASES, shape[-1]),
        favoured=np.broadcast_to(~unwanted[:, None], shape).reshape(_NUM_CASES, shape[-1]),
        reusable=flags_of(truth["ignore"]),
    ).reshape(shape)
    right = np.zeros((*_CASES, claimed.num_rows), bool)
    void = np.broadcast_to(_outside(box_areas(claimed))[:, None], right.shape).copy()
    area, iou, pair = np.nonzero(won)
    hidden = unwanted[area, pair]
    right[area, iou, pairs.claims[pair]] = ~hidden
    void[area, iou, pairs.claims[pair]] = hidden
    return right, void


def _curves(
    rows: tuple[npt.NDArray[np.generic], ...], num_true: npt.NDArray[np.int64]
) -> tuple[Numbers, Numbers]:
    """Mean precision, shape (sizes, IoUs), and recall, (maxima, sizes, IoUs), of one class."""
    _, places, right_bits, void_bits = rows
    best = [np.less(places, maximum) for maximum in _MAX_BOXES]
    precisions = np.full(_CASES, np.nan)
    recalls = np.full((len(_MAX_BOXES), *_CASES), np.nan)
    for area in np.flatnonzero(num_true).tolist():
        for iou in range(len(_IOUS)):
            bit = area * len(_IOUS) + iou
            right, void = (_bit(bits, bit) for bits in (right_bits, void_bits))
            found = np.cumsum(right, dtype=np.int64)
            wrong = np.cumsum(~right & ~void, dtype=np.int64)
            precisions[area, iou] = _interpolated(found, wrong, int(num_true[area]))
            for i, chosen in enumerate(best):
                recalls[i, area, iou] = (right & chosen).sum() / num_true[area]
    return precisions, recalls


def _bit(packed: npt.NDArray[np.generic], bit: int) -> Flags:
    column = packed[:, bit // 8].astype(np.uint8)
    return (column >> np.uint8(7 - bit % 8) & np.uint8(1)).astype(bool)


def _interpolated(found: Indices, wrong: Indices, num_true: int) -> float:
    """Mean over 101 recalls of the best precision at that recall or a higher one."""
    precision = found / (found + wrong + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(found / num_true, _RECALLS, side="left")
    return float(np.append(best, 0.0)[at].mean())


def _mean(values: Numbers) -> float | None:
    known = values[~np.isnan(values)]
    return float(known.mean()) if known.size else None
