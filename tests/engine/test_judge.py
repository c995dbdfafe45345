"""Rules in order over the rows of a level, with rules so small that their verdict is the test's.

What the real rules measure is tested in tests/filters.
"""

from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.errors import StoppedError
from engine.judge import RuleCount, RuleEntry, add_counts, judge, raise_alarm
from engine.schema import ANNOTATIONS, CLAIM, VERDICT, Verdicts, empty_claims, image_rows
from tests.builders import rows

IMAGES = image_rows(image_key=["a"], status="ok")
NOTHING = ANNOTATIONS.empty_table()


@dataclass(frozen=True)
class Word:
    """Rejects rows whose text is `word`; keeps the texts it was shown, and which were fresh."""

    word: str
    measured: object = None
    limit: object = None
    against: bool = False
    name: str = "word"
    applies_to: tuple[str, ...] = ("text", "region", "grounding")
    shown: list[tuple[str, bool]] = field(default_factory=list)

    def judge(self, tables, context):
        texts = tables.annotations["text"].to_pylist()
        self.shown.extend(zip(texts, context.fresh.tolist(), strict=True))
        lost = pa.array([f"against {text}" for text in texts], pa.string())
        rejected = pa.array([text == self.word for text in texts], pa.bool_())
        return Verdicts(rejected, self.measured, self.limit, lost if self.against else None)


class Everything:
    """Rejects every row it is asked about."""

    name: ClassVar[str] = "everything"
    applies_to: ClassVar[tuple[str, ...]] = ("region",)

    def judge(self, tables, context):
        return Verdicts(pa.array(np.ones(tables.annotations.num_rows, bool)))


def judged(fresh, *rules, earlier=NOTHING, **options):
    table, counts = judge(IMAGES, earlier, fresh, [RuleEntry(rule) for rule in rules], **options)
    assert table.schema == ANNOTATIONS
    return table, {name: (count.judged, count.rejected) for name, count in counts.items()}


def states(table):
    return table["status"].to_pylist()


@pytest.mark.parametrize("rules", [[], [Word("a"), Everything()]])
def test_judge_of_no_rows_is_no_rows(rules):
    table, counts = judged(empty_claims(), *rules, replacing={"yolo": "kept"})
    assert table.num_rows == 0
    assert counts == {rule.name: (0, 0) for rule in rules}


def test_without_rules_every_row_is_kept_and_says_nothing_more():
    table, _ = judged(rows(text=["a", "b"]))
    expected = {**dict.fromkeys(VERDICT.names), "status": "kept"}
    assert table.select(VERDICT.names).to_pylist() == [expected] * 2
    assert table.select(CLAIM.names).equals(rows(text=["a", "b"]))


@dataclass(frozen=True)
class Look:
    """Rejects nothing; keeps the tables it was shown."""

    name: ClassVar[str] = "look"
    applies_to: ClassVar[tuple[str, ...]] = ("region",)
    shown: list[pa.Table] = field(default_factory=list)

    def judge(self, tables, context):
        self.shown.append(tables.annotations)
        return Verdicts(pa.array(np.zeros(tables.annotations.num_rows, bool)))


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({}, id="mostly-columns-of-one-value"),
        pytest.param({"human": [True, False, True, False]}, id="flags-that-differ"),
        pytest.param({"human": True, "ignore": True}, id="flags-all-set"),
        pytest.param({"round": [0, 0, 0, 1]}, id="numbers-that-differ"),
        pytest.param({"source": ["a", "a", "b", "a"]}, id="words-that-differ"),
        pytest.param({"model": [None, "m", "m", "m"]}, id="one-word-or-none"),
        pytest.param({"score": [0.5, 0.5, None, 0.5]}, id="one-score-or-none"),
        pytest.param({"parents": [["x"], None, ["y"], []]}, id="lists"),
        pytest.param({"polygon": [None, [[0, 0, 1, 1, 2, 0]], None, None]}, id="outlines"),
        pytest.param({"prompt": "p", "extra": "{}", "source_id": "1"}, id="one-value-of-a-string"),
    ],
)
@pytest.mark.parametrize("earlier", [NOTHING, judged(rows(text=["z"], annotation_id=["e"]))[0]])
def test_a_rule_sees_every_column_of_the_rows_that_are_left(columns, earlier):
    fresh, look = rows(text=["a", "b", "a", "c"], **columns), Look()
    judged(fresh, Word("a"), look, Word("b"), look, earlier=earlier)
    whole = pa.concat_tables([earlier.select(CLAIM.names), fresh])
    for seen, gone in zip(look.shown, (["a"], ["a", "b"]), strict=True):
        expected = whole.filter(pc.invert(pc.is_in(whole["text"], pa.array(gone))))
        assert seen.to_pylist() == expected.to_pylist()
        assert seen.schema == CLAIM


