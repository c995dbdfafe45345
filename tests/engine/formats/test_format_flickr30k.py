"""Flickr30k Entities: marked sentences and annotation files."""

import shutil

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import foreign, place_of, read, small_limits, write

from engine.errors import LabelsError
from engine.formats.flickr30k import Flickr30k

KIND = Flickr30k()
LINES = (
    "[/EN#1/people/clothing A man] in [/EN#2/clothing a blue hat] sees [/EN#0/notvisual it] .",
    "[/EN#1/people The man] near [/EN#3/scene a park] [ not marked ]",
)
XML = """<annotation>
\t<filename>77.jpg</filename>
\t<size>
\t\t<width>333</width>
\t\t<height>500</height>
\t\t<depth>3</depth>
\t</size>
\t<object>
\t\t<name>1</name>
\t\t<bndbox>
\t\t\t<xmin>1</xmin>
\t\t\t<ymin>2</ymin>
\t\t\t<xmax>101</xmax>
\t\t\t<ymax>202</ymax>
\t\t</bndbox>
\t</object>
\t<object>
\t\t<name>1</name>
\t\t<name>2</name>
\t\t<bndbox><xmin>11</xmin><ymin>12</ymin><xmax>21</xmax><ymax>22</ymax></bndbox>
\t</object>
\t<object>
\t\t<name>3</name>
\t\t<scene>1</scene>
\t\t<nobndbox>1</nobndbox>
\t</object>
\t<object>
\t\t<name>9</name>
\t\t<bndbox><xmin>5</xmin><ymin>5</ymin><xmax>3</xmax><ymax>3</ymax></bndbox>
\t</object>
</annotation>
"""


def folder_of(tmp_path, sentences=LINES, xml=XML, name="77", newline="\n"):
    folder = tmp_path / "in"
    for part, ending, content in (
        ("Sentences", ".txt", None if sentences is None else newline.join([*sentences, ""])),
        ("Annotations", ".xml", xml),
    ):
        (folder / part).mkdir(parents=True, exist_ok=True)
        if content is not None:
            (folder / part / (name + ending)).write_bytes(content.encode())
    return folder


def files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def rewritten(tmp_path, told, keep=lambda _: True):
    out = tmp_path / "out"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    return files(out), write(KIND, out, told, keep), files(out)


def test_a_folder_without_labels_is_refused(tmp_path):
    assert not KIND.recognises(place_of(tmp_path), b"")
    with pytest.raises(LabelsError, match=r"holds no Sentences/\*\.txt"):
        read(KIND, tmp_path)


def test_sentences_phrases_and_boxes_become_rows(tmp_path):
    folder = folder_of(tmp_path)
    assert KIND.recognises(place_of(folder), b"")
    told = read(KIND, folder)
    assert told.failures == []
    texts = [row for row in told.rows if row["kind"] == "text"]
    assert [row["text"] for row in texts] == [
        "A man in a blue hat sees it .",
        "The man near a park [ not marked ]",
    ]
    phrases = [row for row in told.rows if row["kind"] == "grounding"]
    assert [(row["text"], row["box"]) for row in phrases] == [
        ("A man", [0, 1, 100, 201]),
        ("A man", [10, 11, 20, 21]),
        ("a blue hat", [10, 11, 20, 21]),
        ("The man", [0, 1, 100, 201]),
        ("The man", [10, 11, 20, 21]),
    ]
    by_id = {row["annotation_id"]: row["text"] for row in texts}
    for row in phrases:
        assert by_id[row["text_id"]][row["span_start"] : row["span_end"]] == row["text"]
    regions = [row for row in told.rows if row["kind"] == "region"]
    assert [(row["role"], row["text"]) for row in regions] == [
        ("phrase", "A man"),
        ("phrase", "The man"),
        ("phrase", "A man"),
        ("phrase", "The man"),
        ("phrase", "a blue hat"),
        ("proposal", None),
    ]
    assert regions[-1]["box"] == [4, 4, 2, 2]
    (image,) = told.images
    assert (image["uri"], image["width"], image["height"]) == ("77.jpg", 333, 500)
    assert rewritten(tmp_path, told)[2] == files(folder)


def test_what_is_rejected_leaves_both_files_and_nothing_else_does(tmp_path):
    told = read(KIND, folder_of(tmp_path))
    second_box = [10, 11, 20, 21]
    _, notes, out = rewritten(tmp_path, told, lambda row: row["box"] != second_box)
    assert notes == []
    assert out["Sentences/77.txt"].decode().splitlines() == [
        LINES[0].replace("[/EN#2/clothing a blue hat]", "a blue hat"),
        LINES[1],
    ]
    start = XML.index("\t<object>\n\t\t<name>1</name>\n\t\t<name>2")
    end = XML.index("\t<object>\n\t\t<name>3")
    assert out["Annotations/77.xml"].decode() == XML[:start] + XML[end:]
    _, _, out = rewritten(tmp_path, told, lambda row: "A man" not in (row["text"] or ""))
    assert out["Sentences/77.txt"].decode().splitlines() == [LINES[1]]
    assert out["Annotations/77.xml"].decode() == XML


