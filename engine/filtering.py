"""`fld filter` on a dataset: a new label version beside the old one, judged by other rules."""

import contextlib
import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace

import pyarrow as pa

from engine import dataset
from engine.config import RunnerConfig
from engine.crew import Tasks, open_tasks, scratch_folder
from engine.errors import ConfigError
from engine.judge import RuleEntry, check_needs, raise_alarm
from engine.lease import RENEW_S, Lease
from engine.output import disk_error, remove_leftovers
from engine.refilter import (
    Refiltered,
    RefilterSpec,
    global_rules,
    measure_shard,
    reduce_measures,
    refilter_here,
    refilter_shard,
)
from engine.rejudge import Replay
from engine.sink import Target
from engine.source.shapes import Location
from engine.versions import (
    Version,
    find_version,
    next_name,
    put_version,
    read_versions,
)

# Told of the shards done and of how many there are.
Progress = Callable[[str, int, int], None]


@dataclass(frozen=True, kw_only=True)
class Filtering:
    """What to filter, and how.

    Attributes:
        output: The dataset's place.
        rules: In order, built.
        options: The same rules as plain data, for dataset.json.
        only: Judge these rules alone again; null for all.
        seed: For rules that draw.
        pixels: Whether the new tars hold the pictures again.
        views: Whether the new tars hold the nested view of each image.
        runner: Where shards are judged.
    """

    output: Location
    rules: Sequence[RuleEntry]
    options: Sequence[dict[str, object]]
    only: Sequence[str] | None = None
    seed: int = 0
    pixels: bool = False
    views: bool = True
    runner: RunnerConfig = field(default_factory=RunnerConfig)


@dataclass(frozen=True)
class Filtered:
    """What came out: counts of the version before and of the new one, and rows by class."""

    name: str
    parent: str
    before: dataset.Totals
    after: dataset.Totals
    classes: Counter[tuple[str, str, str]]  # source, class, status: of the shards of this run


def filter_dataset(
    job: Filtering, progress: Progress = lambda *_: None, *, dry_run: bool = False
) -> Filtered:
    """Judges every row of the current version again; the same call finishes what was cut off.

    Raises:
        ConfigError: There is no dataset, its current version is not complete, or `only` names a
            rule that is not there.
        StoppedError: An alarm, a full disk, or a signal; the same command resumes.
    """
    _check_only(job)
    check_needs(job.rules)
    parent, old, shards = _parent(job)
    version = _version(job, parent, old)
    with open_tasks(job.runner) as tasks:
        if dry_run:
            spec = _spec(job, parent, "dry-run", version, commit=False)
            return _run(job, spec, shards, tasks, progress)
        with Lease.take(job.output) as lease:
            remove_leftovers(job.output)
            name = _start(job.output, parent, version)
            spec = _spec(job, parent, name, version, commit=True)
            try:
                return _run(job, spec, shards, tasks, _renewing(progress, lease), version)
            except OSError as err:
                raise disk_error(err, job.output) from err


def _check_only(job: Filtering) -> None:
    names = [entry.rule.name for entry in job.rules]
    for name in job.only or ():
        if name not in names:
            raise ConfigError(
                f"--only {name!r}: the config has no such rule; it has {', '.join(names)}"
            )


def _parent(job: Filtering) -> tuple[str, Version, list[int]]:
    """The version to judge again, and its shards: the current one.

    Where the dataset was extended since, and all its verdicts are judged anew, the nearest version
    above it that has all shards serves as well.
    """
    versions, _ = read_versions(job.output)
    current, _ = find_version(job.output, None)
    planned = int(dataset.read_dataset(job.output)["shards"])
    name: str | None = current
    missing = []
    while name is not None:
        done = sorted(dataset.Markers(job.output, name).load())
        if len(done) >= planned:
            return name, versions[name], done
        missing.append(f"{name} has {len(done):,} of {planned:,} shards")
        name = versions[name].parent if job.only is None else None
    raise ConfigError(
        f"{job.output.uri}: {', '.join(missing)}; finish it with the command that makes it, "
        "then filter"
    )


