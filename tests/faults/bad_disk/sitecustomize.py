"""A bad disk, put on PYTHONPATH: slow to list, slow to commit, or full, as the environment says."""

import errno
import os
import sys
import time
from pathlib import Path

_COMMIT_PAUSE_S = float(os.environ.get("FLD_TEST_COMMIT_PAUSE_S", "0"))
_COMMIT_GATE = os.environ.get("FLD_TEST_COMMIT_GATE")  # nothing more is committed until it exists
_SLOW_FOLDER = os.environ.get("FLD_TEST_SLOW_FOLDER")
_FULL_OUTPUT = os.environ.get("FLD_TEST_FULL_OUTPUT")  # full once it holds two complete shards
_STOP_AFTER = os.environ.get("FLD_TEST_STOP_AFTER_DELETING")
_replace, _scandir, _fsync = os.replace, os.scandir, os.fsync
_rmdir, _unlink = os.rmdir, os.unlink


def _replace_and_wait(source, target, **options):
    """The moments from the first rename of a shard to its marker, long enough for a kill."""
    _replace(source, target, **options)
    path = os.fspath(target)
    if "/round-0/" in path and path.endswith((".tar", ".parquet")):
        time.sleep(_COMMIT_PAUSE_S)


def _replace_when_open(source, target, **options):
    """The first shard is committed, the others wait for the gate, a minute at most."""
    path = Path(os.fspath(target))
    is_marker = path.parent.name == "_done"
    first = is_marker and not any(path.parent.glob("*.json"))
    end = time.monotonic() + 60
    while is_marker and not first and not Path(_COMMIT_GATE).exists() and time.monotonic() < end:
        time.sleep(0.05)
    _replace(source, target, **options)


def _scandir_slowly(path="."):
    if path == _SLOW_FOLDER:
        sys.stderr.write("listing ...\n")
        time.sleep(600)
    return _scandir(path)


def _fsync_if_room(handle):
    """Where file systems that allocate late say that they are full."""
    done = Path(_FULL_OUTPUT, "round-0", "_done").glob("*.json")
    path = Path(f"/proc/self/fd/{handle}").readlink()
    is_data = path.is_relative_to(_FULL_OUTPUT) and path.suffix in (".tar", ".parquet")
    if is_data and len(list(done)) > 1:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    _fsync(handle)


def _then_stop(delete):
    def delete_then_stop(path, **options):
        delete(path, **options)
        if _STOP_AFTER and not Path(_STOP_AFTER).exists():
            sys.stderr.write("deleted ...\n")
            time.sleep(600)

    return delete_then_stop


if _STOP_AFTER and Path(_STOP_AFTER).exists():
    os.rmdir, os.unlink = _then_stop(_rmdir), _then_stop(_unlink)
if _COMMIT_PAUSE_S:
    os.replace = _replace_and_wait
if _COMMIT_GATE:
    os.replace = _replace_when_open
if _SLOW_FOLDER:
    os.scandir = _scandir_slowly
if _FULL_OUTPUT:
    os.fsync = _fsync_if_room
