"""Tables of uris and texts, CSV or Parquet: their rows, and what a row at a known place says."""

import codecs
import io
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

from engine.errors import ConfigError
from engine.failures import Failure, fail, scrub
from engine.source.columns import row_values
from engine.source.csv_records import Record, records
from engine.source.labels import Labels
from engine.source.row_files import PARQUET, open_rows
from engine.source.shapes import Opened, ReadError
from engine.source.table_uris import is_image_uri

ENDINGS = (".csv", ".tsv", PARQUET)

# Names people give to a column of uris, a file's before an address: who downloaded has both.
_URIS = (
    *("file_name", "filename", "file", "file_path", "filepath", "path", "image_path", "img_path"),
    *("image_file", "image_name", "image", "img", "uri", "image_uri", "url", "image_url"),
)
_CAPTIONS = ("caption", "url")  # Conceptual Captions come without a header
_DELIMITERS = {".csv": ",;\t", ".tsv": "\t"}  # the first that shows a column of uris
_BATCH = 8192  # rows of a Parquet table at a time
_SLACK = 1 << 16  # bytes read for nothing rather than with another request
_MAX_SHOWN = 40  # characters of a cell in a message


class Row(NamedTuple):
    """A row of a table: its number as a reader counts, its place, and the uri as it stands there.

    `uri` is null where the row names no image, `broken` where nobody can tell.
    """

    number: int
    offset: int
    size: int | None
    uri: str | None
    broken: bool = False


class Said(NamedTuple):
    """What one row says: its uri, and values by name of its column."""

    uri: str | None
    values: dict[str, Any]
    failures: list[Failure]


class TableFile(Protocol):
    """An open table."""

    def rows(self) -> Iterator[Row]:
        """All rows, in order; one that is broken is told of as such.

        Raises:
            ReadError: The storage does not answer.
        """

    def said(self, places: Sequence[tuple[int, int | None]]) -> Iterator[Said | ReadError]:
        """What the rows at those places (offset and size) say, sorted as they are."""


def open_table(
    opened: Opened, file: str, labels: Labels, column: str | None, columns: Sequence[str]
) -> TableFile:
    """The table in an open file.

    Args:
        opened: The file; the caller closes it.
        file: Its name, for its ending and for messages.
        labels: Which columns are wanted.
        column: The column of uris; null: found by its name.
        columns: Names of the columns of a text file without a header.

    Raises:
        ConfigError: No column of uris, or text that is no table.
        ReadError: `broken_archive` for a broken Parquet file, or the storage does not answer.
    """
    if file.lower().endswith(PARQUET):
        return _ParquetTable(opened, file, labels, column)
    return _TextTable(opened, file, labels, column, columns)


class _TextTable:
    """CSV or TSV."""

    def __init__(
        self, opened: Opened, file: str, labels: Labels, column: str | None, columns: Sequence[str]
    ) -> None:
        self._opened = opened
        self._buffered: Any = io.BufferedReader(opened.file)  # closes the file with it
        self._labels = labels
        [mark] = _contents(opened, [(0, len(codecs.BOM_UTF8))])
        if mark.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
            raise ConfigError(f"{file}: is UTF-16; save it as UTF-8")
        self._start = len(mark) if mark == codecs.BOM_UTF8 else 0
        self._delimiter, self._names, self._has_header = self._header(file, column, columns)
        self._uri = _uri_column(self._names, column, file)
        for name in (self._names[self._uri], *labels.fields):
            if self._names.count(name) > 1:
                raise ConfigError(f"{file}: two columns are named {name!r}; rename one of them")

    def rows(self) -> Iterator[Row]:
        """See `TableFile`."""
        found = self._records(self._delimiter)
        if self._has_header:
            next(found)
        for record in found:
            uri, cells = None, record.cells
            if cells is not None and self._uri < len(cells):
                uri = cells[self._uri].strip(" ") or None
            yield Row(record.line, record.offset, record.size, uri, cells is None)

    def said(self, places: Sequence[tuple[int, int | None]]) -> Iterator[Said | ReadError]:
        """See `TableFile`."""
        ranges = [(offset, size or 0) for offset, size in places]
        for content in _contents(self._opened, ranges):
            record = next(records(io.BytesIO(content), self._delimiter), None)
            if record is None or record.cells is None:
                yield ReadError("changed", "the table holds another record here")
            else:
                yield self._said(record.cells)

    def _records(self, delimiter: str) -> Iterator[Record]:
        self._buffered.seek(self._start)
        return records(self._buffered, delimiter, self._start)

    def _said(self, cells: list[str]) -> Said:
        uri = cells[self._uri] if self._uri < len(cells) else None
        if len(cells) != len(self._names):
            message = f"the record has {len(cells)} cells, the table {len(self._names)} columns"
            failure = fail("labels", "bad_labels", message, source=self._labels.name)
            return Said(uri, {}, [failure])
        values = {
            name: _value(cells[i])
            for i, name in enumerate(self._names)
            if name in self._labels.fields and i != self._uri
        }
        return Said(uri, values, [])

    def _header(
        self, file: str, column: str | None, columns: Sequence[str]
    ) -> tuple[str, list[str], bool]:
        """Delimiter, names of the columns, and whether they stand in the file."""
        delimiters = _DELIMITERS[file[-4:].lower()]
        if columns:
            return delimiters[0], list(columns), False
        first: Record | None = None
        for delimiter in delimiters:
            record = next(self._records(delimiter), None)
            first = first or record
            names = [cell.strip() for cell in record.cells or ()] if record else []
            if _find_uris(names, column) is not None:
                return delimiter, names, True
        if first is None:
            raise ConfigError(f"{file}: is empty; give a table with a header and rows")
        cells = first.cells or []
        if len(cells) == len(_CAPTIONS) and [is_image_uri(cell) for cell in cells] == [False, True]:
            return delimiters[0], list(_CAPTIONS), False
        raise _no_uris(file, cells, column)


