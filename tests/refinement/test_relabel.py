"""What each policy makes of labels and predictions; rules: test_relabel_rules."""

import pyarrow as pa
import pytest

from engine.config import build
from engine.errors import ConfigError
from engine.schema import ANNOTATIONS, CLAIM
from refinement.calibrate import Calibration
from refinement.outcomes import LEDGER, apply
from refinement.policies import POLICIES, Append, Consensus, Replace
from tests.refinement.relabel_tables import (
    BOX,
    CLOSE,
    FAR,
    NEAR,
    labels,
    outcomes,
    parents,
    run,
    said,
)

NONE = ANNOTATIONS.empty_table()
SURE = Consensus(min_agreement=0, max_unseen_ratio=None)  # on two labels shares say nothing


@pytest.mark.parametrize("name", POLICIES)
def test_nothing_and_nothing_make_nothing(name):
    made = run(POLICIES[name](), NONE, CLAIM.empty_table())
    assert made.new.num_rows == made.ledger.num_rows == len(made.retracted) == 0
    assert made.ledger.schema == LEDGER
    assert set(made.counts.values()) == {0}
    assert apply(NONE, made, []).num_rows == 0


@pytest.mark.parametrize("name", POLICIES)
def test_without_labels_all_that_is_certain_is_added(name):
    made = run(POLICIES[name](), NONE, said(text=["dog"], box=[BOX]))
    assert outcomes(made) == {"dog": "added"}
    assert parents(made) == {"dog": []}


@pytest.mark.parametrize(
    ("text", "box", "score", "outcome"),
    [
        pytest.param("dog", CLOSE, 0.9, "confirmed", id="agrees"),
        pytest.param("Dog", CLOSE, 0.15, "confirmed", id="agrees-faintly"),
        pytest.param("dog", NEAR, 0.9, "moved", id="shifted"),
        pytest.param("dog", NEAR, 0.15, "contested", id="shifted-and-unsure"),
        pytest.param("cat", CLOSE, 0.9, "renamed", id="other-text"),
        pytest.param("cat", CLOSE, 0.15, "contested", id="other-text-and-unsure"),
        pytest.param("cat", CLOSE, None, "superseded", id="no-score-says-nothing"),
        pytest.param("dog", FAR, 0.9, "superseded", id="not-seen"),
    ],
)
def test_consensus_decides_by_certainty(text, box, score, outcome):
    made = run(SURE, labels(text=["dog"], box=[BOX]), said(text=[text], box=[box], score=[score]))
    assert outcomes(made)["label-0"] == outcome
    succeeded = outcome in ("moved", "renamed")
    assert made.ledger["new_id"].to_pylist()[:1] == [
        made.new["annotation_id"][0].as_py() if succeeded else None
    ]
    assert made.retracted.to_pylist() == (["label-0"] if outcome == "superseded" else [])


def test_a_limit_of_zero_asks_for_no_score():
    asks_nothing = Consensus(min_agreement=0, support_score=0, min_rename_score=0)
    predicted = said(text=["cat"], box=[BOX], score=[None])
    made = run(asks_nothing, labels(text=["dog"], box=[BOX]), predicted)
    assert outcomes(made) == {"label-0": "renamed"}
    assert made.new["score"].to_pylist() == [None]  # and none is invented


def test_a_second_label_of_one_object_is_confirmed_by_the_same_prediction():
    made = run(SURE, labels(text=["dog"] * 2, box=[BOX, CLOSE]), said(text=["dog"], box=[BOX]))
    assert outcomes(made) == {"label-0": "confirmed", "label-1": "confirmed"}
    assert made.new.num_rows == 0


def test_a_trusted_label_is_contested():
    kept = labels(text=["dog", "cow"], box=[BOX, FAR], score=[0.95, 0.5])
    trusting = Consensus(min_agreement=0, max_unseen_ratio=None, trust_score=0.9)
    assert outcomes(run(trusting, kept, said(box=[]))) == {
        "label-0": "contested",
        "label-1": "superseded",
    }


