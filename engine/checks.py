"""`fld checks`: everything a run will need, looked at before it is started."""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass

from engine.errors import EngineError
from engine.output import local_path
from engine.run import Job, open_output
from engine.stages import source_of

_CHECK_FILE = "_run/check"


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
        for need in needs:
            detail = "" if need.present else need.mend
            if not need.present and need.downloads:
                detail = f"not here yet, downloads at first use; or now: {need.mend}"
            yield Check(f"{specialist.name}: {need.what}", need.present or need.downloads, detail)
        if not needs:
            yield Check(f"{specialist.name}: needs nothing", True)
    yield _source(job)
    yield _output(job)


def _source(job: Job) -> Check:
    what = f"source {job.config.source.uri}"
    try:
        listing = source_of(job.config).listing(limit=1)
    except EngineError as err:
        return Check(what, False, str(err))
    if listing.images.num_rows == 0:
        return Check(what, False, "holds no image")
    return Check(what, True, "readable")


def _output(job: Job) -> Check:
    what = f"output {job.config.output.uri}"
    try:
        output = open_output(job.config)
        output.write(_CHECK_FILE, b"")
        output.delete(_CHECK_FILE)
    except EngineError as err:
        return Check(what, False, str(err))
    local = local_path(output, "")
    if local is None:
        return Check(what, True, "writable")
    free = shutil.disk_usage(local).free
    return Check(what, True, f"writable, {free / 2**30:.1f} GiB free")
