"""Train the small detector of the synthetic world's twelve shapes and export it as ONNX.

    python specialists/weights/train_shapes.py

It generates its data in a temporary folder, trains with ultralytics from random weights, exports,
and measures the exported file on scenes no training saw. The model card says how long it takes.
"""

import argparse
import hashlib
import json
import logging
import os
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from engine.synthetic import CLASSES, scene

IMAGE_SIZE = 320  # pixels, longer side; scenes are 384: half the time, and still 24 px per shape
MIN_HALVED = 256  # values; smaller weights (biases, constants) stay float32
# Worlds, one each for training, choosing the best epoch and measuring: none shares a scene.
SEEDS = {"train": 1001, "val": 1002, "test": 1003}

# A narrow one-stage detector: strides 8, 16 and 32, three anchor-free heads. Each line is
# [from, repeats, block, arguments], as ultralytics reads it.
ARCHITECTURE: dict[str, Any] = {
    "nc": len(CLASSES),
    "reg_max": 8,  # strides an edge may be from its anchor: 256 px at the last head
    "backbone": [
        [-1, 1, "Conv", [16, 3, 2]],
        [-1, 1, "Conv", [24, 3, 2]],
        [-1, 1, "C2f", [24, True]],
        [-1, 1, "Conv", [48, 3, 2]],
        [-1, 1, "C2f", [48, True]],  # 4: stride 8
        [-1, 1, "Conv", [80, 3, 2]],
        [-1, 1, "C2f", [80, True]],  # 6: stride 16
        [-1, 1, "Conv", [112, 3, 2]],
        [-1, 1, "C2f", [112, True]],
        [-1, 1, "SPPF", [112, 5]],  # 9: stride 32
    ],
    "head": [
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 6], 1, "Concat", [1]],
        [-1, 1, "C2f", [80]],  # 12
        [-1, 1, "nn.Upsample", [None, 2, "nearest"]],
        [[-1, 4], 1, "Concat", [1]],
        [-1, 1, "C2f", [48]],  # 15
        [-1, 1, "Conv", [48, 3, 2]],
        [[-1, 12], 1, "Concat", [1]],
        [-1, 1, "C2f", [80]],  # 18
        [-1, 1, "Conv", [80, 3, 2]],
        [[-1, 9], 1, "Concat", [1]],
        [-1, 1, "C2f", [112]],  # 21
        [[15, 18, 21], 1, "Detect", ["nc"]],
    ],
}

log = logging.getLogger("train_shapes")


def write_split(folder: Path, split: str, num_scenes: int) -> None:
    """Scenes 0 to `num_scenes` - 1 of a split's world as JPEG files with YOLO label files."""
    images, labels = folder / "images" / split, folder / "labels" / split
    images.mkdir(parents=True)
    labels.mkdir(parents=True)
    for index in range(num_scenes):
        drawn = scene(SEEDS[split], index)
        (images / f"{index:06d}.jpg").write_bytes(drawn.jpeg())
        lines = []
        for shape in drawn.shapes:
            x_min, y_min, x_max, y_max = shape.box
            centre = (x_min + x_max) / 2 / drawn.width, (y_min + y_max) / 2 / drawn.height
            extent = (x_max - x_min) / drawn.width, (y_max - y_min) / drawn.height
            numbers = " ".join(f"{number:.6f}" for number in (*centre, *extent))
            lines.append(f"{CLASSES.index(shape.name)} {numbers}\n")
        (labels / f"{index:06d}.txt").write_text("".join(lines))


def write_dataset(folder: Path, counts: dict[str, int]) -> Path:
    """The whole training set under `folder`; returns its description for ultralytics."""
    for split, num_scenes in counts.items():
        write_split(folder, split, num_scenes)
    described = {
        "path": str(folder),
        **{split: f"images/{split}" for split in counts},
        "names": dict(enumerate(CLASSES)),
    }
    path = folder / "shapes.yaml"
    path.write_text(yaml.safe_dump(described, sort_keys=False))
    return path


