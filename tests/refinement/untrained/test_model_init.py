"""Untrained checkpoints: their sizes, their bytes, and that the specialist can ask them."""

import io
from functools import cache

import numpy as np
import pyarrow as pa
import pytest
import torch
from PIL import Image as PillowImage

from engine.errors import ConfigError
from engine.formats.florence2_tasks import TASKS
from engine.merge import check_rows
from engine.pixels import EncodedImage
from engine.schema import empty_claims
from refinement.untrained.init import build_model, init_model
from refinement.untrained.presets import PRESETS, find_preset
from refinement.untrained.tokenizer import read_tokenizer, train_tokenizer
from specialists.florence2 import Florence2
from specialists.hub import load_pretrained
from tests.builders import rows

CLASSES = ("Florence2Processor", "Florence2ForConditionalGeneration")
SMALL = {"embed_dim": [32], "depths": [1], "patch_size": [8], "patch_stride": [8]} | {
    "patch_padding": [0],
    "d_model": 32,
    "heads": 2,
    "ffn_dim": 32,
    "layers": 1,
}


@cache
def words():
    torch.set_num_threads(1)
    return train_tokenizer(["a red circle", "blue star"] * 5, 1400)


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    folder = tmp_path_factory.mktemp("init") / "tiny"
    return folder, init_model(folder, preset="tiny", tokenizer=words(), seed=3)


