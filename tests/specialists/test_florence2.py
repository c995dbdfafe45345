"""Florence-2 as a specialist, by a random model and by one taught what to say of one picture.

How answers are generated and scored is tested in test_florence2_model; how prompts, targets and
answers are spelt in test_florence2_codec, test_florence2_tasks and test_florence2_targets.
"""

import json
import pickle
import shutil

import pyarrow as pa
import pytest
import torch
import transformers
from florence2_checkpoints import (
    ALONE,
    BUS_BINS,
    DOG,
    DOG_BINS,
    IMAGES,
    KNOWN,
    OTHER_RING_BINS,
    QUAD_BINS,
    RING_BINS,
    annotated,
    kept_captions,
    kept_regions,
    load,
    pixels,
)
from tiny_captioners import save_blip

from engine.errors import ConfigError, SpecialistError
from engine.formats.florence2_tasks import find_task
from engine.merge import check_rows
from engine.schema import empty_claims
from engine.worker import BATCH, Host, SpecialistSpec
from specialists.caption import Caption
from specialists.florence2 import Florence2


def test_no_images_no_rows(random_florence2):
    assert annotated(load(random_florence2), []).num_rows == 0


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


def test_every_task_of_an_image_gives_its_rows(taught_florence2):
    tasks = ("od", "caption", "detailed_caption", *ALONE[4:])
    table = annotated(load(taught_florence2, *tasks), KNOWN)
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


def test_a_transcript_has_its_quad_and_the_box_around_it(taught_florence2):
    (row,) = annotated(load(taught_florence2, "ocr_with_region"), KNOWN[:1]).to_pylist()
    assert (row["kind"], row["role"], row["text"]) == ("region", "ocr", "STOP")
    assert row["polygon"] == [pixels(QUAD_BINS)]
    assert row["box"] == pixels((10, 20, 300, 40))


def test_scores_are_given_where_something_was_said_and_null_elsewhere(taught_florence2):
    table = annotated(load(taught_florence2, "caption", "od", "region_proposal"), KNOWN[:1])
    for row in table.to_pylist():
        assert (row["score"] is None) == (row["kind"] == "text")
        assert (row["text_score"] is None) == (row["role"] == "proposal")
        assert row["score"] is None or 0.5 < row["score"] <= 1  # it has learnt these by heart
        assert row["text_score"] is None or 0.5 < row["text_score"] <= 1


def test_rows_come_by_image_whatever_the_tasks_and_their_order(taught_florence2):
    forth = annotated(load(taught_florence2, "od", "caption"), KNOWN).to_pylist()
    assert [row["image_key"] for row in forth] == ["a"] * 4 + ["b"] * 4
    assert annotated(load(taught_florence2, "<CAPTION>", "<OD>"), KNOWN).to_pylist() == forth


def test_phrases_of_kept_texts_are_grounded(taught_florence2):
    specialist = load(taught_florence2, "caption_to_phrase_grounding")
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


def test_spans_count_in_the_text_as_it_was_kept(taught_florence2):
    specialist = load(taught_florence2, "caption_to_phrase_grounding")
    text = "\n  a dog and a dog "
    table = annotated(specialist, KNOWN, kept_captions(text))
    for row in table.to_pylist():
        assert text[row["span_start"] : row["span_end"]] == row["text"]
    assert table.num_rows == 2


def test_own_captions_are_grounded_and_refer_to_their_rows(taught_florence2):
    specialist = load(taught_florence2, "caption_to_phrase_grounding", "caption", ground="own")
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
def test_kept_regions_are_described_each_as_itself(taught_florence2, task, role, texts):
    specialist = load(taught_florence2, task)
    kept = kept_regions()
    table = identified(specialist, KNOWN, kept)
    found = table.to_pylist()
    assert [row["text"] for row in found] == texts
    assert [row["region_id"] for row in found] == ["dog-a", "bus-a", "bus-b"]
    assert [row["parents"] for row in found] == [["dog-a"], ["bus-a"], ["bus-b"]]
    assert [row["box"] for row in found] == kept["box"].to_pylist()
    assert {row["role"] for row in found} == {role}
    assert found[0]["prompt"] == find_task(task).token + DOG
    assert all(row["score"] is None and row["text_score"] > 0.5 for row in found)


def test_a_region_of_two_rows_is_asked_about_once(taught_florence2):
    twice = kept_regions(
        image_key=["a", "a", "a"],
        annotation_id=["first", "second", "third"],
        region_id=["first", "first", "third"],
        role=["category", "brief", "ocr"],
    )
    found = annotated(load(taught_florence2, "region_to_category"), KNOWN, twice).to_pylist()
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
def test_regions_that_cannot_be_pointed_at_are_not_asked_about(taught_florence2, columns):
    specialist = load(taught_florence2, "region_to_category", "referring_expression_segmentation")
    assert annotated(specialist, KNOWN, kept_regions(**columns)).num_rows == 0


def test_kept_transcripts_are_read_again(taught_florence2):
    kept = kept_regions(role=["ocr", "category", "category"])
    (row,) = annotated(load(taught_florence2, "region_to_ocr"), KNOWN, kept).to_pylist()
    assert (row["role"], row["text"], row["region_id"]) == ("ocr", "STOP", "dog-a")


def test_labels_of_kept_regions_are_outlined(taught_florence2):
    specialist = load(taught_florence2, "referring_expression_segmentation")
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


