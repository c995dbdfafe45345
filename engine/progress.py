"""What a person sees of a run: a live bar on a terminal, one quiet line per shard elsewhere."""

import logging
import time
from typing import Any

from rich.console import Console, Group
from rich.live import Live
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from engine.job import Observer
from engine.status import Run

_log = logging.getLogger(__name__)


class TerminalObserver(Observer):
    """A bar with images/s and time left, and a line per specialist; for terminals."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._live: Live | None = None

    def planned(self, run: Run) -> None:
        """Says what is about to happen."""
        self._console.print(plan_line(run))
        self._console.print("loading models ...")

    def started(self, run: Run) -> None:
        """Shows the bar."""
        self._live = Live(_picture(run), console=self._console, refresh_per_second=2)
        self._live.start()

    def tick(self, run: Run) -> None:
        """Moves the bar."""
        if self._live is not None:
            self._live.update(_picture(run))

    def close(self) -> None:
        """Leaves the last picture on the terminal."""
        if self._live is not None:
            self._live.stop()
            self._live = None


class LogObserver(Observer):
    """One line per shard; for logs, pipes and schedulers."""

    def planned(self, run: Run) -> None:
        """Says what is about to happen."""
        _log.info("%s", plan_line(run))

    def shard_done(self, run: Run, marker: dict[str, Any]) -> None:
        """Counts of the shard, and how fast the run is."""
        images, annotations = marker["images"], marker["annotations"]
        kept = sum(n for name, n in annotations.items() if name.endswith("/kept"))
        _log.info(
            "shard %06d: %d images ok, %d failed, %d duplicates; %d rows kept of %d; "
            "%d of %d shards, %.1f images/s, %s left",
            marker["shard"],
            images["ok"],
            images["failed"],
            images["duplicate"],
            kept,
            sum(annotations.values()),
            run.shards_done,
            run.num_shards,
            run.images_per_second,
            time_left(run),
        )

    def close(self) -> None:
        """Nothing is open."""


def plan_line(run: Run) -> str:
    """One line: how many images and shards, and what is done already."""
    line = f"{run.plan.num_rows:,} images in {run.num_shards:,} shards"
    if run.shards_done:
        line += f", {run.shards_done:,} shards done already"
    ignored = sum(run.ignored.values())
    if ignored:
        reasons = ", ".join(f"{n:,} {reason}" for reason, n in sorted(run.ignored.items()))
        line += f"; ignored {ignored:,} other files ({reasons})"
    return line


def time_left(run: Run) -> str:
    """Time to the end at the speed so far, as h:mm:ss; `?` before the first image."""
    rate = run.images_per_second
    if rate <= 0:
        return "?"
    return clock((run.plan.num_rows - run.images_done) / rate)


def clock(seconds: float) -> str:
    """Seconds as h:mm:ss.

    Example:
        >>> clock(3725.4)
        '1:02:05'
    """
    minutes, rest = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}"


def _picture(run: Run) -> Group:
    total, done = run.plan.num_rows, run.images_done
    elapsed = time.monotonic() - run.started_at
    line = Table.grid(padding=(0, 1))
    line.add_row(
        ProgressBar(total=total, completed=done, width=40),
        Text(f"{done / max(total, 1):4.0%}"),
        Text(f"{done:,.0f}/{total:,} images"),
        Text(f"{run.images_per_second:.1f}/s"),
        Text(f"{clock(elapsed)} so far, {time_left(run)} left"),
    )
    table = Table(box=None, pad_edge=False, header_style="dim")
    for heading in ("specialist", "workers", "queue", "images", "ms/image", "rows", "failures"):
        table.add_column(heading, justify="left" if heading == "specialist" else "right")
    for name, pool in run.pools.items():
        failures = Text(f"{pool.num_failures:,}", style="red" if pool.num_failures else "")
        cost = 1000 * pool.busy_s / pool.num_images if pool.num_images else 0
        table.add_row(
            name,
            str(pool.size),
            str(pool.queued),
            f"{pool.num_images:,}",
            f"{cost:,.0f}",
            f"{pool.num_rows:,}",
            failures,
        )
    return Group(line, table)
