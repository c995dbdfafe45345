"""`fld checks`: everything a run will need, looked at before it is started."""

import contextlib
import shutil
from collections.abc import Iterator
from dataclasses import dataclass

import psutil
import pyarrow.compute as pc

from engine.errors import EngineError
from engine.job import Job
from engine.judge import needs_of
from engine.output import local_path
from engine.protocols import Need
from engine.run import open_output
from engine.stages import source_of

_CHECK_FILE = "_run/check"
_GIB = 2**30


@dataclass(frozen=True)
class Check:
    """One line: what was looked at, whether it is fine, and what to do where it is not."""

    what: str
    ok: bool
    detail: str = ""


def run_checks(job: Job) -> Iterator[Check]:
    """Weights, packages, source, output rights and disk space, one line each; loads no model."""
    for specialist in job.specialists:
        needs = specialist.needs()
        yield from (check_need(specialist.name, need) for need in needs)
        if not needs:
            yield Check(f"{specialist.name}: needs nothing", True)
    for entry in job.rules:
        for need in needs_of(entry):
            detail = "" if need.present else need.mend
            yield Check(f"rule {entry.rule.name}: {need.what}", need.present, detail)
    yield from _source(job)
    yield _output(job)


def check_need(owner: str, need: Need) -> Check:
    """One line of what somebody needs."""
    detail = "" if need.present else need.mend
    if not need.present and need.downloads:
        detail = f"not here yet, downloads at first use; or now: {need.mend}"
    return Check(f"{owner}: {need.what}", need.present or need.downloads, detail)


def _source(job: Job) -> Iterator[Check]:
    what = f"source {job.config.source.uri}"
    try:
        images = source_of(job.config).listing(limit=job.config.source.shard_size).images
    except EngineError as err:
        yield Check(what, False, str(err))
        return
    if images.num_rows == 0:
        yield Check(what, False, "holds no image")
        return
    yield Check(what, True, "readable")
    yield _memory(job, pc.sum(images["size_bytes"]).as_py() or 0)


def _memory(job: Job, shard_bytes: int) -> Check:
    """Whether the encoded images of the shards in flight leave room, judged by the first shard."""
    runner = job.config.runner
    # once in the object store and once in the tar that is being written
    needed = 2 * shard_bytes * runner.shards_in_flight
    free = psutil.virtual_memory().available
    detail = f"{needed / _GIB:.2f} GiB for images in flight, {free / _GIB:.1f} GiB free"
    if needed <= free / 2:
        return Check("memory", True, detail)
    return Check("memory", False, f"{detail}; lower runner.shards_in_flight or source.shard_size")


def _output(job: Job) -> Check:
    what = f"output {job.config.output.uri}"
    try:
        output = open_output(job.config)
        local = local_path(output, "")
        file = local_path(output, _CHECK_FILE)
        made = [] if file is None else [path for path in file.parents if not path.exists()]
        output.write(_CHECK_FILE, b"")
        output.delete(_CHECK_FILE)
    except EngineError as err:
        return Check(what, False, str(err))
    if local is None:
        return Check(what, True, "writable")
    free = shutil.disk_usage(local).free
    for folder in made:  # the innermost first; a run may have begun to fill them
        with contextlib.suppress(OSError):
            folder.rmdir()
    return Check(what, True, f"writable, {free / _GIB:.1f} GiB free")
