"""A committed shard taken up again for the images that failed; what the others have is kept."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.ancestry import read_pixels
from engine.config import LimitsConfig
from engine.reading import read_parquet
from engine.schema import CLAIM, IMAGES, canonical
from engine.sink import ShardFiles, Target
from engine.source.shapes import Source
from engine.source.shard import LoadedShard, read_shard


def read_again(
    source: Source, plan: pa.Table, target: Target, shard: int, limits: LimitsConfig
) -> tuple[LoadedShard, Sequence[int], pa.Table]:
    """The shard with its failed images read anew and everything else as it was committed.

    An image that failed is read as it is now: nothing was ever claimed about it, so a file that was
    mended since the plan was made is welcome; `plan` is one that `as_they_are` gave.

    Returns:
        The shard, with bytes for each image that is `ok` and rows given for those read anew; the
        positions to annotate; the claims of all other images.
    """
    files = ShardFiles(shard)
    output, folder = target.output, target.version
    old_images = read_parquet(output, f"{folder}/{files.images}")
    failed = np.flatnonzero(_failed(old_images))
    fresh = read_shard(source, plan.take(pa.array(failed)), None, limits)
    images = _mark_duplicates(_splice(old_images, fresh.images, failed), failed.tolist())
    data: list[Any] = [None] * images.num_rows
    keys = images["image_key"].to_pylist()
    stored = dict(read_pixels(output, [folder], shard, keys)) if target.pixels else {}
    for i, key in enumerate(keys):
        data[i] = stored.get(key)
    for i, content in zip(failed.tolist(), fresh.data, strict=True):
        # bytes of a new duplicate go unused: only `ok` images are cut into batches
        data[i] = content
    claims = read_parquet(output, f"{folder}/{files.annotations}").select(CLAIM.names)
    asked = pa.array([keys[i] for i in failed.tolist()], pa.string())
    carried = claims.filter(pc.invert(pc.is_in(claims["image_key"], asked)))
    return LoadedShard(images, data, fresh.given), failed.tolist(), carried


def as_they_are(plan: pa.Table) -> pa.Table:
    """The rows of a plan without sizes, so that a file that was mended since is not `changed`."""
    place = plan.schema.get_field_index("size_bytes")
    return plan.set_column(place, plan.schema.field(place), pa.nulls(plan.num_rows, pa.int64()))


def _failed(images: pa.Table) -> np.ndarray[Any, np.dtype[np.bool_]]:
    lengths = pc.list_value_length(images["failures"]).fill_null(0)
    return np.asarray(pc.greater(lengths, 0).to_numpy(zero_copy_only=False), bool)


def _splice(old: pa.Table, fresh: pa.Table, positions: np.ndarray[Any, Any]) -> pa.Table:
    order = np.arange(old.num_rows)
    order[positions] = old.num_rows + np.arange(len(positions))
    both = pa.concat_tables([old, canonical(fresh, IMAGES)])
    return canonical(both.take(pa.array(order)), IMAGES)


def _mark_duplicates(images: pa.Table, positions: list[int]) -> pa.Table:
    """Among images just read, those with the bytes of another `ok` one are its duplicates."""
    digests, keys = images["sha256"].to_pylist(), images["image_key"].to_pylist()
    status, originals = images["status"].to_pylist(), images["duplicate_of"].to_pylist()
    fresh = set(positions)
    first = {
        digest: key
        for i, (digest, key) in reversed(list(enumerate(zip(digests, keys, strict=True))))
        if status[i] == "ok" and i not in fresh
    }
    for i in positions:
        if status[i] == "ok" and first.setdefault(digests[i], keys[i]) != keys[i]:
            status[i], originals[i] = "duplicate", first[digests[i]]
    columns = {name: images[name] for name in IMAGES.names}
    return canonical(
        pa.table({**columns, "status": status, "duplicate_of": pa.array(originals, pa.string())}),
        IMAGES,
    )
