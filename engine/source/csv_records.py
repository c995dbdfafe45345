"""Records of CSV and TSV files with their places in bytes, so that one can be read alone."""

import csv
from collections import deque
from collections.abc import Iterator
from typing import IO, NamedTuple

from engine.source.shapes import ReadError

_MAX_LINE = 1 << 24  # bytes; a longer one is cut, and then no record fits


class Record(NamedTuple):
    """One record: where it is in bytes, the line it starts in from 1, and its cells.

    Bytes that are no UTF-8 are lone surrogates in a cell. `cells` is null where the record cannot
    be told apart, for one because a cell is larger than the csv module takes.
    """

    offset: int
    size: int
    line: int
    cells: list[str] | None


def records(file: IO[bytes], delimiter: str, offset: int = 0) -> Iterator[Record]:
    """The records of a file from where it stands; blank lines are none, those within quotes hold.

    A quote that begins a cell and is never closed, or closed in the middle of a cell, would carry
    away all records up to the next quote. So such a record ends with its line, and the next line is
    read for itself.

    Args:
        file: Open.
        delimiter: Between cells.
        offset: Where the file stands, bytes.

    Raises:
        ReadError: The storage does not answer.
    """
    lines = _Lines(file)
    reader = csv.reader(lines, delimiter=delimiter, strict=True)
    number = 1
    while True:
        try:
            cells = next(reader, None)
        except csv.Error:
            cells = _line_alone(lines.give_back_all_but_first(), delimiter)
            reader = csv.reader(lines, delimiter=delimiter, strict=True)
        taken = lines.taken
        if not taken:
            return
        size = sum(map(len, taken))
        if cells is None or cells:  # a blank line has no cells
            yield Record(offset, size, number, cells)
        offset, number = offset + size, number + len(taken)
        lines.taken = []


class _Lines:
    """Lines of a file as text; `taken` are those since it was last emptied."""

    def __init__(self, file: IO[bytes]) -> None:
        self._file = file
        self._ahead: deque[bytes] = deque()
        self.taken: list[bytes] = []

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        try:
            line = self._ahead.popleft() if self._ahead else self._file.readline(_MAX_LINE)
        except OSError as err:
            raise ReadError("unreadable", err.strerror or err) from err
        if not line:
            raise StopIteration
        self.taken.append(line)
        return _text(line)

    def give_back_all_but_first(self) -> str:
        """The first line taken; the others will be taken again."""
        self._ahead.extendleft(reversed(self.taken[1:]))
        del self.taken[1:]
        return _text(self.taken[0])


def _text(line: bytes) -> str:
    return line.decode("utf-8", "surrogateescape")


def _line_alone(line: str, delimiter: str) -> list[str] | None:
    """Cells of a line whose quotes do not pair; in TSV, where few quote, they are characters."""
    line = line.rstrip("\r\n")
    if delimiter == "\t":
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter), None)
    except csv.Error:
        return None
