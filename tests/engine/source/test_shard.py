"""Reading shards: verdicts on hostile and odd files, duplicates, measures, threads."""

import pyarrow as pa
import pytest

from engine.source.images import Images
from engine.source.names import encode_name
from engine.source.plan import make_plan
from engine.source.shard import Limits, read_shard
from tests import hostile
from tests.hostile import Verdict


@pytest.fixture(scope="module")
def hostile_shard(tmp_path_factory):
    folder = tmp_path_factory.mktemp("hostile")
    expected = hostile.build(folder)
    hostile.build_ignored(folder)
    source = Images(uri=str(folder))
    listing = source.listing()
    plan = make_plan(listing, shard_size=1000)
    hostile.disturb(folder)
    limits = Limits(max_pixels=hostile.MAX_PIXELS, max_bytes=hostile.MAX_BYTES)
    return (
        source,
        listing,
        plan,
        limits,
        read_shard(source, plan.rows, plan.modified, limits),
        expected,
    )


def verdicts(images: pa.Table) -> dict[str, Verdict]:
    found = {}
    for row in images.select(["uri", "status", "failures"]).to_pylist():
        failures = [(failure["stage"], failure["cause"]) for failure in row["failures"]]
        assert len(failures) <= 1
        found[row["uri"]] = Verdict(row["status"], *(failures[0] if failures else ()))
    return found


def test_read_shard_gives_every_hostile_file_its_verdict(hostile_shard):
    *_, loaded, expected = hostile_shard
    wanted = {encode_name(name): verdict for name, verdict in expected.items()}
    assert verdicts(loaded.images) == wanted
