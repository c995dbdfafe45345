"""The box around a COCO mask in run-length form, for results that give no box beside it."""

import numpy as np
import numpy.typing as npt

_FIRST_CHARACTER = 48  # of the 64 that COCO's compressed counts are written in
_MORE, _SIGN, _BITS, _DIGIT = 0x20, 0x10, 5, 0x1F
_DELTA_FROM = 3  # counts from this one on are written as differences to the one two before


def mask_box(counts: list[int] | str, size: list[int]) -> list[float] | None:
    """The xyxy box around a mask, in pixels.

    Args:
        counts: Lengths of runs of zeros and ones in turn, zeros first, down the columns one after
            the other; or the same compressed, as pycocotools writes them.
        size: Height and width of the mask.

    Returns:
        Null for a mask without a pixel.

    Raises:
        ValueError: Counts that do not end, or run beyond the size.

    Example:
        >>> mask_box([4, 2, 3], [3, 3])
        [1.0, 1.0, 2.0, 3.0]
    """
    runs = np.array(_decompress(counts) if isinstance(counts, str) else counts, np.int64)
    if len(size) != 2 or (runs < 0).any() or runs.sum() > size[0] * size[1]:  # noqa: PLR2004
        raise ValueError(f"mask runs beyond its size {size}")
    ends = np.cumsum(runs)
    filled = runs[1::2] > 0
    starts, lasts = (ends[0 : len(runs) - 1 : 2])[filled], (ends[1::2] - 1)[filled]
    if len(starts) == 0:
        return None
    return _box(starts, lasts, size[0])


def _box(starts: npt.NDArray[np.int64], lasts: npt.NDArray[np.int64], height: int) -> list[float]:
    columns, last_columns = starts // height, lasts // height
    tops, bottoms = starts % height, lasts % height
    if (columns != last_columns).any():  # a run over the foot of a column goes on at the next top
        top, bottom = 0, height - 1
    else:
        top, bottom = int(tops.min()), int(bottoms.max())
    return [float(columns.min()), float(top), float(last_columns.max() + 1), float(bottom + 1)]


def _decompress(text: str) -> list[int]:
    """Counts from their compressed form: little-endian groups of 5 bits, the sixth says "more"."""
    counts: list[int] = []
    value, shift = 0, 0
    for code in text.encode():
        group = code - _FIRST_CHARACTER
        if not 0 <= group < 2 * _MORE:
            raise ValueError(f"mask counts hold {chr(code)!r}")
        value |= (group & _DIGIT) << shift
        shift += _BITS
        if group & _MORE:
            continue
        if group & _SIGN:
            value -= 1 << shift
        counts.append(value + (counts[-2] if len(counts) >= _DELTA_FROM else 0))
        value, shift = 0, 0
    if shift:
        raise ValueError("mask counts are cut short")
    return counts
