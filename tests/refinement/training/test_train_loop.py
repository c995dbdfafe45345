"""The steps themselves, over listed examples: what they learn, spare, keep, and when they end."""

import json
import math

import pytest
import safetensors.torch
import torch
from PIL import Image

from engine.errors import ConfigError, TrainingError
from engine.formats.florence2_tasks import TASKS, sentence_of
from engine.pixels import EncodedImage
from refinement.training.checkpoints import find_checkpoints
from refinement.training.log import read_log
from refinement.training.start import load_start
from specialists.florence2_model import Checkpoint
from tests.refinement.trainings import example, of_each_task, png, run

EXAMPLES = of_each_task()
TIMES = ("seconds", "examples_per_s")


class KilledError(Exception):
    """Stands for the end of the process where the test needs to go on."""


def kill_at(step):
    def tell(line):
        if line["step"] == step:
            raise KilledError

    return tell


def weights(folder):
    return safetensors.torch.load_file(folder / "model.safetensors")


def log_of(folder):
    lines = read_log(folder / "log.jsonl")
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def changed(start, folder):
    """Names of the tensors that are other than before."""
    before, after = weights(start), weights(folder)
    assert before.keys() == after.keys()
    return {name for name in after if not torch.equal(before[name], after[name])}


def asked(folder, examples, max_new_tokens=60):
    """What a trained checkpoint says to the prompts of examples."""
    checkpoint = Checkpoint(*load_start(folder))
    pictures = [
        Image.fromarray(EncodedImage(e.image_key, memoryview(e.image), e.width, e.height).rgb())
        for e in examples
    ]
    sentences = [sentence_of(e.prompt) for e in examples]
    said = checkpoint.ask(
        checkpoint.see(pictures), sentences, max_new_tokens=max_new_tokens, num_beams=1
    )
    return [one.text for one in said]


@pytest.mark.slow
def test_a_tiny_model_overfits_one_batch_of_each_task_and_says_the_targets(untrained, tmp_path):
    assert {e.task for e in EXAMPLES} == TASKS.keys()
    start = without_dropout(untrained, tmp_path / "start")
    count = len(EXAMPLES)
    run(tmp_path, start, EXAMPLES, steps=130, batch_size=count, learning_rate=6e-3, warmup=10)
    losses = read_log(tmp_path / "log.jsonl")[-1]["tasks"]
    assert losses.keys() == TASKS.keys()
    assert {task: loss for task, loss in losses.items() if loss > 0.05} == {}
    said = asked(tmp_path / "model", EXAMPLES)
    assert said == [f"<s>{e.target}</s>" for e in EXAMPLES]


def without_dropout(start, folder):
    processor, model = load_start(start)
    model.config.text_config.dropout = 0.0
    model.config.vision_config.drop_path_rate = 0.0
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_training_tells_and_logs_every_step_once(untrained, tmp_path):
    told = []
    ended = run(tmp_path, untrained, EXAMPLES, tell=told.append)
    assert told == read_log(tmp_path / "log.jsonl")
    assert [line["step"] for line in told] == [1, 2, 3, 4, 5, 6]
    assert ended.reason == "all steps taken"
    assert ended.progress.loss == told[-1]["loss"]
    assert told[0]["learning_rate"] == 2e-3
    assert set(told[0]["tasks"]) == {e.task for e in EXAMPLES[:4]}
    # a task's loss is that of its own tokens: together they make up the whole
    assert min(told[0]["tasks"].values()) < told[0]["loss"] < max(told[0]["tasks"].values())


