"""Places as location tokens and answers as items, against transformers' own processor.

Prompts and columns are tested in test_florence2_tasks, targets in test_florence2_targets.
"""

import json

import numpy as np
import pytest
import torch
from florence2_reference import BINS, SIZES, WILD, WORDS, Oracle, last_words
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.formats.florence2_codec import (
    classify_pieces,
    decode_bins,
    encode_bins,
    is_speakable,
    join_pieces,
    parse_answer,
    spell_places,
    spell_polygons,
)
from engine.formats.florence2_tasks import TASKS

FORMS = ("text", "boxes", "labelled_boxes", "quads", "polygons", "labelled_polygons")
FORM_OF = {task.token: task.form for task in TASKS.values()}
PLACED = [token for token, form in FORM_OF.items() if form != "text"]
BOX = "<loc_1><loc_2><loc_30><loc_40>"
QUAD = "<loc_1><loc_2><loc_9><loc_2><loc_9><loc_4><loc_1><loc_4>"
FORWARDS = st.tuples(BINS, BINS, BINS, BINS).map(
    lambda b: (min(b[0], b[2]), min(b[1], b[3]), max(b[0], b[2]), max(b[1], b[3]))
)
RINGS = st.lists(st.tuples(BINS, BINS), min_size=3, max_size=7).map(
    lambda corners: tuple(number for corner in corners for number in corner)
)


@pytest.fixture(scope="module")
def oracle(data):
    return Oracle(data / "tokenizer" / "florence2_tokenizer")


@pytest.fixture(scope="module")
def published(data):
    file = data / "oracles" / "florence2" / "florence2_published_expectations.json"
    return json.loads(file.read_text(encoding="utf-8"))


def items(text, form):
    return parse_answer(text, form).items


def spelt(bins):
    return spell_places([bins])[0]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("text", ["", " ", "</s><s></s>", "<pad><pad>", "<loc_1>", "<poly></poly>"])
def test_parse_of_nothing_is_no_item(text, form):
    assert items(text, form) == []


def test_bins_of_no_places_are_no_places():
    assert encode_bins(np.empty((0, 4)), (10, 10)).shape == (0, 4)
    assert decode_bins(np.empty((0, 8)), (10, 10)).shape == (0, 8)
    assert spell_places(np.empty((0, 4))) == []


@pytest.mark.parametrize(
    ("pixel", "bin_"),
    [
        pytest.param(0, 0, id="near-edge"),
        pytest.param(0.6399, 0, id="within-the-first"),
        pytest.param(0.641, 1, id="within-the-second"),
        pytest.param(640, 999, id="far-edge"),
        pytest.param(10_000, 999, id="beyond"),
        pytest.param(-3, 0, id="before"),
    ],
)
def test_bins_are_floored_and_clamped(pixel, bin_):
    assert encode_bins([[pixel, 0]], (640, 640))[0, 0] == bin_


def test_bins_refuse_an_image_without_size():
    with pytest.raises(ValueError, match="image size 0 x 4; both must be 1 or more"):
        encode_bins([[1, 1]], (0, 4))


@given(size=SIZES, bins=st.lists(st.tuples(BINS, BINS, BINS, BINS), max_size=6))
def test_bins_survive_being_pixels(size, bins):
    pixels = decode_bins(np.reshape(bins, (-1, 4)), size)
    assert encode_bins(pixels, size).tolist() == [list(b) for b in bins]
    assert (pixels >= 0).all()
    assert (pixels <= np.tile(np.float32(size), 2)).all()


@given(size=SIZES, share=st.tuples(*[st.floats(0, 1, width=32)] * 8))
def test_pixels_move_by_at_most_half_a_bin(size, share):
    pixels = np.float32(share) * np.tile(np.float32(size), 4)
    moved = np.abs(decode_bins(encode_bins(pixels[None], size), size)[0] - pixels)
    half_a_bin = np.tile(np.float64(size) / 2000, 4)
    assert (moved <= half_a_bin * (1 + 1e-3)).all()  # float32 at the border of two bins


