import json
import re

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import LimitsConfig
from engine.errors import LabelsError
from engine.formats.coco import Coco
from tests.engine.formats.json_label_files import (
    causes,
    column,
    image_column,
    place_of,
    read,
    round_trip,
    saved,
)

IMAGES = [
    {"id": 7, "file_name": "a.jpg", "width": 100, "height": 80, "license": 2},
    {"id": 3, "file_name": "b/\u00e9.jpg", "width": 50, "height": 40},
]
CATEGORIES = [{"id": 18, "name": "dog"}, {"id": 1, "name": "person", "supercategory": "animal"}]
LICENCES = [{"id": 2, "name": "CC-BY", "url": "http://x"}]


def annotation(**changes):
    return {"id": 1, "image_id": 7, "category_id": 18, "bbox": [10, 20, 30.5, 40], **changes}


def dataset(*annotations, **changes):
    sections = {"images": IMAGES, "annotations": list(annotations), "categories": CATEGORIES}
    return {"licenses": LICENCES, **sections, **changes}


def parts_of(tmp_path, content, **options):
    return read(Coco(), saved(tmp_path / "in.json", content), **options)[1]


def test_a_set_without_annotations_keeps_its_images(tmp_path):
    parts = parts_of(tmp_path, dataset())
    assert image_column(parts, "uri") == ["a.jpg", "b/\u00e9.jpg"]
    assert image_column(parts, "width") == [100, 50]
    assert image_column(parts, "licence") == ["CC-BY", None]
    assert column(parts, "text") == []
    assert round_trip(Coco(), place_of(tmp_path / "in.json"), tmp_path / "out.json") == []
    assert json.loads((tmp_path / "out.json").read_text()) == dataset()


def test_no_images_at_all_are_no_parts(tmp_path):
    assert parts_of(tmp_path, dataset(images=[])) == []
    assert parts_of(tmp_path, []) == []


def test_a_box_is_a_region_of_its_class(tmp_path):
    (part,) = parts_of(tmp_path, dataset(annotation(score=0.25)))
    (row,) = part.rows.to_pylist()
    assert (row["kind"], row["role"], row["text"]) == ("region", "category", "dog")
    assert row["box"] == [10, 20, 40.5, 60]
    assert (row["score"], row["image_key"], row["source_id"]) == (0.25, "0", "1")
    assert json.loads(row["extra"]) == annotation(score=0.25)
    assert not row["ignore"]


def test_a_score_nobody_gave_is_null(tmp_path):
    assert column(parts_of(tmp_path, dataset(annotation())), "score") == [None]


def test_a_caption_is_a_brief_text_and_needs_no_class(tmp_path):
    captions = [{"id": 5, "image_id": 3, "caption": "a dog \U0001f415"}]
    content = {"images": IMAGES, "annotations": captions}
    labels, parts = read(Coco(), saved(tmp_path / "in.json", content))
    assert (column(parts, "kind"), column(parts, "role")) == (["text"], ["brief"])
    assert column(parts, "text") == ["a dog \U0001f415"]
    assert column(parts, "image_key") == ["1"]
    assert labels.header.notes == []


@pytest.mark.parametrize("flag", [{"iscrowd": 1}, {"ignore": 1}, {"iscrowd": True}])
def test_crowds_and_ignored_ones_are_ignored(tmp_path, flag):
    parts = parts_of(tmp_path, dataset(annotation(**flag), annotation(id=2, iscrowd=0, ignore=0)))
    assert column(parts, "ignore") == [True, False]


def test_outlines_are_polygons_and_masks_stay_in_extra(tmp_path):
    rle = {"counts": [0, 4], "size": [80, 100]}
    outlined = [
        annotation(segmentation=[[1, 2, 3.5, 4, 5, 6], [7, 8, 9, 10, 11, 12]]),
        annotation(id=2, segmentation=rle),
        annotation(id=3, segmentation=[]),
        annotation(id=4, segmentation=[[], [1, 1, 2, 2, 3, 1e-3]]),
        annotation(id=5, segmentation=None),
    ]
    parts = parts_of(tmp_path, dataset(*outlined))
    assert column(parts, "polygon") == [
        [[1, 2, 3.5, 4, 5, 6], [7, 8, 9, 10, 11, 12]],
        None,
        None,
        [[1, 1, 2, 2, 3, float(np.float32(1e-3))]],
        None,
    ]
    assert json.loads(column(parts, "extra")[1])["segmentation"] == rle
    assert causes(parts) == [[], []]


