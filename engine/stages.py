"""The stages of a shard as one process runs them, whichever process that is."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from engine.config import Config, LimitsConfig, MixedConfig, PartConfig
from engine.errors import ConfigError
from engine.failures import Failure
from engine.given import given_rows
from engine.judge import RuleCounts
from engine.judge_images import judge_images
from engine.output import local_path
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
from engine.sink import Expected, Target, count_by
from engine.source import open_source, takes
from engine.source.filesystem import open_location
from engine.source.mixture import Mixture, Part
from engine.source.shapes import Source, is_ledger
from engine.source.shard import Given, read_shard


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
        ConfigError: The kind is unknown, or does not take one of the options given; or a dataset is
            to be one of several sources, or its own output.
    """
    if config.source.sources:
        return Mixture([_part(part, config.seed) for part in config.source.sources])
    source = _open(config.source, config.seed)
    if is_ledger(source) and _is_output(config):
        raise ConfigError(
            f"output.uri {config.output.uri}: is the dataset that is read; name another folder"
        )
    return source


def _part(part: MixedConfig, seed: int) -> Part:
    try:
        source = _open(part, seed)
    except ConfigError as err:
        raise ConfigError(f"source {part.name!r}: {err}") from err
    if is_ledger(source):
        raise ConfigError(
            f"source {part.name!r}: a dataset keeps its own keys and shards, so that it cannot be "
            "one of several sources; annotate it by itself"
        )
    return Part(part.name, source, part.weight)


def _is_output(config: Config) -> bool:
    """Whether source and output are one place: --overwrite would empty it before it is read."""
    places = [
        open_location(
            place.uri, endpoint=place.endpoint, region=place.region, anonymous=place.anonymous
        )
        for place in (config.source, config.output)
    ]
    here, there = (local_path(place, "") for place in places)
    if here is not None and there is not None:
        return here.resolve() == there.resolve()
    return len({place.uri.partition("://")[2].rstrip("/") for place in places}) == 1


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
        given, refused = self._given(job, loaded.given)
        if carried is not None and is_ledger(self._spec.source):  # its rows all come again
            again = pc.is_in(carried["annotation_id"], given["annotation_id"].combine_chunks())
            carried = carried.filter(pc.invert(again))
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

    def _given(
        self, job: ShardJob, given: Sequence[Given]
    ) -> tuple[pa.Table, list[tuple[str, Failure]]]:
        """What the source says of the images of a shard, and of which it cannot be taken."""
        source = self._spec.source
        return (source.claims(job.plan), []) if is_ledger(source) else given_rows(given)

    def _count_given(self, given: pa.Table, carried: pa.Table | None) -> dict[str, int]:
        """Rows by source of those just given; a source of which rows are carried counts from 0."""
        found = count_by(given["source"])
        if carried is None or is_ledger(self._spec.source):
            return found
        there = count_by(carried["source"])
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
        for source, count in (count_by(carried["source"]) if carried is not None else {}).items():
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


def _of_sources(rows: pa.Table, sources: Sequence[str]) -> pa.Table:
    wanted = pc.is_in(rows["source"].cast(pa.string()), pa.array(list(sources), pa.string()))
    return rows.filter(wanted)
