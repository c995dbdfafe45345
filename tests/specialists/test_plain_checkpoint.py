"""The shipped Florence-2 of the plain world: that it is found by its name and answers every task.

The measurement on 500 scenes is in its model card; floors here lie a little under it.
"""

import hashlib
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.errors import SpecialistError
from engine.evaluate import score_regions
from engine.pixels import EncodedImage
from engine.schema import CLAIM, claims, empty_claims
from engine.synthetic import PLAIN_CLASSES, plain_scene
from engine.synthetic.plain import PLAIN_COLOURS
from engine.synthetic.plain_words import PLAIN_WORDS
from refinement.training.start import check_start
from specialists import hub
from specialists.florence2 import Florence2
from specialists.needs import revision_of
from specialists.weights import train_plain

FOLDER = Path(__file__).parents[2] / "specialists" / "weights" / "plain"
UNSEEN = 88  # a world no training or measurement of the card has used
NUM_SCENES = 40
MOST_BYTES = 6_000_000

DESCRIPTION = re.compile(
    rf"a (small|medium|large) ({'|'.join(PLAIN_COLOURS)}) ({'|'.join(PLAIN_CLASSES)})"
)

SCENES = [plain_scene(UNSEEN, index, words=True) for index in range(NUM_SCENES)]
IMAGES = [
    EncodedImage(f"image-{place:02}", memoryview(drawn.png()), drawn.width, drawn.height)
    for place, drawn in enumerate(SCENES)
]


def with_ids(rows):
    """Rows as other specialists left them: each with an id, and each box a region of its own."""
    content = rows.to_pylist()
    for number, row in enumerate(content):
        row["annotation_id"] = row["annotation_id"] or f"row-{number:04}"
        if row["kind"] == "region":
            row["region_id"] = row["annotation_id"]
    return claims(**{name: [row[name] for row in content] for name in CLAIM.names})


TRUTH = with_ids(
    pa.concat_tables(
        [drawn.all_rows(image.image_key) for drawn, image in zip(SCENES, IMAGES, strict=True)]
    )
)


def of(rows, kind, role):
    is_kind = pc.equal(rows["kind"].cast(pa.string()), kind)
    return rows.filter(pc.and_(is_kind, pc.equal(rows["role"].cast(pa.string()), role)))


def f1(said, role, true_role=None):
    true = of(TRUTH, "region", true_role or role)
    return score_regions(of(said, "region", role), true, same_text=true_role is None).f1


@pytest.fixture(scope="module")
def answers():
    """What it says of each scene unasked, and about what is true of it."""

    def ask(kept, *tasks):
        specialist = Florence2(model="plain", tasks=tasks)
        specialist.prepare()
        specialist.load()
        return specialist.annotate(IMAGES, kept).rows

    seen = ask(empty_claims(), *train_plain.SEES)
    return seen, {task: ask(kept_for(task), task) for task in train_plain.ASKED}


def kept_for(task):
    """True rows that a task is asked about."""
    if task == "caption_to_phrase_grounding":
        return of(TRUTH, "text", "brief")
    return of(TRUTH, "region", "ocr" if task == "region_to_ocr" else "category")


# What ships


def test_the_folder_is_small_and_holds_no_pickle():
    files = {path.name: path.stat().st_size for path in FOLDER.iterdir()}
    assert set(files) == {*train_plain.STORED, "model.safetensors", "README.md"}
    assert sum(files.values()) < MOST_BYTES


def test_the_card_names_the_script_the_numbers_and_the_file_it_is_about():
    card = (FOLDER / "README.md").read_text(encoding="utf-8")
    assert "python specialists/weights/train_plain.py" in card
    for name, seed in train_plain.SEEDS.items():
        assert f"seed {seed}" in card, name
    for task in (*train_plain.SEES, *train_plain.ASKED):
        assert f"`{task}`" in card
    assert re.search(r"\b[0-9a-f]{64}\b", card)[0] == digest_of_weights()


def digest_of_weights():
    return hashlib.sha256((FOLDER / "model.safetensors").read_bytes()).hexdigest()


def test_it_is_found_by_its_name_without_a_hub_wherever_one_stands(tmp_path, monkeypatch):
    (tmp_path / "plain").mkdir()  # somebody's own folder is ./plain
    monkeypatch.chdir(tmp_path)
    specialist = Florence2(model="plain", tasks=("od",))
    assert [need for need in specialist.needs() if need.downloads or not need.present] == []
    assert specialist.prepare() == revision_of(FOLDER)
    assert hub.local_folder("./plain") == Path("plain")


