"""The driver of a run: prepares, takes the output, sends shards through a crew, tells of it all."""

import asyncio
import contextlib
import errno
import logging
import signal
import time
import uuid
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine import dataset
from engine.config import Config
from engine.crew import open_crew, scratch_folder
from engine.errors import ConfigError, EngineError, ShardError, SpecialistError, StoppedError
from engine.judge import RuleEntry, raise_alarm
from engine.lease import RENEW_S, Lease
from engine.output import empty, everything_in, final_name, remove_leftovers
from engine.protocols import Specialist
from engine.retry import as_they_are
from engine.shard import Crew, JudgePlan, ShardJob, level_order, run_shard
from engine.sink import DONE, Target
from engine.source.filesystem import open_location
from engine.source.plan import make_plan
from engine.source.shapes import Location
from engine.stages import StageSpec, source_of
from engine.status import Run, StatusFile
from engine.worker import SpecialistSpec

_log = logging.getLogger(__name__)

VERSION = "round-0"
# What a run that died before dataset.json was written may have left.
_OURS = ("_run", dataset.PLAN, dataset.CONFIG, dataset.DATASET)
_MAX_TRIES = 3  # of a shard whose objects were lost with a node


class Observer:
    """What a run reports while it runs. Every method may be left as it is."""

    def planned(self, run: "Run") -> None:
        """The plan is made or read; nothing has started."""

    def started(self, run: "Run") -> None:
        """All models are loaded."""

    def shard_done(self, run: "Run", marker: dict[str, Any]) -> None:
        """A shard was committed."""

    def tick(self, run: "Run") -> None:
        """A moment has passed."""


@dataclass(frozen=True)
class Job:
    """A run, resolved: its config, and the specialists and rules built from it."""

    config: Config
    specialists: Sequence[Specialist]
    rules: Sequence[RuleEntry]


def annotate(
    job: Job,
    observer: Observer,
    *,
    limit: int | None = None,
    overwrite: bool = False,
    retry_failed: bool = False,
) -> Run:
    """Annotates a source into an output, or finishes what an earlier run began.

    Args:
        job: What to do.
        observer: Told of everything as it happens.
        limit: Plan this many images at most; part of the run's identity.
        overwrite: Start again, deleting the dataset that is there.
        retry_failed: Take only the images that failed in shards already committed.

    Raises:
        ConfigError: Something is missing or wrong; nothing was started.
        SpecialistError: A model is missing or cannot be loaded.
        StoppedError: The run ended early; the same call resumes it.
    """
    levels = level_order(job.specialists)
    output = open_output(job.config)
    specs = prepare(job)
    identity = {
        **job.config.identity(),
        "revisions": {spec.name: spec.revision for spec in specs},
        "limit": limit,
    }
    fresh = None
    if overwrite or not output.exists(dataset.DATASET):
        _refuse_foreign(output)
        fresh = list_source(job.config, limit)
    else:
        dataset.check_same_run(output, dataset.read_dataset(output), identity)
    with Lease.take(output) as lease:
        remove_leftovers(output)
        if fresh is not None:
            if not overwrite and output.exists(dataset.DATASET):
                raise ConfigError(f"{output.uri}: another run has just made a dataset there")
            _start_dataset(output, job.config, identity, fresh)
        plan, modified = dataset.read_plan(output)
        run = Run(job.config, plan, dataset.count_shards(plan), levels)
        run.ignored = fresh.ignored if fresh is not None else {}
        markers = dataset.Markers(output, VERSION)
        todo, again = _todo(run, markers, retry_failed=retry_failed)
        observer.planned(run)
        if todo or again:
            jobs = _jobs(plan, modified, todo, again, retry=retry_failed)
            _Drive(job, run, specs, output, markers, lease, observer).run(jobs)
        markers.save()
        return run


def prepare(job: Job) -> list[SpecialistSpec]:
    """Makes sure everything the specialists need is there; returns them ready to travel.

    Raises:
        SpecialistError: What is missing, and the command that mends it.
    """
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
                runner.threads.get(specialist.name, max(1, specialist.resources.cpus)),
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


def _refuse_foreign(output: Location) -> None:
    """Neither a first run nor --overwrite may touch a folder that holds something else."""
    if output.exists(dataset.DATASET):
        return
    for path in everything_in(output):
        if final_name(path.split("/")[0]) not in _OURS:
            raise ConfigError(
                f"output.uri {output.uri}: holds {path!r} and no dataset.json; choose an empty or "
                "new folder"
            )


def _start_dataset(
    output: Location, config: Config, identity: dict[str, Any], listed: Listed
) -> None:
    empty(output, keep="_run", markers=DONE, proof=dataset.DATASET)
    output.delete(dataset.MARKERS)
    dataset.create_dataset(output, config, identity, listed.plan, listed.modified)


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


class _Drive:
    """The loop of one run: bounded shards in flight, alarms, lease, status."""

    def __init__(
        self,
        job: Job,
        run: Run,
        specs: list[SpecialistSpec],
        output: Location,
        markers: dataset.Markers,
        lease: Lease,
        observer: Observer,
    ) -> None:
        self._job = job
        self._run = run
        self._specs = specs
        self._output = output
        self._markers = markers
        self._lease = lease
        self._observer = observer
        self._status = StatusFile(output)

    def run(self, jobs: Iterator[ShardJob]) -> None:
        """Runs all jobs to their commit.

        Raises:
            StoppedError: An alarm, a full disk or a signal ended it early.
        """
        state = "stopped"
        try:
            asyncio.run(self._main(jobs))
            state = "finished"
        except (KeyboardInterrupt, SystemExit, asyncio.CancelledError) as err:
            # SystemExit: Ray answers a SIGTERM with it while it starts
            raise StoppedError("stopped by a signal; the same command resumes") from err
        except OSError as err:
            raise self._disk_error(err) from err
        finally:
            with contextlib.suppress(OSError, EngineError):  # a full disk has been told already
                self._status.write(self._run, state)
            for pool in self._run.pools.values():
                pool.close()
            self._run.pools = {}

    async def _main(self, jobs: Iterator[ShardJob]) -> None:
        main = asyncio.current_task()
        assert main is not None
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(max_workers=32))
        runner = self._job.config.runner
        _cancel_on_signals(main)
        async with open_crew(self._specs, self._stage_spec(), runner) as crew:
            _cancel_on_signals(main)  # again: Ray sets a handler of its own as it starts
            self._run.pools = crew.pools
            self._run.started_at = time.monotonic()
            self._observer.started(self._run)
            ticker = asyncio.create_task(self._tick())
            grower = asyncio.create_task(crew.grow())
            lanes = [
                asyncio.create_task(self._lane(jobs, crew)) for _ in range(runner.shards_in_flight)
            ]
            try:
                await _first_error([*lanes], [ticker, grower])
            except SpecialistError as err:  # a replacement that does not load; the first ones did
                raise StoppedError(f"{err}; the same command resumes") from err
            finally:
                for task in (*lanes, ticker, grower):
                    task.cancel()
                await asyncio.gather(*lanes, ticker, grower, return_exceptions=True)

    async def _lane(self, jobs: Iterator[ShardJob], crew: Crew) -> None:
        for job in jobs:
            marker = await self._shard(job, crew)
            self._markers.add(marker)
            self._run.totals.add(marker)
            self._run.shards_done += 1
            self._observer.shard_done(self._run, marker)
            raise_alarm(self._run.totals.rules, self._job.rules)

    async def _shard(self, job: ShardJob, crew: Crew) -> dict[str, Any]:
        for attempt in range(1, _MAX_TRIES + 1):
            try:
                return await run_shard(job, crew, self._run.levels)
            except crew.lost as err:
                _log.warning("shard %06d: its data was lost with a node (%s)", job.shard, err)
                if attempt == _MAX_TRIES:
                    raise ShardError(
                        f"shard {job.shard:06d}: its data was lost {_MAX_TRIES} times; is a node "
                        "short of memory? Lower runner.shards_in_flight or source.shard_size"
                    ) from err
        raise AssertionError("unreachable")

    async def _tick(self) -> None:
        last = 0.0
        while True:
            self._observer.tick(self._run)
            if time.monotonic() - last > RENEW_S:
                await asyncio.to_thread(self._lease.renew)
                await asyncio.to_thread(self._status.write, self._run, "running")
                last = time.monotonic()
            await asyncio.sleep(0.5)

    def _stage_spec(self) -> StageSpec:
        config = self._job.config
        replacing = frozenset(
            s.name for s in self._job.specialists if getattr(s, "replaces", False)
        )
        target = Target(
            self._output, VERSION, scratch_folder(self._output), config.output.pixels == "copy"
        )
        return StageSpec(
            run_id=uuid.uuid4().hex,
            source=source_of(config),
            target=target,
            limits=config.limits,
            batch_size=config.runner.batch_size,
            judge_plan=JudgePlan(tuple(self._job.rules), replacing, config.seed),
        )

    def _disk_error(self, err: OSError) -> Exception:
        if err.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(err):
            return StoppedError(
                f"{self._output.uri}: no space left; free some and run the same command again"
            )
        return err


def _cancel_on_signals(task: "asyncio.Task[Any]") -> None:
    loop = asyncio.get_running_loop()
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, task.cancel)


async def _first_error(lanes: list[Any], helpers: list[Any]) -> None:
    """Waits for all lanes; the first error, of a lane or a helper, ends the wait."""
    pending = set(lanes)
    watched = {*lanes, *helpers}
    while pending:
        done, _ = await asyncio.wait(watched, return_when=asyncio.FIRST_COMPLETED)
        for task in done:
            task.result()
        watched -= done
        pending -= done
