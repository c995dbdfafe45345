"""Who may write into an output, and what the commands say of one: refusals, status, flags."""

import shutil
import signal

import pytest

from tests.faults import commands
from tests.faults.commands import data_files, markers, succeed, write_config, write_photos
from tests.faults.fixtures import BAD_DISK
from tests.recovery.kills import half_committed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_SLOW = {"PYTHONPATH": BAD_DISK, "FLD_TEST_COMMIT_PAUSE_S": "1"}


@pytest.fixture(scope="module")
def config(shell):
    photos = write_photos(shell.folder / "photos", [f"photo-{i:03d}.jpg" for i in range(24)])
    write_photos(shell.folder / "other-photos", ["another.jpg"])
    return write_config(
        shell.folder / "outputs.yaml",
        source={"uri": str(photos), "shard_size": 4},
        output={"uri": str(shell.folder / "undisturbed")},
        specialists=[{"kind": "null", "num_rows": 6}],
        rules=[{"rule": "min_score", "limits": {"null": 0.3}}],
        runner={"kind": "serial"},
    )


@pytest.fixture(scope="module")
def undisturbed(shell, config):
    succeed(shell.run("annotate", config))
    return shell.folder / "undisturbed"


@pytest.fixture(scope="module")
def interrupted(shell, config):
    """An output whose driver was killed with some shards done."""
    output = shell.folder / "interrupted"
    command = shell.start("annotate", config, f"output.uri={output}", variables=_SLOW)
    assert command.wait_until(lambda: bool(markers(output)))
    command.kill()
    return output


@pytest.fixture(scope="module")
def of_two_rows(shell, config):
    """An output that another run finished; to be copied."""
    output = shell.folder / "of-two-rows"
    succeed(shell.run("annotate", config, f"output.uri={output}", "specialists.0.num_rows=2"))
    return output


def tree(folder):
    return {path: path.stat().st_mtime_ns for path in sorted(folder.rglob("*"))}


def test_dry_run_writes_nothing(fld, shell, config):
    before = tree(shell.folder)
    code, out, _ = fld("annotate", config, f"output.uri={shell.folder / 'dry'}", "--dry-run")
    assert code == 0
    assert "24 images in 6 shards of up to 4" in out
    assert tree(shell.folder) == before
    assert not (shell.folder / "dry").exists()


def test_finished_output_is_left_as_it_is(shell, config, undisturbed):
    before = data_files(undisturbed)
    command = succeed(shell.run("annotate", config))
    assert "24 images in 6 shards, 6 shards done already" in command.said
    assert data_files(undisturbed) == before


@pytest.mark.parametrize(
    ("settings", "difference"),
    [
        pytest.param(["source.uri={other}"], "source.uri: ", id="source"),
        pytest.param(["source.shard_size=5"], "source.shard_size: 4 -> 5", id="shard-size"),
        pytest.param(
            ["specialists.0.num_rows=7"], "specialists[0].num_rows: 6 -> 7", id="specialists"
        ),
        pytest.param(["rules.0.limits={'null': 0.4}"], "0.3 -> 0.4", id="rules"),
        pytest.param(["seed=1"], "seed: 0 -> 1", id="seed"),
        pytest.param(["--limit", "9"], "limit: nothing -> 9", id="limit"),
    ],
)
def test_other_run_is_refused_with_what_differs(
    fld, shell, config, undisturbed, settings, difference
):
    before = data_files(undisturbed)
    given = [text.replace("{other}", str(shell.folder / "other-photos")) for text in settings]
    code, _, said = fld("annotate", config, *given)
    assert code == 2
    assert "was made by another run" in said
    assert difference in said
    assert "--overwrite" in said
    assert data_files(undisturbed) == before


def test_runner_and_limits_of_memory_are_not_another_run(shell, config, undisturbed):
    settings = ["runner.shards_in_flight=1", "limits.worker_memory_mb=900"]
    succeed(shell.run("annotate", config, *settings))


def test_folder_of_something_else_is_refused(fld, shell, config):
    folder = shell.folder / "letters"
    folder.mkdir()
    (folder / "to-ann.txt").write_text("Dear Ann")
    for flags in ([], ["--overwrite"]):
        code, _, said = fld("annotate", config, f"output.uri={folder}", *flags)
        assert code == 2
        assert "holds 'to-ann.txt' and no dataset.json" in said
    assert [path.name for path in folder.iterdir()] == ["to-ann.txt"]


