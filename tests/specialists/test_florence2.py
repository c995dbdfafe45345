"""Florence-2 by the real class with random weights, and by one taught what to say of one picture.

How prompts, targets and answers are spelt is tested in test_florence2_codec,
test_florence2_tasks and test_florence2_targets.
"""

import json
import pickle
import shutil

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from PIL import Image
from specialist_photos import noise
from tiny_captioners import save_blip, save_florence2, teach_florence2

from engine.errors import ConfigError, SpecialistError
from engine.merge import check_rows
from engine.schema import empty_claims
from engine.worker import BATCH, Host, SpecialistSpec
from specialists.caption import Caption
from specialists.florence2 import Florence2
from specialists.florence2_codec import decode_bins
from specialists.florence2_model import Checkpoint
from specialists.florence2_tasks import TASKS, find_task, sentence_of
from tests.builders import rows

ALONE = (  # tasks that need nothing but the image
    *("caption", "detailed_caption", "more_detailed_caption"),
    *("od", "dense_region_caption", "region_proposal", "ocr_with_region"),
)
SIZES = [(64, 48), (40, 64), (100, 30), (32, 32)]
IMAGES = [noise(f"image-{i}", *size, seed=i) for i, size in enumerate(SIZES)]
# The one picture that the taught model knows, under two keys.
KNOWN = [noise("a", 64, 48), noise("b", 64, 48)]
DOG_BINS, BUS_BINS = (10, 20, 300, 400), (500, 100, 900, 999)
QUAD_BINS = (10, 20, 300, 20, 300, 40, 10, 40)
RING_BINS, OTHER_RING_BINS = (20, 30, 290, 30, 290, 390), (510, 110, 890, 110, 890, 990)


def spelt(bins):
    return "".join(f"<loc_{n}>" for n in bins)


def pixels(bins):
    return decode_bins([bins], (64, 48))[0].tolist()


DOG, BUS, QUAD = spelt(DOG_BINS), spelt(BUS_BINS), spelt(QUAD_BINS)
RING, OTHER_RING = spelt(RING_BINS), spelt(OTHER_RING_BINS)
ANSWERS = {
    "<CAPTION>": "a dog and a dog",
    "<DETAILED_CAPTION>": "two dogs run near a red bus.",
    "<OD>": f"dog{DOG}{BUS}bus{BUS}",
    "<DENSE_REGION_CAPTION>": f"brown dog{DOG}",
    "<REGION_PROPOSAL>": DOG + BUS,
    "<OCR_WITH_REGION>": f"STOP{QUAD}",
    "<CAPTION_TO_PHRASE_GROUNDING>a dog and a dog": f"a dog{DOG}a dog{BUS}a cat{BUS}",
    f"<REGION_TO_CATEGORY>{DOG}": f"dog{DOG}",
    f"<REGION_TO_CATEGORY>{BUS}": f"bus{BUS}",
    f"<REGION_TO_DESCRIPTION>{DOG}": f"a brown dog{DOG}",
    f"<REGION_TO_DESCRIPTION>{BUS}": f"a red bus{BUS}",
    f"<REGION_TO_OCR>{DOG}": f"STOP{DOG}",
    f"<REGION_TO_SEGMENTATION>{DOG}": RING,
    f"<REGION_TO_SEGMENTATION>{BUS}": RING,
    "<REFERRING_EXPRESSION_SEGMENTATION>dog": f"<poly>{OTHER_RING}</poly><poly>{RING}</poly>",
    "<REFERRING_EXPRESSION_SEGMENTATION>bus": OTHER_RING,
}


@pytest.fixture(scope="session")
def random_folder(data, tmp_path_factory):
    """A model that says words and places without sense."""
    torch.set_num_threads(1)
    tokenizer = data / "tokenizer" / "florence2_tokenizer"
    return save_florence2(tmp_path_factory.mktemp("florence") / "random", tokenizer, points=True)


