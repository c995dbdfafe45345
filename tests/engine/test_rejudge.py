"""Judging the claims of a finished dataset again, with the same rules, changes nothing."""

import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.compose import compose
from engine.config import parse_config
from engine.job import VERSION, Observer
from engine.judge import RuleEntry
from engine.reading import read_tables
from engine.rejudge import Replay, rejudge
from engine.run import annotate, order_of
from engine.schema import ANNOTATIONS, canonical
from engine.source.filesystem import open_location
from filters.region_boxes import MinArea
from filters.region_scores import MinScore


@pytest.fixture(scope="module")
def job(tmp_path_factory):
    out = tmp_path_factory.mktemp("rejudge") / "out"
    noisy = {"kind": "null", "num_rows": 12}
    raw = {
        "source": {"uri": "synthetic", "num_images": 24, "shard_size": 8},
        "output": {"uri": str(out)},
        "specialists": [
            {**noisy, "name": "a"},
            {**noisy, "name": "b"},
            {"kind": "consensus", "name": "vote", "sources": ["a", "b"]},
            {
                "kind": "null",
                "name": "late",
                "num_rows": 6,
                "kinds": ["text/brief"],
                "after": ["region"],
            },
            {"kind": "composer"},
        ],
        "rules": [
            {"rule": "min_score", "limits": {"a": 0.3, "b/dog": 0.9}},
            {"rule": "duplicate_region", "iou": 0.1, "across_sources": False},
            {"rule": "min_area", "min_area_px": 4000},
            {"rule": "phrase_blacklist", "phrases": ["kite"]},
        ],
        "runner": {"kind": "serial", "batch_size": 3},
    }
    made = compose(parse_config(raw, (), "test"))
    annotate(made, Observer())
    return made


def shards(job):
    return list(read_tables(open_location(job.config.output.uri), VERSION))


def replay(job, **changes):
    order = order_of(job)
    said = {"levels": order["levels"], "replacing": order["replacing"], "rules": job.rules}
    return Replay(**{**said, "seed": job.config.seed, **changes})


def test_judging_again_changes_no_verdict(job):
    assert order_of(job)["replacing"] == {"vote": "always"}
    rules, statuses = set(), set()
    for _, images, stored in shards(job):
        again, rows, _ = rejudge(images, stored, replay(job), {})
        assert rows.equals(canonical(stored, ANNOTATIONS))
        assert again.equals(images)
        rules |= set(stored["rule"].to_pylist())
        statuses |= set(stored["status"].to_pylist())
    # every rule had something to say, or the comparison would prove little
    assert rules >= {"min_score", "duplicate_region", "min_area", "phrase_blacklist", "vote", None}
    assert statuses == {"kept", "rejected", "superseded"}


def test_other_rules_give_other_verdicts_on_the_same_claims(job):
    _, images, stored = shards(job)[0]
    _, rows, counts = rejudge(images, stored, replay(job, rules=[RuleEntry(MinArea())]), {})
    assert set(rows["rule"].to_pylist()) <= {"min_area", "vote", None}
    boxed = stored.num_rows - stored["kind"].to_pylist().count("text")
    assert counts["min_area"].judged == boxed > 0
    assert rows.select(stored.column_names[:10]).equals(stored.select(stored.column_names[:10]))


def test_only_one_rule_again_leaves_the_verdicts_of_the_others(job):
    _, images, stored = shards(job)[0]
    loose = [RuleEntry(MinScore(limits={"*": 0.0})), *job.rules]
    _, rows, counts = rejudge(images, stored, replay(job, rules=loose[:1], only=["min_score"]), {})
    was, now = stored["rule"].to_pylist(), rows["rule"].to_pylist()
    kept_verdicts = ("duplicate_region", "min_area", "phrase_blacklist")
    assert [rule for rule in was if rule in kept_verdicts] == [
        new for old, new in zip(was, now, strict=True) if old in kept_verdicts
    ]
    assert "min_score" in was
    assert "min_score" not in now
    assert list(counts) == ["min_score"]


def test_what_a_round_retracted_stays_so_and_nothing_rises_in_its_place(job):
    """With rules after rounds: `tests/refinement/test_relabel_rules.py`."""
    _, images, stored = shards(job)[0]
    hit = pc.and_(
        pc.equal(stored["status"].cast("string"), "kept"),
        pc.equal(stored["kind"].cast("string"), "region"),
    )
    changed = {
        "status": pc.if_else(hit, "superseded", stored["status"].cast("string")),
        "rule": pc.if_else(hit, "relabel", stored["rule"].cast("string")),
        "measured": pc.if_else(hit, pa.scalar(1, pa.float32()), stored["measured"]),
    }
    columns = {name: changed.get(name, stored[name]) for name in ANNOTATIONS.names}
    retracted = canonical(pa.table(columns), ANNOTATIONS)
    assert retracted["rule"].to_pylist().count("relabel") > 0
    for only in (None, ["min_score"]):
        _, rows, _ = rejudge(images, retracted, replay(job, only=only), {})
        assert rows.equals(retracted)


def test_no_rows_and_no_levels_are_judged_too(job):
    _, images, stored = shards(job)[0]
    nothing = stored.slice(0, 0)
    _, rows, counts = rejudge(images, nothing, replay(job), {})
    assert rows.num_rows == 0
    assert counts["min_score"].judged == 0
    _, rows, _ = rejudge(images, stored, Replay(levels=[]), {})
    assert pc.all(pc.equal(rows["status"].cast("string"), "kept")).as_py()
