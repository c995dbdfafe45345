"""Which task comes when, and in which order its examples do."""

import math
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from refinement.pairs.mixture import Mixture
from refinement.pairs.permutation import permuted

WEIGHTS = st.lists(st.floats(1e-3, 1e3), min_size=1, max_size=15).map(
    lambda weights: {f"task-{n}": weight for n, weight in enumerate(weights)}
)


@pytest.mark.parametrize(
    "weights",
    [
        pytest.param({}, id="none"),
        pytest.param({"od": 0.0}, id="zero"),
        pytest.param({"od": 1.0, "ocr": -1.0}, id="negative"),
        pytest.param({"od": math.inf}, id="infinite"),
        pytest.param({"od": math.nan}, id="no-number"),
    ],
)
def test_weights_that_are_no_shares_are_refused(weights):
    with pytest.raises(ValueError, match="all must be above 0 and finite"):
        Mixture(weights)


def test_there_is_no_place_before_the_first():
    with pytest.raises(IndexError, match="place -1 of a stream"):
        Mixture({"od": 1}).at(-1)


def test_one_task_has_every_place():
    assert [Mixture({"od": 0.3}).at(place) for place in (0, 1, 10**12)] == [
        ("od", 0),
        ("od", 1),
        ("od", 10**12),
    ]


@settings(max_examples=40, deadline=None)
@given(WEIGHTS)
def test_every_prefix_has_the_share_of_every_task_give_or_take_two(weights):
    mixture, seen = Mixture(weights), Counter()
    total = sum(weights.values())
    for place in range(600):
        task, draw = mixture.at(place)
        assert draw == seen[task]  # no draw is left out, none comes twice
        seen[task] += 1
        for name, weight in weights.items():
            assert abs(seen[name] - (place + 1) * weight / total) < 2


@settings(max_examples=40, deadline=None)
@given(WEIGHTS, st.integers(0, 10**11))
def test_far_places_keep_the_shares_as_well(weights, start):
    mixture, total = Mixture(weights), sum(weights.values())
    draws = {}
    for place in range(start, start + 50):
        task, draw = mixture.at(place)
        share = mixture.shares[task]
        assert math.isclose(share, weights[task] / total)
        assert abs(draw - place * share) < 3  # as many as came before, this one aside
        assert draw == draws.get(task, draw - 1) + 1
        draws[task] = draw


def test_a_task_of_next_to_no_weight_comes_at_last_and_in_order():
    mixture = Mixture({"rare": 1e-30, "od": 1.0})
    assert mixture.at(10**6) == ("od", 10**6)
    assert mixture.at(2**63) == ("rare", 0)


@settings(max_examples=150, deadline=None)
@given(st.integers(1, 700), st.integers(0, 2**64 - 1))
def test_a_permutation_has_every_place_once(size, key):
    assert sorted(permuted(place, size, key) for place in range(size)) == list(range(size))


@pytest.mark.parametrize("size", [2**k + d for k in (1, 5, 10) for d in (-1, 0, 1)])
def test_sizes_around_powers_of_two_are_permuted_too(size):
    assert len({permuted(place, size, 5) for place in range(size)}) == size


@pytest.mark.parametrize("place", [-1, 3])
def test_a_place_that_is_not_there_is_refused(place):
    with pytest.raises(IndexError, match=f"place {place} of 3"):
        permuted(place, 3, key=0)


def test_places_of_huge_sizes_are_computed_one_by_one():
    size = 10**15 + 7
    found = {permuted(place, size, key=1) for place in range(1000)}
    assert len(found) == 1000
    assert max(found) - min(found) > size // 2


@settings(max_examples=30, deadline=None)
@given(st.integers(0, 2**64 - 1), st.integers(0, 2**64 - 1))
def test_another_key_gives_another_order(one, other):
    orders = [[permuted(place, 300, key) for place in range(300)] for key in (one, other)]
    assert (orders[0] == orders[1]) == (one == other)
    assert orders[0] != list(range(300))


@pytest.mark.parametrize("size", [2, 3, 5, 8])
def test_over_many_keys_every_place_goes_everywhere_equally_often(size):
    counts = Counter(
        (place, permuted(place, size, key)) for key in range(3000) for place in range(size)
    )
    expected = 3000 / size
    assert len(counts) == size**2
    assert all(abs(count - expected) < 5 * math.sqrt(expected) for count in counts.values())


def test_orders_of_three_are_all_met_about_equally_often():
    met = Counter(tuple(permuted(place, 3, key * 977) for place in range(3)) for key in range(3000))
    assert len(met) == 6
    assert all(350 < count < 650 for count in met.values())
