"""Every rule of the table: that it is found, keeps, rejects, and says nothing of no rows."""

import pickle

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import ConfigError
from engine.protocols import Context
from engine.schema import ANNOTATIONS, Tables, empty_claims, image_rows
from filters import RULES
from tests.builders import all_fresh, tables

# One row each rule keeps and one it rejects, in this order.
KEEPS_THEN_REJECTS = {
    "invalid_box": {"box": [[0, 0, 100, 80], [0, 0, 101, 80]]},
    "min_score": {"score": [0.9, 0.1]},
    "min_area": {"box": [[0, 0, 9, 9], [0, 0, 2, 2]]},
    "max_area_fraction": {"box": [[0, 0, 50, 80], [0, 0, 100, 80]]},
    "aspect_ratio": {"box": [[0, 0, 50, 5], [0, 0, 50, 2]]},
    "border_sliver": {"box": [[0, 0, 9, 20], [0, 0, 8, 20]]},
    "class_list": {"text": ["dog", "cats"]},
    "duplicate_region": {"box": [[0, 0, 9, 9], [0, 0, 9, 9]], "score": [0.9, 0.1]},
    "contained_region": {"box": [[0, 0, 9, 9], [0, 0, 6, 6]], "score": [0.9, 0.1]},
    "max_regions": {"score": [0.9, 0.1]},
    "agreement": {"box": [[0, 0, 9, 9], [0, 0, 4, 4]], "human": [True, False]},
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
# The same for rules that read captions: the row of another kind they compare with comes first.
CROSSCHECKS = {
    "unsupported_nouns": {"kind": ["region", "text"], "text": ["dog", "A cat."]},
    "unnamed_region": {"kind": ["text", "region"], "text": ["A cat.", "dog"]},
}
ROLES = {"region": "category", "text": "brief"}
# The same for rules on images.
IMAGES = {
    "image_size": {"width": [200, 199], "height": [200, 200]},
    "image_aspect": {"width": [300, 301], "height": [100, 100]},
    "blank": {"contrast": [50.0, 0.0]},
    "blurred": {"sharpness": [500.0, 0.0]},
    "exact_duplicate": {"sha256": ["0" * 64, "0" * 64]},
    "near_duplicate": {"phash": ["00ff00ff00ff00ff", "00ff00ff00ff00fe"]},
    "decontaminate": {"phash": ["00ff00ff00ff00ff", "ff00ff00ff00ff00"]},
}
# Options of rules that have none by default, or whose default needs more rows than two.
OPTIONS = {
    "class_list": {"deny": ("cat",)},
    "max_boxes_per_phrase": {"max_boxes": 1},
    "max_regions": {"max_regions": 1},
    "decontaminate": {"hashes": "HASHES"},
}

# What a rule over the whole dataset has seen in another shard.
ELSEWHERE = {
    "frequent_text": {
        "kind": "text",
        "role": "alt",
        "text": ["Home page"] * 10,
        "image_key": list("bcdefghijk"),
    }
}


@pytest.fixture(scope="module")
def make(tmp_path_factory):
    """A rule by its name, with the options it cannot do without."""
    hashes = tmp_path_factory.mktemp("rules") / "hashes.txt"
    hashes.write_text("ff00ff00ff00ff00")

    def make(name):
        options = OPTIONS.get(name, {})
        return RULES.find(name)(
            **{key: str(hashes) if key == "hashes" else value for key, value in options.items()}
        )

    return make


def example(name, count=2):
    """The rows of a rule's example, or the first so many of them."""
    if name in IMAGES:
        columns = {key: values[:count] for key, values in IMAGES[name].items()}
        keys = [f"i{n}" for n in range(count)]
        return Tables(image_rows(image_key=keys, status="ok", **columns), empty_claims())
    if name in CROSSCHECKS:
        columns = CROSSCHECKS[name]
        columns = {**columns, "role": [ROLES[kind] for kind in columns["kind"]]}
    else:
        columns = KEEPS_THEN_REJECTS[name]
    given = tables(**columns)
    return Tables(given.images, given.annotations.slice(0, count))


def judge(rule, given):
    fresh = np.ones((given.images if is_on_images(rule) else given.annotations).num_rows, bool)
    decisions = None
    if hasattr(rule, "measure"):
        elsewhere = [tables(**ELSEWHERE[rule.name])] if rule.name in ELSEWHERE else []
        measured = pa.concat_tables([rule.measure(shard) for shard in [*elsewhere, given]])
        decisions = rule.reduce(measured)
    return rule.judge(given, Context(fresh=fresh, decisions=decisions))


def is_on_images(rule):
    return rule.applies_to == ("image",)


def test_every_rule_has_an_example_here():
    assert {*KEEPS_THEN_REJECTS, *CROSSCHECKS, *IMAGES} == RULES.table.keys()


@pytest.mark.parametrize("name", RULES.table)
def test_every_rule_can_both_keep_and_reject(make, name):
    rule = make(name)
    assert rule.name == name
    assert is_on_images(rule) == (name in IMAGES)
    assert judge(rule, example(name)).rejected.to_pylist() == [False, True]


@pytest.mark.parametrize("name", RULES.table)
def test_every_rule_says_nothing_of_no_rows(make, name):
    verdicts = judge(make(name), example(name, count=0))
    for column in (verdicts.rejected, verdicts.measured, verdicts.limit, verdicts.against):
        assert column is None or isinstance(column, (int, float)) or len(column) == 0


@pytest.mark.parametrize("name", RULES.table)
def test_every_rule_answers_in_the_types_of_the_verdict_columns(make, name):
    verdicts = judge(make(name), example(name))
    assert verdicts.rejected.type == pa.bool_()
    assert verdicts.rejected.null_count == 0
    for column in ("measured", "limit", "against"):
        answer = getattr(verdicts, column)
        if isinstance(answer, pa.Array):
            assert answer.type == ANNOTATIONS.field(column).type


@pytest.mark.parametrize("name", [*KEEPS_THEN_REJECTS])
def test_every_rule_judges_the_kinds_it_names_and_no_other(make, name):
    rule = make(name)
    others = {"text", "region", "grounding"} - set(rule.applies_to)
    for kind in others:
        of_kind = tables(**{**KEEPS_THEN_REJECTS[name], "kind": kind})
        assert not any(judge(rule, of_kind).rejected.to_pylist())


@pytest.mark.parametrize("name", RULES.table)
def test_every_rule_says_the_same_of_chunked_rows(make, name):
    given = example(name)
    images, rows = (
        pa.concat_tables([table.slice(0, 1), table.slice(1)])
        for table in (given.images, given.annotations)
    )
    chunked = Tables(images, rows)
    assert "image" in make(name).applies_to or chunked.annotations["text"].num_chunks == 2
    assert judge(make(name), chunked).rejected.to_pylist() == [False, True]


@pytest.mark.parametrize("name", RULES.table)
def test_every_rule_survives_the_trip_to_a_worker(make, name):
    rule = make(name)
    judge(rule, example(name))  # whatever it keeps from one call to the next travels too
    arrived = pickle.loads(pickle.dumps(rule))
    assert arrived == rule
    assert judge(arrived, example(name)).rejected.to_pylist() == [False, True]


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
