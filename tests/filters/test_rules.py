"""Every rule of the table: that it is found, keeps, rejects, and says nothing of no rows."""

from dataclasses import replace

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import ConfigError
from engine.schema import ANNOTATIONS
from filters import RULES
from tests.builders import all_fresh, tables

# One row each rule keeps and one it rejects, in this order.
KEEPS_THEN_REJECTS = {
    "invalid_box": {"box": [[0, 0, 100, 80], [0, 0, 101, 80]]},
    "min_score": {"score": [0.9, 0.1]},
    "min_area": {"box": [[0, 0, 9, 9], [0, 0, 2, 2]]},
    "duplicate_region": {"box": [[0, 0, 9, 9], [0, 0, 9, 9]], "score": [0.9, 0.1]},
    "min_text_height": {"role": "ocr", "box": [[0, 0, 40, 9], [0, 0, 40, 7]]},
    "min_legibility": {"role": "ocr", "text": ["$9.99", "~~/|"]},
    "duplicate_reading": {"role": "ocr", "box": [[0, 0, 9, 9], [0, 0, 9, 9]]},
    "min_tokens": {"kind": "text", "role": "brief", "text": ["a dog runs", "a dog"]},
    "max_tokens": {"kind": "text", "role": "brief", "text": ["a dog runs", "a " * 41]},
    "repeated_ngram": {"kind": "text", "role": "brief", "text": ["a dog runs", "dog " * 9]},
    "boilerplate": {"role": "brief", "text": ["a dog runs", "I'm sorry, but I can't see it."]},
    "noisy_alt": {"kind": "text", "role": "alt", "text": ["a dog runs", "DSC_0001.JPG"]},
    "non_language": {"role": "brief", "text": ["a dog runs", "12345 #### 67890"]},
    "wrong_language": {"role": "brief", "text": ["a dog runs", "ein Hund rennt durch den Wald"]},
    "max_objects": {"kind": "text", "role": "brief", "text": ["a dog runs", "dog cat " * 7]},
    "min_object_complexity": {"kind": "text", "role": "brief", "text": ["A dog runs.", "a dog"]},
    "min_action_complexity": {"kind": "text", "role": "brief", "text": ["A dog runs.", "running"]},
    "repeats_ocr": {
        "kind": ["region", "text"],
        "role": ["ocr", "brief"],
        "text": ["Grand Hotel", "grand hotel"],
    },
    "near_duplicate_text": {"kind": "text", "role": "brief", "text": ["A dog runs.", "a dog runs"]},
    "frequent_text": {"kind": "text", "role": "alt", "text": ["a dog runs", "home page"]},
    "min_phrase_score": {"kind": "grounding", "role": "phrase", "text_score": [0.9, 0.1]},
    "phrase_blacklist": {"text": ["a dog", "it"]},
    "span_equals_phrase": {
        "kind": ["text", "grounding"],
        "role": ["brief", "phrase"],
        "text": ["a dog runs", "dog"],
        "text_id": [None, "row-0"],
        "span_start": [None, 0],
        "span_end": [None, 3],
    },
    "duplicate_triplet": {"kind": "grounding", "box": [[0, 0, 9, 9], [0, 0, 9, 9]]},
    "max_boxes_per_phrase": {"kind": "grounding", "box": [[0, 0, 9, 9], [20, 0, 29, 9]]},
    "best_region_text": {
        "role": "brief",
        "region_id": ["r", "r"],
        "text_score": [0.9, 0.1],
    },
    "orphan": {"parents": [None, ["gone"]]},
}
# Options without which two rows are not enough to show a rule.
OPTIONS = {"max_boxes_per_phrase": {"max_boxes": 1}}
# What a rule over the whole dataset has seen in another shard.
ELSEWHERE = {
    "frequent_text": {
        "kind": "text",
        "role": "alt",
        "text": ["Home page"] * 10,
        "image_key": list("bcdefghijk"),
    }
}


def make(name):
    return RULES.find(name)(**OPTIONS.get(name, {}))


def judge(rule, given):
    context = all_fresh(given)
    if hasattr(rule, "measure"):
        shards = [tables(**ELSEWHERE[rule.name]), given]
        measured = pa.concat_tables([rule.measure(shard) for shard in shards])
        context = replace(context, decisions=rule.reduce(measured))
    return rule.judge(given, context)


def test_every_rule_has_an_example_here():
    assert KEEPS_THEN_REJECTS.keys() == RULES.table.keys()


@pytest.mark.parametrize("name", RULES.table)
def test_every_rule_can_both_keep_and_reject(name):
    rule = make(name)
    given = tables(**KEEPS_THEN_REJECTS[name])
    verdicts = judge(rule, given)
    assert rule.name == name
    assert verdicts.rejected.to_pylist() == [False, True]


@pytest.mark.parametrize("name", RULES.table)
def test_every_rule_says_nothing_of_no_rows(name):
    given = tables()
    verdicts = judge(make(name), given)
    for column in (verdicts.rejected, verdicts.measured, verdicts.limit, verdicts.against):
        assert column is None or isinstance(column, float) or len(column) == 0


@pytest.mark.parametrize("name", RULES.table)
def test_every_rule_answers_in_the_types_of_the_verdict_columns(name):
    given = tables(**KEEPS_THEN_REJECTS[name])
    verdicts = judge(make(name), given)
    assert verdicts.rejected.type == pa.bool_()
    assert verdicts.rejected.null_count == 0
    for column in ("measured", "limit", "against"):
        answer = getattr(verdicts, column)
        if isinstance(answer, pa.Array):
            assert answer.type == ANNOTATIONS.field(column).type


@pytest.mark.parametrize("name", RULES.table)
def test_every_rule_judges_the_kinds_it_names_and_no_other(name):
    rule = make(name)
    others = {"text", "region", "grounding"} - set(rule.applies_to)
    for kind in others:
        of_kind = tables(**{**KEEPS_THEN_REJECTS[name], "kind": kind})
        assert not any(judge(rule, of_kind).rejected.to_pylist())


@pytest.mark.parametrize("name", RULES.table)
def test_every_rule_says_the_same_of_chunked_rows(name):
    given = tables(**KEEPS_THEN_REJECTS[name])
    halves = pa.concat_tables([given.annotations.slice(0, 1), given.annotations.slice(1)])
    chunked = type(given)(given.images, halves)
    assert chunked.annotations["text"].num_chunks == 2
    verdicts = judge(make(name), chunked)
    assert verdicts.rejected.to_pylist() == [False, True]


def test_an_unknown_rule_is_refused_with_the_nearest_known_first():
    with pytest.raises(
        ConfigError, match=r"rule 'min_scor' is not known; did you mean 'min_score'"
    ):
        RULES.find("min_scor")


def test_duplicate_region_takes_a_crowded_image_without_quadratic_memory():
    """Half a million disjoint boxes in one group: comparing every two would need terabytes."""
    count = 500_000
    x = np.arange(count, dtype=np.float32)
    boxes = np.stack([x, np.zeros(count), x + 0.9, np.ones(count)], axis=1).astype(np.float32)
    given = tables(box=boxes, width=count + 1, annotation_id=["x"] * count)
    verdicts = RULES.find("duplicate_region")().judge(given, all_fresh(given))
    assert not verdicts.rejected.to_numpy(zero_copy_only=False).any()
