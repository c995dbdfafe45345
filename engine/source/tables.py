"""Tables of uris and alt-texts whose images lie in a folder or bucket."""

from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import groupby
from typing import Any

import numpy as np
import pyarrow as pa

from engine.config import LimitsConfig
from engine.errors import ConfigError
from engine.failures import CAUSES, Failure
from engine.source.columns import fitting, told_of
from engine.source.files import list_files, refuse_missing, split_files
from engine.source.filesystem import open_location, read_each
from engine.source.labels import Labels, join
from engine.source.names import image_keys
from engine.source.shapes import LISTING, PLACE, Listing, Location, ReadError, Sample, check_limit
from engine.source.table_files import ENDINGS, Said, TableFile, open_table
from engine.source.table_uris import Root, root_of

_DIGITS = 8  # of a row's number in a uri

Place = tuple[str, int, int | None]  # a table, where in it, and of how many bytes


@dataclass(frozen=True, kw_only=True)
class Tables:
    """Images that CSV, TSV or Parquet tables name, looked up below `images`; nothing is fetched.

    A uri is relative to `images` or starts with it. Web addresses, and what leads or links out of
    `images`, are images that fail. Rows of one uri are one image with several texts, in the order
    of its first row. An image that cannot be named by its uri (a web address, a record that cannot
    be read) is named by its table, two slashes and its line, in Parquet its row; no path below
    `images` has two slashes.

    Whether an image exists is found when it is read. A shard reads only its own records of a text
    table, of a Parquet table the row groups they are in.

    Attributes:
        uri: A table, a pattern of several (`{000..127}.parquet`), or a folder of them; local,
            `file://`, `s3://` or `gs://`.
        images: The folder or bucket of the images; may lie elsewhere than the tables.
        column: The column of uris; null: found by its name (file_name, path, uri, url and others).
        columns: Names of the columns of text tables without a header; such a table of a text and a
            uri, as Conceptual Captions', needs none.
        name: The `source` of the rows its labels become.
        licence: Of images whose row names none.
        human: Whether people wrote the texts.
        texts: Role by column; null: the usual names, as `alt`.
        classes: Names of the classes that `label` numbers.
        endpoint: As for loose images, with `region` and `anonymous`; of tables and images alike,
            if they are in a bucket.
    """

    uri: str
    images: str | None = None
    column: str | None = None
    columns: Sequence[str] = ()
    name: str = "dataset"
    licence: str | None = None
    human: bool = False
    texts: dict[str, str] | None = None
    classes: Sequence[str] = ()
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    location: Location = field(init=False, repr=False, compare=False)
    image_location: Location = field(init=False, repr=False, compare=False)
    labels: Labels = field(init=False, repr=False, compare=False)
    root: Root = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        if self.images is None:
            raise ConfigError(
                f"source.images is missing; give the folder or bucket that the uris of "
                f"{self.uri!r} are relative to"
            )
        folder, _ = split_files(self.uri, ENDINGS)
        images = self._open(self.images, other=folder)
        labels = Labels(
            name=self.name,
            licence=self.licence,
            human=self.human,
            texts=self.texts,
            classes=tuple(self.classes),
        )
        derived = {"location": self._open(folder, other=self.images), "image_location": images}
        # derived once; the config fields stay frozen
        for name, value in {**derived, "labels": labels, "root": root_of(images)}.items():
            object.__setattr__(self, name, value)

    @property
    def produces(self) -> dict[str, tuple[str, ...]]:
        """See `engine.source.shapes.Source`."""
        return self.labels.produces

    def listing(self, limit: int | None = None) -> Listing:
        """The images by their first row; see `engine.source.shapes.Source`.

        All tables are read whole even with a limit, since a later row may hold another text of an
        image. A million rows take some 450 MB meanwhile.
        """
        check_limit(limit)
        found = _Found(self.root, limit)
        files = list_files(self.location, self.uri, ENDINGS)
        for file in files:
            try:
                with (opened := self.location.open(file)).file:
                    found.take(file, open_table(opened, file, *self._reading))
            except ReadError as err:
                if file == split_files(self.uri, ENDINGS)[1]:
                    refuse_missing(self.uri, err)
                found.refuse(file, 0, err.cause)
        if not found.uris:
            raise ConfigError(
                f"{self.uri!r}: no row names an image among {found.ignored.total()} rows of "
                f"{len(files)} files ({', '.join(files[:5])}); give another table"
            )
        return Listing(self.uri, found.table(), dict(sorted(found.ignored.items())))

    def read(self, images: pa.Table, limits: LimitsConfig) -> Iterator[Sample | ReadError]:
        """The images with what their rows say; see `engine.source.shapes.Source`."""
        rows = images.select(["uri", "place"]).to_pylist()
        places = sorted({place for row in rows for place in _places_of(row)})
        said: dict[Place, Said | ReadError] = {}
        for file, group in groupby(places, lambda place: place[0]):
            mine = list(group)
            said.update(zip(mine, self._said(file, mine), strict=True))
        yield from read_each(self.image_location, partial(self._load, said, limits), rows)

    @property
    def _reading(self) -> tuple[Labels, str | None, Sequence[str]]:
        return self.labels, self.column, self.columns

    def _open(self, uri: str, other: str) -> Location:
        """A location with the bucket's options, unless only the other one is in a bucket."""
        if _is_local(uri) and not _is_local(other):
            return open_location(uri)
        return open_location(
            uri, endpoint=self.endpoint, region=self.region, anonymous=self.anonymous
        )

    def _said(self, file: str, places: Sequence[Place]) -> list[Said | ReadError]:
        try:
            with (opened := self.location.open(file)).file:
                table = open_table(opened, file, *self._reading)
                return list(table.said([place[1:] for place in places]))
        except ReadError as err:
            return [err] * len(places)
        except ConfigError as err:
            return [ReadError("changed", err)] * len(places)

    def _load(
        self, said: dict[Place, Said | ReadError], limits: LimitsConfig, row: dict[str, Any]
    ) -> Sample | ReadError:
        try:
            told, failures = [], list[Failure]()
            path = row["uri"]
            if not _places_of(row):
                cause = row["place"][0]["field"]
                raise ReadError(cause, "the table, or this record of it, cannot be read")
            for place in _places_of(row):
                words = said[place]
                if isinstance(words, ReadError):
                    raise words
                path = self.root.path_of(words.uri or "")
                if path != row["uri"]:
                    raise ReadError("changed", "the table names another image here")
                values, large = fitting(words.values, limits.max_label_bytes, self.name)
                told.append(told_of(self.labels, values))
                failures += [*words.failures, *large]
            if self.image_location.leads_out(path):
                raise ReadError("unsafe_path", "a link out of source.images; it is not followed")
            blob = self.image_location.read(path, max_bytes=limits.max_bytes)
        except ReadError as err:
            return err
        joined = join(told)
        failures += joined.failures
        return Sample(blob.data, None, joined.licence, self.name, joined.rows, failures)


