"""Whole runs against a service that misbehaves: every image accounted for, the key nowhere.

What one answer comes to, by behaviour: tests/specialists/test_openai.py.
"""

import json
from collections import Counter
from pathlib import Path

import pytest

from tests.faults import commands
from tests.faults.commands import succeed, write_config, write_photos
from tests.faults.fixtures import runner_of
from tests.specialists.misbehaving_server import BEHAVIOURS, KEY, misbehaving_server

pytestmark = [pytest.mark.slow, pytest.mark.timeout(900)]

_TASKS = ["brief", "ocr"]
_ROWS_PER_IMAGE = 3  # a caption and two lines
_LOCAL = {"NO_PROXY": "127.0.0.1"}


class Run:
    """One ended run over photos of which every behaviour has one, and the rest are good."""

    def __init__(self, shell, server, runner, num_images):
        names = [f"{name}.jpg" for name in BEHAVIOURS]
        names += [f"plain-{i:03d}.jpg" for i in range(num_images - len(names))]
        self.folder = write_photos(shell.folder / f"photos-{runner}", names)
        for name in BEHAVIOURS:
            server.behave((self.folder / f"{name}.jpg").read_bytes(), name)
        self.output = shell.folder / f"endpoint-{runner}"
        self.server, self.num_images = server, num_images
        self._shell = shell
        config = write_config(
            shell.folder / f"endpoint-{runner}.yaml",
            source={"uri": str(self.folder), "shard_size": 50},
            output={"uri": str(self.output)},
            specialists=[
                {
                    "kind": "openai",
                    "model": "tiny",
                    "base_url": server.url,
                    "key_variable": "FLD_TEST_KEY",
                    "tasks": _TASKS,
                    "timeout_s": 2,
                    "max_tries": 2,
                    "max_wait_s": 0.05,
                    "quiet_limit": 64,
                },
                {"kind": "null"},
            ],
        )
        self._arguments = ["annotate", config, *runner_of(runner, batch_size=16)]
        self.command = self.start()

    def start(self, *more):
        return self._shell.run(*self._arguments, *more, variables={"FLD_TEST_KEY": KEY, **_LOCAL})

    def failures(self):
        return {
            uri: [(f["source"], f["cause"]) for f in row["failures"]]
            for uri, row in commands.images(self.output).items()
            if row["failures"]
        }

    def usage(self):
        status = json.loads((self.output / "_run" / "status.json").read_bytes())
        return status["usage"]["openai"]


@pytest.fixture(
    scope="module",
    params=[
        pytest.param(("serial", 96), id="serial"),
        pytest.param(("ray", 48), id="ray", marks=pytest.mark.ray),
    ],
)
def ran(request, shell):
    with misbehaving_server() as server:
        yield Run(shell, server, *request.param)


def test_run_over_a_misbehaving_service_ends_with_exit_code_one(ran):
    succeed(ran.command, code=1)
    assert "Traceback" not in ran.command.said
    assert ran.command.left_behind() == []
    commands.check_committed(ran.output)


def test_every_image_of_a_misbehaving_service_is_accounted_for(ran):
    images = commands.images(ran.output)
    assert len(images) == ran.num_images
    assert {row["status"] for row in images.values()} == {"ok"}
    wanted = {f"{n}.jpg": [("openai", cause)] for n, cause in BEHAVIOURS.items() if cause}
    assert ran.failures() == wanted
    told = Counter(r["image_key"] for r in commands.rows(ran.output) if r["source"] == "openai")
    answered = {row["image_key"] for uri, row in images.items() if uri not in wanted}
    assert told == dict.fromkeys(answered, _ROWS_PER_IMAGE)
    assert len(answered) + len(wanted) == ran.num_images


def test_a_misbehaving_service_costs_other_specialists_no_row(ran):
    theirs = {r["image_key"] for r in commands.rows(ran.output) if r["source"] == "null"}
    assert len(theirs) == ran.num_images


def test_usage_of_a_run_is_what_the_service_saw(ran):
    usage, requests = ran.usage(), len(ran.server.record.seen)
    assert usage["requests"] == requests
    questions = {(seen.digest, seen.prompt) for seen in ran.server.record.seen}
    assert len(questions) == len(_TASKS) * ran.num_images
    assert usage["retries"] == requests - len(questions) > 0
    assert usage["prompt_tokens"] > 0


def test_the_key_is_in_no_file_of_a_run_and_in_nothing_it_said(ran, shell):
    sessions = Path(shell._variables["RAY_TMPDIR"])
    places = [ran.output, shell.folder, sessions]
    files = [p for place in places for p in place.rglob("*") if p.is_file()]
    assert ran.command.log in files
    parts = [KEY[8:24], KEY[-16:]]
    holders = [str(p) for p in files if any(part.encode() in p.read_bytes() for part in parts)]
    assert holders == []
    tables = repr(commands.images(ran.output)) + repr(commands.rows(ran.output))  # uncompressed
    assert [part for part in parts if part in tables] == []


def test_retry_failed_asks_again_for_the_failed_images_alone(ran):
    """The last of the tests that look at this run, because it changes it."""
    before = commands.rows(ran.output)
    failed = ran.failures()
    ran.server.behaviours.clear()
    ran.server.record.seen.clear()
    succeed(ran.start("--retry-failed", "runner.kind=serial"))
    assert len(ran.server.record.seen) == len(_TASKS) * len(failed)
    assert ran.failures() == {}
    after = [r for r in commands.rows(ran.output) if r["source"] == "openai"]
    assert len(after) == _ROWS_PER_IMAGE * ran.num_images
    assert {r["annotation_id"] for r in before} <= {
        r["annotation_id"] for r in commands.rows(ran.output)
    }


def test_a_key_that_is_not_accepted_stops_the_run_and_says_so(shell):
    photos = write_photos(shell.folder / "photos-wrong-key", [f"{i:02d}.jpg" for i in range(40)])
    with misbehaving_server() as server:
        for photo in photos.iterdir():
            server.behave(photo.read_bytes(), "echoes_key")
        config = write_config(
            shell.folder / "wrong-key.yaml",
            source={"uri": str(photos), "shard_size": 40},
            output={"uri": str(shell.folder / "wrong-key")},
            specialists=[{"kind": "openai", "model": "tiny", "base_url": server.url}],
        )
        command = shell.run(
            "annotate", config, *runner_of("serial"), variables={"OPENAI_API_KEY": KEY, **_LOCAL}
        )
    succeed(command, code=3)
    assert "'openai' gave no row for its first 16 images, 16 of them failures" in command.said
    assert "refused: brief: HTTP 401, the key is not accepted: wrong key: Bearer" in command.said
    assert KEY[8:24] not in command.said
    assert len(server.record.seen) < 40


def test_a_run_without_its_key_does_not_start(shell):
    config = write_config(
        shell.folder / "no-key.yaml",
        source={"uri": "synthetic", "num_images": 2},
        output={"uri": str(shell.folder / "no-key")},
        specialists=[{"kind": "openai", "model": "tiny", "key_variable": "FLD_NO_SUCH_KEY"}],
    )
    command = succeed(shell.run("annotate", config, *runner_of("serial")), code=2)
    assert "environment variable FLD_NO_SUCH_KEY is missing: export" in command.said
    checks = succeed(shell.run("checks", config), code=2)
    assert "FLD_NO_SUCH_KEY" in checks.said
