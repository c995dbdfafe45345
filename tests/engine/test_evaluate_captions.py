"""Captions against references: published numbers, those of pycocoevalcap, and single parts."""

import json
import math
import pickle
from collections import defaultdict

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evaluate.captions import CaptionScore, CaptionScores, DocumentFrequencies
from engine.evaluate.tokens import grams_of, ptb_tokens
from engine.schema import claims


def texts(found: dict[str, list[str]]) -> pa.Table:
    """Captions by image."""
    keys = [key for key, captions in found.items() for _ in captions]
    said = [text for captions in found.values() for text in captions]
    return claims(image_key=keys, kind="text", role="brief", text=said)


def score(captions: dict, references: dict, tokenize=ptb_tokens) -> CaptionScore:
    frequencies = DocumentFrequencies(tokenize)
    frequencies.add(texts(references))
    scores = CaptionScores(frequencies)
    scores.add(texts(captions), texts(references))
    return scores.result()[0]


def test_no_captions_have_no_score():
    found = score({}, {})
    assert (found.cider_d, found.bleu4, found.rouge_l, found.coverage) == (None,) * 4
    found = score({}, {"a": ["a dog"], "b": ["a cat"]})
    assert (found.cider_d, found.num_captions, found.coverage) == (None, 0, 0.0)


def test_scores_equal_the_published_ones(data):
    """The published cases were split at spaces: so are they here."""
    file = data / "oracles" / "caption-metric" / "nlg_eval_expected.json"
    cases = json.loads(file.read_text(encoding="utf-8"))["cases"]
    assert len(cases) == 3
    for case in cases:
        references = {str(i): each for i, each in enumerate(case["refs_per_hypothesis"])}
        captions = {str(i): [each] for i, each in enumerate(case["hyps"])}
        found, expected = score(captions, references, str.split), case["expected"]
        assert found.bleu4 == pytest.approx(expected["Bleu_4"], abs=1e-6)
        assert found.rouge_l == pytest.approx(expected["ROUGE_L"], abs=1e-6)
        assert found.cider_d == pytest.approx(expected["CIDEr"], abs=1e-6)


def coco_sentences(data) -> dict[str, list[str]]:
    content = json.loads((data / "coco80" / "annotations" / "captions.json").read_text())
    found = defaultdict(list)
    for each in content["annotations"]:
        found[str(each["image_id"])].append(each["caption"])
    return dict(sorted(found.items()))


def test_scores_equal_those_of_pycocoevalcap_however_they_are_sharded(data):
    """The first sentence of each photo against the others; numbers of pycocoevalcap 1.2."""
    sentences = coco_sentences(data)
    for size in (80, 7):
        keys = list(sentences)
        shards = [keys[start : start + size] for start in range(0, len(keys), size)]
        frequencies = DocumentFrequencies()
        for shard in shards:
            frequencies.add(texts({key: sentences[key][1:] for key in shard}))
        scores = CaptionScores(frequencies)
        for shard in shards:
            captions = texts({key: sentences[key][:1] for key in shard})
            scores.add(captions, texts({key: sentences[key][1:] for key in shard}))
        (found,) = scores.result()
        assert found.cider_d == pytest.approx(1.0238115150616829, abs=1e-9)
        assert found.bleu4 == pytest.approx(0.1970006648708655, abs=1e-9)
        assert found.rouge_l == pytest.approx(0.4671590420227206, abs=1e-9)
        assert (found.num_captions, found.coverage) == (80, 1.0)


def test_a_caption_that_is_a_reference_is_perfect_for_bleu_and_rouge(data):
    sentences = coco_sentences(data)
    found = score({key: said[:1] for key, said in sentences.items()}, sentences)
    assert found.bleu4 == pytest.approx(1.0)
    assert found.rouge_l == pytest.approx(1.0)


@pytest.mark.parametrize(
    ("references", "penalty"),
    [
        pytest.param(["a b c d e f g h"], math.exp(1 - 8 / 5), id="shorter"),
        pytest.param(["a b c d e"], 1.0, id="equal"),
        pytest.param(["a b c d", "a b c d e f g h"], 1.0, id="the-nearest-length-counts"),
        pytest.param(["a b c d e f", "a b c d"], 1.0, id="the-shorter-of-two-as-near"),
    ],
)
def test_bleu_punishes_captions_that_are_too_short(references, penalty):
    found = score({"x": ["a b c d e"]}, {"x": references}, str.split)
    assert found.bleu4 == pytest.approx(penalty, abs=1e-6)


def test_captions_without_references_are_left_out():
    references = {"a": ["a brown dog runs"], "b": ["a red bus stops here"]}
    with_more = score({"a": ["a dog runs"], "c": ["anything"]}, references)
    assert with_more == score({"a": ["a dog runs"]}, references)
    assert (with_more.num_captions, with_more.num_captioned, with_more.num_images) == (1, 1, 2)


