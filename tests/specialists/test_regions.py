"""Which regions a specialist looks at, and the crops around them."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from odd_pictures import turned
from specialist_photos import noise

from engine.schema import empty_claims
from specialists.regions import Regions, crop_bounds, crops_of
from tests.builders import rows

PICTURES = [noise("b", 60, 40), noise("a", 100, 80)]


def chosen(table, *, roles=("category",), min_side_px=1, max_regions=99):
    """Ids of the rows that tell the regions, and the images they are on."""
    found = Regions.find(PICTURES, table, roles, min_side_px=min_side_px, max_regions=max_regions)
    return found.rows["annotation_id"].to_pylist(), found.images.tolist()


@pytest.mark.parametrize("images", [[], PICTURES])
def test_no_rows_are_no_regions(images):
    found = Regions.find(images, empty_claims(), ["category"], min_side_px=1, max_regions=9)
    assert len(found) == 0
    assert list(crops_of(images, found, 0.1)) == []


def test_regions_come_in_the_order_of_the_images_and_then_of_the_rows():
    table = rows(image_key=["a", "b", "a", "b"], box=[[0, 0, 9, 9]] * 4)
    assert chosen(table) == (["row-1", "row-3", "row-0", "row-2"], [0, 0, 1, 1])


@pytest.mark.parametrize(
    ("columns", "left"),
    [
        pytest.param({"ignore": [True, False]}, ["row-1"], id="a-crowd"),
        pytest.param({"role": ["ocr", "category"]}, ["row-1"], id="another-role"),
        pytest.param({"kind": ["grounding", "region"]}, ["row-1"], id="another-kind"),
        pytest.param({"box": [None, [0, 0, 9, 9]]}, ["row-1"], id="no-box"),
        pytest.param({"box": [[100, 0, 120, 9], [0, 0, 9, 9]]}, ["row-1"], id="outside"),
        pytest.param({"box": [[9, 0, 0, 9], [0, 0, 9, 9]]}, ["row-1"], id="inside-out"),
        pytest.param({"box": [[0, 0, float("nan"), 9], [0, 0, 9, 9]]}, ["row-1"], id="nan"),
        pytest.param({"box": [[0, 0, 4.5, 9], [0, 0, 9, 5]]}, ["row-1"], id="too-narrow"),
        pytest.param({"box": [[96, 0, 140, 9], [0, 0, 9, 9]]}, ["row-1"], id="too-narrow-inside"),
        pytest.param({"region_id": ["r", "r"]}, ["row-0"], id="one-region-told-twice"),
        pytest.param({"region_id": [None, None]}, ["row-0", "row-1"], id="regions-of-no-name"),
        pytest.param({"image_key": ["z", "a"]}, ["row-1"], id="an-image-not-given"),
    ],
)
def test_a_region_is_the_first_row_of_its_role_with_a_box_inside(columns, left):
    table = rows(**{"box": [[0, 0, 9, 9]] * 2, **columns})
    assert chosen(table, min_side_px=5)[0] == left


@pytest.mark.parametrize(
    ("columns", "left"),
    [
        pytest.param({"score": [0.1, 0.3, 0.2]}, ["row-1", "row-2"], id="by-score"),
        pytest.param({"score": [None, 0.0, 0.1]}, ["row-1", "row-2"], id="without-score-last"),
        pytest.param(
            {"box": [[0, 0, 3, 3], [0, 0, 2, 2], [0, 0, 4, 4]]}, ["row-0", "row-2"], id="by-area"
        ),
        pytest.param(
            {"box": [[0, 0, 9, 9], [0, 0, 2, 2], [0, 0, 3, 3]], "score": [0.1, 0.3, 0.2]},
            ["row-1", "row-2"],
            id="by-score-before-area",
        ),
        pytest.param({}, ["row-0", "row-1"], id="all-alike"),
    ],
)
def test_an_image_with_too_many_regions_keeps_its_best(columns, left):
    table = rows(**{"box": [[0, 0, 9, 9]] * 3, **columns})
    assert chosen(table, max_regions=2)[0] == left


def test_the_limit_holds_for_each_image_alone():
    table = rows(image_key=["a", "a", "b", "b"], box=[[0, 0, 9, 9]] * 4, score=[1, 2, 4, 3])
    assert chosen(table, max_regions=1) == (["row-2", "row-1"], [0, 1])


sides = st.integers(1, 5000)
shares = st.tuples(*[st.floats(0, 1)] * 4)


@given(width=sides, height=sides, shares=shares, margin=st.floats(0, 1))
def test_a_crop_holds_its_box_and_at_least_a_pixel_and_stays_inside(width, height, shares, margin):
    x_min, x_max = sorted(np.float32(share) * width for share in shares[:2])
    y_min, y_max = sorted(np.float32(share) * height for share in shares[2:])
    box = np.array([[x_min, y_min, x_max, y_max]], np.float32)
    if not (box[0, 0] < box[0, 2] <= width and box[0, 1] < box[0, 3] <= height):
        return
    left, top, right, bottom = crop_bounds(box, np.array([[width, height]], float), margin)[0]
    assert 0 <= left < right <= width
    assert 0 <= top < bottom <= height
    assert left <= box[0, 0] < box[0, 2] <= right
    assert top <= box[0, 1] < box[0, 3] <= bottom


def test_a_margin_is_a_share_of_the_boxs_own_side_on_every_side():
    box = np.array([[20, 20, 40, 30]], np.float32)
    assert crop_bounds(box, np.array([[100.0, 80.0]]), 0.1).tolist() == [[18, 19, 42, 31]]
    assert crop_bounds(box, np.array([[100.0, 80.0]]), 1).tolist() == [[0, 10, 60, 40]]
    assert crop_bounds(box, np.array([[41.0, 80.0]]), 1).tolist() == [[0, 10, 41, 40]]


def test_crops_are_cut_from_the_upright_picture():
    picture = turned("a", 30, 50, seed=1)
    table = rows(box=[[3, 4, 10, 20], [0, 0, 30, 50]])
    found = Regions.find([picture], table, ["category"], min_side_px=1, max_regions=9)
    first, whole = (np.asarray(crop) for crop in crops_of([picture], found, 0))
    pixels = picture.rgb()
    assert np.array_equal(first, pixels[4:20, 3:10])
    assert np.array_equal(whole, pixels)
