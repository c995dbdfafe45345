"""SIGKILL of whole runs at any moment: the same command always ends in the same bytes.

Real models, and levels: see test_kills_with_models. Single workers: see test_worker_deaths.
"""

from collections import Counter

import numpy as np
import pytest

from tests.faults.commands import data_files, succeed, write_config, write_photos
from tests.faults.fixtures import runner_of
from tests.recovery.kills import Aim, Kills

pytestmark = [pytest.mark.slow, pytest.mark.ray, pytest.mark.timeout(1500)]

_NUM_IMAGES, _SHARD_SIZE = 160, 4
# One output each, by the runner of its last command: the moments of its kills, here or on Ray.
# A plan is made once per output. A run on Ray costs four runs here, so most are here.
_LIVES = {
    "serial": "importing creating loading annotating committing annotating committing loading",
    "ray": (
        "ray:creating ray:loading annotating ray:committing "
        "importing ray:annotating committing ray:annotating"
    ),
    "serial-again": (
        "ray:importing creating ray:loading ray:annotating "
        "committing loading ray:committing annotating"
    ),
    "serial-to-the-end": "creating annotating committing annotating committing ending",
}


@pytest.fixture(scope="module")
def kills(shell):
    names = [f"photo-{i:03d}.jpg" for i in range(_NUM_IMAGES)]
    config = write_config(
        shell.folder / "kills.yaml",
        source={
            "uri": str(write_photos(shell.folder / "photos", names)),
            "shard_size": _SHARD_SIZE,
        },
        output={"uri": str(shell.folder / "undisturbed")},
        specialists=[{"kind": "null", "num_rows": 6, "work_ms": 10}],
        rules=[{"rule": "min_score", "limits": {"null": 0.3}}],
    )
    succeed(shell.run("annotate", config, *runner_of("serial")))
    reference = data_files(shell.folder / "undisturbed")
    num_shards = _NUM_IMAGES // _SHARD_SIZE
    assert len(reference) == 1 + 4 * num_shards
    return Kills(shell, config, reference, num_shards, np.random.default_rng(7))


def test_killed_runs_resume_to_identical_bytes(kills):
    for name, moments in _LIVES.items():
        places = [("serial:" + moment).split(":")[-2:] for moment in moments.split()]
        aims = [Aim(moment, runner) for runner, moment in places]
        kills.live(name, aims, name.partition("-")[0])
    phases = Counter(phase for _, hit in kills.hits for phase in hit)
    runners = Counter(aim.runner for aim, _ in kills.hits)
    print(f"{len(kills.hits)} kills, {dict(runners)}, hit {dict(phases)}")
    assert len(kills.hits) >= 30
    assert runners["ray"] >= 8
    assert sum(any("renamed" in phase for phase in hit) for _, hit in kills.hits) >= 5
    assert {"before the plan", "loading", "annotating", "near the end"} <= phases.keys()
