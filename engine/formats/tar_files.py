"""Tar files whose members are read at any place, and written anew member by member."""

import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

import pyarrow as pa

from engine.formats.lines import LocalCopy, open_file
from engine.formats.shapes import Place
from engine.source.tar_index import BLOCK

CODECS = {"gz": "gzip", "tgz": "gzip", "bz2": "bz2", "zst": "zstd"}
_CHUNK = 1 << 22  # bytes copied at a time


class Stretch(NamedTuple):
    """A member with its headers and padding: a range of the archive, and what its header says."""

    start: int
    end: int
    info: tarfile.TarInfo


@contextmanager
def open_tar(place: Place) -> Iterator[Any]:
    """The archive, uncompressed, open for reading at any place.

    A compressed one is unpacked into a temporary file first; where it breaks, that ends.

    Raises:
        LabelsError: It cannot be opened.
    """
    codec = codec_of(place.path)
    with open_file(place).file as file:
        if codec is None:
            yield file
            return
        with tempfile.TemporaryFile() as plain:
            try:
                with pa.CompressedInputStream(file, codec) as stream:
                    while chunk := stream.read(_CHUNK):
                        plain.write(chunk)
            except (OSError, ValueError):
                pass  # what is missing shows as a broken archive
            plain.seek(0)
            with pa.PythonFile(plain, mode="r") as seekable:
                yield seekable


@contextmanager
def new_tar(place: Place) -> Iterator[IO[bytes]]:
    """An archive under construction, compressed by its name; at its place, whole, at the end."""
    codec = codec_of(place.path)
    with LocalCopy() as copy:
        if codec is None:
            yield copy.file
        else:
            with pa.CompressedOutputStream(pa.PythonFile(copy.file, mode="w"), codec) as packed:
                yield packed
        copy.send(place)


def codec_of(path: str) -> str | None:
    """How an archive is compressed, by its name; null for one that is not."""
    return CODECS.get(path.lower().rpartition(".")[2])


def stretches(file: Any) -> Iterator[Stretch]:
    """The members of an archive in order, folders and links too, until it ends or breaks."""
    file.seek(0)
    try:
        with tarfile.open(fileobj=file, mode="r:") as tar:
            for info in tar:
                vars(tar)["members"] = []  # it would keep every header
                end = info.offset_data
                if info.isreg():
                    end += -(-info.size // BLOCK) * BLOCK
                yield Stretch(info.offset, end, info)
    except (tarfile.TarError, OSError, EOFError, ValueError):
        return


def copy_range(source: Any, target: IO[bytes], start: int, end: int | None = None) -> None:
    """Copies bytes as they are, to the end of the source where no end is given."""
    source.seek(start)
    while end is None or start < end:
        chunk = source.read(_CHUNK if end is None else min(_CHUNK, end - start))
        if not chunk:
            return
        target.write(chunk)
        start += len(chunk)


def write_member(target: IO[bytes], info: tarfile.TarInfo, content: bytes) -> None:
    """A member with the header it had, but for the size of what it holds now."""
    info.size = len(content)
    info.pax_headers = {k: v for k, v in info.pax_headers.items() if k != "size"}
    spelt = {"encoding": "utf-8", "errors": "surrogateescape"}
    if info.pax_headers:
        target.write(info.tobuf(tarfile.PAX_FORMAT, **spelt))
    else:
        target.write(info.tobuf(tarfile.GNU_FORMAT, **spelt))
    target.write(content + b"\0" * (-len(content) % BLOCK))
