"""Captions against references: CIDEr-D, BLEU-4 and ROUGE-L as the COCO caption code has them."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.evaluate.pairs import Flags, Indices, Numbers, candidates, shared_codes
from engine.evaluate.tokens import MAX_N, Grams, Hashes, Tokenize, grams_of, ptb_tokens

# CIDEr-D (Vedantam et al., CVPR 2015): width of the penalty on length, and the factor on the mean
_SIGMA, _SCALE = 6.0, 10.0
_BETA = 1.2  # ROUGE-L of the COCO caption code: recall counts for more than precision
_TINY, _SMALL = 1e-15, 1e-9  # BleuScorer's guards against 0/0
_MERGE_AT = 64  # pieces of counted n-grams that are held before they are added up
_AT_ONCE = 4096  # references whose n-grams are in flight


class DocumentFrequencies:
    """In how many images' references each n-gram stands: the weights of CIDEr.

    Fed before the captions, with the references of the same images; 12 bytes are kept of every
    distinct n-gram.
    """

    def __init__(self, tokenize: Tokenize = ptb_tokens) -> None:
        self.tokenize = tokenize
        self.num_images = 0
        self._pieces: list[tuple[Hashes, npt.NDArray[np.int32]]] = []

    def add(self, references: pa.Table) -> None:
        """Counts the true texts of some images; all texts of an image must come together."""
        keys = references["image_key"]
        images, _, names = shared_codes(keys, keys.slice(0, 0))
        self.num_images += len(names)
        order = np.argsort(images, kind="stable")
        texts = references["text"]
        start = 0
        while start < len(order):
            stop = min(start + _AT_ONCE, len(order))
            while stop < len(order) and images[order[stop]] == images[order[stop - 1]]:
                stop += 1
            self._count(texts.take(pa.array(order[start:stop])), images[order[start:stop]])
            start = stop

    def of(self, hashes: Hashes) -> Numbers:
        """In how many images each n-gram stands, shape (n,); 0 where in none."""
        self._merge()
        if not self._pieces:
            return np.zeros(len(hashes))
        known, counts = self._pieces[0]
        at = np.minimum(np.searchsorted(known, hashes), len(known) - 1)
        found: Numbers = np.where(known[at] == hashes, counts[at], 0).astype(np.float64)
        return found

    def _count(self, texts: pa.ChunkedArray, images: Indices) -> None:
        grams = grams_of(_tokenized(texts, self.tokenize))
        both = np.stack([images[grams.texts].astype(np.uint64), grams.hashes])
        by = np.lexsort(both)
        image, hashes = both[0][by], both[1][by]
        new = np.ones(len(hashes), bool)
        new[1:] = (hashes[1:] != hashes[:-1]) | (image[1:] != image[:-1])
        known, counts = np.unique(hashes[new], return_counts=True)
        if len(known):
            self._pieces.append((known, counts.astype(np.int32)))
        if len(self._pieces) > _MERGE_AT:
            self._merge()

    def _merge(self) -> None:
        if len(self._pieces) < 2:  # noqa: PLR2004  # one piece is merged already
            return
        hashes, counts = (np.concatenate(column) for column in zip(*self._pieces, strict=True))
        known, places = np.unique(hashes, return_inverse=True)
        sums = np.bincount(places, counts).astype(np.int32)
        self._pieces = [(known, sums)]


@dataclass(frozen=True)
class CaptionScore:
    """Means over captions; null where no caption could be compared.

    `bleu4` is of the whole corpus. `coverage` is the share of the images with references that have
    a caption.
    """

    cider_d: float | None
    bleu4: float | None
    rouge_l: float | None
    num_captions: int
    num_images: int
    num_captioned: int

    @property
    def coverage(self) -> float | None:
        """Share of the images with references that have a caption."""
        return self.num_captioned / self.num_images if self.num_images else None


class CaptionScores:
    """Scores of captions, added up shard by shard; memory does not grow.

    CIDEr-D and ROUGE-L are means over captions: an image with two captions counts twice, one
    without is not counted (`coverage` tells). Captions of images without references are left out.

    Args:
        frequencies: Of the references of all images to be compared, complete before the first
            `add`; brings the tokenizer.
        num_worlds: How many sets of captions are compared at once; see `add`.
    """

    def __init__(self, frequencies: DocumentFrequencies, *, num_worlds: int = 1) -> None:
        self._frequencies = frequencies
        self._sums = np.zeros((num_worlds, _Measures.width()))
        self._num_images = 0
        self._captioned = np.zeros(num_worlds, np.int64)

    def add(self, claimed: pa.Table, truth: pa.Table, alive: Flags | None = None) -> None:
        """Takes the captions and the references of some images.

        Args:
            claimed: Captions, one each row.
            truth: All references of the same images.
            alive: Which captions there are in each world, shape (num_worlds, n); by default all.
        """
        if alive is None:
            alive = np.ones((len(self._sums), claimed.num_rows), bool)
        mine, true, _ = shared_codes(claimed["image_key"], truth["image_key"])
        self._num_images += len(np.unique(true))
        captions = np.flatnonzero(np.isin(mine, true))
        order = np.argsort(true, kind="stable")
        tokenize = self._frequencies.tokenize
        measures = measure(
            _tokenized(claimed["text"].take(pa.array(captions)), tokenize),
            _tokenized(truth["text"].take(pa.array(order)), tokenize),
            _pairs(mine[captions], true[order]),
            self._frequencies,
        )
        there = alive[:, captions]
        self._sums += there @ measures.columns()
        for world, chosen in enumerate(there):
            self._captioned[world] += len(np.unique(mine[captions][chosen]))

    def result(self) -> list[CaptionScore]:
        """The scores of each world."""
        return [
            self._score(sums, captioned)
            for sums, captioned in zip(self._sums, self._captioned.tolist(), strict=True)
        ]

    def _score(self, sums: Numbers, captioned: int) -> CaptionScore:
        count, cider, rouge = sums[:3].tolist()
        if not count:
            return CaptionScore(None, None, None, 0, self._num_images, captioned)
        bleu = _bleu(sums[3:])
        return CaptionScore(
            cider / count, bleu, rouge / count, int(count), self._num_images, captioned
        )


class _Measures(NamedTuple):
    """What is known of each caption, each of shape (n,) or, by order, (n, 4)."""

    cider: Numbers
    rouge: Numbers
    matches: Numbers
    guesses: Numbers
    lengths: Numbers  # of the caption and of the reference nearest in length, shape (n, 2)

    def columns(self) -> Numbers:
        """All side by side after a column of ones: what adds up over captions."""
        ones = np.ones(len(self.cider))
        front = np.stack([ones, self.cider, self.rouge], axis=1)
        return np.concatenate([front, self.matches, self.guesses, self.lengths], axis=1)

    @staticmethod
    def width() -> int:
        """How many columns there are."""
        return 3 + 2 * MAX_N + 2


def measure(
    captions: Sequence[list[str]],
    references: Sequence[list[str]],
    pairs: tuple[Indices, Indices],
    frequencies: DocumentFrequencies,
) -> _Measures:
    """CIDEr-D, ROUGE-L and the counts of BLEU of each caption.

    Args:
        captions: Their tokens.
        references: Their tokens.
        pairs: Caption and reference of every comparison, sorted by caption; each caption has some.
        frequencies: The weights of CIDEr.
    """
    num = len(captions)
    mine, true = grams_of(captions), grams_of(references)
    shared = _shared(mine, true, pairs, len(references))
    sizes = [np.array([len(t) for t in each], np.int64) for each in (captions, references)]
    limit = np.zeros(len(mine.counts), np.int64)
    np.maximum.at(limit, shared.mine, true.counts[shared.true])
    matches = np.zeros((num, MAX_N))
    np.add.at(matches, (mine.texts, mine.orders), np.minimum(limit, mine.counts))
    guesses = np.maximum(0, sizes[0][:, None] - np.arange(MAX_N))
    cider = _cider(mine, true, shared, pairs, frequencies, (num, len(references)))
    nearest = _nearest_lengths(sizes[0][pairs[0]], sizes[1][pairs[1]], pairs[0], num)
    lengths = np.stack([sizes[0], nearest], axis=1)
    rouge = _rouge(captions, references, pairs)
    return _Measures(cider, rouge, matches, guesses, lengths)


class _Shared(NamedTuple):
    """Rows of both sides' n-grams that name the same one, and the comparison they belong to."""

    pairs: Indices
    mine: Indices
    true: Indices


