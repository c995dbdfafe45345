"""What `make bench` leaves: numbers as JSON, a table as Markdown, one picture."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure

_COLOURS = {"engine": "#0072b2", "hand-written loop": "#999999", "ray.data": "#d55e00"}


@dataclass(frozen=True)
class Row:
    """One number of a part: what was measured, and the bar it is held to, if any."""

    part: str
    what: str
    value: float
    unit: str
    bar: float | None = None
    at_most: bool = True  # how the bar is meant

    @property
    def passed(self) -> bool | None:
        """Null without a bar."""
        if self.bar is None:
            return None
        return self.value <= self.bar if self.at_most else self.value >= self.bar


def write_results(folder: Path, machine: dict[str, Any], rows: list[Row], raw: Any) -> None:
    """Writes bench.json, bench.md and bench.png into the folder; earlier ones are replaced."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {
        "machine": machine,
        "rows": [{**asdict(row), "passed": row.passed} for row in rows],
        "raw": raw,
    }
    (folder / "bench.json").write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    (folder / "bench.md").write_text(to_markdown(machine, rows), encoding="utf-8")
    _draw(rows).savefig(folder / "bench.png", dpi=120, bbox_inches="tight")


def to_markdown(machine: dict[str, Any], rows: list[Row]) -> str:
    """The table, headed by the machine."""
    facts = ", ".join(f"{name} {value}" for name, value in machine.items())
    lines = [f"Measured on: {facts}.", "", "| part | what | value | bar |", "|---|---|---:|---|"]
    for row in rows:
        bar = "" if row.bar is None else f"{'<=' if row.at_most else '>='} {row.bar:,g}"
        verdict = {None: "", True: " (met)", False: " (**missed**)"}[row.passed]
        value = f"{row.value:,.4g} {row.unit}".rstrip()
        lines.append(f"| {row.part} | {row.what} | {value} | {bar}{verdict} |")
    return "\n".join(lines) + "\n"


def _draw(rows: list[Row]) -> Figure:
    """A panel for each part and unit, a bar for each number; dashed: what it is held to."""
    panels: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        panels.setdefault((row.part, row.unit), []).append(row)
    heights = [0.6 + 0.3 * len(panel) for panel in panels.values()]
    figure = Figure(figsize=(9, sum(heights) + 0.4 * len(panels)), layout="constrained")
    axes = figure.subplots(len(panels), 1, squeeze=False, height_ratios=heights)[:, 0]
    for axis, ((part, unit), panel) in zip(axes, panels.items(), strict=True):
        colours = [_colour(row.what) for row in panel]
        bars = axis.barh([row.what for row in panel], [row.value for row in panel], color=colours)
        axis.bar_label(bars, [f"{row.value:,.3g}" for row in panel], padding=3, fontsize=8)
        for limit in {row.bar for row in panel if row.bar is not None}:
            axis.axvline(limit, color="black", linestyle="--", linewidth=0.8)
        axis.invert_yaxis()
        axis.margins(x=0.12)
        axis.set_title(f"{part} [{unit or 'ratio'}]", loc="left", fontsize=9)
        axis.tick_params(labelsize=8)
        axis.spines[["top", "right"]].set_visible(False)
    return figure


def _colour(what: str) -> str:
    return next((colour for name, colour in _COLOURS.items() if what.startswith(name)), "#009e73")
