"""Detections by real transformers classes with random weights: the same code as for trained ones.

No trained model of them is at hand here; that the boxes make sense is not tested.
"""

import pickle
import shutil

import numpy as np
import pytest
import torch
import transformers
from odd_pictures import PICTURES, SLIVER, batch_of, turned
from PIL import Image
from safetensors.torch import load_file, save_file
from specialist_photos import noise
from tiny_vision import save_d_fine, save_detr, save_rt_detr_v2, save_yolos

from engine.errors import ConfigError, SpecialistError
from engine.schema import box_array, empty_claims
from engine.worker import Host, SpecialistSpec
from specialists.detr import Detr

SAVE = {
    "rt_detr_v2": save_rt_detr_v2,
    "d_fine": save_d_fine,
    "detr": save_detr,
    "yolos": save_yolos,
}
FAMILIES = list(SAVE)


@pytest.fixture(scope="session")
def detectors(tmp_path_factory):
    """Folder of each family, written when first asked for."""
    root = tmp_path_factory.mktemp("detectors")

    def folder(family):
        place = root / family
        return place if place.exists() else SAVE[family](place)

    return folder


def load(folder, **options):
    specialist = Detr(model=str(folder), **options)
    specialist.load()
    return specialist


def answers(specialist, pictures):
    return specialist.annotate(pictures, empty_claims()).to_pylist()


@pytest.mark.parametrize("family", FAMILIES)
def test_detr_answers_no_images_with_no_rows(detectors, family):
    assert load(detectors(family)).annotate([], empty_claims()).num_rows == 0


@pytest.mark.parametrize("family", FAMILIES)
def test_detr_equals_the_models_own_post_processing(detectors, family):
    folder = detectors(family)
    processor = transformers.AutoImageProcessor.from_pretrained(folder)
    model = transformers.AutoModelForObjectDetection.from_pretrained(folder).eval()
    specialist = load(folder, min_score=0.3)
    for picture in PICTURES:
        with torch.no_grad():
            inputs = processor(images=Image.fromarray(picture.rgb()), return_tensors="pt")
            (expected,) = processor.post_process_object_detection(
                model(**inputs), threshold=0.3, target_sizes=[(picture.height, picture.width)]
            )
        rows = specialist.annotate([picture], empty_claims())
        order = expected["scores"].argsort(descending=True, stable=True)
        names = [model.config.id2label[int(label)] for label in expected["labels"][order]]
        sides = torch.tensor([picture.width, picture.height] * 2)
        boxes = expected["boxes"][order].clamp(min=torch.zeros(4), max=sides)
        assert names
        assert rows["text"].to_pylist() == names
        assert rows["score"].to_pylist() == pytest.approx(expected["scores"][order].tolist())
        assert box_array(rows) == pytest.approx(boxes.numpy(), abs=1e-4)


@pytest.mark.parametrize("family", FAMILIES)
def test_detr_batch_equals_image_by_image(detectors, family):
    specialist = load(detectors(family))
    together = answers(specialist, PICTURES)
    alone = [row for picture in PICTURES for row in answers(specialist, [picture])]
    assert {row["image_key"] for row in together} == {p.image_key for p in PICTURES}
    assert [row["image_key"] for row in together] == [row["image_key"] for row in alone]
    assert [row["text"] for row in together] == [row["text"] for row in alone]
    for name in ("score", "box"):
        values, others = ([np.ravel(row[name]) for row in rows] for rows in (together, alone))
        assert np.concatenate(values) == pytest.approx(np.concatenate(others), abs=1e-3)


@pytest.mark.parametrize("family", FAMILIES)
def test_detr_rows_are_identified_regions_inside_their_image(detectors, family):
    specialist = Detr(model=str(detectors(family)), name="mine")
    host = Host(SpecialistSpec(pickle.loads(pickle.dumps(specialist)), specialist.prepare()))
    host.load()
    rows, receipt = host.annotate(batch_of(PICTURES), None)
    assert receipt.failures == []
    assert rows.num_rows
    sizes = {picture.image_key: (picture.width, picture.height) for picture in PICTURES}
    for row in rows.to_pylist():
        assert (row["kind"], row["role"], row["source"]) == ("region", "category", "mine")
        assert row["text"] in {"cat", "dog", "bus"}
        assert row["region_id"] == row["annotation_id"]
        assert 0.05 < row["score"] <= 1
        width, height = sizes[row["image_key"]]
        x_min, y_min, x_max, y_max = row["box"]
        assert 0 <= x_min <= x_max <= width
        assert 0 <= y_min <= y_max <= height


