"""Cold starts on a few plain scenes; as a process, one that kills itself half-way.

`python -m tests.refinement.cold_starts FOLDER MODEL`
"""

import io
import os
import signal
import sys
from pathlib import Path
from typing import Any

import msgspec
from rich.console import Console

from engine.cold_start_command import run_cold_start
from engine.config import Config, parse_config
from engine.job import Observer
from engine.source.filesystem import open_location
from refinement.cold_start import start as cold_start

NUM_IMAGES, SHARD_SIZE = 24, 8
DETAILED = "<DETAILED_CAPTION>"


def scene_name(index: int) -> str:
    return f"scene-{index:08}.png"


def lines(*records: tuple[str, str, str]) -> str:
    names = ("image", "prefix", "suffix")
    made = [msgspec.json.encode(dict(zip(names, each, strict=True))) for each in records]
    return "".join(f"{line.decode()}\n" for line in made)


def write_gold(file: Path, count: int = 12) -> Path:
    """Captions of the first scenes that a tiny model learns in a moment."""
    told = [(scene_name(n), DETAILED, "red dog") for n in range(count)]
    file.write_text(lines(*told), encoding="utf-8")
    return file


def config_of(folder: Path, model: Path, **more: Any) -> Config:
    raw = {
        "source": {
            "uri": "synthetic",
            "world": "plain",
            "num_images": NUM_IMAGES,
            "shard_size": SHARD_SIZE,
            "noise": 0,
            "gives": ["text/brief", "region/category"],
        },
        "output": {"uri": str(folder / "out")},
        "model": str(model),
        "runner": {"kind": "serial", "batch_size": 8},
        "refine": {
            "train": {"steps": 10, "batch_size": 4, "learning_rate": 2.0e-2, "warmup": 0},
            "pairs": {"valid_share": 0},
            "predictor": {"kind": "florence2", "max_new_tokens": 12},
        },
        **more,
    }
    return parse_config(raw, (), "test")


def start(folder: Path, model: Path, *, kind="detailed", gold=None, images=None, out=None, **more):
    """Of `folder/out`, from `folder/gold.jsonl`."""
    gold = gold or folder / "gold.jsonl"
    return run_cold_start(
        config_of(folder, model, **more),
        kind,
        str(gold),
        Observer(),
        out or Console(file=io.StringIO()),
        images=images,
    )


def place(folder: Path):
    return open_location(str(folder / "out"))


def main() -> None:
    folder, model = map(Path, sys.argv[1:])
    add, done = cold_start.add_shard, []

    def dying(spec, shard):
        if done:
            os.kill(os.getpid(), signal.SIGKILL)
        done.append(shard)
        return add(spec, shard)

    cold_start.add_shard = dying
    start(folder, model)


if __name__ == "__main__":
    main()
