"""A key is taken out of what a service says, whole, in part and masked."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from misbehaving_server import KEY

from specialists.redact import redact


@pytest.mark.parametrize(
    ("message", "expected"),
    [
        ("", ""),
        ("nothing to hide", "nothing to hide"),
        (f"bad key {KEY}!", "bad key <key>!"),
        (f"bad key {KEY.upper()}", "bad key <key>"),
        (f"key {KEY[:7]}...{KEY[-4:]} is wrong", "key <key>...<key> is wrong"),
        (f"key ends in {KEY[10:15]}", "key ends in <key>"),
        ("Incorrect API key provided: sk-****ST. Find", "Incorrect API key provided: <key> Find"),
        ("key \u2022\u2022\u2022\u2022ST", "key <key>"),
    ],
)
def test_redact_takes_out_the_key_and_its_parts(message, expected):
    assert redact(message, KEY) == expected


def test_redact_without_a_key_changes_nothing():
    assert redact("a ** b", None) == "a ** b"


@given(st.text(max_size=40), st.text("abcdefgh", min_size=4, max_size=12), st.text(max_size=40))
def test_redact_leaves_no_four_characters_of_a_key(before, key, after):
    left = redact(before + key + after, key).lower().split("<key>")
    parts = {key[i : i + 4] for i in range(len(key) - 3)}
    assert not [part for part in parts for piece in left if part in piece]