def encoded(key, width, height):
    pixels = np.random.default_rng(width).integers(0, 256, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    PillowImage.fromarray(pixels).save(stream, "PNG")
    return EncodedImage(key, memoryview(stream.getvalue()), width, height)


# Sizes


@pytest.mark.parametrize(
    ("preset", "parts"),  # of the paper's section 6, millions: whole, tower, language model
    [("base", (232, 90, 140)), ("large", (771, 360, 410))],
)
def test_published_presets_have_the_papers_sizes(data, preset, parts):
    with torch.device("meta"):
        model = build_model(PRESETS[preset], read_tokenizer(data / "tokenizer"), 768, 0)
    whole, tower, language = (
        part.num_parameters() / 1e6
        for part in (model, model.model.vision_tower, model.model.language_model)
    )
    assert whole == pytest.approx(parts[0], rel=0.01)
    assert tower == pytest.approx(parts[1], rel=0.01)
    assert language == pytest.approx(parts[2], rel=0.01)
    assert PRESETS[preset].image_tokens() == 577  # as the published processors have it
    assert model.config.image_token_id == 51_289


def test_the_published_sizes_are_those_transformers_knows(data):
    from transformers.models.florence2.configuration_florence2 import Florence2VisionConfig

    base = PRESETS["base"].vision(768)
    known = Florence2VisionConfig(projection_dim=768, initializer_range=0.02).to_dict()
    assert {name: known[name] for name in base} == base


def test_what_was_made_is_told_as_it_is(tiny):
    folder, facts = tiny
    processor, model = load_pretrained("test", str(folder), None, CLASSES)
    pixels = processor.image_processor(PillowImage.new("RGB", (90, 30)), return_tensors="pt")
    features = model.get_image_features(**pixels).pooler_output
    assert pixels["pixel_values"].shape[2:] == (facts.image_size, facts.image_size)
    assert features.shape[1] == facts.image_tokens == processor.num_image_tokens == 65
    assert facts.parameters == sum(part.numel() for part in model.parameters())
    assert facts.vocabulary == len(processor.tokenizer) == model.lm_head.out_features
    assert facts.max_positions == 256


@pytest.mark.parametrize("image_size", [8, 61, 64, 200, 416])
def test_any_picture_size_has_the_tokens_it_says(tmp_path, image_size):
    """Also grids the windows do not divide, and more rows than the published positions cover."""
    facts = init_model(
        tmp_path, preset="tiny", tokenizer=words(), image_size=image_size, overrides=SMALL
    )
    processor, model = load_pretrained("test", str(tmp_path), None, CLASSES)
    inputs = processor(images=PillowImage.new("RGB", (20, 30)), text="<OD>", return_tensors="pt")
    assert (inputs["input_ids"] == model.config.image_token_id).sum() == facts.image_tokens
    assert inputs["input_ids"].shape[1] < facts.max_positions
    model(**inputs)  # refuses another number of image tokens than the tower gives


# What the specialist gets


@pytest.mark.parametrize(
    ("num_beams", "init_std"), [(1, 0.02), (1, 0.6), (2, 0.6)], ids=["terse", "wild", "beams"]
)
def test_every_task_the_specialist_offers_is_answered_in_form(tmp_path, num_beams, init_std):
    """With narrow weights it repeats the end token it starts from, with wide ones it babbles."""
    init_model(tmp_path, preset="tiny", tokenizer=words(), overrides={"init_std": init_std})
    ids = ["one", "two", "three"]
    regions = rows(
        image_key=["a", "a", "b"],
        annotation_id=ids,
        region_id=ids,
        role=["category", "ocr", "category"],
        text=["circle", "STOP", "\u00e9t\u00e9"],
        box=[[1, 2, 30, 30], [0, 0, 9, 9], [3, 3, 30, 80]],
    )
    caption = rows(
        image_key=["b"], annotation_id=["text"], kind="text", role="brief", text=["a red circle"]
    )
    offered = tuple(set(TASKS) - {"ocr", "open_vocabulary_detection"})
    specialist = Florence2(
        model=str(tmp_path), tasks=offered, max_new_tokens=16, num_beams=num_beams
    )
    assert all(need.present for need in specialist.needs())
    specialist.prepare()
    specialist.load()
    images = [encoded("a", 60, 40), encoded("b", 33, 90)]
    answer = specialist.annotate(images, pa.concat_tables([regions, caption]))
    check_rows(answer.rows, ["a", "b"])
    made = zip(answer.rows["kind"].to_pylist(), answer.rows["role"].to_pylist(), strict=True)
    assert {f"{kind}/{role}" for kind, role in made} <= {*specialist.produces}
    if init_std < 0.1:  # nothing but the end: 7 answers of an image; 10 of texts and regions
        assert (answer.rows.num_rows, answer.usage["generated_tokens"]) == (0, 24)
    else:
        assert answer.rows.num_rows > 0
        assert answer.usage["cut_answers"] > 0
    assert specialist.annotate([], empty_claims()).rows.num_rows == 0


def test_nothing_is_forced_into_an_answer(tiny):
    _, model = load_pretrained("test", str(tiny[0]), None, CLASSES)
    chosen = model.generation_config
    ids = (chosen.decoder_start_token_id, chosen.bos_token_id, chosen.pad_token_id)
    assert (*ids, chosen.eos_token_id) == (2, 0, 1, 2)
    assert chosen.forced_bos_token_id is None
    assert chosen.forced_eos_token_id is None
    assert model.config.text_config.forced_eos_token_id is None  # where others look for it
    assert not chosen.no_repeat_ngram_size  # would forbid two boxes that share three numbers
    with torch.inference_mode():
        model.lm_head.weight.zero_()[7] = 1.0  # whatever it reads, it says one word or its first
        told = model.generate(
            pixel_values=torch.zeros(1, 3, 64, 64),
            input_ids=torch.tensor([[model.config.image_token_id] * 65 + [0, 5, 2]]),
            max_new_tokens=4,
        )
    assert told.shape == (1, 5)
    assert told[0, 0] == 2
    assert 2 not in told[0, 1:]


# Files


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path):
    for name, seed in {"a": 5, "b": 5, "c": 6}.items():
        torch.rand(3)  # what else draws numbers has no say
        init_model(tmp_path / name, preset="tiny", tokenizer=words(), seed=seed, overrides=SMALL)
    files = {path.name for path in (tmp_path / "a").iterdir()}
    assert {"config.json", "model.safetensors", "tokenizer.json", "generation_config.json"} <= files
    content = {
        folder: {name: (tmp_path / folder / name).read_bytes() for name in files}
        for folder in ("a", "b", "c")
    }
    assert content["a"] == content["b"]
    assert content["a"].pop("model.safetensors") != content["c"].pop("model.safetensors")
    assert content["a"] == content["c"]


def test_random_numbers_of_the_caller_go_on_as_if_nothing_was_made(tmp_path):
    torch.manual_seed(1)
    expected = torch.rand(2)
    torch.manual_seed(1)
    init_model(tmp_path, preset="tiny", tokenizer=words(), overrides=SMALL)
    assert torch.equal(torch.rand(2), expected)


