"""How a run stands, for anyone who can read the output: written while it runs, read at any time."""

import json
import time
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa

from engine import dataset
from engine.lease import holder
from engine.output import read_if_there
from engine.pool import Pool
from engine.source.shapes import Location

STATUS = "_run/status.json"


@dataclass
class Run:
    """A run as its observer sees it."""

    plan: pa.Table
    num_shards: int
    levels: list[list[str]]
    ignored: dict[str, int] = field(default_factory=dict)  # files of the source that are no images
    totals: dataset.Totals = field(default_factory=dataset.Totals)
    shards_done: int = 0
    pools: dict[str, Pool] = field(default_factory=dict)
    resumed_images: int = 0
    resumed_ok: int = 0
    started_at: float = 0.0  # monotonic, when the models were loaded

    @property
    def images_done(self) -> float:
        """Images finished, those of shards under way counted by what their specialists answered."""
        answered = [pool.num_images for pool in self.pools.values()]
        committed = self.totals.images.get("ok", 0) - self.resumed_ok
        under_way = max(0.0, sum(answered) / len(answered) - committed) if answered else 0.0
        return min(self.totals.num_images + under_way, float(self.plan.num_rows))

    @property
    def images_per_second(self) -> float:
        """Of this run alone, since its models were loaded; 0 before that."""
        if not self.started_at:
            return 0.0
        return (self.images_done - self.resumed_images) / max(
            time.monotonic() - self.started_at, 1e-3
        )


class StatusFile:
    """The status of a run in the output's `_run` folder."""

    def __init__(self, output: Location) -> None:
        self._output = output

    def write(self, run: Run, state: str) -> None:
        """Replaces the status; `state` is running, finished or stopped."""
        content = {"state": state, "updated": time.time(), **snapshot(run)}
        self._output.write(STATUS, (json.dumps(content, indent=1) + "\n").encode())


def snapshot(run: Run) -> dict[str, Any]:
    """The numbers of a run at this moment."""
    rate = run.images_per_second
    left = run.plan.num_rows - run.images_done
    return {
        "images": {"planned": run.plan.num_rows, **run.totals.images},
        "shards": {"planned": run.num_shards, "done": run.shards_done},
        "images_per_second": round(rate, 3),
        "eta_s": round(left / rate, 1) if rate > 0 else None,
        "failures": run.totals.failures,
        "specialists": {
            name: {
                "workers": pool.size,
                "queued_batches": pool.queued,
                "images": pool.num_images,
                "rows": pool.num_rows,
                "failures": pool.num_failures,
                "seconds_per_image": round(pool.busy_s / max(pool.num_images, 1), 6),
            }
            for name, pool in run.pools.items()
        },
        "usage": usage(run),
    }


def usage(run: Run) -> dict[str, dict[str, int]]:
    """What the answers of this run cost, by specialist and unit; only those that cost something."""
    return {name: dict(pool.usage) for name, pool in run.pools.items() if pool.usage}


def read_status(output: Location, version: str) -> dict[str, Any]:
    """State, totals and last known speed of a dataset, from its markers and its driver's last word.

    Returns:
        `state` is `finished`, `running`, or `interrupted` (no living driver, shards left: the same
        command resumes).

    Raises:
        ConfigError: There is no dataset.
    """
    content = dataset.read_dataset(output)
    markers = dataset.Markers(output, version)
    done = len(markers.load())
    totals = dataset.Totals()
    for marker in markers.each():
        totals.add(marker)
    raw = read_if_there(output, STATUS)
    last = json.loads(raw.to_pybytes()) if raw is not None else {}
    alive = holder(output)
    if done == content["shards"] and alive is None:
        state = "finished"
    else:
        state = "running" if alive is not None else "interrupted"
    return {
        "state": state,
        "driver": alive,
        "shards": {"planned": content["shards"], "done": done},
        "images": {"planned": content["images"], **totals.images},
        "failures": totals.failures,
        "annotations": totals.annotations,
        "rules": {name: [count.judged, count.rejected] for name, count in totals.rules.items()},
        "last": last,
    }
