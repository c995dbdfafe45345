"""Rules on the shape of a box. What is no box at all is in test_region_rules.py."""

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.geometry import area
from filters.region_boxes import AspectRatio, BorderSliver, MaxAreaFraction
from tests.builders import all_fresh, tables

NAN, INF = float("nan"), float("inf")
RULES = [MaxAreaFraction, AspectRatio, BorderSliver]


def judge(rule, given, *, kept=()):
    return rule.judge(given, all_fresh(given, kept=kept))


def one(rule, box, **columns):
    """Whether a rule rejects a box on an image of 100 x 80 px, and what it measured."""
    verdicts = judge(rule, tables(box=[box], **columns))
    return verdicts.rejected.to_pylist()[0], verdicts.measured.to_pylist()[0]


@pytest.mark.parametrize(
    ("box", "rejected", "measured"),
    [
        pytest.param([0, 0, 100, 40], False, 0.5, id="at-the-limit"),
        pytest.param([0, 0, 100, 41], True, 0.5125, id="above"),
        pytest.param([0, -50, 100, 40], False, 0.5, id="only-the-part-inside-counts"),
        pytest.param([5, 5, 5, 9], False, 0, id="encloses-nothing"),
        pytest.param(None, False, None, id="no-box"),
    ],
)
def test_max_area_fraction_measures_the_share_of_the_image(box, rejected, measured):
    found = one(MaxAreaFraction(max_area_fraction=0.5), box)
    assert found == (rejected, None if measured is None else np.float32(measured))


def test_max_area_fraction_lets_a_phrase_name_the_whole_scene():
    given = tables(
        box=[[0, 0, 100, 80]] * 4,
        role=["category", "phrase", "phrase", "brief"],
        kind=["region", "region", "grounding", "region"],
    )
    assert judge(MaxAreaFraction(), given).rejected.to_pylist() == [True, False, False, False]
    asked = MaxAreaFraction(roles=("phrase",))
    assert judge(asked, given).rejected.to_pylist() == [False, True, True, False]


@pytest.mark.parametrize("rule", [MaxAreaFraction(), BorderSliver()])
def test_rules_on_the_image_leave_images_of_unknown_size_alone(rule):
    assert one(rule, [0, 0, 2, 900], width=None, height=None) == (False, None)


@pytest.mark.parametrize(
    ("box", "rejected", "measured"),
    [
        pytest.param([10, 10, 30, 15], False, 4, id="at-the-limit"),
        pytest.param([10, 10, 15, 31], True, 4.2, id="upright-too"),
        pytest.param([5, 5, 5, 9], False, None, id="encloses-nothing"),
        pytest.param([NAN, 5, 9, 9], False, None, id="nan"),
        pytest.param([0, 0, INF, 9], False, None, id="infinite"),
        pytest.param(None, False, None, id="no-box"),
    ],
)
def test_aspect_ratio_measures_the_longer_side_over_the_shorter(box, rejected, measured):
    found = one(AspectRatio(max_ratio=4), box)
    assert found == (rejected, None if measured is None else np.float32(measured))


def test_aspect_ratio_lets_a_line_of_text_be_long():
    given = tables(box=[[0, 0, 90, 1]] * 2, role=["ocr", "category"])
    assert judge(AspectRatio(), given).rejected.to_pylist() == [False, True]


@pytest.mark.parametrize(
    ("box", "rejected", "measured"),
    [
        pytest.param([0, 10, 4, 60], False, 4, id="at-the-limit"),
        pytest.param([0, 10, 3.5, 60], True, 3.5, id="left"),
        pytest.param([97, 10, 100, 60], True, 3, id="right"),
        pytest.param([10, 0, 60, 2], True, 2, id="top"),
        pytest.param([10, 78.5, 60, 80], True, 1.5, id="bottom"),
        pytest.param([-20, 10, 3, 60], True, 3, id="only-the-part-inside-counts"),
        pytest.param([1, 10, 4, 60], True, 3, id="within-the-margin"),
        pytest.param([1.5, 10, 4, 60], False, None, id="thin-but-not-at-a-border"),
        pytest.param([0, 10, 50, 12], False, 50, id="thin-along-no-border"),
        pytest.param([0, 78, 100, 80], True, 2, id="several-borders-the-least"),
        pytest.param([-20, 10, -5, 60], False, None, id="outside"),
        pytest.param(None, False, None, id="no-box"),
    ],
)
def test_border_sliver_measures_how_far_a_box_reaches_in(box, rejected, measured):
    assert one(BorderSliver(min_depth_px=4), box) == (rejected, measured)


