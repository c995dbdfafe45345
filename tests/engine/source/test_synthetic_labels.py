"""Labels of the synthetic source: the truth, and how noise breaks them."""

import hashlib
import pickle
import subprocess
import sys

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import LimitsConfig
from engine.errors import ConfigError
from engine.schema import box_array
from engine.source import open_source
from engine.source.plan import make_plan
from engine.source.shard import read_shard
from engine.source.synthetic import Synthetic
from engine.synthetic.labels import BLOCK, WORLDS, noisy_rows, true_rows

PLAIN = {"uri": "synthetic", "world": "plain", "num_images": 150, "seed": 3}
EVERYTHING = list(WORLDS["plain"].gives)


def labels_of(source, places=None):
    """What the source says of its images, by uri."""
    listing = source.listing().images
    images = listing if places is None else listing.take(places)
    samples = source.read(images, LimitsConfig())
    return {
        uri: list(sample.rows)
        for uri, sample in zip(images["uri"].to_pylist(), samples, strict=True)
    }


def of_kind(rows, kind):
    return rows.filter(pc.equal(rows["kind"].cast(pa.string()), kind))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"world": "flat"}, "source.world is 'flat'; allowed: plain, plain_words, scenes"),
        ({"noise": 1.5}, "source.noise is 1.5; allowed: 0 to 1, or null"),
        ({"noise": -0.1}, "source.noise is -0.1; allowed"),
        ({"noise": float("nan")}, "source.noise is nan; allowed"),
        ({"gives": ["text/brief"]}, "without source.noise no labels are given; set source.noise=0"),
        ({"noise": 0, "gives": []}, "source.gives holds nothing; the world scenes has: text/brief"),
        (
            {"noise": 0, "gives": ["text/brief", "grounding/phrase"]},
            "holds 'grounding/phrase'; the world scenes has: .*region/ocr",
        ),
        (
            {"noise": 0, "world": "plain", "gives": ["region/ocr"]},
            "holds 'region/ocr'; the world plain has: .*grounding/phrase",
        ),
        (
            {"noise": 0, "world": "plain", "gives": ["grounding/phrase"]},
            "'grounding/phrase' without 'text/brief'",
        ),
    ],
)
def test_open_source_refuses_what_the_world_has_not(options, message):
    with pytest.raises(ConfigError, match=message):
        open_source(uri="synthetic", **options)


@pytest.mark.parametrize("world", WORLDS)
def test_without_noise_given_there_are_no_labels(world):
    source = open_source(uri="synthetic", world=world, num_images=2)
    assert source.produces == {}
    [first, _] = source.read(source.listing().images, LimitsConfig())
    assert (first.source, list(first.rows)) == (None, [])


def test_a_shard_of_plain_scenes_is_read_with_the_rows_of_their_source():
    source = pickle.loads(pickle.dumps(open_source(**PLAIN, noise=0.0)))
    assert source.produces == {"synthetic": ("region/category",)}
    plan = make_plan(source.listing(3), 3)
    loaded = read_shard(source, plan.rows, plan.modified)
    assert loaded.images["status"].to_pylist() == ["ok"] * 3
    assert loaded.images["uri"].to_pylist() == [f"scene-0000000{i}.png" for i in range(3)]
    assert loaded.images["width"].to_pylist() == [64] * 3
    assert [entry.source for entry in loaded.given] == ["synthetic"] * 3
    truth = true_rows("plain", 3, range(3))
    said = [row["text"] for entry in loaded.given for row in entry.rows]
    assert said == of_kind(truth, "region")["text"].to_pylist()
    assert not any(row["human"] for entry in loaded.given for row in entry.rows)


def test_labels_bear_the_name_the_source_is_given():
    source = open_source(**PLAIN, noise=0.5, name="web")
    assert source.produces == {"web": ("region/category",)}
    [sample] = source.read(source.listing(1).images, LimitsConfig())
    assert sample.source == "web"


def test_labels_without_noise_are_the_truth():
    said = labels_of(open_source(**PLAIN, noise=0, gives=EVERYTHING))
    truth = true_rows("plain", 3, range(150)).to_pylist()
    for place, rows in enumerate(said.values()):
        known = [row for row in truth if row["image_key"] == str(place)]
        assert len(rows) == len(known)
        for row, true in zip(rows, known, strict=True):
            for name in ("kind", "role", "text", "box", "polygon", "span_start", "span_end"):
                assert row.get(name) == true[name]
        (brief,) = [row["annotation_id"] for row in rows if row["role"] == "brief"]
        assert {row["text_id"] for row in rows if row["kind"] == "grounding"} == {brief}


@pytest.fixture(scope="module")
def whole():
    return labels_of(open_source(**PLAIN, noise=0.4, gives=EVERYTHING))


@settings(max_examples=12, deadline=None)
@given(
    places=st.lists(st.integers(0, 149), min_size=1, max_size=6),
    num_images=st.sampled_from([150, 1000]),
)
def test_what_is_said_does_not_depend_on_what_is_read_with_it(whole, places, num_images):
    part = open_source(**{**PLAIN, "num_images": num_images}, noise=0.4, gives=EVERYTHING)
    assert all(rows == whole[uri] for uri, rows in labels_of(part, places).items())


def test_the_choice_of_labels_breaks_none_of_them(whole):
    for gives in (["region/category"], ["text/detailed"], ["text/brief", "grounding/phrase"]):
        some = labels_of(open_source(**PLAIN, noise=0.4, gives=gives))
        for uri, rows in whole.items():
            chosen = [row for row in rows if f"{row['kind']}/{row['role']}" in gives]
            assert some[uri] == chosen


