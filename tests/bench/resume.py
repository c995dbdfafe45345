"""How soon 100,000 finished shards are known to be finished, and what the driver then holds."""

from statistics import median
from typing import Any

from tests.bench.children import run_child
from tests.bench.results import Row
from tests.bench.settings import Part, say

_TIMES_S, _DRIVER_MB = 10.0, 500.0


def resume(part: Part) -> list[Row]:
    """Markers read one by one, then through their table; `fld status`; a run with nothing to do."""
    shards = 2_000 if part.quick else 100_000
    source = part.folder / "source"
    source.mkdir()
    rows = []
    with part.scratch() as output:
        config: dict[str, Any] = {
            "source": {"uri": str(source)},
            "output": {"uri": str(output)},
            "specialists": [{"kind": "null"}],
        }
        say(f"resume: making {shards:,} markers")
        run_child("finished", {"what": "make", "config": config, "shards": shards})
        steps = (
            ("markers one by one", "markers", 3),
            ("first run with nothing to do, writes the table", "annotate", 1),
            ("markers through their table", "markers", 3),
            ("fld status", "status", 3),
            ("run with nothing to do", "annotate", 3),
        )
        for what, step, repeats in steps:
            runs = [run_child("finished", {"what": step, "config": config}) for _ in range(repeats)]
            assert all(run["found"] == shards for run in runs)
            seconds = median(run["seconds"] for run in runs)
            peak = median(run["peak_mb"] for run in runs)
            say(f"resume: {what}: {seconds:.1f} s, {peak:,.0f} MB")
            part.raw[f"resume, {what}"] = runs
            rows.append(Row("resume", f"{shards:,} shards, {what}", seconds, "s", _TIMES_S))
            rows.append(Row("resume", f"{shards:,} shards, {what}", peak, "MB", _DRIVER_MB))
    return rows
