"""Opens the crew a config asks for: subprocesses here, or actors of a Ray cluster."""

import contextlib
import hashlib
import shutil
import tempfile
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

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
