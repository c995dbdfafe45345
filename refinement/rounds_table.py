"""The rounds of a refinement as tables for the terminal."""

from collections.abc import Iterable, Sequence

from rich.console import Group
from rich.markup import escape
from rich.table import Table

from refinement.decisions import OUTCOMES
from refinement.series import Round, Series


def rounds_table(series: Series) -> Group:
    """Quality and cost of each round, the starting labels first, counts by outcome, and reasons.

    Two tables: numbers of one would be cut in a terminal of 80 characters.
    """
    measured = ("F1", "precision", "recall") if series.rounds[0].family is not None else ()
    quality = _table("rounds", ("version", *measured, "agreement", "kept", "minutes"))
    for each in series.rounds:
        numbers = [each.f1, each.precision, each.recall] if measured else []
        quality.add_row(
            escape(each.version) + ("" if each.accepted else " (back)"),
            *map(_share, (*numbers, each.agreement)),
            f"{each.kept:,}",
            f"{sum(each.cost.values()) / 60:.1f}" if each.cost else "-",
        )
    outcomes = _table("what became of labels and predictions", ("version", *OUTCOMES))
    for each in series.rounds[1:]:
        outcomes.add_row(escape(each.version), *(_count(each, name) for name in OUTCOMES))
    return Group(quality, *([outcomes] if len(series.rounds) > 1 else []), *_told(series))


def _table(title: str, names: Sequence[str]) -> Table:
    table = Table(title=title, title_justify="left", padding=(0, 0))
    for name in names:
        table.add_column(name, no_wrap=True, justify="left" if name == "version" else "right")
    return table


def _told(series: Series) -> Iterable[str]:
    for each in series.rounds[1:]:
        verdict = "accepted" if each.accepted else "rolled back, the labels are as they were"
        yield escape(f"{each.version}: {verdict}: {each.reason}")
    yield escape(f"ended: {series.ended}" if series.ended else "not ended: run it again to go on")
    if series.model:
        yield escape(f"model: {series.model}")


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(made: Round, outcome: str) -> str:
    return f"{made.outcomes.get(outcome, 0):,}"