@given(size=SIZES, share=st.lists(st.floats(-0.5, 1.5, width=32), min_size=4, max_size=4))
def test_bins_and_pixels_are_those_of_the_processor(oracle, size, share):
    theirs = oracle.parser
    pixels = np.float32([share]) * np.tile(np.float32(size), 2)
    bins = encode_bins(pixels, size)
    assert bins.tolist() == theirs.quantize(torch.tensor(pixels), size).tolist()
    corners = bins.reshape(-1, 2)
    assert corners.tolist() == theirs.quantize(torch.tensor(pixels).reshape(-1, 2), size).tolist()
    whole = decode_bins(bins, size).astype(int)
    assert whole.tolist() == theirs.dequantize(torch.tensor(bins), size).tolist()


def test_every_bin_and_many_sizes_give_the_pixels_of_the_processor(oracle):
    bins = np.stack([np.arange(1000)] * 2, axis=1)
    for size in [*range(1, 400), 1080, 1500, 2000, 4032, 12_345, 20_000]:
        theirs = oracle.parser.dequantize(torch.tensor(bins), (size, size))
        assert (decode_bins(bins, (size, size)).astype(int) == theirs.numpy()).all(), size


def test_published_quantizer_cases_hold(published):
    case = published["quantizer"]
    size = tuple(case["image_size"])
    for name, result in (
        ("boxes", "dequantized_after_quantize"),
        ("points", "points_dequantized"),
    ):
        pixels = decode_bins(encode_bins(case[name], size), size).astype(int)
        assert pixels.tolist() == case[result]


def test_published_answers_hold(published):
    for case in published["post_process"]:
        form = FORM_OF[case["task"]]
        expected = case["expected"][case["task"]]
        assert in_their_shape(case["text"], form, case["image_size"]) == expected


def test_published_decodings_hold(published, oracle):
    for case in published["decode"]:
        text, _ = join_pieces(oracle.tokenizer.convert_ids_to_tokens(case["ids"]))
        if case["skip_special_tokens"]:
            text = items(text, "text")[0].label
        assert text == case["text"]


def in_their_shape(text, form, size):
    """Our items as `post_process_generation` would give them."""
    found = items(text, form)
    if form == "text":
        return found[0].label if found else ""
    whole = [
        [decode_bins(place, size).astype(int).tolist() for place in item.places] for item in found
    ]
    labels = [item.label for item in found]
    first = [places[0] for places in whole]
    if form == "labelled_polygons":
        keys = ("polygons", "polygons_labels", "bboxes", "bboxes_labels")
        values = (whole, labels, [], []) if "<poly>" in text else ([], [], first, labels)
        return dict(zip(keys, values, strict=True))
    key = {"quads": "quad_boxes", "polygons": "polygons"}.get(form, "bboxes")
    return {key: whole if form == "polygons" else first, "labels": labels}


def theirs(oracle, text, form, size):
    """What the processor says of an answer to the first task of that form."""
    task = next(token for token, its_form in FORM_OF.items() if its_form == form)
    return oracle.answer(text, task, size)


WELL_FORMED = {
    "text": WORDS,
    "boxes": st.lists(FORWARDS.map(spelt), min_size=1).map("".join),
    "labelled_boxes": st.lists(
        st.tuples(WORDS, st.lists(FORWARDS.map(spelt), min_size=1, max_size=3).map("".join)).map(
            "".join
        ),
        max_size=4,
    ).map("".join),
    "quads": st.lists(
        st.tuples(WORDS, st.tuples(*[BINS] * 8).map(spelt)).map("".join), max_size=4
    ).map("".join),
    "polygons": st.lists(
        st.lists(RINGS.map(spelt), min_size=1, max_size=3), min_size=1, max_size=3
    ).map(spell_polygons),
    "labelled_polygons": st.lists(
        st.tuples(WORDS, st.lists(st.lists(RINGS.map(spelt), min_size=1), min_size=2, max_size=3)),
        max_size=3,
    ).map(lambda things: "".join(word + spell_polygons(instances) for word, instances in things)),
}


