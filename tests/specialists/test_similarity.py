"""Similarities by real transformers classes with random weights."""

import numpy as np
import pytest
import torch
import transformers
from odd_pictures import PICTURES, SLIVER
from PIL import Image
from tiny_image_text import save_clip, save_siglip, save_siglip2

from engine.errors import SpecialistError
from specialists.similarity import ImageTextModel

SAVE = {"clip": save_clip, "siglip": save_siglip, "siglip2": save_siglip2}
TEXTS = ["a dog", "a red bus on the street", "woman"]
SHOWN = [Image.fromarray(picture.rgb()) for picture in PICTURES]


@pytest.fixture(scope="session", params=SAVE)
def folder(request, tmp_path_factory):
    return SAVE[request.param](tmp_path_factory.mktemp("image-text") / request.param)


def load(folder, **options):
    defaults = {"batch_size": 2, "dtype": "float32", "device": "cpu"}
    return ImageTextModel.load("judge", str(folder), None, **{**defaults, **options})


def test_nothing_has_no_vectors(folder):
    model = load(folder)
    assert len(model.pictures([])) == len(model.texts([])) == 0


def test_similarities_order_pairs_as_the_models_own_logits_do(folder):
    model = load(folder)
    processor = transformers.AutoProcessor.from_pretrained(folder)
    theirs = transformers.AutoModel.from_pretrained(folder).eval()
    length = theirs.config.text_config.max_position_embeddings
    pad = {"padding": "max_length", "max_length": length, "truncation": True}
    with torch.no_grad():
        inputs = processor(text=TEXTS, images=SHOWN, return_tensors="pt", **pad)
        logits = theirs(**inputs).logits_per_image
        cosines = (logits - getattr(theirs, "logit_bias", 0)) / theirs.logit_scale.exp()
    ours = model.pictures(SHOWN) @ model.texts(TEXTS).T
    assert ours == pytest.approx(cosines.numpy(), abs=1e-4)
    assert ours.std() > 0.01


def test_vectors_have_length_one_whatever_shares_their_pass(folder):
    model = load(folder)
    for things, embed in ((SHOWN, model.pictures), (TEXTS, model.texts)):
        together = embed(things)
        assert np.linalg.norm(together, axis=1) == pytest.approx(1, abs=1e-5)
        alone = np.concatenate([embed([thing]) for thing in things])
        assert together == pytest.approx(alone, abs=1e-5)
        assert len(np.unique(together.round(3), axis=0)) >= len(things) - 1


def test_pictures_are_taken_as_they_are_needed(folder):
    taken = []

    def pictures():
        for picture in SHOWN:
            taken.append(picture)
            assert len(taken) - seen <= 2
            yield picture

    model, seen = load(folder), 0
    embed = model.model.get_image_features

    def counted(**inputs):
        nonlocal seen
        seen += len(inputs["pixel_values"])
        return embed(**inputs)

    model.model.get_image_features = counted
    assert len(model.pictures(pictures())) == len(SHOWN)


def test_a_text_too_long_is_cut_and_a_sliver_is_seen(folder):
    model = load(folder)
    assert np.isfinite(model.texts(["a " * 5000])).all()
    assert np.isfinite(model.pictures([Image.fromarray(SLIVER.rgb())])).all()


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_models_compute_in_the_asked_dtype_and_answer_in_float32(folder, dtype):
    model = load(folder, dtype=dtype)
    assert model.model.dtype == getattr(torch, dtype)
    assert model.texts(TEXTS).dtype == model.pictures(SHOWN[:1]).dtype == np.float32


def test_a_model_that_compares_nothing_is_refused(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.ViTModel(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(
        SpecialistError, match=r"^specialist 'judge': .* \(ViTModel\) does not comp"
    ):
        load(tmp_path)
