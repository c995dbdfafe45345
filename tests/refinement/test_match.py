"""Labels and predictions side by side; what is made of them is in the tests of the policies."""

import numpy as np
import pytest

from refinement.match import has_place, match, row_certainty, rows_of
from tests.builders import rows
from tests.refinement.relabel_tables import BOX, CLOSE, FAR, NEAR, said


def partners(kept, predicted, ignored=None, **limits):
    ignored = rows().slice(0, 0) if ignored is None else ignored
    found = match(kept, predicted, ignored, **{"agree_iou": 0.5, "near_iou": 0.1, **limits})
    return found.partner.tolist()


def test_nothing_matches_nothing():
    nothing = rows()
    assert partners(nothing, nothing) == []
    assert partners(rows(box=[BOX]), nothing) == [-1]
    assert partners(nothing, said(box=[BOX])) == []


def test_rows_meet_those_of_their_image_and_role_alone():
    kept = rows(image_key=["a", "b"], box=[BOX, BOX])
    assert partners(kept, said(image_key=["b"], box=[BOX])) == [-1, 0]
    assert partners(kept, said(image_key=["a"], role="phrase", box=[BOX])) == [-1, -1]


@pytest.mark.parametrize(
    ("text", "box", "partner"),
    [
        pytest.param("dog", BOX, 0, id="the-same"),
        pytest.param(" DOG ", BOX, 0, id="case-and-blanks-do-not-count"),
        pytest.param("dog", NEAR, 0, id="same-text-shifted"),
        pytest.param("cat", CLOSE, 0, id="other-text-same-place"),
        pytest.param("cat", NEAR, -1, id="other-text-elsewhere"),
        pytest.param("dog", FAR, -1, id="same-text-far-away"),
    ],
)
def test_what_can_be_a_partner(text, box, partner):
    assert partners(rows(text=["dog"], box=[BOX]), said(text=[text], box=[box])) == [partner]


def test_the_best_overlap_goes_first_and_nothing_is_used_twice():
    kept = rows(text=["dog", "dog"], box=[NEAR, BOX])
    assert partners(kept, said(text=["dog"], box=[CLOSE])) == [-1, 0]
    assert partners(kept, said(text=["dog", "dog"], box=[CLOSE, BOX])) == [0, 1]


def test_the_same_text_goes_before_a_better_overlap_of_another():
    kept = rows(text=["dog"], box=[BOX])
    assert partners(kept, said(text=["cat", "dog"], box=[BOX, NEAR])) == [1]


def test_of_equal_overlaps_the_more_certain_one_wins_then_the_smaller_id():
    kept = rows(text=["dog"], box=[BOX])
    assert partners(kept, said(text=["dog"] * 2, box=[BOX] * 2, score=[0.5, 0.6])) == [1]
    twins = said(text=["dog"] * 2, box=[BOX] * 2, annotation_id=["z", "y"])
    assert partners(kept, twins) == [1]


def test_a_label_that_is_supported_takes_no_prediction_of_another_text():
    kept = rows(text=["dog", "dog"], box=[BOX, BOX])
    predicted = said(text=["dog", "cat"], box=[BOX, BOX])
    found = match(kept, predicted, rows().slice(0, 0), agree_iou=0.5, near_iou=0.1)
    assert sorted(found.partner.tolist()) == [-1, 0]
    assert found.supported.tolist() == [True, True]


def test_a_category_lies_in_a_crowd_of_its_class_alone_and_a_transcript_in_any():
    kept, inner = rows().slice(0, 0), [2, 2, 4, 4]
    crowd = rows(text=["person", "###"], role=["category", "ocr"], box=[BOX, BOX], ignore=True)
    predicted = said(
        text=["person", "dog", "STOP", "person"],
        role=["category", "category", "ocr", "category"],
        box=[inner, inner, inner, [6, 0, 16, 10]],
    )
    found = match(kept, predicted, crowd, agree_iou=0.5, near_iou=0.1)
    assert found.inside_ignored.tolist() == [True, False, True, False]


def test_certainty_is_the_product_of_the_scores_there_are():
    given = rows(score=[0.5, 0.5, None, None], text_score=[0.5, None, 0.4, None])
    np.testing.assert_allclose(row_certainty(given), [0.25, 0.5, 0.4, np.nan])


def test_only_captions_and_regions_with_a_box_have_a_place():
    given = rows(
        kind=["region", "region", "region", "text", "grounding"],
        role=["category", "category", "category", "brief", "phrase"],
        box=[BOX, [5, 5, 5, 9], None, None, BOX],
    )
    assert has_place(given).tolist() == [True, False, False, True, False]
    chosen = rows_of(given, ["region/category"], given["image_key"].combine_chunks())
    assert chosen.tolist() == [True, False, False, False, False]