def test_a_link_the_files_cannot_drop_alone_is_told(tmp_path):
    told = read(KIND, folder_of(tmp_path))
    row = next(row for row in told.rows if row["kind"] == "grounding")
    _, notes, out = rewritten(tmp_path, told, lambda other: other["extra"] != row["extra"])
    assert notes == ["1 rejected phrases that stay: their box and their words do"]
    assert out == files(tmp_path / "in")


@pytest.mark.parametrize(
    ("sentences", "xml"), [(LINES, None), (None, XML), ((), XML), (("", "x ."), XML)]
)
def test_half_an_image_is_read_and_comes_back(tmp_path, sentences, xml):
    folder = folder_of(tmp_path, sentences, xml)
    told = read(KIND, folder)
    assert len(told.images) == 1
    assert rewritten(tmp_path, told)[2] == files(folder)


def test_line_ends_and_byte_order_marks_survive(tmp_path):
    xml = "\ufeff<?xml version='1.0' encoding='UTF-8'?>\r\n" + XML.replace("\n", "\r\n")
    folder = folder_of(tmp_path, ("\ufeff" + LINES[0], LINES[1]), xml, newline="\r\n")
    told = read(KIND, folder)
    assert [row["text"][:5] for row in told.rows if row["kind"] == "text"] == ["A man", "The m"]
    assert rewritten(tmp_path, told)[2] == files(folder)
    out = rewritten(tmp_path, told, lambda row: row["kind"] == "text")[2]
    assert b"[/EN#1" not in out["Sentences/77.txt"]
    assert out["Annotations/77.xml"].startswith(b"\xef\xbb\xbf<?xml")
    assert out["Annotations/77.xml"].count(b"<object>") == 1


BOMB = (
    '<!DOCTYPE a [<!ENTITY b "b"><!ENTITY c "&b;&b;&b;">]><annotation><filename>&c;'
    "</filename></annotation>"
)
OUTSIDE = (
    '<!DOCTYPE a [<!ENTITY x SYSTEM "file:///etc/passwd">]>'
    "<annotation><filename>&x;</filename></annotation>"
)


@pytest.mark.parametrize(
    ("xml", "message"),
    [
        (BOMB, "refused"),
        (OUTSIDE, "refused"),
        ("<annotation>", "no XML"),
        ("<svg/>", "not <annotation>"),
        ("\x00", "no XML"),
        ("<a>" * 50_000, "no XML"),
        ("", "no XML"),
    ],
)
def test_hostile_and_broken_annotations_are_failures_and_stay(tmp_path, xml, message):
    folder = folder_of(tmp_path, xml=xml)
    told = read(KIND, folder)
    assert [row["kind"] for row in told.rows] == ["text", "text"]
    ((_, cause, found),) = told.failures
    assert cause == "bad_labels"
    assert message in found
    assert rewritten(tmp_path, told)[2] == files(folder)


def test_an_object_without_numbers_is_told_and_stays(tmp_path):
    folder = folder_of(tmp_path, xml=XML.replace("<xmin>11", "<xmin>left"))
    told = read(KIND, folder)
    assert ["object 2" in message for _, _, message in told.failures] == [True]
    assert rewritten(tmp_path, told)[2] == files(folder)
    out = rewritten(tmp_path, told, lambda _: False)[2]
    assert b"left" in out["Annotations/77.xml"]


def test_objects_in_comments_do_not_shift_the_others(tmp_path):
    xml = XML.replace("\t<object>", "\t<!-- <object></object> -->\n\t<object>", 1)
    told = read(KIND, folder_of(tmp_path, xml=xml))
    out = rewritten(tmp_path, told, lambda row: row["box"] != [0, 1, 100, 201])[2]
    left = read(KIND, tmp_path / "out")
    boxes = {tuple(row["box"]) for row in left.rows if row["kind"] == "region"}
    assert boxes == {(10, 11, 20, 21), (4, 4, 2, 2)}
    assert b"<scene>1" in out["Annotations/77.xml"]


def test_other_encodings_and_endless_files_are_refused(tmp_path):
    folder = folder_of(tmp_path)
    (folder / "Sentences" / "77.txt").write_bytes(b"a\ncaf\xe9\n")
    with pytest.raises(LabelsError, match=r"Sentences/77\.txt line 2: byte 0xe9"):
        read(KIND, folder)
    with pytest.raises(LabelsError, match=r"max_label_bytes"):
        read(KIND, folder_of(tmp_path), limits=small_limits(50))


