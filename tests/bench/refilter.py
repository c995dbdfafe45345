"""Child: `fld filter` over a dataset's shards, beside reading and writing their tables alone."""

import resource
import time
from pathlib import Path

import pyarrow.parquet as pq

from engine.compose import compose
from engine.config import RunnerConfig, parse_config
from engine.filtering import Filtering, filter_dataset
from engine.reading import read_tables
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
