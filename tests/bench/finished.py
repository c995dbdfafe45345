"""Child: what it takes to find out that every shard of a large dataset is finished."""

import json
import resource
import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa

from engine import dataset
from engine.compose import compose
from engine.config import Config
from engine.run import Observer, annotate
from engine.sink import DONE, ShardFiles
from engine.source.filesystem import open_location
from engine.source.plan import PLAN
from engine.status import read_status
from tests.bench.children import answer, read_job

_VERSION = "round-0"
_IMAGES = 256  # per shard, in the marker's counts


def main() -> None:
    job = read_job()
    if job["what"] == "make":
        _make(Config(**job["config"]), job["shards"])
        answer({})
        return
    config = Config(**job["config"])
    began = time.monotonic()
    if job["what"] == "markers":
        found = len(dataset.Markers(open_location(config.output.uri), _VERSION).load())
    elif job["what"] == "status":
        found = read_status(open_location(config.output.uri), _VERSION)["shards"]["done"]
    else:
        found = annotate(compose(config), Observer()).shards_done
    seconds = time.monotonic() - began
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    answer({"found": found, "seconds": seconds, "peak_mb": peak_mb})


def _make(config: Config, num_shards: int) -> None:
    """A dataset of which every shard has its marker, and nothing else; one planned image each.

    The plan is not what is measured here: it takes some 80 bytes per image at any shard size.
    """
    names = [f"{n:08d}" for n in range(num_shards)]
    columns = [np.arange(num_shards, dtype=np.int32), names, [f"{n}.jpg" for n in names]]
    plan = pa.table([*columns, pa.array([1] * num_shards, pa.int64())], schema=PLAN)
    resolved = compose(config)
    identity = {
        **resolved.config.identity(),
        "revisions": {s.name: s.prepare() for s in resolved.specialists},
        "limit": None,
    }
    output = open_location(config.output.uri)
    modified = pa.nulls(num_shards, pa.int64())
    dataset.create_dataset(output, resolved.config, identity, plan, modified)
    folder = Path(config.output.uri) / _VERSION
    (folder / DONE).mkdir(parents=True)
    for shard in range(num_shards):
        path = folder / ShardFiles(shard).marker
        path.write_text(json.dumps(_marker(shard), indent=1) + "\n", encoding="utf-8")


def _marker(shard: int) -> dict[str, Any]:
    """As a shard of ten sources leaves it: some 2 kB."""
    files = ShardFiles(shard)
    sources = [f"source_{n}/region/category" for n in range(10)]
    return {
        "shard": shard,
        "images": {"ok": _IMAGES, "failed": 0, "duplicate": 0, "rejected": 0},
        "failures": {},
        "annotations": {f"{s}/{status}": 1000 for s in sources for status in ("kept", "rejected")},
        "rules": {name: [10_000, 100] for name in ("invalid_box", "min_score", "orphan")},
        "files": {name: {"sha256": "0" * 64, "size_bytes": 10_000_000} for name in files.data},
    }


if __name__ == "__main__":
    main()
