import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import LabelsError
from engine.formats.coco import Coco
from engine.formats.coco_rle import mask_box
from engine.formats.shapes import LabelSet
from tests.engine.formats.json_label_files import (
    causes,
    column,
    image_column,
    place_of,
    read,
    round_trip,
    saved,
)

INSTANCES = {
    "images": [
        {"id": 7, "file_name": "a.jpg", "width": 100, "height": 80},
        {"id": 3, "file_name": "b.jpg", "width": 50, "height": 40},
    ],
    "annotations": [{"id": 1, "image_id": 7, "category_id": 18, "bbox": [0, 0, 1, 1]}],
    "categories": [{"id": 18, "name": "dog"}],
}


def result(**changes):
    return {"image_id": 3, "category_id": 18, "bbox": [1, 2, 3, 4], "score": 0.5, **changes}


def test_without_their_labels_images_and_classes_are_named_by_number(tmp_path):
    place = saved(tmp_path / "r.json", [result(), result(image_id=1, category_id="x")])
    labels, parts = read(Coco(), place)
    assert image_column(parts, "uri") == ["3", "1"]
    assert image_column(parts, "status") == ["ok", "ok"]
    assert column(parts, "text") == ["18", "x"]
    assert column(parts, "score") == [0.5, 0.5]
    notes = " ".join(labels.header.notes)
    assert "give source.annotations" in notes
    assert "classes are named by their numbers" in notes


def test_their_labels_name_images_sizes_and_classes(tmp_path):
    truth = saved(tmp_path / "gt.json", INSTANCES)
    place = saved(tmp_path / "r.json", [result(), result(image_id=99), result(category_id=5)])
    labels, parts = read(Coco(), place, annotations=truth)
    assert image_column(parts, "uri") == ["a.jpg", "b.jpg", "99"]
    assert image_column(parts, "width") == [100, 50, None]
    assert column(parts, "text") == ["dog", "dog"]
    assert column(parts, "image_key") == ["1", "2"]
    assert causes(parts) == [[], ["unknown_category"], ["unknown_image"]]
    assert list(labels.header.classes) == ["dog"]


def test_texts_as_ids_match_between_the_two_files(tmp_path):
    images = [{"id": "b", "file_name": "b.jpg"}, {"id": "a", "file_name": "a.jpg"}]
    truth = saved(tmp_path / "gt.json", {**INSTANCES, "images": images})
    place = saved(tmp_path / "r.json", [result(image_id="a"), result(image_id="b")])
    _, parts = read(Coco(), place, annotations=truth)
    assert column(parts, "image_key") == ["0", "1"]
    assert [json.loads(each)["image_id"] for each in column(parts, "extra")] == ["b", "a"]


def test_names_of_classes_may_be_given(tmp_path):
    place = saved(tmp_path / "r.json", [result(category_id=1)])
    assert column(read(Coco(), place, classes=["dog", "cat"])[1], "text") == ["cat"]


def test_labels_without_images_are_refused_as_their_labels(tmp_path):
    truth = saved(tmp_path / "gt.json", [result()])
    place = saved(tmp_path / "r.json", [result()])
    with pytest.raises(LabelsError, match=r"gt\.json: holds no `images`"):
        read(Coco(), place, annotations=truth)


def test_a_list_stays_a_list(tmp_path):
    records = [result(segmentation={"size": [4, 4], "counts": "04L4"}), result(image_id=7)]
    place = saved(tmp_path / "r.json", records)
    assert round_trip(Coco(), place, tmp_path / "out.json") == []
    assert json.loads((tmp_path / "out.json").read_text()) == records


def test_an_empty_list_stays_one(tmp_path):
    assert round_trip(Coco(), saved(tmp_path / "r.json", []), tmp_path / "out.json") == []
    assert json.loads((tmp_path / "out.json").read_text()) == []


def test_real_results_come_back_whole(data, tmp_path):
    place = place_of(data / "oracles/map/test_coco_eval/cocoapi_results.json")
    source = json.loads((data / "oracles/map/test_coco_eval/cocoapi_results.json").read_text())
    _, parts = read(Coco(), place)
    assert len(column(parts, "text")) == len(source)
    round_trip(Coco(), place, tmp_path / "out.json", part_size=3)
    again = json.loads((tmp_path / "out.json").read_text())
    by_image = list(dict.fromkeys(each["image_id"] for each in source))
    assert again == sorted(source, key=lambda each: by_image.index(each["image_id"]))


def test_new_rows_join_a_list_with_the_numbers_of_their_classes(tmp_path):
    truth = saved(tmp_path / "gt.json", INSTANCES)
    labels, (part,) = read(Coco(), saved(tmp_path / "r.json", [result()]), annotations=truth)
    at = part.rows.column_names.index("extra")
    rows = part.rows.set_column(at, "extra", pa.nulls(1, pa.string()))
    written = LabelSet(labels.header, iter([part._replace(rows=rows)]))
    assert Coco().write(place_of(tmp_path / "out.json"), written) == []
    assert json.loads((tmp_path / "out.json").read_text()) == [result()]


@settings(max_examples=50, deadline=None)
@given(
    size=st.tuples(st.integers(1, 9), st.integers(1, 9)),
    seed=st.integers(0, 1000),
    share=st.sampled_from([0.0, 0.1, 0.5, 1.0]),
)
def test_the_box_around_a_mask_is_the_one_pycocotools_gives(size, seed, share):
    from pycocotools import mask as coco_mask

    pixels = np.random.default_rng(seed).random(size) < share
    rle = coco_mask.encode(np.asfortranarray(pixels, np.uint8))
    found = mask_box(rle["counts"].decode(), list(size))
    flat = pixels.reshape(-1, order="F")
    changes = np.flatnonzero(np.diff(flat, prepend=False))
    counts = np.diff(np.concatenate([[0], changes, [flat.size]])).tolist()
    assert mask_box(counts, list(size)) == found
    rows, columns = np.nonzero(pixels)
    if len(rows) == 0:
        assert found is None
    else:
        assert found == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]


@pytest.mark.parametrize("counts", ["~", "o", [-1, 5], [0, 99], "\u00e9"])
def test_broken_mask_counts_are_refused(counts):
    with pytest.raises(ValueError, match="mask"):
        mask_box(counts, [2, 2])