class _Found:
    """Images found in tables so far, in columns: there may be many millions."""

    def __init__(self, root: Root, limit: int | None) -> None:
        self.uris: list[str] = []
        self.ignored: Counter[str] = Counter()
        self._root = root
        self._limit = limit
        self._numbers: dict[str, int] = {}
        self._fields: list[str] = []
        self._images, self._offsets, self._sizes = array("q"), array("q"), array("q")

    def take(self, file: str, table: TableFile) -> None:
        """The rows of a table."""
        for row in table.rows():
            if row.broken:
                self.refuse(file, row.number, "broken_archive")
            elif row.uri is None:
                self.ignored["row without a uri"] += 1
            else:
                self._add(file, row.uri, row.number, row.offset, row.size)

    def refuse(self, file: str, number: int, cause: str) -> None:
        """A record or table that cannot be read."""
        if self._limit is None or len(self.uris) < self._limit:
            self._place(len(self.uris), cause, 0, None)
            self.uris.append(f"{file}//{number:0{_DIGITS}}")

    def table(self) -> pa.Table:
        """The listing."""
        images = np.array(self._images, np.int64)
        order = np.argsort(images, kind="stable")
        sizes = np.array(self._sizes, np.int64)[order]
        parts = [
            pa.array(self._fields, pa.string()).take(pa.array(order)),
            pa.array(np.array(self._offsets, np.int64)[order]),
            pa.array(sizes, mask=sizes < 0),
        ]
        starts = np.searchsorted(images[order], np.arange(len(self.uris) + 1)).astype(np.int32)
        struct = pa.StructArray.from_arrays(parts, fields=list(PLACE.value_type))
        unknown = pa.nulls(len(self.uris), pa.int64())
        return pa.table(
            {
                "image_key": pa.array(image_keys(self.uris), pa.string()),
                "uri": pa.array(self.uris, pa.string()),
                "size_bytes": unknown,
                "modified": unknown,
                "place": pa.ListArray.from_arrays(pa.array(starts), struct).cast(PLACE),
            },
            schema=LISTING,
        )

    def _add(self, file: str, uri: str, number: int, offset: int, size: int | None) -> None:
        try:
            name = known = self._root.path_of(uri)
        except ReadError:  # told when it is read; a uri may hold a password and is not shown
            name, known = f"{file}//{number:0{_DIGITS}}", f"//{uri}"
        image = self._numbers.get(known)
        if image is None:
            if self._limit is not None and len(self.uris) >= self._limit:
                return
            image = self._numbers[known] = len(self.uris)
            self.uris.append(name)
        self._place(image, file, offset, size)

    def _place(self, image: int, name: str, offset: int, size: int | None) -> None:
        self._images.append(image)
        self._fields.append(name)
        self._offsets.append(offset)
        self._sizes.append(-1 if size is None else size)


def _places_of(row: dict[str, Any]) -> list[Place]:
    """Where the rows of an image are; none for what was refused when it was listed."""
    places = [(place["field"], place["offset"], place["size"]) for place in row["place"]]
    return [place for place in places if place[0] not in CAUSES]


def _is_local(uri: str) -> bool:
    return "://" not in uri or uri.startswith("file://")
