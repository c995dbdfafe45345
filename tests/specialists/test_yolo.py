"""YOLO without downloaded weights; that rows equal ultralytics' own is in test_yolo_weights."""

import os
import subprocess
import sys

import numpy as np
import pytest
from specialist_photos import noise

from engine.errors import ConfigError, SpecialistError
from engine.schema import empty_claims
from specialists.yolo import Yolo, import_ultralytics, mask_rings


@pytest.fixture(scope="module")
def random_weights(tmp_path_factory):
    """A real YOLO checkpoint nobody has trained: it finds things on any picture."""
    import_ultralytics()
    import torch
    from ultralytics.models import YOLO

    torch.manual_seed(0)
    file = tmp_path_factory.mktemp("weights") / "random.pt"
    model = YOLO("yolo11n.yaml")
    model.model.names = {i: f"class {i}" for i in range(80)}
    for branch in model.model.model[-1].cv3:  # a fresh head finds nothing: its biases are low
        torch.nn.init.normal_(branch[-1].weight, std=0.3)
        torch.nn.init.zeros_(branch[-1].bias)
    model.save(file)
    return str(file)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": -0.1}, r"min_score -0.1; allowed: 0 to 1"),
        ({"min_score": 1.5}, r"min_score 1.5; allowed: 0 to 1"),
        ({"iou": 2}, "iou 2; allowed: 0 to 1"),
        ({"imgsz": 0}, "imgsz 0; allowed: 1 or more"),
        ({"max_det": 0}, "max_det 0; allowed: 1 or more"),
        ({"classes": ()}, "classes is empty"),
        ({"half": True}, "half needs a GPU"),
    ],
)
def test_yolo_refuses_values_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        Yolo(model="a.onnx", **options)


def test_yolo_names_missing_weights_in_one_line(tmp_path):
    with pytest.raises(
        SpecialistError, match=r"^specialist 'yolo': weights .*gone.onnx is missing; "
    ):
        Yolo(model=str(tmp_path / "gone.onnx")).prepare()


def test_yolo_knows_which_names_it_could_download(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert Yolo(model="yolo11n.pt").needs()[-1].downloads
    assert not Yolo(model="folder/yolo11n.pt").needs()[-1].downloads
    assert not Yolo(model="yolo11n.onnx").needs()[-1].downloads
    (tmp_path / "yolo11n.pt").touch()
    assert Yolo(model="yolo11n.pt").needs()[-1].present


def test_yolo_refuses_a_name_ultralytics_does_not_offer(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(
        SpecialistError, match=r"best.pt are neither a file nor one of ultralytics'"
    ):
        Yolo(model="best.pt").prepare()


def test_yolo_needs_the_runtime_of_the_export():
    def packages(model):
        return [need.what for need in Yolo(model=model).needs()[:-1]]

    assert packages("a.pt") == ["package ultralytics"]
    assert packages("a.onnx") == ["package ultralytics", "package onnx", "package onnxruntime"]
    assert packages("shapes") == packages("a.onnx")
    assert packages("a_openvino_model") == ["package ultralytics", "package openvino"]


def test_import_ultralytics_prints_and_reports_nothing(tmp_path):
    code = (
        "from specialists.yolo import import_ultralytics; import_ultralytics()\n"
        "import ultralytics.utils as u, os, sys\n"
        "from ultralytics.utils.events import events\n"
        "assert not (u.ONLINE or u.AUTOINSTALL or u.VERBOSE or events.enabled)\n"
        "assert os.environ['YOLO_OFFLINE'] == 'true'\n"
        "sys.stderr.write(str(u.SETTINGS_FILE))"
    )
    unset = ("YOLO_CONFIG_DIR", "YOLO_OFFLINE", "YOLO_AUTOINSTALL", "YOLO_VERBOSE")
    environment = {name: value for name, value in os.environ.items() if name not in unset}
    environment["XDG_CACHE_HOME"] = str(tmp_path)
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert answer.stdout == ""
    assert answer.stderr == str(tmp_path / "fld-engine" / "Ultralytics" / "settings.json")


def test_yolo_answers_no_images_with_no_rows(random_weights):
    specialist = Yolo(model=random_weights, imgsz=64)
    specialist.load()
    assert specialist.annotate([], empty_claims()) == empty_claims()


def test_yolo_rows_of_a_torch_model_do_not_depend_on_the_batch(random_weights):
    specialist = Yolo(model=random_weights, imgsz=64, max_det=20)
    specialist.load()
    sizes = [(64, 40), (30, 60), (64, 40), (50, 50)]
    images = [noise(f"image-{i}", *size, seed=i) for i, size in enumerate(sizes)]
    together = specialist.annotate(images, empty_claims()).to_pylist()
    alone = [row for i in images for row in specialist.annotate([i], empty_claims()).to_pylist()]
    assert {row["image_key"] for row in together} == {image.image_key for image in images}
    assert [row["text"] for row in together] == [row["text"] for row in alone]
    # convolutions over one and over two pictures round differently in the last bits
    np.testing.assert_allclose(
        [row["box"] for row in together], [row["box"] for row in alone], atol=1e-3
    )


def test_yolo_answers_only_with_the_asked_classes(random_weights):
    options = {"model": random_weights, "imgsz": 64, "max_det": 300}
    every, some = Yolo(**options), Yolo(**options, classes=("class 7", "class 3"))
    every.load()
    some.load()
    image = noise("a", 64, 64)
    all_texts = every.annotate([image], empty_claims())["text"].to_pylist()
    some_texts = some.annotate([image], empty_claims())["text"].to_pylist()
    assert len(set(all_texts)) > 2
    assert set(some_texts) == {"class 3", "class 7"}


def test_yolo_refuses_a_class_the_model_does_not_have(random_weights):
    with pytest.raises(SpecialistError, match="has no class 'unicorn'; known: class 0, class 1,"):
        Yolo(model=random_weights, imgsz=64, classes=("unicorn",)).load()


def test_yolo_refuses_a_model_without_boxes(tmp_path):
    import_ultralytics()
    from ultralytics.models import YOLO

    YOLO("yolo11n-cls.yaml").save(tmp_path / "classifier.pt")
    with pytest.raises(SpecialistError, match="a model for 'classify', which gives no boxes"):
        Yolo(model=str(tmp_path / "classifier.pt")).load()


def test_mask_rings_of_an_empty_mask_and_of_a_dot_are_none():
    mask = np.zeros((8, 8), np.uint8)
    assert mask_rings(mask, (8, 8)) == []
    mask[3, 3] = 1
    assert mask_rings(mask, (8, 8)) == []


def test_mask_rings_run_clockwise_from_the_top_left():
    mask = np.zeros((8, 8), np.uint8)
    mask[2:5, 1:7] = 1
    assert mask_rings(mask, (8, 8)) == [[1, 2, 6, 2, 6, 4, 1, 4]]


def test_mask_rings_are_one_per_part_and_in_pixels_of_the_image():
    mask = np.zeros((8, 8), np.uint8)
    mask[0:3, 0:3] = 1
    mask[4:8, 4:8] = 1
    rings = mask_rings(mask, (16, 16))
    assert sorted(rings) == [[0, 0, 4, 0, 4, 4, 0, 4], [8, 8, 14, 8, 14, 14, 8, 14]]


def test_mask_rings_take_the_padding_off():
    mask = np.zeros((8, 8), np.uint8)
    mask[3:5, 1:4] = 1
    assert mask_rings(mask, (4, 8)) == [[1, 1, 3, 1, 3, 2, 1, 2]]
