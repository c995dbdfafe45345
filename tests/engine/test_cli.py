"""The `fld` command: help, listings, and one plain line for every mistake a user can make.

Runs with real models through the command line are tested in test_main_job.
"""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from engine import cli
from engine.source.local import LocalFolder
from tests import tiny

COMMANDS = [
    "annotate",
    "plan",
    "checks",
    "status",
    "failures",
    "inspect",
    "sources",
    "specialists",
    "rules",
]


@pytest.fixture
def config(tmp_path) -> Path:
    path = tmp_path / "a.yaml"
    content = {
        "source": {"uri": "synthetic", "num_images": 3, "shard_size": 2},
        "output": {"uri": str(tmp_path / "out")},
        "specialists": [{"kind": "null"}],
        "runner": {"kind": "serial"},
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    return path


def one_line(err: str) -> str:
    assert "Traceback" not in err
    assert err.count("\n") == 1, err
    return err


def test_fld_without_a_command_shows_them_all(fld):
    code, out, err = fld()
    assert code == 2
    assert all(name in out + err for name in COMMANDS)


@pytest.mark.parametrize("command", [[], *([c] for c in COMMANDS), ["init"], ["config", "show"]])
def test_every_command_has_help(fld, command):
    code, out, _ = fld(*command, "--help")
    assert code == 0
    assert "Usage: fld" in out


def test_the_installed_command_starts_and_ends_cleanly():
    run = subprocess.run(
        [sys.executable, "-m", "engine.cli", "rules", "orphan"],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert "Reject rows that rest on a row, or on an image, which was not kept." in run.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["anotate"], id="command"),
        pytest.param(["annotate"], id="argument"),
        pytest.param(["annotate", "a.yaml", "--nope"], id="option"),
        pytest.param(["annotate", "a.yaml", "--limit", "0"], id="value"),
    ],
)
def test_wrong_usage_is_told_without_a_traceback(fld, arguments):
    code, _, err = fld(*arguments)
    assert code == 2
    assert "Error" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("kind", ["sources", "specialists", "rules"])
def test_listings_name_everything_with_one_line_each(fld, kind):
    code, out, _ = fld(kind)
    names = getattr(cli, kind.upper()).names()
    assert code == 0
    assert {line.split()[0] for line in out.splitlines()[1:]} == set(names)


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["specialists", "null"], ["num_rows", "int", "3", "quiet_limit"]),
        (["sources", "table"], ["columns", "images", "str | None"]),
        (["rules", "min_score"], ["limits", "{'*': 0.25}"]),
    ],
)
def test_one_entry_is_listed_with_its_options_and_defaults(fld, arguments, expected):
    code, out, _ = fld(*arguments)
    assert code == 0
    assert all(word in out for word in expected)


@pytest.mark.parametrize("kind", ["sources", "specialists", "rules"])
def test_an_unknown_entry_is_one_line(fld, kind):
    code, _, err = fld(kind, "nul")
    assert code == 2
    assert "'nul' is not known; " in one_line(err)


def test_init_writes_a_config_that_loads_and_never_overwrites(fld, tmp_path):
    path = tmp_path / "new.yaml"
    code, out, _ = fld("init", path)
    assert (code, path.exists()) == (0, True)
    assert "fld checks" in out
    code, out, _ = fld("config", "show", path)
    assert code == 0
    assert yaml.safe_load(out)["source"]["shard_size"] == 256
    code, _, err = fld("init", path)
    assert code == 2
    assert "is there already; give another name" in one_line(err)


