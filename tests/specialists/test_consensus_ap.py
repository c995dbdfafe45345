"""Two real detectors over COCO photos: what their consensus is worth, by pycocotools."""

import io
from contextlib import redirect_stdout

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from specialist_photos import photo

from engine.geometry import is_box
from engine.merge import identify
from engine.schema import box_array, empty_claims
from specialists.consensus import Consensus
from specialists.yolo import Yolo

pytestmark = [pytest.mark.weights, pytest.mark.slow]

DETECTORS = {"yolo11n": "yolo11n_int8_openvino_model", "yolov8n": "yolov8n_int8_640.onnx"}


@pytest.fixture(scope="module")
def photos(data):
    return [photo(path) for path in sorted((data / "coco80" / "images").glob("*.jpg"))]


@pytest.fixture(scope="module")
def detections(data, photos):
    """Rows of each detector at the lowest score asked for below."""
    found = {}
    for name, weights in DETECTORS.items():
        specialist = Yolo(name=name, model=str(data / "weights" / weights), min_score=0.01)
        specialist.load()
        rows = specialist.annotate(photos, empty_claims())
        found[name] = identify(rows, source=name, model=weights, revision=None)
    return found


@pytest.fixture(scope="module")
def truth(data):
    with redirect_stdout(io.StringIO()):
        return COCO(data / "coco80" / "annotations" / "instances.json")


def above(rows, min_score):
    return rows.filter(pc.greater_equal(rows["score"], pa.scalar(min_score, pa.float32())))


def fuse(rows, photos, **options):
    specialist = Consensus(sources=tuple(DETECTORS), **options)
    specialist.load()
    return specialist.annotate(photos, rows)


def together(tables):
    return pa.concat_tables(tables).unify_dictionaries()


def average_precision(truth, rows):
    """AP over IoU 0.50 to 0.95, as COCO reports it first."""
    numbers = {entry["name"]: entry["id"] for entry in truth.loadCats(truth.getCatIds())}
    boxes = box_array(rows)
    found = np.column_stack(
        [
            np.array(rows["image_key"].to_pylist(), int),
            boxes[:, :2],
            boxes[:, 2:] - boxes[:, :2],
            rows["score"].to_numpy(),
            [numbers[text] for text in rows["text"].to_pylist()],
        ]
    )
    with redirect_stdout(io.StringIO()):
        evaluation = COCOeval(truth, truth.loadRes(found), "bbox")
        evaluation.params.imgIds = sorted(truth.getImgIds())
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return float(evaluation.stats[0])


# The floors lie some .003 below what was measured: .0052, .0105, .0163 and .0463.
@pytest.mark.parametrize(
    ("min_score", "gain"), [(0.01, 0.002), (0.05, 0.007), (0.1, 0.013), (0.25, 0.043)]
)
def test_consensus_beats_the_better_detector(detections, photos, truth, min_score, gain):
    alone = {name: above(rows, min_score) for name, rows in detections.items()}
    better = max(average_precision(truth, rows) for rows in alone.values())
    fused = fuse(together(list(alone.values())), photos)
    assert average_precision(truth, fused) > better + gain


def test_consensus_of_one_detector_is_that_detector(detections, photos):
    for name, rows in detections.items():
        specialist = Consensus(sources=(name,))
        specialist.load()
        fused = specialist.annotate(photos, rows)
        sound = rows.filter(pa.array(is_box(box_array(rows))))  # some end where they begin
        assert spelled(fused) == spelled(sound)


def spelled(rows):
    columns = rows.select(["image_key", "text", "score", "box"]).to_pydict().values()
    return sorted(zip(*columns, strict=True))


def test_consensus_answers_a_batch_as_its_images(detections, photos):
    rows = together([above(rows, 0.05) for rows in detections.values()])
    batch = fuse(rows, photos[:12])
    alone = [fuse(rows, [image]) for image in photos[:12]]
    assert batch.to_pylist() == together(alone).to_pylist()
