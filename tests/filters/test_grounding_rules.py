"""Rules on grounded phrases: scores, spans, boxes of one phrase, the same said twice."""

import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from engine.errors import ConfigError
from filters.grounding import PhraseBlacklist, normalise
from filters.grounding_phrases import PHRASES, PRONOUNS
from filters.grounding_spans import (
    DuplicateTriplet,
    MaxBoxesPerPhrase,
    MinPhraseScore,
    SpanEqualsPhrase,
)
from specialists.synonym_table import KINDS, NAMES
from tests.builders import all_fresh, tables

BOX, MOVED, FAR = [0, 0, 10, 10], [0, 1, 10, 11], [50, 50, 60, 60]


def grounding(**columns):
    return tables(**{"kind": "grounding", "role": "phrase", **columns})


def judge(rule, given, *, kept=()):
    return rule.judge(given, all_fresh(given, kept=kept))


def test_min_phrase_score_limits_the_text_score_alone():
    given = grounding(score=[0.1, 0.9, 0.9, 0.9], text_score=[0.25, 0.2, None, float("nan")])
    verdicts = judge(MinPhraseScore(), given)
    assert verdicts.rejected.to_pylist() == [False, True, False, False]
    assert verdicts.measured.to_pylist() == [0.25, pytest.approx(0.2), None, None]
    with pytest.raises(ConfigError, match="min_score is 2; scores lie in"):
        MinPhraseScore(min_score=2)


def test_blacklist_names_no_class_of_the_usual_label_lists():
    names = {*NAMES, *KINDS}
    for table in (NAMES, KINDS):
        names |= {name.strip() for value in table.values() for name in value.split(",")}
    listed = {normalise(phrase) for phrase in PHRASES}
    assert listed & {normalise(name) for name in names} <= {normalise(word) for word in PRONOUNS}


def test_blacklist_takes_phrases_beside_its_own():
    given = grounding(text=["the dog", "It", "a cat"])
    verdicts = judge(PhraseBlacklist(extra_phrases=("Dog",)), given)
    assert verdicts.against.to_pylist() == ["Dog", "it", None]
    only = judge(PhraseBlacklist(phrases=(), extra_phrases=("Dog",)), given)
    assert only.against.to_pylist() == ["Dog", None, None]


def spans(text, phrase, start, end, *, text_id="row-0", kept=()):
    given = tables(
        kind=["text", "grounding"],
        role=["brief", "phrase"],
        text=[text, phrase],
        text_id=[None, text_id],
        span_start=[None, start],
        span_end=[None, end],
    )
    verdicts = judge(SpanEqualsPhrase(), given, kept=kept)
    against = verdicts.against.to_pylist()
    assert verdicts.rejected.to_pylist() == [name is not None for name in against]
    assert against[0] is None
    return against[1]


@pytest.mark.parametrize(
    ("text", "phrase", "start", "end", "fits"),
    [
        pytest.param("a dog runs", "a dog", 0, 5, True, id="fits"),
        pytest.param("a dog runs", "A dog", 0, 5, False, id="to-the-letter"),
        pytest.param("a dog runs", "dog", 1, 4, False, id="one-off"),
        pytest.param("a dog", "dog", 2, 6, False, id="beyond-the-end"),
        pytest.param("a dog", "dog", -3, 5, False, id="below-zero"),
        pytest.param("a dog", "dog", 5, 2, False, id="swapped"),
        pytest.param("\u00e9t\u00e9 \U0001f600 dog", "dog", 6, 9, True, id="code-points-not-bytes"),
        pytest.param("a \U0001f600", "\U0001f600", 2, 3, True, id="one-point-of-four-bytes"),
        pytest.param("a dog", "", 2, 2, True, id="nothing-at-nowhere"),
        pytest.param(None, "dog", 0, 3, True, id="text-without-text"),
        pytest.param("a dog", None, 0, 3, True, id="no-phrase"),
        pytest.param("a dog", "dog", None, 3, True, id="no-span"),
    ],
)
def test_span_equals_phrase_reads_code_points(text, phrase, start, end, fits):
    assert spans(text, phrase, start, end) == (None if fits else "row-0")


def test_span_equals_phrase_leaves_a_missing_text_to_orphan_and_finds_one_kept_earlier():
    assert spans("a dog", "cat", 0, 3, text_id="gone") is None
    assert spans("a dog", "cat", 0, 3, text_id=None) is None
    assert spans("a dog", "cat", 0, 3, kept=[0]) == "row-0"


TEXT = st.text(st.sampled_from("ab \u00e9\u4e2d\U0001f600"), max_size=6)
SPAN = st.tuples(TEXT, st.integers(-1, 7), st.integers(-1, 7), TEXT, st.booleans())


