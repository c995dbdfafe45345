"""Prompts of Florence-2's tasks, and their answers as columns of the claim table.

How answers are read is tested in test_florence2_codec.
"""

import json

import numpy as np
import pytest
from florence2_reference import WILD, WORDS, Oracle
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.formats.florence2_codec import parse_answer
from engine.formats.florence2_tasks import (
    TASKS,
    decode_answer,
    find_task,
    locate_phrases,
    prompt_of,
    read_prompt,
    sentence_of,
    spell_regions,
)
from engine.schema import ROLES, claims

BOX = "<loc_53><loc_333><loc_933><loc_774>"
TAKING = {takes: [t for t in TASKS.values() if t.takes == takes] for takes in ("nothing", "text")}


@pytest.fixture(scope="module")
def oracle(data):
    return Oracle(data / "tokenizer" / "florence2_tokenizer")


def test_there_are_the_fifteen_tasks_of_the_processor(oracle):
    known = oracle.processor.tasks_answer_post_processing_type
    assert {task.token for task in TASKS.values()} == set(known)
    assert len(TASKS) == 15
    for task in TASKS.values():
        assert (task.takes == "nothing") == (
            task.token in oracle.processor.task_prompts_without_inputs
        )


def test_every_task_names_rows_the_table_can_hold():
    for task in TASKS.values():
        assert set(task.roles) <= set(ROLES[task.kind or "region"])


@pytest.mark.parametrize("name", ["od", "<OD>"])
def test_a_task_is_found_by_name_and_by_token(name):
    assert find_task(name).token == "<OD>"


def test_an_unknown_task_is_refused_with_those_known():
    with pytest.raises(ConfigError, match="task 'detect' is not known; known: caption, detailed"):
        find_task("detect")


@pytest.mark.parametrize("task", TAKING["nothing"], ids=lambda task: task.name)
def test_a_task_without_input_is_its_token_alone(oracle, task):
    assert sentence_of(task.token) == oracle.sentence(task.token)
    for prompt in (f"{task.token}a dog", f"{task.token} "):
        with pytest.raises(ConfigError, match="takes nothing as input; write the token alone"):
            sentence_of(prompt)


@pytest.mark.parametrize("task", TAKING["text"], ids=lambda task: task.name)
@given(text=WORDS | st.sampled_from(["{input}", " {0} ", "caf\u00e9", "a\nb"]))
def test_a_text_is_set_into_the_sentence_as_the_processor_does(oracle, task, text):
    prompt = prompt_of(task, text)
    assert sentence_of(prompt) == oracle.sentence(prompt)
    assert read_prompt(prompt) == (task, text.strip())


def test_a_region_is_set_into_the_sentence_as_four_tokens(oracle):
    region = spell_regions([34, 160, 597.5, 371.8], (640, 480))[0]
    assert region == "<loc_53><loc_333><loc_933><loc_774>"
    for task in TASKS.values():
        if task.takes == "region":
            prompt = prompt_of(task, region)
            assert sentence_of(prompt) == oracle.sentence(prompt)


def test_a_task_with_input_is_refused_without():
    with pytest.raises(ConfigError, match="<REGION_TO_OCR> takes region as input; add it"):
        sentence_of("<REGION_TO_OCR> ")


@pytest.mark.parametrize("prompt", ["", "a dog", "<BOXES>", " <OD>"])
def test_a_prompt_without_a_task_is_refused(prompt):
    with pytest.raises(ConfigError, match="does not start with a task token; known: <CAPTION>"):
        read_prompt(prompt)


def test_published_prompts_have_their_token_ids(data, oracle):
    file = data / "oracles" / "florence2" / "florence2_published_expectations.json"
    for case in json.loads(file.read_text(encoding="utf-8"))["prompt_ids_after_image_tokens"]:
        sentence = sentence_of(case["task"])
        assert sentence == case["prompt"]
        marked = f"<s>{sentence}</s>"
        assert oracle.tokenizer(marked, add_special_tokens=False).input_ids == case["ids"]


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
def test_an_empty_answer_is_columns_without_entries(task):
    answer = decode_answer(task, "</s><s></s>", (640, 480))
    assert answer.items == []
    assert claims(image_key=[], **answer.columns).num_rows == 0


