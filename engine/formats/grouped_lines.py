"""Lines of one image together, wherever they stand in their file."""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import groupby

import numpy as np
import numpy.typing as npt

from engine.errors import LabelsError
from engine.formats.lines import Line, open_file, read_lines
from engine.formats.shapes import Place

# The name of the image a line speaks of; null for a line that names none.
KeyOf = Callable[[Line], bytes | None]


@dataclass(frozen=True)
class LineGroups:
    """The lines of a file, image by image, in the order in which the images first appear.

    The file is read twice: once for which image each line speaks of (a hash, an offset, a size and
    a number, 32 bytes a line), once for the lines. Where all lines of every image stand together,
    the second reading goes straight through; else it goes from line to line.

    Attributes:
        place: The file.
        key_of: Tells the image of a line.
        max_bytes: Of a line.
        skip: Lines before the first of the labels, such as a header.
    """

    place: Place
    key_of: KeyOf
    max_bytes: int
    skip: int = 0

    def __iter__(self) -> Iterator[list[Line]]:
        keys, sizes, offsets, numbers = self._index()
        if not len(keys):
            return
        firsts, inverse = np.unique(keys, return_index=True, return_inverse=True)[1:]
        is_new = np.concatenate([[True], keys[1:] != keys[:-1]])
        if int(is_new.sum()) == len(firsts):
            yield from self._straight()
            return
        order = np.argsort(firsts[inverse], kind="stable")
        ends = np.append(np.flatnonzero(np.diff(firsts[inverse][order])) + 1, len(order))
        start = 0
        with open_file(self.place).file as file:
            for end in ends.tolist():
                places = order[start:end]
                yield [
                    Line(number, file.read_at(size, offset), offset)
                    for number, size, offset in zip(
                        numbers[places].tolist(),
                        sizes[places].tolist(),
                        offsets[places].tolist(),
                        strict=True,
                    )
                ]
                start = end

    def _index(self) -> tuple[npt.NDArray[np.int64], ...]:
        keys, sizes, offsets, numbers = array("q"), array("q"), array("q"), array("q")
        for line in self._lines():
            keys.append(self._hash(line))
            sizes.append(len(line.data))
            offsets.append(line.offset)
            numbers.append(line.number)
        return tuple(np.array(column, np.int64) for column in (keys, sizes, offsets, numbers))

    def _hash(self, line: Line) -> int:
        key = self.key_of(line)
        return hash(key) if key is not None else hash((line.number, "nameless"))

    def _straight(self) -> Iterator[list[Line]]:
        for _, lines in groupby(self._lines(), self._hash):
            yield list(lines)

    def _lines(self) -> Iterator[Line]:
        lines = read_lines(self.place, max_bytes=self.max_bytes)
        for _ in range(self.skip):
            if next(lines, None) is None:
                raise LabelsError(f"{self.place}: changed while it was read; read it again")
        return lines
