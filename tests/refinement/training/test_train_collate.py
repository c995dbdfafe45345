"""Batches: spelt and scaled as prediction will meet them, nothing cut, nothing lost unsaid."""

import itertools
import threading

import pytest
import torch
from PIL import Image

from engine.errors import ConfigError
from engine.pixels import EncodedImage
from refinement.training.collate import Collator, ahead, square
from refinement.training.start import load_start
from specialists.florence2_model import Checkpoint
from tests.refinement.trainings import (
    ANSWERS,
    ListedStream,
    example,
    of_each_task,
    png,
    save_checkpoint,
)


@pytest.fixture(scope="module")
def loaded(tmp_path_factory):
    return load_start(save_checkpoint(tmp_path_factory.mktemp("collate") / "model"))


@pytest.fixture
def collator(loaded):
    return Collator(loaded[0], loaded[1].config, {None: 5, 96: 10})


def collected(collator, examples, count=None, **options):
    options = {"resolution": None} | options
    return collator.collect(ListedStream(examples), 0, count or len(examples), **options)


def picture_of(one):
    image = EncodedImage(one.image_key, memoryview(one.image), one.width, one.height)
    return Image.fromarray(image.rgb())


def test_targets_go_from_begin_to_end_token_as_answers_do(collator, loaded):
    part = collected(collator, of_each_task())
    batch, tokenizer = part.batches[0], loaded[0].tokenizer
    texts = tokenizer.batch_decode(batch.labels.split(batch.counted.sum(1).tolist()))
    assert texts == [f"<s>{target}</s>" for target in ANSWERS.values()]
    assert set(batch.before[:, 0].tolist()) == {2}  # the decoder's start token
    assert part.left_out == {}


def test_sentences_are_tokens_of_the_librarys_own_processor(collator, loaded):
    processor, examples = loaded[0], of_each_task()
    batch = collected(collator, examples).batches[0]
    for one, read, mask in zip(examples, batch.read, batch.read_mask, strict=True):
        inputs = processor(images=picture_of(one), text=one.prompt, return_tensors="pt")
        ids = inputs.input_ids[0]
        native = ids[ids != processor.image_token_id]
        assert read[mask == 1].tolist() == native.tolist()


def test_pixels_are_those_that_prediction_sees(collator, loaded, monkeypatch):
    sizes = [(48, 40), (100, 30), (30, 100), (64, 64), (7, 9)]
    given = [
        example(seed=n, image=png(n, *size), width=size[0], height=size[1])
        for n, size in enumerate(sizes)
    ]
    batch = collected(collator, given).batches[0]
    processor, model = loaded
    checkpoint, seen = Checkpoint(processor, model), []
    monkeypatch.setattr(model, "get_image_features", seen.append)
    with pytest.raises(AttributeError):  # the features are not looked at
        checkpoint.see([picture_of(one) for one in given])
    assert torch.equal(batch.pixels, seen[0])
    for one, pixels in zip(given, batch.pixels, strict=True):  # nor do its neighbours matter
        alone = processor.image_processor(picture_of(one), return_tensors="pt")["pixel_values"]
        assert torch.equal(pixels, alone[0])


def test_a_stage_has_pictures_of_its_own_size(collator, loaded):
    batch = collected(collator, [example()], resolution=96).batches[0]
    assert batch.pixels.shape == (1, 3, 96, 96)
    wanted = loaded[0].image_processor(picture_of(example()), return_tensors="pt", **square(96))
    assert torch.equal(batch.pixels, wanted["pixel_values"])


def test_parts_share_the_examples_out_in_order(collator):
    given = [example(target=f"a dog {n}", seed=n) for n in range(6)]
    whole = collected(collator, given).batches
    parts = collected(collator, given, parts=3).batches
    assert [len(batch.picture) for batch in parts] == [2, 2, 2]
    assert torch.equal(torch.cat([batch.labels for batch in parts]), whole[0].labels)


@pytest.mark.parametrize(
    ("bad", "reason"),
    [
        ({"target": "<loc_5>" * 511}, "long_target"),
        ({"prompt": "<CAPTION_TO_PHRASE_GROUNDING>" + "x" * 500}, "long_prompt"),
        ({"image": b"no picture"}, "undecodable_image (text_file)"),
        ({"image": png(3)[:-40]}, "undecodable_image (truncated)"),
    ],
)
def test_what_cannot_be_learnt_is_left_out_counted_and_replaced(collator, bad, reason):
    given = [example(seed=1), example(seed=2, **bad), example(seed=4)]
    part = collected(collator, given)
    assert part.left_out == {reason: 1}
    assert len(part.batches[0].picture) == 3
    again = collected(collator, given)
    assert torch.equal(part.batches[0].pixels, again.batches[0].pixels)
    unreplaced = collected(collator, given, replace=False)
    assert len(unreplaced.batches[0].picture) == 2
    assert unreplaced.left_out == {reason: 1}


def test_the_longest_target_that_fits_is_learnt_whole(collator):
    part = collected(collator, [example(target="<loc_5>" * 510)])
    assert part.left_out == {}
    assert len(part.batches[0].labels) == 512


def test_when_nothing_fits_the_training_says_so(collator):
    with pytest.raises(ConfigError, match=r"100 examples in a row .*long_target 100.*512 tokens"):
        collected(collator, [example(target="<loc_5>" * 600)])
    assert collected(collator, [example(target="<loc_5>" * 600)], replace=False).batches == []


def test_ahead_of_nothing_is_nothing():
    assert list(ahead(str, [], 3)) == []


def test_ahead_keeps_the_order_and_makes_in_another_thread():
    found = list(ahead(lambda n: (n, threading.current_thread().name), range(9), 3))
    assert [n for n, _ in found] == list(range(9))
    assert {name.partition("_")[0] for _, name in found} == {"collate"}


def test_ahead_makes_no_more_than_it_may():
    made = []
    taken = ahead(made.append, itertools.count(), 3)
    next(taken)
    taken.close()  # waits for what has been begun
    assert len(made) <= 4


def test_an_error_in_making_reaches_whoever_takes():
    with pytest.raises(ZeroDivisionError, match="zero"):
        list(ahead(lambda n: 1 // n, [1, 0], 2))