def test_the_same_seed_gives_the_same_bytes_and_another_one_others(untrained, tmp_path):
    for name, seed in (("one", 0), ("same", 0), ("other", 1)):
        run(tmp_path / name, untrained, EXAMPLES, steps=3, seed=seed)
    one, same, other = (
        (tmp_path / name / "model" / "model.safetensors").read_bytes()
        for name in ("one", "same", "other")
    )
    assert one == same
    assert one != other  # dropout; the listed order is the same


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"accumulate": 2, "validate_every": 2},
        {"lora": {"dropout": 0.1}, "freeze_vision": True},
        {"resolutions": [{"steps": 3}, {"resolution": 96, "batch_size": 2}]},
        {"validate_every": 1, "patience": 4},
    ],
    ids=["plain", "accumulated", "lora", "two-sizes", "patient"],
)
def test_a_training_that_ended_anywhere_goes_on_to_the_same_bytes(untrained, tmp_path, values):
    given = {"save_every": 2, **values}
    checks = EXAMPLES[:3]
    run(tmp_path / "whole", untrained, EXAMPLES, checks, **given)
    for step in (1, 3, 6):
        with pytest.raises(KilledError):
            run(tmp_path / "parts", untrained, EXAMPLES, checks, tell=kill_at(step), **given)
    run(tmp_path / "parts", untrained, EXAMPLES, checks, **given)
    assert log_of(tmp_path / "parts") == log_of(tmp_path / "whole")
    for file in ("model/model.safetensors", "checkpoint-000006/training.safetensors"):
        whole, parts = (tmp_path / name / file for name in ("whole", "parts"))
        assert parts.read_bytes() == whole.read_bytes(), file


def test_a_line_that_was_cut_is_written_again(untrained, tmp_path):
    run(tmp_path / "whole", untrained, EXAMPLES, save_every=2)
    with pytest.raises(KilledError):
        run(tmp_path / "cut", untrained, EXAMPLES, save_every=2, tell=kill_at(4))
    log = tmp_path / "cut" / "log.jsonl"
    log.write_text(log.read_text()[:-20])
    run(tmp_path / "cut", untrained, EXAMPLES, save_every=2)
    assert log_of(tmp_path / "cut") == log_of(tmp_path / "whole")


def test_checkpoints_are_plain_models_without_pickles(untrained, tmp_path):
    run(tmp_path, untrained, EXAMPLES, save_every=2, lora={})
    names = [path.name for path in find_checkpoints(tmp_path)]
    assert names == ["checkpoint-000006", "checkpoint-000004"]
    assert changed(tmp_path / names[0], tmp_path / "model") == set()
    assert load_start(tmp_path / names[0])
    pickles = [path for path in tmp_path.rglob("*") if path.suffix in {".bin", ".pt", ".pkl"}]
    assert pickles == []


def test_accumulated_parts_are_the_step_of_the_whole_batch(untrained, tmp_path):
    start = without_dropout(untrained, tmp_path / "start")
    for parts in (1, 4):
        run(tmp_path / str(parts), start, EXAMPLES, steps=2, accumulate=parts)
    whole, parts = log_of(tmp_path / "1"), log_of(tmp_path / "4")
    for one, other in zip(whole, parts, strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)
        assert other["grad_norm"] == pytest.approx(one["grad_norm"], rel=1e-3)


def test_plain_training_changes_every_weight(untrained, tmp_path):
    run(tmp_path, untrained, EXAMPLES, steps=2, batch_size=15)
    kept = weights(untrained).keys() - changed(untrained, tmp_path / "model")
    assert {name for name in kept if "pos_idx_to_embed" not in name} == set()


def test_frozen_vision_is_left_as_it_is(untrained, tmp_path):
    run(tmp_path, untrained, EXAMPLES, freeze_vision=True)
    found = changed(untrained, tmp_path / "model")
    assert [name for name in found if "vision_tower" in name] == []
    assert any("multi_modal_projector" in name for name in found)
    assert any("decoder" in name for name in found)


@pytest.mark.parametrize("freeze", [False, True])
def test_lora_changes_its_targets_alone_and_leaves_a_plain_model(untrained, tmp_path, freeze):
    run(tmp_path, untrained, EXAMPLES, lora={"targets": ["q_proj", "fc1"]}, freeze_vision=freeze)
    found = changed(untrained, tmp_path / "model")
    assert {name.split(".")[-2] for name in found} == {"q_proj", "fc1"}
    assert {name.split(".")[-1] for name in found} == {"weight"}
    assert any("vision_tower" in name for name in found) is not freeze
    trained = safetensors.torch.load_file(tmp_path / "checkpoint-000006" / "training.safetensors")
    assert {name.split(".")[-3] for name in trained if "lora" in name} == {"lora_A", "lora_B"}
    assert [name for name in trained if "lora" not in name] == []


