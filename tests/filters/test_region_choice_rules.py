"""Which regions of an image are kept by their number and by their class."""

import pytest

from engine.errors import ConfigError
from filters.region_classes import ClassList
from filters.region_scores import MaxRegions
from tests.builders import all_fresh, tables


def rejected_by(rule, *, kept=(), **columns):
    given = tables(**columns)
    return rule.judge(given, all_fresh(given, kept=kept)).rejected.to_pylist()


@pytest.mark.parametrize(
    ("columns", "rejected"),
    [
        pytest.param({"score": []}, [], id="no-rows"),
        pytest.param({"score": [0.1, 0.9]}, [False, False], id="just-as-many-as-allowed"),
        pytest.param({"score": [0.5, 0.1, 0.9]}, [False, True, False], id="the-worst-goes"),
        pytest.param({"score": [None, 0.1, 0.1]}, [True, False, False], id="no-score-comes-last"),
        pytest.param({"score": [0.5, 0.5, 0.5]}, [False, False, True], id="ties-keep-the-earlier"),
        pytest.param(
            {"score": [0.5, 0.9, 0.9], "human": [True, False, False]},
            [False, False, True],
            id="a-person-first",
        ),
        pytest.param(
            {"score": [0.1, 0.9, 0.8], "ignore": [True, False, False]},
            [False, False, False],
            id="crowds-do-not-count",
        ),
        pytest.param(
            {"score": [0.1, 0.9, 0.8], "image_key": ["b", "a", "a"]},
            [False, False, False],
            id="each-image-by-itself",
        ),
        pytest.param(
            {"score": [0.1, 0.9, 0.8], "role": ["phrase", "category", "category"]},
            [False, False, False],
            id="each-role-by-itself",
        ),
        pytest.param({"score": [0.1, 0.9, 0.8], "role": "ocr"}, [False] * 3, id="text-lines"),
        pytest.param({"score": [0.1, 0.9, 0.8], "kind": "grounding"}, [False] * 3, id="no-region"),
    ],
)
def test_max_regions_keeps_the_best_of_an_image(columns, rejected):
    assert rejected_by(MaxRegions(max_regions=2), **columns) == rejected


def test_max_regions_counts_kept_rows_of_earlier_levels_and_never_rejects_them():
    columns = {"score": [0.9, 0.1, 0.2, 0.8]}
    rule = MaxRegions(max_regions=2)
    assert rejected_by(rule, kept=[1, 2], **columns) == [True, False, False, True]
    assert rejected_by(rule, kept=[1, 2, 3], **columns) == [True, False, False, False]


def test_max_regions_measures_the_rank():
    given = tables(score=[0.1, 0.3, 0.9, 0.2])
    verdicts = MaxRegions(max_regions=1).judge(given, all_fresh(given))
    assert verdicts.measured.to_pylist() == [4, 2, None, 3]
    assert verdicts.limit.to_pylist() == [1] * 4


def test_max_regions_per_class_leaves_room_for_other_classes():
    """Five dogs must not take the place of the only cat."""
    columns = {
        "text": ["dog", "Dog", "dog", "dog", "cat", "bird"],
        "score": [0.9, 0.8, 0.7, 0.6, 0.5, 0.4],
    }
    given = tables(**columns)
    verdicts = MaxRegions(max_regions=3, per_class=2).judge(given, all_fresh(given))
    assert verdicts.rejected.to_pylist() == [False, False, True, True, False, True]
    assert verdicts.measured.to_pylist() == [None, None, 3, 4, None, 4]
    assert verdicts.limit.to_pylist() == [3, 3, 2, 2, 3, 3]


@pytest.mark.parametrize("options", [{"max_regions": 0}, {"per_class": 0}])
def test_max_regions_refuses_to_keep_none(options):
    with pytest.raises(ConfigError, match=r"is 0; allowed: 1 or more"):
        MaxRegions(**options)


def test_class_list_denies_a_class_by_any_of_its_names():
    labels = ["Sofa", "couch", "COUCHES", "settee", "chair", None]
    given = tables(text=labels)
    verdicts = ClassList(deny=("sofas",)).judge(given, all_fresh(given))
    assert verdicts.rejected.to_pylist() == [True, True, True, True, False, False]
    assert verdicts.against.to_pylist() == ["sofas"] * 4 + [None, None]
    assert verdicts.measured is None


@pytest.mark.parametrize(
    ("options", "labels", "rejected"),
    [
        pytest.param({"deny": ["dog"]}, [], [], id="no-rows"),
        pytest.param({"allow": ["dog"]}, ["dogs", "cat"], [False, True], id="allowed-only"),
        pytest.param(
            {"allow": ["vehicle"]}, ["car", "Buses", "dog"], [False, False, True], id="kinds"
        ),
        pytest.param(
            {"allow": ["vehicle"], "kinds": False}, ["car", "vehicle"], [True, False], id="no-kinds"
        ),
        pytest.param({"deny": ["car"]}, ["vehicle"], [False], id="not-what-holds-a-class"),
        pytest.param(
            {"allow": ["vehicle"], "deny": ["car"]}, ["car", "bus"], [True, False], id="deny-wins"
        ),
        pytest.param({"allow": ["wine glass"]}, ["Wine_Glasses"], [False], id="joints-and-plural"),
        pytest.param({"allow": ["gizmo"]}, ["Gizmos", "gadget"], [False, True], id="not-in-table"),
        pytest.param(
            {"deny": ["gizmo"], "synonyms": {"gizmo": ["gadget"]}}, ["gadget"], [True], id="more"
        ),
        pytest.param(
            {"deny": ["tool"], "hypernyms": {"tool": ["gizmo"]}}, ["gizmo"], [True], id="more-kinds"
        ),
    ],
)
def test_class_list_goes_by_class_and_kind(options, labels, rejected):
    assert rejected_by(ClassList(**options), text=labels) == rejected


def test_class_list_judges_classes_only():
    columns = {"role": ["category", "phrase", "ocr"], "text": ["dog", "dog", "dog"]}
    assert rejected_by(ClassList(deny=("dog",)), **columns) == [True, False, False]


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({}, "allow and deny are empty"),
        ({"deny": ["dog", " "]}, "deny has an empty name"),
        ({"deny": ["dog"], "kinds": False, "hypernyms": {"a": ["b"]}}, "hypernyms has no effect"),
        ({"deny": ["dog"], "synonyms": {"a": ["b"], "c": ["b"]}}, "'b' stands for 'a' and for 'c'"),
    ],
)
def test_class_list_refuses_lists_without_meaning(options, complaint):
    with pytest.raises(ConfigError, match=complaint):
        ClassList(**options)
