"""The loss against hand computations and against what generation itself thinks of its tokens."""

import math

import pytest
import torch
from PIL import Image

from engine.formats.florence2_tasks import sentence_of
from refinement.training.collate import Collator
from refinement.training.loss import answer_logits, shift_right, token_losses
from refinement.training.start import load_start
from specialists.florence2_model import Checkpoint
from tests.refinement.trainings import ListedStream, example, png, save_checkpoint

IMAGE_TOKENS = {None: 5}  # 64 px: four cells of 32 px and their mean


@pytest.fixture(scope="module")
def spoken(tmp_path_factory):
    """Processor and model that says this and that, and seldom the same twice."""
    folder = save_checkpoint(tmp_path_factory.mktemp("spoken") / "model", init_std=0.5)
    return load_start(folder)


def batch_of(spoken, *examples):
    processor, model = spoken
    collator = Collator(processor, model.config, IMAGE_TOKENS)
    part = collator.collect(ListedStream(examples), 0, len(examples), resolution=None)
    return part.batches[0]


def losses_of(spoken, *examples):
    batch = batch_of(spoken, *examples)
    with torch.inference_mode():
        logits = answer_logits(spoken[1])(*batch.inputs("cpu"))
    return token_losses(logits, batch.labels), batch


def test_shift_right_puts_the_start_before_all_but_the_last():
    labels = torch.tensor([[0, 7, 8, 2], [0, 9, 2, 1]])
    assert shift_right(labels, 5).tolist() == [[5, 0, 7, 8], [5, 0, 9, 2]]


def test_shift_right_of_no_rows_is_none():
    assert shift_right(torch.empty(0, 3, dtype=torch.long), 2).shape == (0, 3)


def test_token_losses_are_the_cross_entropy_by_hand():
    logits = torch.tensor([[0.0, 0.0], [math.log(3), 0.0]])
    found = token_losses(logits, torch.tensor([1, 0]))
    assert found.tolist() == pytest.approx([math.log(2), math.log(4 / 3)])


def test_smoothing_spreads_its_share_over_all_words():
    logits = torch.tensor([[math.log(3), 0.0]])
    found = token_losses(logits, torch.tensor([0]), 0.5)
    # half on the label, half in equal parts on both words
    assert found.item() == pytest.approx(0.75 * math.log(4 / 3) + 0.25 * math.log(4))


def test_losses_are_the_log_probabilities_that_generation_finds(spoken):
    """Whoever shifts twice, or not at all, asks for other tokens than generation chose."""
    processor, model = spoken
    checkpoint = Checkpoint(processor, model)
    picture, prompt = example(), "<OD>"
    seen = checkpoint.see([Image.open(_opened(picture.image)).convert("RGB")])
    said = checkpoint.ask(seen, [sentence_of(prompt)], max_new_tokens=12, num_beams=1)[0]
    assert said.text.startswith("<s>")
    assert len(said.log_probs) > 3
    words = said.text.removeprefix("<s>").removesuffix("</s>")
    losses, batch = losses_of(spoken, example(prompt, words))
    chosen = processor.tokenizer(said.text, add_special_tokens=False).input_ids
    assert batch.labels[: len(chosen)].tolist() == chosen
    # the first token is forced on generation, so its probability is not the model's choice
    assert losses[1 : len(chosen)].numpy() == pytest.approx(-said.log_probs[1:], abs=1e-4)
    wrong = token_losses(answer_logits(model)(*_shifted_twice(batch)), batch.labels)
    assert not torch.allclose(wrong[1:], losses[1:], atol=0.1)


def _opened(data):
    import io

    return io.BytesIO(data)


def _shifted_twice(batch):
    before = shift_right(batch.before, 2)
    return (batch.pixels, batch.picture, batch.read, batch.read_mask, before, batch.counted)


def test_logits_are_those_of_the_librarys_own_forward(spoken):
    processor, model = spoken
    one = example("<OPEN_VOCABULARY_DETECTION>a dog", "a dog<loc_1><loc_2><loc_3><loc_4>")
    inputs = processor(
        images=Image.open(_opened(one.image)).convert("RGB"), text=one.prompt, return_tensors="pt"
    )
    batch = batch_of(spoken, one)
    labels = batch.labels[None]
    with torch.inference_mode():
        native = model(**inputs, decoder_input_ids=shift_right(labels, 2)).logits[0]
        ours = answer_logits(model)(*batch.inputs("cpu"))
    assert torch.allclose(ours, native, atol=1e-4)


def test_padding_changes_no_loss(spoken):
    short, long = example("<CAPTION>", "a dog"), example("<OD>", "dog" + "<loc_5>" * 12, seed=1)
    alone, _ = losses_of(spoken, short)
    together, batch = losses_of(spoken, short, long)
    assert torch.allclose(together[: len(alone)], alone, atol=1e-4)
    assert len(together) == int(batch.counted.sum()) < batch.counted.numel()


def test_a_shared_picture_is_seen_once_and_answers_as_if_seen_twice(spoken):
    one, other = example("<CAPTION>", "a dog"), example("<OD>", "dog<loc_5>")
    shared, batch = losses_of(spoken, one, other)
    assert len(batch.pixels) == 1
    apart, batch = losses_of(spoken, one, example("<OD>", "dog<loc_5>", image_key="copy"))
    assert len(batch.pixels) == 2
    assert torch.allclose(shared, apart, atol=1e-5)


def test_pictures_go_to_their_own_examples(spoken):
    keys = ("a", "b", "a")
    given = [
        example("<CAPTION>", "a dog", image=png(n % 2), image_key=key) for n, key in enumerate(keys)
    ]
    losses, _ = losses_of(spoken, *given)
    first, second, third = losses.reshape(3, -1)
    assert torch.allclose(first, third, atol=1e-5)
    assert not torch.allclose(first, second, atol=1e-3)
