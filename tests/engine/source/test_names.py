"""Keys and spelled names, mostly as properties over any name a file system can hold."""

import os
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.source.names import MAX_STEM, decode_name, encode_name, extension, image_keys

NAMES = st.binary(min_size=1, max_size=80).map(lambda raw: os.fsdecode(raw.replace(b"\0", b"")))
PATHS = st.text(st.characters(exclude_categories=("Cs",)), min_size=1, max_size=120)


def test_no_uris_give_no_keys():
    assert image_keys([]) == []


@pytest.mark.parametrize(
    ("uri", "stem"),
    [
        pytest.param("photos/IMG_1-a.JPG", "IMG_1-a", id="plain-stays"),
        pytest.param("a.b/c.tar.gz", "c_tar", id="no-dots-in-a-key"),
        pytest.param("re\u0301sume\u0301.jpg", "resume", id="accents-drop"),
        pytest.param("r\u00e9sum\u00e9 (2).jpg", "resume_2", id="runs-become-one-underscore"),
        pytest.param("\u56fe\u7247.jpg", "image", id="nothing-left"),
        pytest.param("no-extension", "no-extension", id="no-extension"),
        pytest.param("x" * 300 + ".jpg", "x" * MAX_STEM, id="cut"),
        pytest.param("new\nline.jpg", "new_line", id="line-break"),
    ],
)
def test_image_keys_sanitise_the_stem(uri, stem):
    (key,) = image_keys([uri])
    assert re.fullmatch(re.escape(stem) + "-[0-9a-f]{10}", key)


@given(PATHS)
def test_a_key_is_always_short_and_plain(uri):
    (key,) = image_keys([uri])
    assert re.fullmatch(r"[A-Za-z0-9_-]+", key)
    assert len(key) <= MAX_STEM + 11


@given(st.lists(PATHS, unique=True))
def test_different_uris_have_different_keys(uris):
    assert len(set(image_keys(uris))) == len(uris)


def test_image_keys_are_the_same_in_every_release():
    assert image_keys(["a/b c.jpg"]) == ["b_c-94d2e33c9f"]


@given(NAMES)
def test_encoded_names_are_unicode_and_come_back(name):
    uri = encode_name(name)
    assert decode_name(uri) == name
    uri.encode()


@given(NAMES, NAMES)
def test_encoded_names_never_collide(first, second):
    assert (encode_name(first) == encode_name(second)) == (first == second)


@given(st.text(st.characters(exclude_characters="\\", exclude_categories=("Cs",))))
def test_ordinary_names_are_spelled_as_they_are(name):
    assert encode_name(name) == name


@pytest.mark.parametrize(
    ("uri", "expected"),
    [("a.JPG", "jpg"), ("a.b/c", ""), (".jpg", ""), ("a.", ""), ("x.tar.gz", "gz")],
)
def test_extension_is_that_of_the_last_part(uri, expected):
    assert extension(uri) == expected
