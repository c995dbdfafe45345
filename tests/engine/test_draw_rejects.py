"""Pages of rejected rows: which rows are drawn, and that their boxes are where they belong."""

import io
from collections.abc import Mapping

import numpy as np
import pyarrow as pa
import pytest
from PIL import Image

from engine.draw_rejects import dataset_shards, draw_rejects
from engine.draw_style import REJECTED
from engine.schema import ANNOTATIONS, image_rows
from tests.builders import rows
from tests.hostile_rows import hostile_dataset
from tests.judged import PIXELS, filter_version, put
from tests.shards import VERSION, dataset, images

GREEN = (40, 90, 40)
BLUE = (0, 138, 230)
SIZE = (640, 440)  # that of a tile: nothing is scaled where the whole photo is shown


def photo(size=SIZE, colour=GREEN):
    out = io.BytesIO()
    Image.new("RGB", size, colour).save(out, "PNG")
    return out.getvalue()


def judged(status, rule, *, measured=0.1, against=None, **columns):
    """Rows with those verdicts, as a label version has them."""
    claims, count = rows(**columns), len(status)
    verdicts = {"status": status, "rule": rule, "measured": [measured] * count}
    verdicts |= {"limit": [0.25] * count, "against": against or [None] * count}
    filled = {
        name: claims[name] if name in claims.column_names else verdicts[name]
        for name in ANNOTATIONS.names
    }
    return pa.Table.from_pydict(filled).cast(ANNOTATIONS)


def shard(annotations, data=None):
    keys = sorted(set(annotations["image_key"].to_pylist()))
    return image_rows(image_key=keys, status="ok"), annotations, {} if data is None else data


def near(picture, colour, tolerance=40):
    pixels = np.asarray(picture).astype(int)
    return (np.abs(pixels - colour).max(axis=2) < tolerance).sum()


@pytest.mark.parametrize(
    "shards",
    [
        pytest.param([], id="no-shards"),
        pytest.param([shard(judged([], [], box=[]))], id="no-rows"),
        pytest.param([shard(judged(["kept"], [None], box=[[0, 0, 9, 9]]))], id="none-rejected"),
    ],
)
def test_where_nothing_was_rejected_the_page_says_so(shards):
    page = draw_rejects(shards)
    assert page.width > 0
    assert near(page, REJECTED) == 0


def test_a_rejected_box_and_the_one_it_lost_to_are_drawn():
    boxes = [[100, 100, 400, 300], [120, 110, 420, 310]]
    pair = {"box": boxes, "score": [0.4, 0.9], "text": ["dog", "cat"]}
    lost = judged(["rejected", "kept"], ["duplicate_region", None], against=["row-1", None], **pair)
    alone = judged(["rejected", "kept"], ["min_score", None], **pair)
    data = {"a": photo()}
    with_winner, without = draw_rejects([shard(lost, data)]), draw_rejects([shard(alone, data)])
    assert near(with_winner, BLUE) > 500
    assert near(without, BLUE) == 0
    assert near(without, REJECTED) > 200


def test_a_row_without_a_box_shows_the_whole_photo_and_its_text():
    said = judged(["rejected"], ["min_tokens"], kind="text", role="alt", text=["DSC_0001"])
    page = draw_rejects([shard(said, {"a": photo()})])
    assert near(page, GREEN, 3) == SIZE[0] * SIZE[1]


@pytest.mark.parametrize("data", [{}, {"a": b"no picture"}], ids=["none-given", "broken"])
def test_a_row_whose_picture_cannot_be_shown_is_told_all_the_same(data):
    page = draw_rejects([shard(judged(["rejected"], ["r"], box=[[0, 0, 9, 9]]), data)])
    assert near(page, GREEN) < 1_000  # words have such shades too
    assert near(page, REJECTED) > 20  # the name of the rule


class Noting(Mapping):
    """Pictures that remember who was asked for."""

    def __init__(self, asked):
        self.asked = asked

    def __getitem__(self, key):
        self.asked.append(key)
        return photo((32, 22))

    def __iter__(self):
        raise AssertionError("only looked up")

    def __len__(self):
        raise AssertionError("only looked up")


def many(rules, *, start=0):
    keys = [f"k{start + n}" for n in range(len(rules))]
    return judged(["rejected"] * len(rules), rules, image_key=keys, box=[[0, 0, 9, 9]] * len(rules))


def test_every_rule_has_its_turn_and_pictures_are_read_of_few():
    rules = ["a_loud_one"] * 500 + ["a_quiet_one"] * 3
    asked = []
    draw_rejects([shard(many(rules), Noting(asked))], count=6)
    assert len(asked) == 6
    assert {f"k{n}" for n in range(500, 503)} < set(asked)


def test_rows_of_all_shards_may_be_drawn_and_the_seed_decides():
    def chosen(seed):
        asked = []
        tables = [many(["r"] * 20, start=20 * n) for n in range(5)]
        page = draw_rejects([shard(t, Noting(asked)) for t in tables], count=10, seed=seed)
        return asked, page.tobytes()

    first, again, other = chosen(1), chosen(1), chosen(2)
    assert first == again
    assert first[0] != other[0]
    assert {int(key[1:]) // 20 for key in first[0]} >= {0, 1, 2}


def test_every_row_keeps_its_own_picture_as_others_come():
    colours = [(250 - 50 * n, 0, 50 * n) for n in range(6)]
    shards = [
        shard(many(["r"] * 2, start=n), {f"k{n + i}": photo(colour=colours[n + i]) for i in (0, 1)})
        for n in (0, 2, 4)
    ]
    page = draw_rejects(shards, count=6)
    assert all(near(page, colour, 3) > 0.8 * SIZE[0] * SIZE[1] for colour in colours)


def test_the_title_counts_what_is_shown_and_what_there_is():
    few = draw_rejects([shard(many(["r"] * 5), Noting([]))], count=4)
    every = draw_rejects([shard(many(["r"] * 4), Noting([]))], count=4)
    strip = (0, 0, few.width, 60)
    assert few.size == every.size
    assert few.crop(strip).tobytes() != every.crop(strip).tobytes()  # "4 of 5", "4 of 4"


def test_a_version_without_pixels_is_drawn_with_those_of_its_parent(tmp_path):
    place = dataset(tmp_path, ["a"])
    region = rows(box=[[1, 1, 5, 5]], text=["dog"])
    put(place, 0, images("a"), region, {"a": PIXELS["a"]})
    assert near(draw_rejects(dataset_shards(place.output, VERSION)), (255, 0, 0), 12) == 0
    filter_version(place)
    page = draw_rejects(dataset_shards(place.output, "round-0.filter-1"))
    assert near(page, (255, 0, 0), 12) > 10_000


def test_hostile_rows_are_drawn(tmp_path):
    place = hostile_dataset(tmp_path)
    page = draw_rejects(dataset_shards(place.output, VERSION), count=33)
    assert page.width < 5_000
    assert page.height < 20_000
