"""One shard of a finished label version judged again and committed as a shard of another."""

from collections import Counter, deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.judge import RuleCounts, RuleEntry
from engine.protocols import GlobalRule
from engine.reading import read_parquet, read_pixels
from engine.rejudge import Replay, rejudge
from engine.schema import Tables
from engine.sink import Expected, ShardFiles, Target, write_shard


@dataclass(frozen=True)
class RefilterSpec:
    """What every process needs to judge shards again; small, and the same for all.

    Attributes:
        target: Where the new version goes, in the same place as the old one.
        parent: The version whose tables are read.
        replay: How to judge.
        decisions: What rules over the whole dataset came to, by name.
        commit: Whether to write anything.
    """

    target: Target
    parent: str
    replay: Replay
    decisions: Mapping[str, pa.Table] = field(default_factory=dict)
    commit: bool = True


@dataclass(frozen=True)
class Refiltered:
    """One shard judged again: its counts, as in a marker, and rows by class and status."""

    marker: dict[str, Any]
    classes: dict[tuple[str, str, str], int]  # source, class and status; of categories only


def global_rules(rules: Sequence[RuleEntry]) -> list[RuleEntry]:
    """The rules that must have seen the whole dataset."""
    return [entry for entry in rules if hasattr(entry.rule, "measure")]


def read_shard_tables(spec: RefilterSpec, shard: int) -> Tables:
    """Images and rows of a shard of the parent."""
    output, files = spec.target.output, ShardFiles(shard)
    return Tables(
        read_parquet(output, f"{spec.parent}/{files.images}"),
        read_parquet(output, f"{spec.parent}/{files.annotations}"),
    )


def measure_shard(spec: RefilterSpec, shard: int) -> dict[str, pa.Table]:
    """What each rule over the whole dataset measures of a shard, by its name."""
    stored, wanted = read_shard_tables(spec, shard), spec.replay.only
    # judged by the other rules first: what they turn down must not count, and what the rule itself
    # had turned down must, or the same filter again would decide otherwise
    local = [entry for entry in spec.replay.rules if not hasattr(entry.rule, "measure")]
    replay = replace(spec.replay, rules=local)
    images, rows, _ = rejudge(stored.images, stored.annotations, replay, {})
    tables = Tables(images, rows)
    return {
        entry.rule.name: entry.rule.measure(tables)  # type: ignore[attr-defined]  # it has it
        for entry in global_rules(spec.replay.rules)
        if wanted is None or entry.rule.name in wanted
    }


def reduce_measures(
    rules: Sequence[RuleEntry], measured: Mapping[str, Sequence[pa.Table]]
) -> dict[str, pa.Table]:
    """The decisions of each rule, from the measures of all shards in order."""
    found: dict[str, pa.Table] = {}
    for entry in global_rules(rules):
        if entry.rule.name in measured:
            rule: GlobalRule = entry.rule  # type: ignore[assignment]  # it has `measure`
            pieces = pa.concat_tables(measured[entry.rule.name]).unify_dictionaries()
            found[entry.rule.name] = rule.reduce(pieces.combine_chunks())
    return found


@dataclass(frozen=True)
class Judged:
    """A shard with new verdicts that is not committed yet."""

    shard: int
    before: Tables
    images: pa.Table
    rows: pa.Table
    counts: RuleCounts


def refilter_shard(spec: RefilterSpec, shard: int) -> Refiltered:
    """Judges a shard again and commits it to the new version."""
    return _commit(spec, _judge(spec, shard, read_shard_tables(spec, shard)))


def refilter_here(spec: RefilterSpec, shards: Sequence[int]) -> Generator[Refiltered]:
    """All of the shards in this process, in order.

    One is read ahead and the last one is still being written while one is judged: both wait for a
    disk or a net, and compress without holding Python up.
    """
    with ThreadPoolExecutor(1) as reader, ThreadPoolExecutor(1) as writer:
        coming = deque(shards)
        ahead = reader.submit(read_shard_tables, spec, coming[0]) if coming else None
        written: Future[Refiltered] | None = None
        while ahead is not None:
            shard, tables = coming.popleft(), ahead.result()
            ahead = reader.submit(read_shard_tables, spec, coming[0]) if coming else None
            judged = _judge(spec, shard, tables)
            if written is not None:
                yield written.result()
            written = writer.submit(_commit, spec, judged)
        if written is not None:
            yield written.result()


def _judge(spec: RefilterSpec, shard: int, tables: Tables) -> Judged:
    images, rows, counts = rejudge(tables.images, tables.annotations, spec.replay, spec.decisions)
    return Judged(shard, tables, images, rows, counts)


def _commit(spec: RefilterSpec, judged: Judged) -> Refiltered:
    shard, images, rows = judged.shard, judged.images, judged.rows
    classes = count_classes(rows)
    if not spec.commit:
        return Refiltered(marker_of(shard, images, rows, judged.counts), classes)
    data: dict[str, Any] = {}
    if spec.target.pixels:
        keys = images["image_key"].filter(pc.equal(images["status"], "ok")).to_pylist()
        data = read_pixels(spec.target.output, spec.parent, shard, keys)
    marker = write_shard(
        spec.target,
        shard,
        images,
        rows,
        data,
        Expected(judged.before.images.num_rows, _count(judged.before.annotations, ("source",))),
        rules=pairs(judged.counts),
    )
    return Refiltered(marker, classes)


def count_classes(rows: pa.Table) -> dict[tuple[str, str, str], int]:
    """Rows of role `category` by source, class and status."""
    named = rows.select(["source", "text", "status", "role"])
    categories = named.filter(pc.equal(named["role"].cast(pa.string()), "category"))
    counted = _grouped(categories, ("source", "text", "status"))
    return {(str(a), str(b), str(c)): count for (a, b, c), count in counted}


def marker_of(shard: int, images: pa.Table, rows: pa.Table, counts: RuleCounts) -> dict[str, Any]:
    """The counts of a shard as its marker would hold them, of one that is not written."""
    names = ("source", "kind", "role", "status")
    found = {"/".join(map(str, key)): count for key, count in _grouped(rows, names)}
    statuses = pc.value_counts(images["status"])
    failures = Counter(
        f"{failure['source'] or failure['stage']}/{failure['cause']}"
        for told in images["failures"].drop_null().to_pylist()
        for failure in told
    )
    return {
        "shard": shard,
        "images": {each["values"].as_py(): each["counts"].as_py() for each in statuses},
        "failures": dict(failures),
        "annotations": dict(sorted(found.items())),
        "rules": pairs(counts),
    }


def pairs(counts: RuleCounts) -> dict[str, list[int]]:
    """Counts as a marker holds them: judged and rejected of each rule."""
    return {name: [count.judged, count.rejected] for name, count in counts.items()}


def _count(rows: pa.Table, names: tuple[str]) -> dict[str, int]:
    return {str(key): count for (key,), count in _grouped(rows, names)}


def _grouped(rows: pa.Table, names: Sequence[str]) -> Iterator[tuple[tuple[Any, ...], int]]:
    plain = pa.table({name: rows[name].cast(pa.string()) for name in names})
    counted = plain.group_by(list(names)).aggregate([([], "count_all")])
    columns = [counted[name].to_pylist() for name in names]
    yield from zip(zip(*columns, strict=True), counted["count_all"].to_pylist(), strict=True)
