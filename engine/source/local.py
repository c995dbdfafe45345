"""A folder on this machine, as a source and as a place for outputs."""

import errno
import io
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pyarrow as pa

from engine.errors import ConfigError, EngineError, StoppedError
from engine.source.names import decode_name, encode_name
from engine.source.shapes import Blob, Entry, Opened, ReadError

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}


@dataclass(frozen=True)
class LocalFolder:
    """A `Location` on a disk; `root` is absolute, because workers may stand elsewhere."""

    uri: str
    root: str

    def walk(self) -> Iterator[Entry]:
        """Everything below, sorted by uri; see `Location`.

        A link to a file inside counts as a file of its own. A link to a folder inside is not
        entered, because its files are listed where they are, so that link loops cannot occur; a
        link out of the folder is not followed.
        """
        inside = os.path.join(os.path.realpath(self.root), "")  # noqa: PTH118 (its trailing slash)
        stack: list[Iterator[str]] = [iter(self._children(""))]
        while stack:
            uri = next(stack[-1], None)
            if uri is None:
                stack.pop()
            elif uri.rstrip("/").rpartition("/")[2].startswith("."):
                yield Entry(uri, ignored="hidden folder" if uri.endswith("/") else "hidden file")
            elif uri.endswith("/"):
                try:
                    stack.append(iter(self._children(uri)))
                except ConfigError:
                    yield Entry(uri, ignored="folder that cannot be listed")
            else:
                yield _entry(uri, self._path(uri), inside)

    def names(self, folder: str = "") -> list[str]:
        """Names of the files in `folder`, hidden ones left out, sorted; none when it is missing."""
        try:
            with os.scandir(self._path(folder)) as found:
                names = [encode_name(item.name) for item in found if item.is_file()]
        except FileNotFoundError:
            return []
        return sorted(name for name in names if not name.startswith("."))

    @property
    def readers(self) -> int:
        """One: a disk answers at once."""
        return 1

    def leads_out(self, path: str) -> bool:
        """Whether a link on the way to a file leads out of the folder; see `Location`."""
        inside = os.path.join(os.path.realpath(self.root), "")  # noqa: PTH118 (its trailing slash)
        return not os.path.realpath(self._path(path)).startswith(inside)

    def open(self, path: str) -> Opened:
        """The file, open for reading at any place; see `Location`."""
        with _opened(self._path(path)) as file:
            facts = os.fstat(file.fileno())
        try:
            opened = pa.OSFile(self._path(path))
        except OSError as err:
            raise ReadError("unreadable", err.strerror) from err
        return Opened(opened, facts.st_size, facts.st_mtime_ns)

    def read(self, path: str, *, max_bytes: int | None = None) -> Blob:
        """The whole file; see `Location`."""
        with _opened(self._path(path)) as file:
            facts = os.fstat(file.fileno())
            if max_bytes is not None and facts.st_size > max_bytes:
                raise ReadError(
                    "too_many_bytes", f"{facts.st_size} bytes, limits.max_bytes is {max_bytes}"
                )
            try:
                data = file.readall()
            except OSError as err:  # a bad sector, a share that went away
                raise ReadError("unreadable", err.strerror) from err
        return Blob(pa.py_buffer(data), facts.st_mtime_ns)

    def read_head(self, path: str, num_bytes: int) -> bytes:
        """The first bytes of the file; see `Location`."""
        with _opened(self._path(path)) as file:
            try:
                return file.read(num_bytes) or b""
            except OSError as err:
                raise ReadError("unreadable", err.strerror) from err

    def write(self, path: str, data: bytes | memoryview | pa.Buffer) -> None:
        """Writes under a temporary name, syncs, renames, syncs the folder; see `Location`."""
        target = Path(self._path(path))
        temporary = target.with_name(f".{target.name}.{os.getpid()}.tmp")
        try:
            target.parent.mkdir(parents=True, exist_ok=True)
            try:
                with temporary.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                temporary.replace(target)
            finally:
                temporary.unlink(missing_ok=True)
            _sync_folder(target.parent)
        except OSError as err:
            raise self._cannot_write(path, err) from err

    def exists(self, path: str) -> bool:
        """Whether there is a file of that name; see `Location`."""
        return Path(self._path(path)).is_file()

    def delete(self, path: str) -> None:
        """Removes the file; see `Location`."""
        try:
            Path(self._path(path)).unlink(missing_ok=True)
        except OSError as err:
            raise self._cannot_write(path, err) from err

    def _path(self, path: str) -> str:
        return os.path.join(self.root, decode_name(path))  # noqa: PTH118 (Path costs 10 us per image)

    def _children(self, folder: str) -> list[str]:
        """Uris of what is in a folder, sorted, folders ending in "/".

        That slash sorts a folder where its files belong among the uris, so a walk in this order is
        sorted as a whole. Plain strings: a folder may hold ten million names.
        """
        try:
            with os.scandir(self._path(folder)) as found:
                return sorted(
                    folder + encode_name(item.name) + "/" * item.is_dir(follow_symlinks=False)
                    for item in found
                )
        except FileNotFoundError as err:
            raise ConfigError(f"{self.uri!r}: there is no such folder; correct the path") from err
        except NotADirectoryError as err:
            raise ConfigError(
                f"{self.uri!r}: is a file; give the folder that holds the images"
            ) from err
        except OSError as err:
            raise ConfigError(
                f"{self.uri!r}: cannot be listed: {err.strerror}; give the right to read it"
            ) from err

    def _cannot_write(self, path: str, err: OSError) -> EngineError:
        if err.errno in _FULL:
            return StoppedError(
                f"{self.uri!r}: no room for {path!r}: {err.strerror}; "
                "make room, then run the same command"
            )
        return ConfigError(
            f"{self.uri!r}: cannot write {path!r}: {err.strerror}; "
            "give a folder with the right to write"
        )


