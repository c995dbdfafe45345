"""Pictures on their way to a service: upright, no larger than asked, without notes."""

import base64
import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image
from specialist_photos import encoded

from specialists.data_url import data_url


def decoded(url):
    kind, _, data = url.partition(";base64,")
    return kind, Image.open(io.BytesIO(base64.b64decode(data)))


def saved(picture, image_format, **options):
    out = io.BytesIO()
    picture.save(out, image_format, **options)
    return encoded("a", out.getvalue())


@pytest.mark.parametrize(("image_format", "kind"), [("JPEG", "jpeg"), ("PNG", "png")])
def test_a_small_plain_picture_is_sent_as_it_is(image_format, kind):
    image = saved(Image.new("RGB", (12, 8), "red"), image_format)
    found, _, data = data_url(image, 12).partition(";base64,")
    assert (found, base64.b64decode(data)) == (f"data:image/{kind}", bytes(image.data))


def exif(**tags):
    made = Image.Exif()
    made.update({int(tag[1:]): value for tag, value in tags.items()})
    return made.tobytes()


@pytest.mark.parametrize(
    "image",
    [
        pytest.param(saved(Image.new("RGB", (9, 5)), "JPEG", exif=exif(_270="at home")), id="exif"),
        pytest.param(saved(Image.new("RGB", (9, 5)), "JPEG", comment=b"at home"), id="comment"),
        pytest.param(saved(Image.new("RGB", (9, 5)), "PNG", exif=exif(_270="at home")), id="png"),
        pytest.param(saved(Image.new("RGBA", (9, 5)), "PNG"), id="transparent"),
        pytest.param(saved(Image.new("P", (9, 5)), "GIF"), id="gif"),
        pytest.param(saved(Image.new("CMYK", (9, 5)), "JPEG"), id="cmyk"),
    ],
)
def test_a_picture_with_notes_or_of_another_kind_is_sent_as_plain_jpeg(image):
    kind, picture = decoded(data_url(image, 100))
    assert (kind, picture.size, picture.mode) == ("data:image/jpeg", (9, 5), "RGB")
    assert picture.info.keys() <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}


def test_a_rotated_picture_is_sent_upright():
    lying = Image.new("RGB", (40, 20), "black")
    lying.paste("white", (0, 0, 20, 20))  # its left half, at the top once upright
    _, picture = decoded(data_url(saved(lying, "JPEG", exif=exif(_274=6)), 100))
    assert picture.size == (20, 40)
    assert np.asarray(picture.convert("L"))[[5, -5], 10].tolist() == [255, 0]


@given(st.integers(1, 3_000), st.integers(1, 40), st.booleans(), st.integers(1, 64))
def test_a_larger_picture_is_scaled_to_the_limit(long, short, tall, limit):
    size = (short, long) if tall else (long, short)
    _, picture = decoded(data_url(saved(Image.new("RGB", size), "JPEG"), limit))
    assert max(picture.size) == min(limit, max(size))
    scale = min(1.0, limit / max(size))
    assert all(abs(is_ - was * scale) <= 1 for is_, was in zip(picture.size, size, strict=True))
