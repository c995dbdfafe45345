"""Scenes: that what they claim is what is drawn, and that the captions are true.

The noise model is tested in test_synthetic_noise.py, the detector trained on scenes in
tests/specialists/test_shapes_weights.py.
"""

import io
import re
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from PIL import Image, ImageDraw

from engine.errors import ConfigError
from engine.schema import CLAIM, canonical
from engine.synthetic import CLASSES, WORDS, scene
from engine.synthetic.captions import describe
from engine.synthetic.outlines import RING_HOLE, unit_outline
from engine.synthetic.paint import paint
from engine.synthetic.relations import direction, position, unique_name
from engine.synthetic.things import BACKDROP_COLOURS, COLOURS, MAX_HIDDEN, SIZES, contrast

SCENES = [scene(7, index) for index in range(150)]
SHAPES = [(drawn, shape) for drawn in SCENES for shape in drawn.shapes]
NUMBERS = ["no", "one", "two", "three", "four", "five", "six", "seven"]


def filled(points, drawn):
    """Pixels inside a polygon, drawn here and not by the code under test."""
    picture = Image.new("L", (drawn.width, drawn.height))
    ImageDraw.Draw(picture).polygon([tuple(point) for point in points - 0.5], fill=1)
    return np.asarray(picture).astype(bool)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        pytest.param({"seed": -1, "index": 0}, "seed -1, index 0; both", id="seed"),
        pytest.param({"seed": 0, "index": -5}, "seed 0, index -5; both", id="index"),
        pytest.param({"seed": 0, "index": 0, "size": (640, 100)}, "640x100; each side", id="size"),
    ],
)
def test_scene_refuses_numbers_out_of_range(arguments, message):
    with pytest.raises(ConfigError, match=message):
        scene(**arguments)


def test_scene_is_the_same_again_and_differs_by_index_seed_and_size():
    first = scene(3, 8)
    assert scene(3, 8).jpeg() == first.jpeg()
    assert scene(3, 8).rows("k").equals(first.rows("k"))
    others = [scene(3, 9), scene(4, 8), scene(3, 8, size=(640, 480))]
    assert all(other.jpeg() != first.jpeg() for other in others)
    assert all(not other.rows("k").equals(first.rows("k")) for other in others)


@pytest.mark.parametrize("size", [(128, 128), (384, 288), (300, 700)])
def test_scene_jpeg_has_the_size_and_nothing_but_pixels(size):
    drawn = scene(0, 1, size=size)
    with Image.open(io.BytesIO(drawn.jpeg())) as picture:
        assert (picture.format, picture.size, picture.mode) == ("JPEG", size, "RGB")
        assert not picture.getexif()
        difference = np.asarray(picture).astype(int) - drawn.pixels()
    assert np.abs(difference).mean() < 6


def test_scene_rows_are_claims_without_inventions():
    for drawn in SCENES[:20]:
        rows = drawn.rows("img-1")
        assert canonical(rows, CLAIM).equals(rows)
        assert rows["image_key"].unique().to_pylist() == ["img-1"]
        roles = ["brief", "detailed", "more_detailed"]
        roles += ["category"] * len(drawn.shapes) + ["ocr"] * len(drawn.words)
        assert rows["role"].to_pylist() == roles
        said = [shape.name for shape in drawn.shapes] + [w.transcript for w in drawn.words]
        assert rows["text"].to_pylist()[3:] == said
        for column in ("annotation_id", "score", "text_score", "source", "model", "parents"):
            assert rows[column].null_count == rows.num_rows
        assert set(rows["human"].to_pylist()) == {False}


@pytest.mark.parametrize("size", [(128, 128), (384, 288), (900, 300)])
def test_scene_boxes_are_those_of_the_polygons_and_inside_the_image(size):
    for index in range(25):
        for row in scene(11, index, size=size).rows("k").to_pylist()[3:]:
            (ring,) = row["polygon"]
            x, y = ring[0::2], ring[1::2]
            assert row["box"] == [min(x), min(y), max(x), max(y)]
            assert 0 <= row["box"][0] < row["box"][2] <= size[0]
            assert 0 <= row["box"][1] < row["box"][3] <= size[1]


def test_scene_sizes_can_be_told_from_boxes():
    for drawn, shape in SHAPES:
        x_min, y_min, x_max, y_max = shape.box
        share = max(x_max - x_min, y_max - y_min) / min(drawn.width, drawn.height)
        low, high = SIZES[shape.size]
        assert low - 0.002 <= share <= high + 0.002  # coordinates are rounded to quarter pixels


