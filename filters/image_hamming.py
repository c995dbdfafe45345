"""Hashes of 64 bits that differ in few of them: every such pair, without looking at all pairs."""

from collections.abc import Iterator
from itertools import combinations
from math import comb, log2

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.geometry import following_pairs

Hashes = npt.NDArray[np.uint64]
Indices = npt.NDArray[np.int64]
Distances = npt.NDArray[np.uint8]

BITS = 64
MAX_DISTANCE = 16  # unrelated pictures begin here: 16 is the nearest of 5,671 pairs of 107 pictures
# What one key costs in a sort, per bit of its place, and one comparison of two hashes, in the same
# unit: 5 and 12 ns measured on a million hashes.
_SORT_COST, _PAIR_COST = 5, 12


def read_hashes(column: pa.Array | pa.ChunkedArray) -> Hashes:
    """Hashes spelled as 16 hex digits as numbers, shape (n,); none of them null.

    Example:
        >>> read_hashes(pa.array(["00000000000000ff", "8000000000000000"])).tolist()
        [255, 9223372036854775808]
    """
    spelled = "".join(column.to_pylist())
    return np.frombuffer(bytes.fromhex(spelled), ">u8").astype(np.uint64)


def distance(a: Hashes, b: Hashes) -> Distances:
    """In how many bits hashes differ; any shapes that broadcast."""
    differing: Distances = np.bitwise_count(a ^ b)
    return differing


def near_pairs(hashes: Hashes, max_distance: int) -> Indices:
    """Places of every two hashes that differ in at most `max_distance` bits.

    Cut into m blocks, two hashes that differ in d bits agree in at least m - d of them: so the
    hashes are sorted once for each choice of m - d blocks by those alone, and only those that agree
    there are compared (Manku et al., "Detecting near-duplicates for web crawling", 2007). m is the
    one that costs least for that many hashes; few are simply compared with one another.

    Args:
        hashes: Shape (n,). Distinct, or as many pairs come out as equal ones make.
        max_distance: 0 to MAX_DISTANCE.

    Returns:
        Shape (k, 2), each pair once, the earlier place first, in order. No hashes, no pairs.
    """
    found = [np.empty(0, np.int64)]
    count = max(len(hashes), 1)
    for mask in _masks(_num_blocks(len(hashes), max_distance), max_distance):
        found.extend(_near_under(hashes, mask, max_distance))
    codes = np.unique(np.concatenate(found))
    return np.stack([codes // count, codes % count], axis=1)


def _near_under(hashes: Hashes, mask: np.uint64, max_distance: int) -> Iterator[Indices]:
    """The near pairs among hashes that agree in the bits of a mask, as place * n + place."""
    masked = hashes & mask
    order = np.argsort(masked, kind="stable")
    masked, ordered = masked[order], hashes[order]
    ends = np.append(np.flatnonzero(np.diff(masked)) + 1, len(masked))
    last = np.repeat(ends, np.diff(ends, prepend=0))
    for left, right in following_pairs(last - np.arange(1, len(masked) + 1)):
        near = distance(ordered[left], ordered[right]) <= max_distance
        # a stable sort: within a group the earlier place is on the left
        yield order[left[near]] * len(hashes) + order[right[near]]


def _num_blocks(count: int, max_distance: int) -> int:
    """Into how many blocks to cut; as many as the distance means to compare all with all."""

    def cost(blocks: int) -> float:
        agreeing = BITS * (blocks - max_distance) / blocks if blocks else 0
        pairs = count * count / 2 / 2**agreeing
        per_mask = _SORT_COST * count * log2(count + 1) + _PAIR_COST * pairs
        return comb(blocks, max_distance) * per_mask

    return min(range(max_distance, min(2 * max_distance + 8, BITS) + 1), key=cost)


def _masks(blocks: int, max_distance: int) -> Iterator[np.uint64]:
    """A mask for every choice of blocks that must agree."""
    cuts = [BITS * i // blocks for i in range(blocks + 1)] if blocks else []
    parts = [(1 << cuts[i + 1]) - (1 << cuts[i]) for i in range(blocks)]
    for chosen in combinations(parts, blocks - max_distance):
        yield np.uint64(sum(chosen))
