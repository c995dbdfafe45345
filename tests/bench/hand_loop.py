"""Child: what a script without an engine does. One process per core, each with its own models.

It decodes and annotates, and keeps nothing: no proof that an image is whole, no tables, no rules
but the score that anybody would ask for, no files.
"""

import multiprocessing
import os
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image as PillowImage

from engine.compose import compose
from engine.config import Config
from engine.pixels import EncodedImage
from engine.protocols import Specialist
from engine.schema import CLAIM
from engine.shard import level_order
from engine.worker import THREAD_VARIABLES
from specialists.null import Null
from tests.bench.children import answer, read_job
from tests.bench.machine import cpu_seconds

_SPAWN = multiprocessing.get_context("spawn")
_MIN_SCORE = 0.25  # the default of the rule `min_score`
_LOAD_TIMEOUT_S = 600


def main() -> None:
    job = read_job()
    born, cores = time.monotonic(), job["cores"]
    os.environ.update(dict.fromkeys(THREAD_VARIABLES, "1"))
    paths = sorted(Path(job["config"]["source"]["uri"]).rglob("*.jpg"))
    gate, counts = _SPAWN.Barrier(cores + 1, timeout=_LOAD_TIMEOUT_S), _SPAWN.Queue()
    workers = [
        _SPAWN.Process(target=_share, args=(job["config"], paths[i::cores], gate, counts))
        for i in range(cores)
    ]
    for worker in workers:
        worker.start()
    gate.wait()
    began, spent = time.monotonic(), cpu_seconds()
    answered = [counts.get() for _ in workers]
    ended, cpu = time.monotonic(), cpu_seconds() - spent
    gate.wait()
    for worker in workers:
        worker.join()
    answer(
        {
            "images": len(paths),
            "rows": sum(answered),
            "seconds": ended - began,
            "cpu_seconds": cpu,
            "startup": began - born,
        }
    )


def _share(config: dict[str, Any], paths: list[Path], gate: Any, counts: Any) -> None:
    specialists = in_order(compose(Config(**config)).specialists)
    for specialist in specialists:
        specialist.prepare()
        specialist.load()
    batch_size = Config(**config).runner.batch_size
    gate.wait()
    num_rows = 0
    for start in range(0, len(paths), batch_size):
        images = [read_image(path) for path in paths[start : start + batch_size]]
        if all(is_null(specialist) for specialist in specialists):
            for image in images:
                image.rgb()  # a model would
        num_rows += _annotate(specialists, images)
    counts.put(num_rows)
    gate.wait()  # alive until its CPU time was read


def in_order(specialists: Sequence[Specialist]) -> list[Specialist]:
    """The specialists, those first whose rows others need."""
    by_name = {specialist.name: specialist for specialist in specialists}
    return [by_name[name] for level in level_order(specialists) for name in level]


def is_null(specialist: Specialist) -> bool:
    """Whether it is without a model and never looks at a pixel."""
    return isinstance(specialist, Null)


def read_image(path: Path) -> EncodedImage:
    """A file and the size its header tells."""
    data = path.read_bytes()
    with PillowImage.open(path) as header:
        width, height = header.size
    return EncodedImage(path.stem, memoryview(data), width, height)


def confident(rows: pa.Table) -> pa.Table:
    """Rows that are sure enough, numbered, so that texts can refer to them."""
    rows = rows.filter(pc.fill_null(pc.greater_equal(rows["score"], _MIN_SCORE), True))
    numbers = pa.array(np.arange(rows.num_rows)).cast(pa.string())
    place = rows.schema.get_field_index("annotation_id")
    return rows.set_column(place, CLAIM.field("annotation_id"), numbers)


def _annotate(specialists: Sequence[Specialist], images: Sequence[EncodedImage]) -> int:
    answers = [CLAIM.empty_table()]
    for specialist in specialists:
        seen = confident(pa.concat_tables(answers)) if specialist.requires else answers[0]
        answers.append(specialist.annotate(images, seen))
    return sum(rows.num_rows for rows in answers)


if __name__ == "__main__":
    main()
