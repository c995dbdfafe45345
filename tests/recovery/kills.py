"""Kills runs at seeded moments, starts the same command again, and keeps account of the hits."""

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from engine.sink import ShardFiles
from tests.faults.commands import Command, Shell, check_committed, data_files, markers
from tests.faults.fixtures import BAD_DISK, runner_of

# Seconds in which a process started on a quiet machine imports, and in which Ray starts.
_IMPORTS_S, _RAY_STARTS_S = 1.0, 4.0
_PAUSE_S = 0.4  # after each of the three renames of a shard
_NEAR_END = 3  # shards left to do
_MOST_OUTPUTS = 12  # some aims miss the end of a run; more than a few misses are a mistake


@dataclass(frozen=True)
class Aim:
    """When to kill: `moment` is one of the methods of `_Watch`, `runner` where the work is done."""

    moment: str
    runner: str


@dataclass
class Kills:
    """Runs a config to its end through kills, as often as it takes, each time into a new output."""

    shell: Shell
    config: Path
    reference: dict[str, str]  # `data_files` of an undisturbed run
    num_shards: int
    rng: np.random.Generator
    hits: list[tuple[Aim, frozenset[str]]] = field(default_factory=list)
    finished: int = 0

    def live(self, name: str, aims: list[Aim], last: str) -> None:
        """One output: a kill for each aim, then the same command to its end, on the runner `last`.

        A run that ends before its kill is whole, and that kill and all after it go into a new
        output.
        """
        output = self.shell.folder / f"{name}-{self.finished}"
        for i, aim in enumerate(aims):
            if self._hit(output, aim):
                continue
            self._check_end(output)
            assert self.finished < _MOST_OUTPUTS, f"{aim} is never met"
            return self.live(name, aims[i:], last)
        command = self._start(output, Aim("end", last))
        assert command.wait() == 0, command.said
        self._check_end(output)
        return None

    def _hit(self, output: Path, aim: Aim) -> bool:
        command = self._start(output, aim)
        watch = _Watch(command, output, self.num_shards, self.rng, aim.runner == "ray")
        if not getattr(watch, aim.moment)():
            assert command.wait() == 0, command.said
            return False
        if not command.running():
            return False
        command.kill()
        check_committed(output)
        self.hits.append((aim, frozenset(_what_was_there(output, command, self.num_shards))))
        return True

    def _start(self, output: Path, aim: Aim) -> Command:
        variables = {"PYTHONPATH": BAD_DISK}
        if aim.moment == "committing":
            variables["FLD_TEST_COMMIT_PAUSE_S"] = str(_PAUSE_S)
        settings = [f"output.uri={output}", *runner_of(aim.runner)]
        return self.shell.start("annotate", self.config, *settings, variables=variables)

    def _check_end(self, output: Path) -> None:
        self.finished += 1
        assert check_committed(output) == self.num_shards
        assert data_files(output) == self.reference


@dataclass
class _Watch:
    """Waits for a moment of a run; each method answers whether it came before the end."""

    command: Command
    output: Path
    num_shards: int
    rng: np.random.Generator
    ray: bool

    def __post_init__(self) -> None:
        self._before = len(markers(self.output))

    def importing(self) -> bool:
        return self._sometime(_IMPORTS_S)

    def creating(self) -> bool:
        """With the lease and maybe a half-written plan: before there is a dataset."""
        return self._after((self.output / "_run" / "lease.json").exists, 0.4)

    def loading(self) -> bool:
        return self._after(self._has_lease, _RAY_STARTS_S if self.ray else _IMPORTS_S)

    def annotating(self) -> bool:
        """With some more shards done than before, and others in any state."""
        more = int(self.rng.integers(0, 3))
        enough = min(self._before + more, self.num_shards - _NEAR_END)
        return self._after(lambda: self._works() and len(markers(self.output)) >= enough, 0.3)

    def committing(self) -> bool:
        """After the first rename of a shard, for as long as the pauses of its commit."""
        return self._after(lambda: bool(half_committed(self.output, self.command)), 3 * _PAUSE_S)

    def ending(self) -> bool:
        return self._after(lambda: len(markers(self.output)) > self.num_shards - _NEAR_END, 0.1)

    def _has_lease(self) -> bool:
        lease = self.output / "_run" / "lease.json"
        return _written(lease, self.command) and (self.output / "dataset.json").exists()

    def _works(self) -> bool:
        return _written(self.output / "_run" / "status.json", self.command)

    def _after(self, seen: Callable[[], bool], longest_s: float) -> bool:
        return self.command.wait_until(seen) and self._sometime(longest_s)

    def _sometime(self, longest_s: float) -> bool:
        end = time.monotonic() + self.rng.uniform(0, longest_s)
        return (
            not self.command.wait_until(lambda: time.monotonic() >= end) or self.command.running()
        )


def half_committed(output: Path, command: Command) -> list[int]:
    """Shards of which this command has renamed the first file, and not the last or no marker."""
    folder = output / "round-0"
    begun = {int(path.stem) for path in folder.glob("*.tar") if _renamed(path, command)}
    last = {shard: folder / ShardFiles(shard).data[-1] for shard in begun & set(markers(output))}
    return sorted(begun - {shard for shard, path in last.items() if _renamed(path, command)})


def _what_was_there(output: Path, command: Command, num_shards: int) -> list[str]:
    """The phases a killed run was in, by what it left on the disk."""
    if not (output / "dataset.json").exists():
        return ["before the plan" if not (output / "plan.parquet").exists() else "creating"]
    found = []
    for shard in half_committed(output, command):
        files = ShardFiles(shard).data
        there = sum(_renamed(output / "round-0" / name, command) for name in files)
        found.append(f"{there} of 3 files renamed")
    if list((output / "_run" / "scratch").glob("*-*")):
        found.append("writing aside")
    if not _written(output / "_run" / "status.json", command):
        found.append("loading")
    else:
        found.append("annotating")
    if len(markers(output)) > num_shards - _NEAR_END:
        found.append("near the end")
    return found


def _written(path: Path, command: Command) -> bool:
    """Whether the file was written since the command started; mtime stays with a rename."""
    try:
        return path.stat().st_mtime_ns > command.started_ns
    except FileNotFoundError:
        return False


_renamed = _written
