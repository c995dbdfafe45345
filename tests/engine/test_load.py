"""Datasets as training reads them: pixels and labels joined, in order, dealt to ranks."""

import io
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from engine.errors import ConfigError, ShardError
from engine.load import load
from engine.schema import claims
from tests.judged import PIXELS, filter_version, put
from tests.shards import VERSION, dataset, images


@pytest.fixture
def place(tmp_path):
    """Shard 0: a with all kinds of rows, b upright by EXIF without rows; 1: c, a failed one, d."""
    made = dataset(tmp_path, ["a", "b"], ["c", "broken", "d"])
    rows = claims(
        image_key=["a"] * 5,
        annotation_id=["t", "r", "s", "g", "u"],
        kind=["text", "region", "region", "grounding", "text"],
        role=["brief", "category", "category", "phrase", "alt"],
        text=["a red dog", "dog", "no", "red dog", "no"],
        text_id=[None, None, None, "t", None],
        region_id=[None, "r", "s", "r", None],
        span_start=[None, None, None, 2, None],
        span_end=[None, None, None, 9, None],
        box=[None, [0, 1, 2, 3], [0, 0, 8, 6], [0, 1, 2, 3], None],
        score=[None, 0.5, None, None, None],
        text_score=[0.25, None, None, None, None],
        source="yolo",
    )
    put(
        made,
        0,
        images("a", "b", width=[8, 6], height=[6, 8]),
        rows,
        {k: PIXELS[k] for k in "ab"},
    )
    other = images("c", "broken", "d", status=["ok", "failed", "ok"])
    region = claims(
        image_key=["d", "c"],
        annotation_id=["y", "x"],
        kind="region",
        role="category",
        text=["first", "cat"],
        box=[[1, 1, 2, 2], [1, 1, 3, 3]],
        source="yolo",
    )
    put(made, 1, other, region, {k: PIXELS[k] for k in "cd"})
    return made


def keys(samples):
    return [sample["image_key"] for sample in samples]


def test_a_dataset_without_shards_gives_nothing(tmp_path):
    assert list(load(dataset(tmp_path, ["a"]).output.root)) == []


def test_ok_images_come_in_order_with_the_kept_rows_each(place):
    samples = list(load(place.output.root))
    assert keys(samples) == ["a", "b", "c", "d"]
    assert [s["regions"]["text"] for s in samples] == [["dog"], [], ["cat"], ["first"]]
    assert samples[0]["regions"]["box"].tolist() == [[0, 1, 2, 3]]
    assert samples[1]["regions"]["box"].shape == (0, 4)
    assert samples[1]["regions"]["box"].dtype == np.float32


def test_rows_of_an_image_stay_in_their_order(tmp_path):
    made = dataset(tmp_path, ["a", "b"])
    texts = [f"word {n}" for n in range(200)]
    rows = claims(image_key=["b", "a"] * 100, kind="text", role="alt", text=texts, source="x")
    put(made, 0, images("a", "b"), rows, {key: PIXELS[key] for key in "ab"})
    first, second = load(made.output.root)
    assert first["texts"]["text"] == texts[1::2]
    assert second["texts"]["text"] == texts[::2]


def test_pictures_in_another_order_find_their_labels(tmp_path):
    made = dataset(tmp_path, ["a", "b", "c"])
    pixels = {key: PIXELS[key] for key in "abc"}
    put(made, 0, images("a", "b", "c"), claims(), pixels)
    with tarfile.open(Path(made.output.root) / VERSION / "000000.tar", "w") as tar:
        for key in "bca":
            member = tarfile.TarInfo(f"{key}.jpg")
            member.size = len(pixels[key])
            tar.addfile(member, io.BytesIO(pixels[key]))
    samples = [(s["image_key"], s["image"]) for s in load(made.output.root, image="bytes")]
    assert samples == list(pixels.items())


def test_a_score_that_nobody_gave_is_nan(place):
    first = next(iter(load(place.output.root)))
    assert first["regions"]["score"].tolist() == [0.5]
    assert np.isnan(first["regions"]["text_score"]).all()
    assert first["texts"]["score"].tolist() == [0.25]
    assert np.isnan(first["grounding"]["score"]).all()


def test_a_phrase_brings_its_caption_and_place_there(place):
    grounding = next(iter(load(place.output.root)))["grounding"]
    (caption,), (span,) = grounding["caption"], grounding["span"].tolist()
    assert caption == "a red dog"
    assert caption[slice(*span)] == grounding["text"][0] == "red dog"
    assert grounding["box"].tolist() == [[0, 1, 2, 3]]


@pytest.mark.parametrize("form", ["pil", "numpy"])
def test_pictures_are_upright_as_the_boxes_are(place, form):
    _, turned, *_ = load(place.output.root, image=form)
    pixels = np.asarray(turned["image"])
    assert pixels.shape == (8, 6, 3) == (turned["height"], turned["width"], 3)
    # turned by a quarter clockwise the left half is the upper one
    assert (pixels[:3] > 200).all()
    assert (pixels[5:, :, 0] < 90).all()
    assert isinstance(turned["image"], Image.Image if form == "pil" else np.ndarray)


def test_bytes_are_those_of_the_source_and_none_reads_none(place):
    assert [s["image"] for s in load(place.output.root, image="bytes")] == list(PIXELS.values())
    for tar in Path(place.output.root).glob("*/*.tar"):
        tar.unlink()
    samples = list(load(place.output.root, image="none"))
    assert [s["image"] for s in samples] == [None] * 4
    assert keys(samples) == ["a", "b", "c", "d"]


