"""Phrases against truth: recall@1 by the protocol of Flickr30k Entities, on its own files."""

import re
from xml.etree import ElementTree

import numpy as np
import pyarrow as pa
import pytest

from engine.evaluate.phrases import PhraseScore, PhraseScores, with_captions
from engine.schema import claims

LEFT, RIGHT, BOTH = [0, 0, 10, 10], [20, 0, 30, 10], [0, 0, 30, 10]
NOTHING = claims().append_column("caption", pa.nulls(0, pa.string()))


def phrases(*found: tuple[str, list[float] | None], key="a", caption="x", **columns) -> pa.Table:
    """Phrases of one caption of one image; the same words are the same phrase."""
    words = [text for text, _ in found]
    starts = [words.index(text) for text in words]
    table = claims(
        image_key=[key] * len(found),
        kind="grounding",
        role="phrase",
        text=words,
        span_start=starts,
        span_end=[start + 1 for start in starts],
        box=[box for _, box in found],
        **columns,
    )
    return table.append_column("caption", pa.array([caption] * len(found), pa.string()))


def score(claimed: pa.Table, truth: pa.Table, **options) -> PhraseScore:
    scores = PhraseScores(**options)
    scores.add(claimed, truth)
    return scores.result()[0]


def test_no_phrases_have_no_recall():
    assert score(NOTHING, NOTHING).recall_at_1 is None
    assert score(phrases(("a dog", LEFT)), NOTHING) == PhraseScore(0, 0, 0)
    assert score(NOTHING, phrases(("a dog", LEFT))) == PhraseScore(0, 0, 1)


def test_the_box_of_the_highest_score_is_the_answer():
    truth = phrases(("a dog", LEFT))
    claimed = phrases(("a dog", LEFT), ("a dog", RIGHT), score=[0.4, 0.6])
    assert score(claimed, truth) == PhraseScore(0, 1, 1)
    claimed = phrases(("a dog", LEFT), ("a dog", RIGHT), score=[0.6, 0.4])
    assert score(claimed, truth) == PhraseScore(1, 1, 1)
    unscored_first = phrases(("a dog", RIGHT), ("a dog", LEFT), score=[None, 0.1])
    assert score(unscored_first, truth).num_right == 1


def test_any_box_or_the_box_around_them_all():
    truth = phrases(("two dogs", LEFT), ("two dogs", RIGHT))
    for box, any_box, merged in ((LEFT, 1, 0), (RIGHT, 1, 0), (BOTH, 0, 1)):
        claimed = phrases(("two dogs", box))
        assert score(claimed, truth) == PhraseScore(any_box, 1, 1)
        assert score(claimed, truth, merged=True) == PhraseScore(merged, 1, 1)


@pytest.mark.parametrize(("width", "right"), [(20, 1), (20.1, 0)])
def test_an_overlap_of_a_half_is_enough(width, right):
    assert score(phrases(("it", [0, 0, width, 10])), phrases(("it", LEFT))).num_right == right


def test_phrases_without_a_true_box_do_not_count():
    truth = phrases(("time", None), ("a dog", LEFT), ("it", [5, 5, 5, 5]))
    assert score(phrases(("time", LEFT), ("a dog", LEFT)), truth) == PhraseScore(1, 1, 1)


def test_a_phrase_is_looked_up_in_its_caption_and_else_by_its_words():
    truth = phrases(("a dog", LEFT), caption="first")
    elsewhere = phrases(("A dog", LEFT), caption="another")
    assert score(elsewhere, truth).num_right == 1
    wrong_here = pa.concat_tables([phrases(("a dog", RIGHT), caption="First"), elsewhere])
    assert score(wrong_here, truth) == PhraseScore(0, 1, 1)
    other_image = phrases(("a dog", LEFT), key="b", caption="first")
    assert score(other_image, truth) == PhraseScore(0, 0, 1)


