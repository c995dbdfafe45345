"""Which image a uri of a table means, and where each record of a text table lies."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.source.csv_records import records
from engine.source.shapes import ReadError
from engine.source.table_uris import Root


@pytest.mark.parametrize(
    ("uri", "path"),
    [
        ("a.png", "a.png"),
        (" ./sub//c.gif ", "sub/c.gif"),
        ("/data/photos/a.png", "a.png"),
        ("file:///data/photos/caf%20e.png", "caf e.png"),
        ("file://localhost/data/photos/a.png", "a.png"),
        ("a%20b.png", "a%20b.png"),
        ("caf\udce9.png", "caf\\xe9.png"),
        ("a..b.png", "a..b.png"),
    ],
)
def test_a_uri_below_the_root_is_a_path(uri, path):
    assert Root("file", "/data/photos").path_of(uri) == path


@pytest.mark.parametrize(
    ("uri", "cause", "message"),
    [
        ("", "missing", "names no file"),
        (".", "missing", "names no file"),
        ("https://ann:secret@h/a.png?key=secret", "unsafe_path", "is a web address.*download"),
        ("HTTP://h/a.png", "unsafe_path", "is a web address"),
        ("../a.png", "unsafe_path", "leads upwards"),
        ("sub/../a.png", "unsafe_path", "leads upwards"),
        ("sub\\..\\..\\a.png", "unsafe_path", "leads upwards"),
        ("/data/photos/../secret", "unsafe_path", "leads upwards"),
        ("file:///data/photos/%2e%2e/secret", "unsafe_path", "leads upwards"),
        ("/etc/passwd", "unsafe_path", "leads out of source.images"),
        ("/data/photos-of-ann/a.png", "unsafe_path", "leads out of source.images"),
        ("//h/a.png", "unsafe_path", "leads out of source.images"),
        ("file://h/data/photos/a.png", "unsafe_path", "leads out of source.images"),
        ("s3://bucket/a.png", "unsafe_path", "leads out of source.images"),
        ("s3://key:secret@bucket/a.png", "unsafe_path", "leads out of source.images"),
        ("a\0.png", "unsafe_path", "a control character"),
        ("a\n.png", "unsafe_path", "a control character"),
        ("x" * 5000, "unsafe_path", "longer than 4096"),
    ],
)
def test_a_uri_that_leads_elsewhere_is_refused(uri, cause, message):
    with pytest.raises(ReadError, match=message) as caught:
        Root("file", "/data/photos").path_of(uri)
    assert caught.value.cause == cause
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize(
    ("uri", "path"),
    [("s3://b/p/a.png", "a.png"), ("s3a://b/p/x/a.png", "x/a.png"), ("a.png", "a.png")],
)
def test_a_uri_of_the_bucket_is_a_path(uri, path):
    assert Root("s3", "b/p").path_of(uri) == path


@pytest.mark.parametrize("uri", ["s3://b/other/a.png", "gs://b/p/a.png", "/b/p/a.png", "s3://b2/p"])
def test_a_uri_of_another_place_is_refused(uri):
    with pytest.raises(ReadError, match=r"leads out of source.images"):
        Root("s3", "b/p").path_of(uri)


@given(st.text())
def test_no_path_leads_out_or_is_spelled_twice(uri):
    root = Root("file", "/data/photos")
    try:
        path = root.path_of(uri)
    except ReadError:
        return
    parts = path.split("/")
    assert not {"", ".", ".."} & set(parts)
    assert "//" not in path


CELL = st.text(st.characters(blacklist_categories=["Cs"]), max_size=9)


@given(
    st.lists(st.tuples(CELL, CELL, CELL), max_size=9),
    st.sampled_from([",", "\t", ";"]),
    st.sampled_from(["\n", "\r\n"]),
)
def test_each_record_can_be_read_from_its_place_alone(rows, delimiter, line_break):
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, lineterminator=line_break, quoting=csv.QUOTE_ALL)
    writer.writerows(rows)
    data = out.getvalue().encode()
    found = list(records(io.BytesIO(data), delimiter))
    assert [len(record.cells) for record in found] == [3] * len(rows)
    for record in found:
        alone = data[record.offset : record.offset + record.size]
        assert next(records(io.BytesIO(alone), delimiter)).cells == record.cells
    assert [tuple(record.cells) for record in found] == rows


@given(st.binary(max_size=200), st.sampled_from([",", "\t"]))
def test_records_cover_any_bytes_without_raising(data, delimiter):
    found = list(records(io.BytesIO(data), delimiter))
    end = 0
    for record in found:
        assert record.offset >= end
        end = record.offset + record.size
        alone = next(records(io.BytesIO(data[record.offset : end]), delimiter))
        assert alone.cells == record.cells
    assert end <= len(data)
