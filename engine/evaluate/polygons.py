"""Outlines of rows as shapely polygons, and how much of them is shared."""

from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.evaluate.pairs import Indices, Numbers
from engine.geometry import is_box
from engine.schema import box_array

Outlines = npt.NDArray[np.object_]  # of shapely geometries

_TRIANGLE = 3  # corners; fewer enclose nothing


def outlines(table: pa.Table) -> Outlines:
    """The polygon of each row, or its box where it has none, shape (n,); empty without either.

    Rings of one row are parts of one shape. A ring that crosses itself covers what it goes round.
    """
    import shapely  # type: ignore[import-untyped]

    boxes = box_array(table).astype(np.float64)
    boxes[~is_box(boxes.astype(np.float32))] = np.nan
    shapes: Outlines = shapely.box(*boxes.T)
    shapes[np.isnan(boxes).any(axis=1)] = shapely.Polygon()
    rows, rings = _rings(table["polygon"].combine_chunks())
    if len(rows):
        corners, indices = rings
        parts = shapely.polygons(shapely.linearrings(corners, indices=indices))
        drawn, places = np.unique(rows, return_inverse=True)
        shapes[drawn] = shapely.multipolygons(parts, indices=places)
    crossed = ~shapely.is_valid(shapes)
    shapes[crossed] = shapely.make_valid(shapes[crossed])
    return shapes


def shared_areas(a: Outlines, b: Outlines) -> Numbers:
    """Area that the shapes at the same place share, px squared, shape (n,)."""
    import shapely

    shared = np.zeros(len(a))
    meets = shapely.intersects(a, b)
    shared[meets] = shapely.area(shapely.intersection(a[meets], b[meets]))
    return shared


def outline_areas(shapes: Outlines) -> Numbers:
    """Area of each shape, px squared, shape (n,)."""
    import shapely

    areas: Numbers = shapely.area(shapes)
    return areas


def ring_areas(column: pa.ChunkedArray) -> Numbers:
    """Area inside the rings of each row by the shoelace formula, shape (n,); NaN without rings."""
    areas = np.full(len(column), np.nan)
    rows, (corners, rings) = _rings(column.combine_chunks())
    if not len(rows):
        return areas
    starts = np.flatnonzero(np.diff(rings, prepend=-1))
    following = np.arange(1, len(rings) + 1)
    following[np.append(starts[1:], len(rings)) - 1] = starts
    x, y = (corners - corners[starts][rings]).T  # near the origin: large numbers do not cancel
    doubled = np.add.reduceat(x * y[following] - x[following] * y, starts)
    drawn = np.bincount(rows, np.abs(doubled) / 2, minlength=len(areas))
    areas[rows] = drawn[rows]
    return areas


def _rings(column: pa.Array) -> tuple[Indices, Any]:
    """The row of every usable ring; all corners, shape (k, 2), and the ring of each, from 0."""
    rings = pc.list_flatten(column)
    rows = pc.list_parent_indices(column).to_numpy().astype(np.int64)
    sizes = pc.fill_null(pc.list_value_length(rings), 0).to_numpy().astype(np.int64)
    flat = np.asarray(pc.list_flatten(rings).to_numpy(zero_copy_only=False), np.float64)
    of_ring = np.repeat(np.arange(len(sizes)), sizes)
    whole = np.bincount(of_ring, np.isfinite(flat), minlength=len(sizes)) == sizes
    usable = whole & (sizes % 2 == 0) & (sizes >= 2 * _TRIANGLE)
    used = usable[of_ring]
    dense = np.cumsum(usable) - 1
    return rows[usable], (flat[used].reshape(-1, 2), dense[of_ring[used]][::2])
