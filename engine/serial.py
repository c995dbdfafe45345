"""The runner without Ray: each specialist in one subprocess of its own, stages in this process.

A subprocess, because thread counts must be in the environment before a model library is imported,
and because a specialist that crashes or hangs must not take the run with it.
"""

import asyncio
import contextlib
import functools
import multiprocessing
import os
import signal
import threading
from collections.abc import Sequence
from multiprocessing.connection import Connection
from typing import Any

import pyarrow as pa

from engine.config import RunnerConfig
from engine.errors import EngineError, SpecialistError
from engine.pool import Pool, WorkerDiedError, first_sizes, make_pools
from engine.shard import Level, Loaded, ShardJob, Totals
from engine.stages import Stages, StageSpec
from engine.worker import Host, Receipt, SpecialistSpec, environment

_LOOK_S = 1.0  # between looks whether a silent subprocess is still there
_SPAWN = multiprocessing.get_context("spawn")


class SerialCrew:
    """A `Crew` in one process: no cluster, the same stages, the same bytes."""

    lost: tuple[type[Exception], ...] = ()

    def __init__(self, spec: StageSpec, runner: RunnerConfig) -> None:
        self.pools: dict[str, Pool] = {}
        self._stages = Stages(spec)
        self._runner = runner

    async def start(self, specs: Sequence[SpecialistSpec]) -> None:
        """Starts the subprocesses and loads their models."""
        start = functools.partial(spawn, load_timeout_s=self._runner.load_timeout_s)
        self.pools = make_pools(specs, self._runner, start)
        sizes = first_sizes(specs, self._runner)
        await asyncio.gather(*(self.pools[name].grow(size) for name, size in sizes.items()))

    async def grow(self) -> None:
        """One subprocess each is what `serial` means; nothing to do."""

    def close(self) -> None:
        """Ends the subprocesses."""
        for pool in self.pools.values():
            pool.close()

    async def read(self, job: ShardJob) -> Loaded:
        """See `engine.shard.Crew`."""
        found = await asyncio.to_thread(self._stages.read, job)
        return Loaded(
            found.images,
            list(found.batches),
            found.batch_keys,
            found.given,
            found.num_given,
            found.rules,
            found.carried,
            tuple(found.unasked),
        )

    async def settle(
        self, loaded: Loaded, state: Any, level: Level, sources: Sequence[str]
    ) -> tuple[Any, list[Any], Any]:
        """See `engine.shard.Crew`."""
        return await asyncio.to_thread(
            self._stages.settle,
            loaded.images,
            state,
            level.answers,
            loaded.batch_keys,
            loaded.carried,
            sources,
        )

    async def finish(
        self, job: ShardJob, loaded: Loaded, state: Any, totals: Totals
    ) -> dict[str, Any]:
        """See `engine.shard.Crew`."""
        batches = [*loaded.batches, *loaded.unasked]
        return await asyncio.to_thread(
            self._stages.finish, job, loaded.images, batches, state, totals, loaded.carried
        )


class ProcessWorker:
    """One subprocess with one loaded specialist, spoken to over a pipe."""

    def __init__(self, spec: SpecialistSpec) -> None:
        self._name = spec.name
        self._pipe, theirs = _SPAWN.Pipe()
        self._process = _SPAWN.Process(target=_serve, args=(theirs, spec), daemon=True)
        with environment(spec.environment()):
            self._process.start()
        theirs.close()

    async def loaded(self, timeout_s: float) -> None:
        """Waits until the model is loaded.

        Raises:
            SpecialistError: It could not be loaded, or not within the time.
            WorkerDiedError: The process ended.
        """
        try:
            error = await asyncio.wait_for(asyncio.to_thread(self._receive), timeout_s)
        except asyncio.CancelledError:
            self.kill()  # no pool knows it yet
            raise
        except TimeoutError as err:
            self.kill()
            raise SpecialistError(
                f"specialist {self._name!r} was not loaded within {timeout_s:g} s; "
                "raise runner.load_timeout_s if its weights are large"
            ) from err
        if error is not None:
            raise error

    async def call(self, batch: Any, rows: Any, only: int | None) -> tuple[pa.Table, Receipt]:
        """See `engine.pool.Worker`."""
        answer: tuple[pa.Table, Receipt] = await asyncio.to_thread(
            self._exchange, (batch, rows, only)
        )
        return answer

    def kill(self) -> None:
        """Ends the subprocess and all it started; a call under way sees the pipe close."""
        assert self._process.pid is not None
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGKILL)
        self._process.kill()  # it may have had no time to lead a group
        self._process.join()

    def _exchange(self, message: Any) -> Any:
        try:
            self._pipe.send(message)
        except (BrokenPipeError, ConnectionResetError) as err:
            raise self._death() from err
        return self._receive()

    def _receive(self) -> Any:
        try:
            # Processes that the specialist started may hold the pipe open after its death.
            while not self._pipe.poll(_LOOK_S) and self._process.exitcode is None:
                pass
            if self._pipe.poll():
                return self._pipe.recv()
        except (EOFError, OSError) as err:
            raise self._death() from err
        raise self._death()

    def _death(self) -> WorkerDiedError:
        self._process.join(timeout=5)
        code = self._process.exitcode
        # The kernel's out-of-memory killer leaves no other trace than SIGKILL.
        how = f"signal {signal.Signals(-code).name}" if code and code < 0 else f"exit code {code}"
        return WorkerDiedError("worker_died", f"the process ended with {how}")


async def spawn(spec: SpecialistSpec, load_timeout_s: float) -> ProcessWorker:
    """A subprocess with its model loaded; see `ProcessWorker.loaded`."""
    worker = ProcessWorker(spec)
    await worker.loaded(load_timeout_s)
    return worker


def _serve(pipe: Connection, spec: SpecialistSpec) -> None:
    os.setpgrp()  # Ctrl-C is the driver's to handle, and whatever is started here ends with it
    os.dup2(2, 1)  # what libraries print is no result of the command
    threading.Thread(target=_end_with_driver, daemon=True).start()
    host = Host(spec)
    try:
        host.load()
    except EngineError as err:
        pipe.send(err)
        return
    pipe.send(None)
    while True:
        try:
            batch, rows, only = pipe.recv()
        except (EOFError, ConnectionResetError):
            return  # the driver is gone
        pipe.send(host.annotate(batch, rows, only))


def _end_with_driver() -> None:
    """Ends this process group when the driver is gone, however long a batch would have taken."""
    driver = multiprocessing.parent_process()
    if driver is not None:
        driver.join()
        os.killpg(0, signal.SIGKILL)
