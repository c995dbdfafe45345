"""What happened in a run, one JSON line per event, in files that differ from run to run."""

import json
import time
from typing import Any

from engine.source.shapes import Location

EVENTS = "_run/events"

# Each flush is a file of its own, since buckets cannot append: at most 1,440 a day.
_FLUSH_S = 60.0


class EventLog:
    """The events of one run, in parts named by its start: `_run/events/START-0001.jsonl`."""

    def __init__(self, output: Location) -> None:
        self._output = output
        self._name = time.strftime("%Y%m%dT%H%M%S", time.gmtime())
        self._lines: list[str] = []
        self._part = 0
        self._flushed = time.monotonic()

    def add(self, event: str, **details: Any) -> None:
        """Takes note of an event; it is written with the next flush."""
        self._lines.append(json.dumps({"time": round(time.time(), 3), "event": event, **details}))

    def flush_if_due(self) -> None:
        """Writes what has gathered, once a minute."""
        if time.monotonic() - self._flushed >= _FLUSH_S:
            self.flush()

    def flush(self) -> None:
        """Writes what has gathered as a new part."""
        self._flushed = time.monotonic()
        lines, self._lines = self._lines, []
        if not lines:
            return
        self._part += 1
        path = f"{EVENTS}/{self._name}-{self._part:04d}.jsonl"
        self._output.write(path, ("\n".join(lines) + "\n").encode())