def _shared(mine: Grams, true: Grams, pairs: tuple[Indices, Indices], num_true: int) -> _Shared:
    _, codes = np.unique(np.concatenate([mine.hashes, true.hashes]), return_inverse=True)
    width = max(1, int(codes.max()) + 1) if len(codes) else 1
    codes_mine, codes_true = codes[: len(mine.hashes)], codes[len(mine.hashes) :]
    keys = true.texts * width + codes_true
    by = np.argsort(keys)
    found = [_Shared(*(np.empty(0, np.int64) for _ in range(3)))]
    for pair, row in candidates(pairs[0], mine.texts):
        wanted = pairs[1][pair] * width + codes_mine[row]
        at = np.minimum(np.searchsorted(keys[by], wanted), max(0, len(keys) - 1))
        hit = keys[by][at] == wanted if len(keys) else np.zeros(len(wanted), bool)
        found.append(_Shared(pair[hit], row[hit], by[at[hit]]))
    return _Shared(*(np.concatenate(column) for column in zip(*found, strict=True)))


def _cider(
    mine: Grams,
    true: Grams,
    shared: _Shared,
    pairs: tuple[Indices, Indices],
    frequencies: DocumentFrequencies,
    nums: tuple[int, int],
) -> Numbers:
    (weights, norms, lengths), (weights_true, norms_true, lengths_true) = (
        _vectors(grams, frequencies, num) for grams, num in zip((mine, true), nums, strict=True)
    )
    other = weights_true[shared.true]
    products = np.minimum(weights[shared.mine], other) * other
    dots = np.zeros((len(pairs[0]), MAX_N))
    np.add.at(dots, (shared.pairs, mine.orders[shared.mine]), products)
    scale = norms[pairs[0]] * norms_true[pairs[1]]
    similar = np.where(scale > 0, dots / np.where(scale > 0, scale, 1.0), dots)
    apart = lengths[pairs[0]] - lengths_true[pairs[1]]
    similar *= np.exp(-(apart**2) / (2 * _SIGMA**2))[:, None]
    compared = np.bincount(pairs[0], minlength=nums[0])
    sums = np.bincount(pairs[0], similar.mean(axis=1), minlength=nums[0])
    return _SCALE * sums / np.maximum(compared, 1)