def test_a_mask_without_a_box_gives_the_box_around_it(tmp_path):
    ring = [[10, 20, 30, 20, 30, 60]]
    records = [
        {"image_id": 7, "category_id": 18, "segmentation": ring},
        {"image_id": 7, "category_id": 18, "segmentation": {"counts": [1, 2, 5], "size": [4, 2]}},
        {"image_id": 7, "category_id": 18, "segmentation": {"counts": [8], "size": [4, 2]}},
        {"image_id": 7, "category_id": 18},
    ]
    assert column(parts_of(tmp_path, dataset(*records)), "box") == [
        [10, 20, 30, 60],
        [0, 1, 1, 3],
        None,
        None,
    ]


@pytest.mark.parametrize(
    "bbox", [[50, 60, -20, -30], [-5, -5, 4, 4], [1, 1, 0, 0], [90, 70, 500, 500]]
)
def test_impossible_boxes_are_rows_as_claimed(tmp_path, bbox):
    x, y, w, h = bbox
    parts = parts_of(tmp_path, dataset(annotation(bbox=bbox)))
    assert column(parts, "box") == [[x, y, x + w, y + h]]
    assert causes(parts) == [[], []]


def test_nan_and_infinity_as_python_spells_them_are_rows_as_claimed(tmp_path):
    text = json.dumps(dataset(annotation(bbox=[1, float("nan"), float("inf"), 1])))
    assert "NaN" in text
    parts = parts_of(tmp_path, text)
    (box,) = column(parts, "box")
    assert box[0] == 1
    assert np.isnan(box[1])
    assert np.isposinf(box[2])
    round_trip(Coco(), place_of(tmp_path / "in.json"), tmp_path / "out.json")
    assert "[1, NaN, Infinity, 1]" in (tmp_path / "out.json").read_text()


@pytest.mark.parametrize(
    ("changes", "cause", "message"),
    [
        ({"bbox": ["a", 1, 2, 3]}, "bad_labels", "annotation|record .* Expected `float`"),
        ({"bbox": [1, 2, 3]}, "bad_labels", "annotation 1: bbox of 3 numbers; wanted x, y, w, h"),
        ({"bbox": [1, 2, None, 3]}, "bad_labels", "Expected `float`, got `null`"),
        ({"score": "high"}, "bad_labels", "score"),
        ({"score": float("nan")}, "bad_labels", "annotation 1: score is nan; wanted a finite"),
        ({"score": 1e300}, "bad_labels", r"score is 1e\+300"),
        ({"category_id": 99}, "unknown_category", "category_id 99 is not in categories"),
        ({"category_id": None}, "bad_labels", "neither category_id nor caption"),
        ({"caption": 5}, "bad_labels", "caption"),
    ],
)
def test_what_cannot_be_taken_is_a_failure_of_its_image(tmp_path, changes, cause, message):
    parts = parts_of(tmp_path, dataset(annotation(**changes), annotation(id=2)))
    assert column(parts, "source_id") == ["2"]
    assert causes(parts) == [[cause], []]
    (failure,) = image_column(parts, "failures")[0]
    assert failure["stage"] == "labels"
    assert re.search(message, failure["message"])
    assert image_column(parts, "status") == ["ok", "ok"]


def test_a_broken_outline_is_told_and_its_box_stays(tmp_path):
    broken = [
        annotation(id=1, segmentation=[[1, 2, 3]]),
        annotation(id=2, segmentation=[1, 2, 3, 4]),
        annotation(id=3, segmentation=[["a"]]),
        annotation(id=4, segmentation=[[1, 2, 3, 1e300]]),
        annotation(id=5, segmentation=[[1, 2, 3, 4, 5, 6]]),
    ]
    parts = parts_of(tmp_path, dataset(*broken))
    assert column(parts, "polygon") == [None] * 4 + [[[1, 2, 3, 4, 5, 6]]]
    assert len(column(parts, "box")) == 5
    (failure,) = image_column(parts, "failures")[0]
    assert "annotation 1: segmentation that is no rings" in failure["message"]
    assert "(and 3 more)" in failure["message"]


