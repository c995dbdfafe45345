"""One shard through all its levels: read, annotate and judge level by level, write. Knows no Ray.

`run_shard` is the one flow; a `Crew` says where each stage runs. The stages themselves are the
plain functions below it.
"""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.failures import Failure
from engine.judge import RuleCounts, RuleEntry, add_counts, judge
from engine.merge import merge
from engine.pool import Outcome, Pool
from engine.protocols import Replaces, Specialist
from engine.schema import ANNOTATIONS, CLAIM, FAILURE, IMAGES, canonical
from engine.sink import Expected, Target, write_shard
from engine.worker import BATCH

Failures = list[tuple[str, Failure]]


@dataclass(frozen=True)
class ShardJob:
    """One unit of work: a shard of the plan."""

    shard: int
    plan: pa.Table
    modified: pa.Array | None = None  # ns since 1970, as seen when the plan was made
    retry: bool = False  # take only the images that failed last time, keep what the others have


@dataclass(frozen=True)
class Loaded:
    """What the driver knows of a shard that was read; the bytes stay where they are."""

    images: Any  # the images table, or a handle to it
    batches: list[Any]  # tables in the BATCH schema, or handles
    batch_keys: list[list[str]]  # image keys of each batch
    given: Any = None  # claims that came with the images, maybe with verdicts, or a handle
    num_given: dict[str, int] = field(default_factory=dict)  # of them, by source
    rules: RuleCounts = field(default_factory=dict)  # of the rules on images
    carried: Any = None  # retry: claims kept from the run before, or a handle
    unasked: tuple[Any, ...] = ()  # retry: images that keep their claims, BATCH tables or handles


@dataclass
class Level:
    """What came out of the specialists of one level."""

    # claim tables or handles, by specialist, then by batch
    answers: list[Any] = field(default_factory=list)
    failures: Failures = field(default_factory=list)
    num_rows: dict[str, int] = field(default_factory=dict)
    isolated: bool = False


@dataclass
class Totals:
    """What has to add up when the shard is committed."""

    failures: Failures = field(default_factory=list)
    num_rows: dict[str, int] = field(default_factory=dict)  # as they left each specialist
    rules: RuleCounts = field(default_factory=dict)
    isolated: bool = False  # a batch was run image by image: outside the promise of equal bytes

    def add(self, level: Level, counts: RuleCounts) -> None:
        """Adds one level."""
        self.isolated |= level.isolated
        self.failures.extend(level.failures)
        self.num_rows.update(level.num_rows)
        add_counts(self.rules, counts)


@dataclass(frozen=True)
class JudgePlan:
    """How a run judges: its rules, the sources that replace others, and the run's seed."""

    rules: tuple[RuleEntry, ...]
    replacing: Mapping[str, Replaces] = field(default_factory=dict)  # by source
    seed: int = 0


class Crew(Protocol):
    """Where the stages of a shard run: in this process, or anywhere in a cluster."""

    pools: dict[str, Pool]
    lost: tuple[type[Exception], ...]  # raised when the data of a shard was lost: it is made again

    async def grow(self) -> None:
        """Fits the number of workers to what the first batches cost; ends when they are known."""

    async def read(self, job: ShardJob) -> Loaded:
        """The images of the shard, in batches."""

    async def settle(
        self, loaded: Loaded, state: Any, level: Level, sources: Sequence[str]
    ) -> tuple[Any, list[Any], RuleCounts]:
        """The rows with verdicts so far, the kept rows of each batch, the counts of the rules."""

    async def finish(
        self, job: ShardJob, loaded: Loaded, state: Any, totals: Totals
    ) -> dict[str, Any]:
        """Commits the shard; returns its marker."""


@dataclass(frozen=True)
class ShardDone:
    """A committed shard: its marker, and whether a batch of it had to be run image by image."""

    marker: dict[str, Any]
    isolated: bool


async def run_shard(job: ShardJob, crew: Crew, levels: Sequence[Sequence[str]]) -> ShardDone:
    """Takes a shard from its plan to its marker.

    What the source itself says is judged first, if it was not before. Specialists of one level work
    on the same batches at the same time; the next level starts when the rows of this one are
    judged.

    Returns:
        The committed shard.
    """
    loaded = await crew.read(job)
    rows: list[Any] = [None] * len(loaded.batches)
    state: Any = None
    totals = Totals(rules=dict(loaded.rules))
    if loaded.num_given:
        level = Level(answers=[loaded.given], num_rows=dict(loaded.num_given))
        state, rows, counts = await crew.settle(loaded, None, level, list(loaded.num_given))
        totals.add(level, counts)
    for sources in levels:
        level = await _annotate(crew, loaded, rows, sources)
        state, rows, counts = await crew.settle(loaded, state, level, sources)
        totals.add(level, counts)
    return ShardDone(await crew.finish(job, loaded, state, totals), totals.isolated)


async def _annotate(
    crew: Crew, loaded: Loaded, rows: Sequence[Any], sources: Sequence[str]
) -> Level:
    calls = [
        crew.pools[source].annotate(batch, rows[i], loaded.batch_keys[i])
        for source in sources
        for i, batch in enumerate(loaded.batches)
    ]
    outcomes: list[Outcome] = await asyncio.gather(*calls)
    level = Level(num_rows=dict.fromkeys(sources, 0))
    for i, outcome in enumerate(outcomes):
        source = sources[i // len(loaded.batches)]
        level.answers.extend(outcome.answers)
        level.failures.extend(outcome.failures)
        level.num_rows[source] += outcome.num_rows
        level.isolated |= outcome.isolated
    return level


def level_order(specialists: Sequence[Specialist], given: Iterable[str] = ()) -> list[list[str]]:
    """The names of the specialists by level: each stands above all that produce what it requires.

    Within a level the order of the config is kept.

    Args:
        specialists: In config order.
        given: "kind/role" of the rows that come with the images.

    Raises:
        ConfigError: Nothing produces what one requires, or two wait for each other.
    """
    level: dict[str, int] = {}
    below = {s.name: _producers(s, specialists, tuple(given)) for s in specialists}
    waiting = list(specialists)
    while waiting:
        ready = [s for s in waiting if all(o.name in level for o in below[s.name])]
        if not ready:
            names = ", ".join(repr(s.name) for s in waiting)
            raise ConfigError(f"specialists: {names} wait for each other's rows; none can go first")
        for s in ready:
            level[s.name] = 1 + max((level[o.name] for o in below[s.name]), default=-1)
            waiting.remove(s)
    depth = max(level.values(), default=-1) + 1
    return [[s.name for s in specialists if level[s.name] == i] for i in range(depth)]


def _producers(
    specialist: Specialist, everyone: Sequence[Specialist], given: Sequence[str]
) -> list[Specialist]:
    found = []
    for wanted in specialist.requires:
        others = [s for s in everyone if s is not specialist]
        makers = [s for s in others if any(_covers(made, wanted) for made in s.produces)]
        if not makers and not any(_covers(made, wanted) for made in given):
            raise ConfigError(
                f"specialists: {specialist.name!r} requires {wanted} rows and neither another "
                "specialist nor the source gives them; add one that does"
            )
        found.extend(makers)
    return found


def _covers(produced: str, wanted: str) -> bool:
    if "/" in produced and "/" in wanted:
        return produced == wanted
    return produced.split("/", maxsplit=1)[0] == wanted.split("/", maxsplit=1)[0]


def cut_batches(
    images: pa.Table, data: Sequence[Any], positions: Sequence[int], batch_size: int
) -> list[pa.Table]:
    """The `ok` images of a shard as tables in the BATCH schema.

    Batches are cut by place in the plan: which images share a batch depends on nothing but the
    plan, so answers repeat to the last bit. Empty batches are left out.

    Args:
        images: The images table of the shard, in plan order.
        data: Encoded bytes of each image, None where it is not `ok`.
        positions: Rows of `images` to take; all of them but in a retry.
        batch_size: Places of the plan in one batch.
    """
    wanted = np.zeros(images.num_rows, bool)
    wanted[list(positions)] = True
    wanted &= np.asarray(pc.equal(images["status"], "ok").to_numpy(), bool)
    columns = images.select(["image_key", "width", "height"])
    batches = []
    for start in range(0, images.num_rows, batch_size):
        chosen = start + np.flatnonzero(wanted[start : start + batch_size])
        if len(chosen):
            encoded = _joined([data[i] for i in chosen.tolist()])
            batch = columns.take(pa.array(chosen)).append_column("data", encoded)
            batches.append(batch.cast(BATCH).combine_chunks())
    return batches


def _joined(contents: Sequence[Any]) -> pa.Array:
    """Buffers as one binary column: a single copy, after which they travel without any."""
    sizes = [memoryview(content).nbytes for content in contents]
    offsets = np.concatenate([[0], np.cumsum(sizes)]).astype(np.int64)
    buffers = [None, pa.py_buffer(offsets), pa.py_buffer(b"".join(contents))]
    return pa.Array.from_buffers(pa.large_binary(), len(sizes), buffers)


def settle(
    image_table: pa.Table,
    state: pa.Table | None,
    answers: Sequence[pa.Table],
    batch_keys: Sequence[Sequence[str]],
    plan: JudgePlan,
    carried: pa.Table | None = None,
) -> tuple[pa.Table, list[pa.Table], RuleCounts]:
    """Judges the answers of one level and hands the kept rows back by batch.

    Rows that bear verdicts already keep them: they were judged with rows that are not here.

    Args:
        image_table: The images of the shard.
        state: Rows with verdicts of earlier levels; None at the first.
        answers: Claims of this level, by specialist in config order, then by batch; at the first
            level maybe rows with verdicts.
        batch_keys: Image keys of each batch.
        plan: The rules.
        carried: Claims of this level's sources kept from an earlier run.

    Returns:
        All rows so far with verdicts; for each batch its kept rows; the counts of each rule.
    """
    keys = image_table["image_key"].to_pylist()
    counts: RuleCounts = {}
    if state is None and answers and answers[0].schema.names == ANNOTATIONS.names:
        judged = merge(answers, keys, ANNOTATIONS)
    else:
        fresh = merge([*answers, *([carried] if carried is not None else [])], keys)
        earlier = state if state is not None else ANNOTATIONS.empty_table()
        judged, counts = judge(
            image_table, earlier, fresh, plan.rules, replacing=plan.replacing, seed=plan.seed
        )
    kept = judged.filter(pc.equal(judged["status"].cast(pa.string()), "kept")).select(CLAIM.names)
    return judged, _by_batch(kept, batch_keys), counts


def _by_batch(rows: pa.Table, batch_keys: Sequence[Sequence[str]]) -> list[pa.Table]:
    """The rows on the images of each batch, in their order; others are left out."""
    keys = pa.array([key for group in batch_keys for key in group], pa.string())
    sizes = np.array([len(group) for group in batch_keys], np.int64)
    batch_of_key = np.append(np.repeat(np.arange(len(sizes)), sizes), len(sizes))
    found = pc.fill_null(pc.index_in(rows["image_key"], keys), len(keys))
    batch = batch_of_key[found.to_numpy()]
    ordered = rows.take(pa.array(np.argsort(batch, kind="stable"))).combine_chunks()
    counts = np.bincount(batch, minlength=len(sizes) + 1)
    starts = np.cumsum(counts) - counts
    return [ordered.slice(starts[i], counts[i]) for i in range(len(sizes))]


def finish(
    target: Target,
    shard: int,
    images: pa.Table,
    batches: Sequence[pa.Table],
    state: pa.Table | None,
    totals: Totals,
    expected: Expected,
) -> dict[str, Any]:
    """Commits one shard: every image and row, with the failures of its specialists.

    Args:
        target: Where to.
        shard: Its number.
        images: Its images table, in plan order.
        batches: The encoded bytes of its `ok` images, in the BATCH schema.
        state: All its rows with verdicts; None where no specialist ran.
        totals: Failures and counts gathered on the way.
        expected: What must add up, see `write_shard`.

    Returns:
        The marker.
    """
    rows = state if state is not None else ANNOTATIONS.empty_table()
    keys = images["image_key"].to_pylist()
    return write_shard(
        target,
        shard,
        add_failures(images, totals.failures),
        merge([rows], keys, ANNOTATIONS),
        encoded_by_key(batches) if target.pixels else {},
        expected,
        rules={name: [count.judged, count.rejected] for name, count in totals.rules.items()},
    )


def encoded_by_key(batches: Sequence[pa.Table]) -> dict[str, memoryview]:
    """The bytes of every image in the batches, shared and not copied."""
    data: dict[str, memoryview] = {}
    for batch in batches:
        column = batch["data"].chunk(0)
        for i, key in enumerate(batch["image_key"].to_pylist()):
            data[key] = memoryview(column[i].as_buffer())
    return data


def add_failures(images: pa.Table, failures: Failures) -> pa.Table:
    """The images table with more failures of single images appended; their status stays."""
    if not failures:
        return images
    lists = [list(entry or ()) for entry in images["failures"].to_pylist()]
    position = {key: i for i, key in enumerate(images["image_key"].to_pylist())}
    for key, failure in failures:
        lists[position[key]].append(failure._asdict())
    column = pa.array(lists, pa.list_(FAILURE))
    index = images.schema.get_field_index("failures")
    return canonical(images.set_column(index, IMAGES.field("failures"), column), IMAGES)
