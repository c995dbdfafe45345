"""Captions by real transformers classes with random weights: the same code as for trained ones.

No trained captioner is small enough to ship; that captions make sense is not tested here.
"""

import json

import numpy as np
import pytest
import torch
import transformers
from PIL import Image
from specialist_photos import noise
from tiny_captioners import save_blip, save_florence2, save_idefics3, save_qwen2_vl

from engine.errors import ConfigError, SpecialistError
from engine.schema import empty_claims
from specialists.caption import Caption

FAMILIES = ["blip", "florence2", "idefics3", "qwen2_vl"]
SIZES = [(64, 48), (40, 64), (100, 30), (32, 32)]
IMAGES = [noise(f"image-{i}", *size, seed=i) for i, size in enumerate(SIZES)]


@pytest.fixture(scope="session")
def captioners(tmp_path_factory, request):
    """Folder of each family, written when first asked for."""
    root, written = tmp_path_factory.mktemp("captioners"), {}

    def folder(family):
        if family not in written:
            place = root / family
            if family == "florence2":  # skips without the data, and then nothing is written
                tokenizer = request.getfixturevalue("data") / "tokenizer" / "florence2_tokenizer"
                save_florence2(place, tokenizer)
            else:
                save = {"blip": save_blip, "idefics3": save_idefics3, "qwen2_vl": save_qwen2_vl}
                save[family](place)
            written[family] = place
        return written[family]

    return folder


def load(folder, **options):
    specialist = Caption(model=str(folder), **({"max_new_tokens": 8} | options))
    specialist.load()
    return specialist


@pytest.mark.parametrize("family", FAMILIES)
def test_caption_answers_no_images_with_no_rows(captioners, family):
    assert load(captioners(family)).annotate([], empty_claims()).num_rows == 0


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_caption_batch_equals_image_by_image(captioners, family, num_beams):
    specialist = load(captioners(family), num_beams=num_beams)
    together = specialist.annotate(IMAGES, empty_claims()).to_pylist()
    alone = [r for i in IMAGES for r in specialist.annotate([i], empty_claims()).to_pylist()]
    assert len(together) >= 3
    assert len({row["text"] for row in together}) >= 3
    scores = [row.pop("text_score") for row in together]
    assert scores == pytest.approx([row.pop("text_score") for row in alone], abs=1e-4)
    assert together == alone


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("family", FAMILIES)
def test_caption_score_is_the_mean_probability_of_its_tokens(captioners, family, num_beams):
    folder = captioners(family)
    specialist = load(folder, num_beams=num_beams)
    rows = specialist.annotate(IMAGES, empty_claims())
    by_key = dict(zip(rows["image_key"].to_pylist(), rows["text_score"].to_pylist(), strict=True))
    for image in IMAGES:
        expected = teacher_forced_mean(folder, image.rgb(), specialist._captioner.said, num_beams)
        if expected is not None:
            assert by_key.pop(image.image_key) == pytest.approx(expected, abs=1e-3)
    assert not by_key


