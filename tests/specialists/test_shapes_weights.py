"""The shipped detector of the synthetic world: that it loads, knows its classes and finds shapes.

The full measurement on 1,000 unseen scenes is in its model card; training writes it.
"""

import hashlib
import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from engine.synthetic import CLASSES, scene

FOLDER = Path(__file__).parents[2] / "specialists" / "weights" / "shapes"
UNSEEN = 77  # a world no training, choice of epoch or measurement of the card has used
NUM_SCENES = 40
IMAGE_SIZE = 320  # what it was trained at


@pytest.fixture(scope="module")
def detector():
    pytest.importorskip("ultralytics", reason="the yolo extra is not installed")
    pytest.importorskip("onnxruntime", reason="the yolo extra is not installed")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("YOLO_AUTOINSTALL", "false")
        patch.setenv("YOLO_OFFLINE", "true")
        from ultralytics import YOLO

        yield YOLO(str(FOLDER / "shapes.onnx"), task="detect")


def overlap(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.clip(high - low, 0, None).prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


def detections(detector, drawn):
    pixels = drawn.pixels()[..., ::-1]  # ultralytics takes arrays as BGR
    (found,) = detector.predict(pixels, imgsz=IMAGE_SIZE, conf=0.25, device="cpu", verbose=False)
    names = [found.names[int(number)] for number in found.boxes.cls]
    return list(zip(names, found.boxes.xyxy.numpy(), strict=True))


def test_card_names_the_file_that_is_shipped():
    digest = hashlib.sha256((FOLDER / "shapes.onnx").read_bytes()).hexdigest()
    assert re.search(r"\b[0-9a-f]{64}\b", (FOLDER / "README.md").read_text())[0] == digest


@pytest.mark.weights
def test_shapes_file_names_the_classes_of_the_world(detector):
    detections(detector, scene(UNSEEN, 0))  # names come with the backend, at the first use
    assert tuple(detector.names.values()) == CLASSES


@pytest.mark.weights
def test_shapes_detector_finds_the_objects_of_unseen_scenes(detector):
    found = wanted = answers = 0
    for index in range(NUM_SCENES):
        drawn = scene(UNSEEN, index)
        said = detections(detector, drawn)
        answers += len(said)
        for shape in drawn.shapes:
            box = np.array(shape.box)
            wanted += 1
            found += any(name == shape.name and overlap(box, b) >= 0.5 for name, b in said)
    assert found / wanted >= 0.9
    assert found / answers >= 0.9


@pytest.mark.weights
def test_shapes_detector_takes_words_and_lines_for_no_shapes(detector):
    answers = words = 0
    for index in range(NUM_SCENES):
        drawn = scene(UNSEEN, index)
        words += len(drawn.words)
        bare = replace(drawn, layout=replace(drawn.layout, shapes=()))
        answers += len(detections(detector, bare))
    assert words > NUM_SCENES / 2
    assert answers <= NUM_SCENES / 10
