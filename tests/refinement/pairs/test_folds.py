"""Which fold an image is in, and whether it is held out."""

import hashlib

import numpy as np
import pytest

from refinement.pairs.folds import fold_of, is_held_out, key_of, mix


def digests(count, start=0):
    return [hashlib.sha256(str(n).encode()).hexdigest() for n in range(start, start + count)]


def test_no_images_have_no_folds():
    assert fold_of([], 3, seed=0).tolist() == []
    assert is_held_out([], 0.5, seed=0).tolist() == []


def test_one_fold_holds_every_image():
    assert fold_of(digests(50), 1, seed=7).tolist() == [0] * 50


@pytest.mark.parametrize("num_folds", [2, 3, 10])
@pytest.mark.parametrize("seed", [0, 1, -5, 2**70])
def test_every_fold_has_its_share_of_the_images(num_folds, seed):
    counts = np.bincount(fold_of(digests(6000), num_folds, seed), minlength=num_folds)
    expected = 6000 / num_folds
    assert len(counts) == num_folds
    assert np.all(np.abs(counts - expected) < 5 * np.sqrt(expected))  # five deviations of chance


def test_digests_that_differ_in_one_character_anywhere_are_dealt_out_too():
    for place in (0, 20, 40, 63):
        near = ["0" * place + f"{n:x}" + "0" * (63 - place) for n in range(16)]
        assert len(set(fold_of(near, 4, seed=0).tolist())) > 1


def test_the_fold_of_an_image_depends_on_no_other_image():
    many = digests(100)
    alone = [fold_of([digest], 5, seed=3)[0] for digest in many]
    assert fold_of(many, 5, seed=3).tolist() == alone
    assert fold_of(many[::-1], 5, seed=3).tolist() == alone[::-1]
    assert fold_of(np.array(many), 5, seed=3).tolist() == alone


def test_another_seed_deals_the_images_out_differently():
    dealt = [fold_of(digests(4000), 2, seed) for seed in range(3)]
    for first, second in [(0, 1), (0, 2), (1, 2)]:
        assert 0.45 < np.mean(dealt[first] == dealt[second]) < 0.55


def test_the_share_held_out_is_that_of_every_fold_as_well():
    many = digests(20000)
    held_out, folds = is_held_out(many, 0.1, seed=4), fold_of(many, 2, seed=4)
    for fold in (0, 1):
        assert 0.085 < held_out[folds == fold].mean() < 0.115


def test_who_is_held_out_of_few_is_held_out_of_more():
    many = digests(2000)
    few, more = is_held_out(many, 0.02, seed=1), is_held_out(many, 0.2, seed=1)
    assert few.sum() > 0
    assert not np.any(few & ~more)
    assert not is_held_out(many, 0.0, seed=1).any()
    assert is_held_out(many, 1.0, seed=1).all()


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param([""], id="empty"),
        pytest.param(["ab" * 31], id="short"),
        pytest.param(["ab" * 33], id="long"),
        pytest.param(["ab" * 32, "ab" * 30], id="one-short"),
        pytest.param(["xy" * 32], id="not-hex"),
        pytest.param(["\u00e9" * 64], id="not-ascii"),
    ],
)
def test_what_is_no_digest_is_refused(wrong):
    with pytest.raises(ValueError, match="not all are hex digests of 64 characters"):
        fold_of(wrong, 2, seed=0)


def test_no_fold_at_all_is_refused():
    with pytest.raises(ValueError, match="num_folds is 0; must be 1 or more"):
        fold_of(digests(1), 0, seed=0)


def test_mixing_sends_no_two_words_to_one():
    words = np.arange(100_000, dtype=np.uint64)
    assert len(np.unique(mix(words))) == len(words)
    high = mix(words + np.uint64(2**64 - 10**6))
    assert [mix(2**64 - 10**6 + n) for n in range(50)] == high[:50].tolist()


def test_keys_tell_numbers_and_their_order_apart():
    numbers = [(), (0,), (0, 0), (1,), (0, 1), (1, 0), (-1,), (2, 1)]
    assert len({key_of(*some) for some in numbers}) == len(numbers)
