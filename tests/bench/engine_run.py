"""Child: the engine as `fld annotate` runs it, timed from models loaded to the last commit."""

import time
from typing import Any

from engine.compose import compose
from engine.config import Config
from engine.run import Observer, annotate
from engine.status import Run
from tests.bench.children import answer, read_job
from tests.bench.machine import cpu_seconds


class Clock(Observer):
    """Time and CPU time when the models were loaded, and when each shard was committed."""

    def __init__(self) -> None:
        self.loaded = (0.0, 0.0)
        self.commits: list[tuple[float, float, int]] = []

    def started(self, run: Run) -> None:
        self.loaded = (time.monotonic(), cpu_seconds())

    def shard_done(self, run: Run, marker: dict[str, Any]) -> None:
        self.commits.append((time.monotonic(), cpu_seconds(), run.totals.num_images))


def main() -> None:
    born = time.monotonic()
    job, clock = read_job(), Clock()
    run = annotate(compose(Config(**job["config"])), clock)
    totals = run.totals
    assert totals.images["ok"] == run.plan.num_rows, totals.images
    ended, spent, _ = clock.commits[-1]
    answer(
        {
            "images": run.plan.num_rows,
            "rows": sum(totals.annotations.values()),
            "seconds": ended - clock.loaded[0],
            "cpu_seconds": spent - clock.loaded[1],
            "startup": clock.loaded[0] - born,
            "commits": [(t - clock.loaded[0], c - clock.loaded[1], n) for t, c, n in clock.commits],
        }
    )


if __name__ == "__main__":
    main()
