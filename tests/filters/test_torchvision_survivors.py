"""Survivors of score and suppression equal those of torchvision's NMS, image by image and class."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.judge import RuleEntry, judge
from engine.merge import identify
from engine.schema import ANNOTATIONS, box_array, empty_claims, image_rows
from filters.region_duplicates import DuplicateRegion
from filters.region_scores import MinScore
from specialists.yolo import Yolo
from tests.builders import all_fresh, tables
from tests.specialists.specialist_photos import photo

torch = pytest.importorskip("torch")
nms = pytest.importorskip("torchvision").ops.nms

DETECTORS = ["yolo11n_int8_openvino_model", "yolov8n_int8_640.onnx"]


def torchvision_survivors(rows, iou):
    """Places of the rows kept, one call of `nms` for every image and class."""
    boxes, scores = box_array(rows), rows["score"].to_numpy()
    groups = {}
    pairs = zip(*rows.select(["image_key", "text"]).to_pydict().values(), strict=True)
    for place, key in enumerate(pairs):
        groups.setdefault(key, []).append(place)
    kept = []
    for places in groups.values():
        given = torch.from_numpy(boxes[places]), torch.from_numpy(scores[places])
        kept += np.array(places)[nms(*given, iou).numpy()].tolist()
    return sorted(kept)


@given(
    seed=st.integers(0, 2**32),
    count=st.integers(0, 80),
    iou=st.sampled_from([0.3, 0.45, 0.5, 0.7, 0.9]),
)
@settings(max_examples=200, deadline=None)
def test_survivors_of_random_boxes_equal_torchvisions(seed, count, iou):
    rng = np.random.default_rng(seed)
    corner = rng.uniform(0, 60, (count, 2))
    boxes = np.concatenate([corner, corner + rng.uniform(1, 40, (count, 2))], axis=1)
    given = tables(
        box=boxes.astype(np.float32),
        score=rng.permutation(count).astype(np.float32) / 80,  # ties are broken otherwise there
        text=rng.choice(["dog", "cat"], count).tolist(),
        image_key=rng.choice(["a", "b", "c"], count).tolist(),
    )
    rejected = DuplicateRegion(iou=iou).judge(given, all_fresh(given)).rejected.to_numpy(False)
    assert np.flatnonzero(~rejected).tolist() == torchvision_survivors(given.annotations, iou)


@pytest.fixture(scope="module")
def detections(data):
    """Rows of each detector before any suppression, down to a score of .01, and their images."""
    photos = [photo(path) for path in sorted((data / "coco80" / "images").glob("*.jpg"))]
    images = image_rows(
        image_key=[photo.image_key for photo in photos],
        width=[photo.width for photo in photos],
        height=[photo.height for photo in photos],
        status="ok",
    )
    found = {}
    for weights in DETECTORS:
        model = str(data / "weights" / weights)
        specialist = Yolo(model=model, min_score=0.01, iou=1.0, max_det=30_000)
        specialist.load()
        rows = specialist.annotate(photos, empty_claims())
        found[weights] = identify(rows, source="yolo", model=weights, revision=None)
    return images, found


@pytest.mark.weights
@pytest.mark.slow
@pytest.mark.parametrize("weights", DETECTORS)
@pytest.mark.parametrize("min_score", [0.01, 0.05])
@pytest.mark.parametrize("iou", [0.45, 0.5, 0.7])
def test_survivors_of_real_detections_equal_torchvisions(detections, weights, min_score, iou):
    images, found = detections
    rows = found[weights]
    assert rows.num_rows > 10_000
    rules = [RuleEntry(MinScore(limits={"*": min_score})), RuleEntry(DuplicateRegion(iou=iou))]
    judged, counts = judge(images, ANNOTATIONS.empty_table(), rows, rules)
    assert counts["duplicate_region"].rejected > 1_000
    kept = np.array([status == "kept" for status in judged["status"].to_pylist()])
    confident = np.flatnonzero(rows["score"].to_numpy() >= np.float32(min_score))
    expected = torchvision_survivors(rows.take(pa.array(confident)), iou)
    assert np.flatnonzero(kept).tolist() == confident[expected].tolist()