def test_one_wording_twice_in_a_caption_is_two_phrases():
    truth = claims(
        image_key=["a"] * 2,
        kind="grounding",
        text=["a man"] * 2,
        span_start=[0, 10],
        span_end=[5, 15],
        box=[LEFT, RIGHT],
    ).append_column("caption", pa.array(["a man and a man"] * 2))
    assert score(truth, truth) == PhraseScore(2, 2, 2)
    assert score(truth.slice(1), truth) == PhraseScore(1, 2, 2)  # the other by its words


def test_each_world_has_its_own_best_box():
    claimed = phrases(("a dog", RIGHT), ("a dog", LEFT), score=[0.9, 0.5])
    scores = PhraseScores(num_worlds=3)
    scores.add(claimed, phrases(("a dog", LEFT)), np.array([[1, 1], [0, 1], [0, 0]], bool))
    assert scores.result() == [PhraseScore(0, 1, 1), PhraseScore(1, 1, 1), PhraseScore(0, 0, 1)]


def test_captions_are_found_within_their_image():
    texts = claims(
        image_key=["a", "b"], annotation_id=["0", "0"], kind="text", text=["of a", "of b"]
    )
    named = claims(image_key=["b", "a", "a", "a"], kind="grounding", text_id=["0", "0", "1", None])
    assert with_captions(named, texts)["caption"].to_pylist() == ["of b", "of a", None, None]
    nameless = claims(image_key=["a"], kind="text", text=["of a"])
    assert with_captions(named, nameless)["caption"].null_count == 4
    assert with_captions(named, claims())["caption"].null_count == 4


def entities(data, image: str) -> tuple[pa.Table, pa.Table]:
    """The phrases of one photo of Flickr30k Entities that have boxes, and its sentences."""
    folder = data / "flickr30k-entities-8"
    boxes: dict[str, list] = {}
    for thing in ElementTree.parse(folder / "Annotations" / f"{image}.PARTIAL.xml").iter("object"):
        for name in thing.findall("name"):
            edges = [thing.findtext(f"bndbox/{e}") for e in ("xmin", "ymin", "xmax", "ymax")]
            boxes.setdefault(name.text, []).append(edges if edges[0] else None)
    found, sentences = [], []
    lines = (folder / "Sentences" / f"{image}.txt").read_text(encoding="utf-8").splitlines()
    for i, line in enumerate(lines):
        plain = ""
        for piece in re.split(r"(\[/EN#[^\]]*\])", line):
            entity = re.fullmatch(r"\[/EN#(\d+)/\S+ (.*)\]", piece)
            text = entity[2] if entity else piece
            place = (str(i), text, len(plain), len(plain) + len(text))
            found += [(*place, box) for box in boxes.get(entity[1], [None])] if entity else []
            plain += text
        sentences.append(plain)
    names, texts, starts, ends, rects = zip(*found, strict=True)
    columns = {"text": list(texts), "span_start": list(starts), "span_end": list(ends)}
    numbers = [box and [float(edge) for edge in box] for box in rects]
    key = [image] * len(found)
    rows = claims(image_key=key, kind="grounding", text_id=list(names), box=numbers, **columns)
    said = claims(
        image_key=[image] * len(sentences),
        kind="text",
        annotation_id=[str(i) for i in range(len(sentences))],
        text=sentences,
    )
    return rows, said


def test_flickrs_own_phrases_find_themselves(data):
    """Of the entities in the file three have boxes: 1 (two boxes), 4 (two) and 6 (one)."""
    rows, sentences = entities(data, "1000092795")
    truth = with_captions(rows, sentences)
    assert truth["caption"].null_count == 0
    expected = sum(f"EN#{n}/" in line for n in (1, 4, 6) for line in raw_lines(data))
    assert score(truth, truth) == PhraseScore(expected, expected, expected)
    # one answer for an entity of two boxes is the box around both only by chance
    assert score(truth, truth, merged=True).num_right < expected
    silent = with_captions(rows.slice(0, 0), sentences)
    assert score(silent, truth) == PhraseScore(0, 0, expected)


def raw_lines(data) -> list[str]:
    file = data / "flickr30k-entities-8" / "Sentences" / "1000092795.txt"
    return file.read_text(encoding="utf-8").splitlines()
