"""Words against truth by ICDAR's conventions, on its own files and against a plain loop."""

import json
import pickle
from dataclasses import astuple

import numpy as np
import pyarrow as pa
import pytest
import shapely
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evaluate.words import WordScores
from engine.schema import claims
from tests.truths import icdar_rows

QUAD = [0, 0, 20, 0, 20, 10, 0, 10]


def words(*found: tuple[list[float], str], key: str = "a", **columns) -> pa.Table:
    """Words of one image from quads and transcripts."""
    quads = [quad for quad, _ in found]
    return claims(
        image_key=[key] * len(found),
        kind="region",
        role="ocr",
        text=[text for _, text in found],
        polygon=[[quad] for quad in quads],
        **columns,
    )


def moved(quad: list[float], right: float) -> list[float]:
    return [value + right * (i % 2 == 0) for i, value in enumerate(quad)]


def counts(claimed: pa.Table, truth: pa.Table, **options) -> tuple[int, int, int, int]:
    """Found, read right, claimed and judged, true."""
    scores = WordScores(**options)
    scores.add(claimed, truth)
    (score,) = scores.result()
    assert score.end_to_end.num_claimed == score.detection.num_claimed
    found, claims_judged, true = astuple(score.detection)
    return found, score.end_to_end.num_matched, claims_judged, true


def test_no_words_give_no_rates():
    scores = WordScores()
    scores.add(claims(), claims())
    (score,) = scores.result()
    assert (score.detection.f1, score.end_to_end.f1, score.exact_rate) == (None, None, None)


@pytest.mark.parametrize(
    ("claimed", "expected"),
    [
        pytest.param([], (0, 0, 0, 1), id="nothing-read"),
        pytest.param([(QUAD, "Exit")], (1, 1, 1, 1), id="the-truth"),
        pytest.param([(QUAD, "EXIT")], (1, 1, 1, 1), id="case-does-not-matter"),
        pytest.param([(QUAD, "Exist")], (1, 0, 1, 1), id="misread"),
        pytest.param([(moved(QUAD, 6.6), "Exit")], (1, 1, 1, 1), id="iou-just-above-a-half"),
        pytest.param([(moved(QUAD, 6.7), "Exit")], (0, 0, 1, 1), id="iou-just-below-a-half"),
        pytest.param([(QUAD, "Exist"), (QUAD, "Exit")], (1, 0, 2, 1), id="the-first-one-counts"),
    ],
)
def test_words_are_matched_by_place_and_then_compared(claimed, expected):
    assert counts(words(*claimed), words((QUAD, "Exit"))) == expected


def test_an_overlap_of_exactly_the_limit_is_no_match():
    half = [0, 0, 10, 0, 10, 10, 0, 10]
    assert counts(words((half, "Exit")), words((QUAD, "Exit")))[0] == 0
    assert counts(words((half, "Exit")), words((QUAD, "Exit")), min_iou=0.49)[0] == 1


def test_case_can_be_made_to_matter():
    assert counts(words((QUAD, "EXIT")), words((QUAD, "Exit")), ignore_case=False)[1] == 0


def test_what_lies_in_an_unreadable_word_is_not_judged():
    truth = words((QUAD, "###"), (moved(QUAD, 100), "Exit"))
    inside, half, outside = QUAD, moved(QUAD, 10), moved(QUAD, 11)
    assert counts(words((inside, "?")), truth) == (0, 0, 0, 1)
    assert counts(words((half, "?")), truth) == (0, 0, 1, 1)  # more than half is needed
    assert counts(words((outside, "?")), truth) == (0, 0, 1, 1)
    flagged = words((QUAD, "text"), ignore=[True])
    assert counts(words((QUAD, "text")), flagged) == (0, 0, 0, 0)


def test_a_slanted_word_is_compared_by_its_outline_not_by_its_box():
    slanted = [0, 0, 40, 40, 30, 50, -10, 10]
    other = [40, 0, 50, 10, 10, 50, 0, 40]
    boxes = {"box": [[-10, 0, 40, 50]]}
    assert counts(words((slanted, "a"), **boxes), words((other, "a"), **boxes))[0] == 0
    by_box = claims(image_key=["a"], kind="region", role="ocr", text=["a"], **boxes)
    assert counts(by_box, by_box)[0] == 1  # without an outline the box is one


@pytest.mark.parametrize(
    "ring",
    [
        pytest.param([0, 0, 20, 10, 20, 0, 0, 10], id="crosses-itself"),
        pytest.param([0, 0, 20, 0, 20, 10, 0, 10][::-1], id="the-other-way-round"),
        pytest.param([0, 0, 10, 2, 20, 0, 20, 10, 0, 10], id="dented"),
    ],
)
def test_any_ring_finds_itself(ring):
    assert counts(words((ring, "x")), words((ring, "x"))) == (1, 1, 1, 1)