@pytest.mark.parametrize("family", FAMILIES)
def test_detr_sees_a_turned_image_upright(detectors, family):
    specialist = load(detectors(family))
    upright = answers(specialist, [noise("same", 40, 64, seed=3)])
    assert upright
    assert answers(specialist, [turned("same", 40, 64, seed=3)]) == upright


@pytest.mark.parametrize("family", ["rt_detr_v2", "d_fine"])
def test_detr_takes_a_sliver(detectors, family):
    rows = load(detectors(family)).annotate([SLIVER], empty_claims())
    assert rows.num_rows
    assert box_array(rows)[:, 2].max() <= 2


@pytest.mark.parametrize("family", ["detr", "yolos"])
def test_detr_blames_a_sliver_it_cannot_scale_alone(detectors, family):
    """Here a shape-keeping processor scales the short side of 2 px to less than one."""
    specialist = Detr(model=str(detectors(family)))
    host = Host(SpecialistSpec(specialist, specialist.prepare()))
    host.load()
    rows, receipt = host.annotate(batch_of([PICTURES[0], SLIVER]), None)
    assert [key for key, _ in receipt.failures] == ["sliver"]
    assert set(rows["image_key"].to_pylist()) == {PICTURES[0].image_key}


def test_detr_rows_come_by_falling_score_and_no_more_than_asked(detectors):
    folder = detectors("detr")  # its own order is that of its queries
    every = answers(load(folder), PICTURES[:1])
    scores = [row["score"] for row in every]
    assert scores == sorted(scores, reverse=True)
    assert len(every) > 3
    assert answers(load(folder, max_boxes=3), PICTURES[:1]) == every[:3]


def test_detr_of_nothing_above_min_score_is_no_row(detectors):
    assert answers(load(detectors("d_fine"), min_score=1), PICTURES) == []


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_detr_computes_in_the_asked_dtype(detectors, dtype):
    specialist = load(detectors("detr"), dtype=dtype)
    assert specialist._model.dtype == getattr(torch, dtype)
    assert answers(specialist, PICTURES)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_score": 1.5}, "min_score 1.5; allowed: 0 to 1"),
        ({"max_boxes": 0}, "max_boxes 0; allowed: 1 or more"),
    ],
)
def test_detr_refuses_limits_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        Detr(**options)


def test_detr_refuses_a_folder_without_safetensors(detectors, tmp_path):
    folder = shutil.copytree(detectors("d_fine"), tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SpecialistError, match=r"the folder must hold config\.json and"):
        Detr(model=str(folder)).prepare()
    with pytest.raises(SpecialistError, match=r"^specialist 'detr': .* cannot be loaded: .*$"):
        load(folder)


def test_detr_refuses_a_folder_without_a_processor(detectors, tmp_path):
    folder = shutil.copytree(detectors("d_fine"), tmp_path / "copy")
    (folder / "preprocessor_config.json").unlink()
    with pytest.raises(SpecialistError, match=r"^specialist 'detr': .* cannot be loaded: .*$"):
        load(folder)


def test_detr_refuses_a_model_that_detects_nothing(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(SpecialistError, match=r"^specialist 'detr': .* cannot be loaded: .*$"):
        load(tmp_path)


def test_detr_refuses_a_processor_that_gives_no_boxes(detectors, tmp_path):
    folder = shutil.copytree(detectors("d_fine"), tmp_path / "copy")
    transformers.ViTImageProcessor().save_pretrained(folder)
    with pytest.raises(SpecialistError, match=r"\(ViTImageProcessor\) gives no boxes; name an obj"):
        load(folder)


def test_detr_refuses_weights_that_lack_the_head(detectors, tmp_path):
    """transformers fills the gap at random, and would answer as if nothing were wrong."""
    folder = shutil.copytree(detectors("detr"), tmp_path / "copy")
    weights = load_file(folder / "model.safetensors")
    left = {name: part for name, part in weights.items() if "class_labels" not in name}
    assert len(left) == len(weights) - 2
    save_file(left, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(SpecialistError, match=r"no weights for 2 parts of a DetrForObj.*class_lab"):
        load(folder)
