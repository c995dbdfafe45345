"""`--retry-failed`: only the images that failed, everything else byte for byte as it was."""

import pyarrow.parquet as pq
import pytest

from tests import hostile
from tests.faults import commands
from tests.faults.commands import data_files, succeed, write_config, write_photos
from tests.faults.fixtures import BAD_DISK, runner_of
from tests.recovery.kills import half_committed

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

# In shards 0, 1 and 2 of four; shard 3 has nothing to retry.
_BROKEN = {"photo-01.jpg": b"", "photo-05.jpg": b"<html></html>", "raises.jpg": None}


@pytest.fixture
def place(shell, tmp_path):
    """A folder of photos, two of them broken and one that the specialist fails on."""
    names = [f"photo-{i:02d}.jpg" for i in range(10)] + ["raises.jpg"]
    folder = write_photos(tmp_path / "photos", [*names, *(f"z-{i}.jpg" for i in range(5))])
    for name, content in _BROKEN.items():
        if content is not None:
            (folder / name).write_bytes(content)
    config = write_config(
        tmp_path / "retry.yaml",
        source={"uri": str(folder), "shard_size": 4},
        output={"uri": str(tmp_path / "out")},
        specialists=[{"kind": "trickster"}, {"kind": "null"}, {"kind": "composer"}],
    )
    return folder, config, tmp_path / "out"


def mend(folder):
    """Other bytes and another size: what a user does who fetches a file again."""
    for seed, name in enumerate(["photo-01.jpg", "photo-05.jpg"]):
        (folder / name).write_bytes(hostile.encoded(hostile.photo(80, 60, 100 + seed), "JPEG"))


def failed(output):
    return {uri for uri, row in commands.images(output).items() if row["failures"]}


@pytest.mark.parametrize(
    ("pixels", "runner"),
    [
        pytest.param("copy", "serial", id="copy-serial"),
        pytest.param("none", "serial", id="none-serial"),
        pytest.param("copy", "ray", id="copy-ray", marks=pytest.mark.ray),
    ],
)
def test_retry_failed_takes_what_was_mended_and_leaves_the_rest(
    shell, tricks, place, runner, pixels
):
    folder, config, output = place
    run = ["annotate", config, f"output.pixels={pixels}", *runner_of(runner)]
    succeed(shell.run(*run, "runner.kind=serial", variables=tricks), code=1)
    assert failed(output) == _BROKEN.keys()
    before, rows, images = data_files(output), commands.rows(output), commands.images(output)
    mend(folder)
    succeed(shell.run(*run, "--retry-failed", variables=tricks), code=1)
    assert failed(output) == {"raises.jpg"}
    commands.check_committed(output)
    after = data_files(output)
    assert after.keys() == before.keys()
    assert {name for name in after if after[name] == before[name] and "/" in name} == {
        name for name in before if "000003" in name or "000002" in name
    }
    mended = {"photo-01.jpg", "photo-05.jpg"}
    keys = {commands.images(output)[name]["image_key"] for name in mended}
    assert [r for r in commands.rows(output) if r["image_key"] not in keys] == rows
    assert {r["source"] for r in commands.rows(output) if r["image_key"] in keys} == {
        "trickster",
        "null",
        "composer",
    }
    for name in images.keys() - mended:
        assert commands.images(output)[name] == images[name]


def test_retry_failed_runs_the_specialists_on_the_failed_images_alone(shell, tricks, place):
    folder, config, output = place
    run = ["annotate", config, *runner_of("serial")]
    succeed(shell.run(*run, variables=tricks), code=1)
    mend(folder)
    # A specialist that now says nothing at all says it of the three retried images only.
    silent = {**tricks, "FLD_TEST_SILENT": "1"}
    succeed(shell.run(*run, "--retry-failed", variables=silent), code=0)
    claimed = {row["image_key"] for row in commands.rows(output) if row["source"] == "trickster"}
    expected = {
        row["image_key"] for uri, row in commands.images(output).items() if uri not in _BROKEN
    }
    assert claimed == expected


def test_retry_failed_without_failures_changes_nothing(shell, tricks, place):
    folder, config, output = place
    mend(folder)
    run = ["annotate", config, "specialists.0.tricks=false", *runner_of("serial")]
    succeed(shell.run(*run, variables=tricks))
    before = data_files(output)
    succeed(shell.run(*run, "--retry-failed", variables=tricks))
    assert data_files(output) == before


def test_retry_failed_that_is_killed_goes_on_with_the_same_command(shell, tricks, place):
    folder, config, output = place
    run = ["annotate", config, *runner_of("serial", shards_in_flight=1)]
    succeed(shell.run(*run, variables=tricks), code=1)
    mend(folder)
    slow = {
        "PYTHONPATH": f"{tricks['PYTHONPATH']}:{BAD_DISK}",
        "FLD_TEST_COMMIT_PAUSE_S": "0.3",
    }
    for _ in range(2):
        command = shell.start(*run, "--retry-failed", variables=slow)
        assert command.wait_until(lambda command=command: bool(half_committed(output, command)))
        command.kill()
        commands.check_committed(output)
    succeed(shell.run(*run, "--retry-failed", variables=tricks), code=1)
    assert failed(output) == {"raises.jpg"}
    assert commands.check_committed(output) == 4
    fresh = output.parent / "fresh"
    succeed(shell.run(*run, f"output.uri={fresh}", variables=tricks), code=1)
    tables = sorted(path.name for path in (fresh / "round-0").glob("*.parquet"))
    for name in tables:
        found = pq.read_table(output / "round-0" / name)
        assert found.equals(pq.read_table(fresh / "round-0" / name))
