"""Runs that stop early: signals, a full disk. Alarms: see tests/faults/test_alarms."""

import contextlib
import signal
import subprocess
import time

import pytest

from tests.faults import commands
from tests.faults.commands import data_files, markers, succeed, write_config, write_photos
from tests.faults.fixtures import BAD_DISK, EITHER_RUNNER, runner_of

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# The rest of a run, whatever ran its beginning; Ray goes on after a kill in test_kills.
HERE = ["runner.kind=serial"]


@pytest.fixture(scope="module")
def config(shell):
    photos = write_photos(shell.folder / "photos", [f"photo-{i:03d}.jpg" for i in range(48)])
    return write_config(
        shell.folder / "stopped.yaml",
        source={"uri": str(photos), "shard_size": 4},
        output={"uri": str(shell.folder / "undisturbed")},
        specialists=[{"kind": "null", "num_rows": 6}],
    )


@pytest.fixture(scope="module")
def undisturbed(shell, config):
    succeed(shell.run("annotate", config, *runner_of("serial")))
    return data_files(shell.folder / "undisturbed")


@pytest.mark.parametrize(
    ("runner", "number"),
    [
        pytest.param("serial", signal.SIGINT, id="serial-ctrl-c"),
        pytest.param("serial", signal.SIGTERM, id="serial-sigterm"),
        pytest.param("ray", signal.SIGINT, id="ray-ctrl-c", marks=pytest.mark.ray),
    ],
)
def test_signal_stops_the_run_and_the_same_command_resumes_it(
    shell, config, undisturbed, runner, number
):
    output = shell.folder / f"{number.name}-{runner}"
    run = ["annotate", config, f"output.uri={output}", *runner_of(runner)]
    gate = shell.folder / f"gate-{number.name}-{runner}"
    gated = {"PYTHONPATH": BAD_DISK, "FLD_TEST_COMMIT_GATE": str(gate)}
    command = shell.start(*run, variables=gated)
    assert command.wait_until(lambda: bool(markers(output)))
    commands.interrupt(command, number)
    time.sleep(1)  # a busy driver may take a moment to hear it
    gate.touch()
    succeed(command, code=3)
    assert "stopped: stopped by a signal; the same command resumes" in command.said
    assert "Traceback" not in command.said
    assert command.left_behind() == []
    assert 0 < commands.check_committed(output) < 12
    succeed(shell.run(*run, *HERE))
    assert data_files(output) == undisturbed


@pytest.mark.parametrize(
    ("runner", "number"),
    [
        pytest.param("serial", signal.SIGINT, id="serial-ctrl-c"),
        pytest.param("ray", signal.SIGTERM, id="ray-sigterm", marks=pytest.mark.ray),
    ],
)
def test_signal_while_models_load_stops_the_run(shell, tricks, config, runner, number):
    output = shell.folder / f"loading-{number.name}-{runner}"
    settings = [f"output.uri={output}", "specialists.0={kind: trickster}", *runner_of(runner)]
    variables = {**tricks, "FLD_TEST_LOAD": "hangs"}
    command = shell.start("annotate", config, *settings, variables=variables)
    assert command.wait_until((output / "dataset.json").exists)
    assert command.wait_until(lambda: len(command.processes()) > 1)
    commands.interrupt(command, number)
    succeed(command, code=3)
    assert "Traceback" not in command.said
    assert command.left_behind() == []


@pytest.mark.parametrize("runner", EITHER_RUNNER)
def test_worker_that_hangs_ends_with_a_killed_driver(shell, tricks, runner):
    photos = write_photos(shell.folder / f"{runner}-photos", ["fine.jpg", "hangs.jpg"])
    output = shell.folder / f"orphaned-{runner}"
    settings = [f"source.uri={photos}", f"output.uri={output}", "specialists=[{kind: trickster}]"]
    command = shell.start("annotate", *settings, *runner_of(runner), variables=tricks)
    assert command.wait_until((output / "_run" / "status.json").exists)  # the batch is under way
    commands.interrupt(command, signal.SIGKILL)
    command.wait()
    assert command.left_behind() == []


def test_signal_before_the_run_has_begun_stops_the_command(shell, config):
    slow = {"PYTHONPATH": BAD_DISK, "FLD_TEST_SLOW_FOLDER": f"{shell.folder / 'photos'}/"}
    output = shell.folder / "never-begun"
    command = shell.start("annotate", config, f"output.uri={output}", variables=slow)
    assert command.wait_until(lambda: "listing" in command.said)
    commands.interrupt(command, signal.SIGTERM)
    succeed(command, code=3)
    assert "stopped: the same command resumes" in command.said
    assert not output.exists()


@contextlib.contextmanager
def tiny_disk(folder, size_kb):
    """A file system of that size; a skip where none may be mounted."""
    folder.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={size_kb}k", "tmpfs", str(folder)]
    if subprocess.run(mount, capture_output=True, check=False).returncode:
        pytest.skip("mounting a tmpfs takes root; test_full_disk_is_told covers the rest")
    try:
        yield folder
    finally:
        subprocess.run(["umount", "--lazy", str(folder)], check=True)


@pytest.mark.parametrize("runner", EITHER_RUNNER)
def test_really_full_disk_stops_the_run_and_room_lets_it_finish(shell, config, undisturbed, runner):
    with tiny_disk(shell.folder / f"disk-{runner}", 200) as disk:
        output = disk / "out"
        run = ["annotate", config, f"output.uri={output}", *runner_of(runner)]
        command = succeed(shell.run(*run), code=3)
        assert "Traceback" not in command.said
        assert command.left_behind() == []
        assert 0 < commands.check_committed(output) < 12
        more = ["mount", "-o", "remount,size=8m", str(disk)]
        subprocess.run(more, check=True, capture_output=True)
        succeed(shell.run(*run, *HERE))
        assert data_files(output) == undisturbed


@pytest.mark.parametrize("runner", EITHER_RUNNER)
def test_full_disk_is_told(shell, config, undisturbed, runner):
    output = shell.folder / f"full-{runner}"
    run = ["annotate", config, f"output.uri={output}", *runner_of(runner)]
    full = {"PYTHONPATH": BAD_DISK, "FLD_TEST_FULL_OUTPUT": str(output)}
    command = succeed(shell.run(*run, variables=full), code=3)
    (line,) = [line for line in command.said.splitlines() if line.startswith("stopped: ")]
    assert str(output) in line
    assert "o space left" in line
    assert "the same command" in line
    assert "Traceback" not in command.said
    succeed(shell.run(*run, *HERE))
    assert data_files(output) == undisturbed
