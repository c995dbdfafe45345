"""Uris that are refused before anything is asked of a storage."""

import pickle

import pytest

from engine.errors import ConfigError
from engine.source.filesystem import open_location


@pytest.mark.parametrize(
    ("uri", "options", "message"),
    [
        pytest.param("", {}, r"uri '' is no path; give a folder", id="empty"),
        pytest.param(
            "http://a/b", {}, r"scheme 'http' is not known; known: file, s3, gs", id="http"
        ),
        pytest.param("s3://", {}, r"names no bucket; write s3://bucket/prefix", id="no-bucket"),
        pytest.param("file://far/a", {}, r"names the host 'far'; write file:///path", id="host"),
        pytest.param("a", {"region": "x"}, r"region is set, but 'a' is a local path", id="region"),
        pytest.param("a", {"anonymous": True}, r"anonymous is set, but 'a' is", id="anonymous"),
        pytest.param("s3://b", {"endpoint": "host:1"}, r"write http://host:port", id="endpoint"),
    ],
)
def test_open_location_refuses(uri, options, message):
    with pytest.raises(ConfigError, match=message):
        open_location(uri, **options)


@pytest.mark.parametrize(
    ("uri", "options"),
    [
        ("s3://key:hidden@bucket/a", {}),
        ("s3://bucket/a", {"endpoint": "http://key:hidden@host:1"}),
    ],
)
def test_open_location_never_repeats_credentials(uri, options):
    with pytest.raises(ConfigError, match="carries credentials") as caught:
        open_location(uri, **options)
    assert "hidden" not in str(caught.value)


def test_a_bucket_pickles_without_credentials(monkeypatch):
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "hidden-secret")
    place = open_location("s3://bucket//a/b/", endpoint="http://127.0.0.1:1", region="eu-west-1")
    packed = pickle.dumps(place)
    assert b"hidden-secret" not in packed
    assert pickle.loads(packed) == place
    assert place.root == "bucket/a/b"
