"""Plain scenes: that what they claim is what is drawn, and that the captions are true.

Labels with noise are tested in source/test_synthetic_labels.py, the truth of a dataset in
test_evaluate_scenes.py.
"""

import hashlib
import io
import re
import subprocess
import sys
from collections import Counter
from itertools import combinations, pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from engine.errors import ConfigError
from engine.schema import CLAIM, canonical
from engine.synthetic import PLAIN_CLASSES, plain_scene
from engine.synthetic.plain import PLAIN_BACKDROPS, PLAIN_COLOURS
from engine.synthetic.things import BACKDROP_COLOURS, COLOURS, contrast

SCENES = [plain_scene(5, index) for index in range(400)]
SHAPES = [(drawn, shape) for drawn in SCENES for shape in drawn.shapes]
SIDES = {12: "small", 16: "small", 20: "medium", 24: "large", 28: "large"}

scenes = st.builds(
    lambda seed, index, across, down: plain_scene(seed, index, size=(64 * across, 64 * down)),
    st.integers(0, 2**40),
    st.integers(0, 10**8),
    st.integers(1, 3),
    st.integers(1, 3),
)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"seed": -1, "index": 0}, "seed -1, index 0; both", id="seed"),
        pytest.param({"seed": 0, "index": -5}, "seed 0, index -5; both", id="index"),
        pytest.param({"seed": 0, "index": 0, "size": (64, 100)}, "64x100; each side", id="size"),
        pytest.param({"seed": 0, "index": 0, "size": (0, 64)}, "0x64; each side", id="no-size"),
    ],
)
def test_plain_scene_refuses_numbers_out_of_range(arguments, message):
    with pytest.raises(ConfigError, match=message):
        plain_scene(**arguments)


@settings(max_examples=150, deadline=None)
@given(drawn=scenes)
def test_boxes_are_on_the_grid_inside_and_apart(drawn):
    scale = min(drawn.width, drawn.height) // 64
    assert 1 <= len(drawn.shapes) <= 3
    for shape in drawn.shapes:
        x_min, y_min, x_max, y_max = shape.box
        assert all(number % (4 * scale) == 0 for number in shape.box)
        assert 0 <= x_min < x_max <= drawn.width
        assert 0 <= y_min < y_max <= drawn.height
        assert x_max - x_min == y_max - y_min
        assert SIDES[(x_max - x_min) / scale] == shape.size
    for a, b in combinations([shape.box for shape in drawn.shapes], 2):
        gap = max(a[0] - b[2], b[0] - a[2], a[1] - b[3], b[1] - a[3])
        assert gap >= 4 * scale


@settings(max_examples=60, deadline=None)
@given(drawn=scenes)
def test_a_polygon_touches_all_four_sides_of_its_box_and_never_leaves_it(drawn):
    rows = [row for row in drawn.rows("k").to_pylist() if row["kind"] == "region"]
    assert [row["text"] for row in rows] == [shape.name for shape in drawn.shapes]
    for row in rows:
        (ring,) = row["polygon"]
        x, y = ring[0::2], ring[1::2]
        assert row["box"] == [min(x), min(y), max(x), max(y)]


@settings(max_examples=40, deadline=None)
@given(drawn=scenes)
def test_rows_are_claims_without_inventions(drawn):
    rows = drawn.rows("img-1")
    assert canonical(rows, CLAIM).equals(rows)
    assert rows["image_key"].unique().to_pylist() == ["img-1"]
    for column in ("region_id", "score", "text_score", "source", "model", "parents"):
        assert rows[column].null_count == rows.num_rows
    assert set(rows["human"].to_pylist()) == {False}


@settings(max_examples=100, deadline=None)
@given(drawn=scenes)
def test_phrases_are_what_stands_at_their_span_and_name_every_shape_once(drawn):
    rows = drawn.rows("k").to_pylist()
    (brief,) = [row for row in rows if row["role"] == "brief"]
    phrases = [row for row in rows if row["kind"] == "grounding"]
    for row in phrases:
        assert row["text_id"] == brief["annotation_id"]
        assert brief["text"][row["span_start"] : row["span_end"]] == row["text"]
        count, phrase = counted(row["text"])
        same = [other for other in phrases if other["span_start"] == row["span_start"]]
        assert len(same) == count
        assert row["box"] in [list(shape.box) for shape in matching(drawn, phrase)]
    assert sorted(row["box"] for row in phrases) == sorted(list(s.box) for s in drawn.shapes)


def test_scenes_are_the_same_again_and_differ_by_index_seed_and_size():
    first = plain_scene(3, 8)
    assert plain_scene(3, 8).png() == first.png()
    assert plain_scene(3, 8).rows("k").equals(first.rows("k"))
    others = [plain_scene(3, 9), plain_scene(4, 8), plain_scene(3, 8, size=(128, 128))]
    assert all(other.png() != first.png() for other in others)


