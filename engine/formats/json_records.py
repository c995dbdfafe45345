"""Records out of JSON files too large to hold: the arrays of one document, window by window.

A document is one array of records, or one object whose arrays hold them. Where records begin and
end is found by looking at quotes, backslashes and brackets alone, on whole windows at once; what
stands inside a record is for its reader to decode.
"""

import json
import re
from collections.abc import Collection, Iterator
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt

from engine.errors import LabelsError
from engine.formats.json_file import JsonFile

Positions = npt.NDArray[np.int64]

_WINDOW = 16 << 20  # bytes; larger was not faster, and a window costs about ten times its size
_MAX_VALUE = 256 << 20  # bytes of one record, or of one value that is no array of records
_MAX_DEPTH = 64  # nested brackets; labels need five, and decoders recurse
_CHUNK = 1 << 18  # bytes scanned at once: fits a core's cache
_QUOTE, _BACKSLASH, _COMMA = b'"\\,'
_UNCASED = 0xDF  # clears the bit in which { } and [ ] differ
_OPENING, _CLOSING = 0x5B, 0x5D
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"', re.DOTALL)
_SCALAR = re.compile(rb"[^\s,\]}\[{\"]+")
_SPACE = re.compile(rb"[ \t\r\n]*")
_IS_SPACE = np.isin(np.arange(256), list(b" \t\r\n"))
_BOMS = {b"\xff\xfe": "UTF-16", b"\xfe\xff": "UTF-16", b"\x1f\x8b": "gzip", b"PK": "a zip archive"}


class Window(NamedTuple):
    """Whole records of one array, in the order of the file; none where the array is empty.

    Record i is `data[starts[i]:ends[i]]`, and stands at byte `offset + starts[i]` of the file. Only
    white space and one comma lie between two records. `key` is empty for a document that is an
    array.
    """

    key: str
    data: bytes
    offset: int
    starts: Positions
    ends: Positions


class Value(NamedTuple):
    """A value of the top object that was not asked for record by record: its JSON, verbatim."""

    key: str
    text: str


class Structure(NamedTuple):
    """Elements of an array that are objects or arrays: where they start and end (exclusive).

    `close` is the place of the bracket that ends the array itself, -1 if it is not reached.
    """

    starts: Positions
    ends: Positions
    close: int
    depth: int


def read_records(
    file: JsonFile, arrays: Collection[str], *, window: int = _WINDOW
) -> Iterator[Window | Value]:
    """The records of a document that is an array, or of the named arrays of one object.

    Args:
        file: Read from where it stands, once.
        arrays: Keys of the top object whose arrays are wanted record by record. Other values, and
            values under these keys that are no arrays, come back whole.
        window: Bytes read at a time.

    Raises:
        LabelsError: Broken JSON outside the records, text that is not UTF-8, brackets nested
            too deep, an element that is no object or array, or a record without end; with file,
            line and byte.
    """
    yield from _Document(file, arrays, window).read()


def scan(data: npt.NDArray[np.uint8]) -> Structure:
    """The elements in a stretch of an array that starts between two of its elements.

    Args:
        data: Bytes, shape (n,); an element cut off at its end is left out.

    Returns:
        Nothing is checked but that quotes and brackets pair: brackets of another kind match too.
    """
    places, codes = _brackets(data)
    steps = np.where((codes & _UNCASED) == _OPENING, 1, -1).astype(np.int8)
    depths = np.cumsum(steps, dtype=np.int32)
    beyond = np.flatnonzero(depths < 0)
    close = -1
    if beyond.size:
        close = int(places[beyond[0]])
        places, steps = places[: beyond[0]], steps[: beyond[0]]
        depths = depths[: beyond[0]]
    ends = places[depths == 0] + 1
    starts = places[(depths == 1) & (steps == 1)][: len(ends)]
    return Structure(starts, ends, close, int(depths.max(initial=0)))


def _brackets(data: npt.NDArray[np.uint8]) -> tuple[Positions, npt.NDArray[np.uint8]]:
    """Places and codes of the brackets outside of strings."""
    found = []
    for start in range(0, len(data), _CHUNK):
        chunk = data[start : start + _CHUNK]
        # one comparison for [ \ ] and { | }: they are neighbours once the case bit is gone
        is_mark = ((chunk & _UNCASED) - np.uint8(_OPENING)) <= _CLOSING - _OPENING
        is_mark |= chunk == _QUOTE
        found.append(np.flatnonzero(is_mark) + start)
    places = np.concatenate(found) if found else np.empty(0, np.int64)
    codes = data[places]
    is_quote = codes == _QUOTE
    is_backslash = codes == _BACKSLASH
    if is_backslash.any():
        is_quote[np.isin(places, _escaped(places[is_backslash]))] = False
    outside = (np.cumsum(is_quote, dtype=np.int32) & 1) == 0
    is_bracket = outside & (codes != _QUOTE) & ~is_backslash & (codes != ord("|"))
    brackets: Positions = places[is_bracket]
    kinds: npt.NDArray[np.uint8] = codes[is_bracket]
    return brackets, kinds


