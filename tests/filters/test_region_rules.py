"""Rules on boxes and scores: limits, null and who wins."""

import json

import numpy as np
import pytest

from engine.errors import ConfigError
from engine.geometry import area
from filters.region_boxes import InvalidBox, MinArea
from filters.region_duplicates import DuplicateRegion
from filters.region_scores import MinScore
from tests.builders import all_fresh, tables

NAN, INF = float("nan"), float("inf")


def judge(rule, given, *, kept=()):
    return rule.judge(given, all_fresh(given, kept=kept))


@pytest.mark.parametrize(
    ("box", "rejected", "measured"),
    [
        pytest.param([0, 0, 100, 80], False, 0, id="just-the-image"),
        pytest.param([0, 0, 100.5, 80], True, 0.5, id="right"),
        pytest.param([0, -3, 100, 82], True, 3, id="worst-side-counts"),
        pytest.param([-1, 0, 10, 10], True, 1, id="left"),
        pytest.param([5, 5, 5, 10], True, None, id="no-width"),
        pytest.param([5, 10, 9, 5], True, None, id="upside-down"),
        pytest.param([NAN, 0, 5, 5], True, None, id="nan"),
        pytest.param([0, 0, INF, 5], True, None, id="infinite"),
        pytest.param(None, True, None, id="region-without-box"),
    ],
)
def test_invalid_box_measures_how_far_a_region_reaches_out(box, rejected, measured):
    verdicts = judge(InvalidBox(), tables(box=[box]))
    assert verdicts.rejected.to_pylist() == [rejected]
    assert verdicts.measured.to_pylist() == [measured]
    assert verdicts.limit == 0


def test_invalid_box_leaves_grounding_without_a_box_and_texts_alone():
    given = tables(box=[None, None, [5, 5, 1, 1]], kind=["grounding", "text", "grounding"])
    assert judge(InvalidBox(), given).rejected.to_pylist() == [False, False, True]


def test_invalid_box_knows_no_far_side_where_the_size_is_unknown():
    given = tables(box=[[0, 0, 9e5, 9e5], [-1, 0, 5, 5]], width=None, height=None)
    assert judge(InvalidBox(), given).rejected.to_pylist() == [False, True]


def test_invalid_box_takes_each_row_by_its_own_image():
    given = tables(image_key=["b", "a", "b"], box=[[0, 0, 50, 50]] * 3)
    images = given.images.set_column(4, "width", [[100, 40]]).cast(given.images.schema)
    sized = type(given)(images, given.annotations)
    assert judge(InvalidBox(), sized).rejected.to_pylist() == [True, False, True]


@pytest.mark.parametrize(
    ("scores", "rejected"),
    [
        pytest.param([], [], id="no-rows"),
        pytest.param([0.25], [False], id="at-the-limit"),
        pytest.param([0.2, 0.75], [True, False], id="below-and-above"),
        pytest.param([None], [False], id="no-score-is-not-a-low-score"),
    ],
)
def test_min_score_marks_rows(scores, rejected):
    assert judge(MinScore(), tables(score=scores)).rejected.to_pylist() == rejected


def test_min_score_compares_in_float32_on_both_sides():
    given = tables(score=np.array([0.4, 0.1, 0.7], np.float32))
    limits = {"yolo": 0.4}
    assert judge(MinScore(limits=limits), given).rejected.to_pylist() == [False, True, False]


def test_min_score_prefers_source_and_class_to_source_to_star():
    given = tables(
        source=["yolo", "yolo", "other", "other"],
        text=["Person", "dog", "person", "dog"],
        score=[0.3] * 4,
    )
    rule = MinScore(limits={"*": 0.2, "yolo": 0.1, "yolo/person": 0.5, "other/dog": 0.35})
    verdicts = judge(rule, given)
    assert verdicts.rejected.to_pylist() == [True, False, False, True]
    assert verdicts.limit.to_pylist() == np.float32([0.5, 0.1, 0.2, 0.35]).tolist()


@pytest.mark.parametrize("columns", [{"source": [None]}, {"text": [None]}])
def test_min_score_takes_null_for_no_source_and_no_class(columns):
    rule = MinScore(limits={"*": 0.2, "yolo/thing": 0.9, "yolo/person": 0.9})
    assert judge(rule, tables(score=[0.3], **columns)).rejected.to_pylist() == [False]


