"""The shard plan: which image goes into which shard, fixed once, the same on every storage."""

from collections import Counter
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.source.shapes import PLACE, Listing

PLAN = pa.schema(
    [
        ("shard", pa.int32()),
        ("image_key", pa.string()),
        ("uri", pa.string()),
        ("size_bytes", pa.int64()),  # null where the source cannot know it beforehand
        ("place", PLACE),  # where in an archive or table; null for a file of its own
    ]
)


class Plan(NamedTuple):
    """The plan, and beside it when each file was last modified.

    `rows` (schema PLAN) is equal for equal files wherever they lie. `modified` (int64, ns since
    1970, null if unknown; one per row) differs from machine to machine, so it is kept apart.
    """

    rows: pa.Table
    modified: pa.Array


def make_plan(
    listing: Listing, shard_size: int, limit: int | None = None, *, first_shard: int = 0
) -> Plan:
    """Cuts a listing into shards of `shard_size` images, in its order; the last may be smaller.

    A listing that names the shard of each image keeps its shards instead; some may be empty.

    Args:
        listing: The candidates, in order.
        shard_size: Images per shard, 1 or more.
        limit: Take only the first so many images; all when null.
        first_shard: Number of the first shard; above 0 where a plan is extended.

    Raises:
        ConfigError: No candidates (the message says what was ignored), a size or limit below 1,
            two images of one key, or images that belong into a shard before the first.
    """
    for name, value in {"source.shard_size": shard_size, "limit": limit}.items():
        if value is not None and value < 1:
            raise ConfigError(f"{name} is {value}; give 1 or more")
    images = listing.images.slice(0, limit)
    if images.num_rows == 0:
        raise ConfigError(f"{listing.uri!r}: {_nothing_found(listing.ignored)}")
    _check_keys(images)
    shards = _own_shards(listing.uri, images, first_shard)
    if shards is None:
        shards = pa.array(first_shard + np.arange(images.num_rows) // shard_size, pa.int32())
    rows = pa.table([shards, *(images[name] for name in PLAN.names[1:])], schema=PLAN)
    return Plan(rows.combine_chunks(), images["modified"].combine_chunks())


def _own_shards(uri: str, images: pa.Table, first_shard: int) -> pa.ChunkedArray | None:
    """The shards a listing names, none of which is among those of an older plan."""
    if "shard" not in images.column_names:
        return None
    first = images["shard"][0].as_py()
    if first < first_shard:
        raise ConfigError(
            f"{uri!r}: has images in shard {first} that were not there when it was planned; a plan "
            "takes whole shards more, no images into old ones: start again with --overwrite"
        )
    return images["shard"]


def _check_keys(images: pa.Table) -> None:
    counts = pc.value_counts(images["image_key"])
    if len(counts) == images.num_rows:
        return
    key = next(item["values"] for item in counts.to_pylist() if item["counts"] > 1)
    first, second = images.filter(pc.equal(images["image_key"], key))["uri"].to_pylist()[:2]
    raise ConfigError(
        f"images {first!r} and {second!r} share the image_key {key!r}; rename one of them"
    )


# Extensions that a listing of loose images passes over, and the kind that reads them.
_OTHER_KINDS = {
    **dict.fromkeys(("tar", "tgz"), "webdataset"),
    **dict.fromkeys(("parquet", "arrow"), "parquet"),
    **dict.fromkeys(("csv", "tsv"), "table"),
}


def _advice(ignored: dict[str, int]) -> str:
    """The kind of source that reads most of what was passed over, if there is one."""
    kinds: Counter[str] = Counter()
    for reason, count in ignored.items():
        kind = _OTHER_KINDS.get(reason.rpartition("extension .")[2])
        if kind is not None:
            kinds[kind] += count
    for kind, count in kinds.most_common(1):
        images = " and source.images to the folder of its images" if kind == "table" else ""
        return f"set source.kind={kind}{images} to read {count} of them"
    return "give another folder"


def _nothing_found(ignored: dict[str, int]) -> str:
    if not ignored:
        return "there is nothing in it; give a folder or bucket that holds images"
    most = sorted(ignored.items(), key=lambda item: (-item[1], item[0]))
    counts = ", ".join(f"{count} x {reason}" for reason, count in most[:5])
    more = f", and {len(most) - 5} more reasons" if len(most) > 5 else ""  # noqa: PLR2004 (as above)
    entries = sum(ignored.values())
    return f"no images among {entries} entries: {counts}{more}; {_advice(ignored)}"
