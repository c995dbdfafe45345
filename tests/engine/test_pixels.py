"""Probing and decoding; source/test_shard.py compares the verdicts on all broken files."""

import io
import random
import subprocess
import sys
import warnings

import numpy as np
import pytest
from PIL import Image, ImageFile, ImageOps

from engine.failures import CAUSES
from engine.pixels import THUMBNAIL_SIDE, DecodeError, EncodedImage, probe
from tests.hostile import broken_files, encoded, exif, odd_files, photo

PLENTY = 200_000_000


def rgb(data: bytes, min_side: int | None = None) -> np.ndarray:
    return EncodedImage("key", memoryview(data), 0, 0).rgb(min_side)


def pillow_rgb(data: bytes) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(data)).convert("RGB"))


def test_probe_refuses_no_bytes_and_says_what_it_saw():
    with pytest.raises(DecodeError, match="0 zero bytes"):
        probe(b"", max_pixels=PLENTY)


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF", "BMP", "GIF"])
def test_probe_tells_format_and_size_from_the_bytes(image_format):
    found = probe(encoded(photo(70, 50), image_format), max_pixels=PLENTY)
    assert (found.format, found.width, found.height) == (image_format.lower(), 70, 50)
    assert (found.orientation, found.thumbnail.mode, found.thumbnail.size) == (1, "L", (70, 50))


