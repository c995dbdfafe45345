"""The order of an epoch without the list of it: where a place goes is computed, not looked up."""

from refinement.pairs.folds import GOLDEN, mix

# Luby and Rackoff ("How to construct pseudorandom permutations", 1988) prove four enough for wide
# halves; those of a few bits need more until every order is about as likely as any other.
_ROUNDS = 8
_WORD = 2**64 - 1


def permuted(place: int, size: int, key: int) -> int:
    """Where a place goes in the permutation of that key: no two go to one.

    A Feistel network over the least number of bits that holds the size, walked until it is back
    among the places there are, fewer than two steps on average: Black and Rogaway, "Ciphers with
    arbitrary finite domains", CT-RSA 2002.

    Args:
        place: In 0..size - 1.
        size: How many places there are, 1 or more; below 2**64.
        key: 64 bits; another one gives another permutation.

    Raises:
        IndexError: There is no such place.

    Example:
        >>> sorted(permuted(place, 5, key=7) for place in range(5))
        [0, 1, 2, 3, 4]
    """
    if not 0 <= place < size:
        raise IndexError(f"place {place} of {size}")
    num_bits = (size - 1).bit_length()
    while True:
        place = _scramble(place, num_bits, key)
        if place < size:
            return place


def _scramble(word: int, num_bits: int, key: int) -> int:
    """A word of that many bits as another: each half in turn is changed by what the other says."""
    num_low = num_bits // 2
    low_mask, high_mask = (1 << num_low) - 1, (1 << (num_bits - num_low)) - 1
    high, low = word >> num_low, word & low_mask
    for turn in range(0, _ROUNDS, 2):
        high ^= mix((key + GOLDEN * turn + low) & _WORD) & high_mask
        low ^= mix((key + GOLDEN * (turn + 1) + high) & _WORD) & low_mask
    return high << num_low | low
