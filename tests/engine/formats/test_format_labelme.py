"""LabelMe: shapes, what stays in the record, pictures inside, JSON that is broken or hostile."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import LimitsConfig
from engine.formats.labelme import LabelMe
from tests.builders import tables
from tests.label_folders import (
    boxes,
    content,
    copy,
    export,
    failures,
    fill,
    nothing,
    picture,
    place,
    read,
)


def shape(kind="rectangle", points=((1, 2), (30, 40)), label="cat", **more):
    return {"label": label, "points": points, "shape_type": kind, "flags": {}, **more}


def document(*shapes, **more):
    about = {"imagePath": "a.jpg", "imageData": None, "imageHeight": 60, "imageWidth": 80}
    return json.dumps(
        {"version": "5.5.0", "flags": {}, "shapes": shapes, **about, **more}, indent=2
    )


def folder(tmp_path, *shapes, **more):
    return fill(tmp_path / "in", {"a.json": document(*shapes, **more)})


def test_an_empty_folder_is_an_empty_set(tmp_path):
    assert read(LabelMe(), fill(tmp_path, {}))[1].num_rows == 0


def test_shapes_that_enclose_something_are_regions(tmp_path):
    ring = [[1, 2], [30.5, 4], [20, 50]]
    source = folder(
        tmp_path,
        shape(),
        shape(points=[[30, 40], [1, 2]]),
        shape("polygon", ring),
        shape("circle", [[10, 20], [13, 24]]),
        shape("mask", [[3, 4], [7, 9]], mask="iVBOR"),
        shape("rotation", [[0, 5], [5, 0], [10, 5], [5, 10]]),
    )
    _, images, rows = read(LabelMe(), source)
    assert failures(images) == []
    assert boxes(rows) == [
        [1, 2, 30, 40],
        [1, 2, 30, 40],
        [1, 2, 30.5, 50],
        [5, 15, 15, 25],
        [3, 4, 8, 10],
        [0, 0, 10, 10],
    ]
    rings = rows["polygon"].to_pylist()
    assert rings == [
        None,
        None,
        [[1, 2, 30.5, 4, 20, 50]],
        None,
        None,
        [[0, 5, 5, 0, 10, 5, 5, 10]],
    ]
    assert images.select(["uri", "width", "height"]).to_pylist() == [
        {"uri": "a.jpg", "width": 80, "height": 60}
    ]


def test_old_files_without_a_kind_hold_polygons(tmp_path):
    old = {"label": "a", "points": [[0, 0], [4, 0], [4, 3]], "line_color": None}
    assert boxes(read(LabelMe(), folder(tmp_path, old))[2]) == [[0, 0, 4, 3]]


def test_scores_and_difficulty_of_other_tools_are_read(tmp_path):
    shapes = [
        shape(score=0.75, difficult=True),
        shape(score=None, difficult=False),
        shape(score="x"),
    ]
    _, images, rows = read(LabelMe(), folder(tmp_path, *shapes))
    assert rows["score"].to_pylist() == [0.75, None, None]
    assert rows["ignore"].to_pylist() == [True, False, False]
    assert failures(images) == [("bad_labels", "a.json: score 'x' is not a finite number")]


def test_shapes_that_cannot_be_taken_are_failures_that_name_them(tmp_path):
    bad = [
        7,
        shape(label=""),
        shape(label=5),
        shape(label="\ud800"),
        shape(points=[]),
        shape(points=[[1, 2]]),
        shape(points=[[1, "x"], [2, 3]]),
        shape(points=[[1, 2, 3], [2, 3, 4]]),
        shape("polygon", [[1, 2], [3, 4]]),
        shape(points=[[10**400, 2], [3, 4]]),
    ]
    _, images, rows = read(LabelMe(), folder(tmp_path, shape(), *bad))
    assert rows.num_rows == 1
    told = failures(images)
    assert [message.split(":")[1].strip() for _, message in told] == [
        f"shape {n}" for n in range(2, 12)
    ]
    assert {cause for cause, _ in told} == {"bad_labels"}


def test_numbers_that_json_does_not_know_are_rows_as_claimed(tmp_path):
    nan = shape("polygon", [[float("nan"), 1], [float("inf"), 2], [1, 1]])
    _, images, rows = read(LabelMe(), folder(tmp_path, nan))
    assert np.isnan(rows["box"].to_pylist()[0][0])
    assert rows["polygon"].to_pylist() == [None]
    assert failures(images) == []


ODD = """\ufeff{"flags": {"indoor" : true},\r
  "shapes":[ {"label":"c\\u00e4t \u00e4","points":[[1.50,2e0],[3.000,4]],"mine":[1,{"a":null}]
   ,"shape_type":"rectangle"},{"label":"p","points":[[1,2]],"shape_type":"point"} ,
   {"points":[[1,2],[3,4],[5,6]],"label":"q","group_id":7}   ],
 "imageData":"aGVsbG8=","later":1.10 , "imagePath":"sub\\\\b.jpg"}\r
