"""Shard plans: cuts, limits, refusals."""

import pyarrow as pa
import pytest

from engine.errors import ConfigError
from engine.source.plan import PLAN, make_plan
from engine.source.shapes import LISTING, Listing


def listing(*keys: str, ignored: dict[str, int] | None = None) -> Listing:
    count = len(keys)
    columns = {
        "image_key": list(keys),
        "uri": [f"{index}.jpg" for index in range(count)],
        "size_bytes": list(range(count)),
        "modified": [None] * count,
        "place": [None] * count,
    }
    return Listing("photos", pa.Table.from_pydict(columns, LISTING), ignored or {})


def test_an_empty_source_is_refused_with_what_was_ignored():
    with pytest.raises(ConfigError, match=r"'photos': there is nothing in it; give a folder"):
        make_plan(listing(), 10)
    ignored = {"extension .txt": 2, "hidden file": 30}
    expected = r"no images among 32 entries: 30 x hidden file, 2 x extension \.txt; give another"
    with pytest.raises(ConfigError, match=expected):
        make_plan(listing(ignored=ignored), 10)


@pytest.mark.parametrize(
    ("shard_size", "limit", "shards"),
    [(2, None, [0, 0, 1, 1, 2]), (5, None, [0] * 5), (9, None, [0] * 5), (2, 3, [0, 0, 1])],
)
def test_make_plan_cuts_in_order(shard_size, limit, shards):
    plan = make_plan(listing(*"abcde"), shard_size, limit)
    assert plan.rows.schema == PLAN
    assert plan.rows["shard"].to_pylist() == shards
    assert plan.rows["image_key"].to_pylist() == list("abcde")[: len(shards)]
    assert len(plan.modified) == len(shards)


def test_make_plan_refuses_two_images_of_one_key():
    with pytest.raises(ConfigError, match=r"'0.jpg' and '2.jpg' share the image_key 'a'; rename"):
        make_plan(listing("a", "b", "a"), 2)


@pytest.mark.parametrize(("shard_size", "limit"), [(0, None), (1, 0)])
def test_make_plan_refuses_sizes_below_one(shard_size, limit):
    with pytest.raises(ConfigError, match=r"is 0; give 1 or more"):
        make_plan(listing("a"), shard_size, limit)
