"""One array of a JSON file, record by record, however large the file is."""

import json
import re
from codecs import getincrementaldecoder
from collections.abc import Iterator
from typing import Any, NamedTuple

from engine.errors import LabelsError
from engine.formats.lines import open_file
from engine.formats.shapes import Place

_CHUNK = 1 << 18  # bytes read at a time
_SPACE = re.compile(r"[ \t\r\n]*")


class Record(NamedTuple):
    """An element of the array: its number from 0, its text as it stood, and its value."""

    number: int
    text: str
    value: Any


class _Text:
    """The text of a file as far as it has been read and not yet used."""

    def __init__(self, file: Any, place: Place, max_bytes: int) -> None:
        self._file = file
        self._place = place
        self._max_bytes = max_bytes
        self._decoder = getincrementaldecoder("utf-8")()
        self._is_ended = False
        self.left = ""
        self.line = 1  # where `left` begins

    def more(self) -> bool:
        """Reads on; false at the end of the file. What is left doubles, so that few tries fail."""
        if self._is_ended:
            return False
        if len(self.left) > self._max_bytes:
            raise LabelsError(
                f"{self._place} line {self.line}: one record is longer than {self._max_bytes} "
                "bytes; raise limits.max_label_bytes if that is one image"
            )
        data = self._file.read(max(_CHUNK, len(self.left)))
        self._is_ended = not data
        try:
            self.left += self._decoder.decode(data, final=self._is_ended)
        except UnicodeDecodeError as err:
            raise LabelsError(f"{self._place}: is not UTF-8; save it as UTF-8") from err
        return True

    def use(self, count: int) -> str:
        """Takes characters from the front."""
        used, self.left = self.left[:count], self.left[count:]
        self.line += used.count("\n")
        return used

    def space(self) -> None:
        """Takes white space."""
        while True:
            match = _SPACE.match(self.left)
            self.use(match.end() if match else 0)
            if self.left or not self.more():
                return

    def skip(self, wanted: str) -> bool:
        """Takes white space, and that character if it is the next one."""
        self.space()
        if self.left[:1] != wanted:
            return False
        self.use(1)
        return True


def read_array(place: Place, name: str, max_bytes: int) -> Iterator[Record]:
    """The elements of the array `name` of a file that is one JSON object with nothing else in it.

    Args:
        place: The file; UTF-8 with or without a byte order mark.
        name: Of the array.
        max_bytes: Of a record.

    Raises:
        LabelsError: It is not such a file, or a record is longer; names the line.
    """
    with open_file(place).file as file:
        text = _Text(file, place, max_bytes)
        text.more()
        text.left = text.left.removeprefix("\ufeff")
        is_begun = text.skip("{") and text.skip('"') and text.left.startswith(f'{name}"')
        if is_begun:
            text.use(len(name) + 1)
        if not (is_begun and text.skip(":") and text.skip("[")):
            raise LabelsError(f'{place} line {text.line}: wanted a JSON object {{"{name}": [...]}}')
        number = 0
        if not text.skip("]"):
            yield _record(text, place, number)
            while text.skip(","):
                number += 1
                yield _record(text, place, number)
            if not text.skip("]"):
                raise LabelsError(f"{place} line {text.line}: wanted a comma or the end of {name}")
        is_ended = text.skip("}")
        text.space()
        if not is_ended or text.left:
            raise LabelsError(
                f"{place} line {text.line}: something follows {name}; only files that hold nothing "
                "else are read, so that nothing is lost"
            )


def _record(text: _Text, place: Place, number: int) -> Record:
    text.space()
    while True:
        try:
            value, end = json.JSONDecoder().raw_decode(text.left)
            return Record(number, text.use(end), value)
        except (ValueError, RecursionError) as err:
            if isinstance(err, RecursionError) or not text.more():
                raise LabelsError(f"{place} line {text.line}: record {number}: {err}") from err
