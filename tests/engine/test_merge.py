"""From a specialist's answer to rows of the table: what is refused, their ids and their order."""

import math

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.errors import TableError
from engine.merge import check_rows, identify, merge
from engine.schema import ANNOTATIONS, CLAIM, ROLES, claims, empty_claims
from tests.builders import rows

YOLO = {"source": "yolo", "model": "yolo11n", "revision": "r1"}


def answer(**columns):
    """What a specialist gives: no ids and no source."""
    count = len(columns["image_key"])
    defaults = {"kind": "region", "role": "category", "text": ["thing"] * count}
    return claims(**{**defaults, **columns})


def test_identify_of_no_rows_is_no_rows():
    assert identify(empty_claims(), **YOLO).equals(empty_claims())


def test_identify_fills_in_who_said_it():
    row = identify(answer(image_key=["a"]), **YOLO, round_=2).to_pylist()[0]
    assert (row["source"], row["model"], row["revision"], row["round"]) == (*YOLO.values(), 2)


def test_identify_gives_a_region_itself_as_its_region_and_a_text_none():
    found = identify(answer(image_key=["a", "a"], kind=["region", "text"], role="brief"), **YOLO)
    assert found["region_id"].to_pylist() == [found["annotation_id"][0].as_py(), None]


def test_identify_turns_names_into_ids_within_one_image():
    """The same names on two images are two things; what is not a name is an id already."""
    found = identify(
        answer(
            image_key=["a", "a", "b", "b"],
            annotation_id=["box", "cap", "box", "cap"],
            kind=["region", "grounding"] * 2,
            role="phrase",
            region_id=["box", "box", "box", "0123"],
            text_id=[None, "cap", None, "box"],
            parents=[None, ["box", "9876"], None, []],
        ),
        **YOLO,
    )
    a_box, a_cap, b_box, b_cap = ids = found["annotation_id"].to_pylist()
    assert len(set(ids)) == 4
    assert found["region_id"].to_pylist() == [a_box, a_box, b_box, "0123"]
    assert found["text_id"].to_pylist() == [None, a_cap, None, b_box]
    assert found["parents"].to_pylist() == [None, [a_box, "9876"], None, []]
    assert b_cap not in (a_cap, "cap")


def test_ids_do_not_depend_on_batches_scores_or_other_images():
    together = identify(answer(image_key=["a", "b", "a"], score=[0.1, 0.2, 0.3]), **YOLO)
    alone = identify(answer(image_key=["a", "a"], score=[0.9, None]), **YOLO)
    expected = together.filter(pa.array([True, False, True]))["annotation_id"]
    assert alone["annotation_id"].to_pylist() == expected.to_pylist()


@pytest.mark.parametrize("change", [{"source": "b"}, {"revision": None}, {"round_": 1}])
def test_ids_change_with_who_said_it_but_not_with_the_model_name(change):
    plain = identify(answer(image_key=["a"]), **YOLO)["annotation_id"]
    assert identify(answer(image_key=["a"]), **{**YOLO, **change})["annotation_id"] != plain
    assert identify(answer(image_key=["a"]), **{**YOLO, "model": "x"})["annotation_id"] == plain


@given(
    st.lists(
        st.tuples(
            st.sampled_from("ab"),
            st.sampled_from([None, "<OD>"]),
            st.sampled_from([None, "0", "1", "7/0"]),
        ),
        max_size=12,
    )
)
def test_ids_are_unique_even_where_a_source_repeats_its_own(given_rows):
    """An importer's id may be a number, or stand on the row of a box and on that of its text."""
    keys, prompts, own = zip(*given_rows, strict=True) if given_rows else ((), (), ())
    table = answer(image_key=list(keys), prompt=list(prompts), source_id=list(own))
    ids = identify(table, **YOLO)["annotation_id"].to_pylist()
    assert len(set(ids)) == len(given_rows)


def test_ids_follow_an_importers_own_ids_whatever_the_order():
    one = identify(answer(image_key=["a", "a"], source_id=["12", "34"]), **YOLO)
    other = identify(answer(image_key=["a", "a"], source_id=["34", "12"]), **YOLO)
    assert one["annotation_id"].to_pylist() == other["annotation_id"].to_pylist()[::-1]