def train(dataset: Path, folder: Path, epochs: int) -> Path:
    """Train from random weights and export the best epoch; returns the ONNX file."""
    from ultralytics.models import YOLO

    architecture = folder / "shapes_model.yaml"
    architecture.write_text(yaml.safe_dump(ARCHITECTURE, sort_keys=False))
    model = YOLO(str(architecture), task="detect")
    model.train(
        data=str(dataset),
        imgsz=IMAGE_SIZE,
        epochs=epochs,
        batch=16,
        nbs=16,  # a step per batch; by default ultralytics would add up the gradients of four
        rect=True,  # scenes are all of one size: no padding, and still shuffled
        device="cpu",
        seed=0,
        optimizer="AdamW",
        lr0=0.002,
        lrf=0.01,
        cos_lr=True,
        warmup_epochs=0.5,
        # Scenes are as varied as we draw them: only what the generator lacks is augmented.
        mosaic=0.0,
        scale=0.25,
        translate=0.1,
        hsv_h=0.0,
        hsv_s=0.2,
        hsv_v=0.2,
        fliplr=0.5,
        erasing=0.0,
        plots=False,
        project=str(folder / "runs"),
        name="shapes",
    )
    best = YOLO(str(folder / "runs" / "shapes" / "weights" / "best.pt"))
    return Path(
        best.export(format="onnx", imgsz=IMAGE_SIZE, dynamic=True, simplify=False, opset=17)
    )


def store_as_float16(source: Path, target: Path) -> Path:
    """Copy an ONNX file with its large float32 weights as float16 and a cast back behind each.

    Half the bytes; runtimes fold the casts when they load the file and still compute in float32.
    The description, which names the temporary folder, is replaced.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    model = onnx.load(source)
    graph, casts = model.graph, []
    for weight in graph.initializer:
        values = numpy_helper.to_array(weight)
        if values.dtype != np.float32 or values.size < MIN_HALVED:
            continue
        name, stored = weight.name, f"{weight.name}_float16"
        weight.CopyFrom(numpy_helper.from_array(values.astype(np.float16), stored))
        casts.append(helper.make_node("Cast", [stored], [name], to=TensorProto.FLOAT))
    nodes = [*casts, *graph.node]
    del graph.node[:]
    graph.node.extend(nodes)
    described = {entry.key: entry.value for entry in model.metadata_props}
    described["description"] = "Detector of the twelve shapes of the synthetic world"
    del described["date"]  # the same weights are the same bytes
    helper.set_model_props(model, described)
    onnx.checker.check_model(model)
    onnx.save(model, target)
    return target


def measure(weights: Path, dataset: Path) -> dict[str, float]:
    """Precision (mAP) of an ONNX file on the test world, as ultralytics computes it."""
    from ultralytics.models import YOLO

    found = YOLO(str(weights), task="detect").val(
        data=str(dataset), split="test", imgsz=IMAGE_SIZE, batch=1, device="cpu", plots=False
    )
    return {"mAP50": float(found.box.map50), "mAP50-95": float(found.box.map)}


def main() -> None:
    """Generate, train, export, measure; put the model beside this script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scenes", type=int, default=6000, help="training scenes")
    parser.add_argument("--epochs", type=int, default=5)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "shapes")
    options = parser.parse_args()
    # ultralytics must neither install packages nor look for newer ones.
    os.environ.update(YOLO_AUTOINSTALL="false", YOLO_OFFLINE="true")
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        counts = {"train": options.scenes, "val": 200, "test": 1000}
        dataset = write_dataset(folder, counts)
        log.info("data after %.0f s", time.monotonic() - started)
        exported = train(dataset, folder, options.epochs)
        options.out.mkdir(parents=True, exist_ok=True)
        weights = store_as_float16(exported, options.out / "shapes.onnx")
        numbers: dict[str, Any] = measure(weights, dataset)
    numbers["minutes"] = round((time.monotonic() - started) / 60, 1)
    numbers["sha256"] = hashlib.sha256(weights.read_bytes()).hexdigest()
    log.info("%s", json.dumps(numbers, indent=2))


if __name__ == "__main__":
    main()
