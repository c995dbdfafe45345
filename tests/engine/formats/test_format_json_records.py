import json
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import LabelsError
from engine.formats.json_file import JsonFile
from engine.formats.json_records import Value, Window, read_records
from engine.formats.shapes import Place
from engine.source.local import LocalFolder
from engine.source.shapes import Opened
from tests.engine.formats.json_label_files import place_of, saved

LEAVES = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text()
VALUES = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
RECORDS = st.lists(st.dictionaries(st.text(), VALUES, max_size=3), max_size=6)


def pieces(path, arrays=("images", "annotations"), window=16 << 20):
    """Records by key, and the other values by theirs, of the whole file."""
    file = JsonFile(place_of(path))
    records, values = {}, {}
    try:
        for piece in read_records(file, arrays, window=window):
            if isinstance(piece, Value):
                values[piece.key] = piece.text
                continue
            found = records.setdefault(piece.key, [])
            found += [piece.data[s:e] for s, e in zip(piece.starts, piece.ends, strict=True)]
            told = file.pieces(piece.starts + piece.offset, piece.ends - piece.starts)
            assert [text.encode() for text in told.to_pylist()] == found[len(found) - len(told) :]
    finally:
        file.close()
    return records, values


def refused(path, content, match, **options):
    saved(path, content)
    with pytest.raises(LabelsError, match=match):
        pieces(path, **options)


def test_an_empty_array_is_a_window_without_records(tmp_path):
    saved(tmp_path / "a.json", b" [ \n] ")
    assert pieces(tmp_path / "a.json") == ({"": []}, {})
    saved(tmp_path / "b.json", b'{"images": [], "info": {}}')
    assert pieces(tmp_path / "b.json") == ({"images": []}, {"info": "{}"})
    saved(tmp_path / "c.json", b"{}")
    assert pieces(tmp_path / "c.json") == ({}, {})


@settings(max_examples=75, deadline=None)
@given(
    records=RECORDS,
    window=st.integers(1, 60),
    indent=st.sampled_from([None, 0, 2]),
    is_ascii=st.booleans(),
)
def test_records_come_back_verbatim_however_the_windows_fall(
    tmp_path_factory, records, window, indent, is_ascii
):
    path = tmp_path_factory.mktemp("json") / "a.json"
    text = json.dumps(records, indent=indent, ensure_ascii=is_ascii)
    path.write_bytes(text.encode("utf-8", "surrogatepass"))
    found, _ = pieces(path, window=window)
    assert [json.loads(record) for record in found[""]] == records
    assert all(record in text.encode() for record in found[""])


@settings(max_examples=75, deadline=None)
@given(
    sections=st.dictionaries(st.text(max_size=3), VALUES, max_size=4),
    records=RECORDS,
    window=st.integers(1, 60),
)
def test_other_values_come_back_verbatim(tmp_path_factory, sections, records, window):
    path = tmp_path_factory.mktemp("json") / "a.json"
    path.write_text(json.dumps({**sections, "images": records}), encoding="utf-8")
    found, values = pieces(path, window=window)
    assert [json.loads(record) for record in found["images"]] == records
    told = {key: json.loads(text) for key, text in values.items()}
    assert told == {key: value for key, value in sections.items() if key != "images"}


def test_brackets_and_quotes_inside_texts_are_no_brackets(tmp_path):
    records = [{"a": '}]"\\'}, {"b": "\\\\", "c": "[{"}, {"d": '|\\"'}]
    saved(tmp_path / "a.json", records)
    found, _ = pieces(tmp_path / "a.json", window=7)
    assert [json.loads(record) for record in found[""]] == records


def test_a_byte_order_mark_and_line_ends_of_windows_are_fine(tmp_path):
    saved(tmp_path / "a.json", b'\xef\xbb\xbf[\r\n{"a": 1},\r\n{"a": 2}\r\n]\r\n')
    assert pieces(tmp_path / "a.json")[0] == {"": [b'{"a": 1}', b'{"a": 2}']}


