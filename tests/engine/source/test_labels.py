"""Fields of a sample become rows; what cannot be taken is named."""

import json
import re

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.given import given_rows
from engine.nested import nested_views, to_json
from engine.source.labels import Labels
from engine.source.shard import Given
from tests.builders import rows
from tests.shards import images

LABELS = Labels(name="dataset")


def said(fields, labels=LABELS):
    told = labels.read(fields)
    assert told.failures == []
    return [(row["role"], row["text"], row["prompt"]) for row in told.rows]


def test_no_fields_say_nothing():
    told = LABELS.read({})
    assert (told.rows, told.failures, told.licence) == ([], [], None)


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"txt": b"a dog\n"}, [("alt", "a dog", "txt")]),
        ({"txt": b"\xef\xbb\xbfa dog\r\n"}, [("alt", "a dog", "txt")]),
        ({"txt": b" \n"}, []),
        ({"txt": b"two\n\nlines\n"}, [("alt", "two\n\nlines", "txt")]),
        ({"json": b'{"caption": "a dog", "width": 5}'}, [("alt", "a dog", "json.caption")]),
        ({"json": b'{"captions": ["a", "b"]}'}, [("alt", x, "json.captions") for x in "ab"]),
        ({"json": b'{"caption": null}'}, []),
        ({"json": b"[1, 2]"}, []),
        ({"cls": b"3"}, [("alt", "3", "cls")]),
        ({"cls": b"tabby cat"}, [("alt", "tabby cat", "cls")]),
        ({"caption": "from a column", "width": 5}, [("alt", "from a column", "caption")]),
        # img2dataset writes the caption twice; it was said once
        ({"txt": b"a dog", "json": b'{"caption": "a dog"}'}, [("alt", "a dog", "txt")]),
    ],
)
def test_usual_fields_are_taken(fields, expected):
    assert said(fields) == expected


def test_roles_and_classes_are_those_asked_for():
    labels = Labels(name="x", texts={"story": "detailed"}, classes=["cat", "dog"])
    fields = {"json": b'{"story": "long", "caption": "not asked for"}', "cls": b"1"}
    assert said(fields, labels) == [("detailed", "long", "json.story"), ("alt", "dog", "cls")]
    assert labels.produces == {"x": ("text/detailed", "text/alt", "region", "grounding")}


@pytest.mark.parametrize(
    ("fields", "cause", "message"),
    [
        ({"json": b"{"}, "not_json", "json: Expecting"),
        ({"json": b"[" * 200_000}, "not_json", "json: "),
        ({"json": b"1" * 10_000}, "not_json", "json: "),
        ({"txt": b"\xff"}, "not_json", "txt: .*can't decode"),
        ({"json": b'{"caption": {"a": 1}}'}, "bad_labels", "json.caption holds dict, wanted a"),
        ({"json": b'{"caption": ["a", 1]}'}, "bad_labels", "holds int, wanted a text"),
        ({"cls": 1.5}, "bad_labels", "cls holds float, wanted a class"),
        ({"cls": b""}, "bad_labels", "cls holds nothing, wanted a class"),
        ({"cls": True}, "bad_labels", "cls holds bool"),
        ({"cls": b"2"}, "bad_labels", "cls is 2; 2 classes known"),
        ({"cls": -1}, "bad_labels", "cls is -1; 2 classes known"),
        (
            {"json": b'{"image": {}, "texts": [{}], "regions": [], "grounding": []}'},
            "bad_labels",
            "a nested view of another shape",
        ),
    ],
)
def test_what_cannot_be_taken_is_named(fields, cause, message):
    told = Labels(name="d", classes=["cat", "dog"]).read(fields)
    [failure] = told.failures
    assert (failure.stage, failure.source, failure.cause) == ("labels", "d", cause)
    assert re.search(message, failure.message)
    assert told.rows == []


def test_one_broken_field_leaves_the_others():
    told = LABELS.read({"json": b"{", "txt": b"fine"})
    assert [row["text"] for row in told.rows] == ["fine"]
    assert len(told.failures) == 1


def test_the_json_stays_verbatim_beside_its_first_row():
    raw = b'{"caption": "a", "similarity": 0.31,  "url": "x"}'
    [row] = LABELS.read({"json": raw}).rows
    assert row["extra"] == raw.decode()


def test_a_licence_of_the_image_is_stronger_than_that_of_the_source():
    labels = Labels(name="d", licence="CC0")
    assert labels.read({"txt": b"x"}).licence == "CC0"
    assert labels.read({"json": b'{"license": "CC-BY-4.0"}'}).licence == "CC-BY-4.0"
    assert labels.read({"json": b'{"license": 4}'}).licence == "CC0"


def test_what_people_wrote_is_marked():
    [row] = Labels(name="d", human=True).read({"txt": b"x"}).rows
    assert row["human"] is True