def test_min_score_reads_the_text_score_only_of_a_row_without_box_score():
    given = tables(score=[None, 0.9], text_score=[0.1, 0.1])
    verdicts = judge(MinScore(), given)
    assert verdicts.rejected.to_pylist() == [True, False]
    assert verdicts.measured.to_pylist() == np.float32([0.1, 0.9]).tolist()


def test_min_score_judges_captions_only_by_their_source():
    given = tables(kind="text", text_score=[0.1, 0.1], source=["yolo", "captioner"])
    rule = MinScore(limits={"*": 0.25, "captioner": 0.2})
    assert judge(rule, given).rejected.to_pylist() == [False, True]


def test_min_score_judges_captions_of_regions_only_by_their_source_or_a_box_score():
    given = tables(
        role="brief",
        score=[None, 0.1, None],
        text_score=[-0.4, -0.4, -0.4],
        source=["region_caption", "region_caption", "captioner"],
    )
    rule = MinScore(limits={"*": 0.25, "captioner": 0.2})
    assert judge(rule, given).rejected.to_pylist() == [False, True, True]


def test_min_score_takes_the_role_for_the_class_of_a_caption():
    """One checkpoint gives boxes and captions; their scores are not on one scale."""
    given = tables(
        kind=["text", "text", "region"],
        role=["brief", "detailed", "category"],
        text=["detailed", "brief", "detailed"],
        text_score=[0.5, 0.5, None],
        score=[None, None, 0.5],
        source="florence2",
    )
    verdicts = judge(MinScore(limits={"florence2": 0.4, "florence2/detailed": 0.6}), given)
    assert verdicts.rejected.to_pylist() == [False, True, True]


def test_min_score_without_star_leaves_other_sources_alone():
    verdicts = judge(MinScore(limits={"other": 0.9}), tables(score=[0.1]))
    assert verdicts.rejected.to_pylist() == [False]
    assert verdicts.limit.to_pylist() == [None]


@pytest.mark.parametrize("limit", [25, -0.1, NAN])
def test_min_score_refuses_limits_outside_0_to_1(limit):
    with pytest.raises(ConfigError, match=r"limits.yolo is .*; scores lie in 0..1"):
        MinScore(limits={"yolo": limit})


def test_min_score_refuses_to_do_nothing():
    with pytest.raises(ConfigError, match="limits is empty"):
        MinScore(limits={})


@pytest.mark.parametrize(
    ("box", "rejected", "measured"),
    [
        pytest.param([0, 0, 4, 5], False, 20, id="at-the-limit"),
        pytest.param([0, 0, 4, 4.9], True, 19.6, id="below"),
        pytest.param([-90, 0, 1, 10], True, 10, id="only-the-part-inside-counts"),
        pytest.param(None, False, None, id="no-box"),
    ],
)
def test_min_area_measures_the_part_inside(box, rejected, measured):
    verdicts = judge(MinArea(min_area_px=20), tables(box=[box]))
    assert verdicts.rejected.to_pylist() == [rejected]
    assert verdicts.measured.to_pylist() == [None if measured is None else np.float32(measured)]


def test_min_area_default_keeps_every_box_people_drew(data):
    truth = json.loads((data / "coco80/annotations/instances.json").read_text())["annotations"]
    xywh = np.array([row["bbox"] for row in truth], np.float32)
    areas = area(np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1))
    assert len(areas) == 739
    assert MinArea().min_area_px < areas.min() < MinArea().min_area_px + 5


@pytest.mark.parametrize("limit", [0, -1, NAN, INF])
def test_min_area_refuses_what_is_no_area(limit):
    with pytest.raises(ConfigError, match=r"min_area_px is .*; it is an area above 0"):
        MinArea(min_area_px=limit)


HERE, NEAR, FAR = [0, 0, 10, 10], [0, 0, 10, 9], [50, 50, 60, 60]


def test_duplicate_region_keeps_the_best_and_names_it():
    given = tables(box=[NEAR, HERE, FAR], score=[0.5, 0.9, 0.1], source=["yolo", "other", "yolo"])
    verdicts = judge(DuplicateRegion(), given)
    assert verdicts.rejected.to_pylist() == [True, False, False]
    assert verdicts.measured.to_pylist() == [np.float32(0.9), None, None]
    assert verdicts.against.to_pylist() == ["row-1", None, None]
    assert verdicts.limit == 0.7


