"""`fld refine` over plain synthetic scenes with noisy labels, its predictor one we control."""

import hashlib
import io
import json
from pathlib import Path

import pyarrow as pa
from rich.console import Console

from engine.compose import compose
from engine.config import parse_config
from engine.job import Observer
from engine.reading import read_tables
from engine.refine_commands import run_refine
from engine.run import annotate
from engine.source.filesystem import open_location

NUM_IMAGES = 60
ENTRY_POINT = "[fld.specialists]\noracle = tests.refinement.oracle:Oracle\n"


def install(site: Path) -> Path:
    """A folder that makes the oracle known, as installed packages are, once it is on the path."""
    about = site / "fld_oracle-1.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fld-oracle\nVersion: 1\n")
    (about / "entry_points.txt").write_text(ENTRY_POINT)
    return site


def settings(out: Path, **sections):
    """A config: 60 scenes with 30 % noise in three shards, one round with the perfect oracle."""
    config = {
        "source": {
            "uri": "synthetic",
            "world": "plain",
            "num_images": NUM_IMAGES,
            "noise": 0.3,
            "shard_size": 20,
        },
        "output": {"uri": str(out)},
        "runner": {"kind": "serial"},
        "refine": {"train": None, "predictor": {"kind": "oracle"}},
        "gold": {"uri": "synthetic", "world": "plain", "num_images": NUM_IMAGES},
    }
    for name, section in sections.items():
        if isinstance(section, dict) and isinstance(config.get(name), dict):
            config[name] = {**config[name], **section}
        else:
            config[name] = section
    return config


def refine_in(out: Path, **sections):
    """The series, and what was printed; scenes are annotated where there is no dataset yet."""
    config = settings(out, **sections)
    if (out / "dataset.json").exists():
        config = {name: config[name] for name in config if name != "output"}
        config["source"] = {"uri": str(out)}
    told = io.StringIO()
    job = parse_config(config, (), "test")
    return run_refine(job, Observer(), Console(file=told, width=200)), told.getvalue()


def annotate_in(out: Path, **sections) -> Path:
    """The starting labels alone."""
    wanted = ("source", "output", "runner", "specialists")
    config = {name: value for name, value in settings(out, **sections).items() if name in wanted}
    annotate(compose(parse_config(config, (), "test")), Observer())
    return out


def oracle(**options):
    """A section `refine` with an oracle of those options."""
    return {"train": None, "predictor": {"kind": "oracle", **options}}


def stored_rounds(out: Path):
    return json.loads((out / "rounds.json").read_text(encoding="utf-8"))["rounds"]


def current(out: Path) -> str:
    return str(json.loads((out / "dataset.json").read_text(encoding="utf-8"))["current"])


def rows_of(out: Path, version: str) -> pa.Table:
    tables = [rows for _, _, rows in read_tables(open_location(str(out)), version)]
    return pa.concat_tables(tables).unify_dictionaries()


def files_of(folder: Path) -> dict[str, str]:
    """sha256 of all files below, by path."""
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }
