"""The stages of `shard.py` on Ray: actors hold specialists, tasks read, judge and write.

The only file of the engine that imports ray. The driver passes references around and never holds
pixels or rows; what it awaits always has a limit.
"""

import asyncio
import functools
import itertools
import logging
import math
import os
import signal
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any

import pyarrow as pa
import ray
import ray.exceptions

from engine.config import RunnerConfig
from engine.errors import ConfigError, EngineError, SpecialistError, StoppedError
from engine.pool import Pool, WorkerDiedError, first_sizes, make_pools
from engine.shard import Level, Loaded, ShardJob, Totals
from engine.stages import Stages, StageSpec
from engine.worker import Host, Receipt, SpecialistSpec

_log = logging.getLogger(__name__)

# After this many answered batches of every specialist its cost is known well enough to size pools.
_BATCHES_TO_MEASURE = 2

# Ray ends an idle process after a second where there are more processes than cores, as there are
# when specialists take them all. Every stage would then start one and import everything again,
# 1.2 s of CPU. They are kept instead; there are never more than `shards_in_flight` of them.
_KEEP_IDLE = {"idle_worker_killing_time_threshold_ms": 600_000}

# Objects of a lost node are gone with it; the shard they belong to is made again.
LOST = (ray.exceptions.ObjectLostError, ray.exceptions.OwnerDiedError)