@pytest.fixture(scope="session")
def taught_folder(data, tmp_path_factory):
    """A model that has learnt `ANSWERS`."""
    torch.set_num_threads(1)
    tokenizer = data / "tokenizer" / "florence2_tokenizer"
    folder = save_florence2(tmp_path_factory.mktemp("florence") / "taught", tokenizer, init_std=0.1)
    answers = {sentence_of(prompt): answer for prompt, answer in ANSWERS.items()}
    return teach_florence2(folder, answers, Image.fromarray(KNOWN[0].rgb()))


_LOADED = {}  # one checkpoint serves all tests of its folder: it holds no state of an answer


def load(folder, *tasks, **options):
    specialist = Florence2(
        model=str(folder), **({"tasks": tasks or ALONE, "max_new_tokens": 60} | options)
    )
    key = (folder, specialist.dtype)
    if key not in _LOADED:
        specialist.load()
        _LOADED[key] = specialist._checkpoint
    specialist._checkpoint = _LOADED[key]
    return specialist


def annotated(specialist, images, kept=None):
    return specialist.annotate(images, empty_claims() if kept is None else kept).rows


def kept_regions(**columns):
    """Regions of two images as earlier specialists left them, the dog first."""
    defaults = {
        "image_key": ["a", "a", "b"],
        "annotation_id": ["dog-a", "bus-a", "bus-b"],
        "region_id": ["dog-a", "bus-a", "bus-b"],
        "text": ["dog", "bus", "bus"],
        "box": [pixels(DOG_BINS), pixels(BUS_BINS), pixels(BUS_BINS)],
    }
    return rows(**{**defaults, **columns})


def kept_captions(*texts, image_key="a"):
    return rows(
        image_key=[image_key] * len(texts),
        annotation_id=[f"text-{n}" for n in range(len(texts))],
        kind="text",
        role="alt",
        text=list(texts),
    )


def test_no_images_no_rows(random_folder):
    assert annotated(load(random_folder), []).num_rows == 0


# Options


@pytest.mark.parametrize(
    ("tasks", "message"),
    [
        pytest.param((), r"tasks \[\]; name at least one, each once; allowed: caption", id="none"),
        pytest.param(("od", "<OD>"), "name at least one, each once", id="twice"),
        pytest.param(
            ("detect",), "Florence-2 task 'detect' is not known; known: cap", id="unknown"
        ),
        pytest.param(
            ("caption", "ocr"), "task 'ocr' gives no rows; allowed: caption", id="no-rows"
        ),
    ],
)
def test_tasks_that_cannot_be_are_refused(tasks, message):
    with pytest.raises(ConfigError, match=f"specialist 'florence2': .*{message}"):
        Florence2(tasks=tasks)


@pytest.mark.parametrize("tasks", [("caption",), ("caption_to_phrase_grounding", "od")])
def test_own_captions_are_grounded_only_where_there_are_some(tasks):
    with pytest.raises(ConfigError, match="ground is own, which needs caption_to_phrase_ground"):
        Florence2(tasks=tasks, ground="own")


@pytest.mark.parametrize("option", ["max_new_tokens", "num_beams"])
def test_counts_less_than_one_are_refused(option):
    with pytest.raises(ConfigError, match=f"{option} 0; allowed: 1 or more"):
        Florence2(**{option: 0})


@pytest.mark.parametrize(
    ("options", "produces", "requires"),
    [
        ({"tasks": ("<OD>", "caption")}, ("text/brief", "region/category"), ()),
        ({"tasks": ("dense_region_caption", "region_proposal")},
         ("region/brief", "region/proposal"), ()),
        ({"tasks": ("ocr_with_region",)}, ("region/ocr",), ()),
        ({"tasks": ("caption_to_phrase_grounding",)}, ("grounding/phrase",), ("text",)),
        ({"tasks": ("caption_to_phrase_grounding", "detailed_caption"), "ground": "own"},
         ("text/detailed", "grounding/phrase"), ()),
        ({"tasks": ("region_to_category", "region_to_description")},
         ("region/category", "region/brief"), ("region",)),
        ({"tasks": ("region_to_ocr",)}, ("region/ocr",), ("region/ocr",)),
        ({"tasks": ("referring_expression_segmentation",)},
         ("region/category", "region/phrase", "region/brief"), ("region",)),
    ],
)  # fmt: skip
def test_what_is_produced_and_required_follows_from_the_tasks(options, produces, requires):
    specialist = Florence2(**options)
    assert specialist.produces == produces
    assert specialist.requires == requires


