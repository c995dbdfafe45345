"""Conceptual Captions and its kin: one caption and one address a line."""

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import foreign, place_of, read, small_limits, write

from engine.errors import LabelsError
from engine.formats.conceptual_captions import ConceptualCaptions
from engine.schema import claims

KIND = ConceptualCaptions()


def file_of(folder, *lines, newline="\n", bom=b""):
    path = folder / "captions.tsv"
    path.write_bytes(bom + newline.join([*lines, ""]).encode())
    return path


def rewritten(folder, path, keep=lambda _: True):
    write(KIND, folder / "out.tsv", read(KIND, path), keep)
    return (folder / "out.tsv").read_bytes()


def test_an_empty_file_is_refused_and_a_header_alone_is_an_empty_set(tmp_path):
    with pytest.raises(LabelsError, match="empty"):
        read(KIND, file_of(tmp_path))
    path = file_of(tmp_path, "caption\turl")
    assert read(KIND, path).images == []
    assert rewritten(tmp_path, path) == path.read_bytes()


@pytest.mark.parametrize(
    "lines",
    [
        ['a "dog" , said\thttp://h/1.jpg', 'an open " quote\thttp://h/2.jpg'],
        ["caption\turl", 'a "dog" , said\thttp://h/1.jpg', 'an open " quote\thttp://h/2.jpg'],
        ['http://h/1.jpg\ta "dog" , said', 'http://h/2.jpg\tan open " quote'],
        [
            "url\tid\tcaption\tmore",
            'http://h/1.jpg\t7\ta "dog" , said\t[1,2]',
            'http://h/2.jpg\t8\tan open " quote\t',
        ],
    ],
    ids=["CC3M", "header", "CC12M", "more columns"],
)
def test_quotes_are_text_and_other_columns_survive(tmp_path, lines):
    path = file_of(tmp_path, *lines)
    assert KIND.recognises(place_of(path), path.read_bytes())
    told = read(KIND, path)
    assert [(row["uri"], row["text"]) for row in told.rows] == [
        ("http://h/1.jpg", 'a "dog" , said'),
        ("http://h/2.jpg", 'an open " quote'),
    ]
    assert {(row["kind"], row["role"], row["human"]) for row in told.rows} == {
        ("text", "alt", False)
    }
    assert rewritten(tmp_path, path) == path.read_bytes()
    rest = rewritten(tmp_path, path, lambda row: "open" in row["text"]).decode().splitlines()
    assert rest == [*lines[:-2], lines[-1]]


def test_an_address_that_comes_again_is_told_and_kept(tmp_path):
    lines = [f"caption {n}\thttp://h/same.jpg" for n in range(3)]
    path = file_of(tmp_path, *lines, "other\thttp://h/b.jpg")
    told = read(KIND, path, part_size=2)
    assert [image["uri"] for image in told.images] == [
        "http://h/same.jpg",
        "http://h/same.jpg#2",
        "http://h/same.jpg#3",
        "http://h/b.jpg",
    ]
    assert [(uri[-2:], cause) for uri, cause, _ in told.failures] == [
        ("#2", "duplicate_id"),
        ("#3", "duplicate_id"),
    ]
    assert rewritten(tmp_path, path) == path.read_bytes()


def test_lines_that_are_no_label_are_failures_and_stay(tmp_path):
    path = file_of(tmp_path, "good\thttp://h/1.jpg", "no address", "\thttp://h/2.jpg", "x\t")
    told = read(KIND, path)
    assert [(image["uri"], image["status"]) for image in told.images] == [
        ("http://h/1.jpg", "ok"),
        ("captions.tsv:2", "failed"),
        ("http://h/2.jpg", "ok"),
        ("captions.tsv:4", "failed"),
    ]
    assert [cause for _, cause, _ in told.failures] == ["bad_labels"] * 2
    assert len(told.rows) == 1
    assert rewritten(tmp_path, path, lambda _: False).decode().splitlines() == [
        "no address",
        "\thttp://h/2.jpg",
        "x\t",
    ]


def test_line_ends_and_a_byte_order_mark_survive(tmp_path):
    path = file_of(tmp_path, "a\thttp://h/1", "b\thttp://h/2", newline="\r\n", bom=b"\xef\xbb\xbf")
    assert [row["text"] for row in read(KIND, path).rows] == ["a", "b"]
    assert rewritten(tmp_path, path) == path.read_bytes()


