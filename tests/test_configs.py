"""Every config that ships is what it says: headed, loadable, composed of what there is."""

import itertools
from pathlib import Path

import pytest

from engine.compose import compose
from engine.config import load_config
from engine.shard import level_order
from filters import RULES
from specialists import SPECIALISTS

CONFIGS = sorted((Path(__file__).resolve().parent.parent / "configs").glob("*.yaml"))


def by_name(path):
    return path.stem


def header(path):
    lines = path.read_text(encoding="utf-8").splitlines()
    return " ".join(itertools.takewhile(lambda line: line.startswith("#"), lines))


@pytest.mark.parametrize("path", CONFIGS, ids=by_name)
def test_config_is_headed_by_command_hardware_and_counts(path):
    words = header(path).split()
    assert {"command", "hardware", "counts"} <= set(words)
    assert "fld" in words


@pytest.mark.parametrize("path", CONFIGS, ids=by_name)
def test_config_names_what_there_is(path):
    config = load_config(path)
    assert {entry["kind"] for entry in config.specialists} <= SPECIALISTS.names().keys()
    assert {entry["rule"] for entry in config.rules} <= RULES.names().keys()


@pytest.mark.parametrize("path", CONFIGS, ids=by_name)
def test_config_composes_to_a_job_with_levels(path):
    job = compose(load_config(path))
    levels = level_order(job.specialists, [])
    named = [entry.get("name", entry["kind"]) for entry in load_config(path).specialists]
    assert sorted(name for level in levels for name in level) == sorted(named)


def test_shares_of_the_one_gpu_config_fit_on_one_gpu():
    for path in CONFIGS:
        if path.stem.startswith("gpu-"):
            shares = [s.resources.gpus for s in compose(load_config(path)).specialists]
            assert sum(shares) == pytest.approx(1, abs=1e-9), path.name


def test_no_config_holds_a_key():
    for path in CONFIGS:
        text = path.read_text(encoding="utf-8").lower()
        assert "secret" not in text
        assert "sk-" not in text
