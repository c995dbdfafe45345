"""The stages of a shard as one process runs them, whichever process that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.config import Config, LimitsConfig, MixedConfig, PartConfig
from engine.errors import ConfigError
from engine.given import given_rows
from engine.judge import RuleCounts
from engine.judge_images import judge_images
from engine.retry import read_again
from engine.shard import (
    JudgePlan,
    ShardJob,
    Totals,
    add_failures,
    cut_batches,
    finish,
    settle,
)
from engine.sink import Expected, Target
from engine.source import open_source, takes
from engine.source.mixture import Mixture, Part
from engine.source.shapes import Source
from engine.source.shard import read_shard


@dataclass(frozen=True)
class StageSpec:
    """What every process needs to run a stage; small, and the same for the whole run."""

    source: Source
    target: Target
    limits: LimitsConfig
    batch_size: int
    judge_plan: JudgePlan


def source_of(config: Config) -> Source:
    """The source of a config, opened; reads nothing yet.

    Raises:
        ConfigError: The kind is unknown, or does not take one of the options given.
    """
    if config.source.sources:
        return Mixture([_part(part, config.seed) for part in config.source.sources])
    return _open(config.source, config.seed)


def _part(part: MixedConfig, seed: int) -> Part:
    try:
        return Part(part.name, _open(part, seed), part.weight)
    except ConfigError as err:
        raise ConfigError(f"source {part.name!r}: {err}") from err


def _open(part: PartConfig, seed: int) -> Source:
    left_out = {"kind", "shard_size", "sources", "weight"}
    options = part.model_dump(exclude=left_out, exclude_defaults=True)
    if isinstance(part, MixedConfig) and not takes(part.kind, part.uri, "name"):
        del options["name"]  # of a source that gives no rows it only starts the uris
    if part.uri == "synthetic":
        options["seed"] = seed
    return open_source(part.kind, **options)


class Stages:
    """Reads, judges and writes shards; made anew for each stage, since it holds nothing open."""

    def __init__(self, spec: StageSpec) -> None:
        self._spec = spec

    def read(self, job: ShardJob) -> "ReadShard":
        """The images of a shard and their bytes in batches; see `cut_batches`."""
        carried, unasked = None, []
        if job.retry:
            loaded, positions, carried = read_again(
                self._spec.source, job.plan, self._spec.target, job.shard, self._spec.limits
            )
        else:
            loaded = read_shard(self._spec.source, job.plan, job.modified, self._spec.limits)
            positions = range(loaded.images.num_rows)
        given, refused = given_rows(loaded.given)
        images, data = add_failures(loaded.images, refused), loaded.data
        plan = self._spec.judge_plan
        images, rules = judge_images(images, plan.rules, seed=plan.seed)
        if job.retry:
            asked, rest = set(positions), range(images.num_rows)
            settled = [i for i in rest if i not in asked] if self._spec.target.pixels else []
            unasked = cut_batches(images, data, settled, self._spec.batch_size)
        batches = cut_batches(images, data, positions, self._spec.batch_size)
        keys = [batch["image_key"].to_pylist() for batch in batches]
        counts = self._count_given(given, carried)
        return ReadShard(images, batches, keys, given, counts, rules, carried, unasked)

    def _count_given(self, given: pa.Table, carried: pa.Table | None) -> dict[str, int]:
        """Rows by source of those just given; a source of which rows are carried counts from 0."""
        found = _count_sources(given)
        there = _count_sources(carried) if carried is not None else {}
        names = [name for name in self._spec.source.produces if name in found or name in there]
        return {name: found.get(name, 0) for name in names}

    def settle(
        self,
        images: pa.Table,
        state: pa.Table | None,
        answers: Sequence[pa.Table],
        batch_keys: Sequence[Sequence[str]],
        carried: pa.Table | None,
        sources: Sequence[str],
    ) -> tuple[pa.Table, list[pa.Table], Any]:
        """Judges one level; see `engine.shard.settle`."""
        mine = _of_sources(carried, sources) if carried is not None else None
        return settle(images, state, answers, batch_keys, self._spec.judge_plan, mine)

    def finish(
        self,
        job: ShardJob,
        images: pa.Table,
        batches: Sequence[pa.Table],
        state: pa.Table | None,
        totals: Totals,
        carried: pa.Table | None,
    ) -> dict[str, Any]:
        """Commits the shard; see `engine.shard.finish`."""
        num_rows = dict(totals.num_rows)
        for source, count in (_count_sources(carried) if carried is not None else {}).items():
            num_rows[source] = num_rows.get(source, 0) + count
        expected = Expected(job.plan.num_rows, num_rows)
        return finish(self._spec.target, job.shard, images, batches, state, totals, expected)


@dataclass(frozen=True)
class ReadShard:
    """A shard in memory."""

    images: pa.Table
    batches: list[pa.Table]
    batch_keys: list[list[str]]
    given: pa.Table  # claims that came with the images
    num_given: dict[str, int]  # by source
    rules: RuleCounts  # of the rules on images
    carried: pa.Table | None
    unasked: list[pa.Table]


def _count_sources(rows: pa.Table) -> dict[str, int]:
    counts = pc.value_counts(rows["source"].cast(pa.string())).to_pylist()
    return {entry["values"]: entry["counts"] for entry in counts}


def _of_sources(rows: pa.Table, sources: Sequence[str]) -> pa.Table:
    wanted = pc.is_in(rows["source"].cast(pa.string()), pa.array(list(sources), pa.string()))
    return rows.filter(wanted)