def test_bytes_that_are_no_text_are_named_with_their_line(tmp_path):
    path = tmp_path / "captions.tsv"
    path.write_bytes(b"a\thttp://h/1\ncaf\xe9\thttp://h/2\n")
    with pytest.raises(LabelsError, match=r"captions\.tsv line 2: byte 0xe9 at 4"):
        read(KIND, path)


def test_large_texts_are_read_and_endless_lines_refused(tmp_path):
    text = "\U0001f600 \x01" * 200_000
    path = file_of(tmp_path, f"{text}\thttp://h/1")
    assert read(KIND, path).rows[0]["text"] == text
    with pytest.raises(LabelsError, match="line 1: longer than"):
        read(KIND, path, limits=small_limits(10_000))


def test_other_tables_are_not_taken_for_captions(tmp_path):
    path = file_of(tmp_path, "a\tb", "c\td")
    assert not KIND.recognises(place_of(path), path.read_bytes())
    with pytest.raises(LabelsError, match="line 1: no caption and web address"):
        read(KIND, path)


def test_rows_from_elsewhere_become_lines_and_what_has_no_place_is_told(tmp_path):
    told = foreign(
        [{"uri": "a\tb.jpg"}, {"uri": "c.jpg"}],
        [
            {
                "uri": "a\tb.jpg",
                "kind": "text",
                "role": "brief",
                "text": "one\ttab\nbreak",
                "text_score": 0.5,
            },
            {"uri": "a\tb.jpg", "kind": "text", "role": "alt", "text": "two"},
            {
                "uri": "a\tb.jpg",
                "kind": "region",
                "role": "category",
                "text": "dog",
                "box": [0, 0, 1, 1],
            },
        ],
    )
    notes = write(KIND, tmp_path / "out.tsv", told)
    assert (tmp_path / "out.tsv").read_text() == "one tab break\ta b.jpg\ntwo\ta b.jpg\n"
    assert sorted(note.partition(":")[0] for note in notes) == [
        "1 images without a text",
        "1 rows of kind region",
        "1 scores of texts",
        "1 texts whose tabs or line breaks became spaces",
    ]


@pytest.mark.parametrize(
    ("lines", "made"),
    [
        (["http://h/1.jpg\told"], "http://h/1.jpg\tnew"),
        (["id\turl\tcaption\tmore", "7\thttp://h/1.jpg\told\tx"], "\thttp://h/1.jpg\tnew\t"),
    ],
)
def test_a_row_that_is_new_gets_a_line_of_the_same_columns(tmp_path, lines, made):
    told = read(KIND, file_of(tmp_path, *lines))
    new = claims(image_key=["0"], kind="text", role="brief", text=["new"], source_id=["9"])
    rows = pa.concat_tables([told.parts[0].rows, new]).unify_dictionaries()
    write(KIND, tmp_path / "out.tsv", told._replace(parts=[told.parts[0]._replace(rows=rows)]))
    assert (tmp_path / "out.tsv").read_text().splitlines() == [*lines, made]


@settings(max_examples=25, deadline=None)
@given(
    lines=st.lists(
        st.text(st.characters(codec="utf-8", exclude_characters="\r\n"), min_size=1), max_size=8
    ),
    part_size=st.integers(1, 3),
)
def test_any_lines_at_all_come_back(tmp_path_factory, lines, part_size):
    folder = tmp_path_factory.mktemp("any")
    path = file_of(folder, "first\thttp://h/1", *lines)
    write(KIND, folder / "out.tsv", read(KIND, path, part_size=part_size))
    assert (folder / "out.tsv").read_bytes() == path.read_bytes()


def test_the_published_validation_file_comes_back_byte_for_byte(data, tmp_path):
    path = data / "cc3m-val-tsv" / "Validation_GCC-1.1.0-Validation.tsv"
    told = read(KIND, path)
    lines = path.read_text(encoding="utf-8").split("\n")
    assert len(told.rows) == len([line for line in lines if line])
    assert [row["text"] for row in told.rows[:2]] == [line.split("\t")[0] for line in lines[:2]]
    write(KIND, tmp_path / "out.tsv", told)
    assert (tmp_path / "out.tsv").read_bytes().rstrip() == path.read_bytes().rstrip()
