"""The table of specialists and what all of them promise; their answers are tested elsewhere."""

import pickle
import subprocess
import sys

import pytest

from engine.config import build as build_from
from engine.errors import ConfigError
from engine.schema import ROLES
from specialists import SPECIALISTS

REQUIRED = {
    "caption": {"model": "weights/captioner"},
    "grounding": {"model": "weights/detector"},
    "openai": {"model": "some-vlm"},
    "region_caption": {"model": "weights/captioner"},
    "yolo": {"model": "weights/best.onnx"},
}
PAIRS = {f"{kind}/{role}" for kind, roles in ROLES.items() for role in roles}


def build(kind, **options):
    return build_from(SPECIALISTS.find(kind), REQUIRED.get(kind, {}) | options, "specialists[0]")


def install(folder, name, value, package="others"):
    info = folder / f"{package}-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {package}\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(f"[fld.specialists]\n{name} = {value}\n")


def test_import_specialists_loads_no_model_library():
    modules = ", ".join(value.partition(":")[0] for value in SPECIALISTS.table.values())
    heavy = "{'torch', 'ultralytics', 'easyocr', 'transformers', 'cv2', 'ray', 'spacy', 'openai'}"
    code = f"import sys, specialists, {modules}; print(sorted({heavy} & set(sys.modules)))"
    answer = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    assert answer.stdout == "[]\n"


@pytest.mark.parametrize("kind", SPECIALISTS.table)
def test_every_table_entry_resolves_and_is_built_from_options(kind):
    specialist = build(kind, name="mine")
    assert specialist.name == "mine"
    assert specialist.model
    assert set(specialist.produces) <= PAIRS
    assert {r for r in specialist.requires if "/" not in r} <= set(ROLES)
    assert specialist.resources.cpus == 1
    assert specialist.quiet_limit is None or specialist.quiet_limit > 0
    assert specialist.replaces in ("never", "kept", "always")


@pytest.mark.parametrize("kind", SPECIALISTS.table)
def test_every_specialist_survives_pickling(kind):
    specialist = build(kind)
    assert pickle.loads(pickle.dumps(specialist)) == specialist


@pytest.mark.parametrize("kind", SPECIALISTS.table)
def test_needs_of_every_specialist_say_how_to_mend(kind):
    assert all(need.mend and need.what for need in build(kind).needs())


def test_specialist_class_refuses_an_unknown_name_nearest_first():
    message = "specialist 'yollo' is not known; did you mean 'yolo'\\? known: caption, composer"
    with pytest.raises(ConfigError, match=message):
        SPECIALISTS.find("yollo")


def test_known_specialists_lists_those_of_installed_packages(tmp_path, monkeypatch):
    before = SPECIALISTS.names()  # a package of other tests may be installed too
    install(tmp_path, "colours", "colorsys:rgb_to_hsv")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert before.keys() >= SPECIALISTS.table.keys()
    assert SPECIALISTS.names() == before | {"colours": "colorsys:rgb_to_hsv"}
    assert SPECIALISTS.find("colours").__name__ == "rgb_to_hsv"


def test_known_specialists_refuses_a_name_claimed_twice(tmp_path, monkeypatch):
    install(tmp_path, "yolo", "theirs:Yolo")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(
        ConfigError, match=r"'yolo' is claimed twice, by specialists.yolo:Yolo and by theirs"
    ):
        SPECIALISTS.names()


def test_specialist_class_says_which_package_is_broken(tmp_path, monkeypatch):
    install(tmp_path, "gone", "no_such_module:Gone")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match="'gone': no_such_module:Gone cannot be imported"):
        SPECIALISTS.find("gone")
