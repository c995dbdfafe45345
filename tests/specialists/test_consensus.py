"""Rows of several sources fused; that it pays on real photos is tested in test_consensus_ap."""

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from specialist_photos import noise

from engine.errors import ConfigError
from engine.geometry import pairwise_iou
from engine.judge import RuleEntry, judge
from engine.schema import ANNOTATIONS, CLAIM, box_array, empty_claims, image_rows
from engine.worker import Host, SpecialistSpec
from filters.lineage import Orphan
from filters.region_boxes import InvalidBox
from filters.region_duplicates import DuplicateRegion
from specialists.consensus import Consensus
from tests.builders import rows

A, B = (10, 10, 50, 50), (14, 10, 54, 50)  # IoU 36 / 44 = 0.818
FAR = (200, 200, 260, 260)


def said(*entries):
    """Region rows of (source, text, box, score) on image `a`, with further columns in a dict."""
    plain = [entry[:4] for entry in entries]
    more = [entry[4] if len(entry) > 4 else {} for entry in entries]
    names = ("source", "text", "box", "score")
    columns = {name: [entry[i] for entry in plain] for i, name in enumerate(names)}
    for name in {name for extra in more for name in extra}:
        default = {"image_key": "a", "human": False, "ignore": False}.get(name)
        columns[name] = [extra.get(name, default) for extra in more]
    return rows(**columns)


def fuse(table, keys=("a",), **options):
    specialist = Consensus(**options)
    specialist.load()
    return specialist.annotate([noise(key, 4, 4) for key in keys], table).to_pylist()


def test_consensus_of_nothing_is_nothing():
    assert fuse(empty_claims(), keys=()) == []
    assert fuse(empty_claims()) == []


def test_consensus_of_two_equals_the_worked_example():
    (row,) = fuse(said(("x", "dog", A, 0.9), ("y", "dog", B, 0.3)))
    # (0.9 * 10 + 0.3 * 14) / 1.2 = 11, and the mean of 0.9 and 0.3, both of two agreeing
    assert row["box"] == pytest.approx([11, 10, 51, 50])
    assert row["score"] == pytest.approx(0.6)
    assert (row["kind"], row["role"], row["text"]) == ("region", "category", "dog")
    assert row["parents"] == ["row-0", "row-1"]


def test_consensus_lowers_a_box_without_a_partner():
    lone = fuse(said(("x", "dog", A, 0.9), ("y", "dog", FAR, 0.5)))
    assert [row["score"] for row in lone] == pytest.approx([0.45, 0.25])
    assert [row["box"] for row in lone] == [list(A), list(FAR)]
    assert [row["parents"] for row in lone] == [["row-0"], ["row-1"]]


def test_consensus_of_three_sources_counts_the_silent_one():
    table = said(("x", "dog", A, 0.9), ("y", "dog", B, 0.6))
    (row,) = fuse(table, sources=("x", "y", "z"))
    assert row["score"] == pytest.approx((0.9 + 0.6 + 0) / 3)


def test_consensus_counts_only_sources_on_the_image_where_none_are_named():
    table = said(
        ("x", "dog", A, 0.8),
        ("x", "dog", A, 0.8, {"image_key": "b"}),
        ("y", "dog", FAR, 0.4, {"image_key": "b"}),
    )
    scores = [row["score"] for row in fuse(table, keys=("a", "b"))]
    assert scores == pytest.approx([0.8, 0.4, 0.2])


def test_consensus_weighs_votes():
    table = said(("x", "dog", A, 0.9), ("y", "dog", B, 0.6), ("y", "dog", FAR, 0.8))
    both, lone = fuse(table, weights={"x": 3.0})
    assert both["box"][0] == pytest.approx((3 * 0.9 * 10 + 0.6 * 14) / 3.3)
    assert [both["score"], lone["score"]] == pytest.approx([(3 * 0.9 + 0.6) / 4, 0.8 / 4])


def test_consensus_of_one_source_is_that_source():
    table = said(("x", "dog", A, 0.9), ("x", "dog", B, 0.3), ("x", "cat", A, 0.5))
    found = fuse(table)
    assert [(r["text"], tuple(r["box"])) for r in found] == [("dog", A), ("cat", A), ("dog", B)]
    assert [row["score"] for row in found] == pytest.approx([0.9, 0.5, 0.3])


def test_consensus_gives_each_source_one_vote_per_object():
    """What a detector calls two objects stays two; the nearer one meets the other's."""
    near, next_to_it = (11, 10, 51, 50), (18, 10, 58, 50)
    table = said(("x", "dog", A, 0.9), ("y", "dog", next_to_it, 0.8), ("y", "dog", near, 0.4))
    assert [row["parents"] for row in fuse(table)] == [["row-0", "row-2"], ["row-1"]]