def connect(address: str | None) -> float:
    """Starts a local Ray, or joins the cluster at `address`; returns its number of CPUs.

    Without an address it is always a Ray of our own, never a cluster that happens to be there.

    Raises:
        ConfigError: No cluster answers at the address.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a run tells nobody about itself
    try:
        ray.init(
            address=address or "local",
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level=logging.ERROR,
            _system_config=None if address else _KEEP_IDLE,
        )
    except (ConnectionError, ValueError, RuntimeError) as err:
        raise ConfigError(
            f"runner.address {address!r}: no Ray answers there: {err}; start one with "
            "`ray start --head`, or use runner.address=null for a local one"
        ) from err
    return _count("CPU")


def _count(resource: str) -> float:
    found: dict[str, float] = ray.cluster_resources()  # type: ignore[no-untyped-call]  # untyped in ray
    return found.get(resource, 0.0)


def disconnect() -> None:
    """Leaves Ray; a local one ends."""
    ray.shutdown()


@ray.remote(max_restarts=0)
class _Actor:
    def __init__(self, spec: SpecialistSpec) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C is the driver's to handle
        self._host = Host(spec)

    def load(self) -> None:
        self._host.load()

    def annotate(
        self, batch: pa.Buffer, rows: pa.Buffer | None, only: int | None
    ) -> tuple[pa.Buffer, Receipt]:
        answer, receipt = self._host.annotate(_unpack(batch), _unpack(rows), only)
        return _pack(answer), receipt


class RayWorker:
    """One actor with one loaded specialist; see `engine.pool.Worker`."""

    def __init__(self, actor: Any, budget: "CpuBudget", cpus: float) -> None:
        self._actor = actor
        self._budget = budget
        self._cpus = cpus

    async def call(self, batch: Any, rows: Any, only: int | None) -> tuple[Any, Receipt]:
        """The reference to the answer, and the receipt."""
        answer, receipt = self._actor.annotate.options(num_returns=2).remote(batch, rows, only)
        try:
            return answer, await receipt
        except ray.exceptions.OutOfMemoryError as err:
            raise WorkerDiedError("out_of_memory", "killed for the memory it took") from err
        except (ray.exceptions.RayActorError, ray.exceptions.WorkerCrashedError) as err:
            raise WorkerDiedError("worker_died", "the process ended") from err

    def kill(self) -> None:
        """Ends the actor at once."""
        ray.kill(self._actor)
        self._budget.give_back(self._cpus)


class CpuBudget:
    """The cluster's CPUs as handed to actors.

    Once they are used up a further actor asks for what is left, at last for none: more processes
    than cores share them, as on a laptop, where waiting for a free core would be waiting for ever.
    """

    def __init__(self, cpus: float) -> None:
        self.total = cpus
        self._free = cpus

    def take(self, wanted: float) -> float:
        """CPUs to ask for."""
        granted = wanted if self._free >= wanted else min(max(self._free, 0.0), 0.99)
        self._free -= granted
        return granted

    def give_back(self, cpus: float) -> None:
        """CPUs of an actor that ended."""
        self._free += cpus


async def spawn(spec: SpecialistSpec, budget: CpuBudget, load_timeout_s: float) -> RayWorker:
    """A worker with its model loaded.

    Raises:
        SpecialistError: The model could not be loaded, or no node had room, within the time.
        WorkerDiedError: The process ended.
    """
    wants = spec.specialist.resources
    cpus = budget.take(spec.threads)
    actor = _Actor.options(  # type: ignore[attr-defined]  # added by the decorator
        num_cpus=cpus,
        num_gpus=wants.gpus,
        memory=wants.memory,
        runtime_env={"env_vars": spec.environment()},
    ).remote(spec)
    try:
        await asyncio.wait_for(_awaited(actor.load.remote()), load_timeout_s)
    except TimeoutError as err:
        ray.kill(actor)
        budget.give_back(cpus)
        raise SpecialistError(
            f"specialist {spec.name!r} was not loaded within {load_timeout_s:g} s: no node with "
            f"{spec.threads} CPUs and {wants.gpus:g} GPUs was free, or its weights are slow to "
            "load; lower runner.workers, or raise runner.load_timeout_s"
        ) from err
    except ray.exceptions.RayTaskError as err:
        raise _unwrapped(err) from err
    except ray.exceptions.RayActorError as err:
        budget.give_back(cpus)
        raise WorkerDiedError("worker_died", _first_line(err)) from err
    return RayWorker(actor, budget, cpus)


class RayCrew:
    """A `Crew` whose stages are Ray tasks."""

    lost: tuple[type[Exception], ...] = LOST

    def __init__(self, spec: StageSpec, runner: RunnerConfig, cpus: float) -> None:
        self.pools: dict[str, Pool] = {}
        self._spec = ray.put(spec)
        self._batch_size = spec.batch_size
        self._runner = runner
        self._budget = CpuBudget(cpus)
        self._on_gpu: set[str] = set()

    async def start(self, specs: Sequence[SpecialistSpec]) -> None:
        """Starts the first workers of every specialist and loads their models."""
        start = functools.partial(
            spawn, budget=self._budget, load_timeout_s=self._runner.load_timeout_s
        )
        self.pools = make_pools(specs, self._runner, start)
        shares = {spec.name: spec.specialist.resources.gpus for spec in specs}
        self._on_gpu = {name for name, share in shares.items() if share}
        # GPUs are counted, not measured: as many workers as all of them hold, evenly
        per_gpu = max(1, int(_count("GPU") / (sum(shares.values()) or 1)))
        first = first_sizes(specs, self._runner)
        first |= {name: per_gpu for name in self._on_gpu if not self._is_chosen(name)}
        ready = [_get_ready.remote(self._spec) for _ in range(self._runner.shards_in_flight)]
        await asyncio.gather(
            *(self.pools[name].grow(size) for name, size in first.items()),
            *(self._stage(reference) for reference in ready),
        )

    def _is_chosen(self, name: str) -> bool:
        return self._runner.workers.get(name, "auto") != "auto"

    async def grow(self) -> None:
        """Sizes the `auto` pools on CPUs once every specialist has answered its first batches."""
        auto = [
            name for name in self.pools if not self._is_chosen(name) and name not in self._on_gpu
        ]
        enough = _BATCHES_TO_MEASURE * self._batch_size
        while any(pool.num_images < enough for pool in self.pools.values()):
            await asyncio.sleep(1.0)
        costs = {name: pool.busy_s / pool.num_images for name, pool in self.pools.items()}
        sizes = auto_sizes(costs, self._budget.total)
        _log.info("workers by measured cost: %s", sizes)
        await asyncio.gather(*(self.pools[name].grow(sizes[name]) for name in auto))

    def close(self) -> None:
        """Ends the workers."""
        for pool in self.pools.values():
            pool.close()

    async def _stage(self, reference: Any) -> Any:
        limit = self._runner.stage_timeout_s
        try:
            return await asyncio.wait_for(_awaited(reference), limit)
        except TimeoutError as err:
            raise StoppedError(
                f"a shard was not read, judged or written within {limit:g} s; is the storage still "
                "there? The same command resumes; runner.stage_timeout_s raises the limit"
            ) from err
        except ray.exceptions.RayTaskError as err:
            raise _unwrapped(err) from err

    async def read(self, job: ShardJob) -> Loaded:
        """See `engine.shard.Crew`; every batch is an object of its own, put in the store once."""
        most = math.ceil(job.plan.num_rows / self._batch_size)
        slots = 2 * most if job.retry else most
        references: Any = _read.options(num_returns=4 + slots).remote(self._spec, job, slots)
        images, given, carried, counts, *rest = references
        keys, num_batches, num_unasked, num_given, rules = await self._stage(counts)
        return Loaded(
            images,
            rest[:num_batches],
            keys,
            given,
            num_given,
            rules,
            carried if job.retry else None,
            tuple(rest[num_batches : num_batches + num_unasked]),
        )

    async def settle(
        self, loaded: Loaded, state: Any, level: Level, sources: Sequence[str]
    ) -> tuple[Any, list[Any], Any]:
        """See `engine.shard.Crew`."""
        outputs = 2 + len(loaded.batches)
        references: Any = _settle.options(num_returns=outputs).remote(
            self._spec,
            loaded.images,
            state,
            loaded.batch_keys,
            loaded.carried,
            sources,
            *level.answers,
        )
        judged, counts, *rows = references
        return judged, rows, await self._stage(counts)

    async def finish(
        self, job: ShardJob, loaded: Loaded, state: Any, totals: Totals
    ) -> dict[str, Any]:
        """See `engine.shard.Crew`."""
        batches = [*loaded.batches, *loaded.unasked]
        marker: dict[str, Any] = await self._stage(
            _finish.remote(self._spec, job, loaded.images, state, totals, loaded.carried, *batches)
        )
        return marker


class RayTasks:
    """Runs a function over shards, as many at a time as there are cores; see `crew.Tasks`."""

    def __init__(self, cpus: float, timeout_s: float) -> None:
        self._at_once = max(1, int(cpus))
        self._timeout_s = timeout_s

    def __call__(
        self, function: Callable[[Any, int], Any], spec: Any, shards: Iterable[int]
    ) -> Iterator[tuple[int, Any]]:
        """Shard and result, in the order in which they are done.

        Raises:
            StoppedError: None was done within the time limit.
        """
        remote, shared = ray.remote(num_cpus=1, max_retries=3)(function), ray.put(spec)
        waiting, running = iter(shards), dict[Any, int]()
        while True:
            for shard in itertools.islice(waiting, self._at_once - len(running)):
                running[remote.remote(shared, shard)] = shard
            if not running:
                return
            done, _ = ray.wait(list(running), num_returns=1, timeout=self._timeout_s)
            if not done:
                raise StoppedError(
                    f"no shard was done within {self._timeout_s:g} s; is the storage still there? "
                    "The same command resumes; runner.stage_timeout_s raises the limit"
                )
            try:
                yield running.pop(done[0]), ray.get(done[0])
            except ray.exceptions.RayTaskError as err:
                raise _unwrapped(err) from err
            except ray.exceptions.RayError as err:  # killed again and again: memory, most often
                raise StoppedError(
                    f"a process that judged a shard ended ({_first_line(err)}); is a node short of "
                    "memory? The same command resumes"
                ) from err


def _pack(table: pa.Table) -> pa.Buffer:
    """The table as an Arrow stream, which is one buffer to Ray and is read from its store uncopied.

    Ray takes a table apart column by column: 0.86 ms for the 48 rows of a batch, against 0.02 ms.
    """
    sink = pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, table.schema) as stream:
        stream.write_table(table)
    return sink.getvalue()


def _unpack(packed: pa.Buffer | None) -> pa.Table | None:
    return None if packed is None else pa.ipc.open_stream(packed).read_all()


async def _awaited(reference: Any) -> Any:
    return await reference


def _unwrapped(err: ray.exceptions.RayTaskError) -> BaseException:
    """The exception as it was raised in the worker, where it is one that users can read."""
    return err.cause if isinstance(err.cause, (EngineError, OSError)) else err


def _first_line(err: Exception) -> str:
    return str(err).strip().split("\n", 1)[0]


# Stages are I/O with little work of its own: they must never wait for a core that a specialist
# holds.
@ray.remote(num_cpus=0, max_retries=3)
def _get_ready(spec: StageSpec) -> None:
    """Imports what the stages need while models load, in as many processes as shards in flight."""
    del spec  # unpickling it has imported the stages
    pa.array([0])  # the first array makes pyarrow import pandas


@ray.remote(num_cpus=0, max_retries=3)
def _read(spec: StageSpec, job: ShardJob, num_slots: int) -> tuple[Any, ...]:
    found = Stages(spec).read(job)
    batches = [*found.batches, *found.unasked]
    padding = [None] * (num_slots - len(batches))
    sizes = (len(found.batches), len(found.unasked))
    counts = (found.batch_keys, *sizes, found.num_given, found.rules)
    carried = None if found.carried is None else _pack(found.carried)
    head = (_pack(found.images), _pack(found.given), carried, counts)
    return (*head, *map(_pack, batches), *padding)


@ray.remote(num_cpus=0, max_retries=3)
def _settle(
    spec: StageSpec,
    images: pa.Buffer,
    state: pa.Buffer | None,
    batch_keys: list[list[str]],
    carried: pa.Buffer | None,
    sources: Sequence[str],
    *answers: pa.Buffer,
) -> tuple[Any, ...]:
    judged, rows, counts = Stages(spec).settle(
        _unpack(images),
        _unpack(state),
        [_unpack(answer) for answer in answers],
        batch_keys,
        _unpack(carried),
        sources,
    )
    return (_pack(judged), counts, *map(_pack, rows))


@ray.remote(num_cpus=0, max_retries=3)
def _finish(
    spec: StageSpec,
    job: ShardJob,
    images: pa.Buffer,
    state: pa.Buffer | None,
    totals: Totals,
    carried: pa.Buffer | None,
    *batches: pa.Buffer,
) -> dict[str, Any]:
    unpacked = [_unpack(batch) for batch in batches]
    return Stages(spec).finish(
        job, _unpack(images), unpacked, _unpack(state), totals, _unpack(carried)
    )


def auto_sizes(seconds_per_image: dict[str, float], cpus: float) -> dict[str, int]:
    """Workers of each specialist so that all cores are busy and none is waited for.

    With cost c_i per image the cores can carry cpus / sum(c) images/s, of which specialist i keeps
    cpus * c_i / sum(c) cores busy; a tenth of a core less than a whole worker is not worth one.
    """
    total = sum(seconds_per_image.values()) or 1.0
    shares = {name: cpus * cost / total for name, cost in seconds_per_image.items()}
    return {name: max(1, math.ceil(share - 0.1)) for name, share in shares.items()}
