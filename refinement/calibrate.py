"""What a model's certainty is worth: scores turned into shares of answers that were right.

Isotonic regression by pooling adjacent violators (Zadrozny and Elkan, "Transforming classifier
scores into accurate multiclass probability estimates", 2002), or one temperature on the log-odds
(Guo et al., "On calibration of modern neural networks", 2017), whose expected calibration error is
the one reported.

What is right is best said by gold. Where labels say it, the shares are biased: a prediction that
contradicts a wrong label counts as wrong, so agreement is a lower bound of being right.
"""

import json
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import ConfigError
from refinement.match import Flags, Floats, has_place, match, row_certainty

Method = Literal["isotonic", "temperature"]
_NUM_BINS = 15  # of the calibration error, as in Guo et al.
_EDGE = 1e-6  # scores are kept this far from 0 and 1, whose log-odds are infinite
_COLDEST, _HOTTEST = 1e-2, 1e2  # inverse temperatures tried
_HALVINGS = 60  # of that range: to the last bit of a double
_Doubles = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """A rising function from a model's scores to shares that are right.

    Attributes:
        method: How it was found.
        scores: Isotonic: where the function is pinned, rising; between them it is straight.
        shares: Its values there.
        temperature: Of the other method: log-odds are divided by it; null for isotonic.
        num_examples: Scored answers it was learned from.
        error_before: Expected calibration error of the raw scores, 0 to 1.
        error_after: The same of calibrated scores, each half of the examples calibrated by what the
            other half taught.
    """

    method: Method
    scores: tuple[float, ...] = ()
    shares: tuple[float, ...] = ()
    temperature: float | None = None
    num_examples: int = 0
    error_before: float = 0.0
    error_after: float = 0.0

    def apply(self, scores: Floats | _Doubles) -> Floats:
        """Calibrated scores, shape (n,); NaN, which stands for no score, stays NaN."""
        given = np.asarray(scores, np.float64)
        if self.temperature is None:
            made = np.interp(given, self.scores, self.shares)
        else:
            made = _sigmoid(_log_odds(given) / self.temperature)
        return np.where(np.isnan(given), np.nan, made).astype(np.float32)

    def to_json(self) -> str:
        """One line of JSON."""
        return json.dumps(asdict(self), sort_keys=True)

    @classmethod
    def from_json(cls, text: str) -> "Calibration":
        """What `to_json` wrote.

        Raises:
            ConfigError: It is something else.
        """
        try:
            found = json.loads(text)
            for name in ("scores", "shares"):
                found[name] = tuple(float(number) for number in found[name])
            made = cls(**found)
        except (ValueError, TypeError, KeyError) as err:
            raise ConfigError(
                f"calibration: not what `Calibration.to_json` writes: {err}; fit it again"
            ) from err
        made._check()
        return made

    def _check(self) -> None:
        if self.method == "temperature":
            right = self.temperature is not None and self.temperature > 0
        else:
            falls = any(np.diff(side).min(initial=0) < 0 for side in (self.scores, self.shares))
            right = len(self.scores) == len(self.shares) > 0 and not falls
        if self.method not in ("isotonic", "temperature") or not right:
            raise ConfigError(
                f"calibration: method {self.method!r} with {len(self.scores)} scores, "
                f"{len(self.shares)} shares and temperature {self.temperature}; isotonic has as "
                "many rising shares as scores, temperature one number above 0; fit it again"
            )


def fit(scores: Floats, correct: Flags, *, method: Method = "isotonic") -> Calibration:
    """Learns what scores are worth.

    Args:
        scores: In [0, 1], shape (n,); NaN where an answer has none, which teaches nothing.
        correct: Whether each answer was right, shape (n,).
        method: `isotonic` follows any shape and wants some hundreds of answers; `temperature` has
            one number to learn.

    Raises:
        ConfigError: No answer has a score, or a score is outside 0 to 1.
    """
    known = ~np.isnan(scores)
    given, right = np.asarray(scores, np.float64)[known], np.asarray(correct, bool)[known]
    if not len(given):
        raise ConfigError(
            f"calibration: none of {len(scores)} predictions has a score; "
            "it can only be learned from those that have one"
        )
    if given.min() < 0 or given.max() > 1:
        raise ConfigError(
            f"calibration: scores from {given.min():.3g} to {given.max():.3g}; they lie in 0 to 1"
        )
    before, after = calibration_error(given, right), _cross_error(given, right, method)
    return _learned(given, right, method, before, after)


