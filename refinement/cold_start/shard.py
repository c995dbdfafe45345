"""One shard of a cold start: what the new specialist says, beside what the labels were."""

from collections import Counter
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow as pa

from engine.judge import RuleEntry, judge
from engine.merge import merge
from engine.reading import read_parquet
from engine.refilter import pairs
from engine.schema import ANNOTATIONS, CLAIM, canonical
from engine.sink import Expected, ShardFiles, Target, count_by, write_shard
from engine.source.shapes import Location
from engine.versions import Version
from refinement.predict import read_predictions


@dataclass(frozen=True)
class ColdSpec:
    """What every process needs; the same for all shards.

    Attributes:
        target: Where the new version goes.
        parent: The version the rows are added to.
        predictions: Where `refinement.predict` wrote.
        round: Of the new rows: the last that made the parent what it is; 0 without rounds. So a
            later filter judges them when that round has retracted what it retracts.
        rules: Judge the new rows, in order.
        seed: The run's.
    """

    target: Target
    parent: str
    predictions: Location
    round: int
    rules: tuple[RuleEntry, ...]
    seed: int


def round_of(version: Version) -> int:
    """The last round whose rows a version holds; 0 for none.

    Example:
        >>> round_of(Version(levels=[["yolo"], ["florence2@1"], ["florence2@2"], ["cold_ocr"]]))
        2
    """
    named = [source.partition("@")[2] for level in version.levels for source in level]
    return max((int(number) for number in named if number.isdigit()), default=0)


def add_shard(spec: ColdSpec, shard: int) -> dict[str, Any]:
    """Judges the new rows of a shard beside the kept ones of the parent and commits them all.

    Claims and verdicts of the parent stay as they are, and the new rows have the ids of their
    predictions.

    Returns:
        The marker.
    """
    output, files = spec.target.output, ShardFiles(shard)
    images = read_parquet(output, f"{spec.parent}/{files.images}")
    rows = canonical(read_parquet(output, f"{spec.parent}/{files.annotations}"), ANNOTATIONS)
    said = read_predictions(spec.predictions, shard).claims
    place = CLAIM.get_field_index("round")
    rounds = pa.array(np.full(said.num_rows, spec.round), pa.int16())
    said = canonical(said.set_column(place, CLAIM.field(place), rounds), CLAIM)
    judged, counts = judge(images, rows, said, spec.rules, seed=spec.seed)
    judged = merge([judged], images["image_key"].to_pylist(), ANNOTATIONS)
    by_source = Counter(count_by(rows["source"])) + Counter(count_by(said["source"]))
    return write_shard(
        spec.target,
        shard,
        images,
        judged,
        {},
        Expected(images.num_rows, dict(by_source)),
        rules=pairs(counts),
    )