@pytest.mark.parametrize(
    ("content", "match"),
    [
        pytest.param(b"", "line 1, byte 1: starts with nothing", id="empty"),
        pytest.param(b"<html>", "starts with '<'; wanted a JSON array or object", id="no-json"),
        pytest.param(b'[{"a": 1},\n{"a": 2}', "line 2, byte 20: a record that", id="cut-between"),
        pytest.param(b'[{"a": 1},\n{"a": [2', "line 2, byte 12: a record that", id="cut-inside"),
        pytest.param(b'[{"a": "x', "a record that does not end", id="cut-in-text"),
        pytest.param(b'{"images": [{}], "a', "a text that does not end", id="cut-in-key"),
        pytest.param(b'[{"a": 1} {"a": 2}]', "byte 10: wanted one ','", id="no-comma"),
        pytest.param(b'[{"a": 1},,{"a": 2}]', "wanted one ','", id="two-commas"),
        pytest.param(b'[,{"a": 1}]', "wanted one ','", id="comma-first"),
        pytest.param(b'[{"a": 1},]', "byte 10: an element that is no object", id="comma-last"),
        pytest.param(b"[1, 2]", "byte 2: an element that is no object", id="numbers"),
        pytest.param(b'[{"a": 1}, 2]', "an element that is no object", id="number-last"),
        pytest.param(b'[{"a": 1}, 2, {"a": 1}]', "an element that is no object", id="number"),
        pytest.param(b"[{}] x", "byte 6: goes on after the end", id="more"),
        pytest.param(b'{"a": 1, "a": 2}', "the key 'a' stands twice", id="key-twice"),
        pytest.param(b'{"a" 1}', "wanted ':' after the key", id="no-colon"),
        pytest.param(b'{"a": 1 "b": 2}', "wanted ',' or '}' after the value of 'a'", id="no-mark"),
        pytest.param(b"{a: 1}", "wanted a key in double quotes", id="bare-key"),
        pytest.param(b'{"a": }', "wanted a value", id="no-value"),
        pytest.param(b'[{"a": "\xe9"}]', "byte 9: is not UTF-8; save", id="latin-1"),
        pytest.param('[{"a": 1}]'.encode("utf-16"), "is UTF-16; give plain JSON", id="utf-16"),
        pytest.param(b"\x1f\x8b\x08", "is gzip; give plain JSON", id="gzip"),
        pytest.param(b'[{"a": ' + b"[" * 100_000, "from here on; allowed 64", id="bomb"),
        pytest.param(b'{"a": ' + b"[" * 100_000, "from here on; allowed 64", id="bomb-in-value"),
    ],
)
@pytest.mark.parametrize("window", [16 << 20, 5])
def test_a_broken_document_is_one_error_with_line_and_byte(tmp_path, content, match, window):
    if window == 5:  # seen by the part, what is wrong may have another name
        match = r"a\.json: line \d, byte \d+: " if "byte" not in match else match
    refused(tmp_path / "a.json", content, match, window=window)


def test_a_missing_file_is_one_error(tmp_path):
    with pytest.raises(LabelsError, match=r"a\.json: cannot be read: there is no such file"):
        pieces(tmp_path / "a.json")


def test_pieces_come_in_the_order_asked_for(tmp_path):
    saved(tmp_path / "a.json", b"0123456789" * 1000)
    file = JsonFile(place_of(tmp_path / "a.json"))
    found = file.pieces(np.array([9000, 3, 5, 8]), np.array([3, 2, 3, 0]))
    assert found.to_pylist() == ["012", "34", "567", ""]
    assert file.pieces(np.array([], np.int64), np.array([], np.int64)).to_pylist() == []
    file.close()


def test_a_file_that_shrank_is_one_error(tmp_path):
    saved(tmp_path / "a.json", b"0123456789")
    file = JsonFile(place_of(tmp_path / "a.json"))
    (tmp_path / "a.json").write_bytes(b"01")
    with pytest.raises(LabelsError, match="became shorter while it was read"):
        file.pieces(np.array([1]), np.array([5]))
    file.close()


def test_a_window_says_where_its_records_lie(tmp_path):
    saved(tmp_path / "a.json", b'{"x": 1, "images": [ {"a": 1},{"b": 2} ]}')
    file = JsonFile(place_of(tmp_path / "a.json"))
    (window,) = [p for p in read_records(file, ["images"]) if isinstance(p, Window)]
    file.close()
    assert (window.offset, window.starts.tolist(), window.ends.tolist()) == (21, [0, 9], [8, 17])


class Bucket(LocalFolder):
    """A location that hands out streams, as an object store does."""

    def open(self, path):
        data = (Path(self.root) / path).read_bytes()
        return Opened(pa.BufferReader(data), len(data), None)


def test_what_is_streamed_from_a_bucket_can_be_read_again_by_piece(tmp_path):
    saved(tmp_path / "a.json", [{"a": n} for n in range(100)])
    file = JsonFile(Place(Bucket("s3://b", str(tmp_path)), "a.json"))
    windows = list(read_records(file, (), window=64))
    starts = np.concatenate([window.starts + window.offset for window in windows])
    lengths = np.concatenate([window.ends - window.starts for window in windows])
    found = file.pieces(starts[::-1], lengths[::-1]).to_pylist()
    assert [json.loads(each)["a"] for each in found] == list(range(99, -1, -1))
    file.close()