def test_a_rule_sees_only_what_the_rules_before_it_left():
    second = Word("b")
    table, counts = judged(rows(text=["a", "b", "c"]), Word("a"), second)
    assert states(table) == ["rejected", "rejected", "kept"]
    assert second.shown == [("b", True), ("c", True)]
    assert counts == {"word": (3 + 2, 1 + 1)}


def test_the_first_rule_that_rejects_is_the_one_on_record():
    table, counts = judged(rows(text=["a", "b"]), Word("a", measured=1.0), Everything())
    assert table["rule"].to_pylist() == ["word", "everything"]
    assert table["measured"].to_pylist() == [1.0, None]
    assert counts == {"word": (2, 1), "everything": (1, 1)}


def test_a_rule_judges_the_kinds_it_names_and_no_others():
    fresh = rows(kind=["text", "region"], role=["brief", "category"])
    table, counts = judged(fresh, Everything())
    assert states(table) == ["kept", "rejected"]
    assert counts == {"everything": (1, 1)}


def test_verdicts_take_numbers_and_columns_and_only_the_rejected_have_them():
    column = pa.array([0.25, None, 0.75], pa.float32())
    fresh = rows(text=["a", "b", "a"])
    table, _ = judged(fresh, Word("a", measured=column, limit=2, against=True))
    assert table["measured"].to_pylist() == [0.25, None, 0.75]
    assert table["limit"].to_pylist() == [2.0, None, 2.0]
    assert table["against"].to_pylist() == ["against a", None, "against a"]
    assert table["rule"].to_pylist() == ["word", None, "word"]
    unmeasured, _ = judged(fresh, Word("b", measured=column))
    assert unmeasured["measured"].to_pylist() == [None, None, None]


def test_measures_are_stored_as_float32():
    table, _ = judged(rows(text=["a"]), Word("a", measured=0.1, limit=0.1))
    assert table["measured"][0].as_py() == table["limit"][0].as_py() == float(np.float32(0.1))


def test_earlier_verdicts_are_final_and_only_kept_rows_are_context():
    earlier, _ = judged(rows(text=["old", "gone"]), Word("gone"))
    rule = Word("old")
    table, counts = judged(rows(text=["new", "old"]), rule, earlier=earlier)
    assert rule.shown == [("old", False), ("new", True), ("old", True)]
    assert states(table) == ["kept", "rejected", "kept", "rejected"]
    assert table.slice(0, 2).equals(earlier)
    assert counts == {"word": (2, 1)}


def test_rules_are_told_the_seed_of_the_run():
    seeds = []

    class Draw(Everything):
        def judge(self, tables, context):
            seeds.append(context.seed)
            return super().judge(tables, context)

    judged(rows(text=["a"]), Draw(), seed=7)
    assert seeds == [7]


def supersede(earlier_columns, fresh_columns, *rules, when="kept"):
    earlier, _ = judged(rows(**earlier_columns), Word("gone"))
    count = len(fresh_columns["parents"])
    names = {"annotation_id": [f"new-{i}" for i in range(count)], "source": "round"}
    fresh = rows(**{**names, **fresh_columns})
    table, _ = judged(fresh, *rules, earlier=earlier, replacing={"round": when})
    return table.slice(0, earlier.num_rows), table.slice(earlier.num_rows)


def test_a_kept_row_of_a_replacing_source_supersedes_its_parents():
    old, new = supersede({"text": ["a", "b", "c"]}, {"parents": [["row-0", "row-2"]]})
    assert states(old) == ["superseded", "kept", "superseded"]
    assert old["rule"].to_pylist() == ["round", None, "round"]
    assert old["against"].to_pylist() == ["new-0", None, "new-0"]
    assert states(new) == ["kept"]


