"""The end of `fld demo`: broken labels, and the round of refinement that mends them."""

from importlib.resources import files
from pathlib import Path

import yaml
from rich.console import Console

from engine.config import parse_config
from engine.job import Observer
from engine.pictures import draw_change
from engine.refine_commands import run_refine
from engine.source.filesystem import open_location

CONFIG = "refine-demo.yaml"


def run_demo_round(folder: Path, observer: Observer, console: Console) -> Path:
    """Annotates plain scenes with labels broken on purpose, and lets the shipped model mend them.

    Args:
        folder: The dataset goes below it.
        observer: Told of the run.
        console: Where the table of rounds goes.

    Returns:
        A picture of scenes before and after.
    """
    raw = yaml.safe_load((files("configs") / CONFIG).read_text(encoding="utf-8"))
    output = folder / "refined"
    series = run_refine(parse_config(raw, [f"output.uri={output}"], CONFIG), observer, console)
    drawn = folder / "refined.png"
    before, *_, after = series.rounds
    draw_change(open_location(str(output)), before.version, after.version, drawn, num_images=6)
    return drawn
