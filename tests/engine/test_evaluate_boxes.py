"""Boxes against truth: COCO's numbers against pycocotools and published ones, counts by hand.

Real detections through a whole run are compared in test_assess_photos.
"""

import io
import json
import pickle
from contextlib import redirect_stdout
from dataclasses import astuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evaluate import AveragePrecision, RegionScores
from tests.builders import rows
from tests.truths import coco_boxes

BOX = [0, 0, 10, 10]
FAR = [50, 50, 60, 60]


def twelve(ranked: AveragePrecision) -> list[float | None]:
    """COCO's numbers in the order in which pycocotools has them."""
    return list(astuple(ranked.result())[:12])


def pycocotools_twelve(truth: dict, results: list[dict]) -> list[float]:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with redirect_stdout(io.StringIO()):
        known = COCO()
        known.dataset = truth
        known.createIndex()
        evaluation = COCOeval(known, known.loadRes(results), "bbox")
        evaluation.evaluate()
        evaluation.accumulate()
        evaluation.summarize()
    return evaluation.stats.tolist()


def ours_twelve(truth: dict, results: list[dict], *, num_shards: int = 1) -> list[float | None]:
    """The same numbers from rows, image by image in order of id, in some shards."""
    ids = sorted(image["id"] for image in truth["images"])
    ranked = AveragePrecision()
    for some in np.array_split(ids, num_shards):
        wanted = set(some.tolist())
        true, claimed = (
            sorted(
                (each for each in records if each["image_id"] in wanted),
                key=lambda each: each["image_id"],
            )
            for records in (truth["annotations"], results)
        )
        tables = [
            coco_boxes(truth, records, [str(each["image_id"]) for each in records])
            for records in (claimed, true)
        ]
        ranked.add(*tables, np.array([each["area"] for each in true], float))
    return twelve(ranked)


def random_scenes(seed: int, *, num_images: int = 12) -> tuple[dict, list[dict]]:
    """Objects of all sizes with masks smaller than their boxes and crowds; noisy, tied answers."""
    rng = np.random.default_rng(seed)
    truth, results = [], []
    for image in range(1, num_images + 1):
        for _ in range(rng.integers(0, 12)):
            size = np.exp(rng.uniform(1, 6, 2)).round(1)
            x, y = rng.uniform(0, 300, 2).round(1)
            box = [float(x), float(y), float(size[0]), float(size[1])]
            label = int(rng.integers(1, 4))
            area = float(size.prod() * rng.uniform(0.4, 1))
            truth.append(
                {"id": len(truth) + 1, "image_id": image, "category_id": label, "bbox": box}
                | {"area": area, "iscrowd": int(rng.random() < 0.15)}
            )
            for _ in range(rng.integers(0, 4)):
                near = np.array(box) + rng.normal(0, 0.15, 4) * np.tile(size, 2)
                near[2:] = np.maximum(near[2:], 1)
                wrong = rng.random() < 0.2
                results.append(
                    {"image_id": image, "bbox": near.astype(np.float32).astype(float).tolist()}
                    | {"category_id": int(rng.integers(1, 5)) if wrong else label}
                    | {"score": float(rng.integers(1, 20)) / 20}
                )
    names = [{"id": i, "name": f"class {i}"} for i in (1, 2, 3, 4)]
    images = [{"id": i} for i in range(1, num_images + 1)]
    return {"images": images, "categories": names, "annotations": truth}, results


def test_average_precision_of_nothing_is_null():
    ranked = AveragePrecision()
    assert twelve(ranked) == [None] * 12
    ranked.add(rows(), rows())
    assert twelve(ranked) == [None] * 12
    assert ranked.result().by_class == {}


def test_average_precision_without_truth_is_null_and_without_claims_zero():
    claimed = AveragePrecision()
    claimed.add(rows(box=[BOX], score=[0.5]), rows())
    assert twelve(claimed) == [None] * 12
    silent = AveragePrecision()
    silent.add(rows(), rows(box=[BOX]))
    assert silent.result().ap == 0.0
    assert silent.result().ar100 == 0.0
    assert silent.result().ap_large is None  # the one object is small


def test_average_precision_equals_the_published_numbers(data):
    folder = data / "oracles" / "map"
    truth = json.loads((folder / "test_coco_eval/gts/sampled_gts_bbox_area.json").read_text())
    results = json.loads((folder / "test_coco_eval/cocoapi_results.json").read_text())
    listed = {image["id"] for image in truth["images"]}
    results = [each for each in results if each["image_id"] in listed]
    expected = json.loads((folder / "expected.json").read_text())["coco"]["expected"]
    for num_shards in (1, 7):
        found = ours_twelve(truth, results, num_shards=num_shards)
        np.testing.assert_allclose(found, expected, atol=1e-6)


