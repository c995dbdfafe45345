"""Histograms whose bins are chosen once, from the exact range, and then only counted into."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

_MOST_BINS = 48
_WIDE = 1_000.0  # a range over more than three decades is told in decades
_PER_DECADE = 8
_STEPS = (1.0, 2.0, 2.5, 5.0)


@dataclass
class Range:
    """The range of the finite numbers seen, and how many were none."""

    low: float = math.inf
    high: float = -math.inf
    whole: bool = True  # all of them whole numbers
    num_finite: int = 0
    num_other: int = 0  # NaN and infinities: nothing a histogram could show

    def add(self, numbers: npt.NDArray[np.floating]) -> None:
        """Takes in numbers, shape (n,); none change nothing."""
        finite = numbers[np.isfinite(numbers)]
        self.num_other += len(numbers) - len(finite)
        if len(finite) == 0:
            return
        self.num_finite += len(finite)
        self.low = min(self.low, float(finite.min()))
        self.high = max(self.high, float(finite.max()))
        self.whole = self.whole and bool((finite == np.floor(finite)).all())


@dataclass
class Histogram:
    """Counts between edges, shape (k + 1,); by series, so that kept and rejected can be told apart.

    Numbers outside of the edges count into the first or last bin.
    """

    edges: npt.NDArray[np.float64]
    logarithmic: bool = False
    counts: dict[str, npt.NDArray[np.int64]] = field(default_factory=dict)

    def add(self, numbers: npt.NDArray[np.floating], series: str = "") -> None:
        """Counts numbers, shape (n,); those not finite are left out."""
        finite = numbers[np.isfinite(numbers)].astype(np.float64)
        bins = np.clip(np.searchsorted(self.edges, finite, side="right") - 1, 0, self.num_bins - 1)
        more = np.bincount(bins, minlength=self.num_bins).astype(np.int64)
        self.counts[series] = self.counts.get(series, np.zeros(self.num_bins, np.int64)) + more

    @property
    def num_bins(self) -> int:
        """How many bins."""
        return len(self.edges) - 1

    def place(self, number: float) -> float:
        """Where a number is between the first edge (0) and the last (1); clipped."""
        low, high = float(self.edges[0]), float(self.edges[-1])
        if self.logarithmic:
            low, high, number = (math.log10(max(n, 5e-324)) for n in (low, high, number))
        return min(1.0, max(0.0, (number - low) / (high - low)))


def choose_bins(seen: Range, limits: Sequence[float] = ()) -> Histogram | None:
    """An empty histogram that shows the whole range and the limits; None if there was no number.

    Edges lie on round numbers, whole numbers in the middle of theirs, ranges of more than three
    decades in bins of equal ratio.
    """
    if not seen.num_finite:
        return None
    shown = [limit for limit in limits if math.isfinite(limit)]
    low, high = min([seen.low, *shown]), max([seen.high, *shown])
    if low > 0 and high / low > _WIDE:
        first, last = (f(math.log10(n)) for f, n in ((math.floor, low), (math.ceil, high)))
        per_decade = max(1, min(_PER_DECADE, _MOST_BINS // (last - first)))
        edges = np.logspace(first, last, (last - first) * per_decade + 1)
        return Histogram(edges, logarithmic=True)
    step = _round_step((high - low) or abs(high) or 1.0, _most_bins(seen.num_finite))
    shift = 0.0
    if seen.whole:
        step, shift = max(1.0, step), 0.5 if step <= 1 else 0.0
    first, last = math.floor((low + shift) / step), math.floor((high + shift) / step) + 1
    edges = np.arange(first, last + 1, dtype=np.float64) * step - shift
    return Histogram(edges)


def _most_bins(count: int) -> int:
    """Few for few numbers (twice their square root, at least 12), or most bins would be empty."""
    return min(_MOST_BINS, max(12, 2 * math.isqrt(count)))


def _round_step(span: float, most: int) -> float:
    """The smallest round step that cuts the span into at most that many bins."""
    least = span / (most - 2)
    power = 10.0 ** math.floor(math.log10(least))
    return next(power * s for s in (*_STEPS, 10.0) if power * s >= least * (1 - 1e-9))
