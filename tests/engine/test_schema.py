"""The tables' builders, their canonical form, boxes as numbers, and ids.

What a specialist may answer is checked in test_merge.
"""

import string

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import TableError
from engine.schema import (
    ANNOTATIONS,
    BOX,
    CLAIM,
    IMAGES,
    annotation_ids,
    box_array,
    canonical,
    claims,
    empty_claims,
    encode_words,
    image_rows,
)

WORDS = st.one_of(st.none(), st.text(string.ascii_letters + "\u00e9\u4e2d", max_size=4))
BOXES = st.one_of(st.none(), st.lists(st.floats(0, 4096, width=32), min_size=4, max_size=4))
ROWS = st.lists(st.tuples(WORDS, WORDS, BOXES), max_size=12)


def parquet(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", version="2.6")
    return bytes(buffer.getvalue())


def shuffled_dictionary(words: list[str | None], seed: int) -> pa.Array:
    """The same words behind a dictionary in another order, with an entry nobody uses."""
    distinct = [*dict.fromkeys(w for w in words if w is not None), "nobody says this"]
    np.random.default_rng(seed).shuffle(distinct)
    places = [None if w is None else distinct.index(w) for w in words]
    return pa.DictionaryArray.from_arrays(pa.array(places, pa.int32()), pa.array(distinct))


def test_claims_without_columns_has_no_rows_and_every_column():
    assert claims().schema == CLAIM
    assert claims().num_rows == 0
    assert empty_claims().equals(claims())


def test_claims_fills_what_is_not_given():
    row = claims(image_key=["a"]).to_pylist()[0]
    given_value = {"image_key": "a", "human": False, "ignore": False, "round": 0}
    assert row == {**dict.fromkeys(CLAIM.names), **given_value}


@pytest.mark.parametrize(
    "text",
    [
        pytest.param(["dog", None, "dog"], id="list"),
        pytest.param(np.array(["dog", None, "dog"], object), id="numpy"),
        pytest.param(pa.array(["dog", None, "dog"]), id="arrow"),
        pytest.param(pa.chunked_array([["dog"], [None, "dog"]]), id="chunked"),
        pytest.param(pa.array(["dog", None, "dog"]).dictionary_encode(), id="dictionary"),
    ],
)
def test_claims_takes_columns_of_every_form(text):
    table = claims(text=text, prompt=text, kind="region")
    assert table["text"].to_pylist() == table["prompt"].to_pylist() == ["dog", None, "dog"]
    assert table["kind"].to_pylist() == ["region"] * 3
    assert table.schema == CLAIM


def test_claims_takes_boxes_as_an_array():
    boxes = np.arange(8, dtype=np.float64).reshape(2, 4)
    assert claims(box=boxes)["box"].to_pylist() == boxes.tolist()
    assert claims(box=np.empty((0, 4)))["box"].to_pylist() == []


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        pytest.param(
            {"bbox": []}, "column 'bbox' is not in the table; known: image_key", id="name"
        ),
        pytest.param({"text": ["a"], "score": []}, "columns of different length", id="length"),
        pytest.param({"score": ["high"]}, "column 'score': .*wanted float", id="type"),
        pytest.param({"kind": [3]}, "column 'kind': .*wanted dictionary", id="word"),
        pytest.param({"box": [[0, 0, 1]]}, "column 'box'", id="short-box"),
        pytest.param({"box": np.zeros((4, 3))}, r"column 'box': .*\(4, 3\)", id="box-array"),
        pytest.param({"round": [70_000]}, "column 'round'", id="range"),
        pytest.param({"text": [], "human": "yes"}, "column 'human'", id="one-value"),
    ],
)
def test_claims_refuses_what_does_not_fit(columns, message):
    with pytest.raises(TableError, match=message):
        claims(**columns)


def test_image_rows_speaks_the_images_schema():
    table = image_rows(image_key=["a", "b"], status="ok", width=[4, None])
    assert table.schema == IMAGES
    assert table["status"].to_pylist() == ["ok", "ok"]
    with pytest.raises(TableError, match="column 'text' is not in the table"):
        image_rows(text=["a"])


def test_encode_words_of_nothing_is_nothing():
    assert encode_words(pa.chunked_array([], pa.string())).to_pylist() == []


