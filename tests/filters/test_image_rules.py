"""Rules on one image: size, shape, contrast and sharpness."""

import numpy as np
import pytest
from PIL import Image, ImageFilter

from engine.errors import ConfigError
from engine.pixels import probe
from engine.schema import Tables, empty_claims, image_rows
from engine.source.measures import contrast, sharpness
from filters.image import Blank, Blurred, ImageAspect, ImageSize
from tests.builders import all_fresh

NAN = float("nan")


def judge(rule, **columns):
    count = len(next(iter(columns.values())))
    images = image_rows(image_key=[f"i{n}" for n in range(count)], status="ok", **columns)
    given = Tables(images, empty_claims())
    return rule.judge(given, all_fresh(given))


@pytest.mark.parametrize(
    ("width", "height", "rejected", "measured", "limit"),
    [
        pytest.param(200, 400, False, 200, 200, id="at-both-limits"),
        pytest.param(300, 199, True, 199, 200, id="too-small"),
        pytest.param(401, 300, True, 401, 400, id="too-large"),
        pytest.param(401, 100, True, 100, 200, id="too-small-comes-first"),
        pytest.param(None, None, False, None, 200, id="unknown"),
    ],
)
def test_image_size_measures_the_side_that_is_wrong(width, height, rejected, measured, limit):
    verdicts = judge(ImageSize(max_side_px=400), width=[width], height=[height])
    assert verdicts.rejected.to_pylist() == [rejected]
    assert verdicts.measured.to_pylist() == [measured]
    assert verdicts.limit.to_pylist() == [limit]


def test_image_size_has_no_upper_limit_unless_asked():
    verdicts = judge(ImageSize(), width=[90_000, 90_000], height=[90_000, 100])
    assert verdicts.rejected.to_pylist() == [False, True]


@pytest.mark.parametrize(
    ("width", "height", "rejected", "measured"),
    [
        pytest.param(300, 100, False, 3, id="at-the-limit"),
        pytest.param(100, 301, True, 3.01, id="upright-too"),
        pytest.param(None, 100, False, None, id="unknown"),
        pytest.param(100, 0, False, None, id="no-height"),
    ],
)
def test_image_aspect_measures_the_longer_side_over_the_shorter(width, height, rejected, measured):
    verdicts = judge(ImageAspect(max_ratio=3), width=[width], height=[height])
    assert verdicts.rejected.to_pylist() == [rejected]
    assert verdicts.measured.to_pylist() == [None if measured is None else np.float32(measured)]


@pytest.mark.parametrize(
    ("rule", "column"),
    [(Blank(min_contrast=5), "contrast"), (Blurred(min_sharpness=5), "sharpness")],
)
def test_measured_columns_are_compared_with_the_limit(rule, column):
    verdicts = judge(rule, **{column: [5.0, 4.9, None, NAN, 0.0]})
    assert verdicts.rejected.to_pylist() == [False, True, False, False, True]
    assert verdicts.measured.to_pylist()[:2] == np.float32([5, 4.9]).tolist()
    assert verdicts.limit == 5


@pytest.mark.parametrize("rule", [ImageSize(), ImageAspect(), Blank(), Blurred()])
def test_image_rules_say_nothing_of_no_images(rule):
    verdicts = judge(rule, width=[], height=[])
    assert verdicts.rejected.to_pylist() == []


def thumbnail(path):
    return probe(path.read_bytes(), max_pixels=10**8).thumbnail


@pytest.fixture(scope="module")
def pictures(data):
    """Photos, receipts and crops of words: the pictures the default limits were measured on."""
    places = ["coco80/images", "icdar5/images", "flickr30k-entities-8/images", "ocr-toys"]
    return [
        path
        for place in places
        for path in sorted((data / place).rglob("*.*p*g"))
        if path.is_file()
    ]


def test_default_limits_take_no_photo_receipt_or_word_for_blank_or_blurred(pictures):
    assert len(pictures) > 100
    grey = [thumbnail(path) for path in pictures]
    blank = judge(Blank(), contrast=[contrast(each) for each in grey])
    blurred = judge(Blurred(), sharpness=[sharpness(each) for each in grey])
    assert not any(blank.rejected.to_pylist() + blurred.rejected.to_pylist())


def test_default_limits_find_a_blank_page_and_a_photo_out_of_focus(pictures):
    page = Image.new("L", (400, 300), 250)
    page.putpixel((20, 20), 0)
    assert judge(Blank(), contrast=[contrast(page)]).rejected.to_pylist() == [True]
    soft = [
        sharpness(
            Image.open(path).convert("L").resize((320, 240)).filter(ImageFilter.GaussianBlur(6))
        )
        for path in pictures[:10]
    ]
    assert all(judge(Blurred(), sharpness=soft).rejected.to_pylist())


@pytest.mark.parametrize(
    ("rule", "options", "complaint"),
    [
        (ImageSize, {"min_side_px": 0}, "min_side_px is 0; allowed: 1 px or more"),
        (ImageSize, {"max_side_px": 100}, "max_side_px 100 is below min_side_px 200"),
        (ImageAspect, {"max_ratio": 0.3}, "max_ratio is 0.3; the longer side"),
        (Blank, {"min_contrast": 0}, "min_contrast is 0; a standard deviation"),
        (Blank, {"min_contrast": 128}, "min_contrast is 128; a standard deviation"),
        (Blurred, {"min_sharpness": NAN}, "min_sharpness is nan; a variance above 0"),
    ],
)
def test_image_rules_refuse_limits_that_are_none(rule, options, complaint):
    with pytest.raises(ConfigError, match=complaint):
        rule(**options)