class _ParquetTable:
    """Parquet; of no use to who wants the columns of a row group apart."""

    def __init__(self, opened: Opened, file: str, labels: Labels, column: str | None) -> None:
        self._rows = open_rows(opened, file)
        schema = self._rows.schema
        self._uri = schema.names[_uri_column(schema.names, column, file)]
        if not _is_text(schema.field(self._uri).type):
            raise ConfigError(
                f"{file}: the column {self._uri!r} holds {schema.field(self._uri).type}, wanted "
                "uris; name another in source.column, or set source.kind=parquet for image bytes"
            )
        self._labels = labels
        self._names = [n for n in schema.names if n in labels.fields and n != self._uri]

    def rows(self) -> Iterator[Row]:
        """See `TableFile`."""
        start = 0
        for group, size in enumerate(self._rows.group_sizes):
            number = start
            try:
                for batch in self._rows.batches(group, [self._uri], _BATCH):
                    for uri in _texts(batch.column(0)):
                        yield Row(number, number, None, (uri or "").strip(" ") or None)
                        number += 1
            except ReadError:
                yield Row(number, number, None, None, broken=True)
            start += size

    def said(self, places: Sequence[tuple[int, int | None]]) -> Iterator[Said | ReadError]:
        """See `TableFile`."""
        wanted = [offset for offset, _ in places]
        found: dict[int, Said | ReadError] = {}
        start = 0
        for group, size in enumerate(self._rows.group_sizes):
            here = [number for number in wanted if start <= number < start + size]
            if here:
                found |= self._group(group, start, here)
            start += size
        gone = ReadError("changed", "the table has no such row any more")
        yield from (found.get(number, gone) for number in wanted)

    def _group(self, group: int, start: int, wanted: list[int]) -> dict[int, Said | ReadError]:
        found: dict[int, Said | ReadError] = {}
        try:
            for batch in self._rows.batches(group, [self._uri, *self._names], _BATCH):
                end = start + batch.num_rows
                for number in [number for number in wanted if start <= number < end]:
                    row = number - start
                    values, failures = row_values(batch, row, self._names, self._labels.name)
                    [uri] = _texts(batch.column(self._uri).slice(row, 1))
                    found[number] = Said(uri, values, failures)
                start = end
                if start > wanted[-1]:
                    break
        except ReadError as err:
            return {number: found.get(number, err) for number in wanted}
        return found


def _contents(opened: Opened, ranges: Sequence[tuple[int, int]]) -> Iterator[bytes]:
    """The bytes of each range, sorted by offset; those that lie together are one read."""
    for window in _windows(ranges):
        start = window[0][0]
        end = max(offset + size for offset, size in window)
        try:
            content = opened.file.read_at(end - start, start)
        except OSError as err:
            raise ReadError("unreadable", err.strerror or err) from err
        yield from (content[offset - start : offset - start + size] for offset, size in window)


def _windows(ranges: Sequence[tuple[int, int]]) -> Iterator[list[tuple[int, int]]]:
    window: list[tuple[int, int]] = []
    for offset, size in ranges:
        if window and offset > sum(window[-1]) + _SLACK:
            yield window
            window = []
        window.append((offset, size))
    if window:
        yield window


def _find_uris(names: Sequence[str], column: str | None) -> int | None:
    lowered = [name.lower() for name in names]
    if column is not None:
        return names.index(column) if column in names else None
    return next((lowered.index(name) for name in _URIS if name in lowered), None)


def _uri_column(names: Sequence[str], column: str | None, file: str) -> int:
    found = _find_uris(names, column)
    if found is None:
        raise _no_uris(file, names, column)
    return found


def _no_uris(file: str, names: Sequence[str], column: str | None) -> ConfigError:
    # where there is no header these are cells, and a uri among them may hold a password
    shown = ", ".join(repr(scrub(name)[:_MAX_SHOWN]) for name in names[:20])
    what = "no column of a usual name for uris" if column is None else f"no column {column!r}"
    return ConfigError(
        f"{file}: {what}; found {shown or 'nothing'}; name it in source.column, or all columns in "
        "source.columns if the file has no header"
    )


def _value(cell: str) -> str | bytes | None:
    """A cell as labels are read: null if empty, bytes if it is no UTF-8, which is told there."""
    try:
        cell.encode()
    except UnicodeEncodeError:
        return cell.encode("utf-8", "surrogateescape")
    return cell or None


def _is_text(type_: pa.DataType) -> bool:
    if pa.types.is_dictionary(type_):
        type_ = type_.value_type
    return bool(pa.types.is_string(type_) or pa.types.is_large_string(type_))


def _texts(column: pa.Array) -> list[str | None]:
    """Texts, bytes that are no UTF-8 as lone surrogates."""
    values = column.cast(pa.string()).cast(pa.binary()).to_pylist()
    return [None if value is None else value.decode("utf-8", "surrogateescape") for value in values]
