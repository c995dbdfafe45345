"""Web images with alt texts as Parquet: LAION, COYO and what img2dataset leaves."""

import datetime
import decimal

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import foreign, place_of, read, write

from engine.errors import LabelsError
from engine.formats.laion import Laion

KIND = Laion()
NESTED = pa.list_(pa.struct([("name", pa.string()), ("box", pa.list_(pa.float64()))]))


def file_of(folder, table, **options):
    path = folder / "part-0.parquet"
    pq.write_table(table, path, **options)
    return path


def laion(count=3, **columns):
    return pa.table(
        {
            "SAMPLE_ID": pa.array(range(10**12, 10**12 + count), pa.int64()),
            "URL": [f"http://h/{n}.jpg" for n in range(count)],
            "TEXT": [f"text {n}" for n in range(count)],
            "HEIGHT": pa.array([480] * count, pa.int32()),
            "WIDTH": pa.array([640.0] * count, pa.float64()),
            "LICENSE": ["?"] * count,
            "similarity": pa.array([0.25] * count, pa.float32()),
            **columns,
        }
    )


def rewritten(folder, path, keep=lambda _: True):
    write(KIND, folder / "out.parquet", read(KIND, path, part_size=2), keep)
    return pq.read_table(folder / "out.parquet")


def test_a_file_without_rows_keeps_its_schema(tmp_path):
    table = laion(0)
    told = read(KIND, file_of(tmp_path, table))
    assert told.images == []
    assert rewritten(tmp_path, tmp_path / "part-0.parquet") == table


def test_texts_are_read_with_what_is_known_of_their_image(tmp_path):
    told = read(KIND, file_of(tmp_path, laion()))
    assert [(row["uri"], row["text"], row["role"]) for row in told.rows] == [
        (f"http://h/{n}.jpg", f"text {n}", "alt") for n in range(3)
    ]
    assert {row["text_score"] for row in told.rows} == {0.25}
    image = told.images[1]
    assert (image["width"], image["height"], image["licence"]) == (640, 480, "?")
    assert image["source_id"] == str(10**12 + 1)


def test_rejected_rows_go_and_every_other_value_and_type_stays(tmp_path):
    utc = datetime.datetime(2024, 2, 29, 12, tzinfo=datetime.UTC)
    table = laion(
        3,
        hash=pa.array([-(2**63), 2**63 - 1, None], pa.int64()),
        unsigned=pa.array([2**64 - 1, 0, 1], pa.uint64()),
        score=pa.array([float("nan"), float("inf"), 0.1], pa.float32()),
        blob=pa.array([b"\xff\x00", None, b""], pa.binary()),
        when=pa.array([utc, None, utc], pa.timestamp("ns", "UTC")),
        price=pa.array([decimal.Decimal("1.10"), None, decimal.Decimal("-0.01")]),
        tags=pa.array([["a", None], [], None], pa.list_(pa.string())),
        nested=pa.array([[{"name": "x", "box": [0.1]}], None, []], NESTED),
        word=pa.array(["x", "y", "x"]).dictionary_encode(),
        pairs=pa.array([[("k", 1)], [], None], pa.map_(pa.string(), pa.int32())),
        nothing=pa.nulls(3),
        half=pa.array([1.5, None, 2.5], pa.float16()),
    ).replace_schema_metadata({"origin": "somewhere", "bytes": b"\xff"})
    path = file_of(tmp_path, table, compression="zstd")
    table = pq.read_table(path)
    out = rewritten(tmp_path, path, lambda row: row["text"] != "text 1")
    assert out.schema.equals(table.schema, check_metadata=True)
    expected = table.take([0, 2])
    for name in table.column_names:
        # NaN equals nothing, itself included, so the values are compared as they are spelt
        assert repr(out[name].to_pylist()) == repr(expected[name].to_pylist()), name
    codec = pq.ParquetFile(tmp_path / "out.parquet").metadata.row_group(0).column(0).compression
    assert codec == "ZSTD"


def test_rows_without_text_or_address_stay(tmp_path):
    table = laion(
        4,
        URL=["http://h/1", None, "http://h/1", "http://h/2"],
        TEXT=["one", "two", " ", None],
    )
    told = read(KIND, file_of(tmp_path, table), part_size=1)
    assert [image["uri"] for image in told.images] == [
        "http://h/1",
        "row 1",
        "http://h/1#2",
        "http://h/2",
    ]
    assert [failure[:2] for failure in told.failures] == [
        ("row 1", "bad_labels"),
        ("http://h/1#2", "duplicate_id"),
    ]
    assert [row["text"] for row in told.rows] == ["one", "two"]
    assert rewritten(tmp_path, tmp_path / "part-0.parquet") == table
    kept = rewritten(tmp_path, tmp_path / "part-0.parquet", lambda _: False)
    assert kept == table.slice(2)


