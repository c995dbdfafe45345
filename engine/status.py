"""How a run stands, for anyone who can read the output: written while it runs, read at any time."""

import json
import time
from typing import TYPE_CHECKING, Any

from engine import dataset
from engine.lease import holder
from engine.output import read_if_there
from engine.source.shapes import Location

if TYPE_CHECKING:
    from engine.run import Run

STATUS = "_run/status.json"


class StatusFile:
    """The status of a run in the output's `_run` folder."""

    def __init__(self, output: Location) -> None:
        self._output = output

    def write(self, run: "Run", state: str) -> None:
        """Replaces the status; `state` is running, finished or stopped."""
        content = {"state": state, "updated": time.time(), **snapshot(run)}
        self._output.write(STATUS, (json.dumps(content, indent=1) + "\n").encode())


def snapshot(run: "Run") -> dict[str, Any]:
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
    }


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
