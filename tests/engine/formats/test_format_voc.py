"""Pascal VOC: pixels, flags, lists, unknown elements, hostile XML; more XML: test_xml_files.py."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.formats.imagenet import ImageNet
from engine.formats.shapes import LabelSet, Place, ReadOptions
from engine.formats.voc import Voc
from engine.source.local import LocalFolder
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

OBJECT = (
    "<object><name>{name}</name>{more}<bndbox><xmin>{box[0]}</xmin><ymin>{box[1]}</ymin>"
    "<xmax>{box[2]}</xmax><ymax>{box[3]}</ymax></bndbox></object>"
)
SIZE = "<size><width>500</width><height>375</height><depth>3</depth></size>"


def thing(name="dog", box=(1, 1, 500, 375), more=""):
    return OBJECT.format(name=name, box=box, more=more)


def annotation(*objects, name="a.jpg"):
    inside = "\n".join(objects)
    return f"<annotation><filename>{name}</filename>{SIZE}\n{inside}\n</annotation>\n"


def folder(tmp_path, *objects):
    return fill(tmp_path / "voc", {"Annotations/a.xml": annotation(*objects)})


def test_an_empty_folder_is_an_empty_set(tmp_path):
    _, images, rows = read(Voc(), fill(tmp_path, {}))
    assert (images.num_rows, rows.num_rows) == (0, 0)
    assert copy(Voc(), tmp_path, tmp_path / "out") == []


def test_pixels_count_from_one_and_both_corners_belong_to_the_box(tmp_path):
    _, images, rows = read(Voc(), folder(tmp_path, thing(), thing(box=(10, 20, 10, 20))))
    assert boxes(rows) == [[0, 0, 500, 375], [9, 19, 10, 20]]
    assert images.select(["uri", "width", "height", "status"]).to_pylist() == [
        {"uri": "a.jpg", "width": 500, "height": 375, "status": "ok"}
    ]


def test_a_zero_is_the_border_and_not_a_pixel_before_it(tmp_path):
    _, _, rows = read(Voc(), folder(tmp_path, thing(box=(0, 0.0, 9, 9)), thing(box=(-3, 1, 9, 9))))
    assert boxes(rows) == [[0, 0, 9, 9], [-4, 0, 9, 9]]


def test_broken_boxes_are_rows_as_claimed(tmp_path):
    claimed = [(9, 9, 2, 2), ("nan", 1, "inf", 3), ("1e300", 1, 2, 2), (3, 3, 2, 2)]
    _, images, rows = read(Voc(), folder(tmp_path, *(thing(box=box) for box in claimed)))
    found = np.array(rows["box"].to_pylist(), np.float32)
    assert found[0].tolist() == [8, 8, 2, 2]
    assert np.isnan(found[1, 0])
    assert np.isinf(found[[1, 2], [2, 0]]).all()
    assert failures(images) == []


def test_difficult_and_scores_are_read(tmp_path):
    flags = ["<difficult>1</difficult>", "<difficult>0</difficult><score>0.25</score>", ""]
    _, _, rows = read(Voc(), folder(tmp_path, *(thing(more=more) for more in flags)))
    assert rows["ignore"].to_pylist() == [True, False, False]
    assert rows["score"].to_pylist() == [None, 0.25, None]


def test_a_score_that_is_no_number_is_told_and_left_out(tmp_path):
    _, images, rows = read(Voc(), folder(tmp_path, thing(more="<score>inf</score>")))
    assert rows["score"].to_pylist() == [None]
    assert failures(images) == [
        ("bad_labels", "Annotations/a.xml: score 'inf' is not a finite number")
    ]


def test_objects_that_cannot_be_taken_are_failures_that_name_them(tmp_path):
    source = folder(tmp_path, thing(name=" "), thing(box=("x", 1, 2, 2)), thing(name="cat"))
    _, images, rows = read(Voc(), source)
    assert rows["text"].to_pylist() == ["cat"]
    assert failures(images) == [
        ("bad_labels", "Annotations/a.xml: object 1: has no name"),
        ("bad_labels", "Annotations/a.xml: object 2: xmin is 'x', wanted a number"),
    ]


def test_an_object_without_a_box_is_no_row_and_stays(tmp_path):
    source = folder(tmp_path, thing(), "<object><name>pose</name><p>1</p></object>", thing())
    _, images, rows = read(Voc(), source)
    assert (rows.num_rows, failures(images)) == (2, [])
    copy(Voc(), source, tmp_path / "out", keep=nothing)
    written = (tmp_path / "out/Annotations/a.xml").read_text()
    assert "<object><name>pose</name><p>1</p></object>" in written
    assert "dog" not in written


def test_a_copy_is_the_same_to_the_letter(tmp_path):
    more = "<pose>Left</pose><part><name>head</name></part>"
    odd = (
        "\ufeff<?xml version='1.0'?>\r\n<!-- who -->\r\n<annotation verified='yes' >\r\n"
        "<filename>\u00e4 b.jpg</filename><owner><x/></owner>\r\n"
        f"{thing(box=(1.50, '2e0', 30, 40), more=more)}"
        f"<!-- between -->\r\n{thing(name='caf&#233; &amp; <![CDATA[<b>]]>')}\r\n</annotation >\r\n"
    )
    files = {
        "Annotations/a.xml": odd,
        "Annotations/sub/b.xml": annotation(name="b.jpg"),
        "Annotations/c.xml": "<annotation/>",
        "ImageSets/Main/train.txt": "a\r\nsub/b\r\n\r\n",
        "ImageSets/Main/dog_train.txt": "a  1\nsub/b -1\n",
        "labelmap.txt": "# label\ndog:::\n",
    }
    source = fill(tmp_path / "voc", files)
    assert copy(Voc(), source, tmp_path / "out") == []
    assert content(tmp_path / "out") == content(source)


def test_what_stands_between_objects_survives_when_they_go(tmp_path):
    source = folder(tmp_path, thing("one"), "<mine>7</mine>", thing("two"), thing("three"))
    copy(Voc(), source, tmp_path / "out", keep=lambda rows: [False, False, True])
    _, _, rows = read(Voc(), tmp_path / "out")
    assert rows["text"].to_pylist() == ["three"]
    assert "<mine>7</mine>" in (tmp_path / "out/Annotations/a.xml").read_text()


def test_a_declared_encoding_is_kept(tmp_path):
    text = '<?xml version="1.0" encoding="windows-1252"?>\n' + annotation(thing("caf\u00e9"))
    source = fill(tmp_path / "voc", {"Annotations/a.xml": text.encode("cp1252")})
    _, _, rows = read(Voc(), source)
    assert rows["text"].to_pylist() == ["caf\u00e9"]
    copy(Voc(), source, tmp_path / "out")
    assert content(tmp_path / "out") == content(source)


def test_images_without_annotation_are_images(tmp_path):
    source = folder(tmp_path, thing())
    picture(source / "JPEGImages/only.jpg", 4, 3)
    picture(source / "JPEGImages/a.jpg", 4, 3)
    fill(source, {"ImageSets/Main/test.txt": "a\nonly\nnowhere\n"})
    _, images, _ = read(Voc(), source)
    assert images["uri"].to_pylist() == ["a.jpg", "only.jpg", "nowhere.jpg"]
    copy(Voc(), source, tmp_path / "out")
    assert content(tmp_path / "out") == content(source, endings=(".xml", ".txt"))


def test_lists_lose_the_images_that_are_not_written(tmp_path):
    files = {f"Annotations/{n}.xml": annotation(name=f"{n}.jpg") for n in "abc"}
    files["ImageSets/Main/train.txt"] = "a\nb\nc\n"
    source = fill(tmp_path / "voc", files)
    labels = Voc().read(place(source), ReadOptions())
    (part,) = labels.parts
    (tmp_path / "out").mkdir()
    kept = part._replace(images=part.images.take([0, 2]))
    Voc().write(place(tmp_path / "out"), LabelSet(labels.header, iter([kept])))
    written = content(tmp_path / "out")
    assert written["ImageSets/Main/train.txt"] == b"a\nc\n"
    assert "Annotations/b.xml" not in written


def test_a_file_that_is_no_annotation_is_a_failure_of_its_image(tmp_path):
    bomb = '<!DOCTYPE a [<!ENTITY b "cc"><!ENTITY d "&b;&b;">]><annotation>&d;</annotation>'
    outside = '<!DOCTYPE a SYSTEM "file:///etc/passwd"><annotation/>'
    files = {
        "Annotations/a.xml": bomb,
        "Annotations/b.xml": outside,
        "Annotations/c.xml": annotation(thing())[:-30],
        "Annotations/d.xml": b"<annotation>\n\xff</annotation>",
        "Annotations/e.xml": "<annotations/>",
        "Annotations/f.xml": "",
        "Annotations/g.xml": "<a>" * 100,
        "Annotations/h.xml": annotation(thing(), name="h.jpg"),
    }
    source = fill(tmp_path / "voc", files)
    _, images, rows = read(Voc(), source)
    assert images["uri"].to_pylist() == [f"{n}.jpg" for n in "abcdefgh"]
    assert rows.num_rows == 1
    told = failures(images)
    assert [cause for cause, _ in told] == ["bad_labels"] * 7
    words = ["refused", "refused", "well-formed", "line 2", "<annotations>", "line 1", "nested"]
    assert all(word in said for word, (_, said) in zip(words, told, strict=True))
    copy(Voc(), source, tmp_path / "out")
    assert list(content(tmp_path / "out")) == ["Annotations/h.xml"]


def test_a_second_annotation_of_an_image_is_told(tmp_path):
    files = {"Annotations/a.xml": annotation(), "Annotations/b.xml": annotation()}
    _, images, _ = read(Voc(), fill(tmp_path, files))
    assert images["uri"].to_pylist() == ["a.jpg", "a.jpg"]
    assert failures(images) == [("duplicate_id", "a.jpg: a second record of this image")]


def test_rows_of_other_origin_come_back(tmp_path):
    given_rows = tables(
        text=["dog", "a <b> & c", "\u00fc"],
        box=[[0, 0, 100, 80], [1.5, 2.25, 3, 4], [0.1, 0.3, 7.7, 8.9]],
        score=[0.5, None, 0.1],
        ignore=[False, True, False],
    )
    images = given_rows.images.set_column(1, "uri", [["../../evil/a.jpg"]])
    assert export(Voc(), tmp_path / "out", images, given_rows.annotations) == []
    written = content(tmp_path / "out")
    assert list(written) == ["Annotations/evil/a.xml", "ImageSets/Main/default.txt", "labelmap.txt"]
    assert written["ImageSets/Main/default.txt"] == b"evil/a\n"
    assert written["labelmap.txt"].decode().split("\n")[1:4] == [
        "dog:::",
        "a <b> & c:::",
        "\u00fc:::",
    ]
    _, found, rows = read(Voc(), tmp_path / "out")
    for name in ("text", "box", "score", "ignore"):
        assert rows[name].to_pylist() == given_rows.annotations[name].to_pylist()
    assert found.select(["width", "height"]).to_pylist() == [{"width": 100, "height": 80}]


SIDE = st.floats(2**-10, 2**20, width=32) | st.integers(-5000, 5000).filter(lambda side: side != -1)


@settings(max_examples=25, deadline=None)
@given(st.lists(SIDE, min_size=4, max_size=4))
def test_any_box_comes_back_exactly(tmp_path_factory, box):
    """But -1, which is a 0 in the file."""
    folder = tmp_path_factory.mktemp("voc")
    made = tables(text=["x"], box=[box])
    images = made.images.set_column(1, "uri", [["a.jpg"]])
    export(Voc(), folder, images, made.annotations)
    _, _, rows = read(Voc(), folder)
    assert rows["box"].to_pylist() == [np.float32(box).tolist()]


def test_what_an_annotation_cannot_say_is_counted(tmp_path):
    made = tables(
        kind=["region", "text", "region"],
        role=["category", "alt", "ocr"],
        text=["a", "b", "c"],
        box=[[0, 0, 1, 1], None, [0, 0, 1, 1]],
        polygon=[[[0, 0, 1, 0, 1, 1]], None, None],
    )
    images = made.images.set_column(1, "uri", [["a.jpg"]])
    assert export(Voc(), tmp_path / "out", images, made.annotations) == [
        "voc: 1 outlines are not written, their boxes are",
        "voc: 1 rows of text/alt are not written",
        "voc: 1 rows of region/ocr are not written",
    ]


def test_control_characters_become_what_xml_can_hold(tmp_path):
    made = tables(text=["a\x00b\x0b"], box=[[0, 0, 1, 1]])
    images = made.images.set_column(1, "uri", [["a\x01.jpg"]])
    export(Voc(), tmp_path / "out", images, made.annotations)
    _, _, rows = read(Voc(), tmp_path / "out")
    assert rows["text"].to_pylist() == ["a\ufffdb\ufffd"]


def test_parts_are_as_small_as_asked(tmp_path):
    files = {f"Annotations/{n}.xml": annotation(name=f"{n}.jpg") for n in range(5)}
    labels = Voc().read(place(fill(tmp_path, files)), ReadOptions(part_size=2))
    assert [part.images.num_rows for part in labels.parts] == [2, 2, 1]


class Far(LocalFolder):
    """A folder that is read and written as a bucket is: many files at a time."""

    readers = 4


def test_many_reads_at_a_time_keep_the_order(tmp_path):
    files = {f"Annotations/{n:03}.xml": annotation(name=f"{n:03}.jpg") for n in range(100)}
    source, out = fill(tmp_path / "in", files), fill(tmp_path / "out", {})
    labels = Voc().read(Place(Far(str(source), str(source))), ReadOptions(part_size=40))
    parts = list(labels.parts)
    uris = [uri for part in parts for uri in part.images["uri"].to_pylist()]
    assert uris == [f"{n:03}.jpg" for n in range(100)]
    Voc().write(Place(Far(str(out), str(out))), LabelSet(labels.header, iter(parts)))
    assert content(out) == content(source)


def test_it_is_told_from_imagenets_localisation(tmp_path):
    voc = folder(tmp_path, thing())
    name = "Annotations/CLS-LOC/train/n01440764/n01440764_18.xml"
    localisation = fill(tmp_path / "in", {name: annotation(thing())})
    found = [
        (kind.recognises(place(voc), b""), kind.recognises(place(localisation), b""))
        for kind in (Voc(), ImageNet())
    ]
    assert found == [(True, False), (False, True)]


@pytest.mark.parametrize("name", ["voc_dataset1", "voc_dataset2", "voc_dataset3"])
def test_the_samples_come_back_to_the_letter(data, tmp_path, name):
    source = data / "format-fixtures/voc_dataset" / name
    assert copy(Voc(), source, tmp_path) == []
    assert content(tmp_path) == content(source, endings=(".xml", ".txt"))