def claimed(fields, key="k"):
    table, failures = given_rows([Given(key, "dataset", LABELS.read(fields).rows)])
    return table, failures


def test_our_own_views_give_back_their_rows():
    """Regions keep their rows together, groundings their text and span."""
    before = rows(
        image_key=["k"] * 4,
        kind=["region", "region", "text", "grounding"],
        role=["category", "brief", "brief", "phrase"],
        text=["dog", "a brown dog", "a dog runs", "a dog"],
        annotation_id=["r1", "r2", "t1", "g1"],
        region_id=["r1", "r1", None, None],
        text_id=[None, None, None, "t1"],
        span_start=[None, None, None, 0],
        span_end=[None, None, None, 5],
        box=[[1, 2, 30, 40]] * 2 + [None, [1, 2, 30, 40]],
        score=[0.5, 0.5, None, 0.25],
    )
    judged = before.append_column("status", pa.array(["kept"] * 4))
    [view] = nested_views(images("k"), judged)
    table, failures = claimed({"json": to_json(view)})
    assert failures == []
    assert set(table["source"].to_pylist()) == {"dataset"}
    got = {row["source_id"]: row for row in table.to_pylist()}
    for old in before.to_pylist():
        new = got[old["annotation_id"]]
        for name in ("kind", "role", "text", "box", "score", "span_start", "span_end"):
            assert new[name] == old[name], name
    assert got["r1"]["region_id"] == got["r2"]["region_id"] == got["r1"]["annotation_id"]
    assert got["g1"]["text_id"] == got["t1"]["annotation_id"]


def test_a_view_keeps_texts_that_say_the_same_and_what_points_at_them():
    """Two models may write one caption; each has phrases of its own."""
    text = {"role": "brief", "text": "a dog"}
    phrase = {"role": "phrase", "text": "dog", "span": [2, 5], "box": [0, 0, 2, 2]}
    view = {
        "image": {},
        "texts": [{**text, "annotation_id": "t1"}, {**text, "annotation_id": "t2"}],
        "regions": [],
        "grounding": [{**phrase, "annotation_id": f"g{i}", "text_id": f"t{i}"} for i in (1, 2)],
    }
    table, failures = claimed({"json": json.dumps(view).encode()})
    assert (failures, table.num_rows) == ([], 4)
    assert set(table["text_id"].to_pylist()[2:]) == set(table["annotation_id"].to_pylist()[:2])


def test_a_text_is_not_a_repetition_of_a_regions():
    row = {"annotation_id": "r", "role": "brief", "text": "a dog"}
    view = {"image": {}, "texts": [], "grounding": []}
    view["regions"] = [{"region_id": "r", "box": [0, 0, 2, 2], "texts": [row]}]
    fields = {"json": json.dumps(view).encode(), "caption": "a dog"}
    told = Labels(name="d", texts={"caption": "brief"}).read(fields)
    assert [row["kind"] for row in told.rows] == ["region", "text"]


@pytest.mark.parametrize(
    "region",
    [
        {"box": [1, 2, 3], "texts": []},
        {"box": "everywhere"},
        {"score": "high"},
        {"score": float("nan")},
        {"role": "title"},
        {"polygon": [[1, 2, 3]]},
    ],
)
def test_rows_that_break_the_rules_are_a_failure_of_that_image_alone(region):
    text = {"annotation_id": "r", "role": region.pop("role", "category"), "text": "dog"}
    view = {"image": {}, "texts": [], "grounding": []}
    view["regions"] = [{"region_id": "r", **region, "texts": [text]}]
    good = Given("good", "dataset", LABELS.read({"txt": b"fine"}).rows)
    bad = Given("bad", "dataset", LABELS.read({"json": json.dumps(view).encode()}).rows)
    table, failures = given_rows([bad, good])
    assert table["image_key"].to_pylist() == ["good"]
    [(key, failure)] = failures
    assert (key, failure.stage, failure.cause) == ("bad", "labels", "bad_labels")


def test_nothing_given_is_an_empty_table():
    table, failures = given_rows([])
    assert (table.num_rows, failures) == (0, [])


@given(
    st.recursive(
        st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
        lambda inner: (
            st.lists(inner, max_size=3)
            | st.dictionaries(
                st.sampled_from(["image", "texts", "regions", "grounding", "caption", "x", "text"]),
                inner,
                max_size=5,
            )
        ),
        max_leaves=12,
    )
)
def test_any_json_gives_rows_or_failures_and_never_raises(value):
    told = LABELS.read({"json": json.dumps(value).encode(), "txt": b"fine"})
    table, refused = given_rows([Given("k", "dataset", told.rows)])
    assert refused or "fine" in table["text"].to_pylist()
