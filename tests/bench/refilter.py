"""Child: `fld filter` over a dataset's shards, beside reading and writing their tables alone."""

import resource
import time
from pathlib import Path

import pyarrow.parquet as pq

from engine.compose import compose
from engine.config import RunnerConfig, parse_config
from engine.crew import scratch_folder
from engine.dataset import Markers
from engine.filtering import Filtering, filter_dataset
from engine.reading import read_tables
from engine.refilter import RefilterSpec, refilter_shard
from engine.rejudge import Replay
from engine.sink import Target
from engine.source.filesystem import open_location
from engine.source.shapes import Location
from engine.versions import undo
from tests.bench.children import answer, read_job

_RULES = [{"rule": "min_score"}, {"rule": "min_area"}, {"rule": "duplicate_region"}]


def main() -> None:
    job = read_job()
    place = open_location(job["dataset"])
    pairs = []
    for _ in range(job["repeats"]):
        began = time.perf_counter()
        num_rows = _copy_tables(place, Path(job["scratch"]))
        copied = time.perf_counter()
        _filter(place, job["runner"], views=False)
        filtered = time.perf_counter()
        pairs.append((copied - began, filtered - copied))
    if job["runner"] == "ray":
        answer({"pairs": pairs, "rows": num_rows, "workers": _by_workers(place)})
        return
    began = time.perf_counter()
    if job["views"]:
        _filter(place, job["runner"], views=True)
    answer(
        {
            "rows": num_rows,
            "pairs": pairs,
            "views": time.perf_counter() - began,
            "peak_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
        }
    )


def _copy_tables(place: Location, scratch: Path) -> int:
    scratch.mkdir(exist_ok=True)
    num_rows = 0
    for shard, images, rows in read_tables(place, "round-0"):
        num_rows += rows.num_rows
        for name, table in (("images", images), ("annotations", rows)):
            path = scratch / f"{shard}.{name}.parquet"
            pq.write_table(table, path, compression="zstd", version="2.6")
    return num_rows


def _by_workers(place: Location) -> dict[str, float]:
    """Seconds for all shards by number of workers, once their processes have started."""
    from engine import cluster

    cpus = int(cluster.connect(None))
    made = compose(parse_config({"source": {"uri": place.uri}, "rules": _RULES}, (), "bench"))
    spec = RefilterSpec(
        Target(place, "bench", scratch_folder(place), pixels=False, views=False),
        "round-0",
        Replay(levels=[["coco"]], rules=tuple(made.rules)),
    )
    shards = sorted(Markers(place, "round-0").load())
    took = {}
    for workers in (1, cpus, 1, cpus):  # the first round starts the processes
        began = time.perf_counter()
        for _ in cluster.RayTasks(workers, 600.0)(refilter_shard, spec, shards):
            pass
        took[str(workers)] = time.perf_counter() - began
    cluster.disconnect()
    return took


def _filter(place: Location, runner: str, *, views: bool) -> None:
    raw = {"source": {"uri": place.uri}, "rules": _RULES}
    made = compose(parse_config(raw, (), "bench"))
    filter_dataset(
        Filtering(
            output=place,
            rules=made.rules,
            options=made.config.rules,
            runner=RunnerConfig(kind=runner),  # type: ignore[arg-type]  # serial or ray
            views=views,
        )
    )
    undo(place)


if __name__ == "__main__":
    main()
