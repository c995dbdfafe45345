"""`loss.png`: the losses of a training by task, as they were learnt and as they were validated."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

_SMOOTHED = 50  # windows along a curve: single steps jump about with their examples


def draw_curves(lines: Sequence[dict[str, Any]], path: Path) -> None:
    """Draws the lines of a log (`refinement.training.log.read_log`); without any, an empty plot.

    Left by task, right all tokens; thick: mean over a fiftieth of the steps, dots: validation.
    """
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 4.5), layout="constrained")
    FigureCanvasAgg(figure)
    by_task, all_tokens = figure.subplots(1, 2, sharey=True)
    tasks = sorted({task for line in lines for task in line["tasks"]})
    colours = [f"C{n % 10}" for n in range(len(tasks))]
    styles = ["-" if n < len(set(colours)) else "--" for n in range(len(tasks))]
    for task, colour, style in zip(tasks, colours, styles, strict=True):
        _draw(by_task, lines, ("tasks", task), colour, style, task)
        _dots(by_task, lines, ("valid_tasks", task), colour, None)
    _draw(all_tokens, lines, ("loss",), "C0", "-", "learnt")
    _dots(all_tokens, lines, ("valid",), "C1", "validation")
    for axis, title in ((by_task, "by task"), (all_tokens, "all tokens")):
        axis.set(title=title, xlabel="optimizer step")
        axis.grid(alpha=0.3)
        if axis.get_legend_handles_labels()[0]:
            axis.legend(fontsize=8)
    by_task.set_ylabel("cross entropy per token, nats")
    aside = path.with_name(f".{path.name}.tmp")
    figure.savefig(aside, format="png", dpi=120)
    aside.replace(path)


def _column(
    lines: Sequence[dict[str, Any]], keys: tuple[str, ...]
) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float64]]:
    """Steps and losses where the log has them."""
    steps, losses = [], []
    for line in lines:
        value: Any = line
        for key in keys:
            value = value.get(key) if value is not None else None
        if value is not None:
            steps.append(line["step"])
            losses.append(value)
    return np.array(steps, np.int64), np.array(losses, np.float64)


def _draw(
    axis: Any,
    lines: Sequence[dict[str, Any]],
    keys: tuple[str, ...],
    colour: str,
    style: str,
    label: str,
) -> None:
    steps, losses = _column(lines, keys)
    window = max(len(losses) // _SMOOTHED, 1)
    if window > 1:
        axis.plot(steps, losses, color=colour, alpha=0.2, linewidth=0.5)
        losses = np.convolve(losses, np.full(window, 1 / window), mode="valid")
        steps = steps[window - 1 :]
    axis.plot(steps, losses, color=colour, linestyle=style, linewidth=1.4, label=label)


def _dots(
    axis: Any,
    lines: Sequence[dict[str, Any]],
    keys: tuple[str, ...],
    colour: str,
    label: str | None,
) -> None:
    steps, losses = _column(lines, keys)
    if len(steps):
        axis.plot(steps, losses, "o", color=colour, markersize=3, label=label)
