"""Precision and recall before and after every rule, as one picture."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from engine.evaluate.results import Assessment, Measures, Step

# Okabe and Ito's colours, which the colour-blind tell apart, and a mark each
_LINES = {
    "precision": ("precision", "#0072B2", "o"),
    "recall": ("recall", "#D55E00", "s"),
    "f1": ("F1", "#009E73", "^"),
}
_LINE_HEIGHT = 0.05  # of a number, as a part of the height of a panel


def plot_steps(found: Assessment, path: Path) -> None:
    """Writes the picture as PNG: one panel for each family that has precision and recall.

    Raises:
        ConfigError: There is no such family, or the file cannot be written.
    """
    from matplotlib.figure import Figure

    panels = {
        name: family.telling_steps() or family.steps
        for name, family in found.families.items()
        if family.steps and "precision" in family.steps[0].before
    }
    if not panels:
        raise ConfigError(
            f"{found.output}: no boxes or words were compared under rules; nothing to plot"
        )
    width = max(5.0, 1.6 + 1.1 * max(len(steps) for steps in panels.values()))
    figure = Figure(figsize=(width, 0.7 + 3.8 * len(panels)), layout="constrained")
    figure.suptitle(f"{found.version}: before and after every rule, IoU {found.min_iou:g}")
    axes = figure.subplots(len(panels), 1, squeeze=False)
    for axis, (name, steps) in zip(axes[:, 0], panels.items(), strict=True):
        _panel(axis, name, steps)
    try:
        figure.savefig(path, dpi=140, format="png")
    except OSError as err:
        raise ConfigError(f"{path}: {err.strerror}; give a file that can be written") from err


def _panel(axis: Any, name: str, steps: Sequence[Step]) -> None:
    states = [steps[0].before, *(step.after for step in steps)]
    labels = ["all claims", *(f"{step.rule}\n-{step.num_rejected:,}" for step in steps)]
    places = range(len(states))
    for key, (label, colour, mark) in _LINES.items():
        values = [float("nan") if state[key] is None else state[key] for state in states]
        axis.plot(places, values, label=label, color=colour, marker=mark)
    _numbers(axis, -0.12, "right", states[0])
    _numbers(axis, len(states) - 0.88, "left", states[-1])
    axis.set_xlim(-0.8, len(states) - 0.2)
    axis.set_xticks(places, labels, rotation=30, ha="right", fontsize=8)
    axis.set_ylim(0, 1 + 2.5 * _LINE_HEIGHT)
    axis.set_title(name, loc="left", fontsize=10)
    axis.grid(axis="y", alpha=0.3)
    axis.legend(loc="lower right", bbox_to_anchor=(1, 1), fontsize=8, ncols=3, frameon=False)


def _numbers(axis: Any, x: float, side: str, state: Measures) -> None:
    """The values of a state beside its marks, none upon another."""
    below = -1.0
    known = [(value, key) for key in _LINES if (value := state[key]) is not None]
    for value, key in sorted(known):
        below = max(value, below + _LINE_HEIGHT)
        colour = _LINES[key][1]
        axis.text(x, below, f"{value:.3f}", ha=side, va="center", fontsize=8, color=colour)
