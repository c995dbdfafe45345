"""Child: the region rules and the judge around them, on one core, in rows per second."""

import os
import time
from dataclasses import dataclass, field
from statistics import median
from typing import Any

import numpy as np
import pyarrow as pa

from engine.compose import with_required_rules
from engine.judge import RuleEntry, judge
from engine.protocols import Context, Rule
from engine.schema import ANNOTATIONS, Tables, Verdicts, claims, image_rows
from engine.shard import JudgePlan, settle
from filters import RULES
from tests.bench.children import answer, read_job

_WIDTH, _HEIGHT = 640, 480
_CLASSES = np.array([f"class {n}" for n in range(80)], object)
_SOURCES = 2  # each claims every object, so that half of the rows are duplicates
_JITTER = 4.0  # px, between what two detectors say of one object
_IMAGES, _BATCH = 256, 16  # of a shard, as the config's defaults have it
NAMES = ("invalid_box", "min_score", "min_area", "duplicate_region", "orphan")


@dataclass
class Timed:
    """A rule that adds up the time it takes."""

    rule: Rule
    seconds: float = 0.0
    name: str = field(init=False)
    applies_to: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        self.name, self.applies_to = self.rule.name, self.rule.applies_to

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        began = time.process_time()
        verdicts = self.rule.judge(tables, context)
        self.seconds += time.process_time() - began
        return verdicts


def main() -> None:
    job = read_job()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    pa.set_cpu_count(1)
    runs = {
        "shards of 10,240 rows": _measure(_IMAGES, 40, job["repeats"] * 10),
        f"one table of {job['images'] * 40:,} rows": _measure(job["images"], 40, job["repeats"]),
    }
    answer({"runs": runs})


def _measure(num_images: int, rows_per_image: int, repeats: int) -> dict[str, Any]:
    """Medians in rows per second of each rule, all rules, the judge and the stage around them."""
    tables = make_tables(num_images, rows_per_image)
    num_rows = tables.annotations.num_rows
    keys = tables.images["image_key"].to_pylist()
    batch_keys = [keys[i : i + _BATCH] for i in range(0, num_images, _BATCH)]
    seconds: dict[str, list[float]] = {}
    for repeat in range(repeats + 1):
        rules = [Timed(RULES.find(entry["rule"])()) for entry in with_required_rules(_ENTRIES)]
        entries = tuple(RuleEntry(rule) for rule in rules)  # type: ignore[arg-type]  # name is no ClassVar
        judged = _timed(
            judge, tables.images, ANNOTATIONS.empty_table(), tables.annotations, entries
        )
        took = {rule.name: rule.seconds for rule in rules}
        took |= {"all rules": sum(took.values()), "judge": judged}
        took["settle"] = _timed(
            settle, tables.images, None, [tables.annotations], batch_keys, JudgePlan(entries)
        )
        if repeat:  # the first warms up
            for name, value in took.items():
                seconds.setdefault(name, []).append(value)
    return {name: num_rows / median(values) for name, values in seconds.items()}


_ENTRIES: list[dict[str, Any]] = [{"rule": name} for name in NAMES]


def _timed(function: Any, *arguments: Any) -> float:
    began = time.process_time()
    function(*arguments)
    return time.process_time() - began


def make_tables(num_images: int, rows_per_image: int) -> Tables:
    """Objects seen by two detectors: a region row of each for every object, a little apart."""
    rng = np.random.default_rng(0)
    objects = num_images * rows_per_image // _SOURCES
    size = np.array([_WIDTH, _HEIGHT])
    sides = rng.uniform(0.02, 0.6, (objects, 2)) * size
    corners = rng.uniform(0, 1, (objects, 2)) * (size - sides)
    boxes = np.concatenate([corners, corners + sides], axis=1)
    said = [boxes + rng.normal(0, _JITTER, boxes.shape) for _ in range(_SOURCES)]
    keys = [f"{n:08d}-0123456789" for n in range(num_images)]
    seen = np.repeat(np.array(keys, object), rows_per_image // _SOURCES)
    texts = _CLASSES[rng.integers(0, len(_CLASSES), objects)]
    order = np.argsort(np.tile(np.arange(objects), _SOURCES), kind="stable")
    clipped = np.clip(np.concatenate(said), 0, np.tile(size, 2))  # as detectors do
    ids = pa.array([f"{n:020x}" for n in range(objects * _SOURCES)])
    annotations = claims(
        image_key=np.tile(seen, _SOURCES)[order],
        annotation_id=ids,
        region_id=ids,
        kind="region",
        role="category",
        text=np.tile(texts, _SOURCES)[order],
        box=clipped[order].astype(np.float32),
        score=rng.uniform(0.05, 1, objects * _SOURCES)[order].astype(np.float32),
        source=np.repeat(np.array(["yolo", "other"], object), objects)[order],
        model="none",
        revision="1",
    )
    images = image_rows(
        image_key=keys,
        uri=[f"{key}.jpg" for key in keys],
        width=[_WIDTH] * num_images,
        height=[_HEIGHT] * num_images,
        format="jpeg",
        status="ok",
    )
    return Tables(images, annotations)


if __name__ == "__main__":
    main()
