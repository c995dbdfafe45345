"""Soft suppression: what overlapping boxes leave of each other's scores, all groups at once."""

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from filters.columns import Flags, Floats, Indices


class Decay(NamedTuple):
    """Who takes from whom, and how much.

    `pairs` are rows that meet, shape (k, 2), each pair once; `overlaps` their IoU and `left` the
    share of the worse one's score that a pair leaves, shape (k,).
    """

    pairs: Indices
    overlaps: Floats
    left: Floats


class Decayed(NamedTuple):
    """`scores` after all losses, and the row each lost to that it overlaps most, -1 for none."""

    scores: Floats
    against: Indices


def decay(meeting: Decay, scores: Floats, tiers: Indices, immune: Flags) -> Decayed:
    """Soft-NMS: the best row takes from all it meets, then the best of the rest, and so on.

    Better is the lower tier, then the higher score as it then is, then the earlier row.

    Args:
        meeting: The pairs.
        scores: Shape (n,). A row whose score is NaN takes no part.
        tiers: Shape (n,).
        immune: Rows that take and never lose, shape (n,).

    Rows that meet no better one take at the same time: nobody can change them before their turn
    comes, so the outcome is that of one row after the other, but for the order in which a score is
    multiplied (in double precision).
    """
    now = scores.astype(np.float64)
    has_score = ~np.isnan(scores)
    a, b = meeting.pairs.T
    meeting = _chosen(meeting, has_score[a] & has_score[b])
    takings = [np.empty((0, 2), np.int64)]
    overlaps = [np.empty(0, np.float32)]
    while len(meeting.pairs):
        winners, losers = _ordered(meeting.pairs, now, tiers)
        has_better = np.zeros(len(scores), bool)
        has_better[losers] = True
        turn = ~has_better[winners]
        hit = turn & ~immune[losers]
        np.multiply.at(now, losers[hit], meeting.left[hit])
        takings.append(np.stack([losers[hit], winners[hit]], axis=1))
        overlaps.append(meeting.overlaps[hit])
        meeting = _chosen(meeting, ~turn)
    against = np.full(len(scores), -1, np.int64)
    lost, taker = np.concatenate(takings).T
    least_first = np.lexsort((-taker, np.concatenate(overlaps)))
    against[lost[least_first]] = taker[least_first]  # the last write wins: the largest overlap
    return Decayed(now.astype(np.float32), against)


def _chosen(meeting: Decay, chosen: Flags) -> Decay:
    return Decay(meeting.pairs[chosen], meeting.overlaps[chosen], meeting.left[chosen])


def _ordered(
    pairs: Indices, scores: npt.NDArray[np.float64], tiers: Indices
) -> tuple[Indices, Indices]:
    """The better and the worse row of each pair."""
    a, b = np.sort(pairs, axis=1).T
    better = (tiers[a] < tiers[b]) | ((tiers[a] == tiers[b]) & (scores[a] >= scores[b]))
    return np.where(better, a, b), np.where(better, b, a)