def test_another_process_makes_the_same_bytes():
    code = (
        "import hashlib; from engine.synthetic import plain_scene; digest = hashlib.sha256()\n"
        "for i in range(30): s = plain_scene(5, i); digest.update(s.png());"
        " digest.update(repr(s.rows('k').to_pylist()).encode())\n"
        "print(digest.hexdigest())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    digest = hashlib.sha256()
    for drawn in SCENES[:30]:
        digest.update(drawn.png())
        digest.update(repr(drawn.rows("k").to_pylist()).encode())
    assert found.stdout.strip() == digest.hexdigest()


def test_scenes_that_hold_the_same_are_other_pictures():
    seen, twins = {}, []
    for drawn in (plain_scene(0, index) for index in range(6000)):
        first = seen.setdefault((drawn.backdrop, drawn.shapes), drawn)
        if first is not drawn:
            twins.append((first, drawn))
    assert twins
    assert all(a.png() != b.png() for a, b in twins)


@pytest.mark.parametrize("size", [(64, 64), (192, 128)])
def test_the_png_is_the_pixels_and_nothing_else(size):
    drawn = plain_scene(0, 1, size=size)
    with Image.open(io.BytesIO(drawn.png())) as picture:
        assert (picture.format, picture.size, picture.mode) == ("PNG", size, "RGB")
        assert not picture.info
        assert np.array_equal(np.asarray(picture), drawn.pixels())


def test_shapes_are_drawn_in_their_colour_inside_their_boxes_and_nowhere_else():
    for drawn in SCENES:
        pixels = drawn.pixels().astype(int)
        outside = np.ones(pixels.shape[:2], bool)
        for shape in drawn.shapes:
            x_min, y_min, x_max, y_max = map(int, shape.box)
            outside[y_min:y_max, x_min:x_max] = False
        (ground,) = {tuple(pixel) for pixel in pixels[outside].tolist()}
        assert nearest(BACKDROP_COLOURS, ground) == drawn.backdrop
        for shape in drawn.shapes:
            x_min, y_min, x_max, y_max = map(int, shape.box)
            patch = pixels[y_min:y_max, x_min:x_max].reshape(-1, 3)
            inked = patch[(patch != ground).any(axis=1)]
            shade, _ = Counter(map(tuple, inked.tolist())).most_common(1)[0]
            assert nearest(COLOURS, shade) == shape.colour


def nearest(colours, seen):
    return min(colours, key=lambda name: contrast(colours[name], seen))


def test_the_ink_of_a_shape_reaches_all_four_sides_of_its_box():
    for drawn, shape in SHAPES:
        x_min, y_min, x_max, y_max = map(int, shape.box)
        pixels = drawn.pixels().astype(int)
        patch = pixels[y_min:y_max, x_min:x_max]
        ground = pixels[0, 0] if (pixels[0, 0] == pixels[-1, -1]).all() else None
        if ground is None:
            continue
        rows, columns = np.nonzero(np.abs(patch - ground).sum(axis=2) > 0)
        side = x_max - x_min - 1
        assert (rows.min(), columns.min(), rows.max(), columns.max()) == (0, 0, side, side)


def test_every_class_colour_backdrop_and_number_is_met_and_every_colour_seen_at_a_glance():
    assert {shape.name for _, shape in SHAPES} == set(PLAIN_CLASSES)
    assert {shape.colour for _, shape in SHAPES} == set(PLAIN_COLOURS)
    assert {drawn.backdrop for drawn in SCENES} == set(PLAIN_BACKDROPS)
    assert {len(drawn.shapes) for drawn in SCENES} == {1, 2, 3}
    for drawn, shape in SHAPES:
        assert contrast(COLOURS[shape.colour], BACKDROP_COLOURS[drawn.backdrop]) > 190


def test_classes_differ_in_many_pixels_where_they_are_smallest():
    smallest = {}
    for drawn, shape in SHAPES:
        x_min, y_min, x_max, y_max = map(int, shape.box)
        if x_max - x_min == 12:
            patch = drawn.pixels().astype(int)[y_min:y_max, x_min:x_max]
            ground, ink = (
                np.array(c) for c in (BACKDROP_COLOURS[drawn.backdrop], COLOURS[shape.colour])
            )
            to_ground, to_ink = (np.abs(patch - c).sum(axis=2) for c in (ground, ink))
            smallest[shape.name] = to_ink < to_ground
    assert set(smallest) == set(PLAIN_CLASSES)
    for a, b in combinations(PLAIN_CLASSES, 2):
        assert (smallest[a] != smallest[b]).sum() >= 24, (a, b)  # of 144


# -- captions, read back by a grammar of their own ------------------------------------------------

NUMBERS = {"a": 1, "an": 1, "one": 1, "two": 2, "three": 3}
SHAPE = rf"(?:(?P<size>small|medium|large) )?(?P<colour>{'|'.join(PLAIN_COLOURS)}) (?P<noun>[a-z]+)"
NINTHS = {
    **{"in the top left": (0, 0), "at the top": (1, 0), "in the top right": (2, 0)},
    **{"on the left": (0, 1), "in the center": (1, 1), "on the right": (2, 1)},
    **{"in the bottom left": (0, 2), "at the bottom": (1, 2), "in the bottom right": (2, 2)},
}


def counted(item):
    """ "two red rings" -> (2, "red rings"); an article counts one."""
    number, rest = item.split(" ", 1)
    return NUMBERS[number], rest


def matching(drawn, phrase):
    """Shapes that a phrase like "small red ring" or "red rings" fits."""
    said = re.fullmatch(SHAPE, phrase)
    assert said, phrase
    noun = said["noun"]
    if noun not in PLAIN_CLASSES:
        noun = "cross" if noun == "crosses" else noun.removesuffix("s")
    assert noun in PLAIN_CLASSES, phrase
    return [
        shape
        for shape in drawn.shapes
        if (shape.name, shape.colour) == (noun, said["colour"])
        and said["size"] in (None, shape.size)
    ]


def check_list(drawn, listed):
    total = 0
    for item in re.split(r", | and ", listed):
        count, phrase = counted(item)
        assert len(matching(drawn, phrase)) == count
        total += count
    assert total == len(drawn.shapes)


@settings(max_examples=100, deadline=None)
@given(drawn=scenes)
def test_brief_and_detailed_captions_count_every_shape(drawn):
    brief = re.fullmatch(r"([a-z ,]+)\.", drawn.captions.brief)
    check_list(drawn, brief[1])
    detailed = re.fullmatch(
        r"there (is|are) ([a-z ,]+) on a ([a-z]+) background\.", drawn.captions.detailed
    )
    assert detailed[1] == ("is" if len(drawn.shapes) == 1 else "are")
    assert detailed[3] == drawn.backdrop
    check_list(drawn, detailed[2])
    assert all(
        re.match(SHAPE, item.split(" ", 1)[1])["size"]
        for item in re.split(r", | and ", detailed[2])
    )


@settings(max_examples=150, deadline=None)
@given(drawn=scenes)
def test_the_longest_caption_says_where_every_shape_is(drawn):
    first, *others = drawn.captions.more_detailed.removesuffix(".").split(". ")
    said = re.fullmatch(r"(one|two|three) shapes? (?:is|are) on a ([a-z]+) background", first)
    assert (NUMBERS[said[1]], said[2]) == (len(drawn.shapes), drawn.backdrop)
    for shape, sentence in zip(drawn.shapes, others, strict=False):
        placed = re.fullmatch(rf"a ({SHAPE}) is (.+)", sentence)
        assert shape in matching(drawn, placed[1])
        assert NINTHS[placed[5]] == ninth_of(drawn, shape)
    for sentence in others[len(drawn.shapes) :]:
        related = re.fullmatch(
            r"the ([a-z ]+) is (left of|right of|above|below) the ([a-z ]+)", sentence
        )
        (a,), (b,) = matching(drawn, related[1]), matching(drawn, related[3])
        assert {
            "left of": a.box[2] <= b.box[0],
            "right of": b.box[2] <= a.box[0],
            "above": a.box[3] <= b.box[1],
            "below": b.box[3] <= a.box[1],
        }[related[2]]


def ninth_of(drawn, shape):
    x, y = (shape.box[0] + shape.box[2]) / 2, (shape.box[1] + shape.box[3]) / 2
    return int(3 * x / drawn.width), int(3 * y / drawn.height)


def test_captions_relate_neighbours_and_name_shapes_from_left_to_right():
    told = [drawn.captions.more_detailed for drawn in SCENES]
    for predicate in ("left of", "above", "below"):
        assert sum(f"is {predicate} the" in text for text in told) > 20
    for drawn in SCENES:
        middles = [shape.box[0] + shape.box[2] for shape in drawn.shapes]
        assert all(a <= b for a, b in pairwise(middles))


def test_captions_have_few_words_and_no_capitals():
    words = set()
    for drawn in SCENES:
        for text in (
            drawn.captions.brief,
            drawn.captions.detailed,
            drawn.captions.more_detailed,
        ):
            assert text == text.lower()
            assert text.isascii()
            words |= set(re.findall(r"\w+", text))
    assert len(words) < 60
