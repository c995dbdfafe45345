"""All three families from one run: texts, regions and groundings on real photos.

The photos and the sentences people wrote about them come as WebDataset shards, two real detectors
look at them, what they agree on takes their place, and the sentences' phrases are tied to it.
"""

import json
from collections import Counter, defaultdict
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import webdataset

from engine.compose import compose
from engine.config import parse_config
from engine.job import Observer
from engine.run import annotate

pytestmark = [pytest.mark.weights, pytest.mark.slow]


def write_shards(data: Path, folder: Path) -> Path:
    """Forty of COCO's photos in two tars, each with its sentences and licence as JSON."""
    told = json.loads((data / "coco80" / "annotations" / "captions.json").read_text())
    sentences = defaultdict(list)
    for row in told["annotations"]:
        sentences[row["image_id"]].append(row["caption"])
    licences = {item["id"]: item["url"] for item in told.get("licenses", [])}
    folder.mkdir()
    for shard in range(2):
        with webdataset.TarWriter(str(folder / f"{shard:06d}.tar")) as writer:
            for image in sorted(told["images"], key=lambda image: image["id"])[shard:40:2]:
                photo = data / "coco80" / "images" / image["file_name"]
                label = {"captions": sentences[image["id"]]}
                label["license"] = licences.get(image.get("license"))
                writer.write({"__key__": photo.stem, "jpg": photo.read_bytes(), "json": label})
    return folder


def config(data: Path, folder: Path, out: Path) -> dict:
    weights = data / "weights"
    return {
        "source": {
            "uri": str(folder / "{000000..000001}.tar"),
            "texts": {"captions": "brief"},
            "human": True,
            "name": "coco",
            "shard_size": 32,
        },
        "output": {"uri": str(out)},
        "specialists": [
            {"kind": "yolo", "model": str(weights / "yolo11n_int8_openvino_model")},
            {"kind": "yolo", "name": "yolo_b", "model": str(weights / "yolov8n_int8_640.onnx")},
            {"kind": "consensus", "sources": ["yolo", "yolo_b"]},
            {"kind": "composer"},
            {"kind": "matcher"},
        ],
        "rules": [
            {"rule": "min_score", "limits": {"yolo": 0.15, "yolo_b": 0.15, "consensus": 0.2}},
            {"rule": "duplicate_region", "across_sources": False},
            {"rule": "phrase_blacklist"},
        ],
        "runner": {"kind": "serial"},
    }


@pytest.fixture(scope="module")
def rows(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("families")
    raw = config(data, write_shards(data, folder / "shards"), folder / "out")
    run = annotate(compose(parse_config(raw, (), "test")), Observer())
    assert run.totals.images["ok"] == 40
    assert run.totals.failures == {}
    tables = sorted((folder / "out" / "round-0").glob("*.annotations.parquet"))
    return [row for table in tables for row in pq.read_table(table).to_pylist()]


def kept(rows, **wanted):
    return [
        row
        for row in rows
        if row["status"] == "kept" and all(row[name] == value for name, value in wanted.items())
    ]


def test_all_three_families_are_filled(rows):
    counts = Counter((row["source"], row["kind"], row["role"]) for row in kept(rows))
    assert set(counts) == {
        ("coco", "text", "brief"),
        ("composer", "text", "brief"),
        ("consensus", "region", "category"),
        ("matcher", "grounding", "phrase"),
    }
    photos = {kind: {row["image_key"] for row in kept(rows, kind=kind)} for kind in ROW_KINDS}
    assert len(photos["text"]) == 40
    assert len(photos["region"]) >= 37
    assert len(photos["grounding"]) >= 30


ROW_KINDS = ("text", "region", "grounding")


def test_every_row_says_where_it_is_from(rows):
    for row in rows:
        assert row["source"]
        assert row["annotation_id"]
        assert row["round"] == 0
        if row["source"] == "coco":
            assert (row["human"], row["prompt"], row["model"]) == (True, "json.captions", None)
        else:
            assert row["model"]
            assert row["revision"]
            assert not row["human"]
    ids = {row["annotation_id"] for row in rows}
    assert len(ids) == len(rows)
    for row in rows:
        assert set(row["parents"] or ()) <= ids
        assert {row["region_id"], row["text_id"]} - {None} <= ids


def test_what_the_detectors_said_is_superseded_by_what_they_agree_on(rows):
    by_id = {row["annotation_id"]: row for row in rows}
    fused = kept(rows, source="consensus")
    assert {by_id[p]["status"] for row in fused for p in row["parents"]} == {"superseded"}
    assert kept(rows, source="yolo") == kept(rows, source="yolo_b") == []
    # the vote also speaks against: a fused row that is rejected takes its parents with it
    voted_out = [
        row for row in rows if row["source"] == "consensus" and row["status"] == "rejected"
    ]
    assert voted_out
    assert {by_id[p]["status"] for row in voted_out for p in row["parents"]} <= {
        "superseded",
        "rejected",
    }


def test_spans_are_the_phrases_and_boxes_are_those_of_the_regions(rows):
    by_id = {row["annotation_id"]: row for row in rows}
    found = kept(rows, kind="grounding")
    for row in found:
        text = by_id[row["text_id"]]["text"]
        assert text[row["span_start"] : row["span_end"]] == row["text"]
        assert row["box"] == by_id[row["region_id"]]["box"]
    assert len(found) > 100
