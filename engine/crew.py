"""Opens the crew a config asks for: subprocesses here, or actors of a Ray cluster."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import Protocol, TypeVar

from engine.config import RunnerConfig
from engine.output import local_path
from engine.serial import SerialCrew
from engine.shard import Crew
from engine.source.shapes import Location
from engine.stages import StageSpec
from engine.worker import SpecialistSpec


@contextlib.asynccontextmanager
async def open_crew(
    specs: Sequence[SpecialistSpec], stages: StageSpec, runner: RunnerConfig
) -> AsyncIterator[Crew]:
    """The crew with all its models loaded; its workers end with the block.

    Raises:
        ConfigError: No cluster at runner.address.
        SpecialistError: A model could not be loaded.
    """
    if runner.kind == "serial":
        serial = SerialCrew(stages, runner)
        try:
            await serial.start(specs)
            yield serial
        finally:
            serial.close()
        return
    from engine import cluster  # ray is loaded only by those who use it

    cpus = cluster.connect(runner.address)
    crew = cluster.RayCrew(stages, runner, cpus)
    try:
        await crew.start(specs)
        yield crew
    finally:
        crew.close()
        cluster.disconnect()


S = TypeVar("S")
R = TypeVar("R")


class Tasks(Protocol):
    """Runs one function over many shards, here or on a cluster."""

    def __call__(
        self, function: Callable[[S, int], R], spec: S, shards: Iterable[int]
    ) -> Iterator[tuple[int, R]]:
        """Shard and result, in the order in which they are done."""


@contextlib.contextmanager
def open_tasks(runner: RunnerConfig) -> Iterator[Tasks]:
    """What runs plain functions of a shard, as the config asks; a cluster is left with the block.

    Raises:
        ConfigError: No cluster at runner.address.
    """
    if runner.kind == "serial":
        yield lambda function, spec, shards: ((n, function(spec, n)) for n in shards)
        return
    from engine import cluster  # ray is loaded only by those who use it

    cpus = cluster.connect(runner.address)
    try:
        yield cluster.RayTasks(cpus, runner.stage_timeout_s)
    finally:
        cluster.disconnect()


def scratch_folder(output: Location) -> Path:
    """Where shards are written aside: on the output's own file system, or the temporary folder.

    Emptied here: what an interrupted run left there was never committed.
    """
    local = local_path(output, "_run/scratch")
    if local is None:
        name = hashlib.blake2b(output.uri.encode(), digest_size=8).hexdigest()
        local = Path(tempfile.gettempdir()) / f"fld-{name}"
    shutil.rmtree(local, ignore_errors=True)
    return local
