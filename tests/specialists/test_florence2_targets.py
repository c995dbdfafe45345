"""What Florence-2 should say of an image, from rows of the table; and back again."""

import numpy as np
import pytest
from florence2_reference import BINS, SIZES, WORDS
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.formats.florence2_codec import decode_bins, parse_answer
from engine.formats.florence2_targets import encode_pairs
from engine.formats.florence2_tasks import TASKS, decode_answer
from engine.schema import claims
from tests.builders import rows

SIZE = (1000, 1000)  # where bin n begins at pixel n
SMALL, LARGE = [10, 20, 30, 40], [100, 100, 900, 800]
SMALL_TOKENS = "<loc_10><loc_20><loc_30><loc_40>"
LARGE_TOKENS = "<loc_100><loc_100><loc_900><loc_800>"
RING = [[10, 10, 30, 10, 30, 20]]
RING_TOKENS = "<loc_10><loc_10><loc_30><loc_10><loc_30><loc_20>"


def pairs(task, table, order="given", size=SIZE):
    return encode_pairs(TASKS[task], table, size, order=order)


@pytest.mark.parametrize("task", TASKS)
def test_no_rows_make_no_pair(task):
    assert pairs(task, rows()) == []


@pytest.mark.parametrize("task", TASKS)
def test_rows_of_another_kind_make_no_pair(task):
    other = rows(role=["alt"], kind="text", box=[SMALL], polygon=[RING])
    assert pairs(task, other) == []


def test_objects_are_named_once_before_all_their_boxes():
    table = rows(text=["car", "dog", "car"], box=[SMALL, LARGE, LARGE])
    (pair,) = pairs("od", table)
    assert pair.prompt == "<OD>"
    assert pair.target == f"car{SMALL_TOKENS}{LARGE_TOKENS}dog{LARGE_TOKENS}"
    assert pair.rows == (0, 2, 1)


@pytest.mark.parametrize(
    ("order", "target"),
    [
        ("given", f"car{SMALL_TOKENS}dog{LARGE_TOKENS}"),
        ("area", f"dog{LARGE_TOKENS}car{SMALL_TOKENS}"),
        ("reading", f"car{SMALL_TOKENS}dog{LARGE_TOKENS}"),
    ],
)
def test_the_order_is_the_one_asked_for(order, target):
    table = rows(text=["car", "dog"], box=[SMALL, LARGE])
    assert pairs("od", table, order)[0].target == target


@pytest.mark.parametrize(
    ("columns", "why"),
    [
        ({"text": ["x<loc_5>"], "box": [SMALL]}, "spells a special token"),
        ({"text": [" "], "box": [SMALL]}, "blank"),
        ({"text": [None], "box": [SMALL]}, "no words"),
        ({"text": ["car"], "box": [None]}, "no box"),
        ({"text": ["car"], "box": [[5, 5, 5, 9]]}, "encloses nothing"),
        ({"text": ["car"], "box": [[0, 0, float("nan"), 9]]}, "no number"),
        ({"text": ["car"], "box": [SMALL], "ignore": [True]}, "a crowd"),
        ({"text": ["car"], "box": [SMALL], "role": ["ocr"]}, "another role"),
    ],
)
def test_a_row_that_cannot_be_said_is_named_by_no_pair(columns, why):
    assert pairs("od", rows(**columns)) == [], why
    both = {name: [*value, value[0]] for name, value in columns.items()}
    both |= {"text": [columns["text"][0], "dog"], "box": [columns["box"][0], LARGE]}
    both |= {"ignore": [*columns.get("ignore", [False]), False]}
    both |= {"role": [*columns.get("role", ["category"]), "category"]}
    (pair,) = pairs("od", rows(**both))
    assert pair.rows == (1,)


@pytest.mark.parametrize(
    ("task", "role"),
    [("caption", "brief"), ("detailed_caption", "detailed")],
)
def test_every_caption_is_a_pair_of_its_own(task, role):
    table = rows(kind="text", role=[role, role, "alt"], text=["one ", "two", "three"])
    assert pairs(task, table) == [
        (TASKS[task].token, "one", (0,)),
        (TASKS[task].token, "two", (1,)),
    ]


