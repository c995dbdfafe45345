"""What a source says of its images, from the archive to the table, through both runners."""

import json

import pyarrow.parquet as pq
import pytest

from engine.compose import compose
from engine.config import parse_config
from engine.errors import ConfigError
from engine.job import Observer
from engine.run import annotate, levels_of
from tests import tiny
from tests.archives import write_tar
from tests.faults.fixtures import EITHER_RUNNER

MEMBERS = {
    **{"a.png": tiny.PNG, "a.txt": b"a dot"},
    **{"b.gif": tiny.GIF, "b.json": b"{broken"},
    **{"c.bmp": tiny.BMP, "c.txt": b"the image"},
    **{"d.png": tiny.PNG, "d.txt": b"the same picture, said otherwise"},
    **{"e.jpg": b"not a picture", "e.txt": b"said of nothing"},
    "f.gif": tiny.GIF + b"1",
}


def job(tmp_path, runner, **more):
    raw = {
        "source": {"uri": str(tmp_path / "x.tar"), "shard_size": 4},
        "output": {"uri": str(tmp_path / "out")},
        "specialists": [
            {"kind": "null", "num_rows": 1, "kinds": ["text/brief"], "after": ["text/alt"]}
        ],
        "rules": [{"rule": "phrase_blacklist"}],
        "runner": {"kind": runner, "batch_size": 2},
        **more,
    }
    return compose(parse_config(raw, (), "test"))


def table(tmp_path, what):
    parts = sorted((tmp_path / "out" / "round-0").glob(f"*.{what}.parquet"))
    return [row for part in parts for row in pq.read_table(part).to_pylist()]


def texts(tmp_path):
    names = {row["image_key"]: row["uri"] for row in table(tmp_path, "images")}
    return {
        (names[row["image_key"]], row["text"]): row["status"]
        for row in table(tmp_path, "annotations")
        if row["source"] == "dataset"
    }


@pytest.mark.parametrize("runner", EITHER_RUNNER)
def test_labels_of_an_archive_are_rows_and_the_specialists_see_them(tmp_path, runner):
    write_tar(tmp_path / "x.tar", MEMBERS)
    run = annotate(job(tmp_path, runner), Observer())
    assert run.totals.images == {"ok": 4, "failed": 1, "duplicate": 1, "rejected": 0}
    assert run.totals.failures == {"decode/text_file": 1, "dataset/not_json": 1}
    assert texts(tmp_path) == {
        ("x.tar/a.png", "a dot"): "kept",
        ("x.tar/c.bmp", "the image"): "kept",
        ("x.tar/d.png", "the same picture, said otherwise"): "kept",
        ("x.tar/e.jpg", "said of nothing"): "rejected",
    }
    own = [row for row in table(tmp_path, "annotations") if row["source"] == "null"]
    assert len(own) == 4
    given = [row for row in table(tmp_path, "annotations") if row["source"] == "dataset"]
    assert {row["prompt"] for row in given} == {"txt"}
    assert all(row["model"] is None and row["score"] is None for row in given)


def test_a_mended_label_comes_in_with_a_retry_and_nothing_is_doubled(tmp_path):
    write_tar(tmp_path / "x.tar", MEMBERS)
    annotate(job(tmp_path, "serial"), Observer())
    before = texts(tmp_path)
    # the same places: a label of the same length
    write_tar(tmp_path / "x.tar", {**MEMBERS, "b.json": b'{"a":1}'})
    run = annotate(job(tmp_path, "serial"), Observer(), retry_failed=True)
    assert run.totals.failures == {"decode/text_file": 1}
    assert texts(tmp_path) == before
    assert len([r for r in table(tmp_path, "annotations") if r["source"] == "null"]) == 4


def test_what_the_source_gives_decides_the_levels(tmp_path):
    write_tar(tmp_path / "x.tar", MEMBERS)
    assert levels_of(job(tmp_path, "serial")) == [["null"]]
    loose = job(tmp_path, "serial", source={"uri": str(tmp_path)})
    with pytest.raises(ConfigError, match="requires text/alt rows and neither another specialist"):
        levels_of(loose)


def test_a_specialist_named_like_the_source_is_refused(tmp_path):
    same = job(tmp_path, "serial", specialists=[{"kind": "null", "name": "dataset"}])
    with pytest.raises(ConfigError, match="'dataset' is also the name of the source"):
        levels_of(same)


def test_rules_judge_what_the_source_says(tmp_path):
    view = {
        "image": {},
        "texts": [],
        "grounding": [],
        "regions": [
            {
                "region_id": "r",
                "box": [0, 0, 4, 4],
                "texts": [{"annotation_id": "r", "role": "phrase", "text": "the image"}],
            }
        ],
    }
    write_tar(tmp_path / "x.tar", {"a.png": tiny.PNG, "a.json": json.dumps(view).encode()})
    annotate(job(tmp_path, "serial", specialists=[]), Observer())
    [row] = table(tmp_path, "annotations")
    assert (row["status"], row["rule"], row["source_id"]) == ("rejected", "phrase_blacklist", "r")