@pytest.mark.parametrize(
    ("earlier", "fresh", "rules", "when"),
    [
        pytest.param({}, {}, [], "never", id="nobody-replaces"),
        pytest.param({}, {"source": "yolo"}, [], "kept", id="another-source"),
        pytest.param({}, {}, [Everything()], "kept", id="the-new-row-is-rejected"),
        pytest.param({}, {"parents": [None]}, [], "kept", id="no-parents"),
        pytest.param({}, {"parents": [["x"]]}, [], "kept", id="unknown-parent"),
        pytest.param({"human": True}, {}, [], "kept", id="a-person-said-it"),
        pytest.param({"human": True}, {}, [], "always", id="a-person-said-it-to-a-vote"),
    ],
)
def test_an_earlier_row_stays_kept_when(earlier, fresh, rules, when):
    old, _ = supersede(
        {"text": ["a"], **earlier}, {"parents": [["row-0"]], **fresh}, *rules, when=when
    )
    assert states(old) == ["kept"]
    assert old["against"].to_pylist() == [None]


def test_a_vote_decides_on_its_parents_also_where_its_own_row_is_rejected():
    """Else what one detector claims alone would outlive the vote that spoke against it."""
    old, new = supersede({"text": ["a"]}, {"parents": [["row-0"]]}, Everything(), when="always")
    assert states(new) == ["rejected"]
    assert (states(old), old["against"].to_pylist()) == (["superseded"], ["new-0"])


def test_a_person_may_supersede_what_a_person_said():
    old, _ = supersede({"text": ["a"], "human": True}, {"parents": [["row-0"]], "human": True})
    assert states(old) == ["superseded"]


def test_a_rejected_row_is_not_superseded():
    old, _ = supersede({"text": ["gone"]}, {"parents": [["row-0"]]})
    assert (states(old), old["rule"].to_pylist()) == (["rejected"], ["word"])


def test_of_two_rows_that_replace_one_the_first_is_on_record():
    old, _ = supersede({"text": ["a"]}, {"parents": [["row-0"], ["row-0"]]})
    assert old["against"].to_pylist() == ["new-0"]


@pytest.mark.parametrize(
    ("num_judged", "num_rejected", "alarm_share", "stops"),
    [
        pytest.param(0, 0, 0.0, False, id="nothing-judged"),
        pytest.param(999, 999, 0.95, False, id="too-few-to-tell"),
        pytest.param(1_001, 1_001, 0.95, True, id="runaway"),
        pytest.param(2_000, 1_900, 0.95, False, id="at-the-share"),
        pytest.param(2_000, 1_901, 0.95, True, id="past-the-share"),
        pytest.param(2_000, 2_000, 1.0, False, id="alarm-off"),
    ],
)
def test_alarm_stops_a_rule_that_rejects_too_much(num_judged, num_rejected, alarm_share, stops):
    counts = {"everything": RuleCount(num_judged, num_rejected)}
    entries = [RuleEntry(Word("a")), RuleEntry(Everything(), alarm_share, place=1)]
    if not stops:
        raise_alarm(counts, entries)
        return
    with pytest.raises(
        StoppedError, match=r"'everything' rejected .*% of .* rows \(alarm share 95%"
    ):
        raise_alarm(counts, entries)


@pytest.mark.parametrize(
    ("place", "how"),
    [(3, r"rules\.3\.alarm_share=1"), (None, "an entry {rule: everything, alarm_share: 1} in rul")],
)
def test_alarm_names_the_option_that_lifts_it_as_the_config_counts(place, how):
    entries = [RuleEntry(Everything(), place=place)]
    with pytest.raises(StoppedError, match=how):
        raise_alarm({"everything": RuleCount(1_000, 1_000)}, entries)


def test_counts_add_up_over_shards():
    total = {}
    add_counts(total, {})
    add_counts(total, {"a": RuleCount(3, 1)})
    add_counts(total, {"b": RuleCount(1, 1), "a": RuleCount(2, 2)})
    assert total == {"a": RuleCount(5, 3), "b": RuleCount(1, 1)}


def test_judging_again_changes_nothing():
    """The rows kept by rules are kept by them again: what `fld filter` relies on."""
    table, _ = judged(rows(text=["a", "b", "a"]), Word("b"))
    kept = table.filter(pc.equal(table["status"].cast(pa.string()), "kept"))
    again, _ = judged(kept.select(CLAIM.names), Word("b"))
    assert again.to_pylist() == kept.to_pylist()
