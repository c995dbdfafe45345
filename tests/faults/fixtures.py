"""Fixtures for tests of whole commands: a place to run them, a package to install."""

import shutil
import signal
import sys
import tempfile
from pathlib import Path

import pytest

from tests.faults.commands import Shell


@pytest.fixture(scope="module")
def shell(tmp_path_factory):
    """Commands with a Ray of their own, in a short path: its sockets allow some 100 characters."""
    sessions = tempfile.mkdtemp(prefix="fld-")
    shell = Shell(tmp_path_factory.mktemp("shell"), {"RAY_TMPDIR": sessions})
    yield shell
    shell.close()
    shutil.rmtree(sessions, ignore_errors=True)


@pytest.fixture(scope="module")
def tricks(tmp_path_factory) -> dict[str, str]:
    """Variables that make the test-only specialist known the way installed packages do."""
    site = tmp_path_factory.mktemp("site")
    about = site / "fld_trickster-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: fld-trickster\nVersion: 1\n")
    (about / "entry_points.txt").write_text(
        "[fld.specialists]\ntrickster = tests.faults.trickster:Trickster\n"
    )
    return {"PYTHONPATH": str(site)}


@pytest.fixture
def fld(monkeypatch, capsys):
    """Runs a command in this process as the installed script does: exit code, output, errors."""
    from engine import cli

    def run(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["fld", *map(str, arguments)])
        with pytest.raises(SystemExit) as ended:
            cli.main()
        said = capsys.readouterr()
        return ended.value.code or 0, said.out, said.err

    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    yield run
    for number, handler in before.items():
        signal.signal(number, handler)


def runner_of(kind: str, **options: object) -> list[str]:
    """Overrides for that runner: small batches, two shards at a time.

    Ray starts a process for every shard in flight, which costs more than all the work in it.
    """
    settings = {"kind": kind, "batch_size": 4, "shards_in_flight": 2, **options}
    return [f"runner.{name}={value}" for name, value in settings.items()]


BAD_DISK = str(Path(__file__).with_name("bad_disk"))
EITHER_RUNNER = ["serial", pytest.param("ray", marks=pytest.mark.ray)]