def teacher_forced_mean(folder, pixels, prompt, num_beams):
    """Mean probability of one generated caption's tokens, from one forward pass over all of it."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModelForImageTextToText.from_pretrained(folder).eval()
    model.generation_config.forced_eos_token_id = None
    inputs = inputs_of(processor, Image.fromarray(pixels), prompt)
    with torch.no_grad():
        sequence = model.generate(**inputs, max_new_tokens=8, num_beams=num_beams, do_sample=False)
        logits = logits_of(model, inputs, sequence)
    start = inputs["input_ids"].shape[1] if is_decoder_only(model) else 1
    said = sequence[0, start:].tolist()
    chances = logits[0, start - 1 :].log_softmax(-1)
    ends = {"blip": {3}, "qwen2_vl": {2, 3}}.get(model.config.model_type, {2})
    counted = []
    for step, token in enumerate(said):
        if token in ends or processor.decode([token], skip_special_tokens=True):
            counted.append(float(chances[step, token]))
        if token in ends:
            break
    text = processor.decode(said, skip_special_tokens=True).strip()
    return float(np.exp(np.mean(counted))) if text else None


def inputs_of(processor, picture, prompt):
    if getattr(processor, "chat_template", None):
        content = [{"type": "image", "image": picture}, {"type": "text", "text": prompt}]
        return processor.apply_chat_template(
            [{"role": "user", "content": content}],
            add_generation_prompt=True,
            tokenize=True,
            return_dict=True,
            return_tensors="pt",
        )
    return processor(images=picture, text=prompt, return_tensors="pt")


def is_decoder_only(model):
    return not model.config.is_encoder_decoder and model.config.model_type != "blip"


def logits_of(model, inputs, sequence):
    if model.config.model_type == "blip":
        seen = model.vision_model(inputs["pixel_values"])[0]
        return model.text_decoder(sequence[:, :-1], encoder_hidden_states=seen).logits
    if model.config.is_encoder_decoder:
        return model(**inputs, decoder_input_ids=sequence[:, :-1]).logits
    inputs = dict(inputs)
    added = sequence.shape[1] - inputs["input_ids"].shape[1]
    inputs |= {"input_ids": sequence, "attention_mask": torch.ones_like(sequence)}
    if "mm_token_type_ids" in inputs:
        inputs["mm_token_type_ids"] = torch.nn.functional.pad(
            inputs["mm_token_type_ids"], (0, added)
        )
    return model(**inputs).logits[:, :-1]


def test_caption_prompts_of_a_batch_may_differ_in_length(captioners):
    """Else the padding side of the batch tests above would not matter."""
    specialist = load(captioners("idefics3"))
    lengths = specialist._captioner.inputs([Image.fromarray(i.rgb()) for i in IMAGES])[
        "attention_mask"
    ].sum(1)
    assert len(set(lengths.tolist())) > 1
    assert specialist._captioner.processor.tokenizer.padding_side == "left"


def test_caption_rows_say_role_and_prompt(captioners):
    rows = load(captioners("qwen2_vl"), role="detailed", prompt="two dog").annotate(
        IMAGES[:1], empty_claims()
    )
    row = rows.to_pylist()[0]
    assert (row["kind"], row["role"], row["prompt"]) == ("text", "detailed", "two dog")
    assert row["score"] is None
    assert 0 < row["text_score"] < 1


@pytest.mark.parametrize(
    ("family", "role", "prompt"),
    [
        ("blip", "brief", None),
        ("florence2", "brief", "<CAPTION>"),
        ("florence2", "more_detailed", "<MORE_DETAILED_CAPTION>"),
        ("idefics3", "brief", "Describe this image in one short sentence."),
    ],
)
def test_caption_asks_each_family_in_its_way(captioners, family, role, prompt):
    rows = load(captioners(family), role=role).annotate(IMAGES[:1], empty_claims())
    assert rows["prompt"].to_pylist() == [prompt]
    assert Caption(model="a", role=role).produces == (f"text/{role}",)


def test_caption_prompt_of_blip_is_no_part_of_the_text(captioners):
    specialist = load(captioners("blip"), prompt="a red bus")
    texts = specialist.annotate(IMAGES, empty_claims())["text"].to_pylist()
    assert texts
    assert not any(text.startswith("a red bus") for text in texts)


def test_caption_of_nothing_is_no_row(captioners, tmp_path):
    folder = copy_of(captioners("idefics3"), tmp_path)
    generation = transformers.GenerationConfig.from_pretrained(folder)
    size = len(transformers.AutoTokenizer.from_pretrained(folder))
    generation.suppress_tokens = [i for i in range(size) if i != generation.eos_token_id]
    generation.save_pretrained(folder)
    assert load(folder).annotate(IMAGES, empty_claims()).num_rows == 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_caption_computes_in_the_asked_dtype(captioners, dtype):
    specialist = load(captioners("blip"), dtype=dtype)
    assert specialist._captioner.model.dtype == getattr(torch, dtype)
    rows = specialist.annotate(IMAGES, empty_claims())
    assert rows.num_rows
    assert all(0 < score < 1 for score in rows["text_score"].to_pylist())


@pytest.mark.parametrize("option", ["max_new_tokens", "num_beams"])
def test_caption_refuses_less_than_one(option):
    with pytest.raises(ConfigError, match=f"{option} 0; allowed: 1 or more"):
        Caption(model="a", **{option: 0})


def test_caption_revision_of_a_folder_is_its_digest(captioners, tmp_path):
    folder = copy_of(captioners("blip"), tmp_path)
    specialist = Caption(model=str(folder))
    before = specialist.prepare()
    assert before == Caption(model=str(captioners("blip"))).prepare()
    (folder / "generation_config.json").write_text("{}")
    assert specialist.prepare() != before


def test_caption_refuses_a_folder_without_safetensors(captioners, tmp_path):
    folder = copy_of(captioners("blip"), tmp_path)
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    with pytest.raises(SpecialistError, match=r"the folder must hold config\.json and"):
        Caption(model=str(folder)).prepare()
    with pytest.raises(SpecialistError, match=r"cannot be loaded: .*model\.safetensors"):
        Caption(model=str(folder)).load()


def test_caption_refuses_code_from_the_model_folder(captioners, tmp_path):
    folder = copy_of(captioners("blip"), tmp_path)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "theirs.py").write_text("raise SystemExit('their code ran')")
    with pytest.raises(SpecialistError, match="cannot be loaded: "):
        load(folder)


def test_caption_refuses_a_model_that_takes_no_pictures(tmp_path):
    sizes = {"n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": 8}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(SpecialistError, match="cannot be loaded: "):
        load(tmp_path)


def test_caption_names_a_missing_folder():
    with pytest.raises(SpecialistError, match=r"model folder ./gone is missing; name an existing"):
        Caption(model="./gone").prepare()


def test_caption_offline_names_the_model_it_cannot_have(monkeypatch, tmp_path):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    specialist = Caption(model="nobody/nothing")
    assert [(n.present, n.downloads) for n in specialist.needs()[-1:]] == [(False, True)]
    with pytest.raises(SpecialistError, match="model nobody/nothing cannot be had from the hub: "):
        specialist.prepare()


def test_caption_takes_a_cached_hub_model_and_its_commit(captioners, tmp_path, monkeypatch):
    commit = "0123456789abcdef0123456789abcdef01234567"
    repository = tmp_path / "models--some--captioner"
    copy_of(captioners("blip"), repository / "snapshots" / commit)
    (repository / "refs").mkdir()
    (repository / "refs" / "main").write_text(commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    specialist = Caption(model="some/captioner", max_new_tokens=8)
    assert specialist.needs()[-1].present
    assert specialist.prepare() == commit
    specialist.load()
    assert specialist.annotate(IMAGES, empty_claims()).num_rows


def copy_of(folder, target):
    target.mkdir(parents=True, exist_ok=True)
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    return target
