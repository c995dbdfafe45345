"""Perceptual hash, sharpness and contrast against their definitions."""

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from engine.pixels import probe
from engine.source.measures import contrast, hash_picture, perceptual_hashes, sharpness
from tests.hostile import encoded, photo

BLANK = Image.new("L", (64, 64), 90)


def distance(first: str, second: str) -> int:
    return (int(first, 16) ^ int(second, 16)).bit_count()


def hash_of(data: bytes) -> str:
    thumbnail = probe(data, max_pixels=10**8).thumbnail
    return perceptual_hashes([hash_picture(thumbnail)])[0]


def test_no_pictures_have_no_hashes():
    assert perceptual_hashes([]) == []


def test_a_blank_picture_has_only_the_constant_bit():
    shades = [Image.new("L", (50, 20), level) for level in (1, 90, 255)]
    assert perceptual_hashes([hash_picture(shade) for shade in shades]) == ["8" + "0" * 15] * 3


def test_perceptual_hash_follows_its_definition():
    fft = pytest.importorskip("scipy.fft", reason="scipy is an independent DCT")
    picture = hash_picture(photo(90, 60).convert("L"))
    low = fft.dctn(picture.astype(float), norm="ortho")[:8, :8].ravel()
    bits = "".join("1" if value > np.median(low) else "0" for value in low)
    assert perceptual_hashes([picture]) == [f"{int(bits, 2):016x}"]


def test_perceptual_hash_survives_format_size_and_quality(data):
    paths = sorted((data / "coco80").rglob("*.jpg"))[:8]
    pictures = [Image.open(io.BytesIO(path.read_bytes())).convert("RGB") for path in paths]
    originals = [hash_of(encoded(picture, "PNG")) for picture in pictures]
    for picture, original in zip(pictures, originals, strict=True):
        small = picture.resize((picture.width // 2, picture.height // 2), Image.Resampling.LANCZOS)
        assert distance(original, hash_of(encoded(picture, "JPEG", quality=60))) <= 4
        assert distance(original, hash_of(encoded(small, "WEBP"))) <= 4
    others = [distance(one, two) for i, one in enumerate(originals) for two in originals[i + 1 :]]
    assert min(others) > 10


def test_hashes_do_not_depend_on_the_company():
    pictures = [hash_picture(photo(80, 80, seed).convert("L")) for seed in range(5)]
    one_by_one = [perceptual_hashes([picture])[0] for picture in pictures]
    assert perceptual_hashes(pictures) == one_by_one


@pytest.mark.parametrize("size", [(1, 1), (2, 50), (50, 2)])
def test_sharpness_is_zero_without_inner_pixels(size):
    assert sharpness(photo(*size).convert("L")) == 0


def test_sharpness_is_the_variance_of_the_laplacian():
    grey = photo(9, 7).convert("L")
    levels = np.asarray(grey).astype(int)
    values = [
        4 * levels[y, x] - levels[y - 1, x] - levels[y + 1, x] - levels[y, x - 1] - levels[y, x + 1]
        for y in range(1, 6)
        for x in range(1, 8)
    ]
    assert sharpness(grey) == pytest.approx(np.var(values))


def test_sharpness_falls_with_blur():
    grey = photo(200, 200).convert("L")
    blurred = [grey.filter(ImageFilter.GaussianBlur(radius)) for radius in (1, 3)]
    measured = [sharpness(picture) for picture in (grey, *blurred, BLANK)]
    assert measured == sorted(measured, reverse=True)
    assert measured[-1] == 0


def test_contrast_is_the_standard_deviation_of_grey():
    grey = photo(70, 50).convert("L")
    assert contrast(grey) == pytest.approx(np.asarray(grey).std())
    halves = Image.fromarray(np.repeat(np.array([[0, 255]], np.uint8), 4, axis=0))
    assert contrast(halves) == 127.5
    assert contrast(BLANK) == 0