@pytest.mark.parametrize("seed", range(6))
def test_average_precision_equals_pycocotools(seed):
    truth, results = random_scenes(seed)
    expected = pycocotools_twelve(truth, results)
    assert expected[0] > 0.05  # there is something to compare
    for num_shards in (1, 5):
        found = ours_twelve(truth, results, num_shards=num_shards)
        np.testing.assert_allclose(found, expected, atol=1e-9)


def test_average_precision_counts_the_best_hundred_boxes_of_an_image_and_class():
    scores = np.linspace(0.9, 0.1, 150).tolist()
    boxes = [FAR] * 100 + [BOX] * 50
    ranked = AveragePrecision()
    ranked.add(rows(box=boxes, score=scores), rows(box=[BOX]))
    assert ranked.result().ar100 == ranked.result().ap == 0.0
    ranked = AveragePrecision()
    ranked.add(rows(box=boxes[1:], score=scores[1:]), rows(box=[BOX]))
    assert ranked.result().ar100 == 1.0


def test_claims_without_score_rank_last_and_are_told():
    ranked = AveragePrecision()
    ranked.add(rows(box=[FAR, BOX], score=[None, 0.1]), rows(box=[BOX]))
    assert (ranked.result().ap, ranked.result().num_unscored) == (pytest.approx(1.0), 1)
    scoreless = AveragePrecision()
    scoreless.add(rows(box=[BOX]), rows(box=[BOX]))
    assert scoreless.result().ap is None
    assert scoreless.result().num_unscored == 1


def test_average_precision_keeps_nineteen_bytes_of_a_box():
    truth = rows(box=[BOX])
    few, many = AveragePrecision(), AveragePrecision()
    boxes = {"box": [BOX] * 90, "score": np.linspace(0, 1, 90).tolist()}
    for ranked, shards in ((few, 1), (many, 41)):
        for i in range(shards):
            ranked.add(rows(**boxes, image_key=[f"{i}"] * 90), truth)
        ranked.result()  # one array of each column is left
    grown = len(pickle.dumps(many)) - len(pickle.dumps(few))
    assert grown / (40 * 90) <= 19.5


def test_region_scores_do_not_grow_with_shards():
    sizes = set()
    scores = RegionScores(num_worlds=3)
    for i in range(30):
        alive = np.ones((3, 2), bool)
        claimed = rows(box=[BOX, FAR], text=["dog", "cat"], image_key=[f"{i}"] * 2)
        scores.add(claimed, rows(box=[BOX], text=["dog"], image_key=[f"{i}"]), alive)
        sizes.add(len(pickle.dumps(scores)))
    assert len(sizes) == 1
    assert astuple(scores.result()[0]) == (30, 60, 30)


def test_ignored_truth_makes_no_claim_right_or_wrong():
    """Two dogs in a crowd, one beside it: only that one is judged."""
    crowd = {"box": [[0, 0, 100, 100], FAR], "text": ["dog"] * 2, "ignore": [True, False]}
    claimed = rows(box=[BOX, [20, 20, 30, 30], FAR, [200, 0, 210, 10]], text=["dog"] * 4)
    scores = RegionScores()
    scores.add(claimed, rows(**crowd))
    assert astuple(scores.result()[0]) == (1, 2, 1)
    other_class = RegionScores()
    other_class.add(rows(box=[BOX], text=["cat"]), rows(**crowd))
    assert astuple(other_class.result()[0]) == (0, 1, 1)


def test_a_real_object_is_preferred_to_a_crowd_that_overlaps_more():
    truth = rows(box=[[0, 0, 100, 100], [0, 0, 10, 14]], ignore=[True, False])
    scores = RegionScores()
    scores.add(rows(box=[BOX]), truth)
    assert astuple(scores.result()[0]) == (1, 1, 1)


def test_scores_by_class_add_up_to_the_whole():
    truth = rows(box=[BOX, FAR, FAR], text=["dog", "Cat", "owl"])
    claimed = rows(box=[BOX, FAR, BOX], text=["dog", "cat", "emu"])
    scores = RegionScores()
    scores.add(claimed, truth)
    by_class = {name: astuple(score) for name, score in scores.by_class().items()}
    assert by_class == {"cat": (1, 1, 1), "dog": (1, 1, 1), "emu": (0, 1, 0), "owl": (0, 0, 1)}
    assert astuple(scores.result()[0]) == tuple(np.sum(list(by_class.values()), axis=0))


