"""CVAT for images 1.1: shapes, tags, attributes; what is no row stays; videos and bombs refused."""

import numpy as np
import pyarrow as pa
import pytest

from engine.config import LimitsConfig
from engine.errors import LabelsError
from engine.formats.cvat import Cvat
from engine.formats.voc import Voc
from tests.builders import tables
from tests.label_folders import boxes, content, copy, export, failures, nothing, place, read

HEAD = """<?xml version="1.0" encoding="utf-8"?>
<annotations>
  <version>1.1</version>
  <meta><task><labels><label><name>cat</name></label><label><name>a &amp; b</name></label></labels>
  </task></meta>
"""


def file(tmp_path, *images, head=HEAD):
    path = tmp_path / "annotations.xml"
    inside = "".join(f"  {image}\n" for image in images)
    path.write_text(f"{head}{inside}</annotations>\n", encoding="utf-8", newline="")
    return path


def image(*shapes, number=0, name="a.jpg"):
    inside = "".join(f"\n    {shape}" for shape in shapes)
    return f'<image id="{number}" name="{name}" width="80" height="60">{inside}\n  </image>'


def box(corners=(1, 2, 30, 40), more="", inside="", label="cat"):
    sides = zip(("xtl", "ytl", "xbr", "ybr"), corners, strict=True)
    about = " ".join(f'{name}="{value}"' for name, value in sides)
    return f'<box label="{label}" {about} occluded="1" z_order="3" {more}>{inside}</box>'


def said(name, value):
    return f'<attribute name="{name}">{value}</attribute>'


def test_a_task_without_images_is_an_empty_set(tmp_path):
    path = file(tmp_path)
    header, images, rows = read(Cvat(), path)
    assert (list(header.classes), images.num_rows, rows.num_rows) == (["cat", "a & b"], 0, 0)
    copy(Cvat(), path, tmp_path / "out/annotations.xml")
    assert (tmp_path / "out/annotations.xml").read_text() == path.read_text()


def test_shapes_that_enclose_something_are_regions(tmp_path):
    shapes = [
        box(),
        '<polygon label="a &amp; b" points="1,2;30.5,4;20,50"/>',
        '<ellipse label="cat" cx="10" cy="20" rx="5" ry="3"/>',
        '<ellipse label="cat" cx="10" cy="20" rx="5" ry="3" rotation="90"/>',
        '<mask label="cat" left="3" top="4" width="5" height="6" rle="1, 2"/>',
        '<cuboid label="cat" xtl1="1" ytl1="2" xbr1="9" ybr1="8" xbl1="3" ybl1="7"/>',
    ]
    _, images, rows = read(Cvat(), file(tmp_path, image(*shapes)))
    assert failures(images) == []
    assert rows["text"].to_pylist() == ["cat", "a & b", "cat", "cat", "cat", "cat"]
    assert boxes(rows) == [
        [1, 2, 30, 40],
        [1, 2, 30.5, 50],
        [5, 17, 15, 23],
        [7, 15, 13, 25],
        [3, 4, 8, 10],
        [1, 2, 9, 8],
    ]
    assert rows["polygon"].to_pylist()[:2] == [None, [[1, 2, 30.5, 4, 20, 50]]]
    assert images.select(["uri", "width", "height", "source_id"]).to_pylist() == [
        {"uri": "a.jpg", "width": 80, "height": 60, "source_id": "0"}
    ]


def test_a_turned_box_is_the_outline_of_its_corners(tmp_path):
    _, _, rows = read(Cvat(), file(tmp_path, image(box((10, 10, 30, 20), 'rotation="90"'))))
    assert boxes(rows) == [[15, 5, 25, 25]]
    (ring,) = rows["polygon"].to_pylist()[0]
    assert ring == pytest.approx([25, 5, 25, 25, 15, 25, 15, 5], abs=1e-4)


def test_a_tag_is_a_class_of_the_whole_image(tmp_path):
    tag = f'<tag label="cat" source="manual">{said("score", 0.5)}</tag>'
    _, _, rows = read(Cvat(), file(tmp_path, image(tag)))
    names = ["kind", "role", "text", "prompt", "box", "score", "text_score", "human"]
    assert rows.select(names).to_pylist() == [
        dict(zip(names, ["text", "alt", "cat", "tag", None, None, 0.5, True], strict=True))
    ]


