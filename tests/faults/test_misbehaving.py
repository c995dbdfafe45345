"""What a specialist can do wrong, through both runners: one image pays, the others never notice."""

import pytest

from tests.faults import commands
from tests.faults.commands import succeed, write_config, write_photos
from tests.faults.fixtures import EITHER_RUNNER, runner_of
from tests.faults.trickster import TRICKS

FINE = [f"fine{i:02d}" for i in range(15)]
HARMFUL = {trick: cause for trick, cause in TRICKS.items() if cause is not None}
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def config(shell):
    photos = write_photos(shell.folder / "photos", [f"{name}.jpg" for name in [*FINE, *TRICKS]])
    return write_config(
        shell.folder / "tricks.yaml",
        source={"uri": str(photos), "shard_size": 8},
        output={"uri": str(shell.folder / "tame")},
        specialists=[
            {"kind": "trickster", "tricks": False},
            {"kind": "null"},
            {"kind": "composer"},
        ],
    )


@pytest.fixture(scope="module")
def tame(shell, tricks, config):
    """A run in which the specialist does what it should."""
    succeed(shell.run("annotate", config, *runner_of("serial"), variables=tricks))
    return shell.folder / "tame"


@pytest.fixture(scope="module", params=EITHER_RUNNER)
def wild(request, shell, tricks, config):
    """The ended command of a run in which it does not, and its output."""
    output = shell.folder / f"wild-{request.param}"
    settings = [
        f"output.uri={output}",
        "specialists.0.tricks=true",
        "limits.worker_memory_mb=256",
        *runner_of(request.param, batch_timeout_s=12),
    ]
    return shell.run("annotate", config, *settings, variables=tricks), output


def test_misbehaviour_ends_with_exit_code_one(wild):
    command, _ = wild
    assert command.process.returncode == 1, command.said
    assert "Traceback" not in command.said


def test_misbehaviour_leaves_no_process_behind(wild):
    command, _ = wild
    assert command.left_behind() == []


@pytest.mark.parametrize(("trick", "cause"), TRICKS.items())
def test_misbehaviour_is_a_failure_of_that_image(wild, trick, cause):
    _, output = wild
    image = commands.images(output)[f"{trick}.jpg"]
    found = [(f["stage"], f["source"], f["cause"]) for f in image["failures"] or ()]
    if trick == "forks_and_dies" and output.name == "wild-ray":
        # Ray sees a death when the worker's sockets close, and its child holds them open
        cause = "timeout"
    assert found == ([("annotate", "trickster", cause)] if cause else [])
    assert image["status"] == "ok"


def test_misbehaviour_is_told_without_machine_paths_and_addresses(wild):
    _, output = wild
    (failure,) = commands.images(output)["raises.jpg"]["failures"]
    assert failure["message"] == "ValueError: no idea what .../this.jpg shows, see 0x.."


def test_misbehaviour_costs_no_other_image_a_row(wild, tame):
    _, output = wild
    found = [row for row in commands.rows(output) if not of_a_trick(row)]
    assert found == [row for row in commands.rows(tame) if not of_a_trick(row)]


def test_misbehaviour_costs_the_image_only_the_rows_of_that_specialist(wild, tame):
    _, output = wild
    expected = [row for row in commands.rows(tame) if of_a_trick(row) and row["source"] == "null"]
    assert expected
    found = [row for row in commands.rows(output) if of_a_trick(row) and row["source"] == "null"]
    assert found == expected
    claimed = {stem(row) for row in commands.rows(output) if row["source"] == "trickster"}
    assert claimed == {*FINE, *TRICKS} - HARMFUL.keys()


def test_misbehaviour_leaves_committed_shards_whole(wild):
    _, output = wild
    assert commands.check_committed(output) == 5


def stem(row):
    return row["image_key"].rpartition("-")[0]


def of_a_trick(row):
    return stem(row) in HARMFUL
