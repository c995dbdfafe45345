"""Relabelled rows and the rules together: what `fld filter` does with a round, and after it."""

import pyarrow as pa
import pytest

from engine.judge import RuleEntry
from engine.rejudge import Replay, rejudge, round_name
from engine.schema import image_rows
from filters.lineage import Orphan
from filters.region_duplicates import DuplicateRegion
from filters.region_scores import MinScore
from refinement.lineage import roots
from refinement.outcomes import apply
from refinement.policies import Consensus
from tests.refinement.relabel_tables import BOX, CLOSE, FAR, labels, run, said

IMAGES = image_rows(image_key=["a", "b"], status="ok", width=[100, 100], height=[100, 100])
SURE = Consensus(min_agreement=0, max_unseen_ratio=None)
RULES = [
    RuleEntry(MinScore(limits={"florence2": 0.5})),
    RuleEntry(DuplicateRegion()),
    RuleEntry(Orphan()),
]


def replay(rounds, rules=RULES, **changes):
    names = [round_name("florence2", number) for number in range(1, rounds + 1)]
    return Replay(
        levels=[["yolo"], *([name] for name in names)],
        replacing=dict.fromkeys(names, "kept"),
        rules=rules,
        **changes,
    )


def refine(rows, predicted, number, policy=SURE):
    made = run(policy, rows, predicted, number=number)
    done = apply(rows, made, IMAGES["image_key"].to_pylist())
    return rejudge(IMAGES, done, replay(number), {})[1]


def told(rows):
    """Text, round, status and rule of every row."""
    names = ("text", "round", "status", "rule")
    return sorted(tuple(row[name] for name in names) for row in rows.to_pylist())


def kept_texts(rows):
    return sorted(row["text"] for row in rows.to_pylist() if row["status"] == "kept")


def test_a_new_row_supersedes_its_parent_only_where_the_rules_keep_it():
    kept = labels(text=["dog", "cow"], box=[BOX, FAR], score=0.9)
    predicted = said(text=["cat", "fox"], box=[BOX, FAR], score=[0.9, 0.4])
    assert told(refine(kept, predicted, 1)) == [
        ("cat", 1, "kept", None),
        ("cow", 0, "kept", None),
        ("dog", 0, "superseded", "florence2"),
        ("fox", 1, "rejected", "min_score"),
    ]


def test_judging_a_round_again_changes_nothing_and_loses_no_row():
    kept = labels(text=["dog", "cow", "owl"], box=[BOX, FAR, [0, 50, 9, 59]], score=0.9)
    predicted = said(text=["cat", "new"], box=[BOX, [80, 80, 90, 90]])
    once = refine(kept, predicted, 1)
    assert once.num_rows == kept.num_rows + 2
    again = rejudge(IMAGES, once, replay(1), {})[1]
    assert again.equals(once)
    only = rejudge(IMAGES, once, replay(1, only=["min_score"]), {})[1]
    assert told(only) == told(once)


def test_what_a_retracted_label_had_suppressed_does_not_rise_again():
    claimed = labels(text=["dog", "dog", "cow"], box=[BOX, CLOSE, FAR], score=[0.9, 0.8, 0.9])
    kept = rejudge(IMAGES, claimed, replay(0), {})[1]
    assert ("dog", 0, "rejected", "duplicate_region") in told(kept)
    done = refine(kept, said(text=["cow"], box=[FAR]), 1)
    expected = [
        ("cow", 0, "kept", None),
        ("dog", 0, "rejected", "duplicate_region"),
        ("dog", 0, "superseded", "relabel"),
    ]
    assert told(done) == expected
    assert told(rejudge(IMAGES, done, replay(1), {})[1]) == expected


def test_what_it_had_suppressed_at_a_later_level_does_not_rise_either():
    levels, name = [["yolo"], ["late"]], round_name("florence2", 1)
    claimed = labels(text=["dog"] * 2, box=[BOX, CLOSE], source=["yolo", "late"], score=0.9)
    kept = rejudge(IMAGES, claimed, Replay(levels=levels, rules=RULES), {})[1]
    done = apply(kept, run(SURE, kept, said(text=["cow"], box=[FAR])), ["a", "b"])
    after = Replay(levels=[*levels, [name]], replacing={name: "kept"}, rules=RULES)
    assert told(rejudge(IMAGES, done, after, {})[1]) == [
        ("cow", 1, "kept", None),
        ("dog", 0, "rejected", "duplicate_region"),
        ("dog", 0, "superseded", "relabel"),
    ]


def test_a_retracted_label_does_not_suppress_what_its_own_round_adds():
    kept = labels(text=["dog"], box=[CLOSE], score=0.9)
    # a caller may retract and add the same thing: the rule must not see the old one any more
    made = run(
        Consensus(agree_iou=0.95, near_iou=0.95, min_agreement=0, max_unseen_ratio=None),
        kept,
        said(text=["dog"], box=[BOX]),
    )
    done = rejudge(IMAGES, apply(kept, made, ["a", "b"]), replay(1), {})[1]
    assert told(done) == [("dog", 0, "superseded", "relabel"), ("dog", 1, "kept", None)]


