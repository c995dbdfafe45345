"""Images of the truth and of the dataset are paired by their names, and never by a guess."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.evaluate.join import join_images


def pairs(truth, dataset):
    found = join_images(truth, dataset).partners.tolist()
    return {truth[i]: dataset[j] for i, j in enumerate(found) if j >= 0}


def test_nothing_joins_nothing():
    assert pairs([], ["a.jpg"]) == pairs(["a.jpg"], []) == {}
    assert join_images(["a.jpg"], []).missing == [0]


@pytest.mark.parametrize(
    ("truth", "dataset", "how"),
    [
        pytest.param("a/1.jpg", "a/1.jpg", "uri", id="same"),
        pytest.param("./a//1.jpg", "a/1.jpg", "uri", id="spelled-otherwise"),
        pytest.param("a\\1.jpg", "a/1.jpg", "uri", id="windows"),
        pytest.param("cafe\u0301.jpg", "caf\u00e9.jpg", "uri", id="accent-apart"),
        pytest.param("1.jpg", "val2017/1.jpg", "path", id="file-name"),
        pytest.param("data/val/1.jpg", "val/1.jpg", "path", id="longer-truth"),
        pytest.param("https://h.org/x/1.jpg?s=2", "1.jpg", "path", id="address"),
        pytest.param("gt/1.txt", "images/1.jpg", "stem", id="other-ending"),
        pytest.param("a.b.png", "x/a.b.jpg", "stem", id="dotted-name"),
    ],
)
def test_images_are_joined(truth, dataset, how):
    found = join_images(["other.jpg", truth], [dataset, "none.jpg"])
    assert found.partners.tolist() == [-1, 0]
    assert found.num_by[how] == sum(found.num_by.values()) == 1
    assert (found.missing, found.ambiguous) == ([0], [])


@pytest.mark.parametrize(
    ("truth", "dataset"),
    [
        pytest.param(["1.jpg"], ["a/1.jpg", "b/1.jpg"], id="two-in-the-dataset"),
        pytest.param(["a/1.jpg", "b/1.jpg"], ["1.jpg"], id="two-in-the-truth"),
        pytest.param(["1.txt"], ["1.jpg", "1.png"], id="two-endings"),
        pytest.param(["1.jpg", "1.jpg"], ["1.jpg"], id="listed-twice"),
        pytest.param(["c/1.jpg"], ["a/1.jpg", "b/1.jpg"], id="in-neither-folder"),
    ],
)
def test_what_could_be_several_images_is_none(truth, dataset):
    found = join_images(truth, dataset)
    assert (found.partners == -1).all()
    assert found.ambiguous == list(range(len(truth)))
    assert found.missing == []


def test_the_longer_end_decides_and_leaves_no_rest_to_guess():
    truth, dataset = ["val/1.jpg", "test/1.jpg"], ["x/val/1.jpg", "x/train/1.jpg"]
    assert pairs(truth, dataset) == {"val/1.jpg": "x/val/1.jpg"}
    assert join_images(truth, dataset).ambiguous == [1]


def test_an_image_without_a_name_joins_none():
    found = join_images(["", "a.jpg"], ["a.jpg", ""])
    assert found.partners.tolist() == [-1, 0]
    assert found.missing == [0]


names = st.lists(
    st.lists(st.sampled_from(["a", "b", "c"]), min_size=1, max_size=3).map("/".join),
    max_size=6,
    unique=True,
)


@given(names, names)
@settings(max_examples=300, deadline=None)
def test_every_image_has_at_most_one_partner_and_every_truth_one_fate(truth, dataset):
    found = join_images(truth, dataset)
    used = found.partners[found.partners >= 0].tolist()
    assert len(set(used)) == len(used) == sum(found.num_by.values())
    alone = [i for i, partner in enumerate(found.partners.tolist()) if partner < 0]
    assert sorted([*found.ambiguous, *found.missing]) == alone
    for i, partner in enumerate(found.partners.tolist()):
        if partner >= 0:
            assert truth[i].split("/")[-1] == dataset[partner].split("/")[-1]
        if truth[i] in dataset:
            assert partner == dataset.index(truth[i])
