"""`log.jsonl`: one line for each optimizer step, none doubled, none missing, whatever happened."""

import json
import os
from pathlib import Path
from types import TracebackType
from typing import Any, Self


def read_log(path: Path) -> list[dict[str, Any]]:
    """All whole lines, in order; none where the file is missing.

    A line: `step` (counted from 1), `loss` (mean of the tokens of its examples, natural logarithm),
    `tasks` (the same by task), `learning_rate`, `grad_norm` (before clipping), `examples_per_s`,
    `seconds` (since the training began, all its runs together), and where it was validated after
    the step `valid` and `valid_tasks`.
    """
    lines = []
    try:
        content = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return []
    for line in content.splitlines():
        try:
            lines.append(json.loads(line))
        except ValueError:  # the last one, of a process that was killed while it wrote
            break
    return lines


class TrainLog:
    """The open log of a training that goes on behind a step."""

    def __init__(self, path: Path, step: int) -> None:
        """Drops the lines of steps that are to be done again.

        Args:
            path: Of the file.
            step: How many steps are done.
        """
        kept = [line for line in read_log(path) if line["step"] <= step]
        self._seconds = kept[-1]["seconds"] if kept else 0.0
        aside = path.with_name(f".{path.name}.tmp")
        aside.write_text("".join(_spell(line) for line in kept), encoding="utf-8")
        aside.replace(path)
        self._file = path.open("a", encoding="utf-8", buffering=1)

    @property
    def seconds(self) -> float:
        """Spent before this run."""
        return float(self._seconds)

    def write(self, line: dict[str, Any]) -> None:
        """Adds a line."""
        self._file.write(_spell(line))

    def sync(self) -> None:
        """Returns when all lines are on the disk."""
        self._file.flush()
        os.fsync(self._file.fileno())

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._file.close()


def _spell(line: dict[str, Any]) -> str:
    return json.dumps(line) + "\n"