def test_of_two_outlines_a_region_is_given_the_one_that_fits_better(taught_florence2):
    specialist = load(taught_florence2, "referring_expression_segmentation")
    answer = specialist.annotate(KNOWN, kept_regions(text=["cat", None, None]))
    assert answer.rows["polygon"].to_pylist() == [[pixels(RING_BINS)]]
    assert answer.usage["unplaced_items"] == 1


def test_an_outline_beside_all_regions_is_given_to_none(taught_florence2):
    specialist = load(taught_florence2, "region_to_segmentation")
    answer = specialist.annotate(KNOWN, kept_regions())
    assert answer.rows["region_id"].to_pylist() == ["dog-a"]  # for the bus it points at the dog
    assert answer.usage["unplaced_items"] == 2


# What it takes


def test_features_are_computed_once_for_all_tasks(taught_florence2):
    specialist = load(taught_florence2, *ALONE, "caption_to_phrase_grounding", "region_to_category")
    seen = []
    model = specialist._checkpoint._model
    hook = model.model.vision_tower.register_forward_hook(lambda *call: seen.append(call[1][0]))
    kept = pa.concat_tables([kept_regions(), kept_captions("a dog and a dog")])
    try:
        assert annotated(specialist, KNOWN, kept.unify_dictionaries()).num_rows > 20
    finally:
        hook.remove()
    assert [len(pixels) for pixels in seen] == [2]


def test_captions_and_their_scores_are_those_of_the_captioner(taught_florence2):
    mine = annotated(load(taught_florence2, "caption", "detailed_caption"), KNOWN[:1]).to_pylist()
    for row, role in zip(mine, ("brief", "detailed"), strict=True):
        captioner = Caption(model=str(taught_florence2), role=role)
        captioner.load()
        (theirs,) = captioner.annotate(KNOWN[:1], empty_claims()).to_pylist()
        names = ("image_key", "kind", "role", "text", "prompt", "score")
        assert [row[n] for n in names] == [theirs[n] for n in names]
        assert row["text_score"] == pytest.approx(theirs["text_score"], abs=1e-5)


def test_the_same_question_has_the_same_answer_again_and_after_a_failure(random_florence2):
    specialist = load(random_florence2, "caption", "dense_region_caption")
    first = annotated(specialist, IMAGES)
    foreign = kept_captions("a dog", image_key="elsewhere")
    with pytest.raises(KeyError):
        specialist.annotate(IMAGES, foreign)
    assert annotated(specialist, IMAGES).equals(first)


def test_what_answers_cost_is_counted(random_florence2, taught_florence2):
    wild = load(random_florence2, "od", max_new_tokens=30).annotate(IMAGES, empty_claims()).usage
    assert 4 <= wild["generated_tokens"] <= 4 * 30
    assert wild["lost_location_tokens"] > 0
    assert wild["cut_answers"] > 0
    tame = load(taught_florence2, "od").annotate(KNOWN[:1], empty_claims()).usage
    assert set(tame) == {"generated_tokens"}


def test_answers_are_as_long_as_the_limit_allows(random_florence2):
    """Those of the random model, which hardly ever ends."""
    by_task, set_ = (
        load(random_florence2, "caption", "od", max_new_tokens=limit).annotate(
            IMAGES[:1], empty_claims()
        )
        for limit in (None, 9)
    )
    assert set_.usage["generated_tokens"] == 2 * 9
    assert by_task.usage["generated_tokens"] > 64 + 9


def test_it_computes_in_the_asked_dtype(taught_florence2):
    specialist = load(taught_florence2, "od", dtype="bfloat16")
    assert annotated(specialist, KNOWN[:1])["text"].to_pylist() == ["dog", "dog", "bus"]
    assert specialist._checkpoint._model.dtype == torch.bfloat16


# What it loads


def test_it_is_built_pickled_and_loaded_elsewhere(taught_florence2):
    specialist = Florence2(model=str(taught_florence2), tasks=("od",), max_new_tokens=60)
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


def test_a_checkpoint_that_lacks_weights_is_refused(random_florence2, tmp_path):
    """As those saved in the format of Microsoft's own code do: under names transformers skips."""
    folder = tmp_path / "renamed"
    shutil.copytree(random_florence2, folder)
    model = transformers.Florence2ForConditionalGeneration.from_pretrained(folder)
    state = {
        name.replace("vision_tower.convs", "vision_tower.stems"): tensor
        for name, tensor in model.state_dict().items()
    }
    model.save_pretrained(folder, state_dict=state)
    with pytest.raises(SpecialistError, match=r"no weights for \d+ parts of a Florence2For"):
        load(folder)


def test_a_checkpoint_that_was_cut_off_is_refused_and_named(random_florence2, tmp_path):
    folder = tmp_path / "cut"
    shutil.copytree(random_florence2, folder)
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:1000])
    with pytest.raises(SpecialistError, match=r"cut cannot be loaded: .*header"):
        load(folder)


def test_remote_code_of_a_folder_is_not_run(random_florence2, tmp_path):
    folder = tmp_path / "theirs"
    shutil.copytree(random_florence2, folder)
    config = json.loads((folder / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "theirs.py").write_text("raise SystemExit('their code ran')")
    with pytest.raises(SpecialistError, match="cannot be loaded: "):
        load(folder)


def test_a_limit_the_model_has_no_positions_for_is_refused(random_florence2):
    with pytest.raises(SpecialistError, match=r"max_new_tokens 513; .* has positions for 512"):
        Florence2(model=str(random_florence2), max_new_tokens=513).load()
