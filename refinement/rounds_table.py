"""The rounds of a refinement as a table for the terminal."""

from rich.markup import escape
from rich.table import Table

from refinement.series import Round, Series

_OUTCOMES = ("confirmed", "moved", "renamed", "added", "superseded", "contested")


def rounds_table(series: Series) -> Table:
    """Quality, counts and cost of each round, the starting labels first."""
    table = Table(title="rounds", title_justify="left", caption_justify="left", padding=(0, 0))
    table.add_column("version", no_wrap=True)
    measured = ["F1", "prec.", "recall"] if series.rounds[0].f1 is not None else []
    for name in (*measured, "agree", "kept", *_OUTCOMES, "min."):
        table.add_column(name, justify="right", no_wrap=True)
    for each in series.rounds:
        numbers = [each.f1, each.precision, each.recall] if measured else []
        table.add_row(
            escape(each.version) + ("" if each.accepted else " (back)"),
            *map(_share, (*numbers, each.agreement)),
            f"{each.kept:,}",
            *(_count(each, name) for name in _OUTCOMES),
            f"{sum(each.cost.values()) / 60:.1f}" if each.cost else "-",
        )
    table.caption = escape("\n".join(_told(series)))
    return table


def _told(series: Series) -> list[str]:
    lines = [
        f"{each.version}: {'accepted' if each.accepted else 'rolled back'}, {each.reason}"
        for each in series.rounds[1:]
    ]
    lines.append(f"ended: {series.ended}" if series.ended else "not ended: run it again to go on")
    return [*lines, *([f"model: {series.model}"] if series.model else [])]


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(made: Round, outcome: str) -> str:
    return f"{made.outcomes.get(outcome, 0):,}" if made.outcomes else "-"