def test_scene_hides_no_more_of_a_shape_than_it_says():
    overlaps = 0
    for drawn in SCENES:
        masks = [filled(shape.outline, drawn) for shape in drawn.shapes]
        for i, shape in enumerate(drawn.shapes):
            covered = np.logical_or.reduce([masks[i] & False, *masks[i + 1 :]]) & masks[i]
            hidden = covered.sum() / masks[i].sum()
            assert hidden == pytest.approx(shape.hidden, abs=0.02)
            assert hidden <= MAX_HIDDEN + 0.02
            overlaps += hidden > 0.02
    assert overlaps > 30  # else this test looked at nothing


def test_scene_hosts_hold_their_guests():
    guests = 0
    for drawn in SCENES:
        for thing in (*drawn.shapes, *drawn.words):
            if thing.host is None:
                continue
            host = drawn.shapes[thing.host]
            # A ring's guest is inside its outer edge: the first part of the line, up to the cut.
            edge = host.outline[:48] if host.name == "ring" else host.outline
            points = getattr(thing, "outline", None)
            points = thing.quad if points is None else points
            assert not (filled(points, drawn) & ~filled(edge, drawn)).any()
            guests += 1
    assert guests > 20


def test_scene_offers_every_class_colour_size_and_word():
    assert {shape.name for _, shape in SHAPES} == set(CLASSES)
    assert {shape.colour for _, shape in SHAPES} == set(COLOURS)
    assert {shape.size for _, shape in SHAPES} == set(SIZES)
    assert {drawn.backdrop.colour for drawn in SCENES} == set(BACKDROP_COLOURS)
    spoken = {word.transcript.lower() for drawn in SCENES for word in drawn.words}
    assert spoken <= set(WORDS)
    assert len(spoken) > len(WORDS) / 2


@pytest.mark.parametrize("name", CLASSES)
def test_unit_outline_is_clockwise_from_the_top_left_and_fills_its_box(name):
    for angle in (0, 13, 200):
        x, y = unit_outline(name, angle).T
        assert np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) > 0  # y points down
        assert (x + y)[0] == pytest.approx((x + y).min(), abs=1e-5)
        assert max(np.ptp(x), np.ptp(y)) == pytest.approx(1)
        assert [x.min() + x.max(), y.min() + y.max()] == pytest.approx([0, 0], abs=1e-9)


def test_unit_outline_of_a_ring_leaves_its_hole_out():
    def area(name):
        x, y = unit_outline(name, 0).T
        return np.sum(x * np.roll(y, -1) - np.roll(x, -1) * y) / 2

    assert area("ring") == pytest.approx(area("circle") * (1 - RING_HOLE**2))


def test_paint_shows_the_named_colour_where_the_outline_is():
    looked = 0
    for drawn, shape in SHAPES:
        if shape.hidden or shape.pattern != "plain" or shape.size == "small":
            continue
        guests = [t for t in (*drawn.shapes, *drawn.words) if t.host is not None]
        if guests:
            continue
        seen = np.median(drawn.pixels()[filled(shape.outline, drawn)], axis=0)
        assert min(COLOURS, key=lambda name: contrast(COLOURS[name], seen)) == shape.colour
        looked += 1
    assert looked > 60


def test_paint_puts_the_ink_of_a_word_into_its_quad_and_fills_it():
    looked = 0
    for drawn in SCENES:
        free = [word for word in drawn.words if word.label is None]
        if len(drawn.words) != 1 or not free:
            continue
        bare = replace(drawn.layout, words=())
        rng = np.random.default_rng
        with_word, without = (
            np.asarray(paint(layout, rng(1), drawn.width, drawn.height)).astype(int)
            for layout in (drawn.layout, bare)
        )
        rows, columns = np.nonzero(np.abs(with_word - without).max(axis=2) > 25)
        inked = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        # The corners of a slanted quad hold no ink, and blur adds a pixel or two.
        slack = 1.5 if not free[0].angle else free[0].em / 2
        assert inked == pytest.approx(free[0].box, abs=slack)
        outside = ~filled(grown(free[0].quad, 2.5), drawn)
        assert not outside[rows, columns].any()
        looked += 1
    assert looked > 20


def grown(quad, pixels):
    """A quad whose corners are that much further from its middle along both of its sides."""
    middle = quad.mean(axis=0)
    along = (quad[1] - quad[0]) / np.linalg.norm(quad[1] - quad[0])
    down = (quad[3] - quad[0]) / np.linalg.norm(quad[3] - quad[0])
    signs = np.array([[-1, -1], [1, -1], [1, 1], [-1, 1]])
    return middle + (quad - middle) + pixels * (signs @ np.stack([along, down]))


@pytest.mark.parametrize(
    ("a", "b", "said"),
    [
        pytest.param((0, 0, 10, 10), (20, 0, 30, 10), "left of", id="left"),
        pytest.param((20, 0, 30, 10), (0, 5, 10, 15), "right of", id="right"),
        pytest.param((0, 0, 10, 10), (5, 10, 15, 20), "above", id="touching-is-apart"),
        pytest.param((0, 40, 10, 50), (5, 10, 15, 20), "below", id="below"),
        pytest.param((0, 0, 10, 10), (9, 0, 30, 10), None, id="overlapping"),
        pytest.param((0, 0, 10, 10), (0, 0, 10, 10), None, id="the-same"),
    ],
)
def test_direction_is_said_only_where_boxes_are_apart(a, b, said):
    assert direction(a, b) == said