def test_no_rule_lifts_or_changes_what_a_round_retracted():
    done = refine(labels(text=["dog"], box=[BOX], score=0.9), said(box=[]), 1)
    for rules in ([], [RuleEntry(MinScore(limits={"*": 0.99}))]):
        rows = rejudge(IMAGES, done, replay(1, rules), {})[1]
        assert rows.equals(done)
        assert told(rows) == [("dog", 0, "superseded", "relabel")]


def test_rows_of_the_next_round_supersede_those_of_the_last_of_the_same_source():
    first = refine(
        labels(text=["dog", "cow"], box=[BOX, FAR], score=0.9),
        said(text=["cat", "cow"], box=[BOX, FAR]),
        1,
    )
    second = refine(first, said(text=["fox", "cow"], box=[BOX, FAR]), 2)
    third = refine(second, said(text=["cow"], box=[FAR]), 3)
    assert told(second) == [
        ("cat", 1, "superseded", "florence2"),
        ("cow", 0, "kept", None),
        ("dog", 0, "superseded", "florence2"),
        ("fox", 2, "kept", None),
    ]
    assert kept_texts(third) == ["cow"]
    assert ("fox", 2, "superseded", "relabel") in told(third)
    assert rejudge(IMAGES, third, replay(3), {})[1].equals(third)
    by_text = dict(zip(third["text"].to_pylist(), roots(third).to_pylist(), strict=True))
    assert by_text["fox"] == by_text["cat"] == by_text["dog"] == ["label-0"]


def test_a_refused_row_of_a_later_round_leaves_that_of_the_earlier_one():
    first = refine(labels(text=["dog"], box=[BOX], score=0.9), said(text=["cat"], box=[BOX]), 1)
    second = refine(first, said(text=["fox"], box=[BOX], score=[0.4]), 2)
    assert kept_texts(second) == ["cat"]


def test_first_rows_of_the_predictors_own_name_supersede_nobody():
    own = labels(
        text=["dog", "hound"],
        annotation_id=["x", "y"],
        box=[BOX, FAR],
        source=["yolo", "florence2"],
        parents=[None, ["x"]],
        score=0.9,
    )
    rules = Replay(
        levels=[["yolo"], ["florence2"], ["florence2@1"]], replacing={"florence2@1": "kept"}
    )
    assert kept_texts(rejudge(IMAGES, own, rules, {})[1]) == ["dog", "hound"]


def test_a_plain_name_holds_for_all_rounds():
    kept = labels(text=["dog"], box=[BOX], score=0.9)
    done = apply(kept, run(SURE, kept, said(text=["cat"], box=[BOX])), ["a", "b"])
    plain = Replay(levels=[["yolo"], ["florence2"]], replacing={"florence2": "kept"}, rules=RULES)
    assert told(rejudge(IMAGES, done, plain, {})[1]) == told(
        refine(kept, said(text=["cat"], box=[BOX]), 1)
    )


def lines(parents, rounds):
    claimed = labels(
        annotation_id=[*"abcdef"[: len(parents)]],
        box=[BOX] * len(parents),
        parents=parents,
        round=rounds,
    )
    return roots(claimed).to_pylist()


@pytest.mark.parametrize(
    ("parents", "rounds", "expected"),
    [
        pytest.param([], [], [], id="no-rows"),
        pytest.param([None, ["a"], ["b"]], [0, 1, 2], [["a"]] * 3, id="through-two-rounds"),
        pytest.param([None, None, ["b", "a"]], [0, 0, 1], [["a"], ["b"], ["a", "b"]], id="both"),
        pytest.param([None, ["a"]], [0, 0], [["a"], ["b"]], id="a-first-row-is-its-own-root"),
        pytest.param([[], ["a"]], [1, 2], [[], []], id="added-by-a-round"),
        pytest.param([["z"]], [1], [[]], id="the-parent-is-not-there"),
        pytest.param(
            [["b"], ["a", "c"], None, ["a"]],
            [1, 2, 0, 3],
            [["c"], ["c"], ["c"], ["c"]],
            id="circle",
        ),
        pytest.param(
            [None, ["a"], ["a"], ["b", "c"]], [0, 1, 1, 2], [["a"]] * 4, id="two-ways-to-one"
        ),
    ],
)
def test_roots_are_the_first_annotations_a_row_comes_from(parents, rounds, expected):
    assert lines(parents, rounds) == expected


def test_roots_of_claims_cut_into_chunks_are_the_same():
    whole = labels(annotation_id=["a", "b"], box=[BOX] * 2, parents=[None, ["a"]], round=[0, 1])
    halves = pa.concat_tables([whole.slice(0, 1), whole.slice(1)])
    assert roots(halves) == roots(whole)