def _version(job: Filtering, parent: str, old: Version) -> Version:
    return Version(
        parent=parent,
        made_by="filter",
        levels=old.levels,
        replacing=old.replacing,
        rules=list(job.options),
        only=list(job.only) if job.only is not None else None,
        seed=job.seed,
        pixels=job.pixels,
        views=job.views,
        finished=False,
    )


def _start(output: Location, parent: str, version: Version) -> str:
    """The name of the version: that of one cut off at the same work, or a new one."""
    versions, _ = read_versions(output)
    for name, known in versions.items():
        if not known.finished and known.is_same_work(version):
            return name
    name = next_name(versions, parent)
    put_version(output, name, version)
    return name


def _spec(
    job: Filtering, parent: str, name: str, version: Version, *, commit: bool
) -> RefilterSpec:
    scratch = scratch_folder(job.output)
    return RefilterSpec(
        Target(job.output, name, scratch, pixels=job.pixels, views=job.views),
        parent,
        Replay(
            levels=version.levels,
            replacing=version.replacing,
            rules=tuple(job.rules),
            only=job.only,
            seed=job.seed,
        ),
        commit=commit,
    )


def _run(
    job: Filtering,
    spec: RefilterSpec,
    shards: Sequence[int],
    tasks: Tasks,
    progress: Progress,
    version: Version | None = None,
) -> Filtered:
    name = spec.target.version
    decisions = _decide(job, spec, shards, tasks, progress)
    spec = replace(spec, decisions=decisions)
    markers = dataset.Markers(job.output, name)
    done = markers.load() if spec.commit else set()
    after, classes = dataset.Totals(), Counter[tuple[str, str, str]]()
    for marker in markers.each():
        after.add(marker)
    raise_alarm(after.rules, job.rules)  # which stopped it before, and nobody has lifted it
    todo = [shard for shard in shards if shard not in done]
    if job.runner.kind == "serial":
        results = refilter_here(spec, todo)
    else:
        results = (result for _, result in tasks(refilter_shard, spec, todo))
    with contextlib.closing(results):  # an alarm waits for the shard that is being written
        for shard_done in _each(results, len(done), len(shards), progress):
            after.add(shard_done.marker)
            classes.update(shard_done.classes)
            if spec.commit:
                markers.add(shard_done.marker)
            raise_alarm(after.rules, job.rules)
    if version is not None:
        markers.save()
        digests = {rule: _digest(table) for rule, table in decisions.items()}
        finished = replace(version, finished=True, decisions=digests)
        put_version(job.output, name, finished, current=True)
    return Filtered(name, spec.parent, dataset.totals_of(job.output, spec.parent), after, classes)


def _each(
    results: Iterator[Refiltered], done: int, total: int, progress: Progress
) -> Iterator[Refiltered]:
    progress("judged", done, total)
    for number, result in enumerate(results, start=done + 1):
        yield result
        progress("judged", number, total)


def _decide(
    job: Filtering, spec: RefilterSpec, shards: Sequence[int], tasks: Tasks, progress: Progress
) -> dict[str, pa.Table]:
    """What the rules over the whole dataset come to; nothing is measured where there are none."""
    if not global_rules(job.rules):
        return {}
    measured: dict[str, dict[int, pa.Table]] = {}
    for number, (shard, tables) in enumerate(tasks(measure_shard, spec, shards), start=1):
        for rule, table in tables.items():
            measured.setdefault(rule, {})[shard] = table
        progress("measured", number, len(shards))
    in_order = {
        rule: [tables[shard] for shard in sorted(tables)] for rule, tables in measured.items()
    }
    return reduce_measures(job.rules, in_order)


def _digest(table: pa.Table) -> str:
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table.combine_chunks())
    return hashlib.sha256(sink.getvalue()).hexdigest()


def _renewing(progress: Progress, lease: Lease) -> Progress:
    """Renews the lease as shards are done; one takes seconds, the lease lasts a minute."""
    last = time.monotonic()

    def told(what: str, done: int, total: int) -> None:
        nonlocal last
        if time.monotonic() - last > RENEW_S:
            lease.renew()
            last = time.monotonic()
        progress(what, done, total)

    return told
