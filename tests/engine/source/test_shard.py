"""Reading shards: verdicts on hostile and odd files, duplicates, measures, threads."""

import hashlib
import os

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.config import LimitsConfig, parse_config
from engine.errors import ConfigError
from engine.failures import CAUSES
from engine.schema import IMAGES
from engine.source.images import Images
from engine.source.names import encode_name
from engine.source.plan import PLAN, make_plan
from engine.source.shapes import ReadError
from engine.source.shard import read_shard
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
    limits = LimitsConfig(max_pixels=hostile.MAX_PIXELS, max_bytes=hostile.MAX_BYTES)
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


def test_the_hostile_folder_shows_every_cause_of_reading_and_decoding(hostile_shard):
    *_, expected = hostile_shard
    causes = list(CAUSES)
    wanted = set(causes[: causes.index("not_json")])  # what follows is not about loose images
    wanted -= {"unsafe_path", "broken_archive"}  # of archives and tables: test_tars, test_tables
    if os.geteuid() == 0:
        wanted.remove("permission_denied")  # nothing is denied to root; see the test below
    assert {verdict.cause for verdict in expected.values()} - {None} == wanted


def test_listing_of_the_hostile_folder_counts_what_it_ignores(hostile_shard):
    _, listing, *_ = hostile_shard
    assert listing.ignored == hostile.IGNORED


def test_every_planned_image_is_one_row_in_order(hostile_shard):
    _, listing, plan, _, loaded, _ = hostile_shard
    assert loaded.images.schema == IMAGES
    for column in ("image_key", "uri"):
        assert loaded.images[column].equals(plan.rows[column])
    assert loaded.images.num_rows == listing.images.num_rows == len(loaded.data)


def test_only_ok_images_have_bytes_and_they_are_the_files(hostile_shard):
    source, *_, loaded, _ = hostile_shard
    for row, data in zip(loaded.images.to_pylist(), loaded.data, strict=True):
        assert (data is not None) == (row["status"] == "ok"), row["uri"]
        if data is not None:
            assert data.equals(source.location.read(row["uri"]).data)
            assert row["sha256"] == hashlib.sha256(data).hexdigest()
            assert row["size_bytes"] == data.size


def test_measures_are_there_unless_the_image_failed(hostile_shard):
    *_, loaded, _ = hostile_shard
    failed = pc.equal(loaded.images["status"], "failed")
    for column in ("format", "width", "height", "orientation", "phash", "sharpness", "contrast"):
        assert pc.is_null(loaded.images[column]).equals(failed), column
    assert pc.is_valid(loaded.images["failures"]).to_pylist() == [True] * len(loaded.data)


def test_sizes_are_upright(hostile_shard):
    *_, loaded, _ = hostile_shard
    rows = {row["uri"]: row for row in loaded.images.to_pylist()}
    for uri, orientation in {"turned.jpg": 6, "turned.tif": 6, "turned.png": 8}.items():
        row = rows[uri]
        assert (row["width"], row["height"], row["orientation"]) == (64, 96, orientation)
    assert (rows["turned.webp"]["width"], rows["turned.webp"]["orientation"]) == (96, 3)


def test_duplicates_name_the_first_of_their_bytes(hostile_shard):
    *_, loaded, _ = hostile_shard
    rows = {row["uri"]: row for row in loaded.images.to_pylist()}
    first = rows["plain.jpg"]
    for uri in ("plain_copy.jpg", "plain_link.jpg"):
        assert rows[uri]["duplicate_of"] == first["image_key"]
        assert rows[uri]["phash"] == first["phash"]
    assert first["duplicate_of"] is None


def test_failures_show_no_machine_path(hostile_shard):
    source, *_, loaded, _ = hostile_shard
    messages = [item["message"] for row in loaded.images["failures"].to_pylist() for item in row]
    assert messages
    assert not [message for message in messages if source.uri in message or "0x" in message]


def test_read_shard_without_rows_is_an_empty_shard(tmp_path):
    loaded = read_shard(Images(uri=str(tmp_path)), PLAN.empty_table())
    assert loaded.images.equals(IMAGES.empty_table())
    assert (loaded.data, loaded.given) == ([], [])


def test_times_are_not_compared_when_the_plan_has_none(tmp_path):
    (tmp_path / "a.jpg").write_bytes(hostile.encoded(hostile.photo(), "JPEG"))
    source = Images(uri=str(tmp_path))
    plan = make_plan(source.listing(), 1)
    os.utime(tmp_path / "a.jpg", (0, 0))
    assert verdicts(read_shard(source, plan.rows, plan.modified).images)["a.jpg"].cause == "changed"
    assert verdicts(read_shard(source, plan.rows).images) == {"a.jpg": hostile.OK}


class Denying:
    """A source whose storage refuses every read."""

    uri = "denied"

    def read(self, images, limits):
        for _ in range(images.num_rows):
            yield ReadError("permission_denied", "the storage refuses access")


def test_a_refused_read_is_a_failure_of_that_image():
    rows = pa.Table.from_pydict(
        {
            "shard": [0],
            "image_key": ["a-0"],
            "uri": ["a.jpg"],
            "size_bytes": [7],
            "place": [None],
        },
        PLAN,
    )
    images = read_shard(Denying(), rows).images
    assert verdicts(images) == {"a.jpg": hostile.read("permission_denied")}
    assert images["size_bytes"].to_pylist() == [7]


@pytest.mark.parametrize("name", ["max_pixels", "max_bytes"])
def test_limits_below_one_are_refused(name):
    raw = {"source": {"uri": "a"}, "output": {"uri": "b"}, "limits": {name: 0}}
    with pytest.raises(ConfigError, match=f"limits.{name}: .* greater than or equal to 1; found 0"):
        parse_config(raw, (), "test")