def _escaped(backslashes: Positions) -> Positions:
    """Places that an odd run of backslashes stands before."""
    is_first = np.diff(backslashes, prepend=-2) > 1
    firsts = np.flatnonzero(is_first)
    lengths = np.diff(firsts, append=len(backslashes))
    ends: Positions = backslashes[firsts] + lengths
    escaped: Positions = ends[lengths % 2 == 1]
    return escaped


class _Document:
    """A buffer over the file, and where in it we stand."""

    def __init__(self, file: JsonFile, arrays: Collection[str], window: int) -> None:
        self._file, self._arrays, self._window_bytes = file, arrays, window
        self._data = b""
        self._offset = 0  # of the buffer in the file
        self._at = 0  # in the buffer

    def read(self) -> Iterator[Window | Value]:
        self._grow()
        for magic, name in _BOMS.items():
            if self._data.startswith(magic):
                self._refuse(0, f"is {name}; give plain JSON in UTF-8")
        self._at = 3 if self._data.startswith(b"\xef\xbb\xbf") else 0
        first = self._next()
        if first == b"[":
            yield from self._array("")
        elif first == b"{":
            yield from self._object()
        else:
            found = "nothing" if not first else repr(first.decode("latin-1"))
            self._refuse(self._at, f"starts with {found}; wanted a JSON array or object")
        if self._next():
            self._refuse(self._at, "goes on after the end of the JSON document")

    def _object(self) -> Iterator[Window | Value]:
        self._at += 1
        keys: set[str] = set()
        if self._next() == b"}":
            self._at += 1
            return
        while True:
            key = self._key()
            if key in keys:
                self._refuse(self._at, f"the key {key!r} stands twice; leave one of them")
            keys.add(key)
            if self._next() == b"[" and key in self._arrays:
                yield from self._array(key)
            else:
                yield Value(key, self._value())
            mark = self._next()
            self._at += 1
            if mark == b"}":
                return
            if mark != b",":
                self._at -= 1
                self._refuse(self._at, f"wanted ',' or '}}' after the value of {key!r}")

    def _key(self) -> str:
        if self._next() != b'"':
            self._refuse(self._at, "wanted a key in double quotes")
        key = self._text(*self._string())
        if self._next() != b":":
            self._refuse(self._at, f"wanted ':' after the key {key}")
        self._at += 1
        try:
            return str(json.loads(key))
        except ValueError:
            self._refuse(self._at, f"the key {key} is not a JSON text")

    def _string(self) -> tuple[int, int]:
        while (found := _STRING.match(self._data, self._at)) is None:
            if not self._grow():
                self._refuse(self._at, "a text that does not end; the file is cut short")
        self._at = found.end()
        return found.span()

    def _value(self) -> str:
        """Any value, verbatim."""
        first = self._next()
        if first == b'"':
            return self._text(*self._string())
        if first in (b"[", b"{"):
            while True:
                structure = scan(np.frombuffer(self._data, np.uint8)[self._at :])
                self._check_depth(structure.depth)
                if len(structure.ends):
                    break
                self._need_more("a value", self._at)
            length = int(structure.ends[0])
        else:
            length = self._scalar()
        self._at += length
        return self._text(self._at - length, self._at)

    def _scalar(self) -> int:
        """Length of a number, true, false or null."""
        while True:
            found = _SCALAR.match(self._data, self._at)
            if not found:
                self._refuse(self._at, "wanted a value")
            length = found.end() - self._at
            if found.end() < len(self._data) or not self._grow():
                return length

    def _array(self, key: str) -> Iterator[Window]:
        self._at += 1
        is_first = True
        while True:
            data = np.frombuffer(self._data, np.uint8)[self._at :]
            starts, ends, close, depth = scan(data)
            self._check_depth(depth)
            if len(ends):
                self._check_gaps(data, starts, ends, is_first)
                yield self._window(key, starts, ends)
                self._at += int(ends[-1])
            if close >= 0:
                break
            if len(ends) == 0:
                self._need_more("a record", self._record_start(is_first))
            else:
                is_first = False
                self._grow()
        last = int(ends[-1]) if len(ends) else 0
        rest = self._skipped(self._at)
        if rest != self._at + close - last:
            self._refuse(rest, "an element that is no object; wanted records in braces")
        if is_first and len(ends) == 0:
            yield Window(key, b"", self._offset + self._at, ends, ends)
        self._at += close - last + 1

    def _window(self, key: str, starts: Positions, ends: Positions) -> Window:
        first, last = self._at + int(starts[0]), self._at + int(ends[-1])
        data = self._data[first:last]
        self._check_text(data, first)
        return Window(key, data, self._offset + first, starts - starts[0], ends - starts[0])

    def _check_gaps(
        self, data: npt.NDArray[np.uint8], starts: Positions, ends: Positions, is_first: bool
    ) -> None:
        """Between two records stands one comma and white space, and nothing before the first."""
        befores = np.concatenate([[0], ends[:-1]])
        lengths = starts - befores
        firsts = np.cumsum(lengths) - lengths
        places = np.repeat(befores - firsts, lengths) + np.arange(lengths.sum())
        between = data[places]
        gap_of = np.repeat(np.arange(len(lengths)), lengths)
        commas = np.bincount(gap_of[between == _COMMA], minlength=len(lengths))
        wrong = ~_IS_SPACE[between] & (between != _COMMA)
        if wrong.any():
            place = self._at + int(places[np.argmax(wrong)])
            self._refuse(place, "an element that is no object; wanted records in braces")
        wanted = np.ones(len(lengths), np.int64)
        wanted[0] = 0 if is_first else 1
        if (commas != wanted).any():
            gap = int(np.argmax(commas != wanted))
            self._refuse(self._at + int(befores[gap]), "wanted one ',' between two records")

    def _record_start(self, is_first: bool) -> int:
        """Where the record begins that the buffer does not hold whole."""
        place = self._skipped(self._at)
        if not is_first and self._data[place : place + 1] == b",":
            place = self._skipped(place + 1)
        if self._data[place : place + 1] not in (b"{", b"[", b""):
            self._refuse(place, "an element that is no object; wanted records in braces")
        return place

    def _skipped(self, place: int) -> int:
        """The first place from here on that is no white space."""
        found = _SPACE.match(self._data, place)
        assert found  # white space may be nothing
        return found.end()

    def _check_depth(self, depth: int) -> None:
        if depth > _MAX_DEPTH:
            self._refuse(
                self._at, f"brackets nested {depth} deep from here on; allowed {_MAX_DEPTH}"
            )

    def _need_more(self, what: str, start: int) -> None:
        offset = self._offset + start
        if len(self._data) - self._at > _MAX_VALUE:
            raise refusal(self._file, offset, f"{what} of more than {_MAX_VALUE >> 20} MB")
        if not self._grow():
            raise refusal(self._file, offset, f"{what} that does not end; the file is cut short")

    def _next(self) -> bytes:
        """The next byte that is no white space, which is not taken; nothing at the end."""
        while True:
            self._at = self._skipped(self._at)
            if self._at < len(self._data) or not self._grow():
                return self._data[self._at : self._at + 1]

    def _grow(self) -> bool:
        """Reads on, dropping what was taken; false at the end of the file."""
        more = self._file.read(self._window_bytes)
        self._data = self._data[self._at :] + more
        self._offset += self._at
        self._at = 0
        return bool(more)

    def _text(self, start: int, end: int) -> str:
        data = self._data[start:end]
        self._check_text(data, start)
        return data.decode()

    def _check_text(self, data: bytes, start: int) -> None:
        if data.isascii():
            return
        try:
            data.decode()
        except UnicodeDecodeError as err:
            self._refuse(start + err.start, "is not UTF-8; save the file as UTF-8")

    def _refuse(self, at: int, what: str) -> NoReturn:
        raise refusal(self._file, self._offset + at, what)


def refusal(file: JsonFile, offset: int, what: str) -> LabelsError:
    """An error that names file, line and byte.

    Args:
        file: Read once more from its start, to count lines.
        offset: Of the byte, from 0; lines and bytes are counted from 1 in the message.
        what: What was found, what is allowed, what to do.
    """
    line = file.count_lines(offset) + 1
    return LabelsError(f"{file.name}: line {line}, byte {offset + 1}: {what}")