def _vectors(
    grams: Grams, frequencies: DocumentFrequencies, num: int
) -> tuple[Numbers, Numbers, Indices]:
    """Weight of each n-gram; norms by order, shape (num, 4); lengths, shape (num,)."""
    images = np.log(max(1.0, float(frequencies.num_images)))
    rarity = images - np.log(np.maximum(1.0, frequencies.of(grams.hashes)))
    weights = grams.counts * rarity
    squares = np.zeros((num, MAX_N))
    np.add.at(squares, (grams.texts, grams.orders), weights**2)
    pairs_of_tokens = grams.orders == 1  # the reference code takes its number for the length
    lengths = np.zeros(num, np.int64)
    np.add.at(lengths, grams.texts[pairs_of_tokens], grams.counts[pairs_of_tokens])
    return weights, np.sqrt(squares), lengths


def _nearest_lengths(mine: Indices, true: Indices, captions: Indices, num: int) -> Indices:
    """Length of the reference nearest in length to each caption, the shorter of two."""
    order = np.lexsort((true, np.abs(true - mine), captions))
    firsts = order[np.searchsorted(captions[order], np.arange(num))] if num else order
    return true[firsts]


def _bleu(counts: Numbers) -> float:
    """BLEU-4 of matches (4), guesses (4), length of the captions and of their references."""
    matches, guesses = counts[:MAX_N], counts[MAX_N : 2 * MAX_N]
    length, wanted = counts[2 * MAX_N :]
    score = float(np.prod((matches + _TINY) / (guesses + _SMALL)) ** (1 / MAX_N))
    ratio = (length + _TINY) / (wanted + _SMALL)
    return score * float(np.exp(1 - 1 / ratio)) if ratio < 1 else score


def _rouge(
    captions: Sequence[list[str]], references: Sequence[list[str]], pairs: tuple[Indices, Indices]
) -> Numbers:
    best = np.zeros((2, len(captions)))  # precision and recall, each of its own best reference
    for i, j in zip(pairs[0].tolist(), pairs[1].tolist(), strict=True):
        mine, true = captions[i], references[j]
        common = _longest_common(mine, true)
        if common:
            best[:, i] = np.maximum(best[:, i], (common / len(mine), common / len(true)))
    precision, recall = best
    below = np.where(precision > 0, recall + _BETA**2 * precision, 1.0)
    scores: Numbers = (1 + _BETA**2) * precision * recall / below
    return scores


def _longest_common(a: list[str], b: list[str]) -> int:
    """Length of the longest common subsequence, all of `b` at once in the bits of a number.

    The way of Hyyro (2004): a zero bit stands for a row in which the length grows.
    """
    places: dict[str, int] = {}
    for i, word in enumerate(b):
        places[word] = places.get(word, 0) | 1 << i
    full = (1 << len(b)) - 1
    state = full
    for word in a:
        match = state & places.get(word, 0)
        state = (state + match | state - match) & full
    return len(b) - state.bit_count()


def _pairs(mine: Indices, true: Indices) -> tuple[Indices, Indices]:
    found = list(candidates(mine, true))
    if not found:
        return np.empty(0, np.int64), np.empty(0, np.int64)
    left, right = (np.concatenate(column) for column in zip(*found, strict=True))
    return left, right


def _tokenized(texts: pa.ChunkedArray, tokenize: Tokenize) -> list[list[str]]:
    return [tokenize(text or "") for text in texts.to_pylist()]