# What it says


def test_every_task_of_an_image_gives_its_rows(taught_folder):
    tasks = ("od", "caption", "detailed_caption", *ALONE[4:])
    table = annotated(load(taught_folder, *tasks), KNOWN)
    assert check_rows(table, ["a", "b"]).num_rows == 18
    expected = [
        ("text", "brief", "a dog and a dog", None, "<CAPTION>"),
        ("text", "detailed", "two dogs run near a red bus.", None, "<DETAILED_CAPTION>"),
        ("region", "category", "dog", pixels(DOG_BINS), "<OD>"),
        ("region", "category", "dog", pixels(BUS_BINS), "<OD>"),
        ("region", "category", "bus", pixels(BUS_BINS), "<OD>"),
        ("region", "brief", "brown dog", pixels(DOG_BINS), "<DENSE_REGION_CAPTION>"),
        ("region", "proposal", None, pixels(DOG_BINS), "<REGION_PROPOSAL>"),
        ("region", "proposal", None, pixels(BUS_BINS), "<REGION_PROPOSAL>"),
    ]
    names = ("kind", "role", "text", "box", "prompt")
    mine = table.filter(pa.compute.not_equal(table["role"].cast(pa.string()), "ocr")).to_pylist()
    for key in ("a", "b"):
        found = [tuple(row[n] for n in names) for row in mine if row["image_key"] == key]
        assert found == expected


def test_a_transcript_has_its_quad_and_the_box_around_it(taught_folder):
    (row,) = annotated(load(taught_folder, "ocr_with_region"), KNOWN[:1]).to_pylist()
    assert (row["kind"], row["role"], row["text"]) == ("region", "ocr", "STOP")
    assert row["polygon"] == [pixels(QUAD_BINS)]
    assert row["box"] == pixels((10, 20, 300, 40))


def test_scores_are_given_where_something_was_said_and_null_elsewhere(taught_folder):
    table = annotated(load(taught_folder, "caption", "od", "region_proposal"), KNOWN[:1])
    for row in table.to_pylist():
        assert (row["score"] is None) == (row["kind"] == "text")
        assert (row["text_score"] is None) == (row["role"] == "proposal")
        assert row["score"] is None or 0.5 < row["score"] <= 1  # it has learnt these by heart
        assert row["text_score"] is None or -0.7 < row["text_score"] <= 0


def test_rows_come_by_image_whatever_the_tasks_and_their_order(taught_folder):
    forth = annotated(load(taught_folder, "od", "caption"), KNOWN).to_pylist()
    assert [row["image_key"] for row in forth] == ["a"] * 4 + ["b"] * 4
    assert annotated(load(taught_folder, "<CAPTION>", "<OD>"), KNOWN).to_pylist() == forth


def test_phrases_of_kept_texts_are_grounded(taught_folder):
    specialist = load(taught_folder, "caption_to_phrase_grounding")
    answer = specialist.annotate(KNOWN, kept_captions("a dog and a dog", image_key="b"))
    found = answer.rows.to_pylist()
    names = ("image_key", "kind", "role", "text", "text_id", "span_start", "span_end", "box")
    assert [tuple(row[n] for n in names) for row in found] == [
        ("b", "grounding", "phrase", "a dog", "text-0", 0, 5, pixels(DOG_BINS)),
        ("b", "grounding", "phrase", "a dog", "text-0", 10, 15, pixels(BUS_BINS)),
    ]
    assert [row["parents"] for row in found] == [["text-0"]] * 2
    assert {row["prompt"] for row in found} == {"<CAPTION_TO_PHRASE_GROUNDING>a dog and a dog"}
    assert answer.usage["unplaced_items"] == 1  # the cat, of which the caption says nothing


def test_spans_count_in_the_text_as_it_was_kept(taught_folder):
    specialist = load(taught_folder, "caption_to_phrase_grounding")
    text = "\n  a dog and a dog "
    table = annotated(specialist, KNOWN, kept_captions(text))
    for row in table.to_pylist():
        assert text[row["span_start"] : row["span_end"]] == row["text"]
    assert table.num_rows == 2