def _entry(uri: str, path: str, inside: str) -> Entry:
    try:
        facts = os.lstat(path)
        if stat.S_ISLNK(facts.st_mode):
            if not f"{os.path.realpath(path)}/".startswith(inside):
                return Entry(uri, ignored="link out of the folder")
            facts = os.stat(path)  # noqa: PTH116 (Path costs 10 us per image)
            if stat.S_ISDIR(facts.st_mode):
                return Entry(uri, ignored="link to a folder")
    except OSError:  # a link to nothing or to itself, or a file that is gone: reading it will tell
        return Entry(uri, regular=False)
    if not stat.S_ISREG(facts.st_mode):
        return Entry(uri, regular=False)
    return Entry(uri, facts.st_size, facts.st_mtime_ns)


def _opened(path: str) -> io.FileIO:
    """The file, open for reading, known to be a regular one before and after it was opened.

    Opening a pipe waits for its other end and opening a device may do something, hence the look
    before; the name may change in between, hence O_NONBLOCK and the look after.
    """
    try:
        _check_regular(os.stat(path).st_mode)  # noqa: PTH116 (Path costs 10 us per image)
        file = io.FileIO(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC))
    except FileNotFoundError as err:
        raise ReadError("missing", "there is no such file") from err
    except PermissionError as err:
        raise ReadError("permission_denied", err.strerror) from err
    except OSError as err:
        raise ReadError("unreadable", err.strerror) from err
    try:
        _check_regular(os.fstat(file.fileno()).st_mode)
    except ReadError:
        file.close()
        raise
    return file


def _check_regular(mode: int) -> None:
    if not stat.S_ISREG(mode):
        kinds = {stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket", stat.S_IFDIR: "a folder"}
        raise ReadError("special_file", kinds.get(stat.S_IFMT(mode), "a device"))


def _sync_folder(folder: Path) -> None:
    """Makes a rename in the folder survive a power cut."""
    handle = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
