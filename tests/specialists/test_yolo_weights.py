"""YOLO with real weights: rows equal ultralytics' own predictor, fed with files, one to one."""

import json

import numpy as np
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from specialist_photos import photo

from engine.schema import box_array, empty_claims
from specialists.yolo import Yolo, import_ultralytics

pytestmark = pytest.mark.weights
# The detectors and their COCO AP on the 80 photos at min_score 0.001, as both sides give it.
AVERAGE_PRECISION = {"yolo11n_int8_openvino_model": 0.456, "yolov8n_int8_640.onnx": 0.404}
DETECTORS = list(AVERAGE_PRECISION)
SEGMENTER = "yolov8n-seg_int8_320.onnx"


@pytest.fixture(scope="module")
def photos(data):
    return sorted((data / "coco80" / "images").glob("*.jpg"))


def ask(weights, photos, **options):
    specialist = Yolo(model=str(weights), **options)
    specialist.load()
    return specialist.annotate([photo(path) for path in photos], empty_claims())


def predictor(weights):
    """ultralytics as its manual uses it."""
    import_ultralytics()
    from ultralytics.models import YOLO

    return YOLO(weights, task="segment" if "seg" in weights.name else "detect")


@pytest.mark.slow
@pytest.mark.parametrize("weights", [*DETECTORS, SEGMENTER])
def test_yolo_rows_equal_the_librarys_predictions(data, photos, weights):
    photos = photos[:25] if weights == SEGMENTER else photos  # it takes half a second a photo
    rows = ask(data / "weights" / weights, photos)
    model = predictor(data / "weights" / weights)
    results = [model.predict(path, conf=0.05, verbose=False)[0] for path in photos]
    assert rows.num_rows > 5 * len(photos)
    keys = [path.stem for path, result in zip(photos, results, strict=True) for _ in result.boxes]
    assert rows["image_key"].to_pylist() == keys
    assert rows["text"].to_pylist() == [r.names[int(c)] for r in results for c in r.boxes.cls]
    np.testing.assert_allclose(
        box_array(rows), np.concatenate([r.boxes.xyxy.numpy() for r in results]), atol=0.01
    )
    np.testing.assert_allclose(
        rows["score"].to_numpy(), np.concatenate([r.boxes.conf.numpy() for r in results]), atol=1e-4
    )


@pytest.mark.parametrize("weights", [*DETECTORS, SEGMENTER])
def test_yolo_batch_of_an_export_equals_image_by_image(data, photos, weights):
    specialist = Yolo(model=str(data / "weights" / weights))
    specialist.load()
    images = [photo(path) for path in photos[:6]]
    together = specialist.annotate(images, empty_claims()).to_pylist()
    alone = [row for i in images for row in specialist.annotate([i], empty_claims()).to_pylist()]
    assert together == alone


@pytest.mark.slow
@pytest.mark.parametrize("weights", DETECTORS)
def test_yolo_average_precision_equals_the_librarys(data, photos, weights):
    truth = COCO(data / "coco80" / "annotations" / "instances.json")
    numbers = {entry["name"]: entry["id"] for entry in truth.loadCats(truth.getCatIds())}
    rows = ask(data / "weights" / weights, photos, min_score=0.001)
    ours = [
        detection(row["image_key"], numbers[row["text"]], row["box"], row["score"])
        for row in rows.select(["image_key", "text", "box", "score"]).to_pylist()
    ]
    model = predictor(data / "weights" / weights)
    results = [model.predict(path, conf=0.001, verbose=False)[0] for path in photos]
    theirs = [
        detection(path.stem, numbers[model.names[int(number)]], box, score)
        for path, result in zip(photos, results, strict=True)
        for *box, score, number in result.boxes.data.tolist()
    ]
    precision = average_precision(truth, ours)
    assert precision == pytest.approx(average_precision(truth, theirs), abs=1e-6)
    assert precision == pytest.approx(AVERAGE_PRECISION[weights], abs=0.002)


def detection(stem, category, box, score):
    x0, y0, x1, y1 = box
    return {
        "image_id": int(stem),
        "category_id": category,
        "bbox": [x0, y0, x1 - x0, y1 - y0],
        "score": score,
    }


def average_precision(truth, detections):
    evaluation = COCOeval(truth, truth.loadRes(json.loads(json.dumps(detections))), "bbox")
    evaluation.params.imgIds = sorted(truth.getImgIds())
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return evaluation.stats[0]


def test_yolo_outlines_lie_around_their_boxes(data, photos):
    rows = ask(data / "weights" / SEGMENTER, photos[:20], min_score=0.5)
    assert rows.num_rows > 20
    for row in rows.to_pylist():
        corners = np.concatenate([np.reshape(ring, (-1, 2)) for ring in row["polygon"]])
        low, high = corners.min(axis=0), corners.max(axis=0)
        around = np.array(row["box"])
        slack = 0.1 * (around[2:] - around[:2]) + 8  # the mask's grid is 4 pixels of a 320 px input
        assert (np.abs(low - around[:2]) <= slack).all()
        assert (np.abs(high - around[2:]) <= slack).all()


def test_yolo_outlines_cover_the_librarys_masks(data, photos):
    import cv2

    rows = ask(data / "weights" / SEGMENTER, photos[:5], min_score=0.5)
    model = predictor(data / "weights" / SEGMENTER)
    results = [model.predict(path, conf=0.5, verbose=False)[0] for path in photos[:5]]
    outlines = [
        (result, points) for result in results if result.masks for points in result.masks.xy
    ]
    assert rows.num_rows == len(outlines) > 5
    for (result, points), rings in zip(outlines, rows["polygon"].to_pylist(), strict=True):
        ours, theirs = np.zeros(result.orig_shape, np.uint8), np.zeros(result.orig_shape, np.uint8)
        parts = [np.reshape(ring, (-1, 2)).round().astype(np.int32) for ring in rings]
        cv2.fillPoly(ours, parts, 1)
        cv2.fillPoly(theirs, [points.round().astype(np.int32)], 1)
        # where the library joins several parts into one polygon, its bridges are a pixel wide
        assert (ours & theirs).sum() >= 0.97 * (ours | theirs).sum()


@pytest.mark.parametrize("threads", [1, 2])
def test_yolo_tells_each_runtime_its_threads(data, threads, monkeypatch):
    import torch

    monkeypatch.setenv("OMP_NUM_THREADS", str(threads))

    for weights in DETECTORS:
        specialist = Yolo(model=str(data / "weights" / weights))
        specialist.load()
        backend = specialist._model.predictor.model.backend
        if weights.endswith(".onnx"):
            told = backend.session.get_session_options().intra_op_num_threads
        else:
            told = backend.ov_compiled_model.get_property("INFERENCE_NUM_THREADS")
        assert (told, torch.get_num_threads()) == (threads, threads)


def test_yolo_revision_is_the_digest_of_the_weights(data):
    weights = data / "weights" / "yolov8n_int8_640.onnx"
    assert Yolo(model=str(weights)).prepare() == "5d5fcea63f9cea86"
    assert len(Yolo(model=str(data / "weights" / DETECTORS[0])).prepare()) == 16
