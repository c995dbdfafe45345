"""The loop of one run: sends shards through a crew and keeps its lease, status and alarms."""

import asyncio
import contextlib
import logging
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from engine import dataset
from engine.crew import open_crew, scratch_folder
from engine.errors import EngineError, ShardError, StoppedError
from engine.events import EventLog
from engine.job import VERSION, Job, Observer
from engine.judge import raise_alarm
from engine.lease import RENEW_S, Lease
from engine.output import disk_error
from engine.shard import Crew, JudgePlan, ShardDone, ShardJob, run_shard
from engine.sink import Target
from engine.source.shapes import Location
from engine.stages import StageSpec, source_of
from engine.status import Run, StatusFile, usage
from engine.worker import SpecialistSpec

_log = logging.getLogger(__name__)

# Markers are rolled up this often: a run that was killed reads the later ones one by one, and an
# object store answers some hundred a second.
_SAVE_MARKERS_S = 600.0
_MAX_TRIES = 3  # of a shard whose objects were lost with a node


class Drive:
    """The loop of one run: bounded shards in flight, alarms, lease, status, signals."""

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
        self._events = EventLog(output)

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
            raise disk_error(err, self._output) from err
        finally:
            with contextlib.suppress(OSError, EngineError):  # a full disk has been told already
                self._status.write(self._run, state)
                self._events.add(state, usage=usage(self._run))
                self._events.flush()
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
            except StoppedError:
                raise
            except EngineError as err:  # the run had begun: what it committed stays
                raise StoppedError(f"{err}; the same command resumes") from err
            finally:
                for task in (*lanes, ticker, grower):
                    task.cancel()
                await asyncio.gather(*lanes, ticker, grower, return_exceptions=True)

    async def _lane(self, jobs: Iterator[ShardJob], crew: Crew) -> None:
        for job in jobs:
            started = time.monotonic()
            done = await self._shard(job, crew)
            marker = done.marker
            self._events.add(
                "shard_done",
                shard=job.shard,
                seconds=round(time.monotonic() - started, 3),
                images=marker["images"],
                failures=marker["failures"],
                isolated=done.isolated,
            )
            self._markers.add(marker)
            self._run.totals.add(marker)
            self._run.shards_done += 1
            self._observer.shard_done(self._run, marker)
            raise_alarm(self._run.totals.rules, self._job.rules)

    async def _shard(self, job: ShardJob, crew: Crew) -> ShardDone:
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
        last, saved = 0.0, time.monotonic()
        while True:
            self._observer.tick(self._run)
            if time.monotonic() - last > RENEW_S:
                await asyncio.to_thread(self._lease.renew)
                await asyncio.to_thread(self._status.write, self._run, "running")
                await asyncio.to_thread(self._events.flush_if_due)
                last = time.monotonic()
            if time.monotonic() - saved > _SAVE_MARKERS_S:
                await asyncio.to_thread(self._markers.save)
                saved = time.monotonic()
            await asyncio.sleep(0.5)

    def _stage_spec(self) -> StageSpec:
        config = self._job.config
        replacing = {s.name: s.replaces for s in self._job.specialists if s.replaces != "never"}
        target = Target(
            self._output,
            VERSION,
            scratch_folder(self._output),
            pixels=config.output.pixels == "copy",
            views=config.output.views,
        )
        return StageSpec(
            source=source_of(config),
            target=target,
            limits=config.limits,
            batch_size=config.runner.batch_size,
            judge_plan=JudgePlan(tuple(self._job.rules), replacing, config.seed),
        )


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
