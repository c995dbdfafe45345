"""dataset.json, plan and config beside the shards, and which shards are complete.

That a run resumes from them is tested with whole runs.
"""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml

from engine.config import load_config
from engine.dataset import (
    CONFIG,
    DATASET,
    MODIFIED,
    PLAN,
    Markers,
    Totals,
    check_same_run,
    count_shards,
    read_dataset,
    read_plan,
    rolled_up,
)
from engine.errors import ConfigError
from engine.judge import RuleCount
from engine.schema import SCHEMA_VERSION
from engine.source.filesystem import open_location
from tests.builders import rows
from tests.shards import VERSION, commit, dataset, images, plan, target


def test_read_dataset_where_there_is_none_says_who_writes_it(tmp_path):
    with pytest.raises(ConfigError, match=r"no dataset.json there; `fld annotate` writes one"):
        read_dataset(open_location(str(tmp_path / "nowhere")))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        pytest.param(b"", "its dataset.json is not readable", id="empty"),
        pytest.param(b'{"schema_ver', "its dataset.json is not readable", id="cut"),
        pytest.param(b"[]", "its dataset.json is not readable", id="list"),
        pytest.param(b"{}", "its dataset.json is not readable: 'schema_version'", id="no-version"),
        pytest.param(
            b'{"schema_version": 99}', r"written with schema version 99, .*newer", id="new"
        ),
    ],
)
def test_read_dataset_refuses_what_it_cannot_read(tmp_path, content, message):
    (tmp_path / DATASET).write_bytes(content)
    with pytest.raises(ConfigError, match=message):
        read_dataset(open_location(str(tmp_path)))


def test_create_dataset_writes_what_a_resume_reads(tmp_path):
    place = dataset(tmp_path, ["a", "b"], ["c"])
    content = read_dataset(place.output)
    assert (content["images"], content["shards"]) == (3, 2)
    assert (content["current"], content["schema_version"]) == (VERSION, SCHEMA_VERSION)
    found, modified = read_plan(place.output)
    assert found.equals(plan(["a", "b"], ["c"]))
    assert modified.to_pylist() == [None] * 3
    config = load_config(tmp_path / "out" / CONFIG)
    assert config.digest() == content["digest"]
    assert content["identity"] == config.identity()


def test_data_files_hold_no_time_and_equal_runs_write_equal_ones(tmp_path):
    one, two = (dataset(tmp_path / name, ["a"]) for name in ("one", "two"))
    assert one.output.read(PLAN).data == two.output.read(PLAN).data
    texts = [place.output.read(DATASET).data.to_pybytes() for place in (one, two)]
    assert texts[0] == texts[1]


def test_a_plan_whose_times_are_lost_is_still_a_plan(tmp_path):
    place = dataset(tmp_path, ["a"])
    place.output.delete(MODIFIED)
    found, modified = read_plan(place.output)
    assert (found.num_rows, modified) == (1, None)


@pytest.mark.parametrize(("shards", "count"), [([], 0), ([["a"]], 1), ([["a"], ["b", "c"]], 2)])
def test_count_shards(shards, count):
    assert count_shards(plan(*shards)) == count


def test_the_same_run_may_go_on_and_another_is_refused_with_every_difference(tmp_path):
    place = dataset(tmp_path, ["a"])
    stored = read_dataset(place.output)
    identity = {**stored["identity"], "specialists": ()}
    check_same_run(place.output, stored, identity)
    other = {**identity, "seed": 5, "revisions": {"yolo": "r2"}}
    with pytest.raises(
        ConfigError,
        match=r"made by another run; differences: seed: 0 -> 5; revisions: nothing -> {",
    ):
        check_same_run(place.output, stored, other)


def test_markers_of_an_output_that_is_not_there_are_none(tmp_path):
    markers = Markers(target(tmp_path).output, VERSION)
    assert markers.load() == set()
    assert list(markers.each()) == []


def test_markers_find_complete_shards_and_what_they_hold(tmp_path):
    place = dataset(tmp_path, ["a"], ["b"], ["c"])
    written = [commit(place, shard, images(key)) for shard, key in ((0, "a"), (2, "c"))]
    markers = Markers(place.output, VERSION)
    assert markers.load() == {0, 2}
    found = list(markers.each())
    assert [{**marker, "files": None} for marker in written] == [
        {**marker, "files": None} for marker in found
    ]
    assert "files" not in found[0]