def test_proposals_are_bare_boxes_each_once():
    table = rows(
        role=["category", "brief", "proposal", "ocr"],
        text=["car", "a red car", None, "STOP"],
        box=[SMALL, SMALL, LARGE, SMALL],
    )
    (pair,) = pairs("region_proposal", table, "area")
    assert pair.target == LARGE_TOKENS + SMALL_TOKENS
    assert pair.rows == (2, 0, 1)


def test_transcripts_have_their_quad_or_the_corners_of_their_box():
    slanted = [[40, 14, 38, 24, 18, 20, 20, 10]]
    table = rows(
        role="ocr", text=["STOP", "now"], box=[[18, 10, 40, 24], SMALL], polygon=[slanted, None]
    )
    (pair,) = pairs("ocr_with_region", table)
    assert pair.target == (
        "STOP<loc_20><loc_10><loc_40><loc_14><loc_38><loc_24><loc_18><loc_20>"
        "now<loc_10><loc_20><loc_30><loc_20><loc_30><loc_40><loc_10><loc_40>"
    )
    assert pairs("ocr", table)[0].target == "STOPnow"


def test_phrases_follow_their_caption_each_before_its_boxes():
    table = claims(
        image_key=["a"] * 5,
        annotation_id=["t", "g1", "g2", "g3", "g4"],
        kind=["text", *["grounding"] * 4],
        role=["detailed", *["phrase"] * 4],
        text=["a dog and a car", "a car", "a dog", "a dog", "a cat"],
        text_id=[None, "t", "t", "t", "other"],
        span_start=[None, 10, 0, 0, 0],
        span_end=[None, 15, 5, 5, 5],
        box=[None, LARGE, SMALL, LARGE, SMALL],
    )
    (pair,) = pairs("caption_to_phrase_grounding", table)
    assert pair.prompt == "<CAPTION_TO_PHRASE_GROUNDING>a dog and a car"
    assert pair.target == f"a dog{SMALL_TOKENS}{LARGE_TOKENS}a car{LARGE_TOKENS}"
    assert pair.rows == (0, 2, 3, 1)


def test_a_phrase_said_twice_in_a_caption_is_written_twice():
    table = claims(
        image_key=["a"] * 3,
        annotation_id=["t", "g1", "g2"],
        kind=["text", "grounding", "grounding"],
        role=["brief", "phrase", "phrase"],
        text=["a car by a car", "a car", "a car"],
        text_id=[None, "t", "t"],
        span_start=[None, 0, 9],
        span_end=[None, 5, 14],
        box=[None, SMALL, LARGE],
    )
    (pair,) = pairs("caption_to_phrase_grounding", table)
    assert pair.target == f"a car{SMALL_TOKENS}a car{LARGE_TOKENS}"


def test_one_expression_has_all_its_instances():
    other = [[10, 10, 30, 10, 30, 20], [50, 50, 60, 50, 60, 60]]
    table = rows(
        text=["car", "dog", "car", "car"],
        box=[SMALL] * 4,
        polygon=[RING, RING, other, None],
    )
    car, dog = pairs("referring_expression_segmentation", table)
    second = "<loc_50><loc_50><loc_60><loc_50><loc_60><loc_60>"
    assert car.prompt == "<REFERRING_EXPRESSION_SEGMENTATION>car"
    assert car.target == (f"<poly>{RING_TOKENS}</poly><poly>{RING_TOKENS}<sep>{second}</poly>")
    assert car.rows == (0, 2)
    assert dog.target == RING_TOKENS


def test_a_phrase_to_find_is_repeated_before_each_of_its_boxes():
    table = rows(text=["car", "car", "dog"], box=[SMALL, LARGE, SMALL])
    car, dog = pairs("open_vocabulary_detection", table)
    assert car.prompt == "<OPEN_VOCABULARY_DETECTION>car"
    assert car.target == f"car{SMALL_TOKENS}car{LARGE_TOKENS}"
    assert dog.target == f"dog{SMALL_TOKENS}"


