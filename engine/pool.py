"""A pool of workers of one specialist: least-loaded first, time limits, and what a death means.

Knows nothing of Ray: a worker is anything that answers a batch or dies.
"""

import asyncio
import functools
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from engine.config import RunnerConfig
from engine.errors import SpecialistError, StoppedError
from engine.failures import Failure, fail
from engine.worker import Receipt, SpecialistSpec

_log = logging.getLogger(__name__)

# Killed this often by the same work, the work is to blame (DESIGN 4).
_MAX_DEATHS = 2


class WorkerDiedError(Exception):
    """The worker's process ended before it answered; `cause` is one of engine.failures.CAUSES."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class Worker(Protocol):
    """One process that holds a loaded specialist."""

    async def call(self, batch: Any, rows: Any, only: int | None) -> tuple[Any, Receipt]:
        """The answer (rows, or a handle to them) and its receipt.

        Raises:
            WorkerDiedError: The process ended.
        """

    def kill(self) -> None:
        """Ends the process at once; calls under way die."""


@dataclass
class Outcome:
    """Everything one specialist gave for one batch."""

    answers: list[Any] = field(default_factory=list)
    failures: list[tuple[str, Failure]] = field(default_factory=list)
    num_rows: int = 0
    # the batch had to be run image by image: bytes may differ from run to run
    isolated: bool = False


class Pool:
    """Hands batches of one specialist to its workers and replaces those that die."""

    def __init__(
        self,
        name: str,
        spawn: Callable[[], Awaitable[Worker]],
        *,
        timeout_s: float,
        quiet_limit: int | None = None,
    ) -> None:
        self.name = name
        self._quiet_limit = quiet_limit
        self.queued = 0
        self.num_images = 0
        self.num_rows = 0
        self.num_failures = 0
        self.busy_s = 0.0
        self.usage: Counter[str] = Counter()
        self._spawn = spawn
        self._timeout_s = timeout_s
        self._workers: set[Worker] = set()
        self._idle: asyncio.Queue[Worker] = asyncio.LifoQueue()  # last used first: warm caches

    @property
    def size(self) -> int:
        """Workers alive."""
        return len(self._workers)

    async def grow(self, size: int) -> None:
        """Starts workers until there are `size`.

        Raises:
            SpecialistError: A worker could not load its model, or died of it.
        """
        missing = size - len(self._workers)
        for worker in await asyncio.gather(*(self._start() for _ in range(missing))):
            self._workers.add(worker)
            self._idle.put_nowait(worker)

    async def _start(self) -> Worker:
        """A worker with its model loaded; one killed while it loads is given another chance."""
        deaths: list[WorkerDiedError] = []
        while len(deaths) < _MAX_DEATHS:
            try:
                return await self._spawn()
            except WorkerDiedError as death:
                _log.warning("%s: a worker died while loading (%s)", self.name, death)
                deaths.append(death)
        raise SpecialistError(
            f"specialist {self.name!r}: its process ended {_MAX_DEATHS} times while loading: "
            f"{deaths[-1]}"
        )

    def close(self) -> None:
        """Ends all workers."""
        for worker in self._workers:
            worker.kill()
        self._workers.clear()

    async def annotate(self, batch: Any, rows: Any, image_keys: Sequence[str]) -> Outcome:
        """The specialist's answer to a batch, whatever happens to its workers.

        A worker that dies is replaced and the batch tried again; a batch that kills two workers, or
        outlasts the time limit, is run image by image and the culprits become failures.

        Raises:
            StoppedError: The first images, `quiet_limit` of them, gave not one row.
        """
        outcome = Outcome()
        self.queued += 1
        try:
            if await self._settle(batch, rows, None, outcome) is not None:
                outcome.isolated = True
                await self._one_by_one(batch, rows, image_keys, outcome)
        finally:
            self.queued -= 1
        self.num_images += len(image_keys)
        self.num_rows += outcome.num_rows
        self.num_failures += len(outcome.failures)
        self._raise_if_quiet(outcome)
        return outcome

    def _raise_if_quiet(self, latest: Outcome) -> None:
        if self._quiet_limit is None or self.num_rows or self.num_images < self._quiet_limit:
            return
        why = "; some exports load and never detect"
        if latest.failures:  # a wrong key, or a service that is down, tells more than silence
            _, failure = latest.failures[-1]
            last = f"{failure.cause}: {failure.message}"
            why = f", {self.num_failures:,} of them failures; the last is {last}"
        raise StoppedError(
            f"specialist {self.name!r} gave no row for its first {self.num_images:,} images"
            f"{why}; try its model on one image you know, "
            "or raise its `quiet_limit` (null turns the alarm off)"
        )

    async def _one_by_one(
        self, batch: Any, rows: Any, image_keys: Sequence[str], outcome: Outcome
    ) -> None:
        _log.warning("%s: a batch of %d images is run one by one", self.name, len(image_keys))
        for position, image_key in enumerate(image_keys):
            failure = await self._settle(batch, rows, position, outcome)
            if failure is not None:
                outcome.failures.append((image_key, failure))

    async def _settle(
        self, batch: Any, rows: Any, only: int | None, outcome: Outcome
    ) -> Failure | None:
        """Adds the answer to the outcome, or says what kept the work from being answered."""
        failure = None
        for _ in range(_MAX_DEATHS):
            try:
                answer, receipt = await self._call(batch, rows, only)
            except TimeoutError:
                message = f"no answer within {self._timeout_s:g} s"
                return fail("annotate", "timeout", message, source=self.name)
            except WorkerDiedError as death:
                _log.warning("%s: a worker died (%s: %s)", self.name, death.cause, death)
                failure = fail("annotate", death.cause, death, source=self.name)
                continue
            outcome.answers.append(answer)
            outcome.failures.extend(receipt.failures)
            outcome.num_rows += receipt.num_rows
            self.busy_s += receipt.seconds
            self.usage.update(receipt.usage)
            return None
        return failure

    async def _call(self, batch: Any, rows: Any, only: int | None) -> tuple[Any, Receipt]:
        # A worker gets its next batch when it has answered the last one, so a death is never in
        # doubt; the gap is a few milliseconds against batches of hundreds.
        worker = await self._idle.get()
        try:
            answered = await asyncio.wait_for(worker.call(batch, rows, only), self._timeout_s)
        except (TimeoutError, WorkerDiedError):
            worker.kill()
            self._workers.discard(worker)
            await self.grow(len(self._workers) + 1)
            raise
        self._idle.put_nowait(worker)
        return answered


def make_pools(
    specs: Sequence[SpecialistSpec],
    runner: RunnerConfig,
    spawn: Callable[[SpecialistSpec], Awaitable[Worker]],
) -> dict[str, Pool]:
    """A pool per specialist, still without workers; `spawn` starts one for a specialist."""
    return {
        spec.name: Pool(
            spec.name,
            functools.partial(spawn, spec),
            timeout_s=runner.batch_timeout_s,
            quiet_limit=spec.specialist.quiet_limit,
        )
        for spec in specs
    }


def first_sizes(specs: Sequence[SpecialistSpec], runner: RunnerConfig) -> dict[str, int]:
    """Workers to start with: what the config says, and one where it says `auto`."""
    sizes = {spec.name: runner.workers.get(spec.name, "auto") for spec in specs}
    return {name: 1 if size == "auto" else size for name, size in sizes.items()}