def test_another_process_says_the_same():
    code = (
        "from tests.engine.source.test_synthetic_labels import digest_of_labels\n"
        "print(digest_of_labels())"
    )
    found = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=120, check=True
    )
    assert found.stdout.strip() == digest_of_labels()


def digest_of_labels():
    said = labels_of(open_source(**PLAIN, noise=0.3, gives=EVERYTHING))
    return hashlib.sha256(repr(said).encode()).hexdigest()


def right_of(truth, noisy):
    """Labels of shapes that are right: same class, IoU with a shape of 0.5 or more."""
    right = 0
    keys = sorted(set(truth["image_key"].to_pylist()))
    for key in keys:
        true, said = (t.filter(pc.equal(t["image_key"], key)) for t in (truth, noisy))
        free = set(range(true.num_rows))
        for text, box in zip(said["text"].to_pylist(), box_array(said), strict=True):
            for i in sorted(free):
                if true["text"][i].as_py() == text and iou(box_array(true)[i], box) >= 0.5:
                    free.remove(i)
                    right += 1
                    break
    return right


def iou(a, b):
    shared = np.clip(np.minimum(a[2:], b[2:]) - np.maximum(a[:2], b[:2]), 0, None).prod()
    return shared / ((a[2:] - a[:2]).prod() + (b[2:] - b[:2]).prod() - shared)


@pytest.mark.parametrize("share", [0.0, 0.3, 0.6, 1.0])
def test_precision_and_recall_are_both_the_share_that_is_left(share):
    blocks = range(8)
    truth = [true_rows("plain", 1, range(b * BLOCK, (b + 1) * BLOCK)) for b in blocks]
    noisy = [noisy_rows("plain", 1, block, share) for block in blocks]
    truth, noisy = ([of_kind(table, "region") for table in tables] for tables in (truth, noisy))
    right = sum(right_of(*pair) for pair in zip(truth, noisy, strict=True))
    num_true, num_said = (sum(table.num_rows for table in tables) for tables in (truth, noisy))
    slack = 4 * (share * (1 - share) / num_true) ** 0.5
    # an invention has a class and place that may by chance be right, hardly ever
    assert right / num_true == pytest.approx(1 - share, abs=slack + 0.005)
    assert right / num_said == pytest.approx(1 - share, abs=slack + 0.02)


def test_texts_are_wrong_at_the_share_and_their_groundings_gone():
    truth = true_rows("plain", 0, range(BLOCK))
    noisy = noisy_rows("plain", 0, 0, 0.4)
    before, after = (of_kind(table, "text").to_pylist() for table in (truth, noisy))
    assert len(before) == len(after) == 3 * BLOCK
    wrong = {
        (a["image_key"], a["role"])
        for a, b in zip(before, after, strict=True)
        if a["text"] != b["text"]
    }
    assert len(wrong) / len(before) == pytest.approx(0.4, abs=0.08)
    texts = {row["annotation_id"]: row["text"] for row in after if row["role"] == "brief"}
    phrases = of_kind(noisy, "grounding").to_pylist()
    assert phrases
    for row in phrases:
        assert texts[row["text_id"]][row["span_start"] : row["span_end"]] == row["text"]
        assert (row["image_key"], "brief") not in wrong
    true = [
        row
        for row in of_kind(truth, "grounding").to_pylist()
        if (row["image_key"], "brief") not in wrong
    ]
    boxes = {(row["image_key"], tuple(row["box"])) for row in true}
    kept = sum((row["image_key"], tuple(row["box"])) in boxes for row in phrases)
    assert kept / len(true) == pytest.approx(0.6, abs=0.15)
    assert kept < len(phrases) < len(true)


def test_an_invention_stands_behind_the_object_it_is_beside_and_rows_by_image():
    noisy = noisy_rows("plain", 0, 2, 0.9)
    keys = list(map(int, noisy["image_key"].to_pylist()))
    assert keys == sorted(keys)
    roles = [row["role"] for row in noisy.filter(pc.equal(noisy["image_key"], "5")).to_pylist()]
    assert roles[:3] == ["brief", "detailed", "more_detailed"]
    assert roles == sorted(
        roles, key=["brief", "detailed", "more_detailed", "category", "phrase"].index
    )


def test_seeds_and_blocks_break_differently():
    def first_text_is_right(seed, block):
        truth = true_rows("plain", seed, range(block * BLOCK, block * BLOCK + 1))
        return truth["text"][0] == noisy_rows("plain", seed, block, 0.5)["text"][0]

    # the same numbers would always hit the first text, or never
    assert len({first_text_is_right(0, block) for block in range(12)}) == 2
    assert len({first_text_is_right(seed, 0) for seed in range(12)}) == 2


def test_noise_of_the_other_world_breaks_its_words_too():
    truth, noisy = true_rows("scenes", 0, range(BLOCK)), noisy_rows("scenes", 0, 0, 0.5)
    words = [
        t.filter(pc.equal(t["role"].cast(pa.string()), "ocr"))["text"].to_pylist()
        for t in (truth, noisy)
    ]
    assert words[0] != words[1]
    assert set(words[1]) <= set(words[0])
    source = Synthetic(num_images=3, noise=0.5, gives=["region/ocr", "text/brief"])
    said = labels_of(source, [1])
    assert {row["role"] for rows in said.values() for row in rows} <= {"ocr", "brief"}
