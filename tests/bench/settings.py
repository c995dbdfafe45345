"""What every part of the benchmarks is given: where to work, how thoroughly, how to tell."""

import shutil
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_BEGAN = time.monotonic()


@dataclass(frozen=True)
class Part:
    """One part of a run: a folder of its own, removed afterwards, and what it measured in full."""

    folder: Path
    quick: bool
    raw: dict[str, Any] = field(default_factory=dict)

    @contextmanager
    def scratch(self) -> Iterator[Path]:
        """A folder that does not exist yet and is gone afterwards."""
        place = self.folder / "out"
        try:
            yield place
        finally:
            shutil.rmtree(place, ignore_errors=True)


def say(line: str) -> None:
    """A line of progress, with the minutes since the start."""
    sys.stderr.write(f"[{(time.monotonic() - _BEGAN) / 60:5.1f} min] {line}\n")
    sys.stderr.flush()