def test_half_a_surrogate_pair_is_a_failure_of_its_image(tmp_path):
    text = json.dumps({"images": IMAGES, "annotations": [{"image_id": 3, "caption": "\ud800"}]})
    parts = parts_of(tmp_path, text)
    assert column(parts, "text") == []
    assert causes(parts) == [[], ["not_json"]]


def test_annotations_of_an_image_that_is_not_listed_are_kept_with_it(tmp_path):
    content = dataset(annotation(image_id=99), annotation(id=2, image_id="x"), annotation(id=3))
    parts = parts_of(tmp_path, content)
    assert image_column(parts, "uri") == ["a.jpg", "b/\u00e9.jpg", "99", "x"]
    assert image_column(parts, "status") == ["ok", "ok", "failed", "failed"]
    assert causes(parts) == [[], [], ["unknown_image"], ["unknown_image"]]
    assert column(parts, "image_key") == ["0", "2", "3"]
    round_trip(Coco(), place_of(tmp_path / "in.json"), tmp_path / "out.json")
    again = json.loads((tmp_path / "out.json").read_text())
    assert again["images"] == IMAGES
    assert [each["id"] for each in again["annotations"]] == [3, 1, 2]


def test_ids_that_stand_twice_are_told_on_the_image_of_the_second(tmp_path):
    content = dataset(annotation(), annotation(image_id=3), annotation(id=2))
    parts = parts_of(tmp_path, content)
    assert len(column(parts, "text")) == 3
    assert causes(parts) == [[], ["duplicate_id"]]


def test_an_image_that_is_listed_twice_is_kept_twice_and_told(tmp_path):
    images = [*IMAGES, {**IMAGES[0], "file_name": "c.jpg"}]
    parts = parts_of(tmp_path, dataset(annotation(), images=images))
    assert image_column(parts, "uri") == ["a.jpg", "b/\u00e9.jpg", "c.jpg"]
    assert causes(parts) == [[], [], ["duplicate_id"]]
    assert column(parts, "image_key") == ["0"]


