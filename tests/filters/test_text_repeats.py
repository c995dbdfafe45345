"""Rules on texts that repeat: the writing in the picture, each other, the rest of the dataset."""

from dataclasses import replace
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.schema import Tables, image_rows
from filters.text_frequent import FrequentText
from filters.text_repeats import NearDuplicateText, RepeatsOcr
from tests.builders import all_fresh, rows, tables


def judge(rule, given, *, kept=()):
    return rule.judge(given, all_fresh(given, kept=kept))


def with_readings(text, readings, **columns):
    """A text, row-0, and what was read on its image, row-1 and so on."""
    return tables(
        kind=["text"] + ["region"] * len(readings),
        role=["brief"] + ["ocr"] * len(readings),
        text=[text, *readings],
        **columns,
    )


@pytest.mark.parametrize(
    ("text", "readings", "share", "reading"),
    [
        pytest.param(None, ["GRAND HOTEL"], None, None, id="no-text"),
        pytest.param("...", ["GRAND HOTEL"], None, None, id="no-word"),
        pytest.param("grand hotel", [], None, None, id="nothing-read"),
        pytest.param("grand hotel", [None, ""], None, None, id="readings-without-text"),
        pytest.param("a dog", ["GRAND"], 0, None, id="nothing-shared"),
        pytest.param("Grand Hotel!", ["x", "HOTEL", "Grand"], 1, "row-3", id="all-of-it"),
        pytest.param("hotel at night", ["HOTEL"], 5 / 12, None, id="a-caption-that-quotes"),
        pytest.param("hotel night", ["HOTEL"], 0.5, None, id="at-the-limit"),
        pytest.param("my bus", ["BUS"], 3 / 5, None, id="too-short-to-tell"),
    ],
)
def test_repeats_ocr_measures_what_was_read(text, readings, share, reading):
    verdicts = judge(RepeatsOcr(), with_readings(text, readings))
    measured = verdicts.measured.to_pylist()
    assert measured[0] == (None if share is None else pytest.approx(share))
    assert measured[1:] == [None] * len(readings)
    assert verdicts.against.to_pylist() == [reading] + [None] * len(readings)
    assert verdicts.rejected.to_pylist() == [reading is not None] + [False] * len(readings)


def test_repeats_ocr_looks_at_the_texts_own_image():
    given = with_readings("grand hotel", ["TAXI", "GRAND HOTEL"], image_key=["a", "a", "b"])
    assert judge(RepeatsOcr(), given).measured.to_pylist() == [0, None, None]


def test_repeats_ocr_sees_readings_kept_earlier():
    given = with_readings("grand hotel", ["GRAND HOTEL"])
    assert judge(RepeatsOcr(), given, kept=[1]).rejected.to_pylist() == [True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"max_share": 1.5}, "max_share is 1.5"), ({"min_chars": 0}, "min_chars is 0")],
)
def test_repeats_ocr_refuses_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        RepeatsOcr(**options)


def near(texts, **columns):
    given = tables(**{"kind": "text", "role": "brief", "text": texts, **columns})
    return judge(NearDuplicateText(), given).against.to_pylist()


@pytest.mark.parametrize(
    ("columns", "against"),
    [
        pytest.param({}, [None, "row-0"], id="the-earlier-wins"),
        pytest.param({"text_score": [0.1, 0.9]}, ["row-1", None], id="the-surer-wins"),
        pytest.param({"text_score": [None, 0.1]}, ["row-1", None], id="any-score-beats-none"),
        pytest.param(
            {"text_score": [0.9, 0.1], "human": [False, True]}, ["row-1", None], id="a-person-wins"
        ),
        pytest.param({"image_key": ["a", "b"]}, [None, None], id="of-two-images"),
        pytest.param({"role": ["alt", "brief"]}, [None, None], id="of-two-roles"),
        pytest.param({"kind": "region"}, [None, None], id="of-regions"),
    ],
)
def test_near_duplicate_text_keeps_the_better(columns, against):
    assert near(["A dog runs.", "a dog runs"], **columns) == against