@pytest.mark.parametrize(
    ("box", "said"),
    [
        ((0, 0, 10, 10), "in the top left"),
        ((40, 0, 50, 10), "at the top"),
        ((90, 40, 100, 60), "on the right"),
        ((40, 40, 60, 60), "in the center"),
        ((80, 80, 100, 100), "in the bottom right"),
    ],
)
def test_position_names_the_ninth_of_the_middle(box, said):
    assert position(box, 100, 100) == said


def test_unique_name_is_the_shortest_that_fits_one_shape_only():
    star = replace(SHAPES[0][1], name="star", colour="red", size="small", pattern="plain")
    star = replace(star, direction=None)
    large = replace(star, size="large")
    assert unique_name([star], 0) == "red star"
    assert unique_name([star, large], 1) == "large red star"
    assert unique_name([star, star], 0) is None
    spotted = replace(large, pattern="spotted")
    assert unique_name([star, large, spotted], 2) == "large spotted red star"


# -- captions, read back by a grammar of their own ------------------------------------------------

SHAPE = (
    r"(?:(?P<size>small|medium|large) )?(?:(?P<pattern>striped|spotted) )?"
    rf"(?P<colour>{'|'.join(COLOURS)}) (?P<noun>[a-z]+?)(?: pointing (?P<direction>[a-z]+))?"
)
PLACE = r"(?:in|at|on) the (?:(?:top|bottom)(?: left| right)?|left|right|center)"


def matching(drawn, phrase, *, exact=False):
    """Shapes a phrase like "small red star" or "red stars" fits."""
    said = re.fullmatch(SHAPE, phrase)
    assert said, phrase
    noun = said["noun"] if said["noun"] in CLASSES else re.sub(r"(?<=s)es$|s$", "", said["noun"])
    assert noun in CLASSES, phrase
    wanted = {key: value for key, value in said.groupdict().items() if value and key != "noun"}
    if exact:
        wanted = {**said.groupdict(), "pattern": said["pattern"] or "plain"}
        wanted.pop("noun")
    return [
        shape
        for shape in drawn.shapes
        if shape.name == noun and all(getattr(shape, key) == v for key, v in wanted.items())
    ]


def the_one(drawn, phrase):
    (shape,) = matching(drawn, phrase)
    return shape


def sentences(text):
    assert re.fullmatch(r"(?:[A-Z][^.]*\.)(?: [A-Z][^.]*\.)*", text), text
    return [part[0].lower() + part[1:] for part in text[:-1].split(". ")]


def items(listed):
    return re.split(r", | and ", listed)


def counted(item):
    """ "two red stars" -> (2, "red stars"); an article counts one."""
    number, rest = item.split(" ", 1)
    return (1 if number in ("a", "an") else NUMBERS.index(number)), rest


def ground(drawn):
    return f"{drawn.backdrop.texture} {drawn.backdrop.colour}"


@pytest.mark.parametrize("drawn", SCENES, ids=lambda drawn: str(drawn.index))
def test_brief_caption_counts_right(drawn):
    (sentence,) = sentences(drawn.captions.brief)
    sentence = sentence.removeprefix("a picture of ")
    if " on a " in sentence:
        sentence, backdrop = sentence.split(" on a ")
        assert backdrop == f"{ground(drawn)} background"
    listed, *spelled = re.split(r" and the words? (?=\")", sentence)
    if spelled:
        quoted = re.findall(r'"(\w+)"', spelled[0])
        assert sorted(quoted) == sorted(word.transcript for word in drawn.words)
    total = 0
    for item in items(listed):
        count, phrase = counted(item)
        total += count
        if not re.fullmatch(r"other shapes?", phrase):
            assert len(matching(drawn, phrase)) == count
    assert total == len(drawn.shapes)


@pytest.mark.parametrize("drawn", SCENES, ids=lambda drawn: str(drawn.index))
def test_detailed_caption_names_every_shape_word_and_the_backdrop(drawn):
    first, *lettering, last = sentences(drawn.captions.detailed)
    listed = re.sub(r"^(the picture shows|this image contains|here (is|are)) ", "", first)
    total = 0
    for item in items(listed):
        count, phrase = counted(item)
        assert len(matching(drawn, phrase, exact=True)) == count
        total += count
    assert total == len(drawn.shapes)
    assert len(lettering) == len(drawn.words)
    for sentence in lettering:
        assert spells(drawn, sentence)
    assert last == f"the background is {ground(drawn)}"


