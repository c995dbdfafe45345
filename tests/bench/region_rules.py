"""Child: the region rules and the judge around them, on one core, in rows per second."""

import os
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.compose import with_required_rules
from engine.judge import RuleEntry, judge
from engine.protocols import Context, Rule
from engine.schema import ANNOTATIONS, Tables, Verdicts
from engine.shard import JudgePlan, settle
from filters import RULES
from tests.bench.children import answer, read_job

_IMAGES, _BATCH = 256, 16  # of a shard, as the config's defaults have it
_FEWEST_ROWS = 1_000_000
# Every region rule, in the order of a config, each with its defaults; a list of classes has none.
_ENTRIES: list[dict[str, Any]] = [
    {"rule": "invalid_box"},
    {"rule": "min_score"},
    {"rule": "class_list", "deny": ["toothbrush", "vehicle"]},
    {"rule": "min_area"},
    {"rule": "max_area_fraction"},
    {"rule": "aspect_ratio"},
    {"rule": "border_sliver"},
    {"rule": "duplicate_region"},
    {"rule": "contained_region"},
    {"rule": "max_regions"},
    {"rule": "orphan"},
]


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
    folder = Path(job["folder"])
    images, rows = (pq.read_table(folder / f"{n}.parquet") for n in ("images", "annotations"))
    tiled = list(shards(Tables(images, rows), job.get("rows", _FEWEST_ROWS)))
    lax = [{**e, "limits": {"*": 0.0}} if e["rule"] == "min_score" else e for e in _ENTRIES]
    runs = {"default limits": _measure(tiled, _ENTRIES), "no limit of score": _measure(tiled, lax)}
    answer({"runs": runs, "shards": len(tiled), "rows": sum(t.annotations.num_rows for t in tiled)})


def shards(real: Tables, fewest_rows: int) -> Iterator[Tables]:
    """Shards of 256 images, the real ones over and over, until there are that many rows.

    Keys and ids differ, boxes, scores and classes are as they were claimed.
    """
    photos = real.images["image_key"].to_pylist()
    of_photo = pc.index_in(real.annotations["image_key"], pa.array(photos)).to_numpy()
    starts = np.searchsorted(of_photo, np.arange(len(photos) + 1))  # rows stand by image
    done, number = 0, 0
    while done < fewest_rows:
        chosen = np.arange(number, number + _IMAGES)
        counts = np.diff(starts)[chosen % len(photos)]
        first = np.repeat(starts[chosen % len(photos)] - np.cumsum(counts) + counts, counts)
        rows = real.annotations.take(pa.array(first + np.arange(counts.sum())))
        keys = pa.array([f"{n:08d}-0123456789" for n in chosen.tolist()])
        ids = pa.array([f"{n:020x}" for n in range(done, done + rows.num_rows)])
        named = {"annotation_id": ids, "region_id": ids}
        named["image_key"] = keys.take(pa.array(np.repeat(np.arange(_IMAGES), counts)))
        for name, column in named.items():
            rows = rows.set_column(rows.schema.get_field_index(name), name, column)
        images = real.images.take(pa.array(chosen % len(photos))).set_column(0, "image_key", keys)
        yield Tables(images.combine_chunks(), rows.combine_chunks())
        done, number = done + rows.num_rows, number + _IMAGES


def _measure(tiled: list[Tables], entries: list[dict[str, Any]]) -> dict[str, Any]:
    """Rows per second through each rule, all rules, the judge and the stage around them."""
    made = [
        RULES.find(entry["rule"])(**{k: v for k, v in entry.items() if k != "rule"})
        for entry in with_required_rules(entries)
    ]
    _once(tiled[0], made)  # warms up
    seconds: Counter[str] = Counter()
    for tables in tiled:
        seconds.update(_once(tables, made))
    num_rows = sum(tables.annotations.num_rows for tables in tiled)
    return {name: num_rows / value for name, value in seconds.items()}


def _once(tables: Tables, made: list[Rule]) -> Counter[str]:
    """Seconds of one shard."""
    rules = [Timed(rule) for rule in made]
    entries = tuple(RuleEntry(rule) for rule in rules)  # type: ignore[arg-type]  # name is no ClassVar
    earlier, keys = ANNOTATIONS.empty_table(), tables.images["image_key"].to_pylist()
    took = Counter(judge=_timed(judge, tables.images, earlier, tables.annotations, entries))
    took.update({rule.name: rule.seconds for rule in rules})
    took["all rules"] = sum(rule.seconds for rule in rules)
    batches = [keys[i : i + _BATCH] for i in range(0, len(keys), _BATCH)]
    claims = [tables.annotations]
    took["settle"] = _timed(settle, tables.images, None, claims, batches, JudgePlan(entries))
    return took


def _timed(function: Any, *arguments: Any) -> float:
    began = time.process_time()
    function(*arguments)
    return time.process_time() - began


if __name__ == "__main__":
    main()