@pytest.mark.parametrize(
    ("other", "similarity"),
    [
        pytest.param("A black dog runs fast through the deep snow!", 1, id="signs-and-case"),
        pytest.param("black dog runs fast through the deep snow", 15 / 17, id="article"),
        pytest.param("a brown dog runs fast through the deep snow", None, id="a-colour"),
        pytest.param("snow deep the through fast runs dog black a", None, id="another-order"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="null"),
    ],
)
def test_near_duplicate_text_measures_words_and_pairs(other, similarity):
    given = tables(
        kind="text", role="brief", text=["a black dog runs fast through the deep snow", other]
    )
    verdicts = judge(NearDuplicateText(), given)
    assert verdicts.rejected.to_pylist() == [False, similarity is not None]
    expected = None if similarity is None else pytest.approx(similarity)
    assert verdicts.measured.to_pylist() == [None, expected]


def test_near_duplicate_text_keeps_at_the_limit():
    text = ["black dog runs", "a black dog runs"]  # 5 of 7
    given = tables(kind="text", role="brief", text=text)
    for limit, lost in ((5 / 7, False), (0.7, True)):
        verdicts = judge(NearDuplicateText(max_similarity=limit), given)
        assert verdicts.rejected.to_pylist() == [False, lost]


def test_near_duplicate_text_never_judges_rows_kept_earlier():
    given = tables(kind="text", role="brief", text=["a dog runs"] * 3, human=[True, False, False])
    verdicts = judge(NearDuplicateText(), given, kept=[1, 2])
    assert verdicts.against.to_pylist() == ["row-1", None, None]


def test_near_duplicate_text_loses_to_any_row_kept_earlier():
    """The second resembles the first, the third the second alone."""
    first = "a black dog runs fast through the deep snow"
    texts = [first, f"{first} today", f"{first} today again"]
    given = tables(kind="text", role="brief", text=texts)
    verdicts = judge(NearDuplicateText(max_similarity=0.85), given, kept=[0, 1])
    assert verdicts.against.to_pylist() == [None, None, "row-1"]


def features(text):
    words = text.split()
    return {*words, *pairwise(words)}


def brute_force(texts, scores, humans, images, limit):
    def weakness(place):
        score = scores[place]
        return (not humans[place], score is None, -(score or 0), place)

    kept, against = [], [None] * len(texts)
    for place in sorted(range(len(texts)), key=weakness):
        own = features(texts[place])
        for better in kept:
            other = features(texts[better])
            share = np.float32(len(own & other) / max(len(own | other), 1))
            if images[place] == images[better] and share > np.float32(limit):
                against[place] = f"row-{better}"
                break
        else:
            if own:
                kept.append(place)
    return against


ROW = st.tuples(
    st.lists(st.sampled_from("abcd"), max_size=6).map(" ".join),
    st.sampled_from([None, 0.25, 0.5]),
    st.booleans(),
    st.sampled_from("ab"),
)


@for_all(st.lists(ROW, min_size=1, max_size=9), st.sampled_from([0.3, 0.5, 0.8, 1.0]))
def test_near_duplicate_text_equals_comparing_every_two(texts_and_more, limit):
    texts, scores, humans, images = map(list, zip(*texts_and_more, strict=True))
    given = tables(
        kind="text", role="brief", text=texts, text_score=scores, human=humans, image_key=images
    )
    verdicts = judge(NearDuplicateText(max_similarity=limit), given)
    assert verdicts.against.to_pylist() == brute_force(texts, scores, humans, images, limit)


def test_near_duplicate_text_takes_a_crowded_image_without_comparing_every_two():
    texts = [f"number {n} of {n * 7} and {n * 13}" for n in range(20_000)]
    given = tables(kind="text", role="brief", text=texts)
    assert not any(judge(NearDuplicateText(), given).rejected.to_pylist())


