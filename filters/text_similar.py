"""Which texts of a group say nearly the same, without comparing every two."""

from typing import NamedTuple

import numpy as np
import pyarrow as pa

from filters.columns import Flags, Floats, Indices, groups_of
from filters.text_words import normalised, text_words


class Losses(NamedTuple):
    """Places that lose, those they lose against, and how similar they are; shapes (m,)."""

    worse: Indices
    better: Indices
    similarity: Floats


class _Features(NamedTuple):
    """Words and pairs of neighbours of k texts, distinct in each: whose, and which; shapes (m,)."""

    owner: Indices
    codes: Indices


def near_duplicates(
    texts: pa.Array, indices: Indices, groups: Indices, max_similarity: float, *, num_fixed: int = 0
) -> Losses:
    """Greedy choice among places that each hold a text, best first: the best of a group is kept.

    Args:
        texts: Distinct texts.
        indices: The text of each place, shape (n,).
        groups: Only places of one group are compared, shape (n,).
        max_similarity: Above it a place loses to a better one that is kept.
        num_fixed: The first so many places are kept whatever they say.

    Returns:
        Every loss, against the best kept place that is too similar.
    """
    plain = normalised(texts).dictionary_encode()
    said = plain.indices.to_numpy(zero_copy_only=False).astype(np.int64)[indices]
    same = groups_of(groups, said)
    _, first, inverse = np.unique(same, return_index=True, return_inverse=True)
    leader = first[inverse]  # of several that say the very same: the best
    features = _features(texts)
    has_words = (np.bincount(features.owner, minlength=len(texts)) > 0)[indices]
    places = np.flatnonzero((leader == np.arange(len(leader))) & has_words)
    pairs = _similar_pairs(features, indices[places], groups[places], max_similarity)
    winner, measured = _decide(len(places), pairs, places[pairs.worse] >= num_fixed)
    lost = np.full(len(leader), -1, np.int64)
    lost[places] = np.append(places, -1)[winner]
    share = np.ones(len(leader), np.float32)
    share[places[winner >= 0]] = measured[winner >= 0]
    copies = np.flatnonzero((leader != np.arange(len(leader))) & has_words)
    copies = copies[(copies >= num_fixed) & (max_similarity < 1)]
    led = leader[copies]
    lost[copies] = np.where(lost[led] >= 0, lost[led], led)
    share[copies] = share[led]
    losers = np.flatnonzero(lost >= 0)
    return Losses(losers, lost[losers], share[losers])


def _features(texts: pa.Array) -> _Features:
    owner, codes, vocabulary = text_words(texts)
    neighbours = owner[1:] == owner[:-1]
    pairs = (codes[:-1] + 1) * len(vocabulary) + codes[1:]
    keys = groups_of(
        np.concatenate([owner, owner[1:][neighbours]]), np.concatenate([codes, pairs[neighbours]])
    )
    _, kept = np.unique(keys, return_index=True)
    all_owners = np.concatenate([owner, owner[1:][neighbours]])[kept]
    all_codes = np.concatenate([codes, pairs[neighbours]])[kept]
    order = np.argsort(all_owners, kind="stable")
    return _Features(all_owners[order], groups_of(all_codes[order]))


def _similar_pairs(features: _Features, said: Indices, groups: Indices, least: float) -> Losses:
    """Pairs of places of one group whose texts are more similar than `least`.

    Two sets that share so much share one of their rarest features too, the first
    `size - ceil(least * size) + 1` of each in one order (prefix filter, Chaudhuri et al. 2006), so
    that only places meeting in such a one are compared.
    """
    sizes_of_texts = np.bincount(features.owner, minlength=said.max(initial=-1) + 1)
    starts = np.cumsum(sizes_of_texts) - sizes_of_texts
    sizes = sizes_of_texts[said]
    rarity = np.bincount(features.codes)[features.codes]
    rank = np.lexsort((features.codes, rarity, features.owner))
    codes = features.codes[rank]  # of each text the rarest first
    heads = np.minimum(sizes - np.ceil(least * sizes).astype(np.int64) + 1, sizes)
    place, at = _ranges(starts[said], heads)
    keys = groups_of(groups[place], codes[at])
    order = np.lexsort((place, keys))
    place, keys = place[order], keys[order]
    later, earlier = _meetings(keys)
    found = np.unique(np.stack([place[later], place[earlier]], axis=1), axis=0)
    fits = np.minimum(sizes[found[:, 0]], sizes[found[:, 1]]) >= least * np.maximum(
        sizes[found[:, 0]], sizes[found[:, 1]]
    )
    one, other = found[fits, 0], found[fits, 1]
    shared = _shared(codes, starts[said], sizes, one, other)
    similarity = (shared / np.maximum(sizes[one] + sizes[other] - shared, 1)).astype(np.float32)
    alike = similarity > np.float32(least)
    return Losses(one[alike], other[alike], similarity[alike])


def _ranges(starts: Indices, lengths: Indices) -> tuple[Indices, Indices]:
    """Every number of the ranges `start .. start + length`: whose, and which."""
    owner = np.repeat(np.arange(len(starts)), lengths)
    before = np.cumsum(lengths) - lengths
    return owner, np.arange(len(owner)) - before[owner] + starts[owner]


def _meetings(keys: Indices) -> tuple[Indices, Indices]:
    """All pairs of positions with equal keys, the keys being sorted: the later, the earlier."""
    starts = np.flatnonzero(np.diff(keys, prepend=-1))
    first = np.repeat(starts, np.diff(starts, append=len(keys)))
    return _ranges(first, np.arange(len(keys)) - first)


def _shared(
    codes: Indices, starts: Indices, sizes: Indices, one: Indices, other: Indices
) -> Indices:
    """How many features both places of each pair have, shape (m,)."""
    owner, at = _ranges(starts[one], sizes[one])
    owner_too, at_too = _ranges(starts[other], sizes[other])
    width = codes.max(initial=0) + 1
    both = np.isin(owner * width + codes[at], owner_too * width + codes[at_too])
    return np.bincount(owner[both], minlength=len(one))


def _decide(count: int, pairs: Losses, counts: Flags) -> tuple[Indices, Floats]:
    """The best kept place each of `count` places loses against, -1 where it is kept, and by what.

    Only the pairs that count are fought, in the order of the worse place: what is better is decided
    by then.
    """
    lost, share = np.full(count, -1, np.int64), np.zeros(count, np.float32)
    worse, better, similarity = (column[counts] for column in pairs)
    order = np.lexsort((better, worse))
    for loser, winner, how in zip(worse[order], better[order], similarity[order], strict=True):
        if lost[loser] < 0 and lost[winner] < 0:
            lost[loser], share[loser] = winner, how
    return lost, share