def test_names_from_labels_never_leave_the_output(tmp_path):
    told = read(KIND, folder_of(tmp_path))
    image = told.parts[0].images.to_pylist()[0]
    column = told.parts[0].images.schema.get_field_index("extra")
    extra = image["extra"].replace('"id":"77"', '"id":"../../evil"')
    images = told.parts[0].images.set_column(column, "extra", [[extra]])
    out = rewritten(tmp_path, told._replace(parts=[told.parts[0]._replace(images=images)]))[2]
    assert sorted(out) == ["Annotations/0.xml", "Sentences/0.txt"]
    other = foreign([{"uri": "../x/..jpg", "width": 1, "height": 1}], [])
    assert sorted(rewritten(tmp_path, other)[2]) == ["Annotations/0.xml", "Sentences/0.txt"]


def test_rows_from_elsewhere_come_back_from_the_files_they_were_written_to(tmp_path):
    text = {
        "uri": "x/a.jpg",
        "kind": "text",
        "annotation_id": "t",
        "role": "detailed",
        "text": "a dog [big] sees a cat",
    }
    phrase = {"uri": "x/a.jpg", "kind": "grounding", "role": "phrase", "text_id": "t"}
    told = foreign(
        [{"uri": "x/a.jpg", "width": 64, "height": 48}, {"uri": "y/a.jpg"}],
        [
            text,
            {
                **phrase,
                "text": "a dog",
                "span_start": 0,
                "span_end": 5,
                "box": [0, 0, 10, 20],
                "score": 0.5,
            },
            {**phrase, "text": "a cat", "span_start": 17, "span_end": 22, "box": [1, 2, 3, 4]},
            {**phrase, "text": "cat", "span_start": 19, "span_end": 22, "box": [1, 2, 3, 4]},
            {**phrase, "text": "cat", "span_start": 19, "span_end": 99, "box": [1, 2, 3, 4]},
            {
                "uri": "x/a.jpg",
                "kind": "region",
                "role": "category",
                "text": "dog",
                "box": [0.2, 0, 10, 20],
            },
            {
                "uri": "x/a.jpg",
                "kind": "region",
                "role": "category",
                "text": "tree",
                "box": [5, 5, 9, 9],
            },
            {
                "uri": "x/a.jpg",
                "kind": "region",
                "role": "category",
                "text": "nowhere",
                "box": [float("nan"), 5, 9, 9],
            },
        ],
    )
    _, notes, out = rewritten(tmp_path, told)
    assert sorted(out) == [
        "Annotations/1.xml",
        "Annotations/a.xml",
        "Sentences/1.txt",
        "Sentences/a.txt",
    ]
    assert len(notes) == 6
    back = read(KIND, tmp_path / "out")
    phrases = [row for row in back.rows if row["kind"] == "grounding"]
    assert [(row["text"], row["box"]) for row in phrases] == [
        ("a dog", [0, 0, 10, 20]),
        ("a cat", [1, 2, 3, 4]),
    ]
    regions = [row for row in back.rows if row["kind"] == "region"]
    assert [(row["text"], row["box"]) for row in regions][-1] == (None, [5, 5, 9, 9])
    np.testing.assert_equal(back.images[1]["width"], 64)


WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), max_size=12)
MARKED = st.lists(
    st.one_of(
        WORDS,
        st.tuples(st.integers(0, 4), WORDS.filter(lambda w: "]" not in w)).map(
            lambda pair: f"[/EN#{pair[0]}/other {pair[1]}]"
        ),
    ),
    max_size=5,
).map(" ".join)


@settings(max_examples=30, deadline=None)
@given(sentences=st.lists(MARKED, max_size=4), dropped=st.sets(st.integers(0, 20)))
def test_any_sentences_come_back_and_lose_what_was_rejected(tmp_path_factory, sentences, dropped):
    tmp_path = tmp_path_factory.mktemp("any")
    folder = folder_of(tmp_path, sentences)
    told = read(KIND, folder)
    assert rewritten(tmp_path, told)[2] == files(folder)
    gone = {row["extra"] for n, row in enumerate(told.rows) if n in dropped}
    rewritten(tmp_path, told, lambda row: row["extra"] not in gone)
    left = [row["text"] for row in read(KIND, tmp_path / "out").rows if row["kind"] == "text"]
    stays = [row["text"] for row in told.rows if row["kind"] == "text" and row["extra"] not in gone]
    # a sentence that was nothing but mark-up is an empty line without it, and no sentence
    assert [text for text in left if text] == [text for text in stays if text]


def test_published_sentences_and_annotations_come_back_byte_for_byte(data, tmp_path):
    source = data / "flickr30k-entities-8"
    folder = tmp_path / "in"
    shutil.copytree(source / "Sentences", folder / "Sentences")
    (folder / "Annotations").mkdir()
    for path in (folder, folder / "Sentences"):
        path.chmod(0o755)
    xml = (source / "Annotations" / "1000092795.PARTIAL.xml").read_bytes()
    (folder / "Annotations" / "1000092795.xml").write_bytes(xml)
    told = read(KIND, folder)
    assert told.failures == []
    assert len(told.images) == 9
    assert sum(row["kind"] == "text" for row in told.rows) == 45
    assert any(row["kind"] == "grounding" for row in told.rows)
    assert rewritten(tmp_path, told)[2] == files(folder)
