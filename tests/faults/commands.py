"""The command line as users start it: subprocesses to watch on disk and to kill as a whole.

Every process that a command starts, however deep, inherits a mark in its environment, so that none
can escape a kill or the check that none was left behind.
"""

import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pyarrow.parquet as pq
import yaml

from tests import hostile

ROOT = Path(__file__).resolve().parents[2]
_MARK = "FLD_TEST_COMMAND"
# What the installed script does; `-m engine.cli` would be imported again by all that it spawns.
_FLD = "from engine.cli import main; main()"
_LIMIT_S = 300  # no command of these tests takes a third of it; a hang is to fail, not to wait


@dataclass
class Command:
    """One `fld` command under way; its output goes to a file, so that no pipe can fill up."""

    arguments: list[str]
    log: Path
    variables: dict[str, str] = field(default_factory=dict)
    started_ns: int = 0

    def __post_init__(self) -> None:
        self.mark = uuid.uuid4().hex
        paths = [self.variables.get("PYTHONPATH", ""), str(ROOT)]
        environment = {
            **os.environ,
            "COLUMNS": "200",
            "RAY_USAGE_STATS_ENABLED": "0",
            **self.variables,
            "PYTHONPATH": os.pathsep.join(path for path in paths if path),
            _MARK: self.mark,
        }
        self.started_ns = time.time_ns()
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-c", _FLD, *self.arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=environment,
                cwd=self.log.parent,
            )

    @property
    def said(self) -> str:
        return self.log.read_text(encoding="utf-8", errors="replace")

    def running(self) -> bool:
        return self.process.poll() is None

    def wait(self) -> int:
        """The exit code; a command that does not end is killed and fails the test."""
        try:
            return self.process.wait(_LIMIT_S)
        except subprocess.TimeoutExpired:
            self.kill()
            raise AssertionError(f"did not end within {_LIMIT_S} s: {self.said}") from None

    def wait_until(self, seen: Callable[[], bool]) -> bool:
        """Whether `seen` became true while the command was running."""
        end = time.monotonic() + _LIMIT_S
        while self.running() and time.monotonic() < end:
            if seen():
                return True
            time.sleep(0.01)
        assert time.monotonic() < end, self.said
        return False

    def processes(self) -> list[psutil.Process]:
        """Every living process that carries the mark, the command itself among them."""
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                if process.environ().get(_MARK) == self.mark and not _is_dead(process):
                    found.append(process)
        return found

    def kill(self) -> None:
        """SIGKILL to the command and all it started, at once, and again for what came between."""
        while processes := self.processes():
            for process in processes:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.kill()
            psutil.wait_procs(processes, timeout=5)
        self.process.wait()

    def left_behind(self) -> list[str]:
        """Processes that outlive the ended command by more than Ray takes to notice its end."""
        end = time.monotonic() + 15
        while (processes := self.processes()) and time.monotonic() < end:
            time.sleep(0.1)
        return [" ".join(process.cmdline()) for process in processes]


def _is_dead(process: psutil.Process) -> bool:
    return process.status() in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


class Shell:
    """Runs `fld` commands in one folder; whatever still runs at the end is killed."""

    def __init__(self, folder: Path, variables: dict[str, str]) -> None:
        self.folder = folder
        self._variables = variables
        self._commands: list[Command] = []

    def start(self, *arguments: object, variables: dict[str, str] | None = None) -> Command:
        log = self.folder / f"command-{len(self._commands):03d}.log"
        everything = {**self._variables, **(variables or {})}
        command = Command([str(argument) for argument in arguments], log, everything)
        self._commands.append(command)
        return command

    def run(self, *arguments: object, variables: dict[str, str] | None = None) -> Command:
        """The command after it has ended by itself."""
        command = self.start(*arguments, variables=variables)
        command.wait()
        return command

    def close(self) -> None:
        for command in self._commands:
            command.kill()


def succeed(command: Command, code: int = 0) -> Command:
    """The command, ended with that exit code; what it said is in the failure otherwise."""
    assert command.wait() == code, command.said
    return command


def write_config(path: Path, **sections: Any) -> Path:
    path.write_text(yaml.safe_dump(sections), encoding="utf-8")
    return path


def write_photos(folder: Path, names: Iterator[str] | list[str]) -> Path:
    """Small JPEGs, each of other bytes."""
    folder.mkdir(parents=True)
    for seed, name in enumerate(names):
        picture = hostile.photo(64, 48, seed)
        (folder / name).write_bytes(hostile.encoded(picture, "JPEG"))
    return folder


def markers(output: Path) -> list[int]:
    """The numbers of the complete shards."""
    return sorted(int(path.stem) for path in (output / "round-0" / "_done").glob("*.json"))


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def data_files(output: Path) -> dict[str, str]:
    """sha256 of everything that may not differ from run to run, by path; leftovers included."""
    found = [output / "plan.parquet", *sorted((output / "round-0").rglob("*"))]
    return {str(path.relative_to(output)): digest(path) for path in found if path.is_file()}


def check_committed(output: Path) -> int:
    """Asserts that complete shards are whole and hold exactly their images; how many there are."""
    done = markers(output)
    if not done:
        return 0
    plan = pq.read_table(output / "plan.parquet")
    for shard in done:
        folder = output / "round-0"
        marker = json.loads((folder / "_done" / f"{shard:06d}.json").read_bytes())
        assert len(marker["files"]) == 3
        for name, facts in marker["files"].items():
            assert digest(folder / name) == facts["sha256"], f"{name} is not what its marker says"
        planned = plan.filter(plan_rows_of(plan, shard))["image_key"].to_pylist()
        images = pq.read_table(folder / f"{shard:06d}.images.parquet")
        assert images["image_key"].to_pylist() == planned
        assert sum(marker["images"].values()) == len(planned)
    return len(done)


def plan_rows_of(plan: Any, shard: int) -> Any:
    return [number == shard for number in plan["shard"].to_pylist()]


def rows(output: Path) -> list[dict[str, Any]]:
    """Every row of every annotations table, in shard order."""
    tables = sorted((output / "round-0").glob("*.annotations.parquet"))
    return [row for path in tables for row in pq.read_table(path).to_pylist()]


def images(output: Path) -> dict[str, dict[str, Any]]:
    """Every row of the images tables, by uri."""
    tables = sorted((output / "round-0").glob("*.images.parquet"))
    found = [row for path in tables for row in pq.read_table(path).to_pylist()]
    by_uri = {row["uri"]: row for row in found}
    assert len(by_uri) == len(found)
    return by_uri


def interrupt(command: Command, number: signal.Signals) -> None:
    """The signal as a terminal or a scheduler sends it: to the command alone."""
    command.process.send_signal(number)
