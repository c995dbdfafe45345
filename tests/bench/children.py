"""Measured work runs in a process of its own: a job goes in as JSON, one line of JSON comes out."""

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

_ROOT = Path(__file__).resolve().parents[2]
_QUIET = {
    "RAY_USAGE_STATS_ENABLED": "0",
    "YOLO_OFFLINE": "true",
    "YOLO_AUTOINSTALL": "false",
    "PYTHONUNBUFFERED": "1",
}
# What keeps a measurement on one core also where a library would take all of them.
ONE_THREAD = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")


def run_child(
    module: str,
    job: dict[str, Any],
    *,
    variables: dict[str, str] | None = None,
    watch: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> dict[str, Any]:
    """The result of `python -m tests.bench.MODULE`, which reads the job on stdin.

    Args:
        module: A module of this folder.
        job: What to do.
        variables: Environment variables beside those of this process.
        watch: Called once with the running child; returns when the child has ended.

    Raises:
        RuntimeError: The child failed; the message ends with what it wrote last.
    """
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as log:
        child = subprocess.Popen(
            [sys.executable, "-m", f"tests.bench.{module}"],
            stdin=subprocess.PIPE,
            stdout=out,
            stderr=log,
            cwd=_ROOT,
            env={**os.environ, **_QUIET, **(variables or {})},
        )
        assert child.stdin is not None
        child.stdin.write(json.dumps(job).encode())
        child.stdin.close()
        if watch is not None:
            watch(child)
        code = child.wait()
        log.seek(0)
        out.seek(0)
        lines = out.read().decode().splitlines()
        if code != 0 or not lines:
            last = log.read().decode(errors="replace")[-2000:]
            raise RuntimeError(f"tests.bench.{module} ended with {code}: {last}")
    result: dict[str, Any] = json.loads(lines[-1])
    return result


def read_job() -> dict[str, Any]:
    """In a child: its job."""
    job: dict[str, Any] = json.load(sys.stdin)
    return job


def answer(result: dict[str, Any]) -> None:
    """In a child: its result."""
    print(json.dumps(result))