@pytest.mark.parametrize("image_format", ["JPEG", "PNG", "WEBP", "TIFF"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_turned_upright(image_format, orientation):
    options = {"lossless": True} if image_format == "WEBP" else {}
    data = encoded(photo(40, 24), image_format, exif=exif(orientation), **options)
    upright = ImageOps.exif_transpose(Image.open(io.BytesIO(data))).convert("RGB")
    found = probe(data, max_pixels=PLENTY)
    assert (found.width, found.height) == upright.size
    assert found.orientation == orientation
    assert found.thumbnail.size == upright.size
    assert np.array_equal(rgb(data), np.asarray(upright))
    grey = np.asarray(upright.convert("L")).astype(int)
    assert np.abs(np.asarray(found.thumbnail) - grey).max() <= 3  # JPEG keeps grey by itself


def test_an_orientation_out_of_range_counts_as_upright():
    data = encoded(photo(40, 24), "JPEG", exif=exif(9))
    assert probe(data, max_pixels=PLENTY).orientation == 1
    assert rgb(data).shape == (24, 40, 3)


def test_exif_that_makes_no_sense_is_no_failure_and_no_warning():
    data, _ = odd_files()["bad-exif.jpg"]
    assert probe(data, max_pixels=PLENTY).orientation == 6
    assert rgb(data).shape == (96, 64, 3)


def test_thumbnail_is_never_enlarged_and_at_most_256():
    for size in ((256, 256), (1000, 300), (300, 1000), (4000, 1), (3, 2)):
        for image_format in ("JPEG", "PNG"):
            thumbnail = probe(encoded(photo(*size), image_format), max_pixels=PLENTY).thumbnail
            scale = min(1.0, THUMBNAIL_SIDE / max(size))
            assert thumbnail.size == tuple(max(1, round(side * scale)) for side in size)


def test_rgb_equals_pillow_and_is_writable(data):
    photos = sorted((data / "coco80").rglob("*.jpg"))
    assert photos
    for path in photos[:40]:
        content = path.read_bytes()
        pixels = rgb(content)
        assert np.array_equal(pixels, pillow_rgb(content)), path.name
        pixels[0, 0] = 0


def test_rgb_equals_opencv(data):
    cv2 = pytest.importorskip("cv2", reason="opencv comes with the yolo extra")
    for path in sorted((data / "coco80").rglob("*.jpg"))[:40]:
        content = path.read_bytes()
        theirs = cv2.imdecode(np.frombuffer(content, np.uint8), cv2.IMREAD_COLOR)
        assert np.array_equal(rgb(content), theirs[..., ::-1]), path.name


@pytest.mark.parametrize("min_side", [1, 60, 61, 120, 240, 241, 480, 5000])
def test_rgb_shrinks_jpeg_but_not_below_min_side(min_side):
    data = encoded(photo(640, 481), "JPEG", exif=exif(6))
    height, width, _ = rgb(data, min_side).shape
    assert min(height, width) >= min(min_side, 481)
    assert height / width == pytest.approx(640 / 481, rel=0.02)
    assert (height, width) != (640, 481) or min_side > 240
    assert rgb(encoded(photo(640, 481), "PNG"), min_side).shape == (481, 640, 3)


def test_transparent_parts_are_drawn_on_white():
    picture = Image.new("RGBA", (3, 1), (0, 0, 0, 0))
    picture.putpixel((1, 0), (10, 20, 30, 255))
    picture.putpixel((2, 0), (255, 0, 0, 128))
    for image_format in ("PNG", "WEBP", "TIFF"):
        options = {"lossless": True} if image_format == "WEBP" else {}
        pixels = rgb(encoded(picture, image_format, **options))
        assert pixels[0].tolist() == [[255, 255, 255], [10, 20, 30], [255, 127, 127]]


def test_a_transparent_palette_entry_is_white():
    picture = Image.new("P", (2, 1))
    picture.putpalette([9, 9, 9, 50, 60, 70])
    picture.putpixel((1, 0), 1)
    for image_format in ("PNG", "GIF"):
        pixels = rgb(encoded(picture, image_format, transparency=0))
        assert pixels[0].tolist() == [[255, 255, 255], [50, 60, 70]]


@pytest.mark.parametrize("image_format", ["PNG", "TIFF"])
def test_sixteen_bit_grey_is_scaled_not_clipped(image_format):
    levels = np.array([[0, 127, 128 * 257, 255, 40000, 65535]], np.uint16)
    pixels = rgb(encoded(Image.fromarray(levels), image_format))
    assert pixels[0, :, 0].tolist() == [0, 0, 128, 1, 156, 255]


def test_the_first_frame_of_an_animation_counts():
    frames = [Image.new("RGB", (8, 8), colour) for colour in ("red", "lime")]
    for image_format in ("GIF", "WEBP", "PNG", "TIFF"):
        options = {"lossless": True} if image_format == "WEBP" else {}
        data = encoded(frames[0], image_format, save_all=True, append_images=frames[1:], **options)
        assert rgb(data)[0, 0].tolist() == [255, 0, 0], image_format


def test_a_multi_picture_jpeg_shows_its_first_picture():
    pictures = [photo(32, 16, 1), photo(16, 32, 2)]
    data = encoded(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    found = probe(data, max_pixels=PLENTY)
    assert (found.format, found.width, found.height) == ("jpeg", 32, 16)


def test_cmyk_white_is_white():
    data = encoded(Image.new("CMYK", (8, 8), (0, 0, 0, 0)), "JPEG")
    assert rgb(data).min() > 250
    assert min(probe(data, max_pixels=PLENTY).thumbnail.get_flattened_data()) > 250


def test_a_camera_raw_file_is_refused_and_not_its_thumbnail_taken():
    picture = photo(16, 16)
    data = encoded(picture, "TIFF", tiffinfo={0xC612: b"\x01\x04\0\0"})
    with pytest.raises(DecodeError, match="DNG") as caught:
        probe(data, max_pixels=PLENTY)
    assert caught.value.cause == "unsupported_format"


def test_a_limit_is_the_last_size_allowed():
    data = encoded(photo(10, 10), "JPEG")
    assert probe(data, max_pixels=100).width == 10
    with pytest.raises(DecodeError, match=r"10 x 10 pixels, limits.max_pixels is 99"):
        probe(data, max_pixels=99)


def test_a_limit_beyond_pillows_own_is_heeded_without_a_warning(monkeypatch):
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 50)
    for image_format in ("JPEG", "PNG", "GIF", "BMP", "TIFF"):
        assert probe(encoded(photo(9, 9), image_format), max_pixels=PLENTY).width == 9


def test_probe_does_not_depend_on_what_model_libraries_set(monkeypatch):
    monkeypatch.setattr(ImageFile, "LOAD_TRUNCATED_IMAGES", True)
    data, verdict = broken_files()["half.jpg"]
    with pytest.raises(DecodeError, match="truncated") as caught:
        probe(data, max_pixels=PLENTY)
    assert caught.value.cause == verdict.cause
    assert ImageFile.LOAD_TRUNCATED_IMAGES is True


def test_probe_leaves_warning_filters_as_they_were():
    before = list(warnings.filters)
    probe(odd_files()["bad-exif.jpg"][0], max_pixels=PLENTY)
    assert warnings.filters == before


def test_bombs_are_refused_without_allocating():
    """In a process of its own, because a peak of memory never goes down again."""
    script = (
        "import resource\n"
        "from engine.pixels import DecodeError, probe\n"
        "from tests.hostile import broken_files, encoded, photo\n"
        "files = [data for name, (data, _) in broken_files().items() if 'bomb' in name]\n"
        "probe(encoded(photo(), 'WEBP'), max_pixels=10**6)\n"
        "before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "for data in files:\n"
        "    try: probe(data, max_pixels=200_000_000)\n"
        "    except DecodeError as err: assert err.cause == 'too_many_pixels', err\n"
        "    else: raise SystemExit('a bomb passed')\n"
        "grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before\n"
        "raise SystemExit(f'{grown} kB more' if grown > 20_000 else 0)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr


def test_probe_survives_random_damage():
    """Damaged copies of every odd file decode or fail with a known cause, and never otherwise."""
    generator = random.Random(7)
    outcomes = set()
    for data, _ in odd_files().values():
        if len(data) > 20_000:
            continue
        for _ in range(8):
            damaged = bytearray(data)
            for _ in range(generator.choice((1, 3, 20))):
                damaged[generator.randrange(min(len(damaged), 400))] = generator.randrange(256)
            del damaged[generator.choice((len(damaged), generator.randrange(1, len(damaged)))) :]
            try:
                found = probe(bytes(damaged), max_pixels=3_000_000)
            except DecodeError as err:
                outcomes.add(err.cause)
                continue
            assert rgb(bytes(damaged)).shape == (found.height, found.width, 3)
            outcomes.add("ok")
    assert outcomes <= {"ok", *CAUSES}
    assert {"ok", "truncated", "corrupt", "bad_header"} <= outcomes
