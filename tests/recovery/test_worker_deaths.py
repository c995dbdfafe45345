"""Single workers die, and runs have more or fewer of them: the same bytes in any case.

Workers that die of their input: see tests/faults/test_misbehaving.
"""

import contextlib
import time

import numpy as np
import psutil
import pytest

from tests.faults import commands
from tests.faults.commands import data_files, markers, succeed, write_config, write_photos
from tests.faults.fixtures import EITHER_RUNNER, runner_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_DEATHS = 4
# More than are in flight, so that a replaced worker has answered before another one dies: two
# deaths of one batch, or of one load, would be a verdict on it.
_SHARDS_BETWEEN = 4


@pytest.fixture(scope="module")
def config(shell):
    photos = write_photos(shell.folder / "photos", [f"photo-{i:03d}.jpg" for i in range(96)])
    return write_config(
        shell.folder / "deaths.yaml",
        source={"uri": str(photos), "shard_size": 4},
        output={"uri": str(shell.folder / "undisturbed")},
        specialists=[{"kind": "null", "num_rows": 6, "work_ms": 30}, {"kind": "composer"}],
    )


@pytest.fixture(scope="module")
def undisturbed(shell, config):
    succeed(shell.run("annotate", config, *runner_of("serial")))
    return data_files(shell.folder / "undisturbed")


def workers(command) -> list[psutil.Process]:
    """Processes that hold a specialist or run a stage, as each runner names them."""
    found = []
    for process in command.processes():
        with contextlib.suppress(psutil.Error):
            line = " ".join(process.cmdline())
            if "spawn_main" in line or line.startswith(("ray::_", "ray::IDLE")):
                found.append(process)
    return found


@pytest.mark.parametrize("runner", EITHER_RUNNER)
def test_run_survives_the_death_of_any_worker(shell, config, undisturbed, runner):
    output, rng = shell.folder / f"deaths-{runner}", np.random.default_rng(5)
    # of two workers one would go on while the replacement of the other is killed as it loads
    alone = "runner.workers={'null': 1, composer: 1}"
    command = shell.start("annotate", config, f"output.uri={output}", alone, *runner_of(runner))
    killed, done = [], -_SHARDS_BETWEEN
    while len(killed) < _DEATHS and command.wait_until(
        lambda done=done: len(markers(output)) >= done + _SHARDS_BETWEEN and bool(workers(command))
    ):
        done = len(markers(output))
        time.sleep(rng.uniform(0, 0.5))
        alive = workers(command)
        victim = alive[rng.integers(len(alive))]
        with contextlib.suppress(psutil.NoSuchProcess):
            killed.append(" ".join(victim.cmdline()))
            victim.kill()
    succeed(command)
    assert len(killed) >= 3, "the run was over before its workers could be killed"
    assert data_files(output) == undisturbed
    assert command.left_behind() == []


@pytest.mark.parametrize("runner", EITHER_RUNNER)
def test_worker_killed_while_it_loads_is_replaced(shell, tricks, config, runner):
    once = shell.folder / f"once-{runner}"
    variables = {**tricks, "FLD_TEST_LOAD": "dies_once", "FLD_TEST_LOAD_ONCE": str(once)}
    settings = [
        f"output.uri={shell.folder / f'loaded-{runner}'}",
        "specialists.0={kind: trickster}",
    ]
    run = ["annotate", config, "--limit", "8", *settings, *runner_of(runner)]
    command = succeed(shell.run(*run, variables=variables))
    assert once.exists()
    assert "trickster: a worker died while loading" in command.said


@pytest.mark.parametrize("runner", EITHER_RUNNER)
def test_specialist_that_always_dies_while_loading_is_named(shell, tricks, config, runner):
    settings = [f"output.uri={shell.folder / f'dies-{runner}'}", "specialists.0={kind: trickster}"]
    variables = {**tricks, "FLD_TEST_LOAD": "dies"}
    command = shell.run("annotate", config, *settings, *runner_of(runner), variables=variables)
    succeed(command, code=2)
    assert "error: specialist 'trickster': its process ended 2 times while loading" in command.said
    assert command.left_behind() == []


@pytest.mark.parametrize("runner", EITHER_RUNNER)
def test_replacement_that_does_not_load_stops_the_run(shell, tricks, runner):
    photos = write_photos(shell.folder / f"{runner}-photos", ["a.jpg", "b.jpg", "exits.jpg"])
    output = shell.folder / f"irreplaceable-{runner}"
    settings = [
        f"source={{uri: {photos}, shard_size: 1}}",
        f"output.uri={output}",
        "specialists=[{kind: trickster}]",
        *runner_of(runner, shards_in_flight=1),
    ]
    once = {"FLD_TEST_LOAD": "only_once", "FLD_TEST_LOAD_ONCE": str(shell.folder / f"1-{runner}")}
    command = shell.run("annotate", *settings, variables={**tricks, **once})
    succeed(command, code=3)
    assert "no such weights on this machine" in command.said
    assert "the same command resumes" in command.said
    assert markers(output) == [0, 1]
    succeed(shell.run("annotate", *settings, "runner.kind=serial", variables=tricks), code=1)


@pytest.mark.parametrize(
    ("runner", "count"),
    [
        pytest.param("serial", 3, id="serial-3"),
        *[pytest.param("ray", n, marks=pytest.mark.ray, id=f"ray-{n}") for n in (1, 2, 3)],
    ],
)
def test_any_number_of_workers_gives_the_same_bytes(shell, config, undisturbed, runner, count):
    output = shell.folder / f"many-{runner}-{count}"
    many = f"runner.workers={{'null': {count}, composer: {count}}}"
    settings = [f"output.uri={output}", many, "specialists.0.work_ms=2"]
    succeed(shell.run("annotate", config, *settings, *runner_of(runner)))
    assert data_files(output) == undisturbed


@pytest.mark.weights
@pytest.mark.ray
def test_any_number_of_workers_with_real_models_gives_the_same_bytes(shell, data):
    settings = [
        f"source={{uri: {data / 'coco80' / 'images'}, shard_size: 4}}",
        f"specialists=[{{kind: yolo, model: {data / 'weights/yolo11n_int8_openvino_model'}}}]",
    ]
    found = {}
    for runner, count in [("serial", 1), ("ray", 3)]:
        output = shell.folder / f"yolo-{runner}-{count}"
        place = [f"output.uri={output}", f"runner.workers={{yolo: {count}}}"]
        succeed(shell.run("annotate", *settings, *place, "--limit", "12", *runner_of(runner)))
        found[runner, count] = data_files(output)
    assert commands.rows(shell.folder / "yolo-serial-1")
    assert found["ray", 3] == found["serial", 1]
