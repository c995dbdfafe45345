"""ICDAR ground truth: quads and boxes, quotes and commas, words nobody could read."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.formats.icdar import Icdar
from engine.formats.yolo import Yolo
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


def lines(tmp_path, *text, newline="\n"):
    return fill(tmp_path / "gt", {"gt_img_1.txt": newline.join([*text, ""])})


def test_an_empty_folder_is_an_empty_set(tmp_path):
    assert read(Icdar(), fill(tmp_path, {}))[1].num_rows == 0


def test_quads_have_eight_numbers_and_transcripts_may_hold_commas(tmp_path):
    source = lines(
        tmp_path, "\ufeff1,2,30,4,29,20,2,18,a, b,1,2", "1,2,30,4,29,20,2,18,###", newline="\r\n"
    )
    _, images, rows = read(Icdar(), source)
    assert images["uri"].to_pylist() == ["img_1.jpg"]
    assert rows["text"].to_pylist() == ["a, b,1,2", "###"]
    assert rows["ignore"].to_pylist() == [False, True]
    assert rows["role"].to_pylist() == ["ocr", "ocr"]
    assert boxes(rows) == [[1, 2, 30, 20]] * 2
    assert rows["polygon"].to_pylist() == [[[1, 2, 30, 4, 29, 20, 2, 18]]] * 2


def test_boxes_have_four_numbers_and_transcripts_in_quotes(tmp_path):
    source = lines(
        tmp_path,
        '158 128 411 181 "Footpath"',
        '38, 43, 920, 215, "a, \\"b\\" \\\\"',
        '0 0 2 3 4 4 1 4 "quad"',
        '5,6,7,8,"1, 2"',
        "1,2,3,4,",
    )
    _, images, rows = read(Icdar(), source)
    assert failures(images) == []
    assert rows["text"].to_pylist() == ["Footpath", 'a, "b" \\', "quad", "1, 2", ""]
    assert boxes(rows)[:2] == [[158, 128, 411, 181], [38, 43, 920, 215]]
    assert [polygon is None for polygon in rows["polygon"].to_pylist()] == [
        True,
        True,
        False,
        True,
        True,
    ]


def test_detections_have_no_transcript(tmp_path):
    source = lines(tmp_path, "1,2,30,4,29,20,2,18", "1.25 2.5 31.25 22.62", "1,2,3,4")
    _, images, rows = read(Icdar(), source)
    assert failures(images) == []
    assert rows["text"].to_pylist() == ["", "", ""]
    assert boxes(rows) == [[1, 2, 30, 20], [1.25, 2.5, 31.25, 22.62], [1, 2, 3, 4]]


def test_lines_that_are_no_words_are_failures_that_name_them(tmp_path):
    source = lines(tmp_path, "1,2,3,4,5,6,7,8,ok", "", "a,b,c,d,word", "1,2,3", "1.2.3,2,3,4,word")
    _, images, rows = read(Icdar(), source)
    assert rows["text"].to_pylist() == ["ok"]
    told = failures(images)
    assert [cause for cause, _ in told] == ["bad_labels"] * 3
    assert [message.split(":")[1] for _, message in told] == [" line 3", " line 4", " line 5"]


def test_broken_boxes_are_rows_as_claimed(tmp_path):
    _, _, rows = read(Icdar(), lines(tmp_path, "9,9,2,2,swapped", "-5,-5,nan,1e9,far"))
    assert rows["box"].to_pylist()[0] == [9, 9, 2, 2]
    assert rows["box"].to_pylist()[1][:2] == [-5, -5]


def test_a_copy_is_the_same_to_the_letter(tmp_path):
    files = {
        "gt_a.txt": '\ufeff1,2,30,4,29,20,2,18,\u00e4 , b \r\n 1, 2,30,4,29,20,2,18,"q"\r\n',
        "sub/gt_b.txt": '158 128 411 181 "Footpath"',
        "gt_empty.txt": "",
    }
    source = fill(tmp_path / "gt", files)
    assert copy(Icdar(), source, tmp_path / "out") == []
    assert content(tmp_path / "out") == content(source)
    copy(Icdar(), source, tmp_path / "none", keep=nothing)
    assert content(tmp_path / "none") == {
        "gt_a.txt": b"\xef\xbb\xbf",
        "gt_empty.txt": b"",
        "sub/gt_b.txt": b"",
    }


def test_pictures_give_images_their_names_and_those_without_labels_count(tmp_path):
    source = lines(tmp_path, "1,2,3,4,x")
    picture(source / "images/img_1.png", 8, 8)
    picture(source / "images/img_2.png", 8, 8)
    _, images, _ = read(Icdar(), source)
    assert images["uri"].to_pylist() == ["images/img_1.png", "images/img_2.png"]
    copy(Icdar(), source, tmp_path / "out")
    assert content(tmp_path / "out") == content(source, endings=(".txt",))


def test_a_file_that_is_not_utf8_is_a_failure_of_its_image(tmp_path):
    source = fill(tmp_path / "gt", {"gt_a.txt": b"1,2,3,4,x\n1,2,3,4,caf\xe9\n"})
    _, images, rows = read(Icdar(), source)
    assert rows.num_rows == 0
    assert failures(images) == [
        ("bad_labels", "gt_a.txt: line 2: byte E9 is not UTF-8; save it as UTF-8")
    ]
    copy(Icdar(), source, tmp_path / "out")
    assert content(tmp_path / "out") == {}


def exported(tmp_path, **columns):
    made = tables(role=["ocr"] * len(columns["text"]), **columns)
    images = made.images.set_column(1, "uri", [["img_1.jpg"]])
    return export(Icdar(), tmp_path, images, made.annotations)


def test_rows_of_other_origin_are_lines_of_eight_whole_numbers(tmp_path):
    quad = [1.0, 2.0, 30.0, 4.0, 29.0, 20.0, 2.0, 18.0]
    notes = exported(
        tmp_path,
        text=["a, b", "c", "lost", "two\nlines"],
        box=[[1, 2, 30, 20], [1.4, 2, 3, 4], [0, 0, 1, 1], [5, 5, 6, 6]],
        polygon=[[quad], None, None, [[5, 5, 6, 5, 6, 6]]],
        ignore=[False, False, True, False],
        score=[0.5, None, None, None],
    )
    assert content(tmp_path) == {
        "gt_img_1.txt": b"1,2,30,4,29,20,2,18,a, b\r\n1,2,3,2,3,4,1,4,c\r\n"
        b"0,0,1,0,1,1,0,1,###\r\n5,5,6,5,6,6,5,6,two lines\r\n"
    }
    assert notes == [
        "icdar: 1 scores are not written",
        "icdar: 1 words are rounded to whole pixels",
        "icdar: 1 transcripts to be ignored are written as ###",
        "icdar: 1 outlines have not four corners, so the boxes are written",
        "icdar: 1 transcripts of several lines are written in one",
    ]


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12))
def test_any_transcript_comes_back(tmp_path_factory, text):
    folder = tmp_path_factory.mktemp("gt")
    exported(folder, text=[text], box=[[1, 2, 3, 4]])
    _, _, rows = read(Icdar(), folder)
    assert rows["text"].to_pylist() == [text]


def test_it_is_told_from_other_text_files(tmp_path):
    def knows(name, text, file="gt_img_1.txt"):
        return Icdar().recognises(place(fill(tmp_path / name, {file: text})), b"")

    assert knows("a", "1,2,3,4,5,6,7,8,word\n")
    assert knows("b", '1 2 3 4 "word"\n', "img_1.txt")
    assert knows("c", "")
    assert not knows("g", "1,2,3,4\n", "a.txt")
    assert not knows("d", "0 0.5 0.5 1 1\n", "a.txt")
    assert not knows("e", "a.jpg 4\n", "train.txt")
    assert not Yolo().recognises(place(tmp_path / "a"), b"")


@pytest.mark.parametrize(
    ("name", "words", "ignored"),
    [("icdar5/gt", 27, 19), ("format-fixtures/icdar_dataset/text_localization/train", 3, 0)],
)
def test_the_samples_come_back_to_the_letter(data, tmp_path, name, words, ignored):
    _, images, rows = read(Icdar(), data / name)
    assert (rows.num_rows, failures(images)) == (words, [])
    assert sum(rows["ignore"].to_pylist()) == ignored
    assert copy(Icdar(), data / name, tmp_path) == []
    assert content(tmp_path) == content(data / name, endings=(".txt",))
