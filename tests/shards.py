"""Small committed shards, made by hand: what a run would have left in an output."""

from pathlib import Path

import pyarrow as pa

from engine.config import parse_config
from engine.dataset import create_dataset
from engine.judge import RuleEntry, judge
from engine.schema import ANNOTATIONS, image_rows
from engine.sink import Expected, Target, write_shard
from engine.source.filesystem import open_location
from engine.source.plan import PLAN
from tests.builders import rows

VERSION = "round-0"
FAILED = [{"stage": "decode", "source": None, "cause": "corrupt", "message": "no picture"}]


class NotKept:
    """Rejects rows whose text is `no`."""

    name = "not_kept"
    applies_to = ("text", "region", "grounding")

    def judge(self, tables, context):
        from engine.schema import Verdicts

        texts = tables.annotations["text"].to_pylist()
        return Verdicts(pa.array([text == "no" for text in texts], pa.bool_()), 0.25, 0.5)


def images(*keys: str, **columns) -> pa.Table:
    """Images `KEY.jpg` of 8 x 6 px, all ok unless given."""
    count = len(keys)
    defaults = {
        "uri": [f"{key}.jpg" for key in keys],
        "sha256": [key * 4 for key in keys],
        "format": ["jpeg"] * count,
        "width": [8] * count,
        "height": [6] * count,
        "status": ["ok"] * count,
    }
    return image_rows(image_key=list(keys), **{**defaults, **columns})


def verdicts(table: pa.Table, images_table: pa.Table | None = None) -> pa.Table:
    """Claims with verdicts: those whose text is `no` rejected, all others kept."""
    found = images_table if images_table is not None else images()
    judged, _ = judge(found, ANNOTATIONS.empty_table(), table, [RuleEntry(NotKept())])
    return judged


def target(folder: Path, *, pixels: bool = True) -> Target:
    """An output in `folder/out`."""
    output = open_location(str(folder / "out"))
    return Target(output, VERSION, folder / "out" / "_run" / "scratch", pixels)


def commit(place: Target, shard: int, images_table: pa.Table, claims: pa.Table | None = None):
    """Writes one shard: bytes `pixels of KEY` for every ok image; returns its marker."""
    annotations = verdicts(claims if claims is not None else rows(), images_table)
    states = images_table["status"].to_pylist()
    keys = images_table["image_key"].to_pylist()
    ok = [key for key, state in zip(keys, states, strict=True) if state == "ok"]
    sources = annotations["source"].to_pylist()
    return write_shard(
        place,
        shard,
        images_table,
        annotations,
        {key: f"pixels of {key}".encode() for key in ok} if place.pixels else {},
        Expected(images_table.num_rows, {name: sources.count(name) for name in set(sources)}),
        rules={"not_kept": [len(sources), annotations["status"].to_pylist().count("rejected")]},
    )


def plan(*shards: list[str]) -> pa.Table:
    """A plan whose shards hold those image keys."""
    entries = [(n, key) for n, keys in enumerate(shards) for key in keys]
    columns = {
        "shard": [n for n, _ in entries],
        "image_key": [key for _, key in entries],
        "uri": [f"{key}.jpg" for _, key in entries],
        "size_bytes": [None] * len(entries),
        "place": [None] * len(entries),
    }
    return pa.table(columns, schema=PLAN)


def dataset(folder: Path, *shards: list[str], **options) -> Target:
    """The files a run writes before its first shard."""
    place = target(folder, **options)
    raw = {"source": {"uri": "photos"}, "output": {"uri": str(folder / "out")}}
    config = parse_config(raw, [], "a.yaml")
    planned = plan(*shards)
    times = pa.nulls(planned.num_rows, pa.int64())
    create_dataset(place.output, config, config.identity(), planned, times)
    return place
