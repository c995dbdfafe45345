"""Every image is answered by one checkpoint, the one that was trained without it."""

import hashlib
import pickle

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import ConfigError, TableError
from engine.pixels import EncodedImage
from engine.protocols import Need
from engine.reading import read_tables
from engine.schema import empty_claims
from refinement.folded import Folded
from refinement.pairs.folds import fold_of
from refinement.predict import read_predictions
from tests import hostile
from tests.builders import rows
from tests.predicting import predict_in
from tests.stored_dataset import make_dataset
from tests.teller import Teller

NUM_FOLDS = 3


def image(key, seed):
    data = hostile.encoded(hostile.photo(32, 24, seed), "JPEG")
    return EncodedImage(key, memoryview(data), 32, 24)


IMAGES = [image(f"image-{n}", n) for n in range(12)]


def fold(images, seed=0):
    digests = [hashlib.sha256(image.data).hexdigest() for image in images]
    return fold_of(digests, NUM_FOLDS, seed).tolist()


def tellers(**options):
    return [Teller(model=f"model-{n}", tells=f"fold {n}", **options) for n in range(NUM_FOLDS)]


def folded(seed=0, **options):
    made = Folded(specialists=tellers(**options), seed=seed)
    made.load()
    return made


def test_no_images_no_rows():
    answer = folded().annotate([], empty_claims())
    assert (answer.rows.num_rows, answer.failures, answer.usage) == (0, [], {})


@pytest.mark.parametrize("seed", [0, 5])
def test_each_image_is_answered_once_by_the_specialist_of_its_fold(seed):
    answer = folded(seed).annotate(IMAGES, empty_claims())
    assert answer.rows["image_key"].to_pylist() == [image.image_key for image in IMAGES]
    assert answer.rows["text"].to_pylist() == [f"fold {n}" for n in fold(IMAGES, seed)]
    assert len(set(fold(IMAGES, seed))) == NUM_FOLDS
    assert answer.usage == {"images": len(IMAGES)}
    assert answer.rows["score"].null_count == len(IMAGES)


def test_one_picture_under_two_keys_goes_to_one_specialist():
    twins = [EncodedImage(key, IMAGES[0].data, 32, 24) for key in ("a", "b")]
    assert len(set(folded().annotate(twins, empty_claims()).rows["text"].to_pylist())) == 1


def test_the_batch_an_image_is_in_changes_nothing():
    alone = [folded().annotate([each], empty_claims()).rows for each in IMAGES]
    together = folded().annotate(IMAGES, empty_claims()).rows
    assert pa.concat_tables(alone).to_pylist() == together.to_pylist()


def test_each_specialist_is_shown_the_rows_of_its_own_images():
    keys = [image.image_key for image in IMAGES]
    kept = rows(image_key=keys, annotation_id=[f"of {key}" for key in keys])
    answer = folded(requires=("region",)).annotate(IMAGES, kept)
    assert answer.rows["parents"].to_pylist() == [[f"of {key}"] for key in keys]


def test_failures_of_each_come_through():
    answer = folded(fails_on="image-1").annotate(IMAGES, empty_claims())
    assert sorted(key for key, _, _ in answer.failures) == ["image-1", "image-10", "image-11"]
    assert answer.rows.num_rows == len(IMAGES) - 3


class Gossip(Teller):
    """Speaks of an image that it was not given."""

    def annotate(self, images, rows):
        return super().annotate([*images, *(i for i in IMAGES if i not in images)], rows)


def test_an_answer_on_an_image_of_another_fold_is_refused():
    made = Folded(specialists=[Gossip() for _ in range(NUM_FOLDS)], seed=0)
    made.load()
    with pytest.raises(TableError, match=r"not among the \d images given"):
        made.annotate(IMAGES, empty_claims())


def test_it_is_one_specialist_with_the_needs_of_all():
    made = Folded(specialists=tellers(memory=100), seed=0)
    assert (made.name, made.model) == ("teller", "model-0+model-1+model-2")
    assert made.produces == ("region/category",)
    assert (made.resources.cpus, made.resources.gpus, made.resources.memory) == (1, 0.0, 300)
    assert made.needs() == [Need("a voice", True)]
    assert folded().resources.memory is None
    assert Folded(specialists=tellers(), seed=0, name="other").name == "other"


