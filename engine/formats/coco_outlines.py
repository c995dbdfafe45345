"""Outlines of COCO annotations, out of their JSON straight into a column.

Outlines are most of an annotation: as Python numbers they would cost more time than all the rest.
"""

import itertools

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.formats.coco_rle import mask_box
from engine.formats.json_decode import RecordDecoder
from engine.geometry import rings_box

Counts = npt.NDArray[np.int64]

_POLYGON = pa.list_(pa.list_(pa.float32()))
_OTHERS = (b'"', b"{", b"u", b"s")  # one is in every text, object, null, true and false of JSON
_RINGS_DEPTH = 2  # of numbers inside the brackets of the polygon and of the ring
_RINGS: RecordDecoder[list[list[float]]] = RecordDecoder(list[list[float]])


class _Mask(msgspec.Struct):
    counts: list[int] | str
    size: list[int]


def outline_box(text: bytes) -> list[float] | None:
    """The xyxy box around a segmentation of that JSON, rings or mask; null where there is none.

    Raises:
        ValueError: It is neither rings of corners nor a mask.
    """
    if text in (b"", b"null"):
        return None
    if text.startswith(b"["):
        rings = _RINGS.one(text)
        if not isinstance(rings, list):
            raise ValueError(rings.message)
        return rings_box(rings)
    mask = msgspec.json.decode(text, type=_Mask)
    return mask_box(mask.counts, mask.size)


def outlines(segmentations: list[bytes]) -> tuple[pa.ListArray, list[int]]:
    """Rings of every record.

    Args:
        segmentations: JSON of each, known to be sound; what is no array is no outline.

    Returns:
        A column of polygons, null where there are no rings with corners; and the places of those
        that are no rings of x, y or hold numbers float32 has not, which are null too.
    """
    present = np.array([each.startswith(b"[") for each in segmentations], bool)
    if not present.any():
        return pa.nulls(len(segmentations), _POLYGON), []
    found = _parsed(b",".join(itertools.compress(segmentations, present)))
    if found is None:
        return _one_by_one(segmentations)
    ring_counts, sizes, numbers = found
    all_counts = np.zeros(len(segmentations), np.int64)
    all_counts[present] = ring_counts
    return _column(all_counts, sizes, numbers)


def _parsed(text: bytes) -> tuple[Counts, Counts, npt.NDArray[np.float32]] | None:
    """Rings of each polygon, numbers of each ring, and the numbers; null if there is more in it."""
    if any(mark in text for mark in _OTHERS):
        return None
    data = np.frombuffer(text, np.uint8)
    is_number = (data > ord("*")) & (data != ord(",")) & (data != ord("[")) & (data != ord("]"))
    opening, closing = np.flatnonzero(data == ord("[")), np.flatnonzero(data == ord("]"))
    places = np.concatenate([opening, closing])
    order = np.argsort(places, kind="stable")
    depths = np.cumsum(np.where(order < len(opening), 1, -1))
    places = places[order]
    is_opening = order < len(opening)
    if depths.max() > _RINGS_DEPTH:
        return None
    borders = np.flatnonzero(np.diff(is_number, prepend=False, append=False)).astype(np.int32)
    starts = borders[0::2]
    ring_starts = places[is_opening & (depths == _RINGS_DEPTH)]
    ring_ends = places[~is_opening & (depths == _RINGS_DEPTH - 1)]
    sizes = np.searchsorted(starts, ring_ends) - np.searchsorted(starts, ring_starts)
    if sizes.sum() != len(starts):  # a number beside the rings
        return None
    firsts = places[is_opening & (depths == 1)]
    lasts = places[~is_opening & (depths == 0)]
    ring_counts = np.searchsorted(ring_starts, lasts) - np.searchsorted(ring_starts, firsts)
    return ring_counts, sizes, _numbers(text, borders)


def _numbers(text: bytes, borders: npt.NDArray[np.int32]) -> npt.NDArray[np.float32]:
    if len(borders) == 0:
        return np.empty(0, np.float32)
    # every second string is a number, those between are what stands between two of them
    strings = pa.StringArray.from_buffers(
        len(borders) - 1, pa.py_buffer(borders), pa.py_buffer(text)
    )
    spelled = strings.take(pa.array(np.arange(0, len(borders), 2, dtype=np.int32)))
    numbers: npt.NDArray[np.float32] = spelled.cast(pa.float32()).to_numpy(zero_copy_only=False)
    return numbers


def _one_by_one(segmentations: list[bytes]) -> tuple[pa.ListArray, list[int]]:
    """The same for any JSON arrays."""
    polygons: list[list[list[float]]] = []
    broken = []
    for place, each in enumerate(segmentations):
        rings = _RINGS.one(each) if each.startswith(b"[") else []
        if not isinstance(rings, list):
            broken.append(place)
            rings = []
        polygons.append(rings)
    sizes = np.array([len(ring) for rings in polygons for ring in rings], np.int64)
    with np.errstate(over="ignore"):
        numbers = np.array(
            [number for rings in polygons for ring in rings for number in ring], np.float64
        ).astype(np.float32)
    counts = np.array([len(rings) for rings in polygons], np.int64)
    column, more = _column(counts, sizes, numbers)
    return column, sorted({*broken, *more})


def _column(
    ring_counts: Counts, sizes: Counts, numbers: npt.NDArray[np.float32]
) -> tuple[pa.ListArray, list[int]]:
    """The column, without empty rings, and the places of polygons that are none."""
    owner = np.repeat(np.arange(len(ring_counts)), ring_counts)[sizes > 0]
    sizes = sizes[sizes > 0]
    ring_counts = np.bincount(owner, minlength=len(ring_counts))
    ring_ends = np.cumsum(sizes)
    finite = np.concatenate([[0], np.cumsum(np.isfinite(numbers))])
    is_broken = (finite[ring_ends] - finite[ring_ends - sizes] != sizes) | (sizes % 2 == 1)
    broken = np.unique(owner[is_broken])
    is_null = ring_counts == 0
    is_null[broken] = True
    rings = pa.ListArray.from_arrays(
        pa.array(np.concatenate([[0], ring_ends]), pa.int32()), pa.array(numbers)
    )
    borders = np.concatenate([[0], np.cumsum(ring_counts)])
    column = pa.ListArray.from_arrays(pa.array(borders, pa.int32()), rings, mask=pa.array(is_null))
    return column, broken.tolist()