def test_silence_counts_only_where_enough_is_corrected():
    kept = labels(text=["dog", "cow", "fox", "owl"], box=[BOX, FAR, [0, 50, 9, 59], [50, 0, 59, 9]])
    predicted = said(text=["cat", "owl"], box=[BOX, [50, 0, 59, 9]])
    loose = run(Consensus(max_unseen_ratio=2), kept, predicted)
    assert outcomes(loose)["label-1"] == outcomes(loose)["label-2"] == "superseded"
    tight = run(Consensus(max_unseen_ratio=1.9), kept, predicted)
    assert outcomes(tight)["label-1"] == outcomes(tight)["label-2"] == "contested"
    assert outcomes(tight)["label-0"] == "renamed"


@pytest.mark.parametrize("policy", [Append(min_agreement=0.5), Consensus(min_agreement=0.5)])
def test_a_predictor_that_agrees_with_too_few_decides_nothing(policy):
    kept = labels(text=["dog", "cow", "fox"], box=[BOX, FAR, [0, 50, 9, 59]])
    predicted = said(text=["dog", "cat", "new"], box=[BOX, FAR, [80, 80, 90, 90]])
    made = run(policy, kept, predicted)
    assert outcomes(made) == {
        "label-0": "confirmed",
        "label-1": "contested",
        "label-2": "contested",
    }
    assert made.new.num_rows == 0


def test_append_adds_what_no_label_covers_and_touches_nothing():
    kept = labels(text=["dog", "cow"], box=[BOX, FAR])
    places = [CLOSE, CLOSE, NEAR, [80, 80, 90, 90]]
    predicted = said(text=["dog", "cat", "dog", "fox"], box=places, score=[0.9, 0.9, 0.9, 0.1])
    made = run(Append(), kept, predicted)
    assert outcomes(made) == {"label-0": "confirmed", "label-1": "contested", "dog": "added"}
    assert len(made.retracted) == 0
    assert parents(made) == {"dog": []}


def test_replace_names_the_labels_whose_place_predictions_take():
    kept = labels(text=["dog", "cow", "fox"], box=[BOX, FAR, [0, 50, 9, 59]])
    predicted = said(
        text=["dog", "cat", "owl"], box=[NEAR, FAR, [80, 80, 90, 90]], score=[0.01] * 3
    )
    made = run(Replace(), kept, predicted)
    assert outcomes(made) == {
        "label-0": "moved",
        "label-1": "renamed",
        "label-2": "superseded",
        "owl": "added",
    }
    assert parents(made) == {"dog": ["label-0"], "cat": ["label-1"], "owl": []}
    assert made.retracted.to_pylist() == ["label-2"]


@pytest.mark.parametrize("policy", [SURE, Replace(), Append(min_agreement=0)])
def test_what_a_person_said_stands(policy):
    kept = labels(text=["dog", "cow", "fox"], box=[BOX, FAR, [0, 50, 9, 59]], human=True)
    made = run(policy, kept, said(text=["dog", "cat"], box=[BOX, FAR]))
    assert outcomes(made) == {
        "label-0": "confirmed",
        "label-1": "contested",
        "label-2": "contested",
    }
    assert made.new.num_rows == len(made.retracted) == 0


def test_replace_adds_what_is_near_what_a_person_said_but_nothing_in_its_place():
    kept = labels(text=["dog"], box=[BOX], human=True)
    made = run(Replace(), kept, said(text=["dog"], box=[NEAR]))
    assert outcomes(made) == {"label-0": "contested", "dog": "added"}
    kept = labels(text=["dog", "dog"], box=[CLOSE, BOX], human=[True, False])
    made = run(Replace(), kept, said(text=["dog"], box=[BOX]))
    assert outcomes(made) == {"label-0": "confirmed", "label-1": "superseded"}


@pytest.mark.parametrize("policy", [SURE, Replace(), Append()])
def test_ignored_rows_stay_and_nothing_is_added_in_them(policy):
    kept = labels(text=["person"], box=[BOX], ignore=True)
    made = run(policy, kept, said(text=["person"] * 2, box=[[2, 2, 4, 4], FAR]))
    assert outcomes(made) == {"person": "added"}
    assert made.new["box"].to_pylist() == [FAR]


@pytest.mark.parametrize("policy", [SURE, Replace()])
def test_what_was_not_asked_or_not_answered_stays(policy):
    kept = labels(
        image_key=["a", "a", "a", "silent", "failed", "a"],
        kind=["region", "grounding", "text", "region", "region", "region"],
        role=["brief", "phrase", "alt", "category", "category", "category"],
        box=[BOX, BOX, None, BOX, BOX, None],
    )
    made = run(policy, kept, said(box=[]), predicted_keys=["a", "silent"])
    assert outcomes(made) == {"label-3": "superseded"}


