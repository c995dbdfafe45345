"""The phrase blacklist and the orphan rule."""

import pytest

from engine.errors import ConfigError
from filters.grounding import PHRASES, PhraseBlacklist, normalise
from filters.lineage import Orphan
from tests.builders import all_fresh, tables


@pytest.mark.parametrize(
    ("text", "term"),
    [
        pytest.param(None, None, id="no-text"),
        pytest.param("", None, id="empty"),
        pytest.param("it", "it", id="pronoun"),
        pytest.param("IT", "it", id="case"),
        pytest.param("  the   Other objects ", "other objects", id="spaces-and-article"),
        pytest.param("The", "the", id="an-article-alone"),
        pytest.param("it girl", None, id="only-the-whole-phrase"),
        pytest.param("theatre", None, id="an-article-is-a-word"),
    ],
)
def test_phrase_blacklist_names_the_term(text, term):
    given = tables(kind="grounding", role="phrase", text=[text])
    verdicts = PhraseBlacklist().judge(given, all_fresh(given))
    assert verdicts.rejected.to_pylist() == [term is not None]
    assert verdicts.against.to_pylist() == [term]


def test_phrase_blacklist_spares_what_was_read_and_captions():
    given = tables(
        text=["it"] * 6,
        kind=["region", "region", "region", "region", "grounding", "text"],
        role=["ocr", "category", "phrase", "brief", "phrase", "brief"],
    )
    verdicts = PhraseBlacklist().judge(given, all_fresh(given))
    assert verdicts.rejected.to_pylist() == [False, True, True, True, True, False]


def test_phrase_blacklist_takes_its_own_terms_and_names_them_as_given():
    given = tables(kind="grounding", text=["thing", "it"])
    verdicts = PhraseBlacklist(phrases=("A Thing",)).judge(given, all_fresh(given))
    assert verdicts.against.to_pylist() == ["A Thing", None]


def test_phrase_blacklist_default_holds_no_phrase_twice():
    assert len({normalise(phrase) for phrase in PHRASES}) == len(PHRASES)


@pytest.mark.parametrize(
    ("phrases", "message"), [((), "phrases is empty"), (("it", "  "), "phrase '  ' has no word")]
)
def test_phrase_blacklist_refuses_terms_that_match_nothing(phrases, message):
    with pytest.raises(ConfigError, match=message):
        PhraseBlacklist(phrases=phrases)


def orphans(given, *, kept=()):
    """Which row each orphan misses, null where a row is no orphan."""
    verdicts = Orphan().judge(given, all_fresh(given, kept=kept))
    against = verdicts.against.to_pylist()
    assert verdicts.rejected.to_pylist() == [missing is not None for missing in against]
    return against


@pytest.mark.parametrize(
    ("columns", "missing"),
    [
        pytest.param({"parents": [None, []]}, [None, None], id="no-parents"),
        pytest.param({"parents": [None, ["row-0"]]}, [None, None], id="parent-is-kept"),
        pytest.param({"parents": [None, ["row-0", "x"]]}, [None, "x"], id="one-of-two-parents"),
        pytest.param({"region_id": ["row-0", "row-1"]}, [None, None], id="its-own-region"),
        pytest.param({"region_id": ["row-0", "row-0"]}, [None, None], id="a-kept-region"),
        pytest.param({"region_id": ["row-0", "x"]}, [None, "x"], id="a-lost-region"),
        pytest.param({"text_id": [None, "row-0"]}, [None, None], id="a-kept-text"),
        pytest.param({"text_id": [None, "x"]}, [None, "x"], id="a-lost-text"),
        pytest.param({"parents": [[None, "x"], [None]]}, ["x", None], id="null-names-nothing"),
        pytest.param(
            {"text_id": ["t", "t"], "region_id": ["r", "r"], "parents": [["p", "q"], None]},
            ["p", "r"],
            id="parents-then-region-then-text",
        ),
    ],
)
def test_orphan_names_what_is_missing(columns, missing):
    assert orphans(tables(**columns)) == missing


def test_orphan_reaches_those_who_rest_on_orphans():
    chain = tables(parents=[["row-1"], ["row-2"], ["x"], ["row-4"], None])
    assert orphans(chain) == ["row-1", "row-2", "x", None, None]


def test_orphan_stops_at_rows_whose_verdict_is_final():
    chain = tables(parents=[["row-1"], ["x"]])
    assert orphans(chain, kept=[1]) == [None, None]


def test_orphan_leaves_a_circle_of_kept_rows_alone():
    assert orphans(tables(parents=[["row-1"], ["row-0"]])) == [None, None]