@pytest.mark.parametrize(
    ("image", "uri", "cause"),
    [
        ({"id": 1}, "1", "bad_labels"),
        ({"id": 1, "file_name": 5}, "1", "bad_labels"),
        ({"file_name": "x.jpg"}, "x.jpg", "bad_labels"),
        ({"id": 1, "file_name": "x.jpg", "width": "wide"}, "1", "bad_labels"),
    ],
)
def test_a_broken_image_record_is_told_and_written_back(tmp_path, image, uri, cause):
    content = dataset(images=[image])
    parts = parts_of(tmp_path, content)
    assert image_column(parts, "uri") == [uri]
    assert causes(parts) == [[cause]]
    round_trip(Coco(), place_of(tmp_path / "in.json"), tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == content


def test_sizes_that_are_none_are_null(tmp_path):
    images = [{"id": 1, "file_name": "x", "width": -5, "height": 3_000_000_000}]
    parts = parts_of(tmp_path, dataset(images=images))
    assert (image_column(parts, "width"), image_column(parts, "height")) == ([None], [None])


def test_records_that_name_no_image_are_told_in_the_header(tmp_path):
    content = dataset({"id": 5, "bbox": [0, 0, 1, 1]}, annotation(image_id=None), annotation())
    labels, parts = read(Coco(), saved(tmp_path / "in.json", content))
    assert len(column(parts, "text")) == 1
    assert any("2 records name no image" in note for note in labels.header.notes)


def test_labels_larger_than_the_limit_are_a_failure(tmp_path):
    content = dataset(annotation(note="x" * 500), annotation(id=2, image_id=3))
    parts = parts_of(tmp_path, content, limits=LimitsConfig(max_label_bytes=300))
    assert column(parts, "source_id") == ["2"]
    assert causes(parts) == [["too_many_labels"], []]


def test_parts_hold_whole_images_and_at_most_so_many(tmp_path):
    images = [{"id": n, "file_name": f"{n}.jpg"} for n in range(10)]
    rows = [annotation(id=n, image_id=n % 10) for n in range(1, 41)]
    parts = parts_of(tmp_path, dataset(*rows, images=images), part_size=4)
    assert [part.images.num_rows for part in parts] == [4, 4, 2]
    assert [part.rows.num_rows for part in parts] == [16, 16, 8]
    assert parts[1].rows["source_id"].to_pylist()[:4] == ["4", "14", "24", "34"]


def test_lvis_names_its_pictures_by_address(tmp_path):
    image = {
        "id": 1,
        "coco_url": "http://images.cocodataset.org/train2017/000000391895.jpg",
        "neg_category_ids": [5, 6],
        "not_exhaustive_category_ids": [7],
    }
    content = dataset(annotation(image_id=1), images=[image])
    parts = parts_of(tmp_path, content)
    assert image_column(parts, "uri") == ["train2017/000000391895.jpg"]
    assert json.loads(image_column(parts, "extra")[0]) == image


def test_classes_come_in_the_order_of_their_numbers(tmp_path):
    labels, _ = read(Coco(), saved(tmp_path / "in.json", dataset()))
    assert list(labels.header.classes) == ["person", "dog"]


def test_categories_that_stand_twice_are_told(tmp_path):
    categories = [{"id": 1, "name": "a"}, {"id": 1, "name": "b"}, {"id": 2, "name": "a"}]
    labels, _ = read(Coco(), saved(tmp_path / "in.json", dataset(categories=categories)))
    assert len(labels.header.notes) == 2


@pytest.mark.parametrize(
    ("content", "match"),
    [
        ({"a": []}, "holds neither `images` nor `annotations`"),
        ({"images": 5}, "`images` is no array"),
        (dataset(categories=[{"name": "dog"}]), "`categories` cannot be read"),
        (dataset({"image_id": 7, "segments_info": []}), "panoptic labels"),
        ('{"images": [], "annotations": [\n{"image_id": 1,, }]}', "line 2, byte 33: a record"),
        ('{"images": [], "annotations": [\n{"image_id": tru}]}', "line 2, byte 33: a record"),
    ],
)
def test_a_file_that_is_no_coco_is_one_error(tmp_path, content, match):
    with pytest.raises(LabelsError, match=match):
        parts_of(tmp_path, content)


def test_a_record_of_another_shape_among_good_ones_is_no_loss(tmp_path):
    content = dataset(annotation(), ["image_id"], annotation(id=2))
    labels, parts = read(Coco(), saved(tmp_path / "in.json", content))
    assert column(parts, "source_id") == ["1", "2"]
    assert any("1 records name no image" in note for note in labels.header.notes)


@pytest.mark.parametrize(
    ("head", "known"),
    [
        (b"", False),
        (b"<annotation>", False),
        (b'{"info": {}, "images": [{"id": 1, "file_name": "a.jpg"', True),
        (b'\xef\xbb\xbf\n{"annotations": [{"image_id": 1, "bbox": [', True),
        (b'{"images": [], "annotations": []}', True),
        (b'[{"image_id": 1, "category_id": 2, "bbox": [1, 2, 3, 4], "score": 0.5}', True),
        (b'[{"image_id": 1, "caption": "a"}]', True),
        (b'[{"id": 1, "regions": [{"image_id": 1, "bbox": []}]}]', False),
        (b'[{"id": 1, "data": {"image": "a"}, "predictions": []}]', False),
        (b'{"version": "5.0", "shapes": [], "imagePath": "a.jpg"}', False),
        (b'{"info": {}, "categories": {}, "items": [{"id": "a", "annotations": []}]}', False),
        (b"[]", False),
        (b'{"prefix": "<CAPTION>", "suffix": "a"}\n', False),
    ],
)
def test_it_knows_its_own_files(tmp_path, head, known):
    assert Coco().recognises(saved(tmp_path / "a.json", head), head) is known


UNKNOWN = st.dictionaries(
    st.text(max_size=4).map(lambda key: f"_{key}"),
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
        lambda inner: st.lists(inner, max_size=2) | st.dictionaries(st.text(max_size=2), inner),
        max_leaves=4,
    ),
    max_size=3,
)
NUMBERS = st.floats(-1e6, 1e6, allow_nan=False) | st.integers(-1000, 1000)