def test_own_captions_are_grounded_and_refer_to_their_rows(taught_folder):
    specialist = load(taught_folder, "caption_to_phrase_grounding", "caption", ground="own")
    table = identified(specialist, KNOWN)
    caption, *phrases = (row for row in table.to_pylist() if row["image_key"] == "b")
    assert caption["text"] == "a dog and a dog"
    assert [row["text"] for row in phrases] == ["a dog", "a dog"]
    for row in phrases:
        assert row["text_id"] == caption["annotation_id"]
        assert row["parents"] == [caption["annotation_id"]]


def identified(specialist, images, kept=None):
    """The rows as the engine has them."""
    columns = {
        name: [getattr(i, name) for i in images] for name in ("image_key", "width", "height")
    }
    batch = pa.table({**columns, "data": [bytes(i.data) for i in images]}, schema=BATCH)
    host = Host(SpecialistSpec(specialist, specialist.prepare()))
    host.load()
    table, receipt = host.annotate(batch, kept)
    assert receipt.failures == []
    return table


@pytest.mark.parametrize(
    ("task", "role", "texts"),
    [
        ("region_to_category", "category", ["dog", "bus", "bus"]),
        ("region_to_description", "brief", ["a brown dog", "a red bus", "a red bus"]),
    ],
)
def test_kept_regions_are_described_each_as_itself(taught_folder, task, role, texts):
    specialist = load(taught_folder, task)
    kept = kept_regions()
    table = identified(specialist, KNOWN, kept)
    found = table.to_pylist()
    assert [row["text"] for row in found] == texts
    assert [row["region_id"] for row in found] == ["dog-a", "bus-a", "bus-b"]
    assert [row["parents"] for row in found] == [["dog-a"], ["bus-a"], ["bus-b"]]
    assert [row["box"] for row in found] == kept["box"].to_pylist()
    assert {row["role"] for row in found} == {role}
    assert found[0]["prompt"] == find_task(task).token + DOG
    assert all(row["score"] is None and row["text_score"] > -0.7 for row in found)


def test_a_region_of_two_rows_is_asked_about_once(taught_folder):
    twice = kept_regions(
        image_key=["a", "a", "a"],
        annotation_id=["first", "second", "third"],
        region_id=["first", "first", "third"],
        role=["category", "brief", "ocr"],
    )
    found = annotated(load(taught_folder, "region_to_category"), KNOWN, twice).to_pylist()
    assert [(row["region_id"], row["parents"]) for row in found] == [("first", ["first"])]


@pytest.mark.parametrize(
    "columns",
    [
        {"ignore": [True] * 3},
        {"box": [None] * 3},
        {"box": [[9, 9, 9, 20]] * 3},
        {"role": "ocr"},
    ],
)
def test_regions_that_cannot_be_pointed_at_are_not_asked_about(taught_folder, columns):
    specialist = load(taught_folder, "region_to_category", "referring_expression_segmentation")
    assert annotated(specialist, KNOWN, kept_regions(**columns)).num_rows == 0


def test_kept_transcripts_are_read_again(taught_folder):
    kept = kept_regions(role=["ocr", "category", "category"])
    (row,) = annotated(load(taught_folder, "region_to_ocr"), KNOWN, kept).to_pylist()
    assert (row["role"], row["text"], row["region_id"]) == ("ocr", "STOP", "dog-a")


def test_labels_of_kept_regions_are_outlined(taught_folder):
    specialist = load(taught_folder, "referring_expression_segmentation")
    kept = kept_regions(text=["dog", " dog", "bus"])
    answer = specialist.annotate(KNOWN, kept)
    found = {row["region_id"]: row for row in answer.rows.to_pylist()}
    assert found["dog-a"]["polygon"] == [pixels(RING_BINS)]
    assert found["bus-a"]["polygon"] == [pixels(OTHER_RING_BINS)]
    assert found["bus-b"]["polygon"] == [pixels(OTHER_RING_BINS)]
    for name, row in found.items():
        assert row["parents"] == [name]
        assert (row["kind"], row["role"]) == ("region", "category")
        assert 0.5 < row["score"] <= 1
        assert row["text_score"] is None  # the label is not this model's
    assert [found[n]["text"] for n in ("dog-a", "bus-b")] == ["dog", "bus"]
    assert found["dog-a"]["box"] == pixels((20, 30, 290, 390))


