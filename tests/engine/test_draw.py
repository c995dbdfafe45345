"""Pictures of images and their rows, checked pixel by pixel where a line must or must not be."""

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from engine.draw import contact_sheet, draw_image
from engine.draw_marks import Mark, draw_labels, find_spot
from engine.draw_panel import draw_panel
from engine.draw_style import PALETTE, REJECTED, SUPERSEDED, colours_of, shorten
from engine.schema import ANNOTATIONS
from tests.builders import rows

WIDTH, HEIGHT = 1_200, 900  # within the display range, so that a pixel stays a pixel
GREEN = np.full((HEIGHT, WIDTH, 3), (40, 90, 40), np.uint8)
BOX = [300, 400, 900, 700]
INSIDE = (550, 600)  # y, x
NAN = float("nan")


def draw(given, pixels=GREEN, **options):
    return np.asarray(draw_image(pixels, given, **options))


def judged(status, **columns):
    """Rows with that status, as a dataset on disk has them."""
    claims = rows(**{"box": [BOX], **columns})
    verdicts = {"status": [status], "rule": ["min_score"], "measured": [0.1], "limit": [0.25]}
    names = ANNOTATIONS.names
    filled = [claims[n] if n in claims.column_names else verdicts.get(n, [None]) for n in names]
    return type(claims).from_pydict(dict(zip(names, filled, strict=True))).cast(ANNOTATIONS)


def test_draw_image_without_rows_leaves_the_photo_untouched_above_the_panel():
    picture = draw(rows())
    assert picture.shape[1] == WIDTH
    assert picture.shape[0] > HEIGHT
    assert np.array_equal(picture[:HEIGHT], GREEN)


def test_draw_image_is_the_same_every_time():
    given = rows(box=[BOX, [10, 10, 50, 50]], text=["dog", "cat"])
    assert np.array_equal(draw(given), draw(given))


def share_of(picture, colour):
    """How much of the box's lower edge is in that colour."""
    strip = picture[696:700, 320:880].astype(int)
    return (np.abs(strip - colour).max(axis=2) < 40).any(axis=0).mean()


@pytest.mark.parametrize(
    ("status", "colour", "least", "most"),
    [
        pytest.param("kept", colours_of(["thing"])["thing"], 1, 1, id="kept-is-solid"),
        pytest.param("rejected", REJECTED, 0.4, 0.7, id="rejected-is-dashed"),
        pytest.param("superseded", SUPERSEDED, 0.15, 0.45, id="superseded-is-dotted"),
    ],
)
def test_draw_image_draws_the_line_of_each_status(status, colour, least, most):
    assert least <= share_of(draw(judged(status)), colour) <= most


def test_draw_image_dashes_go_on_round_the_corners_of_a_polygon():
    x_there, x_back = np.arange(300, 901, 6.0), np.arange(900, 299, -6.0)
    upper = np.stack([x_there, np.full(len(x_there), 400.0)], axis=1)
    lower = np.stack([x_back, np.full(len(x_back), 698.0)], axis=1)
    ring = [np.concatenate([upper, lower]).reshape(-1).tolist()]
    assert 0.4 < share_of(draw(judged("rejected", polygon=[ring])), REJECTED) < 0.7


def test_draw_image_counts_a_row_without_status_as_kept():
    assert share_of(draw(rows(box=[BOX])), colours_of(["thing"])["thing"]) == 1


@pytest.mark.parametrize(("status", "tinted"), [("kept", True), ("rejected", False)])
def test_draw_image_tints_the_polygons_of_kept_rows_only(status, tinted):
    ring = [[300.0, 400.0, 900.0, 400.0, 900.0, 700.0, 300.0, 700.0]]
    picture = draw(judged(status, polygon=[ring]))
    assert (picture[INSIDE] != GREEN[INSIDE]).any() == tinted


