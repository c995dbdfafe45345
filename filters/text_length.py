"""Rules on how many words a text has, and on those it says again and again."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.protocols import Context
from engine.schema import Tables, Verdicts
from filters.columns import Floats, groups_of
from filters.text_limits import CAPTIONS, check_limits, judge_limits, judge_share
from filters.text_words import text_words, word_counts

_KINDS = ("text", "region", "grounding")


def _num_words(texts: pa.Array) -> Floats:
    return word_counts(texts).astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class MinTokens:
    """Reject texts of too few words, the empty and those of emoji alone first.

    Judges the kinds and roles in `limits`, `kind/role` over `kind`. Measures words: runs of letters
    and digits, apostrophes inside; of scripts without spaces every character. Kept when measured
    >= limit; no text at all is left alone. The default is the least that ALIGN and CC12M ask of an
    alt-text.
    """

    limits: Mapping[str, float] = field(default_factory=lambda: {"text": 3})
    name: ClassVar[str] = "min_tokens"
    applies_to: ClassVar[tuple[str, ...]] = _KINDS

    def __post_init__(self) -> None:
        check_limits(self.name, self.limits)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        return judge_limits(tables, self.limits, _num_words, "min")


@dataclass(frozen=True, kw_only=True)
class MaxTokens:
    """Reject texts of too many words: pages in an alt attribute, a model that found no end.

    Judges and measures as `min_tokens` does; kept when measured <= limit. The default for `alt` is
    CC12M's 256. Of the 40,460 captions of Flickr8k none has more than 37 words, so `brief` has 40;
    `detailed` and `more_detailed` have as much more as FLD-5B's mean number of tokens grows (7.95,
    31.65, 70.53; Table 3).
    """

    limits: Mapping[str, float] = field(
        default_factory=lambda: {
            "text/alt": 256,
            "text/brief": 40,
            "text/detailed": 160,
            "text/more_detailed": 355,
        }
    )
    name: ClassVar[str] = "max_tokens"
    applies_to: ClassVar[tuple[str, ...]] = _KINDS

    def __post_init__(self) -> None:
        check_limits(self.name, self.limits)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        return judge_limits(tables, self.limits, _num_words, "max")


@dataclass(frozen=True, kw_only=True)
class RepeatedNgram:
    """Reject texts that say the same words over and over, as models do that found no end.

    Judges rows of kind `text`, and region captions (role `brief`). Measures the share of runs of
    `n` words that stood in the text before; kept when measured <= max_share. A text shorter than
    `n` words is left alone. With the defaults none of the 40,460 captions of Flickr8k is rejected
    (they reach .3) and one of 15,840 of Conceptual Captions; a sentence said three times has .6.
    """

    n: int = 2
    max_share: float = 0.3
    name: ClassVar[str] = "repeated_ngram"
    applies_to: ClassVar[tuple[str, ...]] = ("text", "region")

    def __post_init__(self) -> None:
        if self.n < 1:
            raise ConfigError(f"rule 'repeated_ngram': n is {self.n}; it is 1 word or more")
        if not 0 <= self.max_share <= 1:
            raise ConfigError(
                f"rule 'repeated_ngram': max_share is {self.max_share}; a share lies in 0..1"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        return judge_share(tables, CAPTIONS, self._measure, self.max_share, "max")

    def _measure(self, texts: pa.Array) -> Floats:
        owner, codes, _ = text_words(texts)
        runs = np.zeros(max(len(codes) - self.n + 1, 0), np.int64)
        for offset in range(self.n):
            runs = groups_of(runs, codes[offset : offset + len(runs)])
        inside = owner[: len(runs)] == owner[len(owner) - len(runs) :]
        runs, owner = runs[inside], owner[: len(runs)][inside]
        totals = np.bincount(owner, minlength=len(texts))
        distinct = np.unique(owner * (runs.max(initial=0) + 1) + runs)
        first = np.bincount(distinct // (runs.max(initial=0) + 1), minlength=len(texts))
        share = np.full(len(texts), np.nan, np.float32)
        np.divide(totals - first, totals, out=share, where=totals > 0, casting="unsafe")
        return share
