"""Lines of text files of any size: read with their numbers and places, written in any order."""

import tempfile
from array import array
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, NamedTuple

import numpy as np
import pyarrow as pa

from engine.errors import LabelsError
from engine.formats.shapes import Place
from engine.source.shapes import Opened, ReadError

_CHUNK = 1 << 20  # bytes read at a time
_BOM = b"\xef\xbb\xbf"
_FOREIGN_BOMS = (b"\xff\xfe", b"\xfe\xff")  # UTF-16, which Excel writes as "Unicode text"


class Line(NamedTuple):
    """One line: its number from 1, its bytes without the line end, where they begin in the file."""

    number: int
    data: bytes
    offset: int


@dataclass(frozen=True)
class LineStyle:
    """What a text file has around its lines; what we write ourselves has the defaults."""

    newline: str = "\n"
    bom: bool = False

    @classmethod
    def of(cls, head: bytes) -> "LineStyle":
        """The style of a file that starts like that."""
        first = head.find(b"\n")
        is_crlf = first > 0 and head[first - 1 : first] == b"\r"
        return cls("\r\n" if is_crlf else "\n", head.startswith(_BOM))

    @classmethod
    def from_content(cls, content: Mapping[str, Any]) -> "LineStyle":
        """The style a header holds as `newline` and `bom`; ours where it holds none."""
        return cls(str(content.get("newline", "\n")), bool(content.get("bom", False)))


def open_file(place: Place) -> Opened:
    """The file of a set of labels, open for reading.

    Raises:
        LabelsError: It cannot be opened.
    """
    try:
        return place.location.open(place.path)
    except ReadError as err:
        raise LabelsError(f"{place}: {err}; give a file of labels") from err


def read_head(place: Place, num_bytes: int = 1 << 16) -> bytes:
    """The first bytes of a file of labels.

    Raises:
        LabelsError: It cannot be read.
    """
    try:
        return place.location.read_head(place.path, num_bytes)
    except ReadError as err:
        raise LabelsError(f"{place}: {err}; give a file of labels") from err


def read_lines(place: Place, *, max_bytes: int) -> Iterator[Line]:
    """The lines of a file without their ends (LF or CRLF), blank ones and a BOM left out.

    Args:
        place: The file.
        max_bytes: Of a line, `limits.max_label_bytes`.

    Raises:
        LabelsError: A longer line, a file in UTF-16, or a storage that does not answer.
    """
    with open_file(place).file as file:
        try:
            yield from _lines(file, place, max_bytes)
        except OSError as err:
            raise LabelsError(f"{place}: cannot be read: {err.strerror or err}") from err


def _lines(file: Any, place: Place, max_bytes: int) -> Iterator[Line]:
    rest, number, offset = b"", 1, 0
    while chunk := file.read(_CHUNK):
        if not offset and not rest:
            _refuse_utf16(chunk, place)
            if chunk.startswith(_BOM):
                chunk, offset = chunk[len(_BOM) :], len(_BOM)
        # a line of a gigabyte is refused before it is held
        *whole, rest = (rest + chunk).split(b"\n") if rest else chunk.split(b"\n")
        for data in whole:
            _check_length(data, number, place, max_bytes)
            if line := data.removesuffix(b"\r"):
                yield Line(number, line, offset)
            number, offset = number + 1, offset + len(data) + 1
        _check_length(rest, number, place, max_bytes)
    if line := rest.removesuffix(b"\r"):
        yield Line(number, line, offset)


def _check_length(data: bytes, number: int, place: Place, max_bytes: int) -> None:
    if len(data) > max_bytes:
        raise LabelsError(
            f"{place} line {number}: longer than {max_bytes} bytes; raise limits.max_label_bytes "
            "if that is one label"
        )


def _refuse_utf16(head: bytes, place: Place) -> None:
    if head.startswith(_FOREIGN_BOMS):
        raise LabelsError(f"{place} line 1: the file is UTF-16; save it as UTF-8")


def text_of(line: Line, place: Place) -> str:
    """The line as text.

    Raises:
        LabelsError: It is not UTF-8; names the file, the line and the byte.
    """
    try:
        return line.data.decode()
    except UnicodeDecodeError as err:
        found = line.data[err.start]
        raise LabelsError(
            f"{place} line {line.number}: byte 0x{found:02x} at {err.start + 1} is not UTF-8; "
            "save the file as UTF-8"
        ) from err


class LineSpool:
    """Lines on their way to one file, in a temporary file until all are there.

    They are written in the order of their numbers, equal ones and those without a number as they
    came, so that lines which were read image by image stand again where they stood.
    """

    def __init__(self) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile()  # noqa: SIM115 (closed on exit)
        self._numbers = array("q")
        self._sizes = array("q")
        self._last = 0

    def __enter__(self) -> "LineSpool":
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def add(self, text: str, number: int | None = None) -> None:
        """Adds a line, without its end."""
        data = text.encode()
        self._file.write(data)
        self._last = self._last if number is None else number
        self._numbers.append(self._last)
        self._sizes.append(len(data))

    def save(self, place: Place, style: LineStyle, header: str | None = None) -> None:
        """Writes the file, once; `header` is a line before all others."""
        numbers, sizes = np.array(self._numbers, np.int64), np.array(self._sizes, np.int64)
        order = np.argsort(numbers, kind="stable")
        starts = np.cumsum(sizes) - sizes
        newline = style.newline.encode()
        spooled = self._file
        with LocalCopy() as copy:
            copy.file.write(_BOM if style.bom else b"")
            if header is not None:
                copy.file.write(header.encode() + newline)
            is_sorted = bool(np.all(order[1:] > order[:-1]))
            spooled.seek(0)
            for start, size in zip(starts[order].tolist(), sizes[order].tolist(), strict=True):
                if not is_sorted:
                    spooled.seek(start)
                copy.file.write(spooled.read(size) + newline)
            copy.send(place)


class LocalCopy:
    """A large file on its way to a location: written here first, then handed over whole."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory(prefix="fld-labels-")
        self.path = Path(self._folder.name) / "file"
        self.file: IO[bytes] = self.path.open("wb")

    def __enter__(self) -> "LocalCopy":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()
        self._folder.cleanup()

    def send(self, place: Place) -> None:
        """Closes the local file and writes it to its place."""
        self.file.close()
        if self.path.stat().st_size == 0:  # nothing to map
            place.location.write(place.path, b"")
            return
        with pa.memory_map(str(self.path)) as mapped:
            place.location.write(place.path, mapped.read_buffer())
