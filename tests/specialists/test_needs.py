"""Digests of weights, and the one line for what is missing."""

import hashlib
import subprocess

import pytest

from engine.errors import SpecialistError
from engine.protocols import Need
from specialists.needs import cache_folder, package_need, refuse_missing, revision_of


def test_revision_of_an_empty_folder_and_an_empty_file_differ(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "file").touch()
    assert revision_of(tmp_path / "file") == hashlib.sha256(b"").hexdigest()[:16]
    assert len(revision_of(tmp_path / "folder")) == 16


def test_revision_of_a_file_is_what_sha256sum_says(tmp_path):
    file = tmp_path / "weights.onnx"
    file.write_bytes(bytes(range(256)) * 9000)  # more than one read
    said = subprocess.run(
        ["sha256sum", str(file)], capture_output=True, text=True, check=True
    ).stdout
    assert revision_of(file) == said[:16]


def test_revision_of_a_folder_follows_bytes_and_names_only(tmp_path):
    for name, files in {
        "one": [("b.bin", "1"), ("a.xml", "2")],
        "same": [("a.xml", "2"), ("b.bin", "1"), (".lock", "x"), (".cache/state", "y")],
        "other_bytes": [("a.xml", "2"), ("b.bin", "3")],
        "other_name": [("a.xml", "2"), ("c.bin", "1")],
        "moved_border": [("a.xml", "21"), ("b.bin", "")],
    }.items():
        for file, text in files:
            (tmp_path / name / file).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / file).write_text(text)
    revisions = {folder.name: revision_of(folder) for folder in tmp_path.iterdir()}
    assert revisions["one"] == revisions["same"]
    assert len(set(revisions.values())) == 4


def test_revision_of_several_files_does_not_depend_on_where_they_are(tmp_path):
    for folder in ("here", "there"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "a").write_text("1")
        (tmp_path / folder / "b").write_text("2")
    here, there = ([tmp_path / folder / name for name in "ab"] for folder in ("here", "there"))
    assert revision_of(*here) == revision_of(*there)
    assert revision_of(*here) != revision_of(*here[::-1])


def test_revision_of_a_missing_file_is_an_error(tmp_path):
    with pytest.raises(FileNotFoundError, match="gone"):
        revision_of(tmp_path / "gone")


def test_package_need_tells_present_from_missing():
    assert package_need("json", "yolo").present
    missing = package_need("no_such_package", "yolo")
    assert missing == Need("package no_such_package", False, "pip install 'fld-engine[yolo]'")


def test_refuse_missing_names_the_first_thing_that_will_not_come_by_itself():
    refuse_missing("yolo", [])
    fine = [Need("a", True), Need("b", False, downloads=True)]
    refuse_missing("yolo", fine)
    with pytest.raises(SpecialistError, match=r"^specialist 'yolo': c is missing; get c$"):
        refuse_missing("yolo", [*fine, Need("c", False, "get c"), Need("d", False, "get d")])


def test_cache_folder_obeys_the_users_choice(monkeypatch, tmp_path):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_folder() == tmp_path / "fld-engine"
    monkeypatch.delenv("XDG_CACHE_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert cache_folder() == tmp_path / ".cache" / "fld-engine"