def test_files_a_killed_driver_was_writing_are_no_obstacle_and_go(shell, config, undisturbed):
    output = shell.folder / "leftovers"
    (output / "_run").mkdir(parents=True)
    for name in [".dataset.json.4711.tmp", ".plan.parquet.4711.tmp", "_run/.status.json.4711.tmp"]:
        (output / name).write_bytes(b"half")
    succeed(shell.run("annotate", config, f"output.uri={output}"))
    (output / "round-0" / "_done" / ".000001.json.4711.tmp").write_bytes(b"half")
    succeed(shell.run("annotate", config, f"output.uri={output}"))
    assert list(output.rglob("*.tmp")) == []
    assert data_files(output) == data_files(undisturbed)


def test_limit_plans_that_many(shell, config):
    output = shell.folder / "limited"
    succeed(shell.run("annotate", config, f"output.uri={output}", "--limit", "6"))
    assert len(commands.images(output)) == 6
    assert markers(output) == [0, 1]


def test_overwrite_starts_again(shell, config, undisturbed, of_two_rows):
    output = shutil.copytree(of_two_rows, shell.folder / "overwritten")
    succeed(shell.run("annotate", config, f"output.uri={output}", "--overwrite"))
    assert data_files(output) == data_files(undisturbed)


@pytest.mark.parametrize("gone", ["round-0/_done", "round-0", "dataset.json", "plan.parquet"])
def test_overwrite_killed_half_way_is_taken_up_again(shell, config, undisturbed, of_two_rows, gone):
    """What `empty` deletes, in its order: a kill may leave any beginning of it done."""
    output = shutil.copytree(of_two_rows, shell.folder / f"half-{gone.replace('/', '-')}")
    run = ["annotate", config, f"output.uri={output}"]
    stop = {"PYTHONPATH": BAD_DISK, "FLD_TEST_STOP_AFTER_DELETING": str(output / gone)}
    command = shell.start(*run, "--overwrite", variables=stop)
    assert command.wait_until(lambda: "deleted ..." in command.said), command.said
    command.kill()
    assert not (output / gone).exists()
    succeed(shell.run(*run, "--overwrite"))
    assert data_files(output) == data_files(undisturbed)


def test_second_driver_is_refused_while_the_first_lives_and_takes_over_after_its_death(
    shell, config, undisturbed
):
    output = shell.folder / "leased"
    run = ["annotate", config, f"output.uri={output}"]
    first = shell.start(*run, variables={**_SLOW, "FLD_TEST_COMMIT_PAUSE_S": "200"})
    assert first.wait_until(lambda: bool(half_committed(output, first)))
    second = succeed(shell.run(*run), code=2)
    assert f"error: {output}: process {first.process.pid} on" in second.said
    overwriting = succeed(shell.run(*run, "--overwrite"), code=2)
    assert "is writing there" in overwriting.said
    assert first.running()
    status = succeed(shell.run("status", output))
    assert status.said.startswith("running: ")
    first.process.send_signal(signal.SIGKILL)  # its workers are to notice by themselves
    first.wait()
    assert first.left_behind() == []
    succeed(shell.run(*run))
    assert data_files(output) == data_files(undisturbed)


def test_of_two_drivers_that_start_at_once_one_is_refused(shell, config, undisturbed):
    output = shell.folder / "raced"
    both = [shell.start("annotate", config, f"output.uri={output}") for _ in range(2)]
    assert sorted(command.wait() for command in both) in ([0, 2], [0, 0])
    assert data_files(output) == data_files(undisturbed)


def test_status_of_a_finished_output(fld, undisturbed):
    code, out, _ = fld("status", undisturbed)
    assert code == 0
    assert out.startswith("finished: 6 of 6 shards; 24 images planned: 24 ok, 0 failed")


def test_status_of_an_interrupted_output_says_how_to_go_on(fld, interrupted):
    before = tree(interrupted)
    code, out, _ = fld("status", interrupted)
    done = len(markers(interrupted))
    assert code == 0
    assert out.startswith(f"interrupted: {done} of 6 shards; 24 images planned: ")
    assert "run the same `fld annotate` command again" in out
    assert tree(interrupted) == before


def test_failures_of_an_interrupted_output_are_those_of_its_complete_shards(fld, interrupted):
    code, out, _ = fld("failures", interrupted)
    (headings,) = out.splitlines()
    assert code == 0
    assert headings.split()[0] == "image_key"


@pytest.mark.parametrize("verb", ["status", "failures"])
def test_command_on_no_dataset_is_refused(fld, shell, verb):
    code, _, said = fld(verb, shell.folder / "nowhere")
    assert code == 2
    assert "no dataset.json there" in said
    assert "Traceback" not in said


def test_checks_that_fail_end_with_exit_code_two(fld, shell, config):
    code, out, _ = fld("checks", config, f"source.uri={shell.folder / 'nowhere'}")
    assert code == 2
    assert "MISSING" in out
