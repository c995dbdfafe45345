"""Labels of real photos, broken in known ways, under predictors whose worth is known."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.evaluate.regions import score_regions
from engine.merge import identify
from engine.rejudge import Replay, rejudge, round_name
from engine.schema import CLAIM, canonical, claims, image_rows
from engine.synthetic.noise import DEFECTS, add_noise
from refinement.outcomes import apply
from refinement.policies import POLICIES
from refinement.relabel import relabel
from tests.refinement.relabel_tables import REGION, judged
from tests.truths import coco_labels

_OF_REGIONS = [defect for defect, kind in DEFECTS.items() if kind == "region"]


@pytest.fixture(scope="module")
def truth(data):
    file = data / "coco80" / "annotations" / "instances.json"
    (part,) = coco_labels(file, part_size=1_000).parts
    return identify(part.rows, source="coco", model=None, revision=None)


@pytest.fixture(scope="module")
def broken(truth):
    noisy, _ = add_noise(truth, share=0.3, seed=0, kinds=_OF_REGIONS)
    return judged(noisy)


def scored(rows, scores):
    place = CLAIM.get_field_index("score")
    return canonical(rows.set_column(place, "score", pa.array(scores, pa.float32())), CLAIM)


@pytest.fixture(scope="module")
def perfect(truth):
    objects = truth.filter(pc.invert(truth["ignore"]))
    seen = identify(objects, source="seer", model="m", revision="r")
    return scored(seen, np.full(seen.num_rows, 0.99))


def garbage(truth, least, most):
    """Four random boxes an image."""
    rng = np.random.default_rng(0)
    keys = 4 * pc.unique(truth["image_key"]).to_pylist()
    corner, extent = rng.uniform(0, 400, (len(keys), 2)), rng.uniform(20, 200, (len(keys), 2))
    made = claims(
        image_key=keys,
        kind="region",
        role="category",
        text=rng.choice(truth["text"].to_pylist(), len(keys)).tolist(),
        box=np.concatenate([corner, corner + extent], axis=1).astype(np.float32),
    )
    made = identify(made, source="seer", model="m", revision="r")
    return scored(made, rng.uniform(least, most, len(keys)))


def refined(rows, predicted, name, number=1):
    keys = pc.unique(rows["image_key"]).to_pylist()
    made = relabel(
        rows,
        predicted,
        POLICIES[name](),
        number=number,
        predictor="seer",
        tasks=REGION,
        predicted_keys=keys,
    )
    names = [round_name("seer", k) for k in range(1, number + 1)]
    replay = Replay(
        levels=[["coco"], *([n] for n in names)], replacing=dict.fromkeys(names, "kept")
    )
    images = image_rows(image_key=keys, status="ok")
    return rejudge(images, apply(rows, made, keys), replay, {})[1]


def quality(rows, truth):
    counted = pc.and_(pc.equal(rows["status"].cast("string"), "kept"), pc.invert(rows["ignore"]))
    return score_regions(rows.filter(counted), truth).f1


def test_a_perfect_predictor_mends_nearly_all(truth, broken, perfect):
    assert quality(broken, truth) < 0.82
    once = refined(broken, perfect, "consensus")
    assert quality(once, truth) > 0.98
    assert quality(refined(once, perfect, "consensus", 2), truth) >= quality(once, truth)
    assert quality(refined(broken, perfect, "replace"), truth) > 0.98
    assert quality(broken, truth) < quality(refined(broken, perfect, "append"), truth) < 0.9


@pytest.mark.parametrize("scores", [(0.0, 0.4), (0.5, 1.0)])
@pytest.mark.parametrize("name", ["append", "consensus"])
def test_random_boxes_do_no_harm_however_sure_they_are(truth, broken, name, scores):
    after = refined(broken, garbage(truth, *scores), name)
    assert quality(after, truth) > quality(broken, truth) - 0.01