def test_models_in_folders_are_named_by_those_alone(tmp_path):
    made = Folded(specialists=[Teller(model=str(tmp_path / "fold-0"))], seed=0)
    assert made.model == "fold-0"


def test_another_model_another_order_or_another_seed_is_another_revision():
    same, other = tellers(), tellers()
    other[1].model = "model-x"
    made = [
        Folded(specialists=specialists, seed=seed).prepare()
        for specialists, seed in ((same, 0), (other, 0), (same[::-1], 0), (same, 1), (same[:2], 0))
    ]
    assert len(set(made)) == 5
    assert Folded(specialists=tellers(), seed=0).prepare() == made[0]


def test_it_travels_before_it_is_loaded():
    made = pickle.loads(pickle.dumps(Folded(specialists=tellers(), seed=0)))
    made.load()
    assert all(each.is_loaded for each in made.specialists)
    assert made.annotate(IMAGES, empty_claims()).rows.num_rows == len(IMAGES)


@pytest.mark.parametrize(
    ("specialists", "message"),
    [
        pytest.param([], "no specialist is given", id="none"),
        pytest.param([Teller(), Gossip()], "differ in kind; they may differ", id="kind"),
        pytest.param([Teller(), Teller(requires=("text",))], "differ in requires", id="options"),
    ],
)
def test_specialists_that_are_not_alike_are_refused(specialists, message):
    with pytest.raises(ConfigError, match=message):
        Folded(specialists=specialists, seed=0)


def test_a_whole_prediction_asks_for_each_image_the_one_of_its_fold(tmp_path):
    place = make_dataset(tmp_path)
    done = predict_in(tmp_path, Folded(specialists=tellers(requires=("text",)), seed=0))
    told = {}
    for shard in range(4):
        claims, answered = read_predictions(done.place, shard)
        told |= dict(zip(answered.to_pylist(), claims["text"].to_pylist(), strict=True))
        assert set(claims["model"].to_pylist()) <= {"model-0+model-1+model-2"}
    digests = {
        row["image_key"]: row["sha256"]
        for _, images, _ in read_tables(place, "round-0")
        for row in images.to_pylist()
    }
    folds = fold_of([digests[key] for key in told], NUM_FOLDS, 0)
    assert list(told.values()) == [f"fold {n}" for n in folds]
    with pytest.raises(ConfigError, match=r"another run; differences: .*specialists"):
        predict_in(tmp_path, Folded(specialists=tellers(requires=("text",)), seed=1))


@pytest.mark.slow
def test_two_florence2_checkpoints_answer_as_each_does_alone(data, tmp_path):
    import torch

    from specialists.florence2 import Florence2
    from tests.specialists.tiny_captioners import save_florence2

    torch.set_num_threads(1)
    tokenizer = data / "tokenizer" / "florence2_tokenizer"
    folders = [
        save_florence2(tmp_path / f"fold-{n}", tokenizer, points=True, init_std=0.4 + 0.2 * n)
        for n in range(2)
    ]
    options = {"tasks": ("caption", "od"), "max_new_tokens": 40}
    made = Folded(specialists=[Florence2(model=str(f), **options) for f in folders], seed=0)
    assert made.prepare() == made.prepare()
    made.load()
    answer = made.annotate(IMAGES[:4], empty_claims()).rows
    folds = fold_of([hashlib.sha256(i.data).hexdigest() for i in IMAGES[:4]], 2, 0)
    assert set(np.unique(folds)) == {0, 1}
    for each, number in zip(IMAGES[:4], folds.tolist(), strict=True):
        alone = made.specialists[number].annotate([each], empty_claims()).rows.to_pylist()
        mine = [row for row in answer.to_pylist() if row["image_key"] == each.image_key]
        assert [(r["text"], r["box"]) for r in mine] == [(r["text"], r["box"]) for r in alone]
    assert answer.num_rows