def test_duplicate_region_of_one_source_leaves_those_of_others_alone():
    """Before a vote, the second of two that agree must still be there."""
    given = tables(box=[NEAR, HERE, HERE], score=[0.5, 0.9, 0.8], source=["yolo", "other", "yolo"])
    verdicts = DuplicateRegion(across_sources=False).judge(given, all_fresh(given))
    assert verdicts.rejected.to_pylist() == [True, False, False]
    assert verdicts.against.to_pylist() == ["row-2", None, None]


def test_duplicate_region_allows_an_overlap_of_just_the_limit():
    given = tables(box=[HERE, [0, 0, 10, 7]], score=[0.9, 0.5])
    assert judge(DuplicateRegion(iou=0.7), given).rejected.to_pylist() == [False, False]
    assert judge(DuplicateRegion(iou=0.69), given).rejected.to_pylist() == [False, True]


@pytest.mark.parametrize(
    ("columns", "rejected"),
    [
        pytest.param({"text": ["Dog", "dog"]}, True, id="case-is-ignored"),
        pytest.param({"text": ["STRASSE", "Stra\u00dfe"]}, True, id="case-beyond-ascii"),
        pytest.param({"text": ["\u00d6l", "OL"]}, False, id="an-accent-is-no-case"),
        pytest.param({"text": [None, None]}, True, id="proposals-without-text"),
        pytest.param({"role": "ocr", "text": ["STOP", "Stop"]}, True, id="transcripts"),
        pytest.param({"text": ["dog", "cat"]}, False, id="other-text"),
        pytest.param({"text": ["dog", None]}, False, id="null-is-no-text-but-its-own"),
        pytest.param({"role": ["category", "phrase"]}, False, id="other-role"),
        pytest.param({"image_key": ["a", "b"]}, False, id="other-image"),
        pytest.param({"kind": ["region", "grounding"]}, False, id="other-kind"),
        pytest.param({"ignore": [False, True]}, False, id="a-crowd-is-not-its-member"),
        pytest.param({"ignore": [True, True]}, True, id="two-crowds"),
        pytest.param({"box": [HERE, None]}, False, id="no-box"),
        pytest.param({"parents": [None, ["row-0"]]}, False, id="refines-its-parent"),
        pytest.param({"parents": [None, ["elsewhere"]]}, True, id="parent-not-in-the-table"),
    ],
)
def test_duplicate_region_meets_only_rows_that_claim_the_same(columns, rejected):
    given = tables(**{"box": [HERE, HERE], "score": [0.9, 0.5], **columns})
    assert judge(DuplicateRegion(), given).rejected.to_pylist() == [False, rejected]


@pytest.mark.parametrize(
    ("columns", "kept", "winner"),
    [
        pytest.param({"score": [0.1, 0.9]}, [0], 0, id="kept-earlier-beats-score"),
        pytest.param({"score": [0.1, 0.9], "human": [True, False]}, [], 0, id="a-person-too"),
        pytest.param(
            {"score": [0.1, 0.9], "human": [True, False]}, [1], 1, id="kept-beats-a-person"
        ),
        pytest.param({"score": [None, 0.1]}, [], 1, id="no-score-comes-last"),
        pytest.param({"score": [0.5, 0.5]}, [], 0, id="ties-keep-the-earlier-row"),
        pytest.param({"text_score": [0.1, 0.9]}, [], 1, id="text-score-of-ocr"),
    ],
)
def test_duplicate_region_decides_who_wins(columns, kept, winner):
    verdicts = judge(DuplicateRegion(), tables(box=[HERE, NEAR], **columns), kept=kept)
    assert verdicts.rejected.to_pylist() == [winner == 1, winner == 0]
    assert verdicts.against.to_pylist()[1 - winner] == f"row-{winner}"


@pytest.mark.parametrize("iou", [-0.1, 70, NAN])
def test_duplicate_region_refuses_what_is_no_overlap(iou):
    with pytest.raises(ConfigError, match=r"iou is .*; an overlap lies in 0..1"):
        DuplicateRegion(iou=iou)