@pytest.mark.parametrize("box", [[NAN] * 4, [5, 5, 5, 9], [9, 9, 5, 5], [2_000, 0, 3_000, 9], None])
def test_draw_image_leaves_out_a_box_that_is_none_and_says_so(box):
    panel_of_a_drawn_one = draw(rows(box=[BOX]))[HEIGHT:]
    picture = draw(rows(box=[box]))
    assert np.array_equal(picture[:HEIGHT], GREEN)
    assert (picture[HEIGHT:] != panel_of_a_drawn_one).any()


def test_draw_image_clips_what_reaches_out_of_the_photo():
    picture = draw(rows(box=[[-500, -500, 5_000, float("inf")], [-500, -500, 5_000, 5_000]]))
    assert (picture[HEIGHT - 3, 100:200] != GREEN[0, 0]).any()


@pytest.mark.parametrize(
    ("shape", "longer_side"),
    [
        pytest.param((60, 80), 1_000, id="small-is-enlarged"),
        pytest.param((1_200, 1_100), 1_200, id="fitting-stays"),
        pytest.param((3_000, 4_000), 1_600, id="huge-is-shrunk"),
    ],
)
def test_draw_image_brings_photos_to_a_legible_size(shape, longer_side):
    picture = draw_image(np.zeros((*shape, 3), np.uint8), rows(box=[[0, 0, 40, 40]]))
    assert max(picture.width, round(picture.width * shape[0] / shape[1])) == longer_side


def panel_height(given):
    return draw(given).shape[0] - HEIGHT


def test_draw_image_writes_captions_in_the_panel_and_wraps_them():
    short = rows(kind="text", role="brief", text=["A dog."])
    long = rows(kind="text", role="brief", text=["A dog and a cat. " * 40])
    assert panel_height(rows()) < panel_height(short) < panel_height(long)


def test_draw_panel_colours_the_words_a_phrase_was_grounded_at():
    caption = rows(kind="text", role="brief", text=["A dog runs."])
    phrase = rows(
        kind="grounding", role="phrase", text=["dog"], text_id="row-0", span_start=2, span_end=5
    )
    entries = [
        {
            **row,
            **dict.fromkeys(["rule", "against", "owner"]),
            "status": "kept",
            "colour": PALETTE[0],
        }
        for row in [*caption.to_pylist(), *phrase.to_pylist()]
    ]

    def amount(given):
        panel = np.asarray(draw_panel(600, given, title="", notes=[], size=16)).astype(int)
        return (np.abs(panel - PALETTE[0]).max(axis=2) < 20).sum()

    elsewhere = {**entries[1], "text_id": "another"}
    assert amount(entries) > 1.5 * amount([entries[0], elsewhere])  # the rest is in the legend


def coloured(picture):
    """How many different palette colours cover more than specks of it."""
    pixels = np.asarray(picture).astype(int)
    return sum((np.abs(pixels - c).max(axis=2) < 12).sum() > 300 for c in PALETTE)


def test_a_region_with_several_words_and_phrases_is_one_mark_of_one_colour():
    """A phrase that points at a region has its colour; drawn apart they would hide each other."""
    box = [20, 20, 160, 110]
    region = rows(text=["person"], annotation_id=["r"], region_id=["r"], box=[box])
    more = rows(
        kind=["region", "grounding", "grounding"],
        role=["brief", "phrase", "phrase"],
        text=["a tall man", "a man", "somebody"],
        annotation_id=["b", "g", "h"],
        region_id=["r", "r", "r"],
        box=[box] * 3,
    )
    together = pa.concat_tables([region, more])
    pixels = np.full((130, 180, 3), 255, np.uint8)
    assert coloured(draw_image(pixels, region)) == coloured(draw_image(pixels, together)) == 1
    elsewhere = rows(text=["dog"], annotation_id=["d"], region_id=["d"], box=[[5, 5, 90, 60]])
    both = pa.concat_tables([region, elsewhere])
    assert coloured(draw_image(pixels, both)) == 2


def test_draw_labels_counts_those_without_room():
    canvas = Image.new("RGB", (300, 200))
    mark = Mark((10, 10, 290, 190), [], "a rather long label", "kept", PALETTE[0])
    assert draw_labels(canvas, [], size=14) == 0
    assert draw_labels(canvas, [mark] * 3, size=14) == 0
    assert draw_labels(canvas, [mark] * 12, size=14) > 0


