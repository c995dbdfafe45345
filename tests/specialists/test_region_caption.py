"""Captions of crops by real transformers classes with random weights.

How a picture gets its words and their score is tested with the captioner of whole images.
"""

import io
import pickle
import shutil

import numpy as np
import pytest
import transformers
from odd_pictures import PICTURES, SLIVER, batch_of
from PIL import Image
from specialist_photos import encoded
from tiny_captioners import save_blip, save_idefics3, save_qwen2_vl

from engine.errors import ConfigError, SpecialistError
from engine.schema import CLAIM, empty_claims
from engine.worker import Host, SpecialistSpec
from specialists.caption import Caption
from specialists.region_caption import RegionCaption
from tests.builders import rows

LARGE = [picture for picture in PICTURES if min(picture.width, picture.height) > 20]


@pytest.fixture(scope="session", params=["blip", "qwen2_vl"])
def captioner(request, tmp_path_factory):
    save = {"blip": save_blip, "qwen2_vl": save_qwen2_vl}[request.param]
    return save(tmp_path_factory.mktemp("region-captioners") / request.param)


@pytest.fixture(scope="session")
def talker(tmp_path_factory):
    """One that is never silent: it cannot say its special tokens."""
    folder = save_idefics3(tmp_path_factory.mktemp("region-captioners") / "talker")
    return suppressing(folder, lambda tokenizer: tokenizer.all_special_ids)


def suppressing(folder, chosen):
    generation = transformers.GenerationConfig.from_pretrained(folder)
    generation.suppress_tokens = chosen(transformers.AutoTokenizer.from_pretrained(folder))
    generation.save_pretrained(folder)
    return folder


def load(folder, **options):
    specialist = RegionCaption(model=str(folder), **({"max_new_tokens": 8} | options))
    specialist.load()
    return specialist


def regions(pictures, **columns):
    """Two regions of every picture: its middle, and its upper left."""
    boxes, keys = [], []
    for picture in pictures:
        width, height = picture.width, picture.height
        boxes += [[width * 0.1, height * 0.2, width * 0.9, height], [0, 0, width * 0.6, height]]
        keys += [picture.image_key] * 2
    ids = [f"row-{n}" for n in range(len(keys))]
    return rows(
        image_key=keys, box=boxes, annotation_id=ids, region_id=ids, text=["dog"] * len(keys)
    )


class CountedDecodes:
    """A picture that counts how often it was decoded."""

    def __init__(self, picture):
        self.image_key, self.width, self.height = (
            picture.image_key,
            picture.width,
            picture.height,
        )
        self._picture, self.decodes = picture, 0

    def rgb(self, min_side=None):
        self.decodes += 1
        return self._picture.rgb(min_side)


@pytest.mark.parametrize("pictures", [[], PICTURES])
def test_region_caption_answers_no_rows_with_no_rows(talker, pictures):
    assert load(talker).annotate(pictures, empty_claims()).num_rows == 0


def test_region_caption_says_of_a_crop_what_the_captioner_says_of_that_picture(captioner):
    specialist = load(captioner, margin=0.1)
    picture = LARGE[0]
    assert (picture.width, picture.height) == (64, 48)
    row = rows(box=[[10, 11, 30, 41]], image_key=[picture.image_key])
    (answer,) = specialist.annotate([picture], row).to_pylist()
    stream = io.BytesIO()
    Image.fromarray(picture.rgb()[8:44, 8:32]).save(stream, "PNG")
    whole = Caption(model=str(captioner), max_new_tokens=8)
    whole.load()
    (expected,) = whole.annotate([encoded("crop", stream.getvalue())], empty_claims()).to_pylist()
    assert answer["text"] == expected["text"]
    assert answer["text_score"] == pytest.approx(expected["text_score"], abs=1e-4)
    assert answer["prompt"] == expected["prompt"]


@pytest.mark.parametrize("batch_size", [1, 3, 100])
def test_region_caption_batches_equal_region_by_region(captioner, batch_size):
    table = regions(LARGE)
    together = load(captioner, batch_size=batch_size).annotate(LARGE, table).to_pylist()
    specialist = load(captioner)
    alone = [
        row
        for picture in LARGE
        for i in range(table.num_rows)
        if table["image_key"][i].as_py() == picture.image_key
        for row in specialist.annotate([picture], table.slice(i, 1)).to_pylist()
    ]
    assert len({row["text"] for row in together}) >= 3
    scores = [row.pop("text_score") for row in together]
    assert scores == pytest.approx([row.pop("text_score") for row in alone], abs=1e-4)
    assert together == alone


