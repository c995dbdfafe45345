"""Regions that a specialist looks at one by one: which, and the part of the picture they are."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image as PillowImage

from engine.geometry import area, clip, is_box
from engine.protocols import Image
from engine.schema import box_array

Boxes = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Regions:
    """One row of each region, image by image, each image's rows in their own order.

    Attributes:
        rows: Claims, n of them; `region_id` is never null.
        images: Position of the image of each, shape (n,).
        boxes: The part of each box inside its image, xyxy in pixels, shape (n, 4); none is empty.
    """

    rows: pa.Table
    images: Indices
    boxes: Boxes

    @classmethod
    def find(
        cls,
        images: Sequence[Image],
        rows: pa.Table,
        roles: Sequence[str],
        *,
        min_side_px: float,
        max_regions: int,
    ) -> "Regions":
        """The regions of those images to be looked at.

        A region is told by its first row of those roles with a box. Left out are crowds (`ignore`),
        boxes wholly outside their image, and where an image has too many the regions of lowest
        score; those without a score come last, and among equals the smaller ones.

        Args:
            images: A batch.
            rows: Kept rows.
            roles: Of the rows of kind `region`, those that count.
            min_side_px: Least shorter side of the box inside its image.
            max_regions: Most regions of an image.
        """
        rows = _told(rows, roles)
        keys = pa.array([image.image_key for image in images], pa.string())
        places = _numbers(pc.fill_null(pc.index_in(rows["image_key"], keys), -1))
        known = np.append(_sizes(images), np.zeros((1, 2)), axis=0)  # the last is no image's
        boxes = clip(box_array(rows), known[places])
        sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
        fit = np.flatnonzero(is_box(boxes) & (sides >= min_side_px))
        chosen = fit[_first_of_each(places[fit], rows["region_id"].take(pa.array(fit)))]
        best = chosen[_best_of_each(places[chosen], _scores(rows)[chosen], boxes[chosen])]
        ranks = _ranks_in(places[best])
        wanted = np.sort(best[ranks < max_regions])
        wanted = wanted[np.argsort(places[wanted], kind="stable")]
        return cls(rows.take(pa.array(wanted)), places[wanted], boxes[wanted])

    def __len__(self) -> int:
        return len(self.images)


def crop_bounds(boxes: Boxes, sizes_wh: npt.NDArray[np.floating], margin: float) -> Indices:
    """Whole pixels of the crop around each box.

    Args:
        boxes: Inside their images, none empty, shape (n, 4).
        sizes_wh: Width and height of the image of each, shape (n, 2).
        margin: What is added on every side, as a share of the box's own width or height.

    Returns:
        int64, shape (n, 4): left, top, right, bottom, the last two exclusive; at least one pixel,
        inside the image, and around all of the box.
    """
    wide = boxes.astype(np.float64)
    reach = np.tile(wide[:, 2:] - wide[:, :2], 2) * margin
    left_top = np.floor(wide - reach)[:, :2]
    right_bottom = np.ceil(wide + reach)[:, 2:]
    bounds = np.concatenate([np.maximum(left_top, 0), np.minimum(right_bottom, sizes_wh)], axis=1)
    return bounds.astype(np.int64)


def crops_of(
    images: Sequence[Image], regions: Regions, margin: float
) -> Iterator[PillowImage.Image]:
    """The crop of every region, in order; each image is decoded once, when its turn comes.

    `margin` is as in `crop_bounds`.
    """
    bounds = crop_bounds(regions.boxes, _sizes(images)[regions.images], margin)
    shown, pixels = -1, np.empty((0, 0, 3), np.uint8)
    for place, (left, top, right, bottom) in zip(regions.images, bounds.tolist(), strict=True):
        if place != shown:
            shown, pixels = place, images[place].rgb()
        yield PillowImage.fromarray(pixels[top:bottom, left:right])


def _told(rows: pa.Table, roles: Sequence[str]) -> pa.Table:
    """Rows of kind `region` and one of the roles that have a box and are no crowd."""
    is_region = pc.equal(rows["kind"].cast(pa.string()), "region")
    is_told = pc.is_in(rows["role"].cast(pa.string()), pa.array(roles, pa.string()))
    usable = pc.and_(pc.is_valid(rows["box"]), pc.invert(rows["ignore"]))
    rows = rows.filter(pc.and_(pc.and_(is_region, is_told), usable))
    regions = pc.coalesce(rows["region_id"], rows["annotation_id"])
    return rows.set_column(rows.column_names.index("region_id"), "region_id", regions)


def _first_of_each(places: Indices, regions: pa.ChunkedArray) -> Indices:
    """Positions of the first row of every region, rising."""
    codes = _numbers(regions.combine_chunks().dictionary_encode().indices)
    count = int(codes.max(initial=-1)) + 1
    _, first = np.unique(places * count + codes, return_index=True)
    return np.sort(first)


def _best_of_each(places: Indices, scores: npt.NDArray[np.float32], boxes: Boxes) -> Indices:
    """Positions image by image, the highest score first, then the largest, then the first."""
    return np.lexsort((-area(boxes), -scores, places))


def _ranks_in(places: Indices) -> Indices:
    """How many rows of the same image stand before each; the rows of an image are together."""
    starts = np.flatnonzero(np.diff(places, prepend=-1))
    counts = np.diff(starts, append=len(places))
    return np.arange(len(places)) - np.repeat(starts, counts)


def _scores(rows: pa.Table) -> npt.NDArray[np.float32]:
    scores = pc.fill_null(rows["score"], float("-inf")).to_numpy()
    return np.asarray(scores, np.float32)


def _numbers(column: pa.Array | pa.ChunkedArray) -> Indices:
    numbers: Indices = column.to_numpy(zero_copy_only=False).astype(np.int64)
    return numbers


def _sizes(images: Sequence[Image]) -> npt.NDArray[np.float64]:
    """Width and height of each image, shape (n, 2)."""
    sizes = np.array([[image.width, image.height] for image in images], np.float64)
    return sizes.reshape(-1, 2)