@pytest.mark.parametrize(
    "box",
    [
        pytest.param([np.nan] * 4, id="nan"),
        pytest.param([0, 0, np.inf, 10], id="infinite"),
        pytest.param([10, 10, 0, 0], id="swapped"),
        pytest.param([5, 5, 5, 5], id="no-area"),
        pytest.param(None, id="none"),
        pytest.param([-1e38, -1e38, 1e38, 1e38], id="huge"),
    ],
)
def test_an_impossible_box_is_wrong_and_found_by_nobody(box):
    scores, ranked = RegionScores(), AveragePrecision()
    for each in (scores, ranked):
        each.add(rows(box=[box, BOX], score=[0.9, 0.8]), rows(box=[BOX, box]))
    matched, claimed, true = astuple(scores.result()[0])
    assert (claimed, true) == (2, 2)
    assert matched == (2 if box == [-1e38, -1e38, 1e38, 1e38] else 1)
    assert 0 <= ranked.result().ap <= 1


def count_by_hand(claimed: dict, truth: dict, min_iou: float) -> tuple[int, int, int]:
    """COCO's matching at one IoU as its paper tells it: one image after the other."""
    matched, void = 0, 0
    free = set(range(len(truth["box"])))
    for i in sorted(range(len(claimed["box"])), key=lambda i: -claimed["score"][i]):
        best, chosen = min_iou, None
        for real in (True, False):
            for j in range(len(truth["box"])):
                same = (claimed["image_key"][i], claimed["text"][i]) == (
                    truth["image_key"][j],
                    truth["text"][j],
                )
                ignored = truth["ignore"][j]
                if not same or ignored is real or (j not in free and not ignored):
                    continue
                overlap = iou_by_hand(claimed["box"][i], truth["box"][j], crowd=ignored)
                if overlap >= best:
                    best, chosen = overlap, j
            if chosen is not None:
                break
        if chosen is not None:
            free.discard(chosen)
            matched += not truth["ignore"][chosen]
            void += truth["ignore"][chosen]
    return matched, len(claimed["box"]) - void, truth["ignore"].count(False)


def iou_by_hand(a, b, *, crowd: bool) -> float:
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (a, b)]
    return width * height / (areas[0] if crowd else sum(areas) - width * height)


@st.composite
def sides(draw):
    """Claims and truths on few images, of few classes and places, so that much overlaps."""

    def side(max_size):
        each = st.tuples(
            st.sampled_from("ab"),
            st.sampled_from(["dog", "cat"]),
            st.tuples(*[st.integers(0, 4)] * 2, *[st.integers(1, 5)] * 2),
            st.booleans(),
        )
        found = draw(st.lists(each, max_size=max_size))
        return {
            "image_key": [row[0] for row in found],
            "text": [row[1] for row in found],
            "box": [[x, y, x + w, y + h] for _, _, (x, y, w, h), _ in found],
            "ignore": [row[3] for row in found],
        }

    claimed, truth = side(12), side(8)
    claimed["score"] = draw(st.permutations([i / 16 for i in range(len(claimed["box"]))]))
    return claimed, truth


@given(sides(), st.sampled_from([0.3, 0.5, 0.75]))
@settings(max_examples=300, deadline=None)
def test_region_scores_equal_a_plain_loop(both, min_iou):
    claimed, truth = both
    scores = RegionScores(min_iou=min_iou)
    scores.add(rows(**claimed), rows(**truth))
    assert astuple(scores.result()[0]) == count_by_hand(claimed, truth, min_iou)


@given(sides(), st.data())
@settings(max_examples=100, deadline=None)
def test_each_world_counts_as_if_it_were_alone(both, data):
    claimed, truth = (rows(**side) for side in both)
    mask = st.lists(st.booleans(), min_size=claimed.num_rows, max_size=claimed.num_rows)
    alive = np.array([data.draw(mask) for _ in range(3)], bool).reshape(3, -1)
    together = RegionScores(num_worlds=3)
    together.add(claimed, truth, alive)
    for world, score in zip(alive, together.result(), strict=True):
        alone = RegionScores()
        alone.add(claimed.filter(world), truth)
        assert alone.result() == [score]
