"""How Florence-2's answers are generated and scored, against plain `generate` and one forward pass.

By a model with random weights, which says words and places without sense.
"""

import numpy as np
import pytest
import torch
import transformers
from florence2_checkpoints import (
    ALONE,
    IMAGES,
    annotated,
    kept_captions,
    load,
)
from PIL import Image

from engine.formats.florence2_codec import classify_pieces, join_pieces
from engine.formats.florence2_tasks import TASKS, sentence_of
from specialists.florence2_model import Checkpoint, Said
from tests.builders import rows


def said(pieces, log_probs, *, is_cut=False):
    text, spans = join_pieces(pieces)
    is_word, is_mark = classify_pieces(pieces)
    return Said(text, spans, np.float32(log_probs), is_word, is_mark, is_cut)


def test_scores_of_nothing_are_null():
    nothing = said(["<s>"], [-9], is_cut=True)
    assert nothing.text_score() is None
    assert nothing.label_score((0, 0)) is None
    assert nothing.place_score([]) is None


def test_scores_are_means_over_just_the_tokens_of_words_and_places():
    pieces = ["<s>", "a", "\u0120car", "<loc_1>", "<s>", "<loc_2>", "<loc_3>", "</s>"]
    answer = said(pieces, [-9, -1, -3, -2, -9, -4, -8, -5])
    start = answer.text.index("<loc_1>")
    assert answer.text_score() == pytest.approx(np.exp(-3))  # of a, car and the end
    assert answer.label_score((3, 8)) == pytest.approx(np.exp(-2))
    assert answer.label_score((4, 8)) == pytest.approx(np.exp(-3))
    assert answer.place_score([(start, start + 17)]) == pytest.approx(np.exp(-3))
    assert answer.place_score([(start, start + 7), (start + 17, start + 24)]) == pytest.approx(
        np.exp(-5)
    )


def test_an_answer_that_was_cut_has_no_end_token_to_count():
    assert said(["a", "b"], [-1, -3], is_cut=True).text_score() == pytest.approx(np.exp(-2))


@pytest.mark.parametrize("num_beams", [1, 3])
def test_batch_equals_image_by_image(random_florence2, num_beams):
    tasks = ("caption", "od", "dense_region_caption", "region_proposal")
    specialist = load(random_florence2, *tasks, num_beams=num_beams, max_new_tokens=40)
    together = annotated(specialist, IMAGES).to_pylist()
    alone = [row for image in IMAGES for row in annotated(specialist, [image]).to_pylist()]
    assert len({row["prompt"] for row in together}) >= 3
    assert len({row["image_key"] for row in together}) >= 3
    for name in ("score", "text_score"):
        scores = [row.pop(name) for row in together], [row.pop(name) for row in alone]
        assert [s is None for s in scores[0]] == [s is None for s in scores[1]]
        assert np.float64(scores[0]) == pytest.approx(np.float64(scores[1]), abs=1e-4, nan_ok=True)
    assert together == alone


def test_more_questions_than_fit_at_once_are_answered_as_one_by_one(random_florence2):
    """And prompts of unequal length as each alone, so that padding is seen to say nothing."""
    specialist = load(random_florence2, "region_to_description", max_new_tokens=12)
    ids = [f"region-{n}" for n in range(18)]
    boxes = [[1, 2, 3 + n, 4 + n] for n in range(18)]
    kept = rows(image_key=["image-0"] * 18, annotation_id=ids, region_id=ids, box=boxes)
    grounding = load(random_florence2, "caption_to_phrase_grounding", max_new_tokens=40)
    texts = kept_captions(
        "a dog", "the dog sits on a red bus near two cats " * 3, image_key="image-0"
    )
    num_found = 0
    for asked, about in ((specialist, kept), (grounding, texts)):
        together = answers(asked, about)
        alone = [answers(asked, about.slice(n, 1))[0] for n in range(0, about.num_rows, 4)]
        assert together[::4] == alone
        num_found += len(set(together))
    assert num_found >= 3


def answers(specialist, kept):
    """What was said, question by question."""
    said, ask = [], specialist._ask
    specialist._ask = lambda *question: said.append(ask(*question)) or said[-1]
    annotated(specialist, IMAGES[:1], kept)
    del specialist._ask
    return [answer.text for part in said for answer in part]


