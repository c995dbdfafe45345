"""SIGKILL of runs with real models on real photos; without models see test_kills."""

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
    Aim("annotating", "ray"),
    Aim("annotating", "serial"),
]


def test_killed_runs_with_models_resume_to_identical_bytes(shell, data):
    config = write_config(
        shell.folder / "models.yaml",
        source={"uri": str(data / "coco80" / "images"), "shard_size": 4},
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
