"""What `rounds.json` holds: the rounds of a refinement, what each measured and what it cost."""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.config import difference
from engine.errors import ConfigError
from engine.output import read_if_there
from engine.source.shapes import Location

ROUNDS = "rounds.json"


@dataclass(frozen=True, kw_only=True)
class Round:
    """One round; the first entry of a series is the labels it started from.

    Attributes:
        round: Its number, which its rows bear; 0 for the starting labels.
        version: The label version it wrote.
        accepted: Whether that version became the current one.
        reason: Why, or why not.
        f1, precision, recall: Of the version, against gold; null without gold or where 0/0.
        family: What was compared.
        agreement: Share of the regions it was asked about that the model confirmed, 0 to 1; null
            for the starting labels, and where there were none.
        kept: Rows kept.
        outcomes: Decisions on labels and predictions, by name.
        model: Where the model that predicted lies.
        cost: Seconds by step, those of all calls that went on with it together.
    """

    round: int
    version: str
    accepted: bool = True
    reason: str = ""
    f1: float | None = None
    precision: float | None = None
    recall: float | None = None
    family: str | None = None
    agreement: float | None = None
    kept: int = 0
    outcomes: Mapping[str, int] = field(default_factory=dict)
    model: str | None = None
    cost: Mapping[str, float] = field(default_factory=dict)

    @property
    def quality(self) -> float | None:
        """What rounds are compared by: F1 with gold, else agreement."""
        return self.agreement if self.family is None else self.f1


@dataclass(frozen=True, kw_only=True)
class Series:
    """The rounds of one refinement, and those of others before it on the same dataset.

    Attributes:
        identity: What makes two refinements the same: everything that changes a label.
        rounds: The starting labels, then each round.
        ended: Why no further round is made; null while there may be one.
        model: The deliverable checkpoint; null before the end and where nothing was trained.
        earlier: Series that ran before on this dataset, as plain data.
        first: Number of its first round.
    """

    identity: Mapping[str, Any]
    rounds: tuple[Round, ...] = ()
    ended: str | None = None
    model: str | None = None
    earlier: tuple[Mapping[str, Any], ...] = ()
    first: int = 1

    @property
    def last(self) -> Round:
        """The last one whose labels were accepted."""
        return next(each for each in reversed(self.rounds) if each.accepted)

    @property
    def next_number(self) -> int:
        """Of the next round: numbers are never used twice on one dataset."""
        return max([self.first - 1, *(each.round for each in self.rounds)]) + 1

    def with_round(self, made: Round) -> "Series":
        """The series with one more round."""
        return replace(self, rounds=(*self.rounds, made))

    def save(self, output: Location) -> None:
        """Writes it."""
        output.write(ROUNDS, (json.dumps(asdict(self), indent=1) + "\n").encode())


def read_series(output: Location) -> Series | None:
    """The series of a dataset, or null where none was begun.

    Raises:
        ConfigError: The file is broken.
    """
    raw = read_if_there(output, ROUNDS)
    if raw is None:
        return None
    try:
        content = json.loads(raw.to_pybytes())
        rounds = tuple(Round(**each) for each in content.pop("rounds"))
        content["earlier"] = tuple(content["earlier"])
        return Series(rounds=rounds, **content)
    except (ValueError, TypeError, KeyError, AttributeError) as err:
        raise ConfigError(
            f"{output.uri}: {ROUNDS} is not what a refinement writes ({err}); move it away to "
            "start a new series from the current labels"
        ) from err


def open_series(output: Location, identity: Mapping[str, Any], first: int) -> Series:
    """The series to go on with, or a new one that starts from the current labels.

    A refinement that was asked for differently is another series. It may only begin when the one
    before has ended: a crash and a changed config would leave half a round behind.

    Args:
        output: The dataset.
        identity: What makes two refinements the same.
        first: Number of the first round of a new series: one no round on the dataset has had.

    Raises:
        ConfigError: Another series has not ended.
    """
    known = read_series(output)
    if known is None:
        return Series(identity=identity, first=first)
    plain = json.loads(json.dumps(identity))
    lines = difference(known.identity, plain)
    if not lines:
        return known
    if known.ended is None:
        raise ConfigError(
            f"{output.uri}: another refinement has not ended; differences: "
            f"{'; '.join(lines)}. Go back to its settings and finish it, or move {ROUNDS} away"
        )
    before = {k: v for k, v in asdict(known).items() if k != "earlier"}
    return Series(identity=identity, earlier=(*known.earlier, before), first=first)
