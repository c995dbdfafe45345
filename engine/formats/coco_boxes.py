"""Boxes and outlines of rows as the texts they are in a COCO record."""

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.schema import box_array

_DIGITS = 10  # decimals of a difference of two coordinates: beyond float32, without noise


def box_texts(rows: pa.Table) -> tuple[pa.StringArray, pa.StringArray, pa.BooleanArray]:
    """`, "bbox": [x, y, w, h]` and `, "area": a` of every row, and whether they are numbers.

    Coordinates have the fewest digits that give the same float32. A row without a box has neither
    and passes. Area is that of the outline where there is one.
    """
    has_box = pc.is_valid(rows["box"]).combine_chunks()
    boxes = as_decimals(box_array(rows).reshape(-1)).reshape(-1, 4)
    with np.errstate(invalid="ignore", over="ignore"):
        sides = np.round(boxes[:, 2:] - boxes[:, :2], _DIGITS)
        areas = np.round(sides[:, 0] * sides[:, 1], _DIGITS)
    is_finite = np.isfinite(boxes).all(axis=1) & np.isfinite(areas)
    outlined, outlines = _outline_areas(rows["polygon"].combine_chunks())
    areas[outlined] = np.round(outlines, _DIGITS)
    x, y, width, height = (
        pa.array(column).cast(pa.string()) for column in (*boxes[:, :2].T, *sides.T)
    )
    bbox = pc.binary_join_element_wise(
        ', "bbox": [', pc.binary_join_element_wise(x, y, width, height, ", "), "]", ""
    )
    area = pc.binary_join_element_wise(', "area": ', pa.array(areas).cast(pa.string()), "")
    return (
        pc.if_else(has_box, bbox, ""),
        pc.if_else(has_box, area, ""),
        pc.or_(pc.invert(has_box), pa.array(is_finite)),
    )


def ring_texts(polygons: pa.ListArray) -> pa.StringArray:
    """`, "segmentation": [[x0, y0, ...]]` of every row; nothing where it has none."""
    if polygons.null_count == len(polygons):
        return pa.repeat("", len(polygons))
    rings = pc.list_flatten(polygons)
    numbers = pc.list_flatten(rings).cast(pa.string())
    inner = pc.binary_join(_regrouped(rings, numbers), ", ")
    inner = pc.binary_join_element_wise("[", inner, "]", "")
    outer = pc.binary_join(_regrouped(polygons, inner), ", ")
    texts = pc.binary_join_element_wise(', "segmentation": [', outer, "]", "")
    return pc.if_else(pc.is_valid(polygons), texts, "")


def _regrouped(lists: pa.ListArray, values: pa.Array) -> pa.ListArray:
    """Other values in lists of the same lengths; null lists are empty."""
    lengths = pc.list_value_length(lists).fill_null(0).to_numpy(zero_copy_only=False)
    borders = np.concatenate([[0], np.cumsum(lengths)])
    return pa.ListArray.from_arrays(pa.array(borders, pa.int32()), values)


def as_decimals(values: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    """The float64 of the fewest digits that give each float32: 0.1, not 0.10000000149."""
    spelled = pa.array(values).cast(pa.string())
    decimals: npt.NDArray[np.float64] = spelled.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return decimals.copy()


def _outline_areas(
    polygons: pa.ListArray,
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.float64]]:
    """Which rows have an outline, and the areas of these, px squared: the sum over their rings."""
    counts = pc.list_value_length(polygons).fill_null(0).to_numpy(zero_copy_only=False)
    rings = pc.list_flatten(polygons)
    sizes = pc.list_value_length(rings).to_numpy(zero_copy_only=False) // 2
    flat = pc.list_flatten(rings).to_numpy(zero_copy_only=False).astype(np.float64)
    points = flat.reshape(-1, 2)
    lasts = np.cumsum(sizes) - 1
    following = np.arange(1, len(points) + 1)
    following[lasts[sizes > 0]] = (lasts - sizes + 1)[sizes > 0]
    following = points[following] if len(points) else points
    crosses = points[:, 0] * following[:, 1] - following[:, 0] * points[:, 1]
    sums = np.concatenate([[0], np.cumsum(crosses)])
    ring_areas = np.abs(sums[lasts + 1] - sums[lasts + 1 - sizes]) / 2
    row_sums = np.concatenate([[0], np.cumsum(ring_areas)])
    ends = np.cumsum(counts)
    return counts > 0, (row_sums[ends] - row_sums[ends - counts])[counts > 0]