def test_merged_adapters_answer_as_the_training_did(untrained, tmp_path):
    given = EXAMPLES[:4]
    start = without_dropout(untrained, tmp_path / "start")
    run(tmp_path / "lora", start, given, given, lora={}, steps=6, validate_every=6)
    seen = log_of(tmp_path / "lora")[-1]["valid"]
    run(tmp_path / "next", tmp_path / "lora" / "model", given, steps=1)
    assert log_of(tmp_path / "next")[0]["loss"] == pytest.approx(seen, rel=1e-4)


@pytest.mark.parametrize(
    ("targets", "message"),
    [(["no_such"], r"train.lora.targets \['no_such'\]"), (["lm_head"], "lm_head shares")],
)
def test_lora_on_layers_that_cannot_have_it(untrained, tmp_path, targets, message):
    with pytest.raises(ConfigError, match=message):
        run(tmp_path, untrained, EXAMPLES, lora={"targets": targets})


def test_bfloat16_computes_otherwise_and_keeps_float32(untrained, tmp_path):
    start = without_dropout(untrained, tmp_path / "start")
    for dtype in ("float32", "bfloat16"):
        run(tmp_path / dtype, start, EXAMPLES, dtype=dtype)
    whole, half = log_of(tmp_path / "float32"), log_of(tmp_path / "bfloat16")
    assert half[0]["loss"] != whole[0]["loss"]
    assert half[0]["loss"] == pytest.approx(whole[0]["loss"], rel=0.05)
    assert half[-1]["loss"] < half[0]["loss"]
    found = weights(tmp_path / "bfloat16" / "model")
    assert {tensor.dtype for tensor in found.values()} == {torch.float32}


def test_two_sizes_in_sequence_leave_a_processor_of_the_last(untrained, tmp_path):
    stages = [{"steps": 2, "resolution": 64}, {"resolution": 96, "batch_size": 2}]
    run(tmp_path, untrained, EXAMPLES, steps=4, resolutions=stages)
    processor, model = load_start(tmp_path / "model")
    inputs = processor(images=Image.new("RGB", (30, 20)), text="<CAPTION>", return_tensors="pt")
    assert inputs.pixel_values.shape == (1, 3, 96, 96)
    assert int((inputs.input_ids == processor.image_token_id).sum()) == 10
    with torch.inference_mode():
        assert model.generate(**inputs, max_new_tokens=3).shape[0] == 1
    assert (untrained / "processor_config.json").is_file()
    files = [json.loads(path.read_text()) for path in (tmp_path / "model").glob("*config.json")]
    assert "96" in json.dumps(files)


def test_a_size_the_checkpoint_has_no_room_for(untrained, tmp_path):
    with pytest.raises(ConfigError, match=r"pictures of 2048 pixels a side|takes .* tokens"):
        run(tmp_path, untrained, EXAMPLES, resolutions=[{"resolution": 2048}])


def test_validation_is_the_loss_without_dropout_by_task(untrained, tmp_path):
    start = without_dropout(untrained, tmp_path / "start")
    given = EXAMPLES[:4]
    run(tmp_path / "a", start, given, given, steps=2, validate_every=1, learning_rate=1e-9)
    first, second = log_of(tmp_path / "a")
    # hardly anything is learnt, so what is validated is what the next step finds
    assert first["valid"] == pytest.approx(second["loss"], rel=1e-4)
    assert first["valid_tasks"] == pytest.approx(second["tasks"], rel=1e-4)


def test_validation_draws_no_chance_from_the_training(untrained, tmp_path):
    run(tmp_path / "with", untrained, EXAMPLES, EXAMPLES[:3], validate_every=1)
    run(tmp_path / "without", untrained, EXAMPLES)
    assert changed(tmp_path / "with" / "model", tmp_path / "without" / "model") == set()


