"""A folder of everything that breaks image pipelines, through the whole command: `fld annotate`.

Verdicts on the files one by one: tests/engine/source/test_shard.py.
"""

import os

import pytest

from engine.failures import CAUSES
from engine.source.names import encode_name
from tests import hostile
from tests.faults import commands
from tests.faults.commands import succeed, write_config, write_photos
from tests.faults.fixtures import EITHER_RUNNER, runner_of
from tests.faults.trickster import TRICKS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_TRICKS = ["raises", "nan_score", "eats_memory", "hangs", "exits"]  # one of each cause


@pytest.fixture(scope="module", params=EITHER_RUNNER)
def ran(request, shell, tricks):
    """The ended command, its output, and the verdict each file is to get, by uri.

    The first command ends while models load, after the plan was made: files that go, grow or are
    touched between planning and reading need that moment.
    """
    folder, output = shell.folder / f"hostile-{request.param}", shell.folder / request.param
    write_photos(folder, [f"{trick}.jpg" for trick in _TRICKS])
    expected = hostile.build(folder)
    hostile.build_ignored(folder)
    config = write_config(
        shell.folder / f"hostile-{request.param}.yaml",
        source={"uri": str(folder), "shard_size": 200},
        output={"uri": str(output)},
        specialists=[{"kind": "trickster"}, {"kind": "null"}, {"kind": "composer"}],
        limits={
            "max_pixels": hostile.MAX_PIXELS,
            "max_bytes": hostile.MAX_BYTES,
            "worker_memory_mb": 256,
        },
    )
    run = ["annotate", config, *runner_of(request.param, batch_timeout_s=8)]
    raises = {**tricks, "FLD_TEST_LOAD": "raises"}
    command = shell.run(*run, "runner.kind=serial", variables=raises)
    assert "no such weights on this machine" in succeed(command, code=2).said
    hostile.disturb(folder)
    command = shell.run(*run, variables=tricks)
    return command, output, {encode_name(name): verdict for name, verdict in expected.items()}


def test_hostile_folder_ends_with_exit_code_one(ran):
    command, _, _ = ran
    succeed(command, code=1)
    assert "Traceback" not in command.said
    assert command.left_behind() == []


def test_hostile_folder_gives_every_file_its_verdict(ran):
    _, output, expected = ran
    found = {}
    for uri, row in commands.images(output).items():
        failures = [(f["stage"], f["cause"]) for f in row["failures"] or ()]
        found[uri] = hostile.Verdict(row["status"], *(failures[0] if failures else ()))
    tricks = {f"{t}.jpg": hostile.Verdict("ok", "annotate", TRICKS[t]) for t in _TRICKS}
    assert found == expected | tricks


# Causes that a folder of loose images and models without a service cannot meet.
_ELSEWHERE = {
    *("unsafe_path", "broken_archive", "not_json", "bad_labels", "too_many_labels"),
    *("unknown_image", "unknown_category", "duplicate_id"),
    *("refused", "bad_answer"),
}


def test_hostile_folder_covers_the_causes(ran):
    _, output, _ = ran
    rows = commands.images(output).values()
    causes = {failure["cause"] for row in rows for failure in row["failures"] or ()}
    forbidden = {"permission_denied"} if os.geteuid() == 0 else set()  # root may read everything
    assert causes == CAUSES.keys() - forbidden - _ELSEWHERE
    assert len(causes) >= 25


def test_hostile_folder_annotates_all_that_is_fine(ran):
    _, output, _ = ran
    rows = commands.images(output).values()
    fine = {row["image_key"] for row in rows if row["status"] == "ok"}
    claimed = {row["image_key"] for row in commands.rows(output) if row["source"] == "null"}
    assert claimed == fine
    commands.check_committed(output)


def test_failures_lists_every_failed_file(ran, shell):
    _, output, expected = ran
    said = succeed(shell.run("failures", output)).said
    for cause in {verdict.cause for verdict in expected.values() if verdict.cause}:
        assert f" {cause} " in said