@pytest.mark.parametrize(
    "columns",
    [
        {"url": ["http://h/1"], "caption": ["a dog"], "key": ["000000000"]},
        {"id": [5], "url": ["http://h/1"], "text": ["a dog"], "clip_similarity_vitb32": [0.3]},
    ],
    ids=["img2dataset", "COYO"],
)
def test_other_spellings_of_the_columns_are_known(tmp_path, columns):
    path = file_of(tmp_path, pa.table(columns))
    assert KIND.recognises(place_of(path), path.read_bytes()[:65536])
    (row,) = read(KIND, path).rows
    assert (row["uri"], row["text"]) == ("http://h/1", "a dog")
    assert rewritten(tmp_path, path) == pa.table(columns)


@pytest.mark.parametrize(
    "columns",
    [
        {"url": ["http://h/1"], "text": ["x"], "image": [b""]},
        {"url": ["http://h/1"], "width": [1]},
        {"url": [1], "text": ["x"]},
    ],
    ids=["pictures", "no text", "numbers"],
)
def test_other_parquet_is_not_taken_for_texts(tmp_path, columns):
    path = file_of(tmp_path, pa.table(columns))
    assert not KIND.recognises(place_of(path), path.read_bytes())
    with pytest.raises(LabelsError, match=r"part-0\.parquet: no columns of addresses"):
        read(KIND, path)


def test_a_broken_file_is_one_clear_error(tmp_path):
    path = file_of(tmp_path, laion())
    path.write_bytes(path.read_bytes()[:-20])
    assert not KIND.recognises(place_of(path), path.read_bytes())
    with pytest.raises(LabelsError, match=r"part-0\.parquet: cannot be read as Parquet"):
        read(KIND, path)


def test_texts_that_are_not_utf8_are_one_clear_error(tmp_path):
    broken = pa.array([b"caf\xe9"], pa.binary()).view(pa.string())
    path = file_of(tmp_path, pa.table({"URL": ["http://h/1"], "TEXT": broken}))
    with pytest.raises(LabelsError, match=r"part-0\.parquet: cannot be read as Parquet"):
        read(KIND, path)


def test_pandas_reads_what_is_left_of_its_own_file(tmp_path):
    frame = pd.DataFrame({"URL": ["http://h/1", "http://h/2"], "TEXT": ["a", "b"]}, index=[7, 9])
    frame.to_parquet(tmp_path / "part-0.parquet")
    rewritten(tmp_path, tmp_path / "part-0.parquet", lambda row: row["text"] == "b")
    left = pd.read_parquet(tmp_path / "out.parquet")
    assert left.to_dict() == {"URL": {9: "http://h/2"}, "TEXT": {9: "b"}}


def test_rows_from_elsewhere_become_columns_and_come_back(tmp_path):
    told = foreign(
        [{"uri": "a.jpg", "width": 4, "height": 3, "licence": "CC0"}, {"uri": "b.jpg"}],
        [
            {"uri": "a.jpg", "kind": "text", "role": "brief", "text": "one", "text_score": 0.5},
            {"uri": "a.jpg", "kind": "text", "role": "alt", "text": "two"},
            {"uri": "a.jpg", "kind": "region", "role": "ocr", "text": "x", "box": [0, 0, 1, 1]},
        ],
    )
    notes = write(KIND, tmp_path / "out.parquet", told)
    assert [note.partition(":")[0] for note in notes] == [
        "1 rows of kind region",
        "1 images without a text",
    ]
    back = read(KIND, tmp_path / "out.parquet")
    assert [(row["text"], row["text_score"]) for row in back.rows] == [("one", 0.5), ("two", None)]
    assert [image["width"] for image in back.images] == [4, 4]


VALUES = {
    pa.int64(): st.integers(-(2**63), 2**63 - 1),
    pa.float64(): st.floats(),
    pa.float32(): st.floats(width=32),
    pa.string(): st.text(st.characters(codec="utf-8")),
    pa.binary(): st.binary(),
    pa.bool_(): st.booleans(),
    pa.list_(pa.float64()): st.lists(st.none() | st.floats(), max_size=3),
}


@settings(max_examples=25, deadline=None)
@given(draw=st.data(), kinds=st.lists(st.sampled_from(list(VALUES)), max_size=4))
def test_any_further_columns_come_back_to_the_last_bit(tmp_path_factory, draw, kinds):
    folder = tmp_path_factory.mktemp("any")
    columns = {
        f"more {n}": pa.array(
            draw.draw(st.lists(st.none() | VALUES[kind], min_size=3, max_size=3)), kind
        )
        for n, kind in enumerate(kinds)
    }
    table = laion(3, **columns)
    out = rewritten(folder, file_of(folder, table))
    assert out.schema == table.schema
    assert [repr(column.to_pylist()) for column in out] == [
        repr(column.to_pylist()) for column in table
    ]


@pytest.mark.parametrize(
    ("name", "count"), [("test_1000.parquet", 1000), ("test_bbox.parquet", None)]
)
def test_published_rows_come_back(data, tmp_path, name, count):
    path = data / "url-text-parquet" / name
    told = read(KIND, path)
    table = pq.read_table(path)
    assert len(told.images) == table.num_rows == (count or table.num_rows)
    assert told.rows
    out = rewritten(tmp_path, path)
    assert out.schema.equals(table.schema, check_metadata=True)
    assert out == table
