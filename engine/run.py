"""A run from its config to its end: prepares, plans, takes the output, drives, resumes."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import dataset
from engine.config import Config
from engine.drive import Drive
from engine.errors import ConfigError, SpecialistError
from engine.job import VERSION, Job, Observer
from engine.judge import check_needs, raise_alarm
from engine.lease import Lease
from engine.output import empty, everything_in, final_name, remove_leftovers
from engine.protocols import Replaces
from engine.retry import as_they_are
from engine.shard import ShardJob, level_order
from engine.sink import DONE
from engine.source.filesystem import open_location
from engine.source.plan import Plan, make_plan
from engine.source.shapes import Location, is_ledger
from engine.stages import source_of
from engine.status import Run
from engine.worker import SpecialistSpec

_log = logging.getLogger(__name__)

# What a run that died before dataset.json was written may have left.
_OURS = ("_run", dataset.PLAN, dataset.CONFIG, dataset.DATASET)


def annotate(
    job: Job,
    observer: Observer,
    *,
    limit: int | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
    extend: bool = False,
) -> Run:
    """Annotates a source into an output, or finishes what an earlier run began.

    Args:
        job: What to do.
        observer: Told of everything as it happens.
        limit: Plan this many images at most; part of the run's identity.
        overwrite: Start again, deleting the dataset that is there.
        retry_failed: Take only the images that failed in shards already committed.
        extend: List the source again and append the images that are new as new shards.

    Raises:
        ConfigError: Something is missing or wrong; nothing was started.
        SpecialistError: A model is missing or cannot be loaded.
        StoppedError: The run ended early; the same call resumes it.
    """
    levels = levels_of(job)
    _refuse_global_rules(job)
    if job.config.output.kind not in ("auto", "dataset"):
        raise ConfigError(
            f"output.kind is {job.config.output.kind!r}; a run writes a dataset, and `fld export` "
            "writes it in other formats"
        )
    output = open_output(job.config)
    specs = prepare(job)
    identity = {
        **job.config.identity(),
        "revisions": {spec.name: spec.revision for spec in specs},
        "limit": limit,
    }
    fresh, ignored = None, {}
    is_new = overwrite or not output.exists(dataset.DATASET)
    if is_new:
        refuse_foreign(output)
        fresh = list_source(job.config, limit)
    else:
        stored = dataset.read_dataset(output)
        dataset.check_same_run(output, stored, identity, extend=extend)
    with Lease.take(output) as lease:
        remove_leftovers(output)
        if extend and not is_new:
            ignored = _extend(output, job, identity, limit)
        if fresh is not None:
            if not overwrite and output.exists(dataset.DATASET):
                raise ConfigError(f"{output.uri}: another run has just made a dataset there")
            _start_dataset(output, job, identity, fresh)
            ignored, fresh = fresh.ignored, None  # the plan is read back: one copy is enough
        if retry_failed or extend:
            _tell_of_later_versions(output)
        plan, modified = dataset.read_plan(output)
        run = Run(plan, dataset.count_shards(plan), levels)
        run.ignored = ignored
        markers = dataset.Markers(output, VERSION)
        todo, again = _todo(run, markers, retry_failed=retry_failed)
        observer.planned(run)
        raise_alarm(
            run.totals.rules, job.rules
        )  # which stopped it before, and nobody has lifted it
        if todo or again:
            jobs = _jobs(plan, modified, todo, again, retry=retry_failed)
            Drive(job, run, specs, output, markers, lease, observer).run(jobs)
        markers.save()
        return run


def _tell_of_later_versions(output: Location) -> None:
    """Versions that were made of this one know nothing of what changes in it now."""
    others = [name for name in dataset.read_dataset(output)["versions"] if name != VERSION]
    if others:
        _log.warning(
            "%s: made from %s as it was; `fld filter` again to judge what is new",
            ", ".join(others),
            VERSION,
        )


def _refuse_global_rules(job: Job) -> None:
    for entry in job.rules:
        if hasattr(entry.rule, "measure"):
            raise ConfigError(
                f"rules: {entry.rule.name!r} must have seen the whole dataset; leave it out here, "
                "and `fld filter` the finished dataset with it"
            )


def levels_of(job: Job) -> list[list[str]]:
    """The names of the specialists by level; what the source itself says is there for all of them.

    Raises:
        ConfigError: A specialist bears the name of a source, or requires what nothing gives.
    """
    produces = source_of(job.config).produces
    for specialist in job.specialists:
        if specialist.name in produces:
            raise ConfigError(
                f"specialists: {specialist.name!r} is also the name of the source, and rows could "
                "not be told apart; give one of them another `name`"
            )
    return level_order(job.specialists, [pair for pairs in produces.values() for pair in pairs])


def prepare(job: Job) -> list[SpecialistSpec]:
    """Makes sure everything the specialists need is there; returns them ready to travel.

    Raises:
        SpecialistError: What is missing, and the command that mends it.
        ConfigError: The same of a rule.
    """
    check_needs(job.rules)
    runner, memory_mb = job.config.runner, job.config.limits.worker_memory_mb
    specs = []
    for specialist in job.specialists:
        missing = [n for n in specialist.needs() if not n.present and not n.downloads]
        if missing:
            lines = "; ".join(f"{need.what} is missing: {need.mend}" for need in missing)
            raise SpecialistError(f"specialist {specialist.name!r}: {lines}")
        specs.append(
            SpecialistSpec(
                specialist,
                specialist.prepare(),
                runner.threads.get(specialist.name, specialist.resources.cpus),
                memory_mb * 2**20 if memory_mb else None,
            )
        )
    return specs


def list_source(config: Config, limit: int | None) -> "Listed":
    """Lists the source and cuts it into shards.

    Raises:
        ConfigError: The source cannot be reached, or holds no image.
    """
    listing = source_of(config).listing(limit)
    plan, modified = make_plan(listing, config.source.shard_size, limit)
    return Listed(plan, modified, listing.ignored)


@dataclass(frozen=True)
class Listed:
    """A source as found: the plan, modification times, and files that are no images, by reason."""

    plan: pa.Table
    modified: pa.Array
    ignored: dict[str, int]


def open_output(config: Config) -> Location:
    """The place of the output."""
    place = config.output
    return open_location(
        place.uri, endpoint=place.endpoint, region=place.region, anonymous=place.anonymous
    )


def refuse_foreign(output: Location) -> None:
    """Neither a first run nor --overwrite may touch a folder that holds something else.

    Raises:
        ConfigError: It does.
    """
    if output.exists(dataset.DATASET):
        return
    for path in everything_in(output):
        if final_name(path.split("/")[0]) not in _OURS:
            raise ConfigError(
                f"output.uri {output.uri}: holds {path!r} and no dataset.json; choose an empty or "
                "new folder"
            )


def _start_dataset(output: Location, job: Job, identity: dict[str, Any], listed: Listed) -> None:
    empty(output, keep="_run", markers=DONE, proof=dataset.DATASET)
    dataset.forget_rolled_up(output)
    dataset.create_dataset(
        output, job.config, identity, listed.plan, listed.modified, order_of(job)
    )


def order_of(job: Job) -> dict[str, Any]:
    """In which order the rows of a run came and which replace others: see `Version`."""
    source = source_of(job.config)
    given, before = list(source.produces), dict[str, Replaces]()
    levels = [given] if given else []
    if is_ledger(source):
        levels, before = source.order["levels"], source.order["replacing"]
    replacing = {s.name: s.replaces for s in job.specialists if s.replaces != "never"}
    return {"levels": [*levels, *levels_of(job)], "replacing": {**before, **replacing}}


def _extend(
    output: Location, job: Job, identity: dict[str, Any], limit: int | None
) -> dict[str, int]:
    """Appends the images of the source that the plan does not know; returns what was ignored."""
    config = job.config
    plan, _ = dataset.read_plan(output)
    listing = source_of(config).listing()
    new = pc.invert(pc.is_in(listing.images["uri"], plan["uri"]))
    listing = replace(listing, images=listing.images.filter(new))
    added = Plan(plan.schema.empty_table(), pa.array([], pa.int64()))
    if listing.images.num_rows:
        first = dataset.count_shards(plan)
        added = make_plan(listing, config.source.shard_size, limit, first_shard=first)
    dataset.extend_dataset(output, config, identity, *added, order_of(job))
    return listing.ignored


def _todo(run: Run, markers: dataset.Markers, *, retry_failed: bool) -> tuple[list[int], list[int]]:
    """The shards without a marker, and those to take again for their failed images."""
    done = markers.load()
    todo = [shard for shard in range(run.num_shards) if shard not in done]
    again = [m["shard"] for m in markers.each() if m["failures"]] if retry_failed else []
    markers.forget(again)
    for marker in markers.each():
        run.totals.add(marker)
        run.shards_done += 1
    run.resumed_images = run.totals.num_images
    run.resumed_ok = run.totals.images.get("ok", 0)
    return todo, again


def _jobs(
    plan: pa.Table, modified: pa.Array | None, todo: list[int], again: list[int], *, retry: bool
) -> Iterator[ShardJob]:
    if retry:
        # A retry that was cut off between two files of a shard leaves it without a marker: it is
        # made anew with the files as they are, so that what was mended for the retry counts.
        plan, modified = as_they_are(plan), None
    shards = plan["shard"].to_numpy()
    numbers = sorted([*todo, *again])
    starts = np.searchsorted(shards, numbers, "left")
    ends = np.searchsorted(shards, numbers, "right")
    taken_again = set(again)
    for shard, start, end in zip(numbers, starts.tolist(), ends.tolist(), strict=True):
        times = modified.slice(start, end - start) if modified is not None else None
        rows = plan.slice(start, end - start).combine_chunks()
        yield ShardJob(shard, rows, times, shard in taken_again)