@pytest.mark.parametrize(
    ("rule", "box"),
    [
        (MaxAreaFraction(), [0, 0, 100, 80]),
        (AspectRatio(), [10, 10, 90, 11]),
        (BorderSliver(), [0, 0, 2, 40]),
    ],
)
def test_shape_rules_leave_alone_what_only_says_where_not_to_look(rule, box):
    given = tables(box=[box, box], ignore=[True, False])
    assert judge(rule, given).rejected.to_pylist() == [False, True]


@pytest.mark.parametrize("rule", RULES)
def test_shape_rules_say_nothing_of_captions(rule):
    given = tables(box=[[0, 0, 100, 80]], kind="text", role="brief")
    verdicts = judge(rule(), given)
    assert verdicts.rejected.to_pylist() == [False]
    assert verdicts.measured.to_pylist() == [None]


@pytest.mark.parametrize("rule", RULES)
def test_shape_rules_take_each_row_by_its_own_image(rule):
    given = tables(image_key=["b", "a", "b"], box=[[0, 0, 40, 40], [0, 0, 40, 40], [0, 0, 3, 70]])
    alone = [
        judge(rule(), tables(image_key=[key], box=[box])).rejected.to_pylist()[0]
        for key, box in zip(["b", "a", "b"], given.annotations["box"].to_pylist(), strict=True)
    ]
    assert judge(rule(), given).rejected.to_pylist() == alone


ODD = st.sampled_from([0, 1, 3e38, -3e38, 1e-38, INF, -INF, NAN])


@given(st.lists(st.lists(st.floats(width=32) | ODD, min_size=4, max_size=4), max_size=20))
@settings(max_examples=100, deadline=None)
@pytest.mark.parametrize("rule", RULES)
def test_shape_rules_have_a_verdict_for_any_numbers(rule, boxes):
    array = np.array(boxes, np.float32).reshape(-1, 4)
    for size in ({}, {"width": None, "height": None}):
        verdicts = judge(rule(), tables(box=array, **size))
        rejected, measured = verdicts.rejected.to_pylist(), verdicts.measured.to_pylist()
        assert len(rejected) == len(boxes)
        assert not any(no for no, number in zip(rejected, measured, strict=True) if number is None)


@pytest.mark.parametrize("rule", RULES)
def test_defaults_keep_every_box_people_drew(data, rule):
    """Crowds too; `invalid_box` and `min_area` have theirs in test_region_rules.py."""
    truth = json.loads((data / "coco80/annotations/instances.json").read_text())
    sizes = {image["id"]: (image["width"], image["height"]) for image in truth["images"]}
    rejected = 0
    for image, (width, height) in sizes.items():
        xywh = np.array([r["bbox"] for r in truth["annotations"] if r["image_id"] == image])
        boxes = np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)
        drawn = tables(box=boxes.astype(np.float32), width=width, height=height)
        assert area(boxes.astype(np.float32)).min() > 0
        rejected += sum(judge(rule(), drawn).rejected.to_pylist())
    assert rejected == 0


@pytest.mark.parametrize(
    ("rule", "options", "complaint"),
    [
        (MaxAreaFraction, {"max_area_fraction": 0}, "max_area_fraction is 0; it is a share"),
        (MaxAreaFraction, {"max_area_fraction": 95}, "max_area_fraction is 95; it is a share"),
        (AspectRatio, {"max_ratio": 0.5}, "max_ratio is 0.5; the longer side"),
        (AspectRatio, {"max_ratio": NAN}, "max_ratio is nan; the longer side"),
        (BorderSliver, {"min_depth_px": 0}, "min_depth_px is 0; it is a length in px, above 0"),
        (BorderSliver, {"margin_px": -1}, "margin_px is -1; it is a length in px, 0 or more"),
        (BorderSliver, {"roles": ()}, "roles is empty; allowed: category"),
        (AspectRatio, {"roles": ("catgory",)}, "roles names 'catgory'; allowed: category"),
    ],
)
def test_shape_rules_refuse_limits_that_are_none(rule, options, complaint):
    with pytest.raises(ConfigError, match=complaint):
        rule(**options)
