"""Parquet files and Arrow streams as rows in groups, of which only the wanted ones are read."""

import struct
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

from engine.source.shapes import Opened, ReadError

PARQUET = ".parquet"
ARROW = ".arrow"

_BUFFER = 1 << 22  # bytes of one request; a row group of any size is read through it
_HEAD = 4096  # bytes; what describes a batch of a dozen columns fits in, so it is one request
_START, _DICTIONARY, _ROWS = 1, 2, 3  # kinds of messages of an Arrow stream
_MARK = 0xFFFFFFFF  # before each message
_MAGIC = b"ARROW1"  # of an Arrow file, which holds a stream after 8 bytes
_BROKEN = (OSError, pa.ArrowException, struct.error, IndexError, OverflowError)


class RowFile(Protocol):
    """An open file of rows."""

    schema: pa.Schema
    group_sizes: Sequence[int]  # rows in each group, none read yet
    whole: bool  # false where the file ends or breaks before it should

    def batches(
        self, group: int, columns: Sequence[str], batch_size: int
    ) -> Iterator[pa.RecordBatch]:
        """The rows of a group with some of the columns, at most so many at a time.

        Raises:
            ReadError: `broken_archive` where they are damaged.
        """


def open_rows(opened: Opened, path: str) -> RowFile:
    """The rows of an open file, Parquet by its name, an Arrow stream or file otherwise.

    Raises:
        ReadError: `broken_archive` for a file that is neither, or tells of more rows than it has
            bytes.
    """
    try:
        rows: RowFile = ParquetRows(opened) if path.lower().endswith(PARQUET) else ArrowRows(opened)
    except _BROKEN as err:
        raise _read_error(err) from err
    if sum(rows.group_sizes) > opened.size:  # nobody shall make a plan of them
        raise ReadError("broken_archive", "tells of more rows than it has bytes")
    return rows


class ParquetRows:
    """Row groups of a Parquet file; a group is read in pieces, whatever its size."""

    whole: bool = True  # a file without its end cannot be opened at all

    def __init__(self, opened: Opened) -> None:
        self._file = pq.ParquetFile(
            opened.file, buffer_size=_BUFFER, pre_buffer=False, page_checksum_verification=True
        )
        facts = self._file.metadata
        self.schema: pa.Schema = self._file.schema_arrow
        self.group_sizes: Sequence[int] = [
            facts.row_group(i).num_rows for i in range(facts.num_row_groups)
        ]

    def batches(
        self, group: int, columns: Sequence[str], batch_size: int
    ) -> Iterator[pa.RecordBatch]:
        """See `RowFile`; a column may be part of one, as `image.path`."""
        try:
            yield from self._file.iter_batches(
                batch_size=batch_size,
                row_groups=[group],
                columns=list(columns),
                use_threads=False,  # a worker reads while others compute
            )
        except _BROKEN as err:
            raise _read_error(err) from err


class _Message(NamedTuple):
    """A part of an Arrow stream: what it is, where, and of how many rows."""

    kind: int
    offset: int
    size: int
    num_rows: int


class ArrowRows:
    """Record batches of an Arrow stream, found by the messages' own headers alone."""

    def __init__(self, opened: Opened) -> None:
        self._file = opened.file
        self.whole: bool = False
        self._messages = list(self._scan(opened.size))
        if not self._messages or self._messages[0].kind != _START:
            raise ReadError("broken_archive", "is no Arrow stream")
        self._batches = [i for i, m in enumerate(self._messages) if m.kind == _ROWS]
        self.group_sizes: Sequence[int] = [self._messages[i].num_rows for i in self._batches]
        self.schema: pa.Schema = pa.ipc.open_stream(self._bytes(self._messages[:1])).schema

    def batches(
        self, group: int, columns: Sequence[str], batch_size: int
    ) -> Iterator[pa.RecordBatch]:
        """See `RowFile`. A batch is in memory as a whole, so its writer sets the bound."""
        last = self._batches[group]
        before = [m for m in self._messages[1:last] if m.kind == _DICTIONARY]
        parts = [self._messages[0], *before, self._messages[last]]
        wanted = [self.schema.get_field_index(name) for name in columns]
        try:
            options = pa.ipc.IpcReadOptions(included_fields=wanted)
            batch = pa.ipc.open_stream(self._bytes(parts), options=options).read_next_batch()
            batch.validate(full=True)  # a stream may hold offsets that lead anywhere
        except (*_BROKEN, StopIteration) as err:
            raise _read_error(err) from err
        for start in range(0, batch.num_rows, batch_size):
            yield batch.slice(start, batch_size)

    def _bytes(self, messages: Sequence[_Message]) -> pa.BufferReader:
        parts = [self._file.read_at(m.size, m.offset) for m in messages]
        return pa.BufferReader(b"".join(parts))

    def _scan(self, size: int) -> Iterator[_Message]:
        """The messages, until the stream ends or breaks; sets `whole`."""
        offset = 8 if self._file.read_at(len(_MAGIC), 0) == _MAGIC else 0
        while offset + 8 <= size:
            head = self._file.read_at(_HEAD, offset)
            mark, length = struct.unpack_from("<Ii", head)
            if mark != _MARK or length < 0:
                return
            if length == 0:
                self.whole = True
                return
            if 8 + length > len(head):
                head = self._file.read_at(min(8 + length, size), offset)
            try:
                kind, num_rows, num_bytes = _described(head[8:])
            except (struct.error, IndexError):
                return
            total = 8 + length + num_bytes
            if num_bytes < 0 or num_rows < 0 or offset + total > size:
                return
            yield _Message(kind, offset, total, num_rows)
            offset += total


def _described(head: bytes) -> tuple[int, int, int]:
    """Kind, rows and bytes of the body of a message, from its flatbuffer.

    Fields by their place in Message.fbs of the Arrow format: of a Message 1 is the kind, 2 the
    header, 3 the length of the body; of a RecordBatch 0 is the number of rows.
    """
    table = _number(head, 0, "<I")
    kind = head[_field(head, table, 1)]
    length = _field(head, table, 3)
    num_bytes = _number(head, length, "<q") if length else 0  # left out where it is 0
    if kind != _ROWS:
        return kind, 0, num_bytes
    header = _field(head, table, 2)
    batch = header + _number(head, header, "<I")
    rows = _field(head, batch, 0)
    return kind, _number(head, rows, "<q") if rows else 0, num_bytes


def _field(head: bytes, table: int, index: int) -> int:
    """Where a field of a flatbuffer's table stands; 0 where it is left out."""
    places = table - _number(head, table, "<i")
    if 4 + 2 * index >= _number(head, places, "<H"):
        return 0
    step = _number(head, places + 4 + 2 * index, "<H")
    return table + step if step else 0


def _number(head: bytes, offset: int, layout: str) -> int:
    if offset < 0:
        raise IndexError(offset)
    value: Any = struct.unpack_from(layout, head, offset)[0]
    return int(value)


def _read_error(err: Exception) -> ReadError:
    """Damage, or a disk or net that did not answer, which Arrow tells by the same class."""
    is_storage = isinstance(err, OSError) and (err.errno is not None or "AWS Error" in str(err))
    return ReadError("unreadable" if is_storage else "broken_archive", err)
