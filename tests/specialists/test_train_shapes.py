"""The data the shapes detector is trained on; training itself is too long for a test."""

import numpy as np
import pytest
import yaml
from PIL import Image

from engine.synthetic import CLASSES, scene
from specialists.weights.train_shapes import SEEDS, write_dataset


def test_write_dataset_of_no_scenes_is_a_description_alone(tmp_path):
    described = yaml.safe_load(write_dataset(tmp_path, {"train": 0}).read_text())
    assert described["names"] == dict(enumerate(CLASSES))
    assert list((tmp_path / described["train"]).iterdir()) == []


def test_write_dataset_labels_are_the_boxes_of_the_scenes(tmp_path):
    write_dataset(tmp_path, {"train": 2, "val": 1})
    assert {p.name for p in (tmp_path / "images/train").iterdir()} == {"000000.jpg", "000001.jpg"}
    for split, index in (("train", 0), ("train", 1), ("val", 0)):
        drawn = scene(SEEDS[split], index)
        with Image.open(tmp_path / f"images/{split}/{index:06d}.jpg") as picture:
            assert picture.size == (drawn.width, drawn.height)
        lines = np.loadtxt(tmp_path / f"labels/{split}/{index:06d}.txt", ndmin=2)
        assert [CLASSES[int(line[0])] for line in lines] == [s.name for s in drawn.shapes]
        middle, extent = lines[:, 1:3], lines[:, 3:5]
        boxes = np.hstack([middle - extent / 2, middle + extent / 2])
        boxes *= [drawn.width, drawn.height] * 2
        assert boxes == pytest.approx(np.array([s.box for s in drawn.shapes]), abs=0.01)


def test_no_two_splits_share_a_world():
    assert len(set(SEEDS.values())) == len(SEEDS) == 3
