"""What a run is asked to do, and who is told of it."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from engine.config import Config
from engine.dataset import FIRST
from engine.judge import RuleEntry
from engine.protocols import Specialist
from engine.status import Run

VERSION = FIRST


class Observer:
    """What a run reports while it runs. Every method may be left as it is."""

    def planned(self, run: Run) -> None:
        """The plan is made or read; nothing has started."""

    def started(self, run: Run) -> None:
        """All models are loaded."""

    def shard_done(self, run: Run, marker: dict[str, Any]) -> None:
        """A shard was committed."""

    def tick(self, run: Run) -> None:
        """A moment has passed."""


@dataclass(frozen=True)
class Job:
    """A run, resolved: its config, and the specialists and rules built from it."""

    config: Config
    specialists: Sequence[Specialist]
    rules: Sequence[RuleEntry]
