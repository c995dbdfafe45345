"""A round on real photos: labels of one real detector, damaged, corrected by a second one."""

import json

import numpy as np
import pytest
import yaml

from engine.schema import claims
from engine.synthetic import DEFECTS, add_noise
from tests.faults.commands import ROOT, succeed
from tests.refinement.rounds_runs import current, stored_rounds

pytestmark = [pytest.mark.weights, pytest.mark.slow]

CONFIG = ROOT / "configs" / "refine-photos.yaml"
OBJECTS = [name for name, kind in DEFECTS.items() if kind == "region"]


def damage(labels, target, *, share, seed):
    """A COCO file with a share of its boxes broken."""
    content = json.loads(labels.read_text())
    names = {each["id"]: each["name"] for each in content["categories"]}
    ids = {name: number for number, name in names.items()}
    entries = content["annotations"]
    corners = np.array([each["bbox"] for each in entries], np.float32)
    corners[:, 2:] += corners[:, :2]
    rows = claims(
        image_key=[str(each["image_id"]) for each in entries],
        kind="region",
        role="category",
        text=[names[each["category_id"]] for each in entries],
        box=corners,
    )
    noisy, log = add_noise(rows, share=share, seed=seed, kinds=OBJECTS)
    content["annotations"] = [
        {
            "id": number,
            "image_id": int(row["image_key"]),
            "category_id": ids[row["text"]],
            "bbox": [*row["box"][:2], row["box"][2] - row["box"][0], row["box"][3] - row["box"][1]],
            "area": 1.0,
            "iscrowd": 0,
        }
        for number, row in enumerate(noisy.to_pylist(), start=1)
    ]
    target.write_text(json.dumps(content))
    return log.num_rows / rows.num_rows


def every_other(truth, target):
    """The photos on which no limit of the policy was chosen: every second one of the file."""
    content = json.loads(truth.read_text())
    images = content["images"][1::2]
    wanted = {image["id"] for image in images}
    labels = [each for each in content["annotations"] if each["image_id"] in wanted]
    target.write_text(json.dumps({**content, "images": images, "annotations": labels}))


@pytest.fixture(scope="module")
def detected(shell, data):
    """Labels of the first detector as a COCO file."""
    photos = data / "coco80" / "images"
    config = {
        "source": {"uri": str(photos), "shard_size": 40},
        "output": {"uri": "detected"},
        "specialists": [{"kind": "yolo", "model": str(data / "weights" / "yolov8n_int8_640.onnx")}],
        "rules": [{"rule": "min_score", "limits": {"yolo": 0.25}}],
        "runner": {"kind": "serial"},
    }
    (shell.folder / "detect.yaml").write_text(yaml.safe_dump(config))
    succeed(shell.run("annotate", "detect.yaml"))
    succeed(shell.run("export", "detected", "detected.json", "kind=coco"))
    return shell.folder / "detected.json"


def test_a_second_detector_mends_damaged_labels(shell, data, detected):
    folder = shell.folder
    share = damage(detected, folder / "noisy.json", share=0.3, seed=0)
    assert 0.25 < share < 0.35
    photos = data / "coco80" / "images"
    every_other(data / "coco80" / "annotations" / "instances.json", folder / "gold.json")
    succeed(shell.run("import", "noisy.json", "labelled", "kind=coco", f"images={photos}"))
    model = data / "weights" / "yolo11n_int8_openvino_model"
    said = succeed(shell.run("refine", CONFIG, f"refine.predictor.model={model}")).said
    print(said)
    before, after = stored_rounds(folder / "labelled")
    assert after["accepted"]
    assert current(folder / "labelled") == "round-1"
    assert after["f1"] > before["f1"] + 0.05
    for name in ("precision", "recall"):
        assert after[name] > before[name], name
