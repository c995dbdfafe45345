"""The truth of synthetic datasets, and labels of known quality measured against it."""

import pytest

from engine.assess import assess
from engine.compose import compose
from engine.config import parse_config
from engine.errors import ConfigError
from engine.evaluate.scenes import truth_labels
from engine.job import Observer
from engine.run import annotate
from engine.schema import CLAIM, IMAGES, canonical
from engine.source.filesystem import open_location
from engine.source.synthetic import Synthetic
from engine.synthetic import scene


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((0, 3, "flat"), "world 'flat'; allowed: plain, plain_words, scenes"),
        ((-1, 3, "plain"), "seed -1, num_images 3; both"),
        ((0, -3, "plain"), "seed 0, num_images -3; both"),
    ],
)
def test_truth_labels_refuses_what_there_is_not(arguments, message):
    with pytest.raises(ConfigError, match=message):
        truth_labels(*arguments)


def test_no_images_have_no_parts():
    assert list(truth_labels(0, 0, "plain").parts) == []


@pytest.mark.parametrize(("world", "num_images"), [("plain", 520), ("scenes", 3)])
def test_uris_are_those_of_the_source_and_parts_are_small(world, num_images):
    parts = list(truth_labels(2, num_images, world).parts)
    uris = [uri for part in parts for uri in part.images["uri"].to_pylist()]
    listed = Synthetic(num_images=num_images, seed=2, world=world).listing().images
    assert uris == listed["uri"].to_pylist()
    for part in parts:
        assert part.images.num_rows <= 256
        assert canonical(part.images, IMAGES).equals(part.images)
        assert canonical(part.rows, CLAIM).equals(part.rows)
        assert set(part.rows["image_key"].to_pylist()) == set(part.images["image_key"].to_pylist())


def test_the_truth_is_that_of_the_scene():
    (part,) = truth_labels(4, 2, "scenes").parts
    mine = part.rows.filter([key == "1" for key in part.rows["image_key"].to_pylist()])
    assert mine.to_pylist() == scene(4, 1).rows("1").to_pylist()


def annotated(folder, noise, **source):
    """A dataset of plain scenes with labels of its source alone: no specialist."""
    raw = {
        "source": {
            **{"uri": "synthetic", "world": "plain", "noise": noise, "shard_size": 100},
            **source,
        },
        "output": {"uri": str(folder)},
        "specialists": [],
        "runner": {"kind": "serial"},
        "seed": 6,
    }
    annotate(compose(parse_config(raw, (), "test")), Observer())
    return open_location(str(folder))


def test_labels_of_known_noise_measure_as_they_should(tmp_path):
    output = annotated(tmp_path / "out", 0.3, num_images=300)
    found = assess(output, "round-0", truth_labels(6, 300, "plain"))
    assert (found.images.num_compared, found.images.num_extra) == (300, 0)
    boxes = found.families["boxes"].measures
    deviation = (0.3 * 0.7 / boxes["num_true"]) ** 0.5
    assert boxes["recall"] == pytest.approx(0.7, abs=3.5 * deviation)
    assert boxes["precision"] == pytest.approx(0.7, abs=3.5 * deviation)
    assert boxes["num_unscored"] == boxes["num_claimed"]


def test_labels_without_noise_measure_as_perfect(tmp_path):
    gives = ["region/category", "text/brief", "text/more_detailed", "grounding/phrase"]
    output = annotated(tmp_path / "out", 0, num_images=80, gives=gives)
    found = assess(output, "round-0", truth_labels(6, 80, "plain")).families
    boxes = found["boxes"].measures
    assert (boxes["precision"], boxes["recall"]) == (1, 1)
    assert found["grounding"].measures["recall_at_1"] == 1
    for role in ("brief", "more_detailed"):
        assert found[f"captions/{role}"].measures["bleu4"] == pytest.approx(1)
