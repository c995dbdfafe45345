"""What must hold of every relabelling, whatever is labelled and predicted."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evaluate.regions import score_regions
from engine.schema import ANNOTATIONS, CLAIM
from refinement.outcomes import apply
from refinement.policies import Append, Consensus, Replace
from tests.refinement.relabel_tables import labels, run, said

_POINT = st.integers(0, 12)
_REGION = st.tuples(
    st.sampled_from("ab"),  # image
    st.sampled_from(["dog", "Dog", "cat"]),
    st.tuples(_POINT, _POINT, st.integers(1, 8), st.integers(1, 8)),
    st.one_of(st.none(), st.floats(0, 1, width=32)),
    st.booleans(),
)
_REGIONS = st.lists(_REGION, max_size=8)
_POLICIES = st.one_of(
    st.builds(Append, min_agreement=st.sampled_from([0.0, 0.5])),
    st.builds(Replace),
    st.builds(
        Consensus,
        max_unseen_ratio=st.sampled_from([0.0, 1.0, None]),
        min_agreement=st.sampled_from([0.0, 0.5]),
        trust_score=st.sampled_from([None, 0.5]),
    ),
)
_SOME = settings(max_examples=60, deadline=None)


def columns(regions):
    return {
        "image_key": [region[0] for region in regions],
        "text": [region[1] for region in regions],
        "box": [[x, y, x + w, y + h] for _, _, (x, y, w, h), _, _ in regions],
        "score": [region[3] for region in regions],
    }


def kept_of(regions):
    if not regions:
        return ANNOTATIONS.empty_table()
    return labels(**columns(regions), human=[region[4] for region in regions])


def said_of(regions):
    return said(**columns(regions)) if regions else CLAIM.empty_table()


def standing(kept, made):
    """The labels after the round, if the rules keep all new rows."""
    gone = {*made.retracted.to_pylist()}
    gone |= {name for names in made.new["parents"].to_pylist() for name in names}
    stays = [name not in gone for name in kept["annotation_id"].to_pylist()]
    old = kept.select(CLAIM.names).filter(pa.array(stays, pa.bool_()))
    return pa.concat_tables([old, made.new]).unify_dictionaries()


@_SOME
@given(_REGIONS, _REGIONS, _POLICIES)
def test_every_label_has_one_outcome_and_every_prediction_comes_once(have, predicted, policy):
    kept, claimed = kept_of(have), said_of(predicted)
    made = run(policy, kept, claimed)
    ledger = made.ledger.to_pylist()
    told = [row["annotation_id"] for row in ledger if row["annotation_id"] is not None]
    assert told == kept["annotation_id"].to_pylist()
    assert sum(made.counts.values()) == len(ledger)
    new = made.new["annotation_id"].to_pylist()
    assert len(set(new)) == len(new) <= claimed.num_rows
    assert sorted(row["new_id"] for row in ledger if row["new_id"] is not None) == sorted(new)
    for row in ledger:
        assert (row["outcome"] == "added") == (row["annotation_id"] is None)
        if row["outcome"] in ("confirmed", "contested"):
            assert row["new_id"] is None
        if row["outcome"] in ("moved", "renamed", "added"):
            assert row["new_id"] is not None
    retracted = [
        r["annotation_id"] for r in ledger if r["outcome"] == "superseded" and not r["new_id"]
    ]
    assert sorted(made.retracted.to_pylist()) == sorted(retracted)


@_SOME
@given(_REGIONS, _REGIONS, _POLICIES)
def test_no_person_is_overruled_and_no_row_is_lost(have, predicted, policy):
    kept = kept_of(have)
    made = run(policy, kept, said_of(predicted))
    people = set(kept.filter(kept["human"])["annotation_id"].to_pylist())
    named = {name for names in made.new["parents"].to_pylist() for name in names}
    assert not people & (named | set(made.retracted.to_pylist()))
    done = apply(kept, made, ["a", "b"])
    assert done.num_rows == kept.num_rows + made.new.num_rows
    old = done.filter(pc.equal(done["round"], 0)).select(CLAIM.names)
    by_id = [("annotation_id", "ascending")]
    assert old.sort_by(by_id).to_pylist() == kept.select(CLAIM.names).sort_by(by_id).to_pylist()


@_SOME
@given(_REGIONS, _REGIONS, _REGIONS)
def test_append_never_lowers_recall_whatever_is_true(have, predicted, true):
    kept, truth = kept_of(have), said_of(true)
    made = run(Append(min_add_score=0), kept, said_of(predicted))
    before = score_regions(kept.select(CLAIM.names), truth)
    assert score_regions(standing(kept, made), truth).num_matched >= before.num_matched


@_SOME
@given(_REGIONS, _REGIONS)
def test_replace_leaves_the_predictions_where_nobody_has_a_say(have, predicted):
    kept = kept_of([(*region[:4], False) for region in have])
    claimed = said_of(predicted)
    after = standing(kept, run(Replace(), kept, claimed))
    names = ["image_key", "text", "box", "score"]
    spelled = [sorted(map(repr, t.select(names).to_pylist())) for t in (after, claimed)]
    assert spelled[0] == spelled[1]


@_SOME
@given(_REGIONS, _REGIONS, _POLICIES, st.integers(0, 99))
def test_the_order_of_the_rows_changes_nothing_but_order(have, predicted, policy, seed):
    kept, claimed = kept_of(have), said_of(predicted)
    rng = np.random.default_rng(seed)
    mixed = [t.take(pa.array(rng.permutation(t.num_rows))) for t in (kept, claimed)]
    one, two = run(policy, kept, claimed), run(policy, *mixed)
    assert one.counts == two.counts
    for name in ("new", "ledger"):
        tables = [sorted(map(repr, getattr(made, name).to_pylist())) for made in (one, two)]
        assert tables[0] == tables[1]
    assert sorted(one.retracted.to_pylist()) == sorted(two.retracted.to_pylist())