@pytest.mark.parametrize(
    "ring",
    [
        pytest.param([], id="empty"),
        pytest.param([0, 0, 5, 5], id="a-line"),
        pytest.param([0, 0, 5, 5, 0], id="half-a-corner"),
        pytest.param([0, 0, float("nan"), 5, 5, 5], id="nan"),
        pytest.param([1, 1, 1, 1, 1, 1, 1, 1], id="a-point"),
    ],
)
def test_a_ring_that_encloses_nothing_is_found_by_nobody(ring):
    assert counts(words((ring, "x"), (QUAD, "y")), words((QUAD, "y"), (ring, "x")))[0] == 1


def test_icdars_own_words_find_themselves(data):
    scores = WordScores()
    for i in range(1, 6):
        truth = icdar_rows(data / "icdar5" / "gt" / f"gt_img_{i}.txt", f"img_{i}")
        scores.add(truth, truth)
    (score,) = scores.result()
    assert astuple(score.detection) == (8, 8, 8)  # of 27 words 19 are ###
    assert astuple(score.end_to_end) == (8, 8, 8)
    assert score.exact_rate == 1.0


def test_easyocrs_published_readings_against_those_of_its_newer_model(data):
    """Both models find the same five lines; the older one misreads two of them."""
    folder = data / "oracles" / "easyocr"
    newer = json.loads((folder / "observed_easyocr_1.7.2_english_g2.json").read_text())
    tests = json.loads((folder / "easyocr_published_expectations.json").read_text())["tests"]
    scores = WordScores()
    for name, test in (("mini", "test01"), ("small", "test02")):
        older = tests["recognize method"][test]["output"]
        lines = [(np.ravel(quad).tolist(), text) for quad, text, _ in older]
        truth = [(np.ravel(quad).tolist(), text) for text, _, quad in newer[name]]
        scores.add(words(*lines, key=name), words(*truth, key=name))
    (score,) = scores.result()
    assert astuple(score.detection) == (5, 5, 5)
    assert score.exact_rate == pytest.approx(3 / 5)


def test_word_scores_do_not_grow():
    scores, sizes = WordScores(), set()
    for i in range(20):
        scores.add(words((QUAD, "a"), key=f"{i}"), words((QUAD, "a"), key=f"{i}"))
        sizes.add(len(pickle.dumps(scores)))
    assert len(sizes) == 1


quads = st.lists(st.integers(0, 6), min_size=8, max_size=8).map(
    lambda q: shapely.MultiPoint(np.reshape(q, (4, 2))).convex_hull
)


@st.composite
def word_lists(draw):
    each = st.tuples(
        st.sampled_from("ab"), quads, st.sampled_from(["one", "TWO", "two", "###"]), st.booleans()
    )
    return [word for word in draw(st.lists(each, max_size=8)) if word[1].geom_type == "Polygon"]


def table_of(found) -> pa.Table:
    return claims(
        image_key=[key for key, *_ in found],
        kind="region",
        role="ocr",
        text=[text for _, _, text, _ in found],
        polygon=[[np.array(ring.exterior.coords)[:-1].ravel().tolist()] for _, ring, *_ in found],
    )


def count_by_hand(claimed, truth) -> tuple[int, int, int, int]:
    """One image, one true word, one claim after the other."""
    found = right = judged = 0
    for key in "ab":
        true = [(ring, text) for k, ring, text, _ in truth if k == key]
        mine = [(ring, text) for k, ring, text, _ in claimed if k == key]
        hidden = [ring for ring, text in true if text == "###"]
        mine = [
            (ring, text)
            for ring, text in mine
            if not any(ring.intersection(h).area > 0.5 * ring.area for h in hidden)
        ]
        judged += len(mine)
        free = set(range(len(mine)))
        for ring, text in true:
            for i in sorted(free) if text != "###" else ():
                shared = ring.intersection(mine[i][0]).area
                if shared / (ring.area + mine[i][0].area - shared) > 0.5:
                    free.discard(i)
                    found += 1
                    right += text.lower() == mine[i][1].lower()
                    break
    return found, right, judged, sum(text != "###" for _, _, text, _ in truth)


@given(word_lists(), word_lists())
@settings(max_examples=200, deadline=None)
def test_word_scores_equal_a_plain_loop(claimed, truth):
    assert counts(table_of(claimed), table_of(truth)) == count_by_hand(claimed, truth)