@pytest.mark.parametrize("name", ["laptop", "laptop.yaml"])
def test_init_writes_the_config_of_that_name(fld, tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    code, out, _ = fld("init", name)
    assert code == 0
    assert "wrote laptop.yaml; " in out
    written = yaml.safe_load((tmp_path / "laptop.yaml").read_text(encoding="utf-8"))
    assert "matcher" in [entry["kind"] for entry in written["specialists"]]
    assert "is there already" in one_line(fld("init", name)[2])


def test_init_of_a_name_nobody_knows_names_the_nearest(fld, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, _, err = fld("init", "lptop")
    assert code == 2
    assert "lptop: no config of ours, and no name of a YAML file; did you mean 'laptop'?" in err
    assert list(tmp_path.iterdir()) == []


def test_init_into_a_folder_that_is_not_there_is_one_line(fld, tmp_path):
    code, _, err = fld("init", tmp_path / "no" / "a.yaml")
    assert code == 2
    assert "cannot be written" in one_line(err)


def test_config_show_prints_yaml_that_is_the_same_run(fld, config, tmp_path):
    code, out, _ = fld("config", "show", config, "seed=7")
    again = tmp_path / "again.yaml"
    again.write_text(out, encoding="utf-8")
    assert code == 0
    assert yaml.safe_load(out)["seed"] == 7
    assert fld("config", "show", again) == (0, out, "")


def test_config_show_without_a_file_takes_overrides(fld):
    code, out, _ = fld("config", "show", "source.uri=photos", "output.uri=out")
    assert code == 0
    assert yaml.safe_load(out)["source"]["uri"] == "photos"


@pytest.mark.parametrize("command", [["plan"], ["annotate", "--dry-run"]])
def test_plan_tells_what_would_run_and_writes_nothing(fld, config, tmp_path, command):
    code, out, _ = fld(*command, config)
    assert code == 0
    assert "3 images in 2 shards of up to 2" in out
    assert "level 0: null" in out
    assert not (tmp_path / "out").exists()


def test_plan_takes_a_limit(fld, config):
    code, out, _ = fld("plan", config, "--limit", "1")
    assert code == 0
    assert "1 images in 1 shards" in out


def test_checks_pass_and_leave_no_file(fld, config, tmp_path):
    code, out, _ = fld("checks", config)
    assert code == 0
    assert "null: needs nothing" in out
    assert not [p for p in (tmp_path / "out").rglob("*") if p.is_file()]


def test_checks_fail_with_an_exit_code(fld, config, tmp_path):
    (tmp_path / "file").write_text("", encoding="utf-8")
    code, out, _ = fld("checks", config, f"output.uri={tmp_path / 'file' / 'out'}")
    assert code == 2
    assert "MISSING" in out


def test_checks_answer_for_a_source_that_is_not_there(fld, config, tmp_path):
    code, out, _ = fld("checks", config, f"source={{uri: {tmp_path / 'nowhere'}}}")
    assert code == 2
    assert "no such folder" in " ".join(out.split())


@pytest.mark.parametrize(
    ("override", "message"),
    [
        pytest.param("source={uri: /no/such/folder}", "there is no such folder", id="wrong-path"),
        pytest.param("source={uri: EMPTY}", "there is nothing in it", id="empty-bucket"),
        pytest.param("source={uri: 'ftp://x/y'}", "uri scheme 'ftp' is not known", id="scheme"),
        pytest.param("source.kind=imags", "source.kind 'imags' is not known", id="source-kind"),
        pytest.param("specialists.0.kind=yol", "specialist 'yol' is not known", id="specialist"),
        pytest.param("rules=[{rule: min_scor}]", "rule 'min_scor' is not known", id="rule"),
        pytest.param("sourse.uri=x", "sourse is not a key; did you mean 'source'", id="key"),
        pytest.param("specialists.0.after=[text]", "requires text rows and neither", id="level"),
        pytest.param("output.uri=s3://k:s@b/out", "put credentials in the env", id="secret"),
    ],
)
@pytest.mark.parametrize("command", ["annotate", "plan"])
def test_a_mistake_is_one_line_before_anything_starts(
    fld, config, tmp_path, command, override, message
):
    (tmp_path / "empty").mkdir()
    code, _, err = fld(command, config, override.replace("EMPTY", str(tmp_path / "empty")))
    assert code == 2
    assert message in one_line(err)
    assert err.startswith("error: ")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["status", "failures", "inspect"])
def test_reading_commands_refuse_what_is_no_dataset(fld, tmp_path, command):
    arguments = [tmp_path, "some-image"] if command == "inspect" else [tmp_path]
    code, _, err = fld(command, *arguments)
    assert code == 2
    assert "no dataset.json there; `fld annotate` writes one" in one_line(err)


def test_annotate_refuses_a_folder_with_other_things_in_it(fld, config, tmp_path):
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "thesis.tex").write_text("", encoding="utf-8")
    for flags in ([], ["--overwrite"]):
        code, _, err = fld("annotate", config, *flags)
        assert code == 2
        assert "holds 'thesis.tex' and no dataset.json" in one_line(err)
    assert LocalFolder("", str(tmp_path / "out")).names() == ["thesis.tex"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupt_is_exit_code_3(fld, config, monkeypatch, number):
    def interrupted(*_: object) -> None:
        os.kill(os.getpid(), number)

    monkeypatch.setattr(cli, "list_source", interrupted)
    code, _, err = fld("plan", config)
    assert code == 3
    assert "the same command resumes" in one_line(err)


def test_a_run_with_a_broken_photo_from_start_to_mended(fld, tmp_path):
    """One story, because a run costs seconds: exit codes, what each command then shows."""
    photos = tiny.write_photos(tmp_path / "photos")
    out = tmp_path / "out"
    places = [f"source.uri={photos}", f"output.uri={out}"]
    run = ["annotate", *places, "specialists=[{kind: null}]", "runner.kind=serial"]
    code, said, _ = fld(*run)
    assert code == 1
    assert "finished: 1 of 1 shards; 5 images planned: 3 ok, 1 failed, 1 duplicate" in said
    code, said, _ = fld("failures", out)
    assert code == 0
    assert "d.jpg" in said
    assert "text_file" in said
    code, said, _ = fld("status", out)
    assert (code, "finished: 1 of 1 shards" in said) == (0, True)
    code, said, _ = fld("inspect", out, "a.png", "--draw", tmp_path / "a.png")
    assert (code, (tmp_path / "a.png").is_file()) == (0, True)
    code, _, err = fld(*run, "seed=1")
    assert code == 2
    assert "made by another run; differences: seed: 0 -> 1." in one_line(err)
    (photos / "d.jpg").write_bytes(tiny.GIF + b"\0")
    assert fld(*run)[0] == 1
    code, said, _ = fld(*run, "--retry-failed")
    assert code == 0
    assert "4 ok, 0 failed, 1 duplicate" in said


def test_a_bucket_in_the_first_override_keeps_its_slashes(fld):
    """Without a file the first argument is an override, and no path."""
    _, out, _ = fld("config", "show", "source.uri=s3://bucket/a", "output.uri=s3://bucket/b")
    shown = yaml.safe_load(out)
    assert (shown["source"]["uri"], shown["output"]["uri"]) == ("s3://bucket/a", "s3://bucket/b")