def test_draw_labels_spares_specks_in_a_crowd():
    speck = Mark((500, 200, 504, 204), [], "speck", "kept", PALETTE[0])
    rooms = [Mark((0, y, 600, y + 30), [], "room", "kept", PALETTE[1]) for y in range(0, 390, 30)]
    assert draw_labels(Image.new("RGB", (600, 400)), [speck], size=14) == 0
    assert draw_labels(Image.new("RGB", (600, 400)), [*rooms, speck], size=14) == 1


places = st.floats(0, 500)


@given(
    x=places, y=places, width=st.floats(1, 200), height=st.floats(1, 60), count=st.integers(0, 9)
)
def test_find_spot_stays_in_the_canvas_and_off_other_labels(x, y, width, height, count):
    taken = []
    for _ in range(count):
        spot = find_spot((x, y, x + 50, y + 50), (width, height), (550, 550), taken)
        if spot is None:
            break
        left, top = spot
        assert 0 <= left <= 550 - width
        assert 0 <= top <= 550 - height
        for a, b, c, d in taken:
            shared = max(0, min(c, left + width) - max(a, left))
            shared *= max(0, min(d, top + height) - max(b, top))
            assert shared <= 0.05 * width * height + 1e-6
        taken.append((left, top, left + width, top + height))


def test_colours_of_words_differ_and_do_not_depend_on_their_order():
    words = [f"class {n}" for n in range(len(PALETTE))]
    colours = colours_of(words)
    assert len(set(colours.values())) == len(PALETTE)
    assert colours_of(reversed(words)) == colours
    assert colours_of([]) == {}


def test_colours_of_more_words_than_colours_repeat():
    assert len(colours_of(f"class {n}" for n in range(50))) == 50


def test_shorten_cuts_to_one_line():
    assert shorten("a\n b", 10) == "a b"
    assert shorten("abcdef", 4) == "abc\u2026"


def test_contact_sheet_without_pictures_is_a_page():
    assert contact_sheet([], title="nothing").width > 0


def test_contact_sheet_fills_the_shortest_column():
    tall, wide = Image.new("RGB", (100, 400), "red"), Image.new("RGB", (100, 50), "blue")
    page = np.asarray(contact_sheet([tall, wide, wide], columns=2, column_width=64))
    red, blue = ((page == colour).all(axis=2) for colour in ([255, 0, 0], [0, 0, 255]))
    assert red.sum() == 64 * 256
    assert blue.sum() == 2 * 64 * 32
    assert np.flatnonzero(red.any(axis=0)).max() < np.flatnonzero(blue.any(axis=0)).min()


def test_draw_image_draws_real_photos_with_their_truth(data):
    truth = json.loads((data / "coco80/annotations/instances.json").read_text())
    name = {category["id"]: category["name"] for category in truth["categories"]}
    image = max(truth["images"], key=lambda i: i["height"])
    own = [row for row in truth["annotations"] if row["image_id"] == image["id"]]
    x, y, w, h = np.array([row["bbox"] for row in own]).T
    rings = [row["segmentation"] if isinstance(row["segmentation"], list) else None for row in own]
    given = rows(
        box=np.stack([x, y, x + w, y + h], axis=1),
        polygon=rings,
        text=[name[row["category_id"]] for row in own],
    )
    photo = np.asarray(
        Image.open(data / "coco80/images" / image["file_name"].rsplit("/", 1)[-1]).convert("RGB")
    )
    picture = draw_image(photo, given, title="truth")
    assert (picture.width, picture.height) > (photo.shape[1], photo.shape[0])


@pytest.mark.parametrize("box", [[30, 10, 30.01, 60], [30, 10, 60, 10.01], [5, 5, 5.001, 5.001]])
def test_draw_image_draws_a_rejected_box_that_is_thinner_than_its_line(box):
    draw(judged("rejected", box=[box]))