@pytest.mark.parametrize("task", FORM_OF)
@settings(max_examples=40)
@given(draw=st.data(), size=SIZES)
def test_items_of_well_formed_text_are_those_of_the_processor(oracle, task, draw, size):
    form = FORM_OF[task]
    text = "</s><s>" + draw.draw(WELL_FORMED[form]) + "</s>"
    assert in_their_shape(text, form, size) == oracle.answer(text, task, size)
    assert parse_answer(text, form).num_lost == 0


@pytest.mark.parametrize("task", PLACED)
@settings(max_examples=200)
@given(text=WILD)
def test_items_of_wild_text_are_those_of_the_processor_that_make_sense(oracle, task, text):
    """Places agree to the last; labels agree behind the last scrap of a broken token."""
    form = FORM_OF[task]
    found = oracle.answer(text, task, (1000, 1000))  # where a pixel is a bin
    expected = []
    for key in ("bboxes", "quad_boxes", "polygons"):
        labels = found.get("labels" if "labels" in found else f"{key}_labels", [])
        for label, places in zip(labels, found.get(key, []), strict=False):
            kept = sensible(places) if key == "polygons" else sensible_box(places)
            expected.append((last_words(label, form), kept))
    mine = [(last_words(i.label, form), [list(p) for p in i.places]) for i in items(text, form)]
    needs_label = form not in ("boxes", "polygons")

    def comparable(pairs):
        return [pair for pair in pairs if pair[1] and (pair[0] or not needs_label)]

    assert [p for _, p in comparable(mine)] == [p for _, p in comparable(expected)]
    if needs_label:
        assert comparable(mine) == comparable(expected)


def sensible(rings):
    """Without what no image can hold: rings of no area, bins past the last."""
    return [ring for ring in rings if len(ring) >= 6 and max(ring) <= 999]


def sensible_box(box):
    """Without what no image can hold: bins past the last, a box backwards."""
    backwards = len(box) == 4 and (box[0] > box[2] or box[1] > box[3])
    return [] if backwards or max(box) > 999 else [box]


@given(text=WORDS, marks=st.lists(st.sampled_from(["<s>", "</s>"]), max_size=3))
def test_plain_text_is_that_of_the_processor(oracle, text, marks):
    text = "".join([*marks, text, *marks])
    assert in_their_shape(text, "text", (1, 1)) == theirs(oracle, text, "text", (1, 1))


@pytest.mark.parametrize("form", FORMS)
@given(text=WILD | st.text())
def test_any_text_at_all_gives_items_within_it(form, text):
    parsed = parse_answer(text, form)
    assert parsed.num_lost >= 0
    for item in parsed.items:
        assert 0 <= item.label_span[0] <= item.label_span[1] <= len(text)
        for place, (start, end) in zip(item.places, item.place_spans, strict=True):
            assert text[start:end].count("<loc_") >= len(place)
            assert all(0 <= number <= 999 for number in place)
        if form in ("labelled_boxes", "quads", "labelled_polygons"):
            assert item.label == item.label.strip() != ""


@pytest.mark.parametrize(
    "text",
    [
        "<loc_" + "9" * 10_000 + ">" + BOX,
        "a" + "<loc_1>" * 20_000,
        "<" * 20_000,
        "a" * 20_000,
        "<poly><loc_1>" * 10_000,
        "\u0663<loc_\u0663><loc_\u0663><loc_\u0663><loc_\u0663>",
        "\ud800<loc_1>" * 8,
        "\x00" + BOX,
    ],
)
def test_hostile_text_is_read_in_time_and_without_error(text):
    for form in FORMS:
        parse_answer(text, form)


# Deliberate differences, each beside what the processor says.


