"""Plain scenes with words: the same scenes, a word that is drawn where it is said to stand."""

from itertools import combinations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.schema import CLAIM, canonical
from engine.synthetic import plain_scene
from engine.synthetic.labels import WORLDS, true_rows
from engine.synthetic.plain_words import PLAIN_WORDS, place_word, word_mask
from engine.synthetic.things import BACKDROP_COLOURS, COLOURS, contrast

WITH_WORDS = [plain_scene(6, index, words=True) for index in range(200)]

scenes = st.builds(
    lambda seed, index, scale: plain_scene(seed, index, size=(64 * scale, 64 * scale), words=True),
    st.integers(0, 2**40),
    st.integers(0, 10**8),
    st.integers(1, 2),
)


def test_no_word_is_placed_where_a_shape_takes_all_room():
    rng = np.random.default_rng(0)
    assert place_word(rng, ["red"], [(0, 0, 64, 64)], 64, 64) is None
    assert place_word(rng, ["red"], [], 64, 64).colour == "red"


def test_scenes_without_words_are_what_they_were_and_have_no_word():
    for drawn in WITH_WORDS:
        bare = plain_scene(6, drawn.index)
        assert bare.word is None
        assert (bare.shapes, bare.backdrop) == (drawn.shapes, drawn.backdrop)
        assert bare.captions == drawn.captions
        if drawn.word is None:
            assert bare.png() == drawn.png()


@settings(max_examples=100, deadline=None)
@given(drawn=scenes)
def test_a_word_is_inside_and_apart_from_all_shapes(drawn):
    scale = drawn.width // 64
    if drawn.word is None:
        return
    box = drawn.word.box
    assert 0 <= box[0] < box[2] <= drawn.width
    assert 0 <= box[1] < box[3] <= drawn.height
    assert (box[2] - box[0], box[3] - box[1]) == (34 * scale, 14 * scale)
    for shape in drawn.shapes:
        other = shape.box
        gaps = (box[0] - other[2], other[0] - box[2], box[1] - other[3], other[1] - box[3])
        assert max(gaps) >= 4 * scale


def test_the_ink_of_a_word_is_its_letters_in_its_colour_and_reaches_its_sides():
    for drawn in WITH_WORDS:
        if drawn.word is None:
            continue
        x_min, y_min, x_max, y_max = map(int, drawn.word.box)
        patch = drawn.pixels().astype(int)[y_min:y_max, x_min:x_max]
        shade = np.array(COLOURS[drawn.word.colour])
        is_ink = np.abs(patch - shade).sum(axis=2) < 40
        assert np.array_equal(is_ink, np.asarray(word_mask(drawn.word.text, 2)) == 255)
        assert is_ink.any(axis=1).all()
        assert is_ink[:, [0, -1]].any(axis=0).all()
        assert contrast(COLOURS[drawn.word.colour], BACKDROP_COLOURS[drawn.backdrop]) > 190


def test_every_word_is_met_and_most_scenes_have_one_but_not_all():
    words = [drawn.word.text for drawn in WITH_WORDS if drawn.word is not None]
    assert set(words) == set(PLAIN_WORDS)
    assert 100 < len(words) < 180


def test_any_two_words_differ_in_two_letters_and_in_many_pixels():
    for a, b in combinations(PLAIN_WORDS, 2):
        assert sum(x != y for x, y in zip(a, b, strict=True)) >= 2
        assert (np.asarray(word_mask(a, 1)) != np.asarray(word_mask(b, 1))).sum() >= 10  # of 119


def test_any_two_letters_look_different():
    letters = [np.asarray(word_mask(letter, 1)) for letter in sorted(set("".join(PLAIN_WORDS)))]
    assert all(mask.shape == (7, 5) for mask in letters)
    assert all((a != b).any() for a, b in combinations(letters, 2))


@settings(max_examples=40, deadline=None)
@given(drawn=scenes)
def test_all_rows_add_a_description_of_each_shape_and_the_word(drawn):
    rows = drawn.all_rows("k")
    assert canonical(rows, CLAIM).equals(rows)
    told = rows.to_pylist()
    assert told[: drawn.rows("k").num_rows] == drawn.rows("k").to_pylist()
    more = told[drawn.rows("k").num_rows :]
    described = [row for row in more if row["role"] == "brief"]
    for row, shape in zip(described, drawn.shapes, strict=True):
        assert row["box"] == list(shape.box)
        assert row["text"] == f"a {shape.size} {shape.colour} {shape.name}"
    spoken = [(row["text"], row["box"]) for row in more if row["role"] == "ocr"]
    assert spoken == ([(drawn.word.text, list(drawn.word.box))] if drawn.word else [])
    for row in more[len(described) :]:
        (quad,) = row["polygon"]
        left, top, right, bottom = row["box"]
        assert quad == [left, top, right, top, right, bottom, left, bottom]


def test_the_world_gives_every_kind_of_row_it_names():
    rows = true_rows("plain_words", 6, range(20))
    found = zip(rows["kind"].to_pylist(), rows["role"].to_pylist(), strict=True)
    assert {f"{kind}/{role}" for kind, role in found} == set(WORLDS["plain_words"].gives)