def test_attributes_and_makers_are_read(tmp_path):
    shapes = [
        box(more='source="manual"', inside=said("score", "0.75") + said("difficult", "true")),
        box(more='source="auto"', inside=said("confidence", "1e-3") + said("ignore", "false")),
        box(inside=said("colour", "red")),
        box(inside=said("score", "much")),
    ]
    _, images, rows = read(Cvat(), file(tmp_path, image(*shapes)))
    assert rows["human"].to_pylist() == [True, False, False, False]
    assert rows["ignore"].to_pylist() == [True, False, False, False]
    assert rows["score"].to_pylist() == [0.75, pytest.approx(1e-3), None, None]
    assert [said for _, said in failures(images)] == [
        "annotations.xml: image 0: score 'much' is not a finite number"
    ]


def test_broken_boxes_are_rows_and_no_numbers_are_failures(tmp_path):
    shapes = [
        box((9, 9, 2, 2)),
        box(("nan", 1, "inf", 3)),
        box(("x", 1, 2, 3)),
        '<box label="cat" xtl="1"/>',
        '<box xtl="1" ytl="1" xbr="2" ybr="2"/>',
        '<polygon label="cat" points="1,2;3"/>',
        '<polygon label="cat" points="1,2;3,4"/>',
        '<polygon label="cat" points=""/>',
        '<polygon label="cat" points="nan,2;3,4;5,6"/>',
    ]
    _, images, rows = read(Cvat(), file(tmp_path, image(*shapes)))
    found = np.array(rows["box"].to_pylist(), np.float32)
    assert found[0].tolist() == [9, 9, 2, 2]
    assert np.isnan(found[[1, 2], 0]).all()
    assert rows["polygon"].to_pylist() == [None] * 3
    told = failures(images)
    assert [cause for cause, _ in told] == ["bad_labels"] * 6
    words = ["xtl is 'x'", "ytl is ''", "no label", "point '3'", "2 points", "point ''"]
    assert all(word in message for word, (_, message) in zip(words, told, strict=True))


POINTS = '<points label="cat" points="1,2"/>'
LINE = '<polyline label="cat" points="1,2;3,4"><attribute name="x"/></polyline>'


def test_a_copy_is_the_same_to_the_letter(tmp_path):
    images = [
        image(
            box(("1.50", "2e0", 3, 4), inside=said("c", "&lt;")), POINTS, "<!-- x -->", box(), LINE
        ),
        '<image id="7" name="\u00e4/b.jpg" width="8" height="6"/>',
        image("<unknown>\u00fc<box/></unknown>", number=9, name="c.jpg"),
        '<image id="10" name="d.jpg" subset="x"></image>',
    ]
    path = file(tmp_path, *images)
    assert copy(Cvat(), path, tmp_path / "out/annotations.xml") == []
    assert (tmp_path / "out/annotations.xml").read_bytes() == path.read_bytes()


def test_what_is_no_row_stays_when_all_rows_go(tmp_path):
    path = file(tmp_path, image(box(), POINTS, box(), LINE), image(box(), number=1, name="b.jpg"))
    copy(Cvat(), path, tmp_path / "out/x.xml", keep=nothing)
    written = (tmp_path / "out/x.xml").read_text()
    assert POINTS in written
    assert LINE in written
    assert "<box" not in written
    _, images, rows = read(Cvat(), tmp_path / "out/x.xml")
    assert (images["source_id"].to_pylist(), rows.num_rows) == (["0", "1"], 0)


def test_some_rows_go_and_the_others_keep_their_text(tmp_path):
    shapes = [box(label=name, inside=said("n", name)) for name in "abcd"]
    path = file(tmp_path, image(*shapes))
    copy(Cvat(), path, tmp_path / "x.xml", keep=lambda rows: [False, True, False, True])
    written = (tmp_path / "x.xml").read_text()
    assert [shape in written for shape in shapes] == [False, True, False, True]


def test_ids_and_names_that_stand_twice_are_told(tmp_path):
    path = file(tmp_path, image(), image(name="b.jpg"), image(number=2), image(number=3, name=" "))
    _, images, _ = read(Cvat(), path)
    assert images.num_rows == 4
    assert failures(images) == [
        ("duplicate_id", "annotations.xml: image 0: a second image of this id"),
        ("duplicate_id", "a.jpg: a second record of this image"),
        ("bad_labels", "annotations.xml: image 3: has no name"),
    ]


BOMB = '<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>'