def spells(drawn, sentence):
    """Whether some word of the scene is written as the sentence says."""
    signed = re.fullmatch(r'an? (\w+) label reads "(\w+)" in (\w+) letters', sentence)
    plain = re.fullmatch(r'the word "(\w+)" is written in (\w+)(?: on an? (.+))?', sentence)
    other = re.fullmatch(r'(\w+) letters spell "(\w+)"(?: on an? (.+))?', sentence)
    assert signed or plain or other, sentence
    if signed:
        label, text, colour, on = *signed.groups(), None
    else:
        label, (text, colour, on) = (
            None,
            plain.groups() if plain else np.take(other.groups(), [1, 0, 2]),
        )
    for word in drawn.words:
        hosts = matching(drawn, on) if on else [None]
        lies_on = word.host is not None and drawn.shapes[word.host] in hosts if on else True
        if (word.transcript, word.colour, word.label) == (text, colour, label) and lies_on:
            return True
    return False


def holds(drawn, subject, predicate, object_):
    a, b = the_one(drawn, subject), the_one(drawn, object_)
    if predicate == "inside":
        edge = b.outline[:48] if b.name == "ring" else b.outline
        return not (filled(a.outline, drawn) & ~filled(edge, drawn)).any()
    if predicate == "partly covers":
        later = drawn.shapes.index(a) > drawn.shapes.index(b)
        shared = filled(a.outline, drawn) & filled(b.outline, drawn)
        return later and 0 < shared.sum() < filled(b.outline, drawn).sum()
    axis, first, second = {
        "left of": (0, a, b),
        "right of": (0, b, a),
        "above": (1, a, b),
        "below": (1, b, a),
    }[predicate]
    return first.box[axis + 2] <= second.box[axis]


@pytest.mark.parametrize("drawn", SCENES, ids=lambda drawn: str(drawn.index))
def test_more_detailed_caption_says_nothing_but_the_truth(drawn):
    first, *rest = sentences(drawn.captions.more_detailed)
    assert f"{ground(drawn)} background" in first
    shapes, words = (re.search(rf"(\w+) {noun}s?\b", first) for noun in ("shape", "word"))
    assert NUMBERS.index(shapes[1]) == len(drawn.shapes)
    assert (NUMBERS.index(words[1]) if words else 0) == len(drawn.words)
    placed = 0
    for sentence in rest:
        shape = re.fullmatch(rf"an? (.+) is ({PLACE})", sentence)
        front = re.fullmatch(rf"({PLACE}), there is an? (.+)", sentence)
        told = re.fullmatch(
            r"the (.+?) (?:is )?(inside|partly covers|left of|right of|above|below) the (.+)",
            sentence,
        )
        word = re.fullmatch(rf'the word "(\w+)" is ({PLACE})(?: and slants (\w+))?', sentence)
        if shape or front:
            phrase, place = shape.groups() if shape else front.groups()[::-1]
            assert place in {seen_at(drawn, s) for s in matching(drawn, phrase, exact=True)}
            placed += 1
        elif told:
            assert holds(drawn, *told.groups()), sentence
        elif word:
            text, place, slant = word.groups()
            slants = {0: None, 1: "upwards", -1: "downwards"}
            truths = [
                (w.transcript, seen_at(drawn, w), slants[int(np.sign(w.quad[0, 1] - w.quad[1, 1]))])
                for w in drawn.words
            ]
            assert (text, place, slant) in truths
        elif sentence == "thin lines cross the background":
            assert drawn.backdrop.num_lines > 0
        else:
            assert spells(drawn, sentence)
    assert placed == len(drawn.shapes)


def seen_at(drawn, thing):
    """Where the middle of a thing's box is, worked out here again."""
    x_min, y_min, x_max, y_max = thing.box
    x, y = (x_min + x_max) / 2 / drawn.width, (y_min + y_max) / 2 / drawn.height
    row = "top" if y < 1 / 3 else "bottom" if y >= 2 / 3 else ""
    column = "left" if x < 1 / 3 else "right" if x >= 2 / 3 else ""
    if row and column:
        return f"in the {row} {column}"
    return f"at the {row}" if row else f"on the {column}" if column else "in the center"


def test_captions_grow_longer_and_vary():
    for drawn in SCENES:
        texts = drawn.captions
        lengths = [len(t) for t in (texts.brief, texts.detailed, texts.more_detailed)]
        assert all(a < b for a, b in pairwise(lengths))
    openings = {drawn.captions.detailed.split()[0] for drawn in SCENES}
    assert openings == {"The", "This", "Here"}


def test_describe_says_the_same_for_the_same_state():
    drawn = SCENES[0]
    said = [
        describe(drawn.layout, np.random.default_rng(4), drawn.width, drawn.height) for _ in "ab"
    ]
    assert said[0] == said[1]
