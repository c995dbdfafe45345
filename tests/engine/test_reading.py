"""Committed shards read back: one image by key or uri, its bytes, all failures, all tables."""

import pytest

from engine.errors import ConfigError
from engine.reading import read_failures, read_image, read_pixels, read_tables
from tests.builders import rows
from tests.shards import FAILED, VERSION, commit, dataset, images


@pytest.fixture
def output(tmp_path):
    """Two shards of three; the third is planned and not done."""
    place = dataset(tmp_path, ["a", "b"], ["c", "d"], ["e"])
    commit(place, 1, images("c", "d", status=["ok", "failed"], failures=[None, FAILED]))
    commit(place, 0, images("a", "b"), rows(image_key=["a", "b", "a"], text=["x", "y", "no"]))
    return place.output


def test_reading_an_output_without_shards_gives_nothing(tmp_path):
    place = dataset(tmp_path, ["a"])
    assert list(read_tables(place.output, VERSION)) == []
    assert list(read_failures(place.output, VERSION)) == []


def test_read_tables_gives_complete_shards_in_order(output):
    found = [(n, i.num_rows, a.num_rows) for n, i, a in read_tables(output, VERSION)]
    assert found == [(0, 2, 3), (1, 2, 0)]


@pytest.mark.parametrize("name", ["a", "a.jpg"])
def test_read_image_finds_one_by_key_and_by_uri(output, name):
    found = read_image(output, VERSION, name)
    assert found.image["image_key"].to_pylist() == ["a"]
    assert found.annotations["text"].to_pylist() == ["x", "no"]
    assert found.annotations["status"].to_pylist() == ["kept", "rejected"]
    assert found.data == b"pixels of a"


def test_an_image_that_failed_has_no_bytes(output):
    found = read_image(output, VERSION, "d")
    assert (found.data, found.annotations.num_rows) == (None, 0)
    assert found.image["failures"][0].as_py() == FAILED


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("nobody", "no image has the key or uri 'nobody'; keys look like 'a'"),
        ("e", "shard 000002 with 'e' is not done yet"),
    ],
)
def test_read_image_says_why_there_is_none(output, name, message):
    with pytest.raises(ConfigError, match=message):
        read_image(output, VERSION, name)


def test_read_image_of_an_empty_plan_says_so(tmp_path):
    place = dataset(tmp_path)
    with pytest.raises(ConfigError, match="no image has the key or uri 'a'; keys look like 'none'"):
        read_image(place.output, VERSION, "a")


def test_read_failures_names_image_stage_and_cause(output):
    (failure,) = read_failures(output, VERSION)
    assert failure == {"image_key": "d", "uri": "d.jpg", "status": "failed", **FAILED[0]}


def test_read_pixels_leaves_out_what_the_tar_does_not_hold(output):
    assert read_pixels(output, VERSION, 0, []) == {}
    assert read_pixels(output, VERSION, 0, ["a", "x"]) == {"a": b"pixels of a"}


def test_read_pixels_of_a_tar_without_pixels_is_none(tmp_path):
    place = dataset(tmp_path, ["a"], pixels=False)
    commit(place, 0, images("a"))
    assert read_pixels(place.output, VERSION, 0, ["a"]) == {}
    assert read_image(place.output, VERSION, "a").data is None