def frequent(rule, shards, given):
    """Verdicts on `given` after measuring all shards."""
    measured = pa.concat_tables([rule.measure(shard) for shard in shards])
    return rule.judge(given, replace(all_fresh(given), decisions=rule.reduce(measured)))


def alts(texts, images=None, **columns):
    images = images or [f"i{n}" for n in range(len(texts))]
    return tables(kind="text", role="alt", text=texts, image_key=images, **columns)


def test_frequent_text_counts_images_across_shards():
    rule = FrequentText(max_images=3)
    shards = [alts(["Home page", "a dog", "home page!"]), alts(["HOME PAGE", "a cat", "home page"])]
    verdicts = frequent(rule, shards, shards[0])
    assert verdicts.rejected.to_pylist() == [True, False, True]
    assert verdicts.measured.to_pylist() == [4, None, 4]
    assert verdicts.limit.to_pylist() == [3, None, 3]


def test_frequent_text_keeps_at_the_limit():
    shard = alts(["home page"] * 4)
    assert not any(frequent(FrequentText(max_images=4), [shard], shard).rejected.to_pylist())
    assert all(frequent(FrequentText(max_images=3), [shard], shard).rejected.to_pylist())


def test_frequent_text_takes_the_share_where_it_is_more():
    shard = alts(["home page"] * 4 + ["a", "b", "c", "d"])
    for share, lost in ((0.5, False), (0.4, True)):
        rule = FrequentText(max_images=1, max_share=share)
        verdicts = frequent(rule, [shard], shard)
        assert verdicts.rejected.to_pylist() == [lost] * 4 + [False] * 4


def test_frequent_text_counts_an_image_once_and_only_good_ones():
    rule = FrequentText(max_images=1)
    twice = alts(["home page"] * 2, images=["a", "a"])
    assert not any(frequent(rule, [twice], twice).rejected.to_pylist())
    images = image_rows(image_key=["i0", "i1"], status=["ok", "duplicate"])
    doubled = Tables(images, alts(["home page"] * 2).annotations)
    assert not any(frequent(rule, [doubled], doubled).rejected.to_pylist())


def test_frequent_text_does_not_count_what_other_rules_rejected():
    claimed = alts(["home page"] * 2)
    status = pa.array(["kept", "rejected"]).dictionary_encode()
    judged = Tables(claimed.images, claimed.annotations.append_column("status", status))
    rule = FrequentText(max_images=1)
    assert not any(frequent(rule, [judged], claimed).rejected.to_pylist())


def test_frequent_text_leaves_texts_without_words_and_other_roles_alone():
    rule = FrequentText(max_images=1)
    silent = alts(["", None, "...", "", None, "..."])
    assert not any(frequent(rule, [silent], silent).rejected.to_pylist())
    briefs = Tables(silent.images, rows(kind="text", role="brief", text=["a dog"] * 2))
    assert not any(frequent(rule, [briefs], briefs).rejected.to_pylist())


def test_frequent_text_reduces_to_the_same_bytes_in_any_grouping():
    rule = FrequentText(max_images=1)
    texts = [f"text {n % 7}" for n in range(30)]
    shards = [alts(texts[:11]), alts(texts[11:])]
    one = rule.reduce(pa.concat_tables([rule.measure(shard) for shard in shards]))
    other = rule.reduce(pa.concat_tables([rule.measure(shard) for shard in shards[::-1]]))
    assert one.num_rows == 7
    assert one.combine_chunks() == other.combine_chunks()


def test_frequent_text_of_no_shards_decides_nothing():
    rule = FrequentText()
    assert rule.reduce(rule.measure(tables()).slice(0, 0)).num_rows == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roles": ()}, "roles is empty"),
        ({"roles": ("alt",)}, "roles names 'alt'; allowed: text"),
        ({"max_images": 0}, "max_images is 0"),
        ({"max_share": -1}, "max_share is -1"),
    ],
)
def test_frequent_text_refuses_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        FrequentText(**options)
