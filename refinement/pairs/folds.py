"""Which part of a dataset an image belongs to, told by what is in it alone.

Exact duplicates have the same digest and so go together, whatever they are called and wherever they
lie; no image moves when others come or go.
"""

import binascii
from collections.abc import Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.uint64]
W = TypeVar("W", int, Words)

# The golden ratio's bits, as in SplitMix64: without them a word of zeros stays one.
GOLDEN = 0x9E3779B97F4A7C15
_DIGEST_HEX, _WORD_BITS = 64, 64
_MASK = 2**_WORD_BITS - 1
# The parts are independent of each other: a fold must hold its share of the held-out images.
_FOLD, _HELD_OUT = 1, 2


def fold_of(sha256: Sequence[str], num_folds: int, seed: int) -> npt.NDArray[np.int64]:
    """The fold of each image.

    Args:
        sha256: Hex digests of its encoded bytes, shape (n,).
        num_folds: 1 or more.
        seed: Another one deals them out differently.

    Returns:
        int64, shape (n,), each in 0..num_folds - 1, equally likely; nothing in, nothing out.

    Raises:
        ValueError: A digest is no sha256, or there is no fold.

    Example:
        >>> fold_of(["ab" * 32, "cd" * 32, "ab" * 32], 5, seed=0).tolist()
        [2, 1, 2]
    """
    if num_folds < 1:
        raise ValueError(f"num_folds is {num_folds}; must be 1 or more")
    return np.floor(_uniform(sha256, seed, _FOLD) * num_folds).astype(np.int64)


def is_held_out(sha256: Sequence[str], share: float, seed: int) -> npt.NDArray[np.bool_]:
    """Whether each image is of those that a training never learns from.

    Args:
        sha256: Hex digests of its encoded bytes, shape (n,).
        share: Of all images, in [0, 1]; with a larger one those held out by a smaller still are.
        seed: Another one holds out others.

    Returns:
        bool, shape (n,).

    Raises:
        ValueError: A digest is no sha256.
    """
    return _uniform(sha256, seed, _HELD_OUT) < share


def mix(words: W) -> W:
    """Scrambles 64-bit words, each to another: every bit of one depends on all bits it had.

    The finaliser of SplitMix64: Steele, Lea and Flood, "Fast splittable pseudorandom number
    generators", OOPSLA 2014, with the constants of Stafford's variant 13.

    Args:
        words: One as an int, in 0..2**64 - 1, or an array of any shape.
    """
    bits: Any = words  # int or array alike; numpy's own types know no such thing
    bits = ((bits ^ (bits >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    bits = ((bits ^ (bits >> 27)) * 0x94D049BB133111EB) & _MASK
    scrambled: W = bits ^ (bits >> 31)
    return scrambled


def key_of(*numbers: int) -> int:
    """One word of several numbers; other numbers, or another order, give another."""
    key = 0
    for number in numbers:
        key = mix(((key + GOLDEN) & _MASK) ^ (number & _MASK))
    return key


def _uniform(sha256: Sequence[str], seed: int, part: int) -> npt.NDArray[np.float64]:
    """A number in [0, 1) for each digest, the same wherever the digest, seed and part are."""
    hashed = np.full(len(sha256), key_of(seed, part), np.uint64)
    for word in _words(sha256).T:
        hashed = mix(hashed ^ word)
    # as many bits as a float64 holds exactly
    return (hashed >> np.uint64(11)).astype(np.float64) * 2.0**-53


def _words(sha256: Sequence[str]) -> Words:
    """The digests as numbers, shape (n, 4)."""
    if not len(sha256):
        return np.empty((0, 4), np.uint64)
    try:
        spelt = np.asarray(sha256, "S")
        if spelt.itemsize != _DIGEST_HEX:
            raise ValueError(f"of {spelt.itemsize} characters")
        raw = binascii.unhexlify(spelt.tobytes())
    except ValueError as err:  # binascii.Error and UnicodeEncodeError are such
        raise ValueError(f"sha256: not all are hex digests of {_DIGEST_HEX} characters") from err
    return np.frombuffer(raw, ">u8").astype(np.uint64).reshape(-1, 4)