@for_all(st.lists(SPAN, min_size=1, max_size=6))
def test_span_equals_phrase_equals_slicing(rows_of_spans):
    texts, starts, ends, *_ = (list(column) for column in zip(*rows_of_spans, strict=True))
    phrases = [
        text[max(start, 0) : max(end, 0)] if own else other
        for text, start, end, other, own in rows_of_spans
    ]
    count = len(texts)
    given = tables(
        kind=["text"] * count + ["grounding"] * count,
        role=["brief"] * count + ["phrase"] * count,
        text=texts + phrases,
        text_id=[None] * count + [f"row-{n}" for n in range(count)],
        span_start=[None] * count + starts,
        span_end=[None] * count + ends,
    )
    fits = [
        0 <= start <= end <= len(text) and text[start:end] == phrase
        for text, start, end, phrase in zip(texts, starts, ends, phrases, strict=True)
    ]
    rejected = judge(SpanEqualsPhrase(), given).rejected.to_pylist()
    assert rejected == [False] * count + [not fit for fit in fits]


@pytest.mark.parametrize(
    ("columns", "places"),
    [
        pytest.param({}, [1, 2, 3], id="the-earlier-first"),
        pytest.param({"score": [0.1, None, 0.9]}, [2, 3, 1], id="the-surer-first"),
        pytest.param(
            {"score": [0.1, 0.5, 0.9], "human": [True, False, False]}, [1, 3, 2], id="people-first"
        ),
        pytest.param({"image_key": ["a", "b", "a"]}, [1, 1, 2], id="by-image"),
        pytest.param({"text_id": ["t", "u", "t"]}, [1, 1, 2], id="by-text"),
        pytest.param({"text": ["Dog", "cat", "dog"]}, [1, 1, 2], id="by-phrase-in-any-case"),
        pytest.param({"span_start": [0, 9, 0]}, [1, 1, 2], id="by-span"),
        pytest.param({"source": ["x", "y", "x"]}, [1, 1, 2], id="by-source"),
        pytest.param({"box": [BOX, None, BOX]}, [1, None, 2], id="no-box"),
    ],
)
def test_max_boxes_per_phrase_counts_from_the_best(columns, places):
    given = grounding(**{"box": [BOX, FAR, MOVED], **columns})
    verdicts = judge(MaxBoxesPerPhrase(max_boxes=2), given)
    assert verdicts.measured.to_pylist() == places
    assert verdicts.rejected.to_pylist() == [place == 3 for place in places]


def test_max_boxes_per_phrase_counts_rows_kept_earlier_first():
    given = grounding(box=[BOX, FAR, MOVED], score=[0.9, 0.8, 0.1])
    verdicts = judge(MaxBoxesPerPhrase(max_boxes=2), given, kept=[2])
    assert verdicts.measured.to_pylist() == [2, 3, 1]
    with pytest.raises(ConfigError, match="max_boxes is 0; it is 1 box or more"):
        MaxBoxesPerPhrase(max_boxes=0)


@pytest.mark.parametrize(
    ("columns", "against"),
    [
        pytest.param({}, [None, "row-0", None], id="the-earlier-wins"),
        pytest.param({"score": [0.1, 0.9, 0.9]}, ["row-1", None, None], id="the-surer-wins"),
        pytest.param({"human": [False, True, False]}, ["row-1", None, None], id="a-person-wins"),
        pytest.param({"source": ["x", "y", "x"]}, [None, "row-0", None], id="whoever-said-it"),
        pytest.param({"text": ["dog", "cat", "dog"]}, [None] * 3, id="another-phrase"),
        pytest.param({"text_id": ["t", "u", "t"]}, [None] * 3, id="another-text"),
        pytest.param({"span_start": [0, 9, 0]}, [None] * 3, id="another-place-in-the-text"),
        pytest.param({"image_key": ["a", "b", "a"]}, [None] * 3, id="another-image"),
        pytest.param({"box": [BOX, None, FAR]}, [None] * 3, id="no-box"),
        pytest.param({"box": [BOX, [float("nan")] * 4, FAR]}, [None] * 3, id="a-broken-box"),
    ],
)
def test_duplicate_triplet_keeps_the_better(columns, against):
    given = grounding(**{"box": [BOX, MOVED, FAR], **columns})
    verdicts = judge(DuplicateTriplet(), given)
    assert verdicts.against.to_pylist() == against
    assert verdicts.rejected.to_pylist() == [name is not None for name in against]


def test_duplicate_triplet_keeps_at_the_limit_and_measures_the_overlap():
    given = grounding(box=[[0, 0, 10, 10], [0, 0, 10, 8]])
    assert judge(DuplicateTriplet(iou=0.8), given).rejected.to_pylist() == [False, False]
    verdicts = judge(DuplicateTriplet(iou=0.75), given)
    assert verdicts.rejected.to_pylist() == [False, True]
    assert verdicts.measured.to_pylist() == [None, pytest.approx(0.8)]
    with pytest.raises(ConfigError, match="iou is 2; an overlap lies in"):
        DuplicateTriplet(iou=2)
