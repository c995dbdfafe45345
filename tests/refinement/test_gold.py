"""Gold labels and their halves."""

import pytest

from engine.errors import ConfigError
from engine.evaluate.scenes import truth_labels
from engine.formats.shapes import LabelSet, Part
from engine.source.filesystem import open_location
from refinement.gold import Gold, parts_of
from tests.refinement.rounds_runs import NUM_IMAGES
from tests.truths import label_set


def scenes(**options):
    return Gold(open=lambda: truth_labels(0, NUM_IMAGES, "plain"), **options)


def in_folder(truth, folder):
    """The same labels of pictures that lie elsewhere."""
    place = truth.header
    parts = []
    for part in truth.parts:
        uris = [f"{folder}{uri}" for uri in part.images["uri"].to_pylist()]
        at = part.images.schema.get_field_index("uri")
        parts.append(
            Part(part.images.set_column(at, part.images.schema.field(at), [uris]), part.rows)
        )
    return LabelSet(place, iter(parts))


def names(truth):
    """Names of the files, and how many rows there are."""
    parts = list(parts_of(truth))
    uris = [uri for part in parts for uri in part.images["uri"].to_pylist()]
    return [uri.rpartition("/")[2] for uri in uris], sum(part.rows.num_rows for part in parts)


def test_halves_are_disjoint_and_together_all_images():
    gold = scenes(halved=True)
    calibrating, measuring = names(gold.half("calibrating")), names(gold.half("measuring"))
    everything = names(gold.open())
    assert not set(calibrating[0]) & set(measuring[0])
    assert sorted(calibrating[0] + measuring[0]) == sorted(everything[0])
    assert calibrating[1] + measuring[1] == everything[1]
    assert 0.25 < len(measuring[0]) / NUM_IMAGES < 0.75


def test_a_half_is_the_same_each_time_and_wherever_the_pictures_lie():
    gold = scenes(halved=True)
    moved = Gold(open=lambda: in_folder(gold.open(), "a/b/"), halved=True)
    assert names(gold.half("measuring")) == names(gold.half("measuring"))
    assert names(moved.half("measuring")) == names(gold.half("measuring"))
    assert names(scenes(halved=True, seed=1).half("measuring")) != names(gold.half("measuring"))


def test_gold_that_is_not_halved_measures_with_all_of_it(noisy_labels):
    place = open_location(str(noisy_labels))
    whole, half = (scenes(halved=flag).measure(place, "round-0") for flag in (False, True))
    assert whole.num_images == NUM_IMAGES
    assert half.num_images == len(names(scenes(halved=True).half("measuring"))[0])
    assert whole.family == "boxes"
    assert 0.65 < whole.f1 < 0.75


def test_gold_without_anything_that_measures_a_round_is_refused(noisy_labels):
    place = open_location(str(noisy_labels))
    captions = {"image_key": ["0"], "kind": "text", "role": "brief", "text": ["a thing"]}
    gold = Gold(open=lambda: label_set((["scene-00000000.png"], captions)))
    with pytest.raises(ConfigError, match="has nothing to compare; a round is measured by boxes"):
        gold.measure(place, "round-0")


def test_gold_of_other_images_is_refused(noisy_labels):
    box = {"image_key": ["0"], "kind": "region", "role": "category", "text": ["a"]}
    gold = Gold(open=lambda: label_set((["else.png"], {**box, "box": [[0, 0, 9, 9]]})))
    with pytest.raises(ConfigError, match="shares no image with the truth"):
        gold.measure(open_location(str(noisy_labels)), "round-0")
