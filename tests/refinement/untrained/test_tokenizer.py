"""Vocabularies: learned from a dataset's own texts, or BART's with Florence-2's tokens added."""

import json
from functools import cache
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.formats.florence2_codec import classify_pieces, join_pieces
from engine.formats.florence2_tasks import TASKS
from refinement.untrained.tokenizer import (
    ADDED,
    IMAGE,
    LEAST_WORDS,
    LOCATIONS,
    MASK,
    dataset_texts,
    read_tokenizer,
    train_tokenizer,
)
from tests.builders import rows
from tests.shards import VERSION, commit, dataset, images

TEXTS = ["circle", "star", "two red circles over a blue star", "a green square near a star"] * 20


@cache
def learned():
    return train_tokenizer(TEXTS, 1500)


def pieces_of(tokenizer, text):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    return tokenizer.convert_ids_to_tokens(ids)


# Learned


def test_without_texts_it_knows_what_the_model_is_asked():
    tokenizer = train_tokenizer([], 2000)
    assert LEAST_WORDS < len(tokenizer) < 2000
    sentence = TASKS["od"].sentence
    assert len(pieces_of(tokenizer, sentence)) == len(sentence[:-1].split()) + 1  # and a full stop


def test_words_of_the_texts_are_single_tokens():
    assert pieces_of(learned(), "circle<loc_1>star") == ["circle", "<loc_1>", "star"]


def test_a_rare_word_of_few_texts_does_not_crowd_out_a_sentence_of_a_task():
    tokenizer = train_tokenizer(["unheard", *TEXTS], 2000)
    assert len(pieces_of(tokenizer, "unheard")) > 1


def test_the_size_asked_for_is_not_exceeded_and_used_where_texts_have_the_words():
    texts = [" ".join(f"word{n}" for n in range(400))] * 3
    assert [len(train_tokenizer(texts, size)) for size in (LEAST_WORDS, 1400)] == [1286, 1400]


def test_ids_are_those_of_bart_and_cover_the_vocabulary():
    tokenizer = learned()
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
    named = (tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id)
    assert (*named, tokenizer.unk_token_id) == (0, 1, 2, 3)
    assert tokenizer.image_token_id == tokenizer.convert_tokens_to_ids(IMAGE)
    assert sorted(tokenizer.get_vocab().values()) == list(range(len(tokenizer)))


def test_a_text_that_spells_special_tokens_teaches_nothing_about_them():
    spelt = "<s></s><loc_1><od><image><mask><loc_77>"
    tokenizer = train_tokenizer([spelt] * 50, 1500)
    assert "<loc_1>" in pieces_of(tokenizer, "a<loc_1>b")
    assert tokenizer.convert_tokens_to_ids(["<s>", "<pad>", "</s>", "<unk>"]) == [0, 1, 2, 3]
    first = tokenizer.convert_tokens_to_ids(MASK)
    assert tokenizer.convert_tokens_to_ids(list(ADDED)) == list(
        range(first + 1, first + 1 + len(ADDED))
    )


def test_the_same_texts_in_any_order_give_the_same_file(tmp_path):
    for name, texts in {"a": TEXTS, "b": TEXTS, "c": TEXTS[::-1]}.items():
        train_tokenizer(iter(texts), 1500).save_pretrained(tmp_path / name)
    first = (tmp_path / "a" / "tokenizer.json").read_bytes()
    assert (tmp_path / "b" / "tokenizer.json").read_bytes() == first
    assert (tmp_path / "c" / "tokenizer.json").read_bytes() == first


@pytest.mark.parametrize("size", [-1, 0, LEAST_WORDS - 1])
def test_a_size_without_room_for_bytes_and_locations_is_refused(size):
    with pytest.raises(ConfigError, match=f"vocabulary size {size}; 1286 or more: 1000 locations"):
        train_tokenizer([], size)


# Both kinds


@pytest.fixture(params=["learned", "bart"])
def tokenizer(request, data):
    return learned() if request.param == "learned" else read_tokenizer(data / "tokenizer")


def test_every_location_is_one_token_whatever_stands_beside_it(tokenizer):
    ids = tokenizer.convert_tokens_to_ids(list(LOCATIONS))
    assert ids == list(range(ids[0], ids[0] + 1000))
    for template in ("{}", "a{}b", " {} ", "{}{}", "\u00e9{}\n", "<{}>", "x{}</poly>"):
        for number, location in enumerate(LOCATIONS):
            given = template.replace("{}", location)
            found = tokenizer(given, add_special_tokens=False).input_ids
            assert found.count(ids[number]) == template.count("{}")
    assert pieces_of(tokenizer, "a <loc_5> b") == [
        *pieces_of(tokenizer, "a "),
        "<loc_5>",
        *pieces_of(tokenizer, " b"),
    ]


def test_special_tokens_are_known_to_the_codec_as_no_words(tokenizer):
    assert not classify_pieces(["<s>", "<pad>", "</s>", "<unk>", MASK, *ADDED, IMAGE])[0].any()
    for name in (*ADDED, IMAGE, MASK):
        assert pieces_of(tokenizer, f"a{name}b").count(name) == 1