def test_rejected_rows_and_more_columns_come_when_asked_for(place):
    wanted = load(place.output.root, statuses=["kept", "rejected"], columns=["source", "status"])
    first = next(iter(wanted))
    assert first["regions"]["text"] == ["dog", "no"]
    assert first["regions"]["status"] == ["kept", "rejected"]
    assert first["texts"]["source"] == ["yolo", "yolo"]


def test_a_version_without_pixels_has_those_of_its_parent(place):
    filter_version(place)
    samples = list(load(place.output.root, image="bytes"))
    assert [s["image"] for s in samples] == list(PIXELS.values())
    assert [s["regions"]["text"] for s in samples] == [[]] * 4
    before = list(load(place.output.root, VERSION))
    assert [s["regions"]["text"] for s in before] == [["dog"], [], ["cat"], ["first"]]


def test_a_version_with_pixels_does_not_need_its_parent(place):
    filter_version(place, pixels=True)
    shutil.rmtree(Path(place.output.root) / VERSION)
    assert keys(load(place.output.root)) == ["a", "b", "c", "d"]


def test_ranks_share_the_shards_and_none_twice(place):
    parts = [load(place.output.root, rank=rank, num_ranks=2) for rank in (0, 1)]
    assert [keys(part) for part in parts] == [["a", "b"], ["c", "d"]]
    assert keys(load(place.output.root, rank=2, num_ranks=3)) == []


def test_the_rank_is_what_torchrun_says(place, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert keys(load(place.output.root)) == ["c", "d"]


def test_a_seed_shuffles_shards_the_same_way_each_time(tmp_path):
    made = dataset(tmp_path, *[[f"k{n}"] for n in range(12)])
    for shard in range(12):
        put(made, shard, images(f"k{shard}"), claims(), {f"k{shard}": PIXELS["a"]})
    plain = keys(load(made.output.root))
    assert plain == [f"k{n}" for n in range(12)]
    first, again, other = (keys(load(made.output.root, seed=seed)) for seed in (1, 1, 2))
    assert first == again
    assert sorted(first) == sorted(plain)
    assert len({tuple(order) for order in (plain, first, other)}) == 3


@pytest.mark.parametrize("num_workers", [0, 2])
def test_a_data_loader_of_torch_takes_it(place, num_workers):
    from torch.utils.data import DataLoader

    loader = DataLoader(
        load(place.output.root, image="numpy"), batch_size=None, num_workers=num_workers
    )
    assert sorted(keys(loader)) == ["a", "b", "c", "d"]


def test_importing_it_loads_no_torch():
    code = "import sys, engine.load; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], timeout=60, check=False).returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"version": "round-9"}, "no label version 'round-9'; there are: round-0"),
        ({"image": "tensor"}, "no image form 'tensor'; there are: pil, numpy, bytes, none"),
        ({"columns": ["bbox"]}, "no column 'bbox'; there are: image_key"),
        ({"statuses": ["dropped"]}, "no status 'dropped'; there are: kept, rejected, superseded"),
        ({"rank": 1}, "rank and num_ranks belong together"),
        ({"rank": 2, "num_ranks": 2}, "rank is 2 of 2; ranks count from 0"),
    ],
)
def test_what_cannot_be_loaded_is_refused(place, options, message):
    with pytest.raises(ConfigError, match=message):
        load(place.output.root, **options)


def test_a_place_without_a_dataset_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"no dataset.json there"):
        load(tmp_path)


def test_missing_pixels_are_told_with_what_to_do(place):
    for tar in Path(place.output.root).glob("*/000001.tar"):
        tar.unlink()
    with pytest.raises(ShardError, match=r"shard 000001 holds no pixels of 'c'; load\(..., image"):
        list(load(place.output.root))


def test_a_damaged_tar_is_one_clear_error(place):
    tar = Path(place.output.root) / VERSION / "000000.tar"
    tar.write_bytes(tar.read_bytes()[:700])
    with pytest.raises(ShardError, match=r"000000.tar is gone or damaged"):
        list(load(place.output.root))


@pytest.mark.parametrize("content", [None, b"", b"PAR1 and no more"])
def test_a_damaged_table_is_one_clear_error(place, content):
    table = Path(place.output.root) / VERSION / "000001.annotations.parquet"
    table.unlink() if content is None else table.write_bytes(content)
    with pytest.raises(ShardError, match=r"000001.annotations.parquet is gone or damaged"):
        list(load(place.output.root))


def test_pixels_that_no_longer_decode_are_told(tmp_path):
    made = dataset(tmp_path, ["a"])
    put(made, 0, images("a"), claims(), {"a": b"no picture"})
    with pytest.raises(ShardError, match="image 'a' was fine when it was annotated"):
        list(load(made.output.root))
    assert next(iter(load(made.output.root, image="bytes")))["image"] == b"no picture"


@pytest.mark.s3
def test_a_dataset_in_a_bucket_loads_as_one_on_disk(place, s3):
    s3.fill("load", Path(place.output.root))
    samples = load("s3://load", endpoint=s3.endpoint, image="bytes")
    assert [s["image"] for s in samples] == list(PIXELS.values())
    assert [s["regions"]["text"] for s in samples] == [["dog"], [], ["cat"], ["first"]]
