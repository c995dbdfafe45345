"""Buckets on a real S3 server: the same results as from a disk, and clear refusals."""

import re
from pathlib import Path

import pytest

from engine.config import LimitsConfig
from engine.errors import ConfigError, StoppedError
from engine.source import open_source
from engine.source.bucket import _connect
from engine.source.filesystem import open_location
from engine.source.images import Images
from engine.source.plan import make_plan
from engine.source.shapes import ReadError
from engine.source.shard import read_shard
from tests import hostile
from tests.hostile import encoded, photo
from tests.s3 import SECRET_KEY

pytestmark = pytest.mark.s3


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """Images of every kind, broken ones too; names only a disk can hold are left out."""
    folder = tmp_path_factory.mktemp("photos")
    for name, (data, _) in (hostile.broken_files() | hostile.odd_files()).items():
        if "\\" not in name and name.isprintable():
            (folder / name).parent.mkdir(exist_ok=True)
            (folder / name).write_bytes(data)
    (folder / "readme.txt").write_text("words")
    (folder / "LICENSE").write_text("words")
    (folder / ".hidden").mkdir()
    (folder / ".hidden" / "a.jpg").write_bytes(b"x")
    return folder


@pytest.fixture(scope="module")
def bucket(s3, folder) -> str:
    s3.fill("photos", folder)
    return "s3://photos"


@pytest.fixture(autouse=True)
def fresh_clients():
    """Clients remember the credentials they were made with."""
    _connect.cache_clear()
    yield
    _connect.cache_clear()


def test_a_bucket_gives_the_plan_and_shard_of_a_folder(s3, bucket, folder):
    here, there = open_source(uri=str(folder)), open_source(uri=bucket, endpoint=s3.endpoint)
    local, remote = here.listing(), there.listing()
    assert remote.ignored == local.ignored
    plans = [make_plan(listing, 50) for listing in (local, remote)]
    assert plans[0].rows.equals(plans[1].rows)
    limits = LimitsConfig(max_pixels=hostile.MAX_PIXELS, max_bytes=hostile.MAX_BYTES)
    shards = [
        read_shard(source, plan.rows, plan.modified, limits)
        for source, plan in zip((here, there), plans, strict=True)
    ]
    assert shards[0].images.equals(shards[1].images)
    assert shards[0].data == shards[1].data


def test_a_prefix_is_a_source_of_its_own(s3, bucket):
    source = Images(uri=f"{bucket}/sub/", endpoint=s3.endpoint)
    assert source.listing().images["uri"].to_pylist() == ["dog.jpg"]


def test_a_limit_takes_the_first_by_uri_from_a_bucket(s3, bucket):
    source = Images(uri=bucket, endpoint=s3.endpoint)
    everything = source.listing().images
    assert source.listing(7).images.equals(everything.slice(0, 7))


def test_objects_that_go_or_change_after_the_plan_are_told(s3, tmp_path):
    data = encoded(photo(), "JPEG")
    for name in ("goes.jpg", "grows.jpg", "stays.jpg"):
        (tmp_path / name).write_bytes(data)
    s3.fill("moving", tmp_path)
    source = Images(uri="s3://moving", endpoint=s3.endpoint)
    plan = make_plan(source.listing(), 3)
    source.location.delete("goes.jpg")
    source.location.write("grows.jpg", data + b"more")
    images = read_shard(source, plan.rows, plan.modified).images
    causes = [[item["cause"] for item in row] for row in images["failures"].to_pylist()]
    assert causes == [["missing"], ["changed"], []]
    later = [moment + 1_000_000_000 for moment in plan.modified.to_pylist()]
    images = read_shard(
        source, plan.rows[2:], plan.modified.take([2]).from_pandas(later[2:])
    ).images
    assert images["failures"].to_pylist()[0][0]["cause"] == "changed"


def test_write_read_list_and_delete_in_a_bucket(s3, bucket):
    place = open_location("s3://photos/out", endpoint=s3.endpoint)
    large = bytes(range(256)) * 50_000
    place.write("round-0/000000.tar", large)
    place.write("round-0/_done/000000.json", b"{}")
    assert place.names("round-0") == ["000000.tar"]
    assert place.names("round-1") == []
    assert place.read("round-0/000000.tar").data.to_pybytes() == large
    assert place.read_head("round-0/000000.tar", 3) == b"\0\1\2"
    assert place.exists("round-0/000000.tar")
    assert not place.exists("round-0")
    place.delete("round-0/000000.tar")
    place.delete("round-0/000000.tar")
    assert not place.exists("round-0/000000.tar")
    with pytest.raises(ReadError, match="nothing of that name") as caught:
        place.read("round-0/000000.tar")
    assert caught.value.cause == "missing"
    place.delete("round-0/_done/000000.json")


def test_messages_of_the_storage_carry_no_random_ids(s3):
    place = open_location("s3://nowhere", endpoint=s3.endpoint)
    with pytest.raises(ConfigError, match="NO_SUCH_BUCKET") as caught:
        list(place.walk())
    assert not re.search("request id", str(caught.value), re.IGNORECASE)


@pytest.mark.timeout(30)
@pytest.mark.parametrize(
    ("uri", "message"),
    [
        pytest.param("s3://nowhere", r"'s3://nowhere'.*nothing of that name.*bucket", id="bucket"),
        pytest.param(
            "s3://photos/no/", r"nothing of that name.*check bucket and prefix", id="prefix"
        ),
    ],
)
def test_a_wrong_bucket_is_one_clear_error(s3, bucket, uri, message):
    with pytest.raises(ConfigError, match=message):
        Images(uri=uri, endpoint=s3.endpoint).listing()


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", ["AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY"])
def test_wrong_keys_are_one_clear_error_without_the_keys(s3, bucket, monkeypatch, name):
    monkeypatch.setenv(name, "wrong-and-hidden")
    with pytest.raises(ConfigError, match=r"refuses access.*check the credentials") as caught:
        Images(uri=bucket, endpoint=s3.endpoint).listing()
    assert "hidden" not in str(caught.value)
    assert SECRET_KEY not in str(caught.value)
    with pytest.raises(ConfigError, match=r"cannot write 'a': the storage refuses access"):
        open_location(bucket, endpoint=s3.endpoint).write("a", b"x")


@pytest.mark.timeout(30)
def test_a_bucket_that_is_not_public_refuses_the_anonymous(s3, bucket):
    with pytest.raises(ConfigError, match="refuses access"):
        Images(uri=bucket, endpoint=s3.endpoint, anonymous=True).listing()


@pytest.mark.timeout(60)
@pytest.mark.parametrize("endpoint", ["http://127.0.0.1:1", "http://nowhere.invalid"])
def test_a_wrong_endpoint_is_one_clear_error(s3, endpoint):
    with pytest.raises(ConfigError, match=r"cannot be reached.*check endpoint, region"):
        Images(uri="s3://photos", endpoint=endpoint).listing()
    with pytest.raises(StoppedError, match=r"cannot write 'a': the storage cannot be reached"):
        open_location("s3://photos", endpoint=endpoint).write("a", b"x")
