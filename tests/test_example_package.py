"""Other people's packages: tests/example_package, installed as theirs are, and used by commands."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.faults import commands
from tests.faults.commands import ROOT, succeed, write_config

PACKAGE = ROOT / "tests" / "example_package"
COLORS = {"sky.png": "blue", "snow.png": "white", "rose.png": "red"}
RGB = {"blue": (40, 80, 220), "white": (250, 250, 250), "red": (210, 30, 50)}


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> dict[str, str]:
    """Variables for commands that find the package where pip has put it."""
    source = tmp_path_factory.mktemp("source") / "example"
    shutil.copytree(PACKAGE, source)  # a build leaves folders beside what it builds
    target = tmp_path_factory.mktemp("target")
    offline = ["--no-deps", "--no-index", "--no-build-isolation", "--disable-pip-version-check"]
    install = [sys.executable, "-m", "pip", "install", *offline, "--target", target, source]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    run = subprocess.run(
        install, capture_output=True, text=True, timeout=300, check=False, env=environment
    )
    assert run.returncode == 0, run.stdout + run.stderr
    return {"PYTHONPATH": str(target)}


@pytest.fixture(scope="module")
def config(shell) -> Path:
    folder = shell.folder / "colours"
    folder.mkdir()
    for name, color in COLORS.items():
        Image.new("RGB", (96, 80), RGB[color]).save(folder / name)
    noise = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    Image.fromarray(noise).save(folder / "noise.png")
    return write_config(
        shell.folder / "colours.yaml",
        source={"uri": str(folder)},
        output={"uri": str(shell.folder / "coloured")},
        specialists=[{"kind": "dominant_color"}],
        runner={"kind": "serial"},
    )


def test_installed_package_is_listed_with_its_options(shell, installed):
    listed = succeed(shell.run("specialists", variables=installed)).said
    assert "dominant_color" in listed
    assert "Answers each image with a brief text" in listed
    shown = succeed(shell.run("specialists", "dominant_color", variables=installed)).said
    assert "min_share" in shown
    assert "0.5" in shown


def test_installed_package_annotates(shell, installed, config):
    succeed(shell.run("annotate", config, variables=installed))
    output = shell.folder / "coloured"
    uris = {row["image_key"]: uri for uri, row in commands.images(output).items()}
    assert len(uris) == 4
    found = {uris[row["image_key"]]: row for row in commands.rows(output)}
    assert {uri: row["text"] for uri, row in found.items()} == {
        uri: f"a mostly {color} picture" for uri, color in COLORS.items()
    }
    assert {(row["source"], row["model"], row["revision"]) for row in found.values()} == {
        ("dominant_color", "dominant_color", "1")
    }


def test_option_of_an_installed_package_is_checked(shell, installed, config):
    wrong = succeed(
        shell.run("plan", config, "specialists.0.min_share=2", variables=installed), code=2
    )
    assert "min_share 2.0; allowed: 0 to 1" in wrong.said
    misspelt = succeed(
        shell.run("plan", config, "specialists.0.min_shar=1", variables=installed), code=2
    )
    assert "did you mean 'min_share'?" in misspelt.said


def test_without_its_package_a_config_is_refused(shell, config):
    refused = succeed(shell.run("plan", config), code=2)
    assert "specialist 'dominant_color' is not known" in refused.said


def test_rule_of_an_installed_package_judges(shell, installed):
    listed = succeed(shell.run("rules", "no_shouting", variables=installed)).said
    assert "written in capitals alone" in listed
    captions = [
        {"id": n, "image_id": 1, "caption": text}
        for n, text in enumerate(["BIG SALE TODAY", "a dog in the USA", "NASA", ""], start=1)
    ]
    labels = shell.folder / "captions.json"
    images = [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}]
    labels.write_text(json.dumps({"images": images, "annotations": captions}))
    places = [f"source.uri={labels}", f"output.uri={shell.folder}/quiet.json"]
    options = ["rules=[{rule: no_shouting}]", "runner.kind=serial"]
    succeed(shell.run("filter", *places, *options, variables=installed))
    quiet = json.loads((shell.folder / "quiet.json").read_text())["annotations"]
    assert [record["id"] for record in quiet] == [2, 3, 4]