@pytest.mark.parametrize("num_beams", [1, 3])
@pytest.mark.parametrize("task", [*ALONE, "caption_to_phrase_grounding"])
def test_text_is_that_of_plain_generate_on_the_processors_inputs(random_florence2, task, num_beams):
    processor, model = loaded(random_florence2)
    prompt = TASKS[task].token + "a dog and a red bus" * (TASKS[task].takes == "text")
    pictures = [Image.fromarray(image.rgb()) for image in IMAGES[:2]]
    checkpoint = Checkpoint(processor, model)
    said = checkpoint.ask(
        checkpoint.see(pictures), [sentence_of(prompt)] * 2, max_new_tokens=40, num_beams=num_beams
    )
    inputs = processor(images=pictures, text=[prompt] * 2, return_tensors="pt")
    plain = model.generate(**inputs, max_new_tokens=40, num_beams=num_beams, do_sample=False)
    texts = [text.replace("<pad>", "") for text in processor.batch_decode(plain)]
    assert ["</s>" + answer.text for answer in said] == texts
    assert [answer.is_cut for answer in said] == [not text.endswith("</s>") for text in texts]


def loaded(folder):
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.Florence2ForConditionalGeneration.from_pretrained(folder).eval()
    model.generation_config.forced_eos_token_id = None
    return processor, model


@pytest.mark.parametrize("num_beams", [1, 3])
def test_scores_are_those_of_a_single_forward_pass(random_florence2, num_beams):
    tasks = ("caption", "dense_region_caption", "region_proposal")
    specialist = load(random_florence2, *tasks, num_beams=num_beams)
    found = annotated(specialist, IMAGES).to_pylist()
    processor, model = loaded(random_florence2)
    num_compared = 0
    for image in IMAGES:
        for task in tasks:
            token = TASKS[task].token
            mine = [r for r in found if (r["image_key"], r["prompt"]) == (image.image_key, token)]
            ids, chances = teacher_forced(processor, model, image, token, num_beams)
            expected = expected_scores(processor.tokenizer, task, ids, chances)
            assert [row["text"] for row in mine] == [text for text, _, _ in expected]
            for row, (_, score, text_score) in zip(mine, expected, strict=True):
                assert row["score"] == (score and pytest.approx(score, rel=1e-3))
                assert row["text_score"] == (text_score and pytest.approx(text_score, rel=1e-3))
            num_compared += len(mine)
    assert num_compared >= 10


def teacher_forced(processor, model, image, token, num_beams):
    """Tokens of an answer, and the log-probability of each from one pass with labels."""
    inputs = processor(images=Image.fromarray(image.rgb()), text=token, return_tensors="pt")
    with torch.no_grad():
        ids = model.generate(**inputs, max_new_tokens=60, num_beams=num_beams, do_sample=False)
        logits = model(**inputs, labels=ids[:, 1:]).logits[0]
    return ids[0, 1:].tolist(), logits.log_softmax(-1).gather(1, ids[0, 1:, None])[:, 0].tolist()


def expected_scores(tokenizer, task, ids, chances):
    """Text, score, text_score of each row, read from the tokens one after the other."""
    special = set(tokenizer.all_special_ids) | {50265 + n for n in range(1024)}
    pairs = list(zip(ids, chances, strict=True))
    if task == "caption":
        words = [(i, c) for i, c in pairs if i not in special]
        text = tokenizer.decode([i for i, _ in words]).strip()
        scored = [c for _, c in words] + [c for i, c in pairs if i == 2]
        return [(text, None, np.exp(np.mean(scored)))] if text else []
    found, label, run = [], [], []
    for token, chance in [*pairs, (2, 0.0)]:
        if 50269 <= token <= 51268:
            run.append((token - 50269, chance))
            continue
        text = tokenizer.decode([i for i, _ in label]).strip()
        for k in range(0, len(run) // 4 * 4, 4):
            x0, y0, x1, y1 = (n for n, _ in run[k : k + 4])
            if x0 <= x1 and y0 <= y1 and (text or task == "region_proposal"):
                place = np.exp(np.mean([c for _, c in run[k : k + 4]]))
                named = (text, place, np.exp(np.mean([c for _, c in label])) if text else None)
                found.append((None, place, None) if task == "region_proposal" else named)
        if run:
            label, run = [], []
        if token not in special:
            label.append((token, chance))
    return found


def test_a_text_longer_than_the_model_reads_is_cut(random_florence2):
    specialist = load(random_florence2, "caption_to_phrase_grounding", max_new_tokens=4)
    text = "the dog sits on a red bus " * 500
    assert annotated(specialist, IMAGES[:1], kept_captions(text, image_key="image-0")).num_rows == 0
