"""The noise model: what is broken, how often, and that the log tells all of it."""

from collections import Counter

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError, TableError
from engine.schema import ANNOTATIONS, CLAIM, box_array, canonical, claims, empty_claims
from engine.synthetic import DEFECTS, add_noise, scene
from engine.synthetic.noise import LOG

TRUTH = pa.concat_tables([scene(21, index).rows(f"s-{index}") for index in range(120)])
SIZE = (384, 288)


def overlap(a, b):
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    shared = max(width, 0) * max(height, 0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return shared / (sum(areas) - shared)


def region(**columns):
    """Rows of kind region, by default with a class and a box each."""
    columns = {"image_key": ["a", "a", "b"], "text": ["dog", "cat", "dog"], **columns}
    boxes = [[10, 20, 60, 80], [100, 20, 180, 90], [0, 0, 50, 50]]
    return claims(**{"kind": "region", "role": "category", "box": boxes, **columns})


def test_add_noise_of_no_rows_is_no_rows_and_no_log():
    noisy, log = add_noise(empty_claims(), share=1, seed=0)
    assert noisy.equals(empty_claims())
    assert log.equals(LOG.empty_table())


def test_add_noise_with_share_zero_changes_nothing():
    noisy, log = add_noise(TRUTH, share=0, seed=5)
    assert noisy.equals(canonical(TRUTH, CLAIM))
    assert log.num_rows == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"share": 1.5, "seed": 0}, "share 1.5; it is a probability"),
        ({"share": float("nan"), "seed": 0}, "share nan; it is a probability"),
        ({"share": 0.5, "seed": -1}, "seed -1; it must be 0 or more"),
        ({"share": 0.5, "seed": 0, "kinds": ["blur"]}, "holds 'blur'; known: missing, wrong_class"),
        ({"share": 0.5, "seed": 0, "kinds": []}, "kinds holds nothing; known: missing"),
    ],
)
def test_add_noise_refuses_what_it_cannot_do(options, message):
    with pytest.raises(ConfigError, match=message):
        add_noise(TRUTH, **options)


def test_add_noise_takes_claims_only():
    with pytest.raises(TableError, match="unknown"):
        add_noise(ANNOTATIONS.empty_table(), share=0.5, seed=0)


def test_add_noise_breaks_every_object_at_share_one():
    noisy, log = add_noise(TRUTH, share=1, seed=1)
    # Only an invention may find no free place; then its object stays whole.
    assert log.num_rows >= TRUTH.num_rows - 5
    assert set(log["defect"].to_pylist()) == set(DEFECTS)
    done = Counter(log["defect"].to_pylist())
    assert noisy.num_rows == TRUTH.num_rows - done["missing"] + done["invented"]


def test_add_noise_breaks_about_its_share():
    _, log = add_noise(TRUTH, share=0.3, seed=2)
    deviation = (0.3 * 0.7 / TRUTH.num_rows) ** 0.5
    assert log.num_rows / TRUTH.num_rows == pytest.approx(0.3, abs=3 * deviation)
    done = Counter(log["defect"].to_pylist())
    regions = [done[kind] for kind in DEFECTS if DEFECTS[kind] == "region"]
    assert min(regions) > sum(regions) / 8  # a quarter each, but for chance


def test_add_noise_is_the_same_again_and_leaves_its_input_alone():
    rows = TRUTH.slice(3, 200)
    before = rows.to_pylist()
    first, second = (add_noise(rows, share=0.4, seed=3) for _ in range(2))
    assert first[0].equals(second[0])
    assert first[1].equals(second[1])
    assert rows.to_pylist() == before
    assert not first[0].equals(add_noise(rows, share=0.4, seed=4)[0])


def test_add_noise_ignores_the_order_of_kinds():
    one = add_noise(TRUTH, share=0.4, seed=3, kinds=["missing", "shifted"])
    other = add_noise(TRUTH, share=0.4, seed=3, kinds=["shifted", "missing"])
    assert one[0].equals(other[0])


def test_a_larger_share_breaks_the_same_objects_in_the_same_way_and_more():
    (_, few), (_, many) = (add_noise(TRUTH, share=share, seed=6) for share in (0.2, 0.5))
    columns = ["row", "defect", "after", "iou"]
    few, many = (
        {tuple(entry.values()) for entry in log.select(columns).to_pylist()} for log in (few, many)
    )
    assert few < many


def test_the_log_tells_every_difference():
    noisy, log = add_noise(TRUTH, share=0.5, seed=7)
    truth, found = TRUTH.to_pylist(), noisy.to_pylist()
    entries = {entry["row"]: entry for entry in log.to_pylist()}
    at = 0
    for row, claim in enumerate(truth):
        entry = entries.get(row, {"defect": None})
        if entry["defect"] == "missing":
            assert (entry["noisy_row"], entry["after"]) == (None, None)
            continue
        if entry["defect"] is None or entry["defect"] == "invented":
            assert found[at] == claim
        else:
            assert entry["noisy_row"] == at
            changed = {name for name in claim if found[at][name] != claim[name]}
            assert changed == ({"box", "polygon"} if entry["defect"] == "shifted" else {"text"})
            assert (entry["before"], entry["after"]) == (claim["text"], found[at]["text"])
        if entry["defect"] == "invented":
            at += 1
            assert entry["noisy_row"] == at
            assert found[at]["image_key"] == entry["image_key"] == claim["image_key"]
            assert (found[at]["role"], found[at]["polygon"]) == (claim["role"], None)
        at += 1
    assert at == noisy.num_rows


