"""Parquet files, and datasets saved by Hugging Face, that hold the bytes of their images."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any, NamedTuple

import pyarrow as pa

from engine.config import LimitsConfig
from engine.errors import ConfigError
from engine.failures import fail
from engine.source.columns import (
    bytes_of,
    class_names,
    fitting,
    image_column,
    path_part,
    row_values,
    told_of,
)
from engine.source.files import list_files, refuse_missing, split_files
from engine.source.filesystem import open_location
from engine.source.labels import LabelError, Labels
from engine.source.names import image_keys, shown_name
from engine.source.objects import OBJECTS, category_names, check_format, regions_of
from engine.source.row_files import ARROW, PARQUET, RowFile, open_rows
from engine.source.saved import saved_files
from engine.source.shapes import LISTING, Listing, Location, ReadError, Sample, check_limit
from engine.source.tar_index import refused_row

ENDINGS = (PARQUET, ARROW)

_ROW = "row"  # the field of a place: its offset is the number of a row of the file
_DIGITS = 8  # of that number in a uri, so that uris sort as rows do
_IMAGES = 16  # rows decoded at a time: of a row group that holds many, no more is in memory
_NAMES = 8192  # names read at a time


@dataclass(frozen=True, kw_only=True)
class ParquetImages:
    """Rows of Parquet files, or of a dataset that `datasets` saved, each with an image's bytes.

    `uri` is a file, a pattern of several (`train-{00000..00009}-of-00010.parquet`), a folder of
    them, or what `save_to_disk` wrote (a DatasetDict: all its splits in turn). The uri of an image
    is its file's, its row number from 0 and, in Parquet, its own name. Columns of usual names
    become rows (see `engine.source.labels`), classes by the names that Hugging Face keeps in the
    file. A row without bytes fails alone; a file that is broken or ends early is a candidate of its
    own that fails.

    A listing reads no image. A shard reads only the row groups it needs, from their start, and only
    the columns that mean something.

    Attributes:
        uri: As above; local, `file://`, `s3://` or `gs://`.
        column: The column of image bytes; null: found by its name (see `columns.image_column`).
        name: The `source` of the rows its labels become.
        licence: Of images whose row names none.
        human: Whether people wrote the labels.
        texts: Role by column; null: the usual names, as `alt`.
        classes: Names of the classes that `label` numbers; those of the file when empty.
        boxes: `xywh` or `xyxy`, how the boxes of a column `objects` are written, in pixels of the
            upright image; null: nobody knows, so that column is only counted.
        endpoint: As for loose images, with `region` and `anonymous`.
    """

    uri: str
    column: str | None = None
    name: str = "dataset"
    licence: str | None = None
    human: bool = False
    texts: dict[str, str] | None = None
    classes: Sequence[str] = ()
    boxes: str | None = None
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    location: Location = field(init=False, repr=False, compare=False)
    labels: Labels = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        check_format(self.boxes)
        folder, _ = split_files(self.uri, ENDINGS)
        location = open_location(
            folder, endpoint=self.endpoint, region=self.region, anonymous=self.anonymous
        )
        labels = Labels(
            name=self.name,
            licence=self.licence,
            human=self.human,
            texts=self.texts,
            classes=tuple(self.classes),
        )
        # derived once; the config fields stay frozen
        object.__setattr__(self, "location", location)
        object.__setattr__(self, "labels", labels)

    @property
    def produces(self) -> dict[str, tuple[str, ...]]:
        """See `engine.source.shapes.Source`."""
        return self.labels.produces

    def listing(self, limit: int | None = None) -> Listing:
        """A candidate per row, file by file; see `engine.source.shapes.Source`.

        Raises:
            ConfigError: Also where a file has no column of image bytes.
        """
        check_limit(limit)
        ignored: Counter[str] = Counter()
        batches: list[pa.RecordBatch] = []
        missing = limit
        for file in self._files():
            batch = self._index(file, missing, ignored)
            if batch.num_rows == 0:
                ignored["file without rows"] += 1
            batches.append(batch)
            missing = None if missing is None else missing - batch.num_rows
            if missing == 0:
                break
        return Listing(self.uri, pa.Table.from_batches(batches, LISTING), dict(ignored))

    def read(self, images: pa.Table, limits: LimitsConfig) -> Iterator[Sample | ReadError]:
        """The images with their labels, file by file; see `engine.source.shapes.Source`."""
        rows = images.select(["uri", "place"]).to_pylist()
        for file, group in groupby(rows, _file_of):
            yield from self._read(file, list(group), limits)

    def _files(self) -> list[str]:
        if split_files(self.uri, ENDINGS)[1] is None:
            saved = saved_files(self.location)
            if saved is not None:
                return saved
        return list_files(self.location, self.uri, ENDINGS)

    def _index(self, file: str, limit: int | None, ignored: Counter[str]) -> pa.RecordBatch:
        """The listing of one file, its break a row of its own."""
        modified = None
        rows: list[dict[str, Any]] = []
        try:
            with (opened := self.location.open(file)).file:
                modified = opened.modified
                found = open_rows(opened, file)
                column = image_column(found.schema, self.column, f"{self.uri!r}: {file}")
                if OBJECTS in found.schema.names and self.boxes is None:
                    ignored[f"column {OBJECTS} without source.boxes"] += 1
                if not found.whole:
                    rows.append(refused_row(file, "broken_archive"))
                rows.extend(_numbered(file, found, column, limit))
        except ReadError as err:
            if file == split_files(self.uri, ENDINGS)[1]:
                refuse_missing(self.uri, err)
            rows = [refused_row(file, err.cause)]
        rows = rows[:limit]
        columns = {name: [row[name] for row in rows] for name in ("uri", "size_bytes", "place")}
        columns["image_key"] = image_keys(columns["uri"])
        columns["modified"] = [modified] * len(rows)
        return pa.RecordBatch.from_pydict({n: columns[n] for n in LISTING.names}, LISTING)

    def _read(
        self, file: str, rows: list[dict[str, Any]], limits: LimitsConfig
    ) -> Iterator[Sample | ReadError]:
        numbers = [_number_of(row) for row in rows]
        found: dict[int, Sample | ReadError] = {}
        error = ReadError("broken_archive", "the file is broken, or ends here before it should")
        wanted = sorted({number for number in numbers if number is not None})
        if wanted:
            try:
                with (opened := self.location.open(file)).file:
                    found = self._samples(open_rows(opened, file), wanted, opened.modified, limits)
            except ReadError as err:
                error = err
        for row, number in zip(rows, numbers, strict=True):
            if number is not None:
                yield found.get(number, error)
            else:
                cause = row["place"][0]["field"]
                yield ReadError(cause, "the file cannot be read, or ends before it should")

    def _samples(
        self, rows: RowFile, wanted: list[int], modified: int | None, limits: LimitsConfig
    ) -> dict[int, Sample | ReadError]:
        """The wanted rows of a file by number; those it does not have any more are `changed`."""
        try:
            column = image_column(rows.schema, self.column, "the file")
        except ConfigError as err:
            raise ReadError("changed", err) from err
        names = [name for name in rows.schema.names if name in self.labels.fields]
        names = [name for name in names if name != column]
        if self.boxes is not None and OBJECTS in rows.schema.names:
            names.append(OBJECTS)
        classes = {} if self.classes else class_names(rows.schema)
        objects = _Objects(self.boxes or "", category_names(rows.schema))
        reader = _Reader(self.labels, limits, modified, column, names, classes, objects)
        found: dict[int, Sample | ReadError] = {}
        start = 0
        for group, size in enumerate(rows.group_sizes):
            here = [number - start for number in wanted if start <= number < start + size]
            if here:
                found |= {start + i: s for i, s in reader.samples(rows, group, here)}
            start += size
        gone = ReadError("changed", "the file has no such row any more")
        return found | {number: gone for number in wanted if number >= start}


class _Objects(NamedTuple):
    """How the column of objects is read."""

    boxes: str
    names: Sequence[str]


@dataclass(frozen=True)
class _Reader:
    """How the rows of one open file become samples."""

    labels: Labels
    limits: LimitsConfig
    modified: int | None
    column: str
    names: Sequence[str]  # of the columns that labels are in
    classes: Mapping[str, Sequence[str]]
    objects: _Objects

    def samples(
        self, rows: RowFile, group: int, wanted: Sequence[int]
    ) -> Iterator[tuple[int, Sample | ReadError]]:
        """The wanted rows of a group, numbers within it, sorted; where it breaks the rest fail."""
        left = list(wanted)
        start = 0
        try:
            for batch in rows.batches(group, [self.column, *self.names], _IMAGES):
                images = bytes_of(batch.column(self.column))
                while left and left[0] < start + batch.num_rows:
                    row = left[0] - start
                    yield left[0], self._sample(images[row], batch, row)
                    left.pop(0)
                start += batch.num_rows
                if not left:
                    break
        except ReadError as err:
            yield from ((number, err) for number in left)

    def _sample(self, image: pa.Scalar, batch: pa.RecordBatch, row: int) -> Sample | ReadError:
        if not image.is_valid:
            return ReadError("missing", "the row holds no bytes of an image, at most its name")
        size, most = image.as_buffer().size, self.limits.max_bytes
        if size > most:
            return ReadError("too_many_bytes", f"{size} bytes, limits.max_bytes is {most}")
        name = self.labels.name
        values, failures = row_values(batch, row, self.names, name)
        values, too_large = fitting(values, self.limits.max_label_bytes, name)
        objects = values.pop(OBJECTS, None)
        told = told_of(self.labels, values, self.classes)
        failures += [*too_large, *told.failures]
        try:
            regions = regions_of(objects, *self.objects)
        except LabelError as err:
            regions = []
            failures.append(fail("labels", err.cause, err, source=name))
        told.rows += [{**region, "human": self.labels.human} for region in regions]
        # a copy: the buffer itself would keep all images of its batch in memory
        data = pa.py_buffer(image.as_py())
        return Sample(data, self.modified, told.licence, name, told.rows, failures)


def _numbered(file: str, rows: RowFile, column: str, limit: int | None) -> Iterator[dict[str, Any]]:
    """A row of the listing per row of the file, or for the first of them."""
    part = path_part(rows.schema, column) if file.lower().endswith(PARQUET) else None
    start = 0
    for group, size in enumerate(rows.group_sizes):
        if limit is not None and start >= limit:
            return
        names = _own_names(rows, group, part) if part is not None else iter(())
        for number in range(start, start + size):
            name = next(names, "")
            uri = f"{file}/{number:0{_DIGITS}}" + (f"-{name}" if name else "")
            place = [{"field": _ROW, "offset": number, "size": None}]
            yield {"uri": uri, "size_bytes": None, "place": place}
        start += size


def _own_names(rows: RowFile, group: int, part: str) -> Iterator[str]:
    """The images' own names, "" where they have none, until the column ends or breaks."""
    try:
        for batch in rows.batches(group, [part], _NAMES):
            paths = batch.column(0).flatten()[0].cast(pa.binary())
            for path in paths.to_pylist():
                yield shown_name((path or b"").decode("utf-8", "surrogateescape"))
    except ReadError:
        return  # reading the images will tell


def _number_of(row: Mapping[str, Any]) -> int | None:
    """The row an image is in; null for what was refused when it was listed."""
    place = row["place"][0]
    return int(place["offset"]) if place["field"] == _ROW else None


def _file_of(row: Mapping[str, Any]) -> str:
    uri = str(row["uri"])
    return uri if _number_of(row) is None else uri.rpartition("/")[0]
