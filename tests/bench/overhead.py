"""The engine beside a hand-written loop and `ray.data`: the same specialists, the same cores."""

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from tests.bench.children import run_child
from tests.bench.pictures import make_pictures, repeat_photos
from tests.bench.results import Row
from tests.bench.settings import Part, say
from tests.conftest import shared_data

_RUNNERS = {"hand-written loop": "hand_loop", "engine": "engine_run", "ray.data": "ray_data"}
_RULES = [{"rule": name} for name in ("min_score", "min_area", "duplicate_region")]
# Three on two levels: two detectors, and a text that waits for the kept rows of both.
_NULLS = [
    {"kind": "null", "name": "a"},
    {"kind": "null", "name": "b"},
    {
        "kind": "null",
        "name": "c",
        "num_rows": 1,
        "kinds": ["text/brief"],
        "after": ["region/category"],
    },
]
_DETECTOR = "weights/yolo11n_int8_openvino_model"


@dataclass(frozen=True)
class _Race:
    """One set of specialists over one folder of pictures."""

    title: str
    folder: Path
    specialists: Sequence[dict[str, Any]]
    workers: dict[str, int]

    def config(self, output: Path) -> dict[str, Any]:
        return {
            "source": {"uri": str(self.folder)},
            "output": {"uri": str(output)},
            "specialists": list(self.specialists),
            "rules": _RULES,
            "runner": {"workers": self.workers},
        }


def real(part: Part) -> list[Row]:
    """A detector (YOLO11n, int8, OpenVINO) on every core, and captions made of what it finds."""
    photos = shared_data() / "coco80" / "images"
    if not photos.is_dir():
        say("real: skipped, no photos and weights; set FLD_TEST_DATA to their folder")
        return []
    count = 320 if part.quick else 1280
    cores = os.cpu_count() or 1
    detector = {"kind": "yolo", "task": "detect", "model": str(shared_data() / _DETECTOR)}
    race = _Race(
        "photos, yolo11n + composer",
        repeat_photos(photos, part.folder / "photos", count),
        [detector, {"kind": "composer"}],
        {"yolo": cores, "composer": 1},
    )
    found = _run(part, race, repeats=1 if part.quick else 3)
    return [*_ratios(race, found, bar=0.95), _added(race, found)]


def null(part: Part) -> list[Row]:
    """Three specialists that do nothing on two levels: what is left is the engine's own cost."""
    count = 1536 if part.quick else 6144
    rows = []
    for width, height in ((64, 64), (640, 480)):
        race = _Race(
            f"null specialists, {width} x {height} px",
            make_pictures(part.folder / f"{width}", count, width, height),
            _NULLS,
            {entry["name"]: 1 for entry in _NULLS},
        )
        found = _run(part, race, repeats=1 if part.quick else 3)
        rows += _ratios(race, found, bar=None)
        runs = found["engine"]
        cost = _median(1000 * run["seconds"] / run["images"] for run in runs)
        rows.append(Row(race.title, "engine, whole run", cost, "ms/image", 2.5))
        steady = _median(1000 * _steady(run, 0) for run in runs)
        rows.append(Row(race.title, "engine, after the first shards", steady, "ms/image", 2.5))
        cpu = _median(1000 * _steady(run, 1) for run in runs)
        rows.append(Row(race.title, "engine, after the first shards, CPU", cpu, "ms/image"))
    return rows


def _run(part: Part, race: _Race, repeats: int) -> dict[str, list[dict[str, Any]]]:
    """Every runner in turn, round after round, so that a busy machine is busy for all of them."""
    found: dict[str, list[dict[str, Any]]] = {name: [] for name in _RUNNERS}
    for number in range(repeats):
        for name, module in _RUNNERS.items():
            with part.scratch() as output:
                job = {"config": race.config(output), "cores": os.cpu_count()}
                result = run_child(module, job)
            rate = result["images"] / result["seconds"]
            say(f"{race.title}: {name}, run {number + 1} of {repeats}: {rate:,.1f} images/s")
            found[name].append(result)
    rows = {name: {run["rows"] for run in runs} for name, runs in found.items()}
    assert len(set().union(*rows.values())) == 1, f"{race.title}: not the same work: {rows}"
    part.raw[race.title] = found
    return found


def _added(race: _Race, found: dict[str, list[dict[str, Any]]]) -> Row:
    """What the engine takes on top of the loop for reading, proving, judging and writing an image.

    CPU time, which says the same on a busy machine; it does not depend on the specialists, so that
    the ratio for others follows from it.
    """
    cpu = {
        name: [1000 * r["cpu_seconds"] / r["images"] for r in runs] for name, runs in found.items()
    }
    pairs = zip(cpu["engine"], cpu["hand-written loop"], strict=True)
    added = _median(mine - theirs for mine, theirs in pairs)
    return Row(race.title, "engine minus hand-written loop, CPU", added, "ms/image")


def _ratios(race: _Race, found: dict[str, list[dict[str, Any]]], bar: float | None) -> list[Row]:
    """Rates are medians; ratios are medians of the ratios of runs that followed each other."""
    rates = {name: [r["images"] / r["seconds"] for r in runs] for name, runs in found.items()}
    rows = [Row(race.title, name, median(rate), "images/s") for name, rate in rates.items()]
    for other, limit in (("hand-written loop", bar), ("ray.data", None)):
        pairs = zip(rates["engine"], rates[other], strict=True)
        ratio = _median(mine / theirs for mine, theirs in pairs)
        rows.append(Row(race.title, f"engine / {other}", ratio, "", limit, at_most=False))
    for name, runs in found.items():
        rows.append(Row(race.title, f"{name}, start-up", _median(r["startup"] for r in runs), "s"))
    return rows


def _steady(run: dict[str, Any], column: int) -> float:
    """Seconds (of the clock, or of CPU) per image once as many shards are done as are in flight."""
    settled = min(3, len(run["commits"]) - 2)
    first, last = run["commits"][settled - 1], run["commits"][-1]
    return float((last[column] - first[column]) / (last[2] - first[2]))


def _median(values: Any) -> float:
    return float(median(values))