def test_wrong_texts_are_other_texts_of_the_same_role():
    noisy, log = add_noise(TRUTH, share=1, seed=8, kinds=["wrong_class", "wrong_caption"])
    assert log.num_rows == TRUTH.num_rows == noisy.num_rows
    known = {(row["role"], row["text"]) for row in TRUTH.to_pylist()}
    for before, after in zip(TRUTH.to_pylist(), noisy.to_pylist(), strict=True):
        assert after["text"] != before["text"]
        assert (before["role"], after["text"]) in known


def test_boxes_stay_valid_and_outlines_follow_them():
    noisy, log = add_noise(TRUTH, share=1, seed=9, kinds=["shifted"])
    boxes, was = box_array(noisy), box_array(TRUTH)
    assert log.num_rows == np.isfinite(was[:, 0]).sum()
    for entry in log.to_pylist():
        box, true = boxes[entry["noisy_row"]], was[entry["row"]]
        assert 0 <= box[0] < box[2] <= SIZE[0]
        assert 0 <= box[1] < box[3] <= SIZE[1]
        assert entry["iou"] == pytest.approx(overlap(box, true), abs=1e-4)
        assert 0.1 <= entry["iou"] < 0.5
        (ring,) = noisy["polygon"][entry["noisy_row"]].as_py()
        x, y = ring[0::2], ring[1::2]
        assert [min(x), min(y), max(x), max(y)] == pytest.approx(list(box), abs=1e-3)


def test_inventions_keep_away_from_real_objects():
    noisy, log = add_noise(TRUTH, share=1, seed=10, kinds=["invented"])
    rows = TRUTH.to_pylist()
    assert log.num_rows > 500
    for entry in log.to_pylist():
        made = noisy.slice(entry["noisy_row"], 1).to_pylist()[0]
        assert 0 <= made["box"][0] < made["box"][2] <= SIZE[0]
        assert 0 <= made["box"][1] < made["box"][3] <= SIZE[1]
        real = [r["box"] for r in rows if r["image_key"] == made["image_key"] and r["box"]]
        most = max(overlap(made["box"], box) for box in real)
        assert most <= 0.3
        assert entry["iou"] == pytest.approx(most, abs=1e-4)


def test_no_invention_is_made_where_everything_is_taken():
    rng = np.random.default_rng(0)
    size, draw = rng.uniform(50, 250, (3000, 2)), rng.random((3000, 2))
    corner = draw * (500 - size)
    boxes = np.concatenate([corner, corner + size], axis=1).astype(np.float32)
    rows = region(image_key=["a"] * 3000, text=["dog"] * 3000, box=boxes)
    noisy, log = add_noise(rows, share=0.02, seed=0, kinds=["invented"])
    assert log.num_rows == 0
    assert noisy.equals(canonical(rows, CLAIM))


def test_inventions_have_an_id_of_their_own_where_rows_have_one():
    rows = region(annotation_id=["1", "2", None], score=[0.5, 0.5, 0.5], source="hand")
    noisy, log = add_noise(rows, share=1, seed=0, kinds=["invented"])
    made = noisy.take(log["noisy_row"]).to_pylist()
    assert len(made) == 3
    ids = [row["annotation_id"] for row in made]
    assert ids[2] is None
    assert len({"1", "2", *ids[:2]}) == 4
    assert all(row["score"] is None and row["source"] == "hand" for row in made)


@pytest.mark.parametrize(
    "rows",
    [
        pytest.param(region(box=None), id="no-box"),
        pytest.param(region(box=[[5, 5, 5.5, 90]] * 3), id="thinner-than-a-pixel"),
        pytest.param(region(ignore=True), id="to-ignore"),
        pytest.param(region(text=[None] * 3), id="no-text"),
        pytest.param(region(kind="grounding", role="phrase"), id="other-kind"),
        pytest.param(claims(image_key=["a"], kind="text", role="brief", text=["x"]), id="one-text"),
    ],
)
def test_add_noise_leaves_alone_what_is_no_object(rows):
    noisy, log = add_noise(rows, share=1, seed=0)
    assert log.num_rows == 0
    assert noisy.equals(canonical(rows, CLAIM))


def test_a_class_without_another_gets_some_other_defect():
    _, log = add_noise(region(text=["dog"] * 3), share=1, seed=0, kinds=["wrong_class", "missing"])
    assert log["defect"].to_pylist() == ["missing"] * 3


box = st.tuples(*[st.floats(0, 4000, width=32)] * 2, *[st.floats(1, 3000, width=32)] * 2)


@settings(deadline=None)
@given(boxes=st.lists(box, min_size=1, max_size=6), seed=st.integers(0, 99))
def test_shifted_and_invented_boxes_stay_in_the_span_of_the_real_ones(boxes, seed):
    corners = np.array([[x, y, x + w, y + h] for x, y, w, h in boxes], np.float32)
    texts = [f"class-{i}" for i in range(len(boxes))]
    rows = region(image_key=["a"] * len(boxes), text=texts, box=corners)
    noisy, log = add_noise(rows, share=1, seed=seed, kinds=["shifted", "invented"])
    found = box_array(noisy)
    assert (found[:, :2] >= 0).all()
    assert (found[:, :2] < found[:, 2:]).all()
    assert (found[:, 2:] <= corners[:, 2:].max(axis=0)).all()
    assert (log["iou"].to_numpy() < 0.5).all()
