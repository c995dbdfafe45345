"""The parser of texts: what it counts, how often it parses, and what it survives."""

import numpy as np
import pytest

from filters.parser import MAX_CHARS, TextParser, text_parser
from specialists.phrases import load_parser, parser_need

if not parser_need("en_core_web_sm").present:
    pytest.skip("no spaCy model: install the extra grounding", allow_module_level=True)


@pytest.fixture(scope="module")
def nlp():
    return load_parser("en_core_web_sm")


class Counting:
    """The real pipeline, which tells what it was given."""

    def __init__(self, nlp):
        self.nlp, self.vocab, self.memory_zone = nlp, nlp.vocab, nlp.memory_zone
        self.parsed = []

    def pipe(self, texts, **options):
        self.parsed += texts
        return self.nlp.pipe(texts, **options)


def captions(data, step):
    lines = (data / "flickr8k-text" / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[1] for line in lines[::step]]


def by_hand(doc):
    """Counts and highest degrees, token by token."""
    objects = [t for t in doc if t.pos_ in ("NOUN", "PROPN")]
    actions = [t for t in doc if t.pos_ == "VERB"]

    def degree(token):
        return len(list(token.children)) + (token.head.i != token.i)

    return [
        len(objects),
        sum(t.pos_ == "ADJ" for t in doc),
        len(actions),
        sum(t.pos_ == "PROPN" for t in doc),
        max(map(degree, objects), default=None),
        max(map(degree, actions), default=None),
    ]


def test_measures_equal_a_direct_computation_by_spacy(data, nlp):
    texts = captions(data, 40)
    found = np.stack(text_parser().measure(texts), axis=1)
    expected = np.array([by_hand(nlp(text)) for text in texts], float)
    assert len(texts) > 1000
    assert np.isnan(expected).any()
    np.testing.assert_array_equal(found, expected)


def test_no_texts_have_no_measures(nlp):
    assert [len(column) for column in TextParser(nlp).measure([])] == [0] * 6


def test_a_text_is_parsed_once_however_often_it_is_asked_for(nlp):
    counting = Counting(nlp)
    parser = TextParser(counting)
    first = parser.measure(["a dog", "two cats run", "a dog"])
    again = parser.measure(["two cats run", "a dog"])
    assert sorted(counting.parsed) == ["a dog", "two cats run"]
    np.testing.assert_array_equal(np.stack(again), np.stack(first)[:, 1:])


def test_what_is_forgotten_is_parsed_again_and_measures_the_same(nlp):
    counting = Counting(nlp)
    parser = TextParser(counting, max_chars=250)
    texts = ["a dog", "two cats run", "a red bus", "the man sleeps"]
    first = parser.measure(texts)
    assert len(parser._trees) == 2
    again = parser.measure(texts)
    assert len(counting.parsed) == 6
    np.testing.assert_array_equal(np.stack(again), np.stack(first))


def test_what_is_parsed_with_a_text_does_not_show(data, nlp):
    texts = captions(data, 400)
    together = np.stack(TextParser(nlp).measure(texts), axis=1)
    parser = TextParser(nlp)
    one_by_one = np.concatenate([np.stack(parser.measure([text]), axis=1) for text in texts])
    np.testing.assert_array_equal(together, one_by_one)


@pytest.mark.parametrize(
    ("text", "objects"),
    [
        pytest.param("", 0, id="empty"),
        pytest.param(" \n\t ", 0, id="spaces"),
        pytest.param("dog " * 300_000, MAX_CHARS // 4, id="more-than-spacy-takes"),
    ],
)
def test_strange_texts_are_counted(nlp, text, objects):
    assert TextParser(nlp).measure([text]).objects.tolist() == [objects]


@pytest.mark.parametrize(
    "text",
    [
        "\x00\x01\x02",
        "\U0001f600\U0001f600",
        "\u200b\u200d",
        "x" * 5_000,
        "." * 5_000,
        "a@" * 5_000,
    ],
    ids=["control", "emoji", "invisible", "one-word", "dots", "addresses"],
)
def test_hostile_texts_give_measures(nlp, text):
    assert [len(column) for column in TextParser(nlp).measure([text])] == [1] * 6


def test_the_parser_is_loaded_once_for_all_rules():
    assert text_parser() is text_parser("en_core_web_sm")
