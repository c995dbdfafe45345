"""Masks by real transformers classes with random weights: the same code as for trained ones.

No trained model of them is at hand here; that the masks make sense is not tested. How a mask
becomes an outline is tested with the outlines.
"""

import pickle
import shutil

import numpy as np
import pytest
import torch
import transformers
from odd_pictures import PICTURES, SLIVER, batch_of, turned
from PIL import Image
from specialist_photos import noise
from tiny_vision import save_rt_detr_v2, save_sam, save_sam2, save_sam2_video

from engine.errors import ConfigError, SpecialistError
from engine.judge import RuleEntry, judge
from engine.nested import nested_views
from engine.schema import ANNOTATIONS, empty_claims, image_rows
from engine.shard import level_order
from engine.worker import Host, SpecialistSpec
from filters.lineage import Orphan
from filters.region_boxes import InvalidBox, MinArea
from filters.region_duplicates import DuplicateRegion
from specialists.consensus import Consensus
from specialists.detr import Detr
from specialists.outlines import mask_outlines
from specialists.region_caption import RegionCaption
from specialists.region_text import RegionText
from specialists.segmenter import Segmenter
from tests.builders import rows

SAVE = {"sam": save_sam, "sam2": save_sam2, "sam2_video": save_sam2_video}
FAMILIES = list(SAVE)
RULES = [RuleEntry(rule) for rule in (InvalidBox(), MinArea(), DuplicateRegion(), Orphan())]


@pytest.fixture(scope="session")
def segmenters(tmp_path_factory):
    """Folder of each family, written when first asked for."""
    root = tmp_path_factory.mktemp("segmenters")

    def folder(family):
        place = root / family
        return place if place.exists() else SAVE[family](place)

    return folder


def load(folder, **options):
    specialist = Segmenter(model=str(folder), **({"min_area_px": 0, "multimask": True} | options))
    specialist.load()
    return specialist


def boxes_on(pictures):
    """Two regions of every picture: its middle, and its left part."""
    boxes, keys = [], []
    for picture in pictures:
        width, height = picture.width, picture.height
        boxes += [[width * 0.1, height * 0.2, width * 0.9, height], [0, 0, width * 0.6, height]]
        keys += [picture.image_key] * 2
    ids = [f"row-{n}" for n in range(len(keys))]
    return rows(
        image_key=keys,
        box=boxes,
        annotation_id=ids,
        region_id=ids,
        text=["dog", "cat"] * len(pictures),
        score=[0.75] * len(keys),
    )


def images_table(pictures):
    return image_rows(
        image_key=[picture.image_key for picture in pictures],
        width=[picture.width for picture in pictures],
        height=[picture.height for picture in pictures],
        status="ok",
    )


@pytest.mark.parametrize("pictures", [[], PICTURES])
@pytest.mark.parametrize("family", FAMILIES)
def test_segmenter_answers_no_rows_with_no_rows(segmenters, family, pictures):
    assert load(segmenters(family)).annotate(pictures, empty_claims()).num_rows == 0


@pytest.mark.parametrize("multimask", [False, True])
@pytest.mark.parametrize("family", ["sam", "sam2"])
def test_segmenter_equals_the_models_own_post_processing(segmenters, family, multimask):
    folder = segmenters(family)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModelForMaskGeneration.from_pretrained(folder).eval()
    specialist = load(folder, multimask=multimask, tolerance_px=0)
    for picture in PICTURES[:2]:
        table = boxes_on([picture])
        expected = []
        for box in table["box"].to_pylist():
            with torch.no_grad():
                inputs = processor(
                    images=Image.fromarray(picture.rgb()), input_boxes=[[box]], return_tensors="pt"
                )
                inputs["input_boxes"] = inputs["input_boxes"].float()
                answer = model(**inputs, multimask_output=multimask)
            sizes = [v for k, v in inputs.items() if k.endswith("_sizes")]
            (masks,) = processor.post_process_masks(answer.pred_masks, *sizes)
            assert masks.shape[-2:] == (picture.height, picture.width)
            best = int(answer.iou_scores[0, 0].argmax())
            rings = mask_outlines(masks[0, best].numpy())
            if rings:
                expected.append((float(answer.iou_scores[0, 0, best]), rings))
        answer = specialist.annotate([picture], table)
        assert answer["score"].to_pylist() == pytest.approx([s for s, _ in expected], abs=1e-4)
        assert answer["polygon"].to_pylist() == [rings for _, rings in expected]
        assert expected


@pytest.mark.parametrize("family", FAMILIES)
def test_segmenter_batch_equals_image_by_image(segmenters, family):
    specialist, table = load(segmenters(family)), boxes_on(PICTURES)
    together = specialist.annotate(PICTURES, table).to_pylist()
    alone = [row for p in PICTURES for row in specialist.annotate([p], table).to_pylist()]
    assert len({str(row["polygon"]) for row in together}) > len(PICTURES)
    assert together == alone


