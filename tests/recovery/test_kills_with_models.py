"""SIGKILL of runs with real models on real photos; without models see test_kills."""

import shutil

import numpy as np
import pytest

from tests.faults.commands import data_files, succeed, write_config
from tests.faults.fixtures import runner_of
from tests.recovery.kills import Aim, Kills

pytestmark = [pytest.mark.weights, pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(900)]

_AIMS = [
    Aim("annotating", "serial"),
    Aim("annotating", "ray"),
    Aim("committing", "serial"),
    Aim("annotating", "serial"),
    Aim("ending", "serial"),
]


def test_killed_runs_with_models_resume_to_identical_bytes(shell, data):
    photos = shell.folder / "photos"
    photos.mkdir()
    for photo in sorted((data / "coco80" / "images").iterdir())[:40]:
        shutil.copy(photo, photos)
    config = write_config(
        shell.folder / "models.yaml",
        source={"uri": str(photos), "shard_size": 2},
        output={"uri": str(shell.folder / "undisturbed")},
        specialists=[
            {"kind": "yolo", "model": str(data / "weights" / "yolo11n_int8_openvino_model")},
            {"kind": "composer"},
        ],
        rules=[{"rule": "min_score", "limits": {"yolo": 0.25}}],
    )
    succeed(shell.run("annotate", config, *runner_of("serial")))
    reference = data_files(shell.folder / "undisturbed")
    kills = Kills(shell, config, reference, 20, np.random.default_rng(3))
    kills.live("models", _AIMS, "serial")
    print([(aim, sorted(hit)) for aim, hit in kills.hits])
    assert len(kills.hits) == len(_AIMS)
    assert any("annotating" in hit for _, hit in kills.hits)
