"""Labels of different vocabularies: equal names, and what is a kind of what."""

import pytest

from engine.errors import ConfigError
from specialists.nouns import plural, singular
from specialists.synonym_table import KINDS, NAMES
from specialists.synonyms import fold, read_synonyms

TABLE = read_synonyms()
COCO = """person, bicycle, car, motorcycle, airplane, bus, train, truck, boat, traffic light,
fire hydrant, stop sign, parking meter, bench, bird, cat, dog, horse, sheep, cow, elephant, bear,
zebra, giraffe, backpack, umbrella, handbag, tie, suitcase, frisbee, skis, snowboard, sports ball,
kite, baseball bat, baseball glove, skateboard, surfboard, tennis racket, bottle, wine glass, cup,
fork, knife, spoon, bowl, banana, apple, sandwich, orange, broccoli, carrot, hot dog, pizza, donut,
cake, chair, couch, potted plant, bed, dining table, toilet, tv, laptop, mouse, remote, keyboard,
cell phone, microwave, oven, toaster, sink, refrigerator, book, clock, vase, scissors, teddy bear,
hair drier, toothbrush""".replace("\n", " ").split(", ")


def test_fold_of_blanks_is_empty():
    assert [fold(label) for label in ("", " _ ")] == ["", ""]


def test_every_coco_name_is_the_name_of_its_class():
    assert len(COCO) == 80
    assert [TABLE.name(label) for label in COCO] == COCO
    assert len({TABLE.key(label) for label in COCO}) == 80


@pytest.mark.parametrize(
    ("label", "name"),
    [
        ("sofa", "couch"),
        ("tvmonitor", "tv"),
        ("Television", "tv"),
        ("television_set", "tv"),
        ("Mobile phone", "cell phone"),
        ("cellular_telephone", "cell phone"),
        ("motorbike", "motorcycle"),
        ("aeroplane", "airplane"),
        ("planes", "airplane"),
        ("diningtable", "dining table"),
        ("Kitchen & dining room table", "dining table"),
        ("pottedplant", "potted plant"),
        ("Houseplant", "potted plant"),
        ("fireplug", "fire hydrant"),
        ("Hair Dryer", "hair drier"),
        ("wineglass", "wine glass"),
        ("wine glasses", "wine glass"),
        ("Ski", "skis"),
        ("mouse_(computer_equipment)", "mouse"),
        ("People", "person"),
        ("Handbag/Satchel", "handbag"),
        ("TRAFFIC_LIGHTS", "traffic light"),
    ],
)
def test_names_of_other_vocabularies_lead_to_one_class(label, name):
    assert TABLE.name(label) == name
    assert TABLE.key(label) == TABLE.key(name)


def test_a_label_nobody_listed_stays_and_still_matches_its_own_spellings():
    assert TABLE.name("Left_Handed Wrenches") == "Left_Handed Wrenches"
    assert TABLE.key("Left_Handed Wrenches") == TABLE.key("left handed wrench")


@pytest.mark.parametrize(
    ("narrow", "wide"),
    [
        ("man", "person"),
        ("Ladies", "Person"),
        ("boys", "child"),
        ("boys", "person"),
        ("kitten", "animal"),
        ("sedan", "vehicle"),
        ("teacup", "cup"),
        ("golden_retriever", "dog"),
        ("sofa", "couch"),
        ("motorbike", "vehicle"),
    ],
)
def test_a_kind_is_a_kind_and_never_the_other_way(narrow, wide):
    assert TABLE.is_a(narrow, wide)
    assert TABLE.is_a(wide, narrow) == (TABLE.key(narrow) == TABLE.key(wide))


@pytest.mark.parametrize(("one", "other"), [("man", "woman"), ("cat", "dog"), ("boy", "man")])
def test_kinds_of_one_class_are_not_each_other(one, other):
    assert TABLE.key(one) != TABLE.key(other)
    assert not TABLE.is_a(one, other)
    assert not TABLE.is_a(other, one)


def test_a_config_extends_and_overrules_the_table():
    table = read_synonyms({"sofa": ["divan"], "cat": ["moggy"]}, {"vehicle": ["hovercraft"]})
    assert [table.name(label) for label in ("sofa", "divan", "couch")] == ["sofa", "sofa", "couch"]
    assert table.key("sofa") != table.key("couch")
    assert table.is_a("moggy", "animal")
    assert table.is_a("hovercraft", "vehicle")
    assert not TABLE.is_a("hovercraft", "vehicle")


@pytest.mark.parametrize(
    ("names", "kinds", "message"),
    [
        ({"cat": ["tom"], "dog": ["Toms"]}, {}, "'Toms' stands for 'cat' and for 'dog'"),
        ({"cat": [" "]}, {}, "a name of 'cat' is empty"),
        ({}, {"cat": [""]}, "hypernyms: a name is empty"),
        ({}, {"man": ["person"]}, "is a kind of itself"),
    ],
)
def test_a_table_that_contradicts_itself_is_refused(names, kinds, message):
    with pytest.raises(ConfigError, match=message):
        read_synonyms(names, kinds)


@pytest.mark.parametrize("table", [NAMES, KINDS])
def test_shipped_tables_are_sorted_and_say_nothing_twice(table):
    assert list(table) == sorted(table)
    for name, others in table.items():
        listed = others.split(", ")
        assert len(set(listed)) == len(listed), name
        assert {word == " ".join(word.split()).lower() for word in (name, *listed)} == {True}
    if table is KINDS:
        assert {name: kinds for name, kinds in table.items() if not _is_sorted(kinds)} == {}


def _is_sorted(names):
    return names.split(", ") == sorted(names.split(", "))


@pytest.mark.parametrize("name", [name for name in COCO if name not in ("broccoli", "skis")])
def test_singular_takes_back_the_plural_of_every_coco_name(name):
    assert singular(plural(name)) == name
    assert singular(name) == name


@pytest.mark.parametrize(
    ("many", "one"),
    [
        ("women", "woman"),
        ("snowmen", "snowman"),
        ("penknives", "penknife"),
        ("specimen", "specimen"),
        ("houses", "house"),
        ("blouses", "blouse"),
        ("octopuses", "octopus"),
        ("dresses", "dress"),
        ("lenses", "lens"),
        ("ties", "tie"),
        ("movies", "movie"),
        ("babies", "baby"),
        ("tomatoes", "tomato"),
        ("shoes", "shoe"),
        ("cups of coffee", "cup of coffee"),
        ("beer glasses", "beer glass"),
        ("sun glasses", "sun glasses"),
        ("glasses", "glasses"),
        ("trousers", "trousers"),
        ("clothes", "clothes"),
        ("grass", "grass"),
        ("dishes", "dish"),
        ("Men", "man"),
    ],
)
def test_singular_of_plurals(many, one):
    assert singular(many) == one
