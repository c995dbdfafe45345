"""Labels counted in English."""

import pytest

from specialists.nouns import article, count_noun, plural


@pytest.mark.parametrize(
    ("name", "one", "two"),
    [
        ("person", "a person", "two people"),
        ("mouse", "a mouse", "two mice"),
        ("knife", "a knife", "two knives"),
        ("sheep", "a sheep", "two sheep"),
        ("bus", "a bus", "two buses"),
        ("bench", "a bench", "two benches"),
        ("toothbrush", "a toothbrush", "two toothbrushes"),
        ("wine glass", "a wine glass", "two wine glasses"),
        ("couch", "a couch", "two couches"),
        ("baby", "a baby", "two babies"),
        ("monkey", "a monkey", "two monkeys"),
        ("tomato", "a tomato", "two tomatoes"),
        ("piano", "a piano", "two pianos"),
        ("box", "a box", "two boxes"),
        ("octopus", "an octopus", "two octopuses"),
        ("lens", "a lens", "two lenses"),
        ("snowman", "a snowman", "two snowmen"),
        ("human", "a human", "two humans"),
        ("skis", "a pair of skis", "two pairs of skis"),
        ("scissors", "a pair of scissors", "two pairs of scissors"),
        ("houses", "houses", "two houses"),
        ("broccoli", "broccoli", "broccoli"),
        ("Human face", "a human face", "two human faces"),
        ("tv", "a TV", "two TVs"),
        ("suv", "an SUV", "two SUVs"),
        ("cup of coffee", "a cup of coffee", "two cups of coffee"),
        ("man in red shirt", "a man in red shirt", "two men in red shirt"),
        ("  teddy   bear ", "a teddy bear", "two teddy bears"),
    ],
)
def test_count_noun_counts_one_and_two(name, one, two):
    assert (count_noun(name, 1), count_noun(name, 2)) == (one, two)


@pytest.mark.parametrize(("count", "text"), [(10, "ten dogs"), (11, "11 dogs"), (300, "300 dogs")])
def test_count_noun_writes_large_numbers_in_digits(count, text):
    assert count_noun("dog", count) == text


@pytest.mark.parametrize("name", ["people", "mice", "men", "knives", "scissors", "sheep", "houses"])
def test_plural_leaves_a_plural_alone(name):
    assert plural(name) == name


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        *[(word, "an") for word in ("apple", "orange", "umbrella", "hour glass", "honest face")],
        *[
            (word, "an")
            for word in ("X-ray", "uninvited guest", "8-ball", "MP3 player", "unopened box")
        ],
        *[
            (word, "a")
            for word in ("dog", "unicycle", "uniform", "European", "one-way sign", "UFO")
        ],
        *[
            (word, "a")
            for word in ("house", "USB stick", "T-shirt", "ukulele", "utensil", "U-boat")
        ],
    ],
)
def test_article_goes_by_the_sound(word, expected):
    assert article(word) == expected
