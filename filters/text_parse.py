"""Rules on what captions are made of: objects, and what is said of them (Florence-2, 4.2)."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import ClassVar

import numpy as np
import pyarrow as pa

from engine.protocols import Context, Need
from engine.schema import Tables, Verdicts
from filters.columns import Floats
from filters.parser import PARSER, Measures, text_parser, text_parser_needs
from filters.text_limits import check_limits, judge_limits

_KINDS = ("text", "region", "grounding")


def _measures(parser: str, texts: pa.Array) -> Measures:
    return text_parser(parser).measure(texts.to_pylist())


@dataclass(frozen=True, kw_only=True)
class MaxObjects:
    """Reject texts that name too many things: lists of goods and tags, noise of alt-texts.

    Judges the kinds and roles in `limits`, `kind/role` over `kind`. Measures nouns, proper ones
    too, counted as tokens; kept when measured <= limit. The paper has the rule and not its limit.
    The default for `alt` and `brief` is one above the most that 12,000 captions of Flickr8k have
    (11; 99.8 % of Conceptual Captions have no more than 12). The longer roles have as much more as
    FLD-5B's own mean number of objects grows (3.23, 13.31, 28.06; Table 3).
    """

    limits: Mapping[str, float] = field(
        default_factory=lambda: {
            "text/alt": 12,
            "text/brief": 12,
            "text/detailed": 50,
            "text/more_detailed": 104,
        }
    )
    parser: str = PARSER
    name: ClassVar[str] = "max_objects"
    applies_to: ClassVar[tuple[str, ...]] = _KINDS

    def __post_init__(self) -> None:
        check_limits(self.name, self.limits)

    def needs(self) -> list[Need]:
        """The parser's model."""
        return text_parser_needs(self.parser)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        return judge_limits(tables, self.limits, self._measure, "max")

    def _measure(self, texts: pa.Array) -> Floats:
        return _measures(self.parser, texts).objects.astype(np.float32)


@dataclass(frozen=True, kw_only=True)
class MinObjectComplexity:
    """Reject texts that say too little of any thing they name.

    Judges the kinds and roles in `limits`, `kind/role` over `kind`. Measures the highest complexity
    of an object (`filters.parser.Measures`); kept when measured >= limit. A text without an object
    is left alone. The paper has the rule and not its limit. With the default an object has two
    edges, such as an article and a verb or an adjective. Of the captions of Flickr8k 0.4 % have
    less ("Men stand on horses."), of Conceptual Captions 0.8 %, of 1,000 alt-texts of LAION 3.8 %.
    FLD-5B's brief texts have 2.80 in the mean (Table 3).
    """

    limits: Mapping[str, float] = field(default_factory=lambda: {"text": 2})
    parser: str = PARSER
    name: ClassVar[str] = "min_object_complexity"
    applies_to: ClassVar[tuple[str, ...]] = _KINDS

    def __post_init__(self) -> None:
        check_limits(self.name, self.limits)

    def needs(self) -> list[Need]:
        """The parser's model."""
        return text_parser_needs(self.parser)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        return judge_limits(tables, self.limits, self._measure, "min")

    def _measure(self, texts: pa.Array) -> Floats:
        return _measures(self.parser, texts).object_complexity


@dataclass(frozen=True, kw_only=True)
class MinActionComplexity:
    """Reject texts that say too little of what happens.

    Judges the kinds and roles in `limits`, `kind/role` over `kind`. Measures the highest complexity
    of an action (`filters.parser.Measures`); kept when measured >= limit. A text without an action
    is left alone: at least 42 % of FLD-5B's brief texts name none (0.58 per text, Table 3). The
    default is the least that open readings of CAT ask for (Fondant: 1): a verb that stands alone
    goes.
    """

    limits: Mapping[str, float] = field(default_factory=lambda: {"text": 1})
    parser: str = PARSER
    name: ClassVar[str] = "min_action_complexity"
    applies_to: ClassVar[tuple[str, ...]] = _KINDS

    def __post_init__(self) -> None:
        check_limits(self.name, self.limits)

    def needs(self) -> list[Need]:
        """The parser's model."""
        return text_parser_needs(self.parser)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        return judge_limits(tables, self.limits, self._measure, "min")

    def _measure(self, texts: pa.Array) -> Floats:
        return _measures(self.parser, texts).action_complexity
