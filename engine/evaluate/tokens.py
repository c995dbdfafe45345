"""Captions as tokens, and their n-grams as numbers."""

import hashlib
import re
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from engine.evaluate.pairs import Indices

Tokenize = Callable[[str], list[str]]
Hashes = npt.NDArray[np.uint64]

MAX_N = 4  # BLEU-4 and CIDEr count n-grams of one to four tokens

# Signs that the COCO caption code drops after tokenising (pycocoevalcap, PTBTokenizer.PUNCTUATIONS)
_DROPPED = frozenset([*"'`(){}.?!,:;-", "''", "``", "--", "..."])
_QUOTES = str.maketrans({"\u2018": "'", "\u2019": "'"} | dict.fromkeys('"\u201c\u201d', " "))
_CLITIC = re.compile(r"(?<=\w)(n't|'(?:s|m|d|re|ve|ll))(?!\w)")
_TOKEN = re.compile(
    r"n't(?!\w)|'(?:s|m|d|re|ve|ll)(?!\w)"  # what was split off: do n't, man 's
    r"|(?:[^\W\d_]\.){2,}"  # u.s.
    r"|\d+(?:[.,:]\d+)+"  # 1,000 and 3.5 and 10:30
    r"|\w+(?:[-'/]\w+)*"  # black-and-white, o'clock
    r"|\.{2,}|-{2,}|[^\w\s]"
)
# Odd 64-bit numbers that spread bits (splitmix64: Steele, Lea and Flood, OOPSLA 2014).
_SPREAD = np.uint64(0x9E3779B97F4A7C15)
_MIX = np.uint64(0xBF58476D1CE4E5B9)


def ptb_tokens(text: str) -> list[str]:
    """Lower-case tokens without punctuation, near to the Penn Treebank's.

    The COCO caption code asks Stanford's PTBTokenizer, a Java program. This keeps its main rules:
    n't and 's are tokens of their own, hyphenated words and numbers stay whole, signs stand alone,
    and the signs that code drops are dropped. It differs in rare things (abbreviations such as
    "mr.", "cannot", emoticons), and drops round brackets, which that code means to drop and keeps
    as "-lrb-".

    Example:
        >>> ptb_tokens("The man's black-and-white dog doesn't bark.")
        ['the', 'man', "'s", 'black-and-white', 'dog', 'does', "n't", 'bark']
    """
    plain = _CLITIC.sub(r" \1 ", text.translate(_QUOTES).lower())
    return [token for token in _TOKEN.findall(plain) if token not in _DROPPED]


class Grams(NamedTuple):
    """The distinct n-grams of some texts, one row per text and n-gram, sorted by text.

    `texts` is the text's number, `orders` is n - 1, `hashes` names the n-gram by 64 bits (of ten
    million n-grams two are mistaken for each other with a chance of 3e-6), `counts` says how often
    it stands in the text.
    """

    texts: Indices
    orders: Indices
    hashes: Hashes
    counts: Indices


def grams_of(tokens: Sequence[Sequence[str]]) -> Grams:
    """All n-grams of one to four tokens of each text; no texts, no rows."""
    lengths = np.array([len(each) for each in tokens], np.int64)
    words = {word: i for i, word in enumerate(dict.fromkeys(w for each in tokens for w in each))}
    flat = np.array([words[word] for each in tokens for word in each], np.int64)
    spelled = np.array([_hash(word) for word in words], np.uint64)[flat]
    texts = np.repeat(np.arange(len(tokens)), lengths)
    found = []
    for order in range(MAX_N):
        grams, owners = _joined(spelled, texts, order)
        found.append((owners, np.full(len(grams), order), grams))
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    by = np.lexsort((columns[2], columns[0]))
    owners, orders, grams = (column[by] for column in columns)
    new = np.ones(len(grams), bool)
    new[1:] = (owners[1:] != owners[:-1]) | (grams[1:] != grams[:-1])
    starts = np.flatnonzero(new)
    counts = np.diff(starts, append=len(grams))
    return Grams(owners[starts], orders[starts], grams[starts], counts)


def _joined(spelled: Hashes, texts: Indices, order: int) -> tuple[Hashes, Indices]:
    """Hash and text of every run of `order` + 1 tokens inside one text."""
    count = max(0, len(spelled) - order)
    grams = np.full(count, order + 1, np.uint64)
    for step in range(order + 1):
        grams = (grams ^ spelled[step : step + count]) * _SPREAD
        grams = (grams ^ (grams >> np.uint64(29))) * _MIX
    owners = texts[:count]
    inside = owners == texts[order : order + count]
    return grams[inside], owners[inside]


def _hash(word: str) -> int:
    return int.from_bytes(hashlib.blake2b(word.encode("utf-8"), digest_size=8).digest(), "little")
