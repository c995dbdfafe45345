"""The rounds of a refinement as a table for the terminal."""

from rich.table import Table

from refinement.series import Round, Series

_OUTCOMES = ("confirmed", "moved", "renamed", "added", "superseded", "contested")


def rounds_table(series: Series) -> Table:
    """Quality, counts and cost of each round, the starting labels first."""
    table = Table(title="rounds", title_justify="left")
    for name in ("round", "version", ""):
        table.add_column(name)
    measured = ["F1", "precision", "recall"] if series.rounds[0].f1 is not None else []
    for name in (*measured, "agreement", "kept", *_OUTCOMES, "minutes"):
        table.add_column(name, justify="right")
    table.add_column("why", overflow="fold")
    for each in series.rounds:
        verdict = "" if each.round == 0 else "accepted" if each.accepted else "rolled back"
        numbers = [each.f1, each.precision, each.recall] if measured else []
        table.add_row(
            str(each.round),
            each.version,
            verdict,
            *map(_share, (*numbers, each.agreement)),
            f"{each.kept:,}",
            *(_count(each, name) for name in _OUTCOMES),
            f"{sum(each.cost.values()) / 60:.1f}" if each.cost else "-",
            each.reason,
        )
    told = [series.ended or "not ended: the same command goes on"]
    told += [f"model: {series.model}"] if series.model else []
    table.caption = "\n".join(told)
    table.caption_justify = "left"
    return table


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _count(made: Round, outcome: str) -> str:
    return f"{made.outcomes.get(outcome, 0):,}" if made.outcomes else "-"
