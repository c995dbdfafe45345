"""The second look at a label version: what can only be taken once the first has told the ranges."""

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.report.bins import Histogram, choose_bins
from engine.report.counts import (
    MEASURES,
    Counts,
    Ruled,
    finite_of,
    image_measures,
    read_batches,
    rows_of,
)
from engine.report.tally import count_groups
from engine.sink import ShardFiles
from engine.source.shapes import Location

_PER_STRATUM = 12  # candidates kept of every rule and source: photos are then taken in turn
_MEASURED = ("image_key", "rule", "status", "source", "measured")
_LIMITS_SHOWN = 3


@dataclass(frozen=True, order=True)
class Stratum:
    """Images of one sort: those where a rule rejected a row, or a source had one kept.

    `what` is `rule`, `image rule`, `source` or `any`; photos are taken in that order.
    """

    what: str
    name: str


@dataclass
class Sample:
    """A random choice of images of every stratum: those with the smallest random numbers."""

    seed: int = 0
    found: dict[Stratum, list[tuple[float, int, str]]] = field(default_factory=dict)

    def add(
        self, stratum: Stratum, shard: int, keys: pa.Array, draws: npt.NDArray[np.float64]
    ) -> None:
        """Offers images, none of them twice, with the random number of each, shape (n,)."""
        best = np.argsort(draws, kind="stable")[:_PER_STRATUM]
        chosen = keys.take(pa.array(best)).to_pylist()
        offered = zip((-draws[best]).tolist(), [shard] * len(best), chosen, strict=True)
        held = self.found.setdefault(stratum, [])
        known = {entry[1:] for entry in held}
        for entry in offered:
            if entry[1:] in known:
                continue
            if len(held) < _PER_STRATUM:
                heapq.heappush(held, entry)
            else:
                heapq.heappushpop(held, entry)

    def take(self, count: int) -> list[tuple[int, str, Stratum]]:
        """Shard, key and the stratum it was taken for: one of each stratum in turn, none twice."""
        order = {"rule": 0, "image rule": 1, "source": 2, "any": 3}
        strata = sorted(self.found, key=lambda s: (order[s.what], s.name))
        queues = {stratum: sorted(self.found[stratum], reverse=True) for stratum in strata}
        taken: dict[tuple[int, str], Stratum] = {}
        while len(taken) < count and any(queues.values()):
            for stratum in strata:
                entry = next((e for e in _popping(queues[stratum]) if e[1:] not in taken), None)
                if entry is not None and len(taken) < count:
                    taken[entry[1], entry[2]] = stratum
        return [(shard, key, stratum) for (shard, key), stratum in taken.items()]


def _popping(queue: list[tuple[float, int, str]]) -> Iterator[tuple[float, int, str]]:
    while queue:
        yield queue.pop(0)


@dataclass
class Second:
    """Histograms of what rules measured (of rows, of images) and of the images, and a sample."""

    rules: dict[str, Histogram] = field(default_factory=dict)
    image_rules: dict[str, Histogram] = field(default_factory=dict)
    images: dict[str, Histogram] = field(default_factory=dict)
    sample: Sample = field(default_factory=Sample)


def look_again(output: Location, version: str, counts: Counts, *, seed: int = 0) -> Second:
    """Fills histograms over the ranges counted, and draws photos; deterministic by seed."""
    second = Second(
        _bins_of(counts.rules),
        _bins_of(counts.image_rules),
        {n: bins for n in MEASURES if (bins := choose_bins(counts.measures[n])) is not None},
        Sample(seed),
    )
    names = ("image_key", "width", "height", "size_bytes", "sharpness", "contrast")
    for shard in counts.shards:
        files, draws = ShardFiles(shard), np.random.default_rng([seed, shard])
        for table in read_batches(
            output, f"{version}/{files.images}", (*names, "status", "rule", "measured")
        ):
            _measure_images(second, shard, table, draws)
        for table in read_batches(output, f"{version}/{files.annotations}", _MEASURED):
            _measure_rows(second, shard, table, draws)
    return second


def _bins_of(rules: dict[str, Ruled]) -> dict[str, Histogram]:
    found = {name: choose_bins(rule.measured, shown_limits(rule)) for name, rule in rules.items()}
    return {name: bins for name, bins in found.items() if bins is not None}


def shown_limits(rule: Ruled) -> list[float]:
    """The limits that most rows were rejected by, as the float32 they were compared in."""
    limits = [entry["limit"] for entry in rule.limits.top(_LIMITS_SHOWN)]
    return [limit for limit in limits if np.isfinite(limit)]


def _measure_images(
    second: Second, shard: int, table: pa.Table, draws: np.random.Generator
) -> None:
    for name, numbers in image_measures(table).items():
        if name in second.images:
            second.images[name].add(numbers)
    ordinary = table.filter(pc.equal(table["status"], "ok"))
    _offer(second.sample, Stratum("any", ""), shard, ordinary, draws)
    for (rule,), _ in count_groups(table, ("rule",)):
        if rule is None:
            continue
        own = rows_of(table, rule)
        if rule in second.image_rules:
            second.image_rules[rule].add(finite_of(own["measured"]))
        _offer(second.sample, Stratum("image rule", rule), shard, own, draws)


def _measure_rows(second: Second, shard: int, table: pa.Table, draws: np.random.Generator) -> None:
    status = table["status"].cast(pa.string())
    rejected = table.filter(pc.equal(status, "rejected"))
    for (rule,), _ in count_groups(rejected, ("rule",)):
        if rule is None:
            continue
        own = rows_of(rejected, rule)
        if rule in second.rules:
            second.rules[rule].add(finite_of(own["measured"]))
        _offer(second.sample, Stratum("rule", rule), shard, own, draws)
    kept = table.filter(pc.equal(status, "kept"))
    for (source,), _ in count_groups(kept, ("source",)):
        own = kept.filter(pc.equal(kept["source"].cast(pa.string()), source))
        _offer(second.sample, Stratum("source", str(source)), shard, own, draws)


def _offer(
    sample: Sample, stratum: Stratum, shard: int, table: pa.Table, draws: np.random.Generator
) -> None:
    keys = pc.unique(table["image_key"])
    sample.add(stratum, shard, keys, draws.random(len(keys)))