@pytest.mark.parametrize(
    ("task", "role", "token"),
    [
        ("region_to_category", "category", "<REGION_TO_CATEGORY>"),
        ("region_to_description", "brief", "<REGION_TO_DESCRIPTION>"),
        ("region_to_ocr", "ocr", "<REGION_TO_OCR>"),
    ],
)
def test_a_region_is_asked_for_and_echoed(task, role, token):
    table = rows(role=role, text=["car", "dog"], box=[SMALL, LARGE])
    assert pairs(task, table) == [
        (token + SMALL_TOKENS, f"car{SMALL_TOKENS}", (0,)),
        (token + LARGE_TOKENS, f"dog{LARGE_TOKENS}", (1,)),
    ]


def test_a_region_with_an_outline_is_asked_for_it():
    table = rows(text=["car", "dog"], box=[SMALL, LARGE], polygon=[RING, None])
    assert pairs("region_to_segmentation", table) == [
        ("<REGION_TO_SEGMENTATION>" + SMALL_TOKENS, RING_TOKENS, (0,))
    ]


# A box of at least one bin, so that it has an area once it is pixels again.
SIDE = st.lists(BINS, min_size=2, max_size=2, unique=True).map(sorted)
SOLID = st.tuples(SIDE, SIDE).map(lambda sides: tuple(np.transpose(sides).reshape(-1).tolist()))


@settings(max_examples=80)
@given(size=SIZES, things=st.lists(st.tuples(WORDS, SOLID), min_size=1, max_size=6))
@pytest.mark.parametrize("order", ["given", "area", "reading"])
@pytest.mark.parametrize("task", ["od", "dense_region_caption", "region_proposal"])
def test_decoding_a_target_gives_its_rows_back(task, order, size, things):
    bins = np.array([box for _, box in things])
    table = rows(
        role=TASKS[task].roles[0],
        text=[text for text, _ in things],
        box=decode_bins(bins, size),
    )
    (pair,) = pairs(task, table, order, size)
    answer = decode_answer(TASKS[task], pair.target, size)
    again = rows(
        role=TASKS[task].roles[0],
        text=answer.columns["text"] or [None] * len(answer.items),
        box=answer.columns["box"],
    )
    assert sorted(pair.rows) == list(range(len(things)))
    assert answer.num_lost == 0
    assert pairs(task, again, "given", size)[0].target == pair.target
    said = {(item.label, item.places[0]) for item in answer.items}
    assert said == {(text * (task != "region_proposal"), box) for text, box in things}


@settings(max_examples=80)
@given(
    size=SIZES,
    lines=st.lists(
        st.tuples(WORDS, st.lists(BINS, min_size=8, max_size=8)), min_size=1, max_size=5
    ),
)
def test_decoding_transcripts_gives_their_quads_back(size, lines):
    table = rows(
        role="ocr",
        text=[text for text, _ in lines],
        polygon=[[decode_bins(quad, size).tolist()] for _, quad in lines],
    )
    (pair,) = pairs("ocr_with_region", table, "given", size)
    answer = decode_answer(TASKS["ocr_with_region"], pair.target, size)
    assert answer.columns["text"] == [text for text, _ in lines]
    again = rows(role="ocr", text=answer.columns["text"], polygon=answer.columns["polygon"])
    assert pairs("ocr_with_region", again, "given", size)[0].target == pair.target
    corners = [sorted(np.reshape(q, (4, 2)).tolist()) for _, q in lines]
    assert [sorted(np.reshape(i.places[0], (4, 2)).tolist()) for i in answer.items] == corners


@settings(max_examples=80)
@given(
    size=SIZES,
    rings=st.lists(st.lists(BINS, min_size=3, max_size=8), min_size=1, max_size=3),
)
def test_decoding_an_outline_gives_its_rings_back(size, rings):
    doubled = [ring + ring[::-1] for ring in rings]  # an even number of coordinates
    polygon = [decode_bins(ring, size).tolist() for ring in doubled]
    table = rows(text=["car"], box=[[0, 0, *size]], polygon=[polygon])
    (pair,) = pairs("region_to_segmentation", table, "given", size)
    (item,) = parse_answer(pair.target, "polygons").items
    assert [len(place) for place in item.places] == [len(ring) for ring in doubled]
    columns = decode_answer(TASKS["region_to_segmentation"], pair.target, size).columns
    again = rows(text=["car"], box=[[0, 0, *size]], polygon=columns["polygon"])
    assert pairs("region_to_segmentation", again, "given", size)[0].target == pair.target
