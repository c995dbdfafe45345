"""Child: the same specialists through `ray.data.map_batches`, an actor pool each; no files."""

import time
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import ray
import ray.data

from engine.compose import compose
from engine.config import Config
from engine.pixels import EncodedImage
from engine.protocols import Specialist
from engine.schema import CLAIM, claims
from engine.worker import THREAD_VARIABLES
from tests.bench.children import answer, read_job
from tests.bench.hand_loop import confident, in_order, is_null, read_image
from tests.bench.machine import cpu_seconds

# Rows travel as a list in a column beside the bytes; blocks know no dictionaries inside of lists.
_PLAIN = [
    pa.field(f.name, pa.string() if pa.types.is_dictionary(f.type) else f.type) for f in CLAIM
]


class Annotator:
    """One specialist as Ray Data wants it: a batch in, the same batch with more rows out."""

    def __init__(self, specialist: Specialist, is_last: bool) -> None:
        self._specialist = specialist
        self._is_last = is_last
        specialist.load()
        self._loaded = time.monotonic()

    def __call__(self, batch: pa.Table) -> pa.Table:
        keys = batch["image_key"].to_pylist()
        earlier = _flat(batch["rows"])
        seen = confident(_claims(earlier)) if self._specialist.requires else CLAIM.empty_table()
        rows = _plain(self._specialist.annotate(_images(batch, keys), seen))
        columns = {name: batch[name] for name in batch.column_names}
        columns["rows"] = _nested(pa.concat_tables([earlier, rows]), keys)
        columns["loaded"] = pc.max_element_wise(batch["loaded"], self._loaded)
        if self._is_last:
            del columns["data"]
        return pa.table(columns)


def main() -> None:
    job = read_job()
    born = time.monotonic()
    config = Config(**job["config"])
    specialists = in_order(compose(config).specialists)
    for specialist in specialists:
        specialist.prepare()
    ray.init(address="local", include_dashboard=False, log_to_driver=False, logging_level="error")
    ray.data.DataContext.get_current().enable_progress_bars = False
    spent = cpu_seconds()
    dataset = _pipeline(config, specialists, job["cores"]).materialize()
    ended, cpu = time.monotonic(), cpu_seconds() - spent
    table = pa.concat_tables(ray.get(dataset.to_arrow_refs()))
    answer(
        {
            "images": table.num_rows,
            "rows": pc.sum(pc.list_value_length(table["rows"])).as_py(),
            "seconds": ended - pc.max(table["loaded"]).as_py(),
            "cpu_seconds": cpu,
            "startup": pc.max(table["loaded"]).as_py() - born,
        }
    )


def _pipeline(config: Config, specialists: list[Specialist], cores: int) -> Any:
    """Read, then every specialist in turn; those with work of their own get an actor per core."""
    sizes = [1 if is_null(s) or s.requires else cores for s in specialists]
    share = round(cores / (sum(sizes) + 1), 2)
    one_thread = {"env_vars": dict.fromkeys(THREAD_VARIABLES, "1")}
    paths = [str(path) for path in sorted(Path(config.source.uri).rglob("*.jpg"))]
    batch = {"batch_size": config.runner.batch_size, "batch_format": "pyarrow", "num_cpus": share}
    found = ray.data.from_items([{"path": path} for path in paths]).map_batches(_read, **batch)
    for specialist, size in zip(specialists, sizes, strict=True):
        found = found.map_batches(
            Annotator,
            fn_constructor_args=(specialist, specialist is specialists[-1]),
            compute=ray.data.ActorPoolStrategy(size=size),
            runtime_env=one_thread,
            **batch,
        )
    return found


def _read(batch: pa.Table) -> pa.Table:
    images = [read_image(Path(path)) for path in batch["path"].to_pylist()]
    return pa.table(
        {
            "image_key": [image.image_key for image in images],
            "width": pa.array([image.width for image in images], pa.int32()),
            "height": pa.array([image.height for image in images], pa.int32()),
            "data": pa.array([bytes(image.data) for image in images], pa.large_binary()),
            "rows": pa.array([[]] * len(images), pa.list_(pa.struct(_PLAIN))),
            "loaded": pa.array([0.0] * len(images)),
        }
    )


def _images(batch: pa.Table, keys: list[str]) -> list[EncodedImage]:
    data = batch["data"].combine_chunks()
    widths, heights = batch["width"].to_pylist(), batch["height"].to_pylist()
    return [
        EncodedImage(key, memoryview(data[i].as_buffer()), widths[i], heights[i])
        for i, key in enumerate(keys)
    ]


def _flat(nested: pa.ChunkedArray) -> pa.Table:
    structs = pc.list_flatten(nested.combine_chunks())
    return pa.Table.from_arrays(structs.flatten(), schema=pa.schema(_PLAIN))


def _nested(rows: pa.Table, keys: list[str]) -> pa.Array:
    """The rows as a list per image, in the order of the keys."""
    place = pc.index_in(rows["image_key"], pa.array(keys, pa.string())).to_numpy()
    rows = rows.take(pa.array(np.argsort(place, kind="stable"))).combine_chunks()
    ends = np.cumsum(np.bincount(place, minlength=len(keys)))
    structs = pa.StructArray.from_arrays([c.combine_chunks() for c in rows.columns], fields=_PLAIN)
    return pa.ListArray.from_arrays(pa.array(np.append(0, ends), pa.int32()), structs)


def _plain(rows: pa.Table) -> pa.Table:
    return rows.cast(pa.schema(_PLAIN))


def _claims(rows: pa.Table) -> pa.Table:
    return claims(**{name: rows[name] for name in rows.column_names})


if __name__ == "__main__":
    main()