def test_an_outline_beside_all_regions_is_given_to_none(taught_folder):
    specialist = load(taught_folder, "region_to_segmentation")
    answer = specialist.annotate(KNOWN, kept_regions())
    assert answer.rows["region_id"].to_pylist() == ["dog-a"]  # for the bus it points at the dog
    assert answer.usage["unplaced_items"] == 2


# How it says it


def test_features_are_computed_once_for_all_tasks(taught_folder):
    specialist = load(taught_folder, *ALONE, "caption_to_phrase_grounding", "region_to_category")
    seen = []
    model = specialist._checkpoint._model
    hook = model.model.vision_tower.register_forward_hook(lambda *call: seen.append(call[1][0]))
    kept = pa.concat_tables([kept_regions(), kept_captions("a dog and a dog")])
    try:
        assert annotated(specialist, KNOWN, kept.unify_dictionaries()).num_rows > 20
    finally:
        hook.remove()
    assert [len(pixels) for pixels in seen] == [2]


@pytest.mark.parametrize("num_beams", [1, 3])
def test_batch_equals_image_by_image(random_folder, num_beams):
    tasks = ("caption", "od", "dense_region_caption", "region_proposal")
    specialist = load(random_folder, *tasks, num_beams=num_beams, max_new_tokens=40)
    together = annotated(specialist, IMAGES).to_pylist()
    alone = [row for image in IMAGES for row in annotated(specialist, [image]).to_pylist()]
    assert len({row["prompt"] for row in together}) >= 3
    assert len({row["image_key"] for row in together}) >= 3
    for name in ("score", "text_score"):
        scores = [row.pop(name) for row in together], [row.pop(name) for row in alone]
        assert [s is None for s in scores[0]] == [s is None for s in scores[1]]
        assert np.float64(scores[0]) == pytest.approx(np.float64(scores[1]), abs=1e-4, nan_ok=True)
    assert together == alone


def test_more_questions_than_fit_at_once_are_answered_as_one_by_one(random_folder):
    """And prompts of unequal length as each alone, so that padding is seen to say nothing."""
    specialist = load(random_folder, "region_to_description", max_new_tokens=12)
    ids = [f"region-{n}" for n in range(18)]
    boxes = [[1, 2, 3 + n, 4 + n] for n in range(18)]
    kept = rows(image_key=["image-0"] * 18, annotation_id=ids, region_id=ids, box=boxes)
    grounding = load(random_folder, "caption_to_phrase_grounding", max_new_tokens=40)
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
def test_text_is_that_of_plain_generate_on_the_processors_inputs(random_folder, task, num_beams):
    processor, model = loaded(random_folder)
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
def test_scores_are_those_of_a_single_forward_pass(random_folder, num_beams):
    tasks = ("caption", "dense_region_caption", "region_proposal")
    specialist = load(random_folder, *tasks, num_beams=num_beams)
    found = annotated(specialist, IMAGES).to_pylist()
    processor, model = loaded(random_folder)
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
        return [(text, None, np.mean(scored))] if text else []
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
                named = (text, place, np.mean([c for _, c in label]) if text else None)
                found.append((None, place, None) if task == "region_proposal" else named)
        if run:
            label, run = [], []
        if token not in special:
            label.append((token, chance))
    return found


def test_captions_and_their_scores_are_those_of_the_captioner(taught_folder):
    mine = annotated(load(taught_folder, "caption", "detailed_caption"), KNOWN[:1]).to_pylist()
    for row, role in zip(mine, ("brief", "detailed"), strict=True):
        captioner = Caption(model=str(taught_folder), role=role)
        captioner.load()
        (theirs,) = captioner.annotate(KNOWN[:1], empty_claims()).to_pylist()
        names = ("image_key", "kind", "role", "text", "prompt", "score")
        assert [row[n] for n in names] == [theirs[n] for n in names]
        assert row["text_score"] == pytest.approx(theirs["text_score"], abs=1e-5)