@given(ROWS, st.integers(0, 99), st.integers(1, 5))
def test_canonical_tables_of_equal_content_are_equal_bytes(rows, seed, chunk):
    """Whatever order a dictionary has, and wherever chunks and slices were cut."""
    keys, words, boxes = zip(*rows, strict=True) if rows else ((), (), ())
    plain = claims(image_key=list(keys), source=list(words), box=list(boxes))
    index = CLAIM.get_field_index("source")
    other = plain.set_column(index, CLAIM.field("source"), shuffled_dictionary(list(words), seed))
    parts = [other.slice(i, chunk) for i in range(0, len(rows), chunk)] or [other]
    expected = canonical(plain, CLAIM)
    found = canonical(pa.concat_tables(parts), CLAIM)
    assert found.equals(expected)
    assert found.num_rows == 0 or all(c.num_chunks == 1 for c in found.columns)
    assert parquet(found) == parquet(expected)


def test_canonical_sorts_columns_and_converts_types():
    table = claims(image_key=["a"], score=[0.5])
    mixed = table.select(CLAIM.names[::-1])
    mixed = mixed.set_column(mixed.column_names.index("score"), "score", pa.array([0.5]))
    assert canonical(mixed, CLAIM).equals(table)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param(lambda t: t.drop_columns("text"), r"missing \['text'\]", id="missing"),
        pytest.param(lambda t: t.append_column("x", [[1]]), r"unknown \['x'\]", id="unknown"),
        pytest.param(
            lambda t: t.set_column(11, "score", pa.array([["high"]])),
            "column 'score' is list.* wanted float",
            id="type",
        ),
    ],
)
def test_canonical_refuses_other_columns(change, message):
    assert CLAIM.names[11] == "score"
    with pytest.raises(TableError, match=message):
        canonical(change(claims(image_key=["a"])), CLAIM)


@pytest.mark.parametrize("start", [0, 1, 2])
def test_box_array_gives_nan_for_no_box_in_slices_and_chunks(start):
    table = claims(box=[[0, 1, 2, 3], None, [4, 5, 6, 7], None])
    expected = np.array([[0, 1, 2, 3], [np.nan] * 4, [4, 5, 6, 7], [np.nan] * 4], np.float32)
    np.testing.assert_array_equal(box_array(table.slice(start)), expected[start:])
    twice = pa.concat_tables([table.slice(start), table])
    np.testing.assert_array_equal(box_array(twice), np.vstack([expected[start:], expected]))


@pytest.mark.parametrize("chunks", [0, 1, 2])
def test_box_array_of_no_rows_has_four_columns(chunks):
    table = pa.table({"box": pa.chunked_array([pa.array([], BOX)] * chunks, BOX)})
    assert box_array(table).shape == (0, 4)
    assert box_array(claims(box=[None]).slice(1)).shape == (0, 4)


def test_annotation_ids_of_nothing_are_none():
    assert annotation_ids([], [], [], [], [], []) == []


def test_annotation_ids_never_change():
    """Ids are lineage between rounds and releases: another spelling would cut it."""
    ids = annotation_ids(["a-1"], ["yolo"], ["r1"], [None], [0], [7])
    assert ids == ["7fde1a8011c060b8d539"]


IDENTITIES = st.tuples(
    st.text(string.ascii_letters + "-_:0", max_size=4),
    st.sampled_from(["yolo", "yolo_b", "-", "4:yolo"]),
    st.sampled_from([None, "-", "", "r1"]),
    st.sampled_from([None, "-", "<OD>"]),
    st.integers(0, 3),
    st.one_of(st.integers(0, 12), st.text("019ab", max_size=3)),
)


def spelled(row):
    return tuple(None if field is None else str(field) for field in row)


@given(st.lists(IDENTITIES, max_size=30, unique_by=spelled))
def test_annotation_ids_differ_where_any_field_differs(rows):
    ids = annotation_ids(*zip(*rows, strict=True)) if rows else []
    assert len(set(ids)) == len(rows)
    assert all(len(i) == 20 and set(i) <= set("0123456789abcdef") for i in ids)


def test_the_schemas_share_no_name_by_accident():
    assert len(set(ANNOTATIONS.names)) == len(ANNOTATIONS.names)
    assert len(set(IMAGES.names)) == len(IMAGES.names)


@given(
    st.lists(st.one_of(st.none(), st.sampled_from("abcd")), max_size=12), st.permutations("abcd")
)
def test_a_column_of_words_is_the_same_bytes_however_it_was_encoded_before(values, order):
    codes = [None if value is None else order.index(value) for value in values]
    other = pa.DictionaryArray.from_arrays(pa.array(codes, pa.int32()), pa.array(list(order)))
    plain = pa.array(values, pa.string()).dictionary_encode()
    for column in (other, plain, pa.array(values, pa.string())):
        found = encode_words(column)
        assert found.indices.equals(plain.indices)
        assert found.dictionary.equals(plain.dictionary)
