"""The specialist without a model: its rows depend on key and size only, and are lawful."""

import time

import numpy as np
import pytest
from specialist_photos import noise

from engine.errors import ConfigError
from engine.schema import box_array, empty_claims
from specialists.null import Null

IMAGES = [
    noise(key, width, height) for key, width, height in [("a", 8, 4), ("b", 3, 9), ("c", 1, 1)]
]


def test_null_answers_no_images_with_no_rows():
    assert Null().annotate([], empty_claims()) == empty_claims()


def test_null_without_rows_answers_nothing():
    assert Null(num_rows=0).annotate(IMAGES, empty_claims()) == empty_claims()


def test_null_rows_do_not_depend_on_the_batch():
    specialist = Null(num_rows=4)
    together = specialist.annotate(IMAGES, empty_claims())
    alone = [
        row for image in IMAGES for row in specialist.annotate([image], empty_claims()).to_pylist()
    ]
    assert together.to_pylist() == alone
    assert together["image_key"].to_pylist() == ["a"] * 4 + ["b"] * 4 + ["c"] * 4


def test_null_rows_differ_between_images():
    rows = Null(num_rows=1).annotate([noise(str(i), 100, 100) for i in range(50)], empty_claims())
    assert len(set(rows["score"].to_pylist())) == 50
    assert len(set(rows["text"].to_pylist())) > 5


def test_null_boxes_lie_inside_their_images():
    rows = Null(num_rows=200).annotate(IMAGES, empty_claims())
    boxes = box_array(rows)
    sizes = np.repeat([(image.width, image.height) for image in IMAGES], 200, axis=0)
    assert (boxes[:, :2] >= 0).all()
    assert (boxes[:, :2] < boxes[:, 2:]).all()
    assert (boxes[:, 2:] <= sizes).all()


def test_null_gives_each_kind_the_columns_it_has():
    kinds = ("region/category", "text/brief", "region/proposal")
    rows = Null(num_rows=3, kinds=kinds).annotate(IMAGES[:1], empty_claims()).to_pylist()
    assert [f"{row['kind']}/{row['role']}" for row in rows] == list(kinds)
    assert [row["box"] is None for row in rows] == [False, True, False]
    assert [row["score"] is None for row in rows] == [False, True, False]
    assert [row["text"] is None for row in rows] == [False, False, True]


def test_null_stands_on_the_level_after_what_it_names():
    assert Null().requires == ()
    assert Null(after=("region",)).requires == ("region",)


def test_null_burns_at_least_the_asked_cpu_time():
    before = time.thread_time()
    Null(work_ms=5).annotate(IMAGES, empty_claims())
    assert time.thread_time() - before >= 0.015


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"kinds": ("grounding/phrase",)},
            "kinds .*'grounding/phrase'.*; allowed: region/category",
        ),
        ({"kinds": ()}, "kinds"),
        ({"num_rows": -1}, "num_rows -1"),
        ({"work_ms": -1}, "work_ms -1"),
    ],
)
def test_null_refuses_what_it_cannot_do(options, message):
    with pytest.raises(ConfigError, match=message):
        Null(**options)