@given(text=st.text(max_size=80))
@example("\u00e9t\u00e9 \u65e5\u672c \U0001f600 \x00\x7f\u200d")
@example(" two  spaces\r\n\ttabs ")
@example("<loc_1000><loc_5><loc_05> </s> <od >")
@example(bytes(range(256)).decode("latin-1"))
def test_any_text_survives(text):
    found, spans = join_pieces(pieces_of(learned(), text))
    assert found == text
    assert len(spans) == len(pieces_of(learned(), text))


def test_a_saved_one_is_read_again_as_it_was(tokenizer, tmp_path):
    tokenizer.save_pretrained(tmp_path)
    again = read_tokenizer(tmp_path)
    assert again.get_vocab() == tokenizer.get_vocab()
    text = "two blue circles<loc_9> \u00e9"
    assert pieces_of(again, text) == pieces_of(tokenizer, text)


# Given


@pytest.mark.parametrize("folder", ["", "florence2_tokenizer"])
def test_barts_words_become_the_published_tokenizer(data, folder):
    import transformers

    published = transformers.AutoTokenizer.from_pretrained(
        data / "tokenizer" / "florence2_tokenizer", extra_special_tokens={"image_token": IMAGE}
    )
    mine = read_tokenizer(data / "tokenizer" / folder)
    assert mine.get_vocab() == published.get_vocab()
    text = "A green car, parked.<loc_53><loc_333> na\u00efve \u65e5 <poly>"
    assert mine(text).input_ids == published(text).input_ids


def write_words(folder: Path, vocabulary=None, merges="a b\n"):
    alphabet = [piece for piece, _ in sorted(learned().get_vocab().items(), key=lambda i: i[1])]
    words = {name: n for n, name in enumerate([*alphabet[:260], "ab"])}
    (folder / "vocab.json").write_text(json.dumps(words | (vocabulary or {})))
    (folder / "merges.txt").write_text(merges)
    return folder


def test_the_smallest_vocabulary_will_do(tmp_path):
    tokenizer = read_tokenizer(write_words(tmp_path, merges="#version: 0.2\na b\n"))
    assert pieces_of(tokenizer, "abc<loc_1>") == ["ab", "c", "<loc_1>"]


def test_a_folder_without_a_tokenizer_is_refused(tmp_path):
    for folder in (tmp_path, tmp_path / "none"):
        with pytest.raises(ConfigError, match=r"it has none of these files; name a folder with BA"):
            read_tokenizer(folder)


@pytest.mark.parametrize(
    ("vocabulary", "merges", "message"),
    [
        ({"x y": 900}, "a b\n", r"the ids of its words are not 0, 1, 2"),
        ({"<pad>": 2, "</s>": 1}, "a b\n", "<pad> has the id 2, in BART it is 1"),
        ({"ab": 4, "!": 260}, "b a\n", "its vocabulary lacks 'ba'"),
        ({"ab": "260"}, "a b\n", "the ids of its words are not"),
        ({}, "a b c\n", "it cannot be read"),
    ],
)
def test_words_that_are_not_barts_are_refused(tmp_path, vocabulary, merges, message):
    with pytest.raises(ConfigError, match=message):
        read_tokenizer(write_words(tmp_path, vocabulary, merges))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "it cannot be read"),
        ("[]", "it cannot be read"),
        ("{}", "it cannot be read: KeyError"),
        ('{"model": ' * 100_000, "it cannot be read"),
        ('{"model": {"type": "WordPiece"}}', "its tokenizer.json is no byte-level BPE"),
        (
            '{"model": {"type": "BPE", "vocab": {}, "merges": [["a", 3]]},'
            ' "pre_tokenizer": {"type": "ByteLevel"}}',
            "it cannot be read: TypeError",
        ),
        (
            '{"model": {"type": "BPE", "vocab": {}, "merges": []}, "pre_tokenizer": null}',
            "it cannot be read: KeyError",
        ),
    ],
)
def test_a_broken_or_foreign_file_is_refused(tmp_path, content, message):
    (tmp_path / "tokenizer.json").write_text(content)
    with pytest.raises(ConfigError, match=message):
        read_tokenizer(tmp_path)


# The texts of a dataset


def test_a_version_without_shards_has_no_texts(tmp_path):
    assert list(dataset_texts(dataset(tmp_path, ["a"]).output, VERSION)) == []


def test_kept_texts_come_shard_by_shard(tmp_path):
    place = dataset(tmp_path, ["a", "b"], ["c"], ["d"])
    commit(place, 1, images("c"), rows(image_key=["c"], text=["z"]))
    texts = ["x", "no", None, "y"]  # `no` is rejected
    commit(place, 0, images("a", "b"), rows(image_key=["a", "a", "b", "b"], text=texts))
    commit(place, 2, images("d"))
    assert list(dataset_texts(place.output, VERSION)) == ["x", "y", "z"]
