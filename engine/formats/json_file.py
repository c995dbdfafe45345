"""A large file that is read once from start to end, and then piece by piece wherever it lies."""

import os
import tempfile
from typing import IO

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import LabelsError
from engine.formats.shapes import Place
from engine.source.shapes import ReadError

_BLOCK = 16 << 20  # bytes
_GAP = 1 << 10  # bytes; nearer pieces are read at once: a call costs as much as this


class JsonFile:
    """The file of a place; what lies in a bucket is kept in a temporary file as it is read.

    `name` is the place, for messages.
    """

    def __init__(self, place: Place) -> None:
        """Opens the file.

        Raises:
            LabelsError: It cannot be opened.
        """
        self.name = str(place)
        try:
            opened = place.location.open(place.path)
        except ReadError as err:
            raise LabelsError(f"{self.name}: cannot be read: {err}; correct the path") from err
        self._stream = opened.file
        self._spool: IO[bytes] | None = None
        if not isinstance(self._stream, pa.OSFile):
            self._spool = tempfile.TemporaryFile()  # noqa: SIM115 (closed by `close`)

    def read(self, num_bytes: int) -> bytes:
        """The next bytes, fewer at the end of the file, where there are none.

        Raises:
            LabelsError: The storage answered with an error.
        """
        try:
            data: bytes = self._stream.read(num_bytes)
        except OSError as err:
            raise LabelsError(f"{self.name}: cannot be read: {err}; try again") from err
        if self._spool is not None:
            self._spool.write(data)
            self._spool.flush()
        return data

    def count_lines(self, offset: int) -> int:
        """Line ends before a byte that was read already."""
        starts = range(0, offset, _BLOCK)
        return sum(self._at(s, min(_BLOCK, offset - s)).count(b"\n") for s in starts)

    def pieces(
        self, starts: npt.NDArray[np.int64], lengths: npt.NDArray[np.integer]
    ) -> pa.StringArray:
        """The text of each piece, in the order given.

        Args:
            starts: First byte of each piece, shape (n,); pieces do not overlap.
            lengths: Bytes, shape (n,); less than 2 GB together.

        Returns:
            One string per piece, not checked to be UTF-8; no pieces, none.

        Raises:
            LabelsError: The file is shorter than it was.
        """
        if len(starts) == 0:
            return pa.array([], pa.string())
        order = np.argsort(starts, kind="stable")
        firsts = starts[order]
        ends = firsts + lengths[order]
        breaks = np.flatnonzero(firsts[1:] - ends[:-1] > _GAP) + 1
        heads = np.concatenate([[0], breaks])
        tails = np.concatenate([breaks, [len(firsts)]]) - 1
        sizes = ends[tails] - firsts[heads]
        runs = zip(firsts[heads].tolist(), sizes.tolist(), strict=True)
        data = b"".join([self._at(start, size) for start, size in runs])
        shifts = np.cumsum(sizes) - sizes - firsts[heads]
        moved = np.repeat(shifts, tails - heads + 1)
        # every second string is a piece, those between are what lies between two of them
        borders = np.empty(2 * len(firsts), np.int32)
        borders[0::2], borders[1::2] = firsts + moved, ends + moved
        strings = pa.StringArray.from_buffers(
            len(borders) - 1, pa.py_buffer(borders), pa.py_buffer(data)
        )
        places = np.empty(len(order), np.int64)
        places[order] = np.arange(0, len(borders), 2)
        return strings.take(pa.array(places))

    def _at(self, start: int, size: int) -> bytes:
        handle = (self._stream if self._spool is None else self._spool).fileno()
        data = os.pread(handle, size, start)
        while len(data) < size and (more := os.pread(handle, size - len(data), start + len(data))):
            data += more  # one call gives 2 GB at most
        if len(data) < size:
            raise LabelsError(f"{self.name}: became shorter while it was read; start again")
        return data

    def close(self) -> None:
        """Closes the file, and drops what was kept of it."""
        self._stream.close()
        if self._spool is not None:
            self._spool.close()