@pytest.mark.parametrize("family", FAMILIES)
def test_segmenter_rows_repeat_the_prompted_row_and_survive_the_rules(segmenters, family):
    specialist = Segmenter(
        model=str(segmenters(family)), name="mine", min_area_px=0, multimask=True
    )
    host = Host(SpecialistSpec(pickle.loads(pickle.dumps(specialist)), specialist.prepare()))
    host.load()
    large = [picture for picture in PICTURES if picture.width > 1]
    table, images = boxes_on(large), images_table(large)
    earlier, _ = judge(images, ANNOTATIONS.empty_table(), table, RULES)
    answer, receipt = host.annotate(batch_of(large), table)
    assert receipt.failures == []
    by_id = {row["annotation_id"]: row for row in table.to_pylist()}
    for row in answer.to_pylist():
        (parent,) = row["parents"]
        same = ("image_key", "kind", "role", "text", "region_id", "box")
        assert {name: row[name] for name in same} == {name: by_id[parent][name] for name in same}
        assert row["polygon"]
        assert row["score"] not in (None, 0.75)
    judged, _ = judge(images, earlier, answer, RULES)
    assert set(judged["status"].to_pylist()) == {"kept"}
    for view in nested_views(images, judged):
        assert len(view["regions"]) == 2
        assert {region["score"] for region in view["regions"]} == {0.75}
        assert [len(region["texts"]) for region in view["regions"]] == [1, 1]
        assert any("polygon" in region for region in view["regions"])


@pytest.mark.parametrize("family", FAMILIES)
def test_segmenter_outlines_lie_inside_the_image(segmenters, family):
    answer = load(segmenters(family)).annotate(PICTURES, boxes_on(PICTURES))
    sizes = {picture.image_key: (picture.width, picture.height) for picture in PICTURES}
    assert answer.num_rows
    for row in answer.to_pylist():
        corners = np.concatenate([np.reshape(ring, (-1, 2)) for ring in row["polygon"]])
        assert (corners >= 0).all()
        assert (corners <= sizes[row["image_key"]]).all()


@pytest.mark.parametrize("family", FAMILIES)
def test_segmenter_sees_a_turned_image_upright(segmenters, family):
    specialist = load(segmenters(family))
    upright = noise("same", 40, 64, seed=3)
    expected = specialist.annotate([upright], boxes_on([upright])).to_pylist()
    assert expected
    given = turned("same", 40, 64, seed=3)
    assert specialist.annotate([given], boxes_on([given])).to_pylist() == expected


def test_segmenter_takes_a_pixel_and_a_sliver(segmenters):
    pictures = [PICTURES[2], SLIVER]
    assert (pictures[0].width, pictures[0].height) == (1, 1)
    answer = load(segmenters("sam2")).annotate(pictures, boxes_on(pictures))
    assert set(answer["image_key"].to_pylist()) == {"image-2", "sliver"}


def test_segmenter_blames_a_sliver_it_cannot_scale_alone(segmenters):
    """SAM's processor keeps the shape: 2 px of 3000 are less than one of 64."""
    specialist = Segmenter(model=str(segmenters("sam")), min_area_px=0, multimask=True)
    host = Host(SpecialistSpec(specialist, specialist.prepare()))
    host.load()
    pictures = [PICTURES[0], SLIVER]
    answer, receipt = host.annotate(batch_of(pictures), boxes_on(pictures))
    assert [key for key, _ in receipt.failures] == ["sliver"]
    assert set(answer["image_key"].to_pylist()) == {PICTURES[0].image_key}


def test_segmenter_of_an_empty_mask_is_no_row(segmenters):
    large = PICTURES[:1]
    assert load(segmenters("sam2")).annotate(large, boxes_on(large)).num_rows
    beyond = load(segmenters("sam2"), min_area_px=64 * 48 + 1)
    assert beyond.annotate(large, boxes_on(large)).num_rows == 0


def test_segmenter_prompts_with_no_more_boxes_than_asked(segmenters):
    specialist = load(segmenters("sam2"), max_regions=1)
    answer = specialist.annotate(PICTURES[:2], boxes_on(PICTURES[:2]))
    assert answer["region_id"].to_pylist() == ["row-0", "row-2"]  # of equal scores the larger


def test_segmenter_runs_after_whoever_says_boxes_and_nobody_waits_for_it():
    specialists = [
        Segmenter(),
        Segmenter(name="another"),
        Consensus(),
        RegionCaption(model="a"),
        RegionText(),
        Detr(),
    ]
    assert level_order(specialists) == [
        ["detr"],
        ["consensus"],
        ["segmenter", "another", "region_caption"],
        ["region_text"],
    ]


def test_segmenter_asks_for_the_roles_it_segments():
    assert Segmenter(roles=("phrase", "ocr")).requires == ("region/phrase", "region/ocr")


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_segmenter_computes_in_the_asked_dtype(segmenters, dtype):
    specialist = load(segmenters("sam2"), dtype=dtype)
    assert specialist._model.dtype == getattr(torch, dtype)
    assert specialist.annotate(PICTURES[:2], boxes_on(PICTURES[:2])).num_rows


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tolerance_px": -1.0}, "tolerance_px -1.0; allowed: 0 or more"),
        ({"min_area_px": float("nan")}, "min_area_px nan; allowed: 0 or more"),
        ({"max_regions": 0}, "max_regions 0; allowed: 1 or more"),
        ({"roles": ()}, "roles is empty; name at least one"),
    ],
)
def test_segmenter_refuses_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        Segmenter(**options)


def test_segmenter_refuses_a_folder_without_safetensors(segmenters, tmp_path):
    folder = shutil.copytree(segmenters("sam"), tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SpecialistError, match=r"the folder must hold config\.json and"):
        Segmenter(model=str(folder)).prepare()


def test_segmenter_refuses_a_model_that_makes_no_masks(tmp_path):
    folder = save_rt_detr_v2(tmp_path / "detector")
    with pytest.raises(SpecialistError, match=r"^specialist 'segmenter': .* cannot be loaded: .*$"):
        load(folder)
