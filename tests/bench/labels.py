"""Labels that exist: a COCO file filtered beside Datumaro, and the shards of a dataset again."""

import json
import os
import subprocess
import sys
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.children import ONE_THREAD, run_child
from tests.bench.results import Row
from tests.bench.settings import Part, say

# A Python that has the peers installed; they need other versions of our own packages.
_PEERS = os.environ.get("FLD_BENCH_PEERS")
_HERE = Path(__file__).parent
_DATA = Path(os.environ.get("FLD_TEST_DATA", "../shared/data"))
_COPY_BAR, _PEER_BAR, _MEMORY_BAR_MB = 0.7, 100.0, 2_000.0


def labels(part: Part) -> list[Row]:
    """Ratios of CPU seconds for the file, of wall clock for the shards."""
    if not _DATA.is_dir():
        say(f"labels: no {_DATA}; set FLD_TEST_DATA to the folder of the test data")
        return []
    num_rows = 100_000 if part.quick else 1_000_000
    job = {"data": str(_DATA.resolve()), "folder": str(part.folder), "rows": num_rows}
    made = run_child("coco_results", job)
    say(
        f"labels: {made['rows']:,} results on {made['images']:,} images, "
        f"{made['detected']:,} detections of 80 photos x {made['copies']}"
    )
    part.raw["labels"] = {"made": made}
    return [*_beside_datumaro(part), *_shards(part, made["rows"])]


def _beside_datumaro(part: Part) -> list[Row]:
    ours = run_child("labels_ours", {"folder": str(part.folder)}, variables=ONE_THREAD)
    part.raw["labels"]["ours"] = ours
    whole = sum(ours[step] for step in ("read", "filter", "write"))
    rows = [
        Row("labels", "filter step", ours["rows"] / ours["filter"] / 1e6, "M rows/s"),
        Row("labels", "file to file", ours["rows"] / whole / 1e6, "M rows/s"),
    ]
    if _PEERS is None:
        say("labels: datumaro left out; FLD_BENCH_PEERS names a Python that has it")
        return rows
    run = subprocess.run(
        [_PEERS, str(_HERE / "labels_datumaro.py"), str(part.folder)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **ONE_THREAD, "PYTHONPATH": ""},
    )
    if run.returncode:
        sys.stderr.write(run.stderr[-2000:])
        say("labels: datumaro failed, see above")
        return rows
    theirs: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    part.raw["labels"]["datumaro"] = theirs
    if (ours["rows"], ours["kept"]) != (theirs["rows"], theirs["kept"]):
        raise RuntimeError(f"not the same survivors: {ours} and {theirs}")
    all_theirs = sum(theirs[step] for step in ("read", "filter", "write"))
    name = f"datumaro {theirs['version']}"
    ratio = theirs["filter"] / ours["filter"]
    say(f"labels: filter step {ratio:.0f} x {name}, file to file {all_theirs / whole:.1f} x")
    return [
        *rows,
        Row("labels", f"filter step / {name}", ratio, "x", _PEER_BAR, at_most=False),
        Row("labels", f"file to file / {name}", all_theirs / whole, "x"),
    ]


def _shards(part: Part, num_rows: int) -> list[Row]:
    dataset = part.folder / "dataset"
    command = [sys.executable, "-m", "engine.cli", "import", f"{part.folder}/results.json"]
    command += [str(dataset), "kind=coco", f"annotations={part.folder}/instances.json"]
    command += ["shard_size=256", "output.views=false"]
    subprocess.run(command, check=True, capture_output=True)
    job = {"dataset": str(dataset), "scratch": str(part.folder / "copy"), "views": True}
    found = {}
    for runner in ("serial", "ray"):
        repeats = 1 if runner == "ray" else 3 if part.quick else 7
        asked = {**job, "runner": runner, "repeats": repeats}
        found[runner] = run_child("refilter", asked)
        part.raw["labels"][runner] = found[runner]
    ratios = {
        runner: median(copied / filtered for copied, filtered in told["pairs"])
        for runner, told in found.items()
    }
    serial = found["serial"]
    say(f"labels: a filter runs at {ratios['serial']:.2f} of copying the tables alone")
    return [
        Row("labels", "fld filter / copying tables", ratios["serial"], "x", _COPY_BAR, False),
        Row("labels", "with Ray, its start counted", ratios["ray"], "x"),
        *_scaling(found["ray"]["workers"]),
        Row("labels", "with the nested views", num_rows / serial["views"] / 1e6, "M rows/s"),
        Row("labels", f"peak at {num_rows:,} rows", serial["peak_mb"], "MB", _MEMORY_BAR_MB),
    ]


def _scaling(seconds: dict[str, float]) -> list[Row]:
    """How much faster all cores are than one."""
    most = max(seconds, key=int)
    if most == "1":
        return []
    return [Row("labels", f"{most} Ray workers / 1", seconds["1"] / seconds[most], "x")]
