"""The main job on real photos, as a user starts it: on Ray, a real detector, read by others.

That a specialist alone equals its library is tested in tests/specialists; here the whole way is.
"""

import io
import json
import os
import subprocess
import sys
from contextlib import redirect_stdout
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
import webdataset

pytestmark = [pytest.mark.ray, pytest.mark.weights, pytest.mark.slow]

_MODEL = "weights/yolo11n_int8_openvino_model"


@pytest.fixture(scope="module")
def annotated(data, tmp_path_factory) -> Path:
    out = tmp_path_factory.mktemp("main") / "out"
    overrides = [
        f"source.uri={data}/coco80/images",
        "source.shard_size=32",
        f"output.uri={out}",
        f"specialists=[{{kind: yolo, model: {data}/{_MODEL}}}, {{kind: composer}}]",
        "rules=[{rule: min_score, limits: {yolo: 0.25}}, {rule: duplicate_region}]",
    ]
    command = [sys.executable, "-m", "engine.cli", "annotate", *overrides]
    run = subprocess.run(command, capture_output=True, text=True, timeout=500, check=False)
    assert run.returncode == 0, run.stderr
    return out


@pytest.fixture(scope="module")
def claimed(annotated):
    tables = [pq.read_table(p) for p in sorted(annotated.glob("round-0/*.annotations.parquet"))]
    images = [pq.read_table(p) for p in sorted(annotated.glob("round-0/*.images.parquet"))]
    names = {i["image_key"]: i["uri"] for table in images for i in table.to_pylist()}
    rows: dict[str, list[dict]] = {uri: [] for uri in names.values()}
    for table in tables:
        for row in table.to_pylist():
            rows[names[row["image_key"]]].append(row)
    return rows


@pytest.fixture(scope="module")
def predicted(data):
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    from ultralytics import YOLO

    model = YOLO(str(data / _MODEL), task="detect")
    found = {}
    for photo in sorted((data / "coco80" / "images").iterdir()):
        boxes = model.predict(str(photo), imgsz=640, conf=0.05, iou=0.7, verbose=False)[0].boxes
        found[photo.name] = (boxes.xyxy.numpy(), boxes.conf.numpy(), boxes.cls.numpy(), model.names)
    return found


# webdataset leaves its tars open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_every_shard(annotated, data):
    seen = {}
    for tar in sorted(annotated.glob("round-0/*.tar")):
        for sample in webdataset.WebDataset(str(tar), shardshuffle=False):
            view = json.loads(sample["json"])
            assert view["image"]["image_key"] == sample["__key__"]
            seen[view["image"]["uri"]] = sample["jpg"]
    photos = {p.name: p.read_bytes() for p in (data / "coco80" / "images").iterdir()}
    assert seen == photos


def test_boxes_equal_those_of_the_predictor_one_to_one(claimed, predicted):
    assert set(claimed) == set(predicted)
    for name, (xyxy, scores, classes, names) in predicted.items():
        rows = [row for row in claimed[name] if row["source"] == "yolo"]
        assert [row["text"] for row in rows] == [names[int(c)] for c in classes], name
        np.testing.assert_allclose([r["box"] for r in rows] or xyxy, xyxy, atol=0.01, err_msg=name)
        np.testing.assert_allclose([r["score"] for r in rows], scores, atol=1e-4, err_msg=name)


def test_map_equals_that_of_the_predictor(claimed, predicted, data):
    ours = {
        name: (
            np.array([r["box"] for r in rows if r["source"] == "yolo"], float).reshape(-1, 4),
            [r["score"] for r in rows if r["source"] == "yolo"],
            [r["text"] for r in rows if r["source"] == "yolo"],
        )
        for name, rows in claimed.items()
    }
    theirs = {
        name: (xyxy, scores, [names[int(c)] for c in classes])
        for name, (xyxy, scores, classes, names) in predicted.items()
    }
    truth = data / "coco80" / "annotations" / "instances.json"
    stats, expected = _coco_stats(truth, ours), _coco_stats(truth, theirs)
    assert expected[0] > 0.35  # the detector really detects
    np.testing.assert_allclose(stats, expected, atol=1e-4)


def test_every_photo_with_kept_objects_has_a_composed_caption(claimed):
    for name, rows in claimed.items():
        kept = [r for r in rows if r["source"] == "yolo" and r["status"] == "kept"]
        captions = [r for r in rows if r["source"] == "composer"]
        assert len(captions) == (1 if kept else 0), name
        assert all(set(c["parents"]) <= {r["annotation_id"] for r in kept} for c in captions)


def test_every_rejected_row_says_why(claimed):
    rejected = [r for rows in claimed.values() for r in rows if r["status"] == "rejected"]
    assert len(rejected) > 100
    for row in rejected:
        assert row["rule"] in ("min_score", "duplicate_region")
        assert row["measured"] is not None
        assert row["limit"] is not None
    low = [r for r in rejected if r["rule"] == "min_score"]
    assert all(r["measured"] == r["score"] < r["limit"] == 0.25 for r in low)


def _coco_stats(truth_file: Path, found: dict) -> np.ndarray:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(io.StringIO()):
        truth = COCO(str(truth_file))
        images = {i["file_name"]: i["id"] for i in truth.dataset["images"]}
        categories = {c["name"]: c["id"] for c in truth.dataset["categories"]}
        results = [
            {
                "image_id": images[name],
                "category_id": categories[word],
                "bbox": [*box[:2].tolist(), *(box[2:] - box[:2]).tolist()],
                "score": float(score),
            }
            for name, (boxes, scores, words) in found.items()
            for box, score, word in zip(boxes, scores, words, strict=True)
        ]
        evaluation = COCOeval(truth, truth.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats
