"""Tables built by hand: the smallest that show what a test is about."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import pyarrow as pa

from engine.protocols import Context
from engine.schema import Tables, claims, image_rows


def ids(count: int) -> list[str]:
    """Readable annotation ids: row-0, row-1, ..."""
    return [f"row-{n}" for n in range(count)]


def rows(**columns: Any) -> pa.Table:
    """Claims: regions `thing` on image `a` by source `yolo`, ids row-0, ..., unless given."""
    lengths = [len(value) for value in columns.values() if isinstance(value, (list, np.ndarray))]
    count = lengths[0] if lengths else 0
    defaults = {
        "image_key": ["a"] * count,
        "annotation_id": ids(count),
        "kind": "region",
        "role": "category",
        "text": ["thing"] * count,
        "source": "yolo",
    }
    return claims(**{**defaults, **columns})


def tables(*, width: int | None = 100, height: int | None = 80, **columns: Any) -> Tables:
    """`rows` with an images table of every image they are on, each of that size, px."""
    annotations = rows(**columns)
    keys = sorted(set(annotations["image_key"].to_pylist())) or ["a"]
    size = {"width": [width] * len(keys), "height": [height] * len(keys)}
    return Tables(image_rows(image_key=keys, status="ok", **size), annotations)


def all_fresh(tables: Tables, *, kept: Sequence[int] = ()) -> Context:
    """A context in which every row is under judgement, but those at the places in `kept`."""
    fresh = np.ones(tables.annotations.num_rows, bool)
    fresh[list(kept)] = False
    return Context(fresh=fresh)