@pytest.mark.parametrize("task", TASKS.values(), ids=lambda task: task.name)
@settings(max_examples=60)
@given(text=WILD | st.text(), size=st.tuples(st.integers(1, 20_000), st.integers(1, 20_000)))
def test_any_answer_fits_the_table(task, text, size):
    answer = decode_answer(task, text, size)
    table = claims(image_key=["a"] * len(answer.items), **answer.columns)
    assert table.num_rows == len(answer.items) == len(parse_answer(text, task.form).items)
    assert (table["text"].null_count == 0) == (
        table.num_rows == 0 or task.form not in ("boxes", "polygons")
    )
    for row in table.to_pylist():
        if row["box"] is not None:
            x_min, y_min, x_max, y_max = row["box"]
            assert 0 <= x_min <= x_max <= size[0]
            assert 0 <= y_min <= y_max <= size[1]
        assert (row["box"] is None) == (task.form == "text")


def test_boxes_are_bin_centres_in_pixels():
    answer = decode_answer(TASKS["od"], f"car{BOX}", (640, 480))
    assert answer.columns["text"] == ["car"]
    np.testing.assert_allclose(answer.columns["box"], [[34.24, 160.08, 597.44, 371.76]], rtol=1e-6)
    assert answer.columns["polygon"] is None


def test_proposals_have_no_text():
    columns = decode_answer(TASKS["region_proposal"], BOX + BOX, (640, 480)).columns
    assert columns["text"] is None
    assert columns["box"].shape == (2, 4)


def test_a_transcript_has_its_quad_from_the_top_left_and_the_box_around_it():
    slanted = "<loc_20><loc_10><loc_40><loc_14><loc_38><loc_24><loc_18><loc_20>"
    columns = decode_answer(TASKS["ocr_with_region"], f"STOP{slanted}", (1000, 1000)).columns
    assert columns["polygon"] == [[[20.5, 10.5, 40.5, 14.5, 38.5, 24.5, 18.5, 20.5]]]
    assert columns["box"].tolist() == [[18.5, 10.5, 40.5, 24.5]]


def test_an_outline_runs_clockwise_whichever_way_it_was_said():
    backwards = "<loc_10><loc_10><loc_10><loc_20><loc_30><loc_20><loc_30><loc_10>"
    columns = decode_answer(TASKS["region_to_segmentation"], backwards, (1000, 1000)).columns
    assert columns["polygon"] == [[[10.5, 10.5, 30.5, 10.5, 30.5, 20.5, 10.5, 20.5]]]
    assert columns["text"] is None


def test_instances_of_one_expression_are_rows_of_their_own():
    ring = "<loc_1><loc_1><loc_9><loc_1><loc_9><loc_9>"
    text = f"<poly>{ring}<sep>{ring}</poly><poly>{ring}</poly>"
    columns = decode_answer(TASKS["referring_expression_segmentation"], text, (1000, 1000)).columns
    assert [len(rings) for rings in columns["polygon"]] == [2, 1]


def test_open_vocabulary_answers_are_boxes_or_outlines():
    task = TASKS["open_vocabulary_detection"]
    ring = "<loc_1><loc_1><loc_9><loc_1><loc_9><loc_9>"
    assert decode_answer(task, f"car{BOX}", (9, 9)).columns["polygon"] is None
    assert decode_answer(task, f"car<poly>{ring}</poly>", (9, 9)).columns["polygon"] is not None


def phrases(text):
    return parse_answer(text, "labelled_boxes").items


@pytest.mark.parametrize(
    ("caption", "answer", "expected"),
    [
        pytest.param("a dog", "", [], id="nothing"),
        pytest.param("a red car", f"red car{BOX}", [(2, 9)], id="once"),
        pytest.param("car by car", f"car{BOX}car{BOX}", [(0, 3), (7, 10)], id="twice"),
        pytest.param("car by car", f"car{BOX}{BOX}", [(0, 3), (0, 3)], id="two-boxes"),
        pytest.param("a woman, a man", f"man{BOX}", [(11, 14)], id="whole-words-first"),
        pytest.param("a woman", f"man{BOX}", [(4, 7)], id="within-a-word"),
        pytest.param("b then a", f"a{BOX}b{BOX}", [(7, 8), (0, 1)], id="out-of-order"),
        pytest.param("a dog", f"cat{BOX}", [None], id="not-in-it"),
        pytest.param("A dog", f"a dog{BOX}", [None], id="other-case"),
        pytest.param("\U0001f600 caf\u00e9", f"caf\u00e9{BOX}", [(2, 6)], id="code-points"),
        pytest.param("f(x) = a+", f"a+{BOX}", [(7, 9)], id="signs"),
    ],
)
def test_phrases_are_located_in_their_caption(caption, answer, expected):
    assert locate_phrases(caption, phrases(answer)) == expected


@given(caption=st.text() | WILD, answer=WILD)
def test_a_located_phrase_stands_there(caption, answer):
    found = phrases(answer)
    for item, span in zip(found, locate_phrases(caption, found), strict=True):
        assert span is None or caption[slice(*span)] == item.label