def test_check_rows_lets_no_rows_pass():
    assert check_rows(empty_claims(), []).equals(empty_claims())


@pytest.mark.parametrize("pair", [(kind, role) for kind, roles in ROLES.items() for role in roles])
def test_check_rows_takes_every_role_of_every_kind(pair):
    table = answer(image_key=["a"], kind=pair[0], role=pair[1])
    assert check_rows(table, ["a"]).equals(table)


def test_check_rows_takes_an_impossible_box_as_a_claim():
    table = answer(image_key=["a"], box=[[9.0, 9.0, 1.0, math.inf]])
    assert check_rows(table, ["a"]).num_rows == 1


@pytest.mark.parametrize(
    ("table", "message"),
    [
        pytest.param([], "returned list; wanted an Arrow table of engine.schema.claims", id="list"),
        pytest.param(
            empty_claims().drop_columns("text"), r"missing \['text'\]", id="missing-column"
        ),
        pytest.param(
            answer(image_key=["z"]),
            "image_key 'z', not among the 2 images given; return rows for those only",
            id="foreign-image",
        ),
        pytest.param(
            answer(image_key=[None]), "image_key None, not among the 2 images", id="no-image"
        ),
        pytest.param(
            answer(image_key=["a"], role="ocr", kind="text"),
            "kind/role 'text/ocr'; allowed: grounding/phrase, region/brief",
            id="role-of-another-kind",
        ),
        pytest.param(answer(image_key=["a"], kind=None), "kind/role '/category'", id="no-kind"),
        pytest.param(answer(image_key=["a"], role=None), "kind/role 'region/'", id="no-role"),
        pytest.param(
            answer(image_key=["a"], text=None), "without text; only proposals have none", id="text"
        ),
        pytest.param(
            answer(image_key=["a", "b"], score=[None, math.nan]),
            "returned a score that is not a finite number; return null for no score",
            id="nan-score",
        ),
        pytest.param(
            answer(image_key=["a"], text_score=[math.inf]), "a text_score that is", id="inf-score"
        ),
    ],
)
def test_check_rows_says_which_rule_of_the_table_is_broken(table, message):
    with pytest.raises(TableError, match=message):
        check_rows(table, ["a", "b"])


def test_check_rows_lets_a_proposal_be_without_text():
    assert check_rows(answer(image_key=["a"], role="proposal", text=None), ["a"]).num_rows == 1


def test_merge_of_nothing_is_an_empty_table_of_its_schema():
    assert merge([], ["a"]).equals(empty_claims())
    assert merge([], [], ANNOTATIONS).equals(ANNOTATIONS.empty_table())


def test_merge_sorts_by_image_and_keeps_the_order_of_sources_and_rows():
    first = rows(image_key=["b", "a", "b"], text=["1", "2", "3"])
    second = rows(image_key=["a", "b"], text=["4", "5"], source="easyocr")
    found = merge([first, second], ["b", "a"])
    assert found["text"].to_pylist() == ["1", "3", "5", "2", "4"]
    assert all(column.num_chunks == 1 for column in found.columns)


def test_merge_keeps_the_order_of_many_rows():
    table = rows(image_key=["a", "b"] * 500, text=[str(n) for n in range(1000)])
    found = merge([table], ["b", "a"])["text"].to_pylist()
    assert found == [str(n) for n in (*range(1, 1000, 2), *range(0, 1000, 2))]


@given(st.lists(st.sampled_from("abc"), max_size=9), st.integers(0, 9))
def test_merge_is_the_same_however_an_answer_was_cut_into_tables(keys, cut):
    table = rows(image_key=keys, source=[f"s{i % 2}" for i in range(len(keys))])
    whole = merge([table], ["c", "a", "b"])
    assert merge([table.slice(0, cut), table.slice(cut)], ["c", "a", "b"]).equals(whole)
    assert merge([whole], ["c", "a", "b"]).equals(whole)
    assert whole.schema == CLAIM