@pytest.mark.parametrize(
    "caption",
    [
        pytest.param("", id="empty"),
        pytest.param("...", id="signs-only"),
        pytest.param("\U0001f600\U0001f436", id="emoji"),
        pytest.param("dog\x00 \x1b[0m", id="control-characters"),
        pytest.param("dog " * 20_000, id="long"),
    ],
)
def test_any_caption_has_a_score(caption):
    found = score({"a": [caption]}, {"a": ["a dog runs", ""], "b": ["a bus"]})
    assert all(math.isfinite(value) for value in (found.cider_d, found.bleu4, found.rouge_l))


def test_each_world_counts_as_if_it_were_alone():
    references = {"a": ["a brown dog runs"], "b": ["a red bus stops here"], "c": ["a cat"]}
    captions = {"a": ["a dog runs", "a dog"], "b": ["a bus stops here"], "c": ["one cat"]}
    frequencies = DocumentFrequencies()
    frequencies.add(texts(references))
    alive = np.array([[1, 1, 1, 1], [0, 1, 1, 0], [0, 0, 0, 0]], bool)
    together = CaptionScores(frequencies, num_worlds=3)
    together.add(texts(captions), texts(references), alive)
    for world, found in zip(alive, together.result(), strict=True):
        alone = CaptionScores(frequencies)
        alone.add(texts(captions).filter(world), texts(references))
        expected = alone.result()[0]
        assert found.num_captioned == expected.num_captioned
        for name in ("cider_d", "bleu4", "rouge_l"):
            assert getattr(found, name) == pytest.approx(getattr(expected, name))


def test_caption_scores_do_not_grow():
    frequencies = DocumentFrequencies()
    frequencies.add(texts({"a": ["a dog runs here"]}))
    scores, sizes = CaptionScores(frequencies), set()
    for i in range(20):
        scores.add(texts({f"{i}": ["a dog runs"]}), texts({f"{i}": ["a dog runs here"]}))
        sizes.add(len(pickle.dumps(scores)))
    assert len(sizes) == 1


def test_frequencies_count_images_not_sentences():
    frequencies = DocumentFrequencies()
    frequencies.add(texts({"a": ["a dog", "the dog dog"], "b": ["a cat"]}))
    frequencies.add(texts({"c": ["a dog"]}))
    grams = grams_of([["dog"], ["a", "dog"], ["owl"]])
    named = zip(grams.texts.tolist(), grams.orders.tolist(), strict=True)
    found = dict(zip(named, frequencies.of(grams.hashes).tolist(), strict=True))
    assert frequencies.num_images == 3
    assert found[0, 0] == 2  # dog
    assert found[1, 1] == 2  # a dog
    assert found[2, 0] == 0  # owl


@given(st.lists(st.lists(st.sampled_from("abc"), max_size=9), max_size=5))
@settings(max_examples=100, deadline=None)
def test_grams_are_those_of_a_plain_count(sentences):
    expected = defaultdict(int)
    for text, tokens in enumerate(sentences):
        for order in range(4):
            for start in range(len(tokens) - order):
                expected[text, order, tuple(tokens[start : start + order + 1])] += 1
    grams = grams_of(sentences)
    columns = (grams.texts.tolist(), grams.orders.tolist(), grams.counts.tolist())
    assert sorted(zip(*columns, strict=True)) == sorted(
        (text, order, count) for (text, order, _), count in expected.items()
    )
    assert len(set(grams.hashes.tolist())) == len({gram for _, _, gram in expected})


def longest_common_by_hand(a: list[str], b: list[str]) -> int:
    lengths = np.zeros((len(a) + 1, len(b) + 1), int)
    for i, first in enumerate(a):
        for j, second in enumerate(b):
            longer = max(lengths[i, j + 1], lengths[i + 1, j])
            lengths[i + 1, j + 1] = lengths[i, j] + 1 if first == second else longer
    return int(lengths[-1, -1])


words = st.lists(st.sampled_from("abcd"), min_size=1, max_size=80)


@given(words, words)
@settings(max_examples=200, deadline=None)
def test_rouge_rests_on_the_longest_common_subsequence(a, b):
    common = longest_common_by_hand(a, b)
    found = score({"x": [" ".join(a)]}, {"x": [" ".join(b)]}, str.split).rouge_l
    precision, recall = common / len(a), common / len(b)
    below = recall + 1.44 * precision
    assert found == pytest.approx(2.44 * precision * recall / below if common else 0.0)


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("", ""),
        ("A man, riding a WAVE.", "a man riding a wave"),
        ("the man's dog doesn't bark", "the man 's dog does n't bark"),
        ("the man\u2019s \u201cbig\u201d dog", "the man 's big dog"),
        ("black-and-white photo -- of 1,000 cats...", "black-and-white photo of 1,000 cats"),
        ("50% off & more (today)", "50 % off & more today"),
        ("at 10:30 in the U.S. they're here", "at 10:30 in the u.s. they 're here"),
        ("one\ntwo\tthree", "one two three"),
        ("caf\u00e9 \u72ac", "caf\u00e9 \u72ac"),
    ],
)
def test_tokens_are_near_to_the_treebanks(text, tokens):
    assert ptb_tokens(text) == tokens.split()