@pytest.mark.parametrize(
    ("text", "error"),
    [
        pytest.param(
            HEAD + '<track id="0" label="cat"/></annotations>', "CVAT for images 1.1", id="video"
        ),
        pytest.param(
            '<!DOCTYPE a [<!ENTITY b "c">]><annotations>&b;</annotations>', "refused", id="bomb"
        ),
        pytest.param(HEAD + "<image", "well-formed", id="cut-off"),
        pytest.param(HEAD + image() + "\n<image>", "line 8", id="cut-off-later"),
        pytest.param("", "line 1", id="empty"),
        pytest.param("<annotation></annotation>", "has no <annotations>", id="voc"),
        pytest.param(HEAD + image("x" * 5000) + "</annotations>", "3000 bytes", id="large"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_one_line(tmp_path, text, error):
    path = tmp_path / "annotations.xml"
    path.write_text(text)
    with pytest.raises(LabelsError, match=rf"annotations\.xml.*{error}") as caught:
        read(Cvat(), path, limits=LimitsConfig(max_label_bytes=3000))
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_refused_in_one_line(tmp_path):
    with pytest.raises(LabelsError, match=r"cannot be read: there is no such file"):
        read(Cvat(), tmp_path)


TWO = [[0, 0, 1, 0, 1, 1], [7, 7, 9, 7, 9, 9]]


def test_rows_of_other_origin_come_back(tmp_path):
    made = tables(
        kind=["region", "region", "text", "region", "region"],
        role=["category", "category", "alt", "ocr", "category"],
        text=["d\u00fcg & <co>", "cat", "whole", "read", "two"],
        prompt=[None, None, "cls", None, None],
        box=[[1.25, 2.5, 30.1, 20], [0, 0, 80, 60], None, [0, 0, 1, 1], [0, 0, 9, 9]],
        polygon=[
            None,
            [[0, 0, 80, 0, 80, 60]],
            None,
            None,
            [[0, 0, 1, 0, 1, 1], [7, 7, 9, 7, 9, 9]],
        ],
        score=[0.1, None, None, None, None],
        ignore=[False, True, False, False, False],
    )
    images = made.images.set_column(1, "uri", [['a "b".jpg']])
    assert export(Cvat(), tmp_path / "x.xml", images, made.annotations) == [
        "cvat: 1 rows of region/ocr are not written",
        "cvat: 1 outlines of several rings are polygons that share a group_id",
    ]
    header, found, rows = read(Cvat(), tmp_path / "x.xml")
    assert list(header.classes) == ["d\u00fcg & <co>", "cat", "whole", "two"]
    assert found.select(["uri", "width", "height"]).to_pylist() == [
        {"uri": 'a "b".jpg', "width": 100, "height": 80}
    ]
    assert rows["text"].to_pylist() == ["d\u00fcg & <co>", "cat", "whole", "two", "two"]
    for name in ("box", "polygon", "score", "ignore"):
        assert rows[name].to_pylist()[:3] == made.annotations[name].to_pylist()[:3]


def test_images_without_rows_are_written_and_ids_are_unique(tmp_path):
    made = tables(image_key=["b", "b"], text=["x", "y"], box=[[0, 0, 1, 1]] * 2)
    images = made.images.set_column(1, "uri", [["b.jpg"]])
    other = images.set_column(0, "image_key", [["a"]]).set_column(1, "uri", [["a.jpg"]])

    export(Cvat(), tmp_path / "x.xml", pa.concat_tables([other, images]), made.annotations)
    _, found, rows = read(Cvat(), tmp_path / "x.xml")
    assert found.select(["uri", "source_id"]).to_pylist() == [
        {"uri": "a.jpg", "source_id": "0"},
        {"uri": "b.jpg", "source_id": "1"},
    ]
    assert rows["text"].to_pylist() == ["x", "y"]


def test_parts_are_as_small_as_asked_over_many_reads(tmp_path):
    path = file(tmp_path, *(image(box(), number=n, name=f"{n}.jpg") for n in range(3000)))
    assert path.stat().st_size > 400_000  # read in more than one piece
    _, images, rows = read(Cvat(), path, part_size=1000)
    assert images["uri"].to_pylist() == [f"{n}.jpg" for n in range(3000)]
    assert rows.num_rows == 3000
    copy(Cvat(), path, tmp_path / "out.xml")
    assert (tmp_path / "out.xml").read_bytes() == path.read_bytes()


def test_it_is_told_from_pascal_voc(tmp_path):
    path = file(tmp_path, image())
    head = path.read_bytes()
    assert Cvat().recognises(place(path), head)
    assert Cvat().recognises(place(tmp_path), b"")
    assert not Voc().recognises(place(tmp_path), b"")
    voc = b"<annotation><filename>a.jpg</filename></annotation>"
    assert not Cvat().recognises(place(path), voc)
    assert not Cvat().recognises(place(path), b'{"images": []}')
    assert list(content(tmp_path)) == ["annotations.xml"]