"""


def test_a_copy_is_the_same_to_the_letter(tmp_path):
    source = fill(
        tmp_path / "in", {"x/b.json": ODD, "none.json": document(), "c.json": document(shape())}
    )
    _, images, rows = read(LabelMe(), source)
    assert images["uri"].to_pylist() == ["a.jpg", "a.jpg", "x/sub/b.jpg"]
    assert rows["text"].to_pylist() == ["cat", "c\u00e4t \u00e4", "q"]
    assert copy(LabelMe(), source, tmp_path / "out") == []
    assert content(tmp_path / "out") == content(source)


@pytest.mark.parametrize("kept", [[], [0], [1], [0, 1]])
def test_what_is_no_row_stays_whichever_rows_go(tmp_path, kept):
    source = fill(tmp_path / "in", {"b.json": ODD})
    copy(LabelMe(), source, tmp_path / "out", keep=lambda rows: [n in kept for n in range(2)])
    written = json.loads((tmp_path / "out/b.json").read_text(encoding="utf-8-sig"))
    before = json.loads(ODD.removeprefix("\ufeff"))
    rows = {0: before["shapes"][0], 1: before["shapes"][2]}
    labels = [shape["label"] for shape in written["shapes"]]
    assert labels == [
        label
        for label, keeps in [(rows[0]["label"], 0 in kept), ("p", True), ("q", 1 in kept)]
        if keeps
    ]
    assert {**written, "shapes": []} == {**before, "shapes": []}


FIELDS = st.text(max_size=6)
VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=8,
)


@settings(max_examples=30, deadline=None)
@given(
    st.dictionaries(FIELDS, VALUES, max_size=3),
    st.lists(st.dictionaries(FIELDS, VALUES, max_size=3), max_size=3),
    st.sampled_from([None, 1, "\t"]),
    st.booleans(),
)
def test_any_unknown_fields_come_back_to_the_letter(tmp_path_factory, more, shapes, indent, plain):
    folder = tmp_path_factory.mktemp("labelme")
    said = {**more, "shapes": [{**extra, **shape()} for extra in shapes], "imagePath": "a.jpg"}
    text = json.dumps(said, indent=indent, ensure_ascii=plain)
    source = fill(folder / "in", {"a.json": text})
    _, images, rows = read(LabelMe(), source)
    assert (rows.num_rows, failures(images)) == (len(shapes), [])
    copy(LabelMe(), source, folder / "out")
    assert content(folder / "out") == content(source)


@pytest.mark.parametrize(
    ("data", "cause", "said"),
    [
        (b"", "not_json", "line 1: expecting '{'"),
        (b"[]", "not_json", "line 1: expecting '{'"),
        (b'{"shapes": [}', "not_json", "line 1"),
        (b'{"shapes": [],\n}', "not_json", "line 2"),
        (b'{"shapes": []} x', "not_json", "more after the object"),
        (b'{"shapes": ' + b"[" * 100_000, "not_json", "nested too deeply"),
        (b'{"shapes": [1' + b"1" * 5000 + b"]}", "not_json", "line 1: Exceeds the limit"),
        (b'{"shapes": {}}', "bad_labels", "shapes is no list"),
        (b'{"images": []}', "bad_labels", "has no shapes"),
        (b'{"shapes": ["\xff"]}', "bad_labels", "line 1: byte FF is not UTF-8"),
        (b'{"shapes": ["' + b"x" * 300_000 + b'"]}', "too_many_labels", "(200000)"),
    ],
)
def test_a_file_that_cannot_be_read_is_a_failure_of_its_image(tmp_path, data, cause, said):
    source = fill(tmp_path / "in", {"a.json": data, "b.json": document(shape(), imagePath="b.jpg")})
    limits = LimitsConfig(max_label_bytes=200_000)
    _, images, rows = read(LabelMe(), source, limits=limits)
    assert (images["uri"].to_pylist(), rows.num_rows) == (["a.jpg", "b.jpg"], 1)
    ((found, message),) = failures(images)
    assert (found, said in message) == (cause, True)
    assert message.startswith("a.json: ")
    copy(LabelMe(), source, tmp_path / "out", limits=limits)
    assert list(content(tmp_path / "out")) == ["b.json"]


def test_a_picture_inside_does_not_count_as_labels(tmp_path):
    source = folder(tmp_path, shape(), imageData="A" * 5000)
    _, images, rows = read(LabelMe(), source, limits=LimitsConfig(max_label_bytes=2000))
    assert (rows.num_rows, failures(images)) == (1, [])


def test_pictures_without_labels_are_images(tmp_path):
    source = folder(tmp_path, shape())
    picture(source / "a.jpg", 8, 8)
    picture(source / "b.png", 8, 8)
    _, images, _ = read(LabelMe(), source)
    assert images["uri"].to_pylist() == ["a.jpg", "b.png"]
    copy(LabelMe(), source, tmp_path / "out", keep=nothing)
    assert list(content(tmp_path / "out")) == ["a.json"]


def test_rows_of_other_origin_come_back(tmp_path):
    rings = [[0.0, 0, 1, 0, 1, 1], [7.0, 7, 9, 7, 9, 9]]
    made = tables(
        kind=["region", "region", "region", "text"],
        role=["category", "category", "category", "alt"],
        text=['"d\u00fc\x00g"', "cat", "two", "whole"],
        box=[[1.25, 2.5, 30.1, 20], [0, 0, 80, 60], [0, 0, 9, 9], None],
        polygon=[None, [[0, 0, 80, 0, 80, 60]], rings, None],
        score=[0.1, None, None, None],
        ignore=[False, True, False, False],
    )
    images = made.images.set_column(1, "uri", [["../x/a.jpg"]])
    assert export(LabelMe(), tmp_path, images, made.annotations) == [
        "labelme: 1 outlines of several rings are shapes that share a group_id",
        "labelme: 1 rows of text/alt are not written",
    ]
    assert list(content(tmp_path)) == ["x/a.json"]
    _, found, rows = read(LabelMe(), tmp_path)
    assert found.select(["uri", "width", "height"]).to_pylist() == [
        {"uri": "x/a.jpg", "width": 100, "height": 80}
    ]
    assert rows["text"].to_pylist() == ['"d\u00fc\x00g"', "cat", "two", "two"]
    for name in ("box", "polygon", "score", "ignore"):
        assert rows[name].to_pylist()[:2] == made.annotations[name].to_pylist()[:2]
    shapes = json.loads((tmp_path / "x/a.json").read_text())["shapes"]
    assert [shape["group_id"] for shape in shapes] == [None, None, 1, 1]


def test_it_is_told_from_other_json(tmp_path):
    assert LabelMe().recognises(place(folder(tmp_path)), b"")
    coco = fill(tmp_path / "coco", {"a.json": '{"images": [], "annotations": []}'})
    assert not LabelMe().recognises(place(coco), b"")
    assert not LabelMe().recognises(place(fill(tmp_path / "none", {})), b"")