def agreement(
    predictions: pa.Table, reference: pa.Table, *, agree_iou: float = 0.5
) -> tuple[Floats, Flags]:
    """What `fit` learns from: how sure each prediction is, and whether the reference has it too.

    Args:
        predictions: Claims with ids, of images the reference covers.
        reference: Gold, or labels, which make it a lower bound. What is marked `ignore` there
            neither confirms nor contradicts: such predictions are NaN.
        agree_iou: 0.5, as PASCAL VOC and COCO count a hit.

    Returns:
        Certainty, shape (n,), and whether a row of the same text overlaps by `agree_iou`, each row
        of the reference once. What cannot be compared (`refinement.match.has_place`) is NaN.
    """
    reference = reference.filter(pa.array(has_place(reference)))
    ignored = np.asarray(reference["ignore"].fill_null(False).to_numpy(), bool)
    crowds, others = (reference.filter(pa.array(part)) for part in (ignored, ~ignored))
    can = np.flatnonzero(has_place(predictions))
    said = predictions.take(pa.array(can))
    matched = match(others, said, crowds, agree_iou=agree_iou, near_iou=agree_iou)
    scores = np.full(predictions.num_rows, np.nan, np.float32)
    correct = np.zeros(predictions.num_rows, bool)
    agrees = can[matched.partner[(matched.partner >= 0) & matched.same_text]]
    correct[agrees] = True
    scores[can] = np.where(matched.inside_ignored, np.nan, row_certainty(said))
    scores[agrees] = row_certainty(predictions)[agrees]
    return scores, correct


def calibration_error(scores: _Doubles, correct: Flags) -> float:
    """Expected calibration error: the mean gap of score and share right, over 15 equal bins.

    Args:
        scores: In [0, 1], shape (n,), n > 0.
        correct: Shape (n,).
    """
    bins = np.minimum((np.asarray(scores, np.float64) * _NUM_BINS).astype(np.int64), _NUM_BINS - 1)
    gaps = np.bincount(bins, scores, _NUM_BINS) - np.bincount(bins, correct, _NUM_BINS)
    return float(np.abs(gaps).sum() / len(scores))


def _cross_error(scores: _Doubles, correct: Flags, method: Method) -> float:
    """The error of each half under what the other half taught; halves alternate by score."""
    order = np.lexsort((correct, scores))
    halves = order[::2], order[1::2]
    if not len(halves[1]):
        return calibration_error(scores, correct)
    made = np.empty(len(scores))
    for own, other in (halves, halves[::-1]):
        made[own] = _learned(scores[other], correct[other], method).apply(scores[own])
    return calibration_error(made, correct)


def _learned(
    scores: _Doubles, correct: Flags, method: Method, before: float = 0.0, after: float = 0.0
) -> Calibration:
    pinned: tuple[tuple[float, ...], tuple[float, ...]] = ((), ())
    temperature = None
    if method == "isotonic":
        pinned = _pool(scores, correct)
    else:
        temperature = 1 / _inverse_temperature(scores, correct)
    return Calibration(
        method=method,
        scores=pinned[0],
        shares=pinned[1],
        temperature=temperature,
        num_examples=len(scores),
        error_before=before,
        error_after=after,
    )


def _pool(scores: _Doubles, correct: Flags) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Ends of blocks of scores and the share right in each, neighbours pooled until none falls."""
    distinct, which = np.unique(scores, return_inverse=True)
    sizes = np.bincount(which)
    hits = np.bincount(which, correct)
    blocks: list[tuple[float, float, int, int]] = []  # hits, size, first and last distinct score
    for place, (hit, size) in enumerate(zip(hits.tolist(), sizes.tolist(), strict=True)):
        block = (hit, size, place, place)
        while blocks and blocks[-1][0] * block[1] >= block[0] * blocks[-1][1]:
            last = blocks.pop()
            block = (last[0] + block[0], last[1] + block[1], last[2], place)
        blocks.append(block)
    pins = {float(distinct[end]): hit / size for hit, size, *ends in blocks for end in ends}
    return tuple(pins), tuple(pins.values())


def _inverse_temperature(scores: _Doubles, correct: Flags) -> float:
    """Where the likelihood of the answers is largest: its slope falls, so halve the range."""
    odds = _log_odds(scores)
    low, high = _COLDEST, _HOTTEST
    for _ in range(_HALVINGS):
        middle = float(np.sqrt(low * high))
        slope = float(((correct - _sigmoid(odds * middle)) * odds).sum())
        low, high = (middle, high) if slope > 0 else (low, middle)
    return low


def _log_odds(scores: _Doubles) -> _Doubles:
    inner = np.clip(scores, _EDGE, 1 - _EDGE)
    odds: _Doubles = np.log(inner) - np.log1p(-inner)
    return odds


def _sigmoid(odds: _Doubles) -> _Doubles:
    shares: _Doubles = 0.5 * (1 + np.tanh(odds / 2))  # never overflows
    return shares
