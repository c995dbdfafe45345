"""Which task each place of a training stream is for, and which draw of that task it is."""

import heapq
import math
from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction

_ONE = 1 << 64  # shares are counted in this many parts: exact for any stream a training can see


@dataclass(frozen=True)
class _Group:
    """Two groups of tasks, or two tasks, of which the left one has `share` of `_ONE`."""

    share: int
    left: "_Group | str"
    right: "_Group | str"


class Mixture:
    """Tasks dealt out by weight: in the first n places each has its share of n, give or take two.

    Two groups of tasks are dealt out evenly by rounding: of the first n places the left one has its
    share of n, rounded (a line drawn by Bresenham's algorithm). Groups of more than two are split
    so again and again, in the tree of Huffman's code, where a group has at most two thirds of the
    one above it. Rounding errs by half a place, and a group inherits that share of the error above
    it: 1/2 + 2/3 * (1/2 + 2/3 * (...)) is under 3/2 for every group, and under 2 for every task.

    Nothing is drawn at random and nothing remembered: any place is answered at once.

    Attributes:
        shares: Of each task, adding up to 1.
    """

    def __init__(self, weights: Mapping[str, float]) -> None:
        """Takes the weights; none, or one that is not above 0 and finite, is a ValueError."""
        if not weights or not all(0 < weight < math.inf for weight in weights.values()):
            raise ValueError(f"weights {dict(weights)}; all must be above 0 and finite")
        exact = {task: Fraction(weight) for task, weight in weights.items()}
        total = sum(exact.values())
        self.shares = {task: float(weight / total) for task, weight in exact.items()}
        self._root = _tree(exact)

    def at(self, position: int) -> tuple[str, int]:
        """The task of a place, counted from 0, and how often that task came before.

        Example:
            >>> [Mixture({"od": 3, "ocr": 1}).at(place) for place in range(4)]
            [('od', 0), ('od', 1), ('ocr', 0), ('od', 2)]
        """
        if position < 0:
            raise IndexError(f"place {position} of a stream; they count from 0")
        found = self._root
        while isinstance(found, _Group):
            num_left = _rounded(position, found.share)
            if _rounded(position + 1, found.share) > num_left:
                found, position = found.left, num_left
            else:
                found, position = found.right, position - num_left
        return found, position


def _tree(weights: Mapping[str, Fraction]) -> _Group | str:
    """The lightest two become one until one is left; of equals, those that came first."""
    heap: list[tuple[Fraction, int, _Group | str]] = [
        (weight, number, task) for number, (task, weight) in enumerate(weights.items())
    ]
    heapq.heapify(heap)
    for number in range(len(heap), 2 * len(heap) - 1):
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        weight = first[0] + second[0]
        share = min(round(second[0] / weight * _ONE), _ONE - 1)  # the lighter one comes, too
        heapq.heappush(heap, (weight, number, _Group(share, second[2], first[2])))
    return heap[0][2]


def _rounded(count: int, share: int) -> int:
    return (count * share + _ONE // 2) // _ONE