def test_a_training_starts_from_it_by_its_name_too():
    start = check_start("plain", None)
    assert (start.folder, start.revision) == (FOLDER, revision_of(FOLDER))


def test_where_it_was_not_installed_it_is_asked_to_be(tmp_path, monkeypatch):
    monkeypatch.setitem(hub._OWN, "plain", tmp_path / "gone")
    with pytest.raises(SpecialistError, match="model plain is missing; it ships with fld-engine"):
        Florence2(model="plain").prepare()


# How it is made


def test_no_two_stages_and_no_measurement_share_a_world():
    assert len(set(train_plain.SEEDS.values())) == len(train_plain.SEEDS) == 3
    assert UNSEEN not in train_plain.SEEDS.values()


def test_weights_are_stored_in_half_the_bytes_and_nothing_else_changes(tmp_path):
    import torch
    from safetensors.torch import load_file, save_file

    model, target = tmp_path / "model", tmp_path / "target"
    model.mkdir()
    save_file({"a": torch.linspace(-2, 2, 4000)}, model / "model.safetensors")
    for name in train_plain.STORED:
        (model / name).write_text(json.dumps({"name": name}))
    train_plain.store(model, target)
    (stored,) = load_file(target / "model.safetensors").values()
    assert stored.dtype == torch.float16
    assert torch.allclose(stored.float(), torch.linspace(-2, 2, 4000), atol=1e-3)
    for name in train_plain.STORED:
        assert (target / name).read_text() == json.dumps({"name": name}) + "\n"


# What it answers


@pytest.mark.weights
def test_it_says_nothing_of_no_images():
    specialist = Florence2(model="plain", tasks=("od",))
    specialist.load()
    assert specialist.annotate([], empty_claims()).rows.num_rows == 0


@pytest.mark.weights
def test_it_finds_the_objects_of_unseen_scenes(answers):
    seen, _ = answers
    assert f1(seen, "category") >= 0.95
    assert f1(seen, "proposal", "category") >= 0.97


@pytest.mark.weights
def test_it_describes_and_reads_in_form(answers):
    seen, asked = answers
    described = {*texts(seen, "brief"), *texts(asked["region_to_description"], "brief")}
    assert [text for text in described if not DESCRIPTION.fullmatch(text)] == []
    read = {*texts(seen, "ocr"), *texts(asked["region_to_ocr"], "ocr")}
    assert read <= set(PLAIN_WORDS)
    assert f1(seen, "brief") >= 0.9
    assert f1(asked["region_to_description"], "brief") >= 0.95
    assert f1(asked["region_to_ocr"], "ocr") >= 0.95


def texts(rows, role):
    return of(rows, "region", role)["text"].to_pylist()


@pytest.mark.weights
def test_its_captions_of_most_scenes_are_right_word_for_word(answers):
    seen, _ = answers
    for role in train_plain.CAPTIONS.values():
        said, true = of(seen, "text", role), of(TRUTH, "text", role)
        assert said["image_key"].to_pylist() == [image.image_key for image in IMAGES]
        assert np.mean(said["text"].to_numpy() == true["text"].to_numpy()) >= 0.75, role


@pytest.mark.weights
def test_it_grounds_the_phrases_of_true_captions(answers):
    rows = answers[1]["caption_to_phrase_grounding"].to_pylist()
    texts = {row["annotation_id"]: row["text"] for row in of(TRUTH, "text", "brief").to_pylist()}
    true = of(TRUTH, "grounding", "phrase").to_pylist()
    for row in rows:
        assert texts[row["text_id"]][row["span_start"] : row["span_end"]] == row["text"]
    right = sum(
        any(near(row["box"], other["box"]) for other in rows if at(other) == at(row))
        for row in true
    )
    assert right / len(true) >= 0.9


def at(row):
    return row["text_id"], row["span_start"]


def near(a, b):
    low, high = np.maximum(a[:2], b[:2]), np.minimum(a[2:], b[2:])
    shared = np.clip(high - low, 0, None).prod()
    areas = [(x[2] - x[0]) * (x[3] - x[1]) for x in (a, b)]
    return shared / (sum(areas) - shared) >= 0.5


@pytest.mark.weights
def test_it_names_true_regions(answers):
    rows = answers[1]["region_to_category"]
    assert f1(rows, "category") >= 0.95
    known = set(of(TRUTH, "region", "category")["region_id"].to_pylist())
    assert set(rows["region_id"].to_pylist()) <= known