def test_only_kept_rows_take_part_on_either_side():
    status = ["kept", "rejected", "superseded"]
    kept = labels(text=["dog", "cat", "cow"], box=[BOX, FAR, FAR], status=status)
    predicted = labels(text=["dog", "cat", "cow"], box=[BOX, FAR, FAR], status=status, score=0.9)
    assert outcomes(run(SURE, kept, predicted)) == {"label-0": "confirmed"}


def test_a_description_goes_with_the_retracted_region_it_rests_on():
    kept = labels(
        annotation_id=["box", "words", "phrase", "by-hand"],
        kind=["region", "region", "grounding", "region"],
        role=["category", "brief", "phrase", "brief"],
        box=[BOX] * 4,
        region_id=["box"] * 4,
        parents=[None, None, ["words"], None],
        human=[False, False, False, True],
    )
    made = run(SURE, kept, said(box=[]))
    assert outcomes(made) == dict.fromkeys(["box", "words", "phrase"], "superseded")
    assert sorted(made.retracted.to_pylist()) == ["box", "phrase", "words"]


def test_new_rows_keep_what_the_predictor_said_under_ids_of_their_own():
    predicted = said(
        text=["dog", "cat"],
        box=[BOX, FAR],
        model="tiny",
        revision="r1",
        prompt="OD",
        text_score=[0.7, None],
        region_id=["said-0", "said-1"],
        parents=[["x"], None],
    )
    one, two = (run(SURE, NONE, predicted, number=number).new.to_pylist() for number in (1, 2))
    ids = {row["annotation_id"] for row in (*one, *two)}
    assert len(ids) == 4
    for row in one:
        assert (row["source"], row["model"], row["revision"]) == ("florence2", "tiny", "r1")
        assert row["region_id"] == row["annotation_id"]
        assert row["round"] == 1
        assert row["parents"] == []
    assert [row["score"] for row in one] == pytest.approx([0.9, 0.9])
    assert [row["text_score"] for row in one] == [pytest.approx(0.7), None]


def test_rows_of_one_predicted_region_stay_together():
    predicted = said(
        text=["dog", "a brown dog"],
        role=["category", "brief"],
        box=[BOX, BOX],
        region_id=["said-0", "said-0"],
    )
    made = run(SURE, NONE, predicted, tasks=["region/category", "region/brief"])
    assert set(made.new["region_id"].to_pylist()) == {made.new["annotation_id"][0].as_py()}


def test_limits_are_compared_with_calibrated_scores():
    worthless = Calibration(method="isotonic", scores=(0.0, 1.0), shares=(0.0, 0.15))
    kept, predicted = labels(text=["dog"], box=[BOX]), said(text=["cat"], box=[BOX], score=[1.0])
    made = run(SURE, kept, predicted, calibration=worthless)
    assert outcomes(made) == {"label-0": "contested"}
    assert made.ledger["prediction_score"].to_pylist() == [pytest.approx(0.15)]


def captions(policy, texts, roles, predicted, scores=None, **columns):
    kept = labels(text=texts, kind="text", role=roles, **columns)
    score = {"text_score": scores or [0.9] * len(predicted), "score": None}
    claimed = said(text=predicted, kind="text", role="brief", **score)
    return run(policy, kept, claimed, tasks=["text/brief"])


def test_captions_add_up_but_never_twice_the_same():
    made = captions(Append(), ["a dog"], ["brief"], ["A dog", "the dog", "a puppy"])
    assert outcomes(made) == {"label-0": "confirmed", "the dog": "added", "a puppy": "added"}


def test_consensus_adds_a_caption_where_its_role_has_none():
    assert outcomes(captions(Consensus(), ["a dog"], ["alt"], ["A puppy"])) == {"A puppy": "added"}
    made = captions(Consensus(), ["a dog"], ["brief"], ["A puppy"])
    assert outcomes(made) == {"label-0": "contested"}