def test_files_that_are_no_markers_are_passed_over(tmp_path):
    place = dataset(tmp_path, ["a"])
    for name in ("000001.json.tmp", ".000002.json", "notes.json", "000003.txt"):
        place.output.write(f"{VERSION}/_done/{name}", b"{}")
    assert Markers(place.output, VERSION).load() == set()


def test_a_marker_that_is_no_json_says_what_to_do(tmp_path):
    place = dataset(tmp_path, ["a"])
    place.output.write(f"{VERSION}/_done/000000.json", b"")
    with pytest.raises(
        ConfigError, match=r"marker round-0/_done/000000.json is not valid JSON; del"
    ):
        Markers(place.output, VERSION).load()


def test_the_rolled_up_table_spares_reading_markers_and_no_more(tmp_path):
    """A marker that is gone is a shard to be made again, whatever the table says."""
    place = dataset(tmp_path, ["a"], ["b"])
    for shard, key in enumerate("ab"):
        commit(place, shard, images(key))
    rolled_up = Markers(place.output, VERSION)
    rolled_up.load()
    rolled_up.save()
    place.output.write(f"{VERSION}/_done/000000.json", b"not read any more")
    place.output.delete(f"{VERSION}/_done/000001.json")
    markers = Markers(place.output, VERSION)
    assert markers.load() == {0}
    assert [marker["shard"] for marker in markers.each()] == [0]


@pytest.mark.parametrize("content", [b"", b"PAR1", b"no parquet at all"])
def test_a_broken_rolled_up_table_is_made_anew(tmp_path, content):
    place = dataset(tmp_path, ["a"])
    commit(place, 0, images("a"))
    place.output.write(rolled_up(VERSION), content)
    markers = Markers(place.output, VERSION)
    assert markers.load() == {0}
    assert (
        place.output.read(rolled_up(VERSION)).data.to_pybytes() == content
    )  # who looks writes nothing
    markers.save()
    table = pq.read_table(pa.BufferReader(place.output.read(rolled_up(VERSION)).data))
    assert table["shard"].to_pylist() == [0]


def test_a_rolled_up_table_of_other_columns_is_made_anew(tmp_path):
    place = dataset(tmp_path, ["a"])
    commit(place, 0, images("a"))
    pq.write_table(pa.table({"shard": [0]}), tmp_path / "out" / rolled_up(VERSION))
    assert Markers(place.output, VERSION).load() == {0}


def test_a_forgotten_shard_is_read_from_its_marker_again(tmp_path):
    place = dataset(tmp_path, ["a"], ["b"])
    for shard, key in enumerate("ab"):
        commit(place, shard, images(key))
    markers = Markers(place.output, VERSION)
    markers.load()
    markers.forget([1])
    assert [marker["shard"] for marker in markers.each()] == [0]
    commit(place, 1, images("b", status=["failed"]))
    again = Markers(place.output, VERSION)
    assert again.load() == {0, 1}
    assert [marker["images"]["failed"] for marker in again.each()] == [0, 1]


def test_totals_of_no_shards_are_nothing():
    totals = Totals()
    assert (totals.num_images, totals.images, totals.rules) == (0, {}, {})


def test_totals_add_up_over_shards(tmp_path):
    place = dataset(tmp_path, ["a", "b"], ["c"])
    totals = Totals()
    totals.add(commit(place, 0, images("a", "b"), rows(image_key=["a", "b"], text=["x", "no"])))
    totals.add(commit(place, 1, images("c", status=["failed"])))
    assert totals.images == {"ok": 2, "failed": 1, "duplicate": 0, "rejected": 0}
    assert totals.num_images == 3
    assert totals.annotations == {
        "yolo/region/category/kept": 1,
        "yolo/region/category/rejected": 1,
    }
    assert totals.rules == {"not_kept": RuleCount(2, 1)}


def test_the_config_is_yaml_a_person_can_read(tmp_path):
    dataset(tmp_path, ["a"])
    text = (tmp_path / "out" / CONFIG).read_text(encoding="utf-8")
    assert list(yaml.safe_load(text)) == [
        "source",
        "output",
        "specialists",
        "rules",
        "runner",
        "limits",
        "model",
        "refine",
        "gold",
        "seed",
    ]
    assert json.loads((tmp_path / "out" / DATASET).read_text(encoding="utf-8"))["shards"] == 1
