"""Captions put together from rows; how a single noun is counted is tested in test_nouns."""

import pytest
from specialist_photos import noise

from engine.errors import ConfigError
from engine.schema import claims, empty_claims
from specialists.composer import Composer


class Scene:
    """Rows under construction, each with a running id."""

    def __init__(self):
        self.rows = []

    def add(self, text, box=(0, 0, 1, 1), *, key="a", role="category", region=None, ignore=False):
        row_id = f"row-{len(self.rows)}"
        self.rows.append(
            {
                "image_key": key,
                "annotation_id": row_id,
                "region_id": region or row_id,
                "kind": "region",
                "role": role,
                "text": text,
                "box": None if box is None else list(box),
                "ignore": ignore,
            }
        )
        return self

    def table(self):
        if not self.rows:
            return empty_claims()
        return claims(**{name: [row[name] for row in self.rows] for name in self.rows[0]})


def compose(scene, keys=("a",), **options):
    return Composer(**options).annotate([noise(key, 2, 2) for key in keys], scene.table())


def text_of(scene, **options):
    return compose(scene, **options)["text"].to_pylist()


def test_composer_without_images_or_rows_answers_nothing():
    assert compose(Scene(), keys=()) == empty_claims()
    assert compose(Scene(), keys=("a", "b")).num_rows == 0


def test_composer_counts_and_quotes():
    scene = Scene().add("person", (0, 0, 9, 9)).add("dog").add("person").add("STOP", role="ocr")
    assert text_of(scene) == ['two people and a dog; text reads "STOP"']


def test_composer_states_role_prompt_and_scores():
    row = compose(Scene().add("dog")).to_pylist()[0]
    assert (row["kind"], row["role"], row["prompt"]) == ("text", "brief", None)
    assert (row["score"], row["text_score"]) == (None, None)


def test_composer_names_the_rows_it_used_as_parents():
    scene = (
        Scene().add("dog", (0, 0, 9, 9)).add("cat").add("bus").add("dog").add("EXIT", role="ocr")
    )
    row = compose(scene, max_classes=1).to_pylist()[0]
    assert row["text"] == 'two dogs; text reads "EXIT"'
    assert row["parents"] == ["row-0", "row-3", "row-4"]


def test_composer_keeps_images_apart_and_in_order():
    scene = Scene().add("dog", key="b").add("cat", key="a").add("dog", key="b").add("bus", key="d")
    rows = compose(scene, keys=("d", "c", "b", "a"))
    assert rows["image_key"].to_pylist() == ["d", "b", "a"]
    assert rows["text"].to_pylist() == ["a bus", "two dogs", "a cat"]


@pytest.mark.parametrize(
    ("order", "text"),
    [
        ("area", "a bus, a cat and three dogs"),
        ("count", "three dogs, a bus and a cat"),
        ("reading", "a cat, three dogs and a bus"),
    ],
)
def test_composer_orders_classes(order, text):
    scene = Scene().add("bus", (0, 50, 90, 90)).add("cat", (0, 0, 10, 10))
    for left in (10, 20, 30):
        scene.add("dog", (left, 5, left + 4, 9))
    assert text_of(scene, order=order) == [text]


def test_composer_order_does_not_depend_on_the_order_of_rows():
    forward, backward = Scene(), Scene()
    for name in ("cat", "dog", "bus"):
        forward.add(name)
    for name in ("bus", "dog", "cat"):
        backward.add(name)
    assert text_of(forward) == text_of(backward) == ["a bus, a cat and a dog"]


def test_composer_counts_a_region_with_two_texts_once():
    scene = Scene().add("dog", region="r").add("brown dog", role="phrase", region="r")
    assert text_of(scene) == ["a dog"]


def test_composer_takes_spellings_of_a_class_together():
    assert text_of(Scene().add("Teddy bear").add("teddy  bear ")) == ["two teddy bears"]


def test_composer_counts_a_phrase_as_it_is():
    assert text_of(Scene().add("red bus", role="phrase").add("bus")) == ["a bus and a red bus"]


def test_composer_leaves_out_crowds_proposals_and_captions_of_regions():
    scene = (
        Scene().add("person", ignore=True).add(None, role="proposal").add("a red car", role="brief")
    )
    assert text_of(scene) == []


def test_composer_counts_a_region_without_a_box_last():
    assert text_of(Scene().add("dog", None).add("cat")) == ["a cat and a dog"]
    scene = Scene().add("dog", None).add("dog", (0, 0, 9, 9)).add("cat")
    assert text_of(scene) == ["two dogs and a cat"]


def test_composer_quotes_in_reading_order():
    scene = Scene()
    for text, box in [
        ("STREET", (60, 8, 100, 28)),
        ("below", (0, 50, 30, 60)),
        ("MAIN", (0, 10, 50, 30)),
        ("fourth", (0, 90, 30, 99)),
    ]:
        scene.add(text, box, role="ocr")
    assert text_of(scene) == ['text reads "MAIN", "STREET" and "below"']


def test_composer_quotes_what_holds_quotes_and_skips_blanks():
    scene = Scene().add('"A"', role="ocr").add("  ", role="ocr").add("", role="ocr")
    assert text_of(scene) == ["""text reads '"A"'"""]


@pytest.mark.parametrize("option", ["max_classes", "max_transcripts"])
def test_composer_refuses_a_negative_limit(option):
    with pytest.raises(ConfigError, match=f"{option} -1"):
        Composer(**{option: -1})