def test_validation_looks_at_no_more_than_it_is_told(untrained, tmp_path):
    checks = [EXAMPLES[0], EXAMPLES[3]]
    run(tmp_path, untrained, EXAMPLES, checks, steps=1, validate_every=1, validation_examples=1)
    assert set(log_of(tmp_path)[0]["valid_tasks"]) == {"caption"}


def test_patience_ends_the_training_with_the_best_weights(untrained, tmp_path):
    values = {"steps": 40, "learning_rate": 1e-2, "batch_size": 2, "save_every": 1}
    learns = [example("<CAPTION>", "a dog"), example("<CAPTION>", "a dog", seed=1)]
    checks = [example("<CAPTION>", "STOP. bus", seed=2)]
    ended = run(tmp_path, untrained, learns, checks, validate_every=1, patience=3, **values)
    assert ended.reason == "no lower validation loss in 3 validations"
    lines = log_of(tmp_path)
    best = min(lines, key=lambda line: line["valid"])
    assert ended.progress.best_step == best["step"] == len(lines) - 3 < 37
    assert not (tmp_path / "best").exists()
    run(tmp_path / "again", tmp_path / "model", checks, steps=1, learning_rate=1e-9)
    last = changed(tmp_path / "model", find_checkpoints(tmp_path)[0])
    assert last != set()


def test_an_ended_training_does_not_wait_again(untrained, tmp_path):
    """Killed behind its last checkpoint: the steps that patience saved are not taken after all."""
    learns = [example("<CAPTION>", "a dog"), example("<CAPTION>", "a dog", seed=1)]
    checks = [example("<CAPTION>", "STOP. bus", seed=2)]
    values = {"steps": 40, "learning_rate": 1e-2, "batch_size": 2, "patience": 3}
    ended = run(tmp_path, untrained, learns, checks, validate_every=1, **values)
    before = (tmp_path / "model" / "model.safetensors").read_bytes()
    again = run(tmp_path, untrained, learns, checks, validate_every=1, **values)
    assert again.progress == ended.progress
    assert (tmp_path / "model" / "model.safetensors").read_bytes() == before


def broken(start, folder, value):
    """A checkpoint with one weight that is no number."""
    processor, model = load_start(start)
    with torch.no_grad():
        model.model.language_model.decoder.layers[0].fc1.weight[0, 0] = value
    model.save_pretrained(folder)
    processor.save_pretrained(folder)
    return folder


def test_a_loss_that_is_no_number_stops_before_it_is_learnt(untrained, tmp_path):
    start = broken(untrained, tmp_path / "start", math.nan)
    with pytest.raises(TrainingError, match="loss is nan at step 1, after a loss of none yet"):
        run(tmp_path / "run", start, EXAMPLES)
    assert not (tmp_path / "run" / "model").exists()
    assert log_of(tmp_path / "run") == []


def test_a_training_that_diverges_keeps_its_last_good_checkpoint(untrained, tmp_path):
    values = {"learning_rate": 1e30, "clip_norm": None, "schedule": "constant", "steps": 9}
    with pytest.raises(TrainingError) as caught:
        run(tmp_path, untrained, EXAMPLES, save_every=1, **values)
    said, last = str(caught.value), find_checkpoints(tmp_path)[0]
    lines = log_of(tmp_path)
    assert f"at step {len(lines) + 1}, after a loss of {lines[-1]['loss']:.4g}" in said
    assert f"kept: {last}" in said
    assert "lower learning rate than 1e+30" in said
    assert "\n" not in said
    assert load_start(last)


def test_examples_left_out_are_counted_through_a_kill(untrained, tmp_path):
    given = [example(seed=1), example(seed=2, target="<loc_1>" * 600), example(seed=3)]
    given.append(example(seed=4, image=png(4)[:50]))
    with pytest.raises(KilledError):
        run(tmp_path / "cut", untrained, given, save_every=2, tell=kill_at(3))
    cut = run(tmp_path / "cut", untrained, given, save_every=2)
    whole = run(tmp_path / "whole", untrained, given, save_every=2)
    assert cut.progress.left_out == whole.progress.left_out
    assert whole.progress.left_out["long_target"] >= 6