def test_consensus_sends_a_refused_box_to_its_second_best():
    # two dogs at 10 and 24; of z's two boxes both would rather have the first
    table = said(
        ("x", "dog", (10, 0, 50, 40), 0.9),
        ("x", "dog", (24, 0, 64, 40), 0.8),
        ("z", "dog", (10, 0, 50, 40), 0.3),
        ("z", "dog", (15, 0, 55, 40), 0.7),
    )
    found = {frozenset(row["parents"]) for row in fuse(table)}
    assert found == {frozenset({"row-0", "row-2"}), frozenset({"row-1", "row-3"})}


def test_consensus_leaves_a_box_alone_that_two_objects_refuse():
    table = said(
        ("x", "dog", (10, 0, 50, 40), 0.9),
        ("x", "dog", (24, 0, 64, 40), 0.8),
        ("z", "dog", (10, 0, 50, 40), 0.7),
        ("z", "dog", (24, 0, 64, 40), 0.6),
        ("z", "dog", (15, 0, 55, 40), 0.5),
    )
    parents = [row["parents"] for row in fuse(table)]
    assert parents == [["row-0", "row-2"], ["row-1", "row-3"], ["row-4"]]


def test_consensus_lets_a_leader_keep_its_place():
    """The second box of x is better than that of y, but comes to it only when x's first is full."""
    table = said(
        ("x", "dog", (10, 0, 50, 40), 0.9),
        ("x", "dog", (20, 0, 60, 40), 0.8),
        ("y", "dog", (30, 0, 70, 40), 0.7),
    )
    assert {frozenset(row["parents"]) for row in fuse(table)} == {
        frozenset({"row-0"}),
        frozenset({"row-1", "row-2"}),
    }


def test_consensus_of_twins_does_not_depend_on_their_order():
    table = said(("x", "dog", A, 0.5), ("x", "dog", A, 0.5), ("y", "dog", A, 0.5))
    assert fuse(table) == fuse(table.take([2, 1, 0])) == fuse(table.take([1, 0, 2]))


def test_consensus_joins_names_of_one_class_and_no_kinds():
    table = said(("x", "Sofa", A, 0.9), ("y", "couch", B, 0.3), ("y", "man", A, 0.5))
    table = pa.concat_tables([table, said(("x", "person", A, 0.4))])
    assert [row["text"] for row in fuse(table)] == ["couch", "man", "person"]


def test_consensus_takes_synonyms_of_the_config():
    table = said(("x", "moggy", A, 0.9), ("y", "cat", B, 0.3))
    assert len(fuse(table)) == 2
    (row,) = fuse(table, synonyms={"cat": ("moggy",)})
    assert row["text"] == "cat"


def test_consensus_leaves_a_class_it_does_not_know_as_it_is_spelled():
    table = said(("x", "Left_Handed wrench", A, 0.9), ("y", "left handed wrench", B, 0.3))
    assert [row["text"] for row in fuse(table)] == ["Left_Handed wrench"]


def test_consensus_invents_no_score():
    (row,) = fuse(said(("x", "dog", A, None), ("y", "dog", B, None)))
    assert row["score"] is None
    assert row["box"] == pytest.approx([12, 10, 52, 50])


def test_consensus_scores_by_those_who_give_scores():
    (row,) = fuse(said(("x", "dog", A, 0.6), ("labels", "dog", B, None)))
    assert row["score"] == pytest.approx(0.6)
    assert row["box"][0] == pytest.approx((0.6 * 10 + 1 * 14) / 1.6)


def test_consensus_leaves_out_other_sources_crowds_and_broken_boxes():
    table = said(
        ("x", "dog", A, 0.9),
        ("y", "dog", B, 0.9, {"ignore": True}),
        ("z", "dog", B, 0.9),
        ("y", "dog", (9, 9, 9, 20), 0.9),
    )
    (row,) = fuse(table, sources=("x", "y"))
    assert row["parents"] == ["row-0"]
    assert row["score"] == pytest.approx(0.45)


def test_consensus_keeps_the_outline_of_the_best_box_that_has_one():
    ring = [[10.0, 10.0, 50.0, 10.0, 50.0, 50.0]]
    table = said(("x", "dog", A, 0.9), ("y", "dog", B, 0.3, {"polygon": ring}))
    assert fuse(table)[0]["polygon"] == ring


def test_consensus_never_moves_or_copies_a_persons_box():
    human = {"human": True, "region_id": "theirs"}
    table = said(
        ("people", "dog", A, None, human), ("x", "dog", B, 0.9), ("people", "cat", FAR, None, human)
    )
    (row,) = fuse(table, sources=("x", "y"))
    assert (row["box"], row["region_id"]) == (list(A), "theirs")
    assert row["parents"] == ["row-0", "row-1"]
    assert row["score"] == pytest.approx(0.45)  # of the models one of two


def test_consensus_never_joins_two_boxes_of_people():
    human = {"human": True}
    table = said(("p", "dog", A, None, human), ("q", "dog", B, None, human), ("x", "dog", B, 0.8))
    found = fuse(table)
    assert [row["parents"] for row in found] in ([["row-0", "row-2"]], [["row-1", "row-2"]])


