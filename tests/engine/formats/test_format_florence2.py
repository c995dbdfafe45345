"""Florence-2 training lines: every task read, thinned out, and made from rows."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import foreign, place_of, read, small_limits, write
from PIL import Image

from engine.errors import LabelsError
from engine.formats.florence2 import Florence2Lines

KIND = Florence2Lines()
BOX, OTHER = "<loc_100><loc_200><loc_300><loc_400>", "<loc_0><loc_0><loc_999><loc_999>"
QUAD = "<loc_1><loc_2><loc_9><loc_2><loc_9><loc_4><loc_1><loc_4>"
RING = "<loc_10><loc_10><loc_500><loc_10><loc_500><loc_500>"
FAR_RING = "<loc_600><loc_600><loc_700><loc_600><loc_700><loc_700>"


def record(prefix, suffix, image="a.jpg", **more):
    return json.dumps({"image": image, "prefix": prefix, "suffix": suffix, **more})


def file_of(folder, *lines, newline="\n", bom=b""):
    path = folder / "train.jsonl"
    path.write_bytes(bom + newline.join([*lines, ""]).encode())
    return path


def photos(folder, *names, size=(1000, 500)):
    folder = folder / "images"
    folder.mkdir(exist_ok=True)
    for name in names or ("a.jpg",):
        Image.new("RGB", size).save(folder / name)
    return folder


def said(told):
    return [(row["kind"], row["role"], row["text"]) for row in told.rows]


def rewritten(folder, told, keep=lambda _: True):
    write(KIND, folder / "out.jsonl", told, keep)
    return (folder / "out.jsonl").read_text(encoding="utf-8").splitlines()


def test_an_empty_file_is_an_empty_set(tmp_path):
    told = read(KIND, file_of(tmp_path))
    assert told.images == []
    assert rewritten(tmp_path, told) == []


@pytest.mark.parametrize(
    ("prefix", "suffix", "expected"),
    [
        ("<CAPTION>", "a dog", [("text", "brief", "a dog")]),
        ("<DETAILED_CAPTION>", "a dog", [("text", "detailed", "a dog")]),
        ("<MORE_DETAILED_CAPTION>", "a dog", [("text", "more_detailed", "a dog")]),
        ("What does the image describe?", "a dog", [("text", "brief", "a dog")]),
        (
            "<OD>",
            f"dog{BOX}{OTHER}cat{BOX}",
            [("region", "category", name) for name in ("dog", "dog", "cat")],
        ),
        ("<DENSE_REGION_CAPTION>", f"a big dog{BOX}", [("region", "brief", "a big dog")]),
        ("<REGION_PROPOSAL>", BOX + OTHER, [("region", "proposal", None)] * 2),
        ("<OCR>", "STOP", []),
        ("<OCR_WITH_REGION>", f"STOP{QUAD}", [("region", "ocr", "STOP")]),
        (
            "<CAPTION_TO_PHRASE_GROUNDING>a dog sees a cat",
            f"a dog{BOX}a cat{OTHER}",
            [
                ("text", "brief", "a dog sees a cat"),
                ("grounding", "phrase", "a dog"),
                ("grounding", "phrase", "a cat"),
            ],
        ),
        ("<OPEN_VOCABULARY_DETECTION>dog", f"dog{BOX}", [("region", "phrase", "dog")]),
        (
            "<REFERRING_EXPRESSION_SEGMENTATION>the dog",
            f"<poly>{RING}</poly><poly>{FAR_RING}</poly>",
            [("region", "category", "the dog")] * 2,
        ),
        (f"<REGION_TO_CATEGORY>{BOX}", f"dog{BOX}", [("region", "category", "dog")]),
        (f"<REGION_TO_DESCRIPTION>{BOX}", "a dog", [("region", "brief", "a dog")]),
        (f"<REGION_TO_OCR>{BOX}", "STOP", [("region", "ocr", "STOP")]),
        (f"<REGION_TO_SEGMENTATION>{BOX}", RING, [("region", "proposal", None)]),
    ],
)
def test_every_task_is_read_and_comes_back(tmp_path, prefix, suffix, expected):
    line = record(prefix, suffix, id=7, more={"a": [1.10, None]})
    path = file_of(tmp_path, line)
    assert KIND.recognises(place_of(path), path.read_bytes())
    told = read(KIND, path, images=photos(tmp_path))
    assert said(told) == expected
    assert told.failures == []
    assert rewritten(tmp_path, told) == [line]
    left = rewritten(tmp_path, told, lambda _: False)
    assert left == ([] if expected else [line])


def test_boxes_are_bin_centres_in_pixels_of_the_picture(tmp_path):
    told = read(KIND, file_of(tmp_path, record("<OD>", f"dog{BOX}")), images=photos(tmp_path))
    np.testing.assert_allclose(told.rows[0]["box"], [100.5, 100.25, 300.5, 200.25])
    told = read(
        KIND, file_of(tmp_path, record("<REGION_TO_OCR>" + BOX, "x")), images=photos(tmp_path)
    )
    np.testing.assert_allclose(told.rows[0]["box"], [100.5, 100.25, 300.5, 200.25])


def test_captions_need_no_pictures_and_places_do(tmp_path):
    assert said(read(KIND, file_of(tmp_path, record("<CAPTION>", "x")))) == [("text", "brief", "x")]
    with pytest.raises(LabelsError, match=r"train\.jsonl line 2: <OD>.*source\.images"):
        read(KIND, file_of(tmp_path, record("<CAPTION>", "x"), record("<OD>", f"dog{BOX}")))


def test_rejected_items_leave_their_line_and_the_rest_stays_as_it_was(tmp_path):
    od = record("<OD>", f"dog{BOX}{OTHER}caf\u00e9{BOX}bird{OTHER}", n=1.50)
    polygons = record(
        "<REFERRING_EXPRESSION_SEGMENTATION>dog",
        f"<poly>{RING}<sep>{RING}</poly><poly>{FAR_RING}</poly>",
    )
    told = read(KIND, file_of(tmp_path, od, polygons), images=photos(tmp_path))
    dropped = [told.rows[0], told.rows[2], told.rows[4]]
    left = rewritten(tmp_path, told, lambda row: row["extra"] not in [d["extra"] for d in dropped])
    assert left == [
        record("<OD>", f"dog{OTHER}bird{OTHER}", n=1.50),
        record("<REFERRING_EXPRESSION_SEGMENTATION>dog", f"<poly>{FAR_RING}</poly>"),
    ]


def test_phrases_stand_in_their_caption_and_go_with_it(tmp_path):
    caption = "a dog sees a dog"
    lines = [
        record("<CAPTION>", caption),
        record(f"<CAPTION_TO_PHRASE_GROUNDING>{caption}", f"a dog{BOX}a dog{OTHER}"),
    ]
    told = read(KIND, file_of(tmp_path, *lines), images=photos(tmp_path))
    assert [row["kind"] for row in told.rows] == ["text", "grounding", "grounding"]
    assert [(row["span_start"], row["span_end"]) for row in told.rows[1:]] == [(0, 5), (11, 16)]
    assert {row["text_id"] for row in told.rows[1:]} == {told.rows[0]["annotation_id"]}
    assert rewritten(tmp_path, told) == lines
    assert rewritten(tmp_path, told, lambda row: row["kind"] != "text") == []
    assert rewritten(tmp_path, told, lambda row: row["kind"] == "text") == lines[:1]


@pytest.mark.parametrize(
    ("line", "cause"),
    [
        ('{"image": "a.jpg", "prefix": "<OD>", "suffix": "x"', "not_json"),
        ("[1, 2]", "bad_labels"),
        ('{"image": "a.jpg", "prefix": "<OD>", "suffix": null}', "bad_labels"),
        ('{"image": 5, "prefix": "<OD>", "suffix": ""}', "bad_labels"),
        (record("<VQA>what is it?", "a dog"), "bad_labels"),
        (record("<OD>", "dogs all over"), "bad_labels"),
        (record("<OD>", "dog<loc_1><loc_2>"), "bad_labels"),
        (record("<REGION_TO_OCR>here", "x"), "bad_labels"),
        (record("<OD>", f"dog{BOX}", image="missing.jpg"), "bad_labels"),
        (record("<OD>", f"dog{BOX}", image="../../a.jpg"), None),
        ("[" * 100_000, "bad_labels"),
    ],
)
def test_lines_that_cannot_be_taken_are_failures_and_stay_untouched(tmp_path, line, cause):
    good = record("<CAPTION>", "x", image="b.jpg")
    told = read(KIND, file_of(tmp_path, good, line), images=photos(tmp_path))
    assert [failure[1] for failure in told.failures] == ([cause] if cause else [])
    if cause:
        assert "line 2" in told.failures[0][2] or "a size" in told.failures[0][2]
        assert len(told.rows) == 1
    assert rewritten(tmp_path, told) == [good, line]


def test_what_is_lost_of_an_answer_is_told_and_the_rest_is_read(tmp_path):
    line = record("<OD>", f"dog{BOX}cat<loc_1>")
    told = read(KIND, file_of(tmp_path, line), images=photos(tmp_path))
    assert said(told) == [("region", "category", "dog")]
    assert "1 location tokens" in told.failures[0][2]
    assert rewritten(tmp_path, told) == [line]


def test_lines_of_an_image_that_stand_apart_are_one_image_and_keep_their_order(tmp_path):
    lines = [record("<CAPTION>", f"text {n}", image=f"{n % 2}.jpg") for n in range(6)]
    told = read(KIND, file_of(tmp_path, *lines, newline="\r\n"), part_size=1)
    assert [image["uri"] for image in told.images] == ["0.jpg", "1.jpg"]
    assert len(told.parts) == 2
    write(KIND, tmp_path / "out.jsonl", told)
    assert (tmp_path / "out.jsonl").read_bytes() == (tmp_path / "train.jsonl").read_bytes()


def test_a_byte_order_mark_survives_and_endless_lines_are_refused(tmp_path):
    path = file_of(tmp_path, record("<CAPTION>", "x" * 2000), bom=b"\xef\xbb\xbf")
    assert KIND.recognises(place_of(path), path.read_bytes())
    write(KIND, tmp_path / "out.jsonl", read(KIND, path))
    assert (tmp_path / "out.jsonl").read_bytes() == path.read_bytes()
    with pytest.raises(LabelsError, match="line 1: longer than 1000 bytes"):
        read(KIND, path, limits=small_limits(1000))


def test_other_json_lines_are_not_taken_for_these(tmp_path):
    for line in ('{"image": "a", "text": "b"}', "prefix\tsuffix\timage", "{", ""):
        assert not KIND.recognises(place_of(file_of(tmp_path, line)), line.encode() + b"\n")


PIECES = st.sampled_from(
    [
        "dog",
        "cat ",
        "\u00e9",
        " ",
        BOX,
        OTHER,
        QUAD,
        RING,
        "<sep>",
        "<poly>",
        "</poly>",
        "<loc_7>",
        "<loc_1000>",
        "<od>",
        "</s>",
        "<",
    ]
)
PLACED = st.sampled_from(
    [
        "<OD>",
        "<OCR_WITH_REGION>",
        "<REGION_PROPOSAL>",
        "<OPEN_VOCABULARY_DETECTION>x",
        "<REFERRING_EXPRESSION_SEGMENTATION>x",
        "<CAPTION_TO_PHRASE_GROUNDING>dog cat",
        f"<REGION_TO_SEGMENTATION>{BOX}",
        f"<REGION_TO_OCR>{BOX}",
    ]
)


@settings(max_examples=75, deadline=None)
@given(
    answers=st.lists(
        st.tuples(PLACED, st.lists(PIECES, max_size=12).map("".join)), min_size=1, max_size=3
    ),
    dropped=st.sets(st.integers(0, 8)),
)
def test_what_is_left_of_any_answer_says_what_was_kept(tmp_path_factory, answers, dropped):
    folder = tmp_path_factory.mktemp("any")
    path = file_of(folder, *(record(*answer) for answer in answers))
    told = read(KIND, path, images=photos(folder))
    assert rewritten(folder, told) == path.read_text(encoding="utf-8").splitlines()
    placed = [row for row in told.rows if row["kind"] != "text"]
    gone = {row["extra"] for n, row in enumerate(placed) if n in dropped}
    rewritten(folder, told, lambda row: row["extra"] not in gone)
    left = read(KIND, folder / "out.jsonl", images=folder / "images")
    shown = [
        (row["role"], row["text"], row["box"], row["polygon"])
        for row in placed
        if row["extra"] not in gone
    ]
    found = [
        (row["role"], row["text"], row["box"], row["polygon"])
        for row in left.rows
        if row["kind"] != "text"
    ]
    assert found == shown


def test_rows_from_elsewhere_become_lines_of_every_task_they_can_answer(tmp_path):
    photos(tmp_path, "a.jpg", size=(640, 480))
    text = {"uri": "a.jpg", "kind": "text", "annotation_id": "t", "role": "brief", "text": "a dog"}
    dog = {
        "uri": "a.jpg",
        "kind": "region",
        "role": "category",
        "text": "dog",
        "box": [10, 20, 300, 400],
        "score": 0.5,
    }
    word = {**dog, "role": "ocr", "text": "STOP", "box": [1, 2, 30, 40]}
    phrase = {
        "uri": "a.jpg",
        "kind": "grounding",
        "role": "phrase",
        "text": "a dog",
        "text_id": "t",
        "span_start": 0,
        "span_end": 5,
        "box": [10, 20, 300, 400],
    }
    crowd = {**dog, "ignore": True}
    told = foreign(
        [{"uri": "a.jpg", "width": 640, "height": 480}, {"uri": "b.jpg"}],
        [text, dog, word, phrase, crowd, {**text, "uri": "b.jpg"}],
    )
    notes = write(KIND, tmp_path / "out.jsonl", told)
    lines = [json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines()]
    prompts = {line["prefix"].partition(">")[0] + ">" for line in lines}
    assert {"<CAPTION>", "<OD>", "<OCR_WITH_REGION>", "<CAPTION_TO_PHRASE_GROUNDING>"} <= prompts
    assert lines[-1] == {"image": "b.jpg", "prefix": "<CAPTION>", "suffix": "a dog"}
    assert any(note.startswith("1 rows that no task can say") for note in notes)
    back = read(KIND, tmp_path / "out.jsonl", images=tmp_path / "images")
    assert back.failures == []
    boxes = [row["box"] for row in back.rows if row["role"] == "category"]
    np.testing.assert_allclose(boxes[0], [10, 20, 300, 400], atol=0.5)