def test_region_caption_rows_belong_to_their_region(talker):
    specialist = RegionCaption(model=str(talker), name="mine", max_new_tokens=8)
    host = Host(SpecialistSpec(pickle.loads(pickle.dumps(specialist)), specialist.prepare()))
    host.load()
    table = regions(LARGE)
    answer, receipt = host.annotate(batch_of(LARGE), table)
    assert receipt.failures == []
    assert answer.num_rows >= len(LARGE)
    by_id = {row["annotation_id"]: row for row in table.to_pylist()}
    for row in answer.to_pylist():
        (parent,) = row["parents"]
        assert (row["kind"], row["role"], row["source"]) == ("region", "brief", "mine")
        assert row["region_id"] == by_id[parent]["region_id"]
        assert row["image_key"] == by_id[parent]["image_key"]
        assert row["box"] == by_id[parent]["box"]
        assert row["score"] is None
        assert 0 < row["text_score"] < 1


def test_region_caption_is_given_only_the_roles_it_asks_for(talker):
    specialist = RegionCaption(model=str(talker), roles=("phrase", "ocr"), max_new_tokens=8)
    assert specialist.requires == ("region/phrase", "region/ocr")
    specialist.load()
    table = regions(LARGE[:1])
    assert specialist.annotate(LARGE[:1], table).num_rows == 0
    phrases = table.set_column(3, "role", rows(role=["phrase"] * 2)["role"]).cast(CLAIM)
    assert specialist.annotate(LARGE[:1], phrases).num_rows


def test_region_caption_decodes_an_image_once_and_one_without_regions_never(talker):
    with_regions, without = (CountedDecodes(picture) for picture in LARGE[:2])
    answer = load(talker, batch_size=1).annotate([with_regions, without], regions(LARGE[:1]))
    assert answer.num_rows == 2
    assert (with_regions.decodes, without.decodes) == (1, 0)


def test_region_caption_passes_over_small_regions_and_takes_them_when_told_to(talker):
    pictures = [PICTURES[2], SLIVER]
    assert (pictures[0].width, pictures[0].height) == (1, 1)
    table = rows(
        image_key=[picture.image_key for picture in pictures],
        box=[[0, 0, picture.width, picture.height] for picture in pictures],
    )
    assert load(talker).annotate(pictures, table).num_rows == 0
    answer = load(talker, min_side_px=1).annotate(pictures, table)
    assert answer["image_key"].to_pylist() == ["image-2", "sliver"]


def test_region_caption_takes_no_more_regions_than_asked(talker):
    table = regions(LARGE[:2])
    answer = load(talker, max_regions=1).annotate(LARGE[:2], table)
    assert answer["region_id"].to_pylist() == ["row-0", "row-2"]  # the larger of each


def test_region_caption_of_nothing_is_no_row(tmp_path):
    folder = suppressing(
        save_idefics3(tmp_path / "mute"),
        lambda tokenizer: [i for i in range(len(tokenizer)) if i != tokenizer.eos_token_id],
    )
    assert load(folder).annotate(LARGE, regions(LARGE)).num_rows == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"margin": -0.1}, "margin -0.1; allowed: 0 to 1"),
        ({"roles": ()}, "roles is empty; name at least one"),
        *(
            ({name: 0}, f"{name} 0; allowed: 1 or more")
            for name in ("min_side_px", "max_regions", "batch_size", "max_new_tokens", "num_beams")
        ),
    ],
)
def test_region_caption_refuses_options_out_of_range(options, message):
    with pytest.raises(ConfigError, match=message):
        RegionCaption(model="a", **options)


def test_region_caption_refuses_a_folder_without_safetensors(talker, tmp_path):
    folder = shutil.copytree(talker, tmp_path / "copy")
    (folder / "model.safetensors").unlink()
    with pytest.raises(SpecialistError, match=r"the folder must hold config\.json and"):
        RegionCaption(model=str(folder)).prepare()


def test_region_caption_refuses_a_model_that_has_no_words(tmp_path):
    config = transformers.ViTConfig(
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8
    )
    transformers.ViTForImageClassification(config).save_pretrained(tmp_path)
    transformers.ViTImageProcessor().save_pretrained(tmp_path)
    message = r"^specialist 'region_caption': .* cannot be loaded: .*$"
    with pytest.raises(SpecialistError, match=message):
        load(tmp_path)


def test_pixels_of_the_pictures_differ():
    """Else equal captions would say nothing."""
    assert len({np.asarray(picture.rgb()).tobytes() for picture in LARGE}) == len(LARGE)