def test_weights_are_as_wide_as_asked(tmp_path):
    sizes = find_preset("tiny", {"init_std": 0.1})
    model = build_model(sizes, words(), 64, 0)
    spreads = {name: part.std().item() for name, part in model.named_parameters() if part.ndim > 1}
    asked = {name: 0.1 if "language_model" in name else 0.02 for name in spreads}
    wrong = {n: spread for n, spread in spreads.items() if not 0.9 < spread / asked[n] < 1.1}
    assert not wrong


def test_an_empty_folder_is_filled_and_a_full_one_refused(tmp_path):
    folder = tmp_path / "deep" / "model"
    folder.mkdir(parents=True)
    init_model(folder, preset="tiny", tokenizer=words(), overrides=SMALL)
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(ConfigError, match="model: is there already; name a new folder"):
        init_model(folder, preset="tiny", tokenizer=words(), seed=1, overrides=SMALL)
    assert (folder / "model.safetensors").read_bytes() == before
    with pytest.raises(ConfigError, match=r"config.json: is there already"):
        init_model(folder / "config.json", preset="tiny", tokenizer=words())
    assert [path.name for path in folder.parent.iterdir()] == ["model"]


def test_a_place_that_cannot_be_written_is_one_line(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be written: "):
        init_model(tmp_path / "file" / "model", preset="tiny", tokenizer=words(), overrides=SMALL)


def test_others_may_read_all_its_files_as_the_umask_says(tiny):
    modes = {path.name: path.stat().st_mode for path in tiny[0].iterdir()}
    assert "model.safetensors" in modes
    assert set(modes.values()) == {modes["config.json"]}


def test_what_a_killed_run_left_is_no_hindrance(tmp_path):
    left = tmp_path / ".model.unfinished"
    left.mkdir()
    (left / "model.safetensors").write_text("half")
    init_model(tmp_path / "model", preset="tiny", tokenizer=words(), overrides=SMALL)
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


# Refusals


def test_an_unknown_preset_names_the_known_ones(tmp_path):
    with pytest.raises(
        ConfigError, match=r"'larg' is not known; did you mean 'large'\? known: base, large, tiny"
    ):
        init_model(tmp_path / "model", preset="larg", tokenizer=words())


@pytest.mark.parametrize("image_size", [-64, 0, 7, 1537, 10**12])
def test_pictures_too_small_or_too_large_are_refused(tmp_path, image_size):
    with pytest.raises(ConfigError, match=rf"image_size {image_size}; allowed: 8 to 1536 pixels"):
        init_model(tmp_path / "model", preset="tiny", tokenizer=words(), image_size=image_size)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("seed", [2**63, -(2**64)])
def test_seeds_torch_cannot_take_are_refused(tmp_path, seed):
    with pytest.raises(ConfigError, match=f"seed {seed}; allowed: -9223372036854775807 to"):
        init_model(tmp_path / "model", preset="tiny", tokenizer=words(), seed=seed)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"dmodel": 3}, "model.dmodel is not an option; did you mean 'd_model'"),
        ({"layers": "two"}, "model.layers: .*found 'two'"),
        ({"layers": 0}, "layers 0; must be 1 or more"),
        ({"depths": [1]}, "every stage .* has one number of each; found embed_dim 2, depths 1"),
        ({"patch_stride": [8, 0]}, r"patch_stride \[8, 0\]; each must be 1 or more"),
        ({"patch_padding": [0, -1]}, r"patch_padding \[0, -1\]; each must be 0 or more"),
        ({"embed_dim": [96, 100]}, r"embed_dim \[96, 100\]; each must be a multiple of 32"),
        ({"heads": 3}, "d_model 128 is no multiple of its 3 heads"),
        ({"max_positions": 65}, "max_positions 65; a picture alone has 65 tokens"),
        ({"dropout": 1.0}, "dropout 1.0; must be 0 or more, and less than 1"),
        ({"init_std": 0.0}, "init_std 0.0; must be more than 0"),
    ],
)
def test_sizes_that_do_not_fit_are_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        find_preset("tiny", overrides)
