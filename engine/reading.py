"""Reads committed shards: one image and its rows, all failures, whole tables shard by shard."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine import ancestry, dataset
from engine.ancestry import ancestors
from engine.errors import ConfigError
from engine.sink import ShardFiles
from engine.source.shapes import Location


@dataclass(frozen=True)
class OneImage:
    """One image of a dataset: its row, claims with verdicts, and bytes if the tar has them."""

    image: pa.Table
    annotations: pa.Table
    data: bytes | None


def read_tables(output: Location, version: str) -> Iterator[tuple[int, pa.Table, pa.Table]]:
    """Shard number, images and annotations of every complete shard, in order, one at a time."""
    for shard in sorted(dataset.Markers(output, version).load()):
        files = ShardFiles(shard)
        yield (
            shard,
            read_parquet(output, f"{version}/{files.images}"),
            read_parquet(output, f"{version}/{files.annotations}"),
        )


def read_failures(output: Location, version: str) -> Iterator[dict[str, str]]:
    """Every failure with its image.

    Each has `image_key`, `uri` and `status` of the image, and stage, source, cause and message.
    Only shards whose marker counts failures are opened.
    """
    markers = dataset.Markers(output, version)
    markers.load()
    for marker in markers.each():
        if not marker["failures"]:
            continue
        images = read_parquet(output, f"{version}/{ShardFiles(marker['shard']).images}")
        has_failed = pc.greater(pc.list_value_length(images["failures"]).fill_null(0), 0)
        for row in images.filter(has_failed).to_pylist():
            for failure in row["failures"]:
                yield {name: row[name] for name in ("image_key", "uri", "status")} | failure


def read_image(output: Location, version: str, name: str) -> OneImage:
    """One image by its key, or by its uri in the source.

    Raises:
        ConfigError: No committed shard holds such an image.
    """
    plan = read_parquet(output, dataset.PLAN)
    found = pc.or_(pc.equal(plan["image_key"], name), pc.equal(plan["uri"], name))
    chosen = plan.filter(found)
    if chosen.num_rows == 0:
        example = plan["image_key"][0].as_py() if plan.num_rows else "none"
        raise ConfigError(
            f"{output.uri}: no image has the key or uri {name!r}; keys look like {example!r}"
        )
    key, files = chosen["image_key"][0].as_py(), ShardFiles(chosen["shard"][0].as_py())
    if not output.exists(f"{version}/{files.marker}"):
        raise ConfigError(f"{output.uri}: shard {files.shard:06d} with {key!r} is not done yet")
    images = read_parquet(output, f"{version}/{files.images}")
    rows = read_parquet(output, f"{version}/{files.annotations}")
    return OneImage(
        images.filter(pc.equal(images["image_key"], key)),
        rows.filter(pc.equal(rows["image_key"], key)),
        read_pixels(output, version, files.shard, [key]).get(key),
    )


def read_pixels(output: Location, version: str, shard: int, keys: list[str]) -> dict[str, bytes]:
    """The encoded bytes of images of one shard, by key; those no tar holds are absent.

    A version whose tars hold none has those of the version it was made from.
    """
    versions = ancestors(dataset.read_dataset(output), version)
    return dict(ancestry.read_pixels(output, versions, shard, keys))


def read_parquet(
    output: Location, path: str, columns: list[str] | None = None, *, use_threads: bool = True
) -> pa.Table:
    """A Parquet file of the dataset, all columns or those named.

    Without threads where others do the same beside it.
    """
    source = pa.BufferReader(output.read(path).data)
    return pq.read_table(source, columns=columns, use_threads=use_threads, pre_buffer=use_threads)
