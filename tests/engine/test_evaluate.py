"""Matching claims with truth by `score_regions`. What lies below it is in test_evaluate_boxes."""

import pytest

from engine.evaluate import score_regions
from tests.builders import rows

TRUE = {"box": [[0, 0, 10, 10], [50, 50, 70, 70]], "text": ["dog", "cat"]}


def test_score_regions_of_nothing_is_undefined():
    score = score_regions(rows(), rows())
    assert (score.num_matched, score.precision, score.recall, score.f1) == (0, None, None, None)


@pytest.mark.parametrize(
    ("claimed", "matched"),
    [
        pytest.param({"box": [], "text": []}, 0, id="nothing-claimed"),
        pytest.param(TRUE, 2, id="the-truth"),
        pytest.param({**TRUE, "text": ["DOG", "Cat"]}, 2, id="case-does-not-matter"),
        pytest.param({**TRUE, "text": ["cat", "dog"]}, 0, id="other-classes"),
        pytest.param({"box": [[0, 0, 10, 5]], "text": ["dog"]}, 1, id="iou-at-the-limit"),
        pytest.param({"box": [[0, 0, 10, 4.9]], "text": ["dog"]}, 0, id="iou-below-the-limit"),
        pytest.param({"box": [[0, 0, 10, 10]] * 3, "text": ["dog"] * 3}, 1, id="each-truth-once"),
        pytest.param(
            {"image_key": ["b"], "box": [[0, 0, 10, 10]], "text": ["dog"]}, 0, id="other-image"
        ),
    ],
)
def test_score_regions_matches_one_to_one(claimed, matched):
    score = score_regions(rows(**claimed), rows(**TRUE))
    assert (score.num_matched, score.num_claimed, score.num_true) == (
        matched,
        len(claimed["box"]),
        2,
    )


def test_score_regions_gives_the_better_score_its_choice():
    """The second box fits either truth, the first only one: greedy by score, as COCO does."""
    truth = rows(box=[[0, 0, 10, 10], [0, 0, 10, 14]], text=["dog", "dog"])
    boxes = [[0, 0, 10, 8], [0, 0, 10, 11]]
    sure_first = rows(box=boxes, text=["dog", "dog"], score=[0.9, 0.5])
    assert score_regions(sure_first, truth, min_iou=0.75).num_matched == 2
    sure_last = rows(box=boxes, text=["dog", "dog"], score=[0.5, 0.9])
    assert score_regions(sure_last, truth, min_iou=0.75).num_matched == 1


def test_score_regions_can_leave_texts_aside():
    claimed = rows(box=[[0, 0, 10, 10]], text=["something else"])
    assert score_regions(claimed, rows(**TRUE), same_text=False).num_matched == 1
    assert score_regions(claimed, rows(**TRUE)).num_matched == 0