def test_consensus_supersedes_what_it_fused_but_no_person():
    """Through the worker and the judge, with the rules that could stop a fused row."""
    human = {"human": True, "region_id": "row-2"}
    earlier = said(
        ("x", "dog", A, 0.9),
        ("y", "dog", B, 0.3),
        ("people", "cat", FAR, None, human),
        ("x", "cat", FAR, 0.5),
    )
    specialist = Consensus()
    host = Host(SpecialistSpec(specialist, specialist.prepare()))
    host.load()
    answer, _ = host.annotate(batch("a"), earlier)
    verdicts = [pa.nulls(earlier.num_rows, field.type) for field in list(ANNOTATIONS)[23:]]
    kept = pa.array(["kept"] * earlier.num_rows).dictionary_encode()
    before = pa.table([*earlier.columns, kept, *verdicts[1:]], schema=ANNOTATIONS)
    images = image_rows(image_key=["a"], status="ok", width=[300], height=[300])
    rules = [RuleEntry(rule) for rule in (InvalidBox(), DuplicateRegion(), Orphan())]
    table, _ = judge(images, before, answer, rules, replacing={"consensus": "always"})
    assert table["status"].to_pylist() == [
        *("superseded", "superseded", "kept", "superseded"),
        *("kept", "kept"),
    ]


def batch(key):
    image = noise(key, 4, 4)
    return pa.table(
        {
            "image_key": [key],
            "width": pa.array([300], pa.int32()),
            "height": pa.array([300], pa.int32()),
            "data": pa.array([bytes(image.data)], pa.large_binary()),
        }
    )


@st.composite
def crowds(draw):
    """Rows of three sources, many of them near each other, some without a score."""
    sources, texts, boxes, scores = [], [], [], []
    for _ in range(draw(st.integers(1, 14))):
        x, y = draw(st.floats(0, 30, width=32)), draw(st.integers(0, 10))
        sources.append(draw(st.sampled_from("xyz")))
        texts.append(draw(st.sampled_from(["dog", "cat", "sofa", "couch"])))
        boxes.append([x, y, x + draw(st.integers(10, 40)), y + draw(st.integers(10, 40))])
        scores.append(draw(st.none() | st.sampled_from([0.0, 0.25, 0.5]) | st.floats(0, 1)))
    return rows(source=sources, text=texts, box=boxes, score=scores)


@settings(max_examples=100, deadline=None)
@given(crowds(), st.permutations(range(14)))
def test_consensus_does_not_depend_on_the_order_of_rows(table, order):
    shuffled = table.take([i for i in order if i < table.num_rows])
    first, second = (fuse(t, weights={"y": 2.5}) for t in (table, shuffled))
    assert first == second


@settings(max_examples=100, deadline=None)
@given(crowds())
def test_consensus_takes_every_row_once_and_stays_within_its_parents(table):
    found = fuse(table)
    parents = [name for row in found for name in row["parents"]]
    assert sorted(parents) == sorted(table["annotation_id"].to_pylist())
    place = {name: i for i, name in enumerate(table["annotation_id"].to_pylist())}
    boxes, scores = box_array(table), table["score"].to_pylist()
    sources = table["source"].to_pylist()
    for row in found:
        members = [place[name] for name in row["parents"]]
        assert len({sources[i] for i in members}) == len(members)
        box = np.array(row["box"])
        assert (box >= boxes[members].min(axis=0)).all()
        assert (box <= boxes[members].max(axis=0)).all()
        given_scores = [scores[i] for i in members if scores[i] is not None]
        assert (row["score"] is None) == (not given_scores)
        if given_scores:
            assert 0 <= row["score"] <= max(given_scores)


@settings(max_examples=60, deadline=None)
@given(crowds())
def test_consensus_joins_only_boxes_that_overlap_the_best(table):
    place = {name: i for i, name in enumerate(table["annotation_id"].to_pylist())}
    boxes = box_array(table)
    for row in fuse(table, iou=0.5):
        members = boxes[[place[name] for name in row["parents"]]]
        assert (pairwise_iou(members[:1], members)[0][1:] > 0.5).all()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"iou": 0.0}, "iou 0.0; an overlap between 0 and 1"),
        ({"sources": ()}, r"sources \[\]; name each voter once"),
        ({"sources": ("x", "x")}, "name each voter once"),
        ({"weights": {"x": 0.0}}, r"weights\.x 0\.0; allowed: above 0"),
        ({"sources": ("y",), "weights": {"x": 1.0}}, r"weights\.x is none of its sources"),
        ({"synonyms": {"cat": ("tom",), "dog": ("tom",)}}, "'tom' stands for 'cat' and for 'dog'"),
    ],
)
def test_consensus_refuses_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        Consensus(**options)


def test_consensus_claims_fit_the_schema():
    specialist = Consensus()
    specialist.load()
    table = specialist.annotate([noise("a", 4, 4)], said(("x", "dog", A, 0.9)))
    assert table.schema == CLAIM
