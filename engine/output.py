"""What a dataset's place must do beyond reading and writing: take over files, be emptied."""

import contextlib
import errno
import os
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from engine.errors import ConfigError, StoppedError
from engine.source.local import LocalFolder
from engine.source.shapes import Location, ReadError

# The names under which `LocalFolder.write` writes before it renames.
_TEMPORARY = re.compile(r"\.(.+)\.\d+\.tmp")


def read_if_there(output: Location, path: str) -> pa.Buffer | None:
    """The content of a file, None where there is none.

    Raises:
        ReadError: It is there and cannot be read.
    """
    try:
        return output.read(path).data
    except ReadError as err:
        if err.cause == "missing":
            return None
        raise


def local_path(output: Location, path: str) -> Path | None:
    """Where that file is on this machine's disks; None for object stores."""
    return Path(output.root) / path if isinstance(output, LocalFolder) else None


def take_over(output: Location, file: Path, path: str) -> None:
    """Moves a finished local file to its final name: a rename on disk, one upload to a bucket.

    Raises:
        OSError: The disk is full or the file system fails.
    """
    target = local_path(output, path)
    if target is None:
        with pa.memory_map(str(file)) as mapped:
            output.write(path, mapped.read_buffer())
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    _sync(file)
    file.replace(target)
    _sync(target.parent)


def everything_in(output: Location) -> Iterator[str]:
    """Paths of all files below; none where the place does not exist yet."""
    root = local_path(output, "")
    if root is not None and not root.is_dir():
        return
    # A prefix nothing was written below does not exist in a bucket; a wrong bucket, or a right that
    # is missing, is told by the first write.
    with contextlib.suppress(ConfigError):
        for entry in output.walk():
            yield entry.uri


def empty(output: Location, keep: str, *, markers: str, proof: str) -> None:
    """Deletes all files of a dataset but those below the folder `keep`.

    Folders of the name `markers` go first and the file `proof` after all folders: killed half-way,
    what is left is a dataset with some shards to be made again, or no dataset.
    """
    root = local_path(output, "")
    if root is None:
        paths = [path for path in everything_in(output) if not path.startswith(f"{keep}/")]
        for path in sorted(
            paths, key=lambda p: (f"/{markers}/" not in p, "/" not in p, p != proof, p)
        ):
            output.delete(path)
        return
    if not root.is_dir():
        return
    for folder in sorted(root.glob(f"*/{markers}")):
        shutil.rmtree(folder)
    for item in sorted(root.iterdir(), key=lambda p: (p.is_file(), p.name != proof, p.name)):
        if item.name == keep:
            continue
        if item.is_dir() and not item.is_symlink():
            shutil.rmtree(item)
        else:
            item.unlink()


def final_name(name: str) -> str:
    """The name a file was being written for, where `name` is one to write aside; else `name`."""
    found = _TEMPORARY.fullmatch(name)
    return found[1] if found else name


def remove_leftovers(output: Location) -> None:
    """Deletes files that a killed driver had not finished; only whoever holds the lease may."""
    root = local_path(output, "")
    if root is None:
        return  # an upload that was cut off leaves no object
    for pattern in (".*.tmp", "*/.*.tmp", "*/*/.*.tmp"):
        for path in root.glob(pattern):
            if _TEMPORARY.fullmatch(path.name):
                path.unlink(missing_ok=True)


def disk_error(err: OSError, output: Location) -> Exception:
    """A full disk as what it is to a user; any other error as it was."""
    if err.errno in (errno.ENOSPC, errno.EDQUOT) or "No space left" in str(err):
        return StoppedError(
            f"{output.uri}: no space left; free some and run the same command again"
        )
    return err


def _sync(path: Path) -> None:
    """Makes a file's content, or the names in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
