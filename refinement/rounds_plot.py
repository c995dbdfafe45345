"""The rounds of a refinement as one picture: quality, and what became of the labels."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from refinement.series import Round, Series

# Okabe and Ito's colours, which the colour-blind tell apart, and a mark each
_LINES = {
    "f1": ("F1", "#009E73", "^"),
    "precision": ("precision", "#0072B2", "o"),
    "recall": ("recall", "#D55E00", "s"),
}
_AGREEMENT = {"agreement": ("labels confirmed", "#CC79A7", "D")}
_BARS = {
    "confirmed": "#009E73",
    "moved": "#56B4E9",
    "renamed": "#0072B2",
    "added": "#F0E442",
    "contested": "#999999",
    "superseded": "#D55E00",
}


def plot_rounds(series: Series, path: Path) -> None:
    """Writes the picture as PNG; a round that was rolled back has hollow marks.

    Raises:
        ConfigError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.0, 3.0 + 1.4 * len(series.rounds)), 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3, 2))
    _quality(above, series.rounds)
    _outcomes(below, series.rounds)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=140, format="png")
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}; give a file that can be written") from err


def _quality(axis: Any, rounds: Sequence[Round]) -> None:
    has_gold = rounds[0].f1 is not None
    places = range(len(rounds))
    for name, (label, colour, mark) in (_LINES if has_gold else _AGREEMENT).items():
        values = [getattr(each, name) for each in rounds]
        numbers = [float("nan") if value is None else value for value in values]
        axis.plot(places, numbers, color=colour, label=label, alpha=0.6)
        for place, (each, value) in enumerate(zip(rounds, numbers, strict=True)):
            inside = colour if each.accepted else "white"
            axis.plot(place, value, mark, color=colour, markerfacecolor=inside)
    for place, each in enumerate(rounds):
        value = each.f1 if has_gold else each.agreement
        if value is not None:
            axis.annotate(
                f"{value:.3f}", (place, value), (7, -11), textcoords="offset points", fontsize=9
            )
    _ticks(axis, rounds)
    axis.set_ylim(0, 1.02)
    axis.set_title("labels against gold" if has_gold else "no gold: agreement", loc="left")
    axis.grid(axis="y", alpha=0.3)
    axis.legend(loc="lower left", fontsize=8, ncols=3, frameon=False)


def _outcomes(axis: Any, rounds: Sequence[Round]) -> None:
    bottoms = [0] * len(rounds)
    for name, colour in _BARS.items():
        counts = [each.outcomes.get(name, 0) for each in rounds]
        axis.bar(range(len(rounds)), counts, 0.6, bottoms, color=colour, label=name)
        bottoms = [bottom + count for bottom, count in zip(bottoms, counts, strict=True)]
    _ticks(axis, rounds)
    axis.set_title("what became of labels and predictions", loc="left")
    axis.legend(loc="upper left", fontsize=8, frameon=False)


def _ticks(axis: Any, rounds: Sequence[Round]) -> None:
    names = [
        "starting labels"
        if each.round == 0
        else f"round {each.round}" + ("" if each.accepted else "\nrolled back")
        for each in rounds
    ]
    axis.set_xticks(range(len(rounds)), names, fontsize=9)
    axis.set_xlim(-0.6, len(rounds) - 0.4)