def test_noisy_texts_give_way_where_the_rule_says_so():
    rule = Consensus(replace_texts=("alt", "crawl"))
    made = captions(
        rule,
        ["IMG 1", "IMG 2", "by hand", "a dog"],
        ["alt", "brief", "alt", "brief"],
        ["a puppy", "a small puppy"],
        scores=[0.5, 0.6],
        source=["web", "crawl", "web", "web"],
        human=[False, False, True, False],
    )
    assert outcomes(made) == {
        "label-0": "renamed",
        "label-1": "superseded",
        "label-2": "contested",
        "label-3": "contested",
    }
    assert parents(made) == {"a small puppy": ["label-0", "label-1"]}
    assert len(made.retracted) == 0  # they go when the rules have kept their successor
    assert made.ledger["text_after"].to_pylist()[:2] == ["a small puppy"] * 2


def test_a_text_gives_way_to_none_that_another_label_has():
    rule = Consensus(replace_texts=("alt",))
    made = captions(rule, ["IMG 1", "a puppy"], ["alt", "brief"], ["A puppy"])
    assert outcomes(made) == {"label-0": "contested", "label-1": "confirmed"}


@pytest.mark.parametrize(("own", "said_score"), [(0.8, 0.7), (None, 0.2)])
def test_a_text_that_is_no_worse_stays(own, said_score):
    rule = Consensus(replace_texts=("alt",))
    made = captions(rule, ["a dog"], ["alt"], ["x"], scores=[said_score], text_score=[own])
    assert outcomes(made)["label-0"] == "contested"


def test_apply_puts_new_rows_behind_those_of_their_image_and_marks_the_retracted():
    kept = labels(image_key=["b", "a"], text=["dog", "cow"], box=[BOX, FAR])
    made = run(
        SURE, kept, said(image_key=["b", "b"], text=["cat", "fox"], box=[BOX, FAR]), number=3
    )
    done = apply(kept, made, ["b", "a"])
    assert done.schema == ANNOTATIONS
    told = [(r["image_key"], r["text"], r["status"], r["rule"]) for r in done.to_pylist()]
    assert told == [
        ("b", "dog", "kept", None),
        ("b", "cat", None, None),
        ("b", "fox", None, None),
        ("a", "cow", "superseded", "relabel"),
    ]
    assert done["measured"].to_pylist() == [None, None, None, 3.0]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"number": 0}, "round 0; 0 is the first annotation"),
        ({"predictor": "relabel"}, "predictor's name is 'relabel'"),
        ({"tasks": ["od"]}, "tasks holds 'od'; allowed: grounding/phrase, region/brief"),
    ],
)
def test_impossible_rounds_are_refused(changes, message):
    with pytest.raises(ConfigError, match=message):
        run(SURE, NONE, CLAIM.empty_table(), **changes)


@pytest.mark.parametrize(
    ("cls", "options", "message"),
    [
        (Append, {"agree_iou": 0.0}, "policy 'append': agree_iou 0.0; allowed: above 0"),
        (Append, {"min_add_score": 1.5}, "min_add_score 1.5; allowed: 0 to 1"),
        (Replace, {"near_iou": 0.6}, "near_iou 0.6 is above agree_iou 0.5"),
        (Consensus, {"trust_score": -1.0}, "trust_score -1.0; allowed: 0 to 1"),
        (Consensus, {"max_unseen_ratio": -1.0}, "max_unseen_ratio -1.0; allowed: 0 or more"),
        (Consensus, {"min_agreement": float("nan")}, "min_agreement nan"),
    ],
)
def test_options_out_of_range_are_refused(cls, options, message):
    with pytest.raises(ConfigError, match=message):
        cls(**options)


def test_policies_are_built_from_a_config_by_name():
    options = {"replace_texts": ["alt"], "trust_score": 0.9, "max_unseen_ratio": None}
    made = build(POLICIES["consensus"], options, "refine.policy")
    assert made == Consensus(replace_texts=("alt",), trust_score=0.9, max_unseen_ratio=None)
    with pytest.raises(ConfigError, match=r"refine\.policy\.min_score is not an option"):
        build(POLICIES["append"], {"min_score": 0.5}, "refine.policy")


def test_the_input_is_left_as_it_was():
    kept, predicted = labels(text=["dog"], box=[BOX]), said(text=["cat"], box=[BOX])
    before = [pa.table(each.to_pydict(), schema=each.schema) for each in (kept, predicted)]
    apply(kept, run(SURE, kept, predicted), ["a"])
    assert [kept, predicted] == before