def test_labels_keep_what_is_not_ascii(oracle):
    text = f"caf\u00e9 \u72d7{BOX}"
    assert items(text, "labelled_boxes")[0].label == "caf\u00e9 \u72d7"
    assert theirs(oracle, text, "labelled_boxes", (9, 9))["labels"] == ["caf "]


def test_labels_hold_no_rest_of_a_broken_token(oracle):
    text = f"car<loc_1><loc_2>dog{BOX}"
    parsed = parse_answer(text, "labelled_boxes")
    assert [item.label for item in parsed.items] == ["dog"]
    assert parsed.num_lost == 2
    assert theirs(oracle, text, "labelled_boxes", (9, 9))["labels"] == ["loc_2>dog"]


def test_labels_keep_what_precedes_a_bracket(oracle):
    text = f"a < b{BOX}"
    assert items(text, "labelled_boxes")[0].label == "a < b"
    assert theirs(oracle, text, "labelled_boxes", (9, 9))["labels"] == ["b"]


def test_labels_survive_a_line_break(oracle):
    for form, place, lost in (("labelled_boxes", BOX, []), ("quads", QUAD, ["b"])):
        assert items(f"a\nb{place}", form)[0].label == "a\nb"
        assert theirs(oracle, f"a\nb{place}", form, (9, 9))["labels"] == lost


def test_places_without_a_label_are_not_read_one_token_off(oracle):
    text = f"{BOX}{BOX}"
    assert parse_answer(text, "labelled_boxes") == ([], 8)
    assert theirs(oracle, text, "labelled_boxes", (1000, 1000))["bboxes"] == [[2, 30, 40, 1]]


def test_a_blacklisted_phrase_is_left_to_the_rule(oracle):
    oracle.parser.banned_grounding_tokens = {"the image"}
    task, text = "<CAPTION_TO_PHRASE_GROUNDING>", f"the image{BOX}"
    try:
        found = oracle.answer(text, task, (9, 9))
    finally:
        oracle.parser.banned_grounding_tokens = set()
    assert found["labels"] == []
    assert items(text, "labelled_boxes")[0].label == "the image"


def test_plain_text_holds_no_echoed_region_and_no_pad(oracle):
    text = f"</s><s>car{BOX}</s><pad>"
    assert items(text, "text")[0].label == "car"
    assert theirs(oracle, text, "text", (9, 9)) == f"car{BOX}<pad>"


@pytest.mark.parametrize(
    ("text", "form", "places", "num_lost"),
    [
        pytest.param(f"a<loc_1000>{BOX[7:]}", "labelled_boxes", [], 4, id="no-such-bin"),
        pytest.param("a<loc_5><loc_2><loc_4><loc_9>", "labelled_boxes", [], 4, id="backwards"),
        pytest.param(
            "a<loc_4><loc_2><loc_4><loc_9>", "labelled_boxes", [(4, 2, 4, 9)], 0, id="thin"
        ),
        pytest.param(f"a{BOX}<loc_1><loc_2>", "labelled_boxes", [(1, 2, 30, 40)], 2, id="two-over"),
        pytest.param("a<loc_1><loc_2><loc_3>", "labelled_boxes", [], 3, id="one-short"),
        pytest.param(f"a{QUAD}<loc_7>", "quads", [(1, 2, 9, 2, 9, 4, 1, 4)], 1, id="quad-and-one"),
        pytest.param(f"a{BOX}", "quads", [], 4, id="half-a-quad"),
        pytest.param(BOX, "polygons", [], 4, id="two-corners"),
        pytest.param(
            BOX + "<loc_5><loc_6><loc_7>", "polygons", [(1, 2, 30, 40, 5, 6)], 1, id="odd"
        ),
        pytest.param(
            f"<poly>{QUAD}", "polygons", [(1, 2, 9, 2, 9, 4, 1, 4)], 0, id="poly-not-closed"
        ),
        pytest.param(f"</poly>{QUAD}<poly>", "polygons", [], 8, id="poly-the-wrong-way-round"),
    ],
)
def test_what_does_not_fit_is_dropped_and_counted(text, form, places, num_lost):
    parsed = parse_answer(text, form)
    assert [place for item in parsed.items for place in item.places] == places
    assert parsed.num_lost == num_lost