@settings(max_examples=30, deadline=None)
@given(
    boxes=st.lists(
        st.tuples(st.integers(0, 1), st.lists(NUMBERS, min_size=4, max_size=4), UNKNOWN)
    ),
    unknown=UNKNOWN,
    is_ascii=st.booleans(),
    indent=st.sampled_from([None, 1]),
    part_size=st.integers(1, 3),
)
def test_a_round_trip_changes_nothing_but_formatting(
    tmp_path_factory, boxes, unknown, is_ascii, indent, part_size
):
    folder = tmp_path_factory.mktemp("coco")
    rows = [
        annotation(id=n, image_id=IMAGES[image]["id"], bbox=list(box), **extra)
        for n, (image, box, extra) in enumerate(boxes)
    ]
    content = dataset(*rows, images=[{**image, **unknown} for image in IMAGES], **unknown)
    text = json.dumps(content, ensure_ascii=is_ascii, indent=indent)
    (folder / "in.json").write_text(text, encoding="utf-8")
    assert round_trip(Coco(), place_of(folder / "in.json"), folder / "out.json") == []
    again = json.loads((folder / "out.json").read_text(encoding="utf-8"))
    assert list(again) == list(content)
    by_image = sorted(content["annotations"], key=lambda each: each["image_id"] != 7)
    assert repr(again) == repr({**content, "annotations": by_image})


def test_the_spelling_of_numbers_survives(tmp_path):
    record = '{"image_id": 7,"category_id":18, "bbox":[1.50, 2e0, 3.0E+1, 4], "area": 1.0000000001}'
    text = json.dumps(dataset()).replace('"annotations": []', f'"annotations": [{record}]')
    saved(tmp_path / "in.json", text)
    round_trip(Coco(), place_of(tmp_path / "in.json"), tmp_path / "out.json")
    assert record in (tmp_path / "out.json").read_text()


def test_only_the_rows_given_are_written(tmp_path):
    content = dataset(annotation(), annotation(id=2), annotation(id=3, image_id=3))
    labels, parts = read(Coco(), saved(tmp_path / "in.json", content))
    kept = [part._replace(rows=part.rows.filter(pa.array([False, True, False]))) for part in parts]
    Coco().write(place_of(tmp_path / "out.json"), type(labels)(labels.header, iter(kept)))
    again = json.loads((tmp_path / "out.json").read_text())
    assert again == {**content, "annotations": [annotation(id=2)]}


@pytest.mark.parametrize(
    "name",
    [
        "coco80/annotations/captions.json",
        "coco80/annotations/instances.json",
        "coco80/annotations/person_keypoints.json",
        "oracles/map/test_coco_eval/gts/sampled_gts_bbox_area.json",
        *(
            f"format-fixtures/coco_dataset/coco/annotations/{stem}_{split}.json"
            for stem in ("instances", "captions", "labels", "image_info", "stuff")
            for split in ("train", "val")
        ),
    ],
)
def test_real_sets_come_back_whole(data, tmp_path, name):
    source = json.loads((data / name).read_text())
    assert round_trip(Coco(), place_of(data / name), tmp_path / "out.json", part_size=7) == []
    again = json.loads((tmp_path / "out.json").read_text())
    place = {image["id"]: number for number, image in enumerate(source["images"])}
    source["annotations"].sort(key=lambda each: place[each["image_id"]])
    assert again == source
    assert list(again) == list(source)


def test_a_class_without_a_place_is_said_of_the_whole_image(tmp_path):
    bare = {"id": 2, "image_id": 7, "category_id": 18}
    parts = parts_of(tmp_path, dataset(bare, annotation()))
    columns = [column(parts, name) for name in ("kind", "role", "prompt", "text")]
    assert list(zip(*columns, strict=True)) == [
        ("text", "alt", "cls", "dog"),
        ("region", "category", None, "dog"),
    ]
    round_trip(Coco(), place_of(tmp_path / "in.json"), tmp_path / "out.json")
    assert json.loads((tmp_path / "out.json").read_text()) == dataset(bare, annotation())
