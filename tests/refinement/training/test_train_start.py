"""Checkpoints that cannot be trained: one line each, before anything starts."""

import json
import shutil

import pytest
import safetensors.torch
import torch

from engine.errors import ConfigError, SpecialistError
from refinement.training.start import check_start


@pytest.fixture
def copied(untrained, tmp_path):
    return shutil.copytree(untrained, tmp_path / "model")


def edit(folder, **values):
    file = folder / "config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | values))


def refused(folder, message, error=ConfigError):
    with pytest.raises(error, match=message) as caught:
        check_start(str(folder), None)
    assert "\n" not in str(caught.value)


def test_a_checkpoint_of_our_own_starts_a_training(untrained, copied):
    start = check_start(str(untrained), None)
    assert start.folder == untrained
    assert start.revision == check_start(str(copied), None).revision


def test_other_weights_are_another_start(untrained, copied):
    weights = safetensors.torch.load_file(copied / "model.safetensors")
    safetensors.torch.save_file(
        {name: tensor + 1 for name, tensor in weights.items()}, copied / "model.safetensors"
    )
    assert check_start(str(copied), None).revision != check_start(str(untrained), None).revision


def test_no_folder(tmp_path):
    refused(tmp_path / "nothing", "no such folder; name a folder or a hub id")


def test_an_empty_folder(tmp_path):
    refused(tmp_path, "has no config.json; name a folder that save_pretrained wrote")


def test_a_name_that_is_none():
    refused("no/such/model/at all", "cannot be had from the hub|no such folder", SpecialistError)


def test_a_pickle_is_never_opened(copied):
    weights = safetensors.torch.load_file(copied / "model.safetensors")
    torch.save(weights, copied / "pytorch_model.bin")
    (copied / "model.safetensors").unlink()
    refused(copied, "holds only pytorch_model.bin, a pickle, .*wanted .*safetensors")


def test_no_weights(copied):
    (copied / "model.safetensors").unlink()
    refused(copied, "holds no weights")


@pytest.mark.parametrize("left", [0, 5, 1000, -1000])
def test_a_file_cut_short(copied, left):
    file = copied / "model.safetensors"
    file.write_bytes(file.read_bytes()[:left])
    refused(copied, "model.safetensors cannot be read .*cut short or damaged")


def test_a_part_that_is_missing(copied):
    index = {"weight_map": {"lm_head.weight": "model.safetensors", "x": "model-2.safetensors"}}
    (copied / "model.safetensors.index.json").write_text(json.dumps(index))
    refused(copied, "model-2.safetensors is missing or incomplete")


def test_another_architecture(copied):
    edit(copied, model_type="blip")
    refused(copied, "is a blip; training needs a Florence-2")


def test_code_of_its_own(copied):
    edit(copied, auto_map={"AutoModel": "modeling.Florence2"})
    refused(copied, "brings code of its own, which is never run")


@pytest.mark.parametrize("content", ["{", "[]"])
def test_a_config_that_is_none(copied, content):
    (copied / "config.json").write_text(content)
    refused(copied, "config.json (cannot be read|holds no mapping)")


def rewrite(folder, **shapes):
    """Weights of other shapes under these names."""
    weights = safetensors.torch.load_file(folder / "model.safetensors")
    for ending, shape in shapes.items():
        name = next(name for name in weights if name.endswith(f"{ending}.weight"))
        weights[name] = torch.zeros(shape)
    safetensors.torch.save_file(weights, folder / "model.safetensors", {"format": "pt"})


@pytest.mark.parametrize("more", [-1, 500])
def test_embeddings_of_another_vocabulary(copied, more):
    words = json.loads((copied / "config.json").read_text())["text_config"]["vocab_size"]
    rewrite(copied, shared=(words + more, 32))
    refused(copied, rf"shared.weight has {words + more} words, the tokenizer {words}; they are of")


def test_embeddings_padded_to_a_round_number_are_fine(copied):
    words = json.loads((copied / "config.json").read_text())["text_config"]["vocab_size"]
    rewrite(copied, shared=(words + 60, 32))
    assert check_start(str(copied), None)


def test_a_vocabulary_without_places(copied):
    file = copied / "tokenizer.json"
    file.write_text(file.read_text().replace("<loc_", "<place_"))
    for other in ("tokenizer_config.json", "special_tokens_map.json"):
        if (copied / other).is_file():
            text = (copied / other).read_text()
            (copied / other).write_text(text.replace("<loc_", "<place_"))
    refused(copied, "lacks 1000 of 1000 location tokens, such as <loc_0>")


def test_a_tokenizer_that_is_none(copied):
    (copied / "tokenizer.json").write_text("{}")
    refused(copied, "its tokenizer cannot be loaded")