def test_instances_and_their_rings_are_told_apart():
    rings = [[spelt(range(6)), spelt(range(6, 12))], [spelt(range(12, 18))]]
    places = [item.places for item in items(spell_polygons(rings), "polygons")]
    assert places == [((0, 1, 2, 3, 4, 5), (6, 7, 8, 9, 10, 11)), ((12, 13, 14, 15, 16, 17),)]


def test_items_say_which_characters_they_came_from():
    text = f"</s><s> red <s>car {BOX}<s>{BOX}</s>door{BOX}"
    first, second, third = items(text, "labelled_boxes")
    assert [text[slice(*item.label_span)] for item in (first, third)] == ["red <s>car", "door"]
    assert second.label_span == first.label_span
    spans = [item.place_spans[0] for item in (first, second, third)]
    assert [text[slice(*span)] for span in spans] == [BOX] * 3
    assert len(set(spans)) == 3


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param(None, False, id="null"),
        pytest.param("", False, id="empty"),
        pytest.param(" \n", False, id="blank"),
        pytest.param("a < b", True, id="a-bracket"),
        pytest.param("x<loc_5>", False, id="a-location"),
        pytest.param("the </s> tag", False, id="an-end"),
        pytest.param("\u72d7", True, id="not-ascii"),
    ],
)
def test_a_text_that_spells_special_tokens_cannot_be_said(text, expected):
    assert is_speakable(text) is expected


def test_pieces_of_nothing_are_no_text():
    text, spans = join_pieces([])
    assert (text, spans.shape) == ("", (0, 2))


@settings(max_examples=60)
@given(text=st.text(max_size=30), bins=st.lists(BINS, max_size=3))
def test_pieces_join_to_what_the_tokenizer_decodes(oracle, text, bins):
    tokenizer = oracle.tokenizer
    ids = tokenizer(text + "".join(f"<loc_{n}>" for n in bins)).input_ids
    pieces = tokenizer.convert_ids_to_tokens(ids)
    joined, spans = join_pieces(pieces)
    assert joined == tokenizer.decode(ids, skip_special_tokens=False)
    assert spans[0].tolist() == [0, 3]
    assert spans[-1, 1] == len(joined)
    assert (spans[1:, 0] <= spans[:-1, 1]).all()
    assert (spans[1:, 0] >= spans[:-1, 0]).all()


@settings(max_examples=60)
@given(ids=st.lists(st.integers(0, 51_288), max_size=12))
def test_any_tokens_join_to_what_the_tokenizer_decodes(oracle, ids):
    """Bytes that are no UTF-8 included."""
    joined, spans = join_pieces(oracle.tokenizer.convert_ids_to_tokens(ids))
    assert joined == oracle.tokenizer.decode(ids, skip_special_tokens=False)
    assert len(spans) == len(ids)


def test_pieces_are_words_marks_or_neither():
    is_word, is_mark = classify_pieces(["<s>", "\u0120a", "<loc_5>", "<sep>", "<", "</s>", "<pad>"])
    assert is_word.tolist() == [False, True, False, False, True, False, False]
    assert is_mark.tolist() == [True, False, False, False, False, True, True]
    assert [flags.shape for flags in classify_pieces([])] == [(0,), (0,)]


def test_pieces_that_share_a_character_both_have_a_part_in_it():
    text, spans = join_pieces(["a", "\u00e4", "\u00b8\u0143", "b"])  # the bytes of U+4E2D in two
    assert text == "a\u4e2db"
    assert spans.tolist() == [[0, 1], [1, 2], [1, 2], [2, 3]]
