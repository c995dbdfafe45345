"""The rounds of a refinement as one picture: quality, and what became of the labels."""

import math
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
_AGREEMENT = {"agreement": ("regions confirmed", "#CC79A7", "D")}
_BARS = {
    "confirmed": "#009E73",
    "moved": "#56B4E9",
    "renamed": "#0072B2",
    "added": "#F0E442",
    "contested": "#999999",
    "superseded": "#D55E00",
}


_DODGE = 0.07  # between marks of one round, of the distance of two rounds


def plot_rounds(series: Series, path: Path) -> None:
    """Writes the picture as PNG; a round that was rolled back has hollow marks and a dotted line.

    Raises:
        ConfigError: The file cannot be written.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(max(6.4, 3.8 + 1.3 * len(series.rounds)), 6.4), layout="constrained")
    above, below = figure.subplots(2, 1, height_ratios=(3, 2), sharex=True)
    _quality(above, series.rounds)
    _outcomes(below, series.rounds)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=140, format="png")
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}; give a file that can be written") from err


def _quality(axis: Any, rounds: Sequence[Round]) -> None:
    """What was measured, side by side where numbers are alike, and the first of it in words."""
    has_gold = rounds[0].family is not None
    lines = _LINES if has_gold else _AGREEMENT
    for number, (name, (label, colour, mark)) in enumerate(lines.items()):
        shift = _DODGE * (number - (len(lines) - 1) / 2)
        _line(axis, rounds, name, shift, label=label, color=colour, marker=mark)
    measured = [[getattr(each, name) for name in lines] for each in rounds]
    known = [[value for value in values if value is not None] for values in measured]
    first = next(iter(lines.values()))
    for place, values in enumerate(measured):
        if values[0] is not None:
            place_above = (place, max(known[place]))
            told = f"{first[0]} {values[0]:.3f}" if has_gold else f"{values[0]:.3f}"
            text = axis.annotate(
                told, place_above, (0, 9), textcoords="offset points", ha="center", fontsize=9
            )
            text.set_bbox({"facecolor": "white", "edgecolor": "none", "alpha": 0.85, "pad": 1})
    lowest = min((value for values in known for value in values), default=0.0)
    axis.set_ylim(max(0.0, math.floor(10 * lowest - 0.5) / 10), 1.08)
    axis.set_yticks([tick for tick in axis.get_yticks() if tick <= 1 + _DODGE])
    axis.set_title("labels against gold" if has_gold else "no gold: agreement", loc="left")
    axis.grid(axis="y", alpha=0.3)
    axis.tick_params(labelbottom=False)
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False)


def _line(axis: Any, rounds: Sequence[Round], name: str, shift: float, **look: Any) -> None:
    """Through the accepted rounds, and dotted from the last of them to one rolled back."""
    points = [
        (place + shift, float("nan") if value is None else value, each.accepted)
        for place, each in enumerate(rounds)
        for value in [getattr(each, name)]
    ]
    accepted = [point for point in points if point[2]]
    axis.plot([x for x, _, _ in accepted], [y for _, y, _ in accepted], alpha=0.8, **look)
    look.pop("label")
    for place, (x, y, is_accepted) in enumerate(points):
        if not is_accepted:
            before = [point for point in points[:place] if point[2]][-1]
            axis.plot([before[0], x], [before[1], y], ":", color=look["color"], alpha=0.8)
            axis.plot(x, y, markerfacecolor="white", **look)


def _outcomes(axis: Any, rounds: Sequence[Round]) -> None:
    bottoms = [0] * len(rounds)
    for name, colour in _BARS.items():
        counts = [each.outcomes.get(name, 0) for each in rounds]
        axis.bar(range(len(rounds)), counts, 0.6, bottoms, color=colour, label=name)
        bottoms = [bottom + count for bottom, count in zip(bottoms, counts, strict=True)]
    axis.set_xticks(range(len(rounds)), [_name(each) for each in rounds], fontsize=9)
    axis.set_xlim(-0.6, len(rounds) - 0.4)
    axis.set_ylim(0, 1.05 * max(1, *bottoms))
    axis.yaxis.set_major_formatter("{x:,.0f}")
    axis.yaxis.get_major_locator().set_params(integer=True)
    axis.set_title("what became of labels and predictions", loc="left")
    axis.legend(loc="center left", bbox_to_anchor=(1, 0.5), fontsize=8, frameon=False, reverse=True)


def _name(made: Round) -> str:
    if made.round == 0:
        return "starting labels"
    return f"round {made.round}" + ("" if made.accepted else "\nrolled back")
