"""A folder as a location: paths, whole-file reads and writes, walks."""

import errno
import os
import pickle
import socket
import subprocess
import tempfile
from pathlib import Path

import pytest

from engine.errors import ConfigError, StoppedError
from engine.source.filesystem import open_location
from engine.source.local import LocalFolder
from engine.source.shapes import ReadError


@pytest.fixture
def place(tmp_path) -> LocalFolder:
    return open_location(str(tmp_path))


def test_walk_of_an_empty_folder_yields_nothing(place):
    assert list(place.walk()) == []
    assert place.names() == []


def test_walk_is_sorted_by_code_points_across_folders(place, tmp_path):
    names = [
        "a/b.jpg",
        "a-b.jpg",
        "a.jpg",
        "a/c/d.jpg",
        "a0.jpg",
        "B.jpg",
        "\u00e9.jpg",
        "\U0001f408.jpg",
    ]
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    found = [entry.uri for entry in place.walk()]
    assert found == sorted(names)


def test_walk_goes_as_deep_as_folders_go(place, tmp_path):
    deep = "/".join(["d"] * 1200)
    handle = os.open(tmp_path, os.O_RDONLY)
    for _ in range(1200):  # step by step: the whole path is longer than most calls accept at once
        os.mkdir("d", dir_fd=handle)
        below = os.open("d", os.O_RDONLY, dir_fd=handle)
        os.close(handle)
        handle = below
    os.close(os.open("x.jpg", os.O_WRONLY | os.O_CREAT, dir_fd=handle))
    os.close(handle)
    found = [entry.uri for entry in place.walk()]
    # Deeper than shutil recurses, so the test run could not clean up after itself.
    subprocess.run(["rm", "-r", str(tmp_path / "d")], check=True, timeout=60)
    assert found == [f"{deep}/x.jpg"]


def test_walk_names_a_missing_folder_and_a_file(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere': there is no such folder; correct the path"):
        list(open_location(str(tmp_path / "nowhere")).walk())
    (tmp_path / "file.jpg").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"file.jpg': is a file; give the folder"):
        list(open_location(str(tmp_path / "file.jpg")).walk())


def test_write_then_read_gives_the_bytes_and_leaves_nothing_else(place, tmp_path):
    place.write("round-0/000000.tar", b"first")
    place.write("round-0/000000.tar", memoryview(b"second"))
    assert place.read("round-0/000000.tar").data.to_pybytes() == b"second"
    assert [path.name for path in tmp_path.rglob("*") if path.is_file()] == ["000000.tar"]
    assert place.names("round-0") == ["000000.tar"]
    assert place.names() == []


def test_write_that_fails_leaves_the_old_file(place, tmp_path):
    place.write("a.json", b"old")
    with pytest.raises(TypeError, match="bytes-like"):
        place.write("a.json", "text")
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
    assert (tmp_path / "a.json").read_bytes() == b"old"


def test_write_onto_a_full_disk_stops_the_run(place, tmp_path, monkeypatch):
    def full(handle):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(StoppedError, match=r"no room for 'a.tar': No space left .*; make room"):
        place.write("a.tar", b"x")
    assert list(tmp_path.iterdir()) == []


def test_write_below_a_file_is_refused(place, tmp_path):
    (tmp_path / "out").write_bytes(b"a file")
    with pytest.raises(ConfigError, match=r"cannot write 'out/a.json': .*; give a folder"):
        place.write("out/a.json", b"x")


def test_delete_of_what_is_gone_is_fine(place):
    place.write("a", b"x")
    assert place.exists("a")
    place.delete("a")
    place.delete("a")
    assert not place.exists("a")


def test_read_tells_missing_special_and_large_files(place, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "folder").mkdir()
    (tmp_path / "large").write_bytes(b"12345")
    with socket.socket(socket.AF_UNIX) as server:
        here = Path.cwd()
        os.chdir(tmp_path)  # a socket's path may have 108 characters at most
        server.bind("socket")
        os.chdir(here)
        for name, cause in {
            "nowhere": "missing",
            "pipe": "special_file",
            "socket": "special_file",
            "folder": "special_file",
            "large/x": "unreadable",
        }.items():
            with pytest.raises(ReadError, match=r"\w") as caught:
                place.read(name)
            assert caught.value.cause == cause, name
    with pytest.raises(ReadError, match=r"5 bytes, limits.max_bytes is 4"):
        place.read("large", max_bytes=4)
    assert place.read("large", max_bytes=5).data.size == 5
    assert place.read_head("large", 2) == b"12"


@pytest.fixture
def nobody():
    """Rights do not bind root, so as root the test is somebody without any."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65_534)
    yield
    os.seteuid(0)


@pytest.fixture
def secret():
    """A folder all may enter, unlike those of tmp_path, with a file that nobody may read."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)
        (Path(folder) / "secret.jpg").write_bytes(b"x")
        (Path(folder) / "secret.jpg").chmod(0)
        yield open_location(folder)


@pytest.mark.usefixtures("secret", "nobody")
def test_read_and_walk_tell_missing_rights(secret):
    assert [entry.uri for entry in secret.walk()] == ["secret.jpg"]
    with pytest.raises(ReadError, match="Permission") as caught:
        secret.read("secret.jpg")
    assert caught.value.cause == "permission_denied"


def test_a_location_pickles_and_stands_where_it_stood(tmp_path, monkeypatch):
    (tmp_path / "in").mkdir()
    monkeypatch.chdir(tmp_path)
    place = open_location("in")
    monkeypatch.chdir("/")
    pickle.loads(pickle.dumps(place)).write("a", b"x")
    assert (tmp_path / "in" / "a").exists()


def test_open_location_understands_paths_and_file_uris(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    root = str(tmp_path)
    for uri in (root, root + "/", f"file://{root}", f"file://localhost{root}", "~"):
        assert open_location(uri).root == root
    assert open_location(f"file://{root}/a%20b").root == f"{root}/a b"
    assert open_location(f"{root}/a%20b").root == f"{root}/a%20b"
