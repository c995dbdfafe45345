"""Which claims and truths lie on one another, and who gets whom: on columns, for many images."""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.geometry import is_box
from engine.schema import box_array

Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
Numbers = npt.NDArray[np.float64]

_AT_ONCE = 1 << 18  # candidate pairs in flight, some 40 MB


class Pairs(NamedTuple):
    """Claim `claims[i]` and truth `truths[i]` overlap by `overlaps[i]`; all of shape (p,)."""

    claims: Indices
    truths: Indices
    overlaps: Numbers


def shared_codes(a: pa.ChunkedArray, b: pa.ChunkedArray) -> tuple[Indices, Indices, pa.Array]:
    """Both text columns as positions in their common distinct texts, null as ""; and those."""
    both = pa.chunked_array([*a.cast(pa.string()).chunks, *b.cast(pa.string()).chunks], pa.string())
    encoded = both.fill_null("").combine_chunks().dictionary_encode()
    codes: Indices = encoded.indices.to_numpy().astype(np.int64)
    return codes[: len(a)], codes[len(a) :], encoded.dictionary


def folded(column: pa.ChunkedArray) -> pa.ChunkedArray:
    """Texts in lower case, so that those which differ in case alone are one."""
    return pc.utf8_lower(column.cast(pa.string()))


def scores_of(table: pa.Table) -> Numbers:
    """The box score, or the text score of a row without one, shape (n,); NaN without either."""
    score = pc.coalesce(table["score"], table["text_score"])
    return np.asarray(score.to_numpy(zero_copy_only=False), np.float64)


def flags_of(column: pa.ChunkedArray) -> Flags:
    """A boolean column, null as False, shape (n,)."""
    return np.asarray(column.fill_null(False).to_numpy(zero_copy_only=False), bool)


def places_by_score(groups: Indices, scores: Numbers) -> Indices:
    """How many of its group go before each row: by score from the top, NaN last, then by row."""
    order = np.lexsort((-scores, groups))
    ordered = groups[order]
    starts = np.flatnonzero(np.diff(ordered, prepend=ordered[:1] - 1))
    sizes = np.diff(starts, append=len(order))
    places = np.empty(len(order), np.int64)
    places[order] = np.arange(len(order)) - np.repeat(starts, sizes)
    return places


def candidates(a: Indices, b: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Positions of every two members of one group, in pieces of bounded size.

    Args:
        a: Group codes, shape (n,).
        b: Group codes, shape (m,).
    """
    order = np.argsort(b, kind="stable")
    groups = b[order]
    firsts = np.searchsorted(groups, a, side="left")
    counts = np.searchsorted(groups, a, side="right") - firsts
    ends = np.cumsum(counts)
    start = 0
    while start < len(a):
        before = ends[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(ends, before + _AT_ONCE, side="right")))
        some = counts[start:stop]
        left = np.repeat(np.arange(start, stop), some)
        steps = np.arange(len(left)) - np.repeat(np.cumsum(some) - some, some)
        yield left, order[np.repeat(firsts[start:stop], some) + steps]
        start = stop


def near_boxes(
    claimed: pa.Table, truth: pa.Table, groups: tuple[Indices, Indices], min_iou: float
) -> Pairs:
    """Claims and truths of one group that overlap by `min_iou` or more.

    The overlap is IoU, in float64 as pycocotools has it; with an ignored truth, which may stand for
    a crowd, it is the share of the claim inside it (COCO's rule).
    """
    a, b = (_boxes(table) for table in (claimed, truth))
    crowd = flags_of(truth["ignore"])
    found = [Pairs(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))]
    for left, right in candidates(*groups):
        overlap = _overlap(a[left], b[right], crowd[right])
        near = overlap >= min_iou
        found.append(Pairs(left[near], right[near], overlap[near]))
    return Pairs(*(np.concatenate(column) for column in zip(*found, strict=True)))


def box_areas(table: pa.Table) -> Numbers:
    """Areas of the boxes, px squared, float64, shape (n,); 0 where there is no box."""
    return _areas(_boxes(table))


def assign(
    takers: Indices,
    things: Indices,
    turns: Indices,
    worth: Numbers,
    *,
    allowed: Flags,
    favoured: Flags | None = None,
    reusable: Flags | None = None,
) -> Flags:
    """Greedy matching in several worlds at once: takers choose in turn, each the best thing left.

    Args:
        takers: Who chooses in each pair, shape (p,).
        things: What is chosen, shape (p,).
        turns: When the taker chooses, shape (p,); two of one turn never want the same thing.
        worth: Of the thing to the taker, shape (p,); of equals the later thing is taken (COCO).
        allowed: Which pairs there are in each world, shape (worlds, p).
        favoured: Which are preferred whatever their worth, shape (worlds, p).
        reusable: Which things can be taken again and again, shape (at least every thing + 1,).

    Returns:
        Which pairs came about, shape (worlds, p): at most one of each taker in every world.

    The rounds run over turns, not over images: round k decides the k-th taker of every group.
    """
    won = np.zeros(allowed.shape, bool)
    if allowed.size == 0:
        return won
    order = np.lexsort((things, worth, takers, turns))
    busy = np.zeros((len(allowed), int(things.max()) + 1), bool)
    rounds = np.flatnonzero(np.diff(turns[order])) + 1
    for some in np.split(order, rounds):
        wanted, size = things[some], len(some)
        taken = busy[:, wanted]
        if reusable is not None:
            taken &= ~reusable[wanted]
        rank = np.arange(1, size + 1) * np.ones((len(allowed), 1), np.int64)
        if favoured is not None:
            rank += size * favoured[:, some]
        rank[~allowed[:, some] | taken] = 0
        starts = np.flatnonzero(np.diff(takers[some], prepend=-1))
        best = np.maximum.reduceat(rank, starts, axis=1)
        worlds, chosen = np.nonzero(best)
        column = (best[worlds, chosen] - 1) % size
        won[worlds, some[column]] = True
        busy[worlds, wanted[column]] = True
    return won


def _boxes(table: pa.Table) -> Numbers:
    return box_array(table).astype(np.float64)


def _areas(boxes: Numbers) -> Numbers:
    with np.errstate(invalid="ignore", over="ignore"):
        sides = boxes[:, 2:] - boxes[:, :2]
        real = is_box(boxes.astype(np.float32))
        areas: Numbers = np.where(real, sides[:, 0] * sides[:, 1], 0.0)
    return areas


def _overlap(a: Numbers, b: Numbers, crowd: Flags) -> Numbers:
    area_a, area_b = _areas(a), _areas(b)
    with np.errstate(invalid="ignore", over="ignore"):
        sides = np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2])
        meets = (sides > 0).all(axis=1) & (area_a > 0) & (area_b > 0)
        shared = np.where(meets, sides[:, 0] * sides[:, 1], 0.0)
        whole = np.where(crowd, area_a, area_a + area_b - shared)
        overlap: Numbers = shared / np.where(meets, whole, 1.0)
    return overlap