def test_the_same_question_has_the_same_answer_again_and_after_a_failure(random_folder):
    specialist = load(random_folder, "caption", "dense_region_caption")
    first = annotated(specialist, IMAGES)
    foreign = kept_captions("a dog", image_key="elsewhere")
    with pytest.raises(KeyError):
        specialist.annotate(IMAGES, foreign)
    assert annotated(specialist, IMAGES).equals(first)


def test_what_answers_cost_is_counted(random_folder, taught_folder):
    wild = load(random_folder, "od", max_new_tokens=30).annotate(IMAGES, empty_claims()).usage
    assert 4 <= wild["generated_tokens"] <= 4 * 30
    assert wild["lost_location_tokens"] > 0
    assert wild["cut_answers"] > 0
    tame = load(taught_folder, "od").annotate(KNOWN[:1], empty_claims()).usage
    assert set(tame) == {"generated_tokens"}


def test_answers_are_as_long_as_the_limit_allows(random_folder):
    """Those of the random model, which hardly ever ends."""
    by_task, set_ = (
        load(random_folder, "caption", "od", max_new_tokens=limit).annotate(
            IMAGES[:1], empty_claims()
        )
        for limit in (None, 9)
    )
    assert set_.usage["generated_tokens"] == 2 * 9
    assert by_task.usage["generated_tokens"] > 64 + 9


def test_a_text_longer_than_the_model_reads_is_cut(random_folder):
    specialist = load(random_folder, "caption_to_phrase_grounding", max_new_tokens=4)
    text = "the dog sits on a red bus " * 500
    assert annotated(specialist, IMAGES[:1], kept_captions(text, image_key="image-0")).num_rows == 0


def test_it_computes_in_the_asked_dtype(taught_folder):
    specialist = load(taught_folder, "od", dtype="bfloat16")
    assert annotated(specialist, KNOWN[:1])["text"].to_pylist() == ["dog", "dog", "bus"]
    assert specialist._checkpoint._model.dtype == torch.bfloat16


# What it loads


def test_it_is_built_pickled_and_loaded_elsewhere(taught_folder):
    specialist = Florence2(model=str(taught_folder), tasks=("od",), max_new_tokens=60)
    revision = specialist.prepare()
    there = pickle.loads(pickle.dumps(specialist))
    assert there == specialist
    there.load()
    assert annotated(there, KNOWN[:1]).num_rows == 3
    assert len(revision) == 16


def test_a_missing_folder_is_named():
    with pytest.raises(SpecialistError, match=r"model folder ./gone is missing; name an existing"):
        Florence2(model="./gone").prepare()


def test_another_kind_of_model_is_refused(tmp_path):
    save_blip(tmp_path)
    with pytest.raises(SpecialistError, match="is a blip; name a Florence-2 checkpoint, or use k"):
        load(tmp_path)


def test_a_checkpoint_that_lacks_weights_is_refused(random_folder, tmp_path):
    """As those saved in the format of Microsoft's own code do: under names transformers skips."""
    folder = tmp_path / "renamed"
    shutil.copytree(random_folder, folder)
    model = transformers.Florence2ForConditionalGeneration.from_pretrained(folder)
    state = {
        name.replace("vision_tower.convs", "vision_tower.stems"): tensor
        for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(folder, state_dict=state)
    with pytest.raises(SpecialistError, match=r"lacks \d+ of the weights that Florence2For.*, the"):
        load(folder)


def test_remote_code_of_a_folder_is_not_run(random_folder, tmp_path):
    folder = tmp_path / "theirs"
    shutil.copytree(random_folder, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "theirs.py").write_text("raise SystemExit('their code ran')")
    with pytest.raises(SpecialistError, match="cannot be loaded: "):
        load(folder)


def test_a_limit_the_model_has_no_positions_for_is_refused(random_folder):
    with pytest.raises(SpecialistError, match=r"max_new_tokens 513; .* has positions for 512"):
        Florence2(model=str(random_folder), max_new_tokens=513).load()
