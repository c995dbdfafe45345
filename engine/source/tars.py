"""WebDataset: images and their labels in tar files, plain or compressed."""

import re
import tarfile
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import groupby
from typing import Any

import pyarrow as pa

from engine.config import LimitsConfig
from engine.failures import Failure, fail
from engine.source.files import list_files, split_files
from engine.source.filesystem import open_location, read_each
from engine.source.labels import Labels
from engine.source.names import decode_name, image_keys
from engine.source.shapes import LISTING, Listing, Location, Opened, ReadError, Sample, check_limit
from engine.source.tar_index import BLOCK, members, refused_row, samples

_CODECS = {"gz": "gzip", "tgz": "gzip", "bz2": "bz2", "zst": "zstd"}
ENDINGS = (".tar", ".tgz", *(f".tar.{name}" for name in ("gz", "bz2", "zst")))
_ARCHIVE = re.compile(r"^(.*?\.(?:tar(?:\.(?:gz|bz2|zst))?|tgz))(?:/|$)", re.IGNORECASE | re.DOTALL)
_REFUSALS = {
    "unsafe_path": "its name leads out of the archive; it is not followed",
    "special_file": "a link or device inside the archive; it is not followed",
    "broken_archive": "the archive ends or is damaged here; what follows is not known",
}
_SLACK = 1 << 16  # bytes read for nothing rather than with another request
_NAME_BYTES = 98  # a longer name, or a foreign one, stands in a header of its own ("./" before it)


@dataclass(frozen=True, kw_only=True)
class Tars:
    """Samples of WebDataset shards: members of one name up to the first dot of its last part.

    `uri` is a tar, a pattern of several (`{000000..000127}.tar`), or a folder of them. Each image
    of a sample is a candidate, its uri the archive's and its own name; members need not be
    adjacent. Labels (json, txt, cls) go with the first image whose extension has no further dot. A
    name that comes again begins another sample, its uri ending in `#2`. Members that are links or
    devices, or whose names lead out of the archive, fail; an archive that ends or breaks in the
    middle is a candidate of its own that fails, so that nobody takes it for whole.

    A shard of an uncompressed archive is read where it lies; a compressed one is read from its
    start for every shard, so large ones are better unpacked.

    Attributes:
        uri: As above; local, `file://`, `s3://` or `gs://`.
        name: The `source` of the rows its labels become.
        licence: Of images whose JSON names none.
        human: Whether people wrote the labels.
        texts: Role by field of the samples or of their JSON; null: the usual names, as `alt`.
        classes: Names of the classes that `cls` numbers.
        endpoint: As for loose images, with `region` and `anonymous`.
    """

    uri: str
    name: str = "dataset"
    licence: str | None = None
    human: bool = False
    texts: dict[str, str] | None = None
    classes: Sequence[str] = ()
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    location: Location = field(init=False, repr=False, compare=False)
    labels: Labels = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
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
        """The images of all archives, in the order of their names; every header is read.

        A bucket's archives are streamed through, whole, since each header would be a request.
        """
        check_limit(limit)
        ignored: Counter[str] = Counter()
        batches: list[pa.RecordBatch] = []
        missing = limit
        for archive in list_files(self.location, self.uri, ENDINGS):
            batch = self._index(archive, ignored)[:missing]
            batches.append(batch)
            missing = None if missing is None else missing - batch.num_rows
            if missing == 0:
                break
        images = pa.Table.from_batches(batches, LISTING)
        return Listing(self.uri, images, dict(sorted(ignored.items())))

    def read(self, images: pa.Table, limits: LimitsConfig) -> Iterator[Sample | ReadError]:
        """The images with their labels, archive by archive; see `engine.source.shapes.Source`."""
        rows = images.select(["uri", "place"]).to_pylist()
        for archive, group in groupby(rows, lambda row: _archive_of(row["uri"])):
            yield from self._read(archive, list(group), limits)

    def _index(self, archive: str, ignored: Counter[str]) -> pa.RecordBatch:
        """The listing of one archive, its break a row of its own."""
        modified = None
        try:
            with (opened := self.location.open(archive)).file:
                modified = opened.modified
                plain = _codec(archive) is None
                seekable = plain and self.location.readers == 1
                stream = _stream(opened, archive)
                found = list(members(stream, seekable=seekable, fast=plain))
            rows = samples(archive, found, ignored)
        except ReadError as err:
            rows = [refused_row(archive, err.cause)]
        columns = {name: [row[name] for row in rows] for name in ("uri", "size_bytes", "place")}
        columns["image_key"] = image_keys(columns["uri"])
        columns["modified"] = [modified] * len(rows)
        return pa.RecordBatch.from_pydict({n: columns[n] for n in LISTING.names}, LISTING)

    def _read(
        self, archive: str, rows: list[dict[str, Any]], limits: LimitsConfig
    ) -> Iterator[Sample | ReadError]:
        try:
            opened = self.location.open(archive)
        except ReadError as err:
            yield from [err] * len(rows)
            return
        with opened.file:
            archived = _Archive(opened, self.labels, limits)
            if _codec(archive) is not None:
                yield from archived.through(_stream(opened, archive), rows)
            else:
                yield from read_each(self.location, archived.at, rows)


@dataclass(frozen=True)
class _Archive:
    """One open archive, from which samples are taken."""

    opened: Opened
    labels: Labels
    limits: LimitsConfig

    def at(self, row: dict[str, Any]) -> Sample | ReadError:
        """A sample of an uncompressed archive, read where it lies."""
        try:
            wanted, failures = self._wanted(row)
            header, parts = self._parts(wanted)
            _check_header(header, row["uri"], wanted[0]["size"])
        except ReadError as err:
            return err
        return self._sample(wanted, parts, failures)

    def through(self, stream: Any, rows: list[dict[str, Any]]) -> Iterator[Sample | ReadError]:
        """Samples of a compressed archive, in order; it is read from its start to the last."""
        found: dict[int, Sample | ReadError] = {}
        wanted: dict[int, list[dict[str, Any]]] = {}
        failures: dict[int, list[Failure]] = {}
        for i, row in enumerate(rows):
            try:
                wanted[i], failures[i] = self._wanted(row)
            except ReadError as err:
                found[i] = err
        ranges = {i: _with_header(parts) for i, parts in wanted.items()}
        content = dict(_ranges(stream, sorted({each for some in ranges.values() for each in some})))
        for i, parts in wanted.items():
            given = [content.get(each) for each in ranges[i]]
            found[i] = self._checked(rows[i], parts, given, failures[i])
        yield from (found[i] for i in range(len(rows)))

    def _checked(
        self,
        row: dict[str, Any],
        wanted: list[dict[str, Any]],
        given: Sequence[pa.Buffer | None],
        failures: list[Failure],
    ) -> Sample | ReadError:
        parts = [part for part in given if part is not None]
        if len(parts) < len(given):
            return ReadError("broken_archive", "the archive ends before this member does")
        try:
            _check_header(parts[0].slice(0, BLOCK), row["uri"], wanted[0]["size"])
        except ReadError as err:
            return err
        return self._sample(wanted, [parts[0].slice(BLOCK), *parts[1:]], failures)

    def _wanted(self, row: dict[str, Any]) -> tuple[list[dict[str, Any]], list[Failure]]:
        """The places to read, the image's first, and the labels that are too large to be."""
        image, *labels = row["place"]
        if image["size"] is None:
            cause = image["field"]
            raise ReadError(cause, _REFUSALS.get(cause, "the archive cannot be read"))
        if image["size"] > self.limits.max_bytes:
            message = f"{image['size']} bytes, limits.max_bytes is {self.limits.max_bytes}"
            raise ReadError("too_many_bytes", message)
        most = self.limits.max_label_bytes
        failures = [
            fail(
                "labels",
                "too_many_labels",
                f"{part['field']}: {part['size']} bytes, limits.max_label_bytes is {most}",
                source=self.labels.name,
            )
            for part in labels
            if part["size"] > most
        ]
        return [image, *(part for part in labels if part["size"] <= most)], failures

    def _parts(self, wanted: list[dict[str, Any]]) -> tuple[pa.Buffer, list[pa.Buffer]]:
        """The image's header, and the content of every part; one read where they lie together."""
        start = min(part["offset"] for part in wanted) - BLOCK
        end = max(part["offset"] + part["size"] for part in wanted)
        if end - start > sum(part["size"] for part in wanted) + _SLACK:
            image, *labels = wanted
            whole = self._bytes(image["offset"] - BLOCK, image["size"] + BLOCK)
            rest = [self._bytes(part["offset"], part["size"]) for part in labels]
            return whole.slice(0, BLOCK), [whole.slice(BLOCK), *rest]
        window = self._bytes(start, end - start)
        parts = [window.slice(part["offset"] - start, part["size"]) for part in wanted]
        return window.slice(wanted[0]["offset"] - start - BLOCK, BLOCK), parts

    def _bytes(self, offset: int, size: int) -> pa.Buffer:
        try:
            content = self.opened.file.read_at(size, offset)
        except OSError as err:
            raise ReadError("unreadable", err.strerror or err) from err
        if len(content) != size:
            raise ReadError("broken_archive", "the archive ends before this member does")
        return pa.py_buffer(content)

    def _sample(
        self, wanted: list[dict[str, Any]], parts: Sequence[Any], failures: list[Failure]
    ) -> Sample:
        fields = {
            part["field"]: content.to_pybytes()
            for part, content in zip(wanted[1:], parts[1:], strict=True)
        }
        told = self.labels.read(fields)
        return Sample(
            parts[0],
            self.opened.modified,
            told.licence,
            self.labels.name,
            told.rows,
            [*failures, *told.failures],
        )


def _with_header(wanted: list[dict[str, Any]]) -> list[tuple[int, int]]:
    """Offset and size of every part; the image's begins at its header."""
    image, *labels = wanted
    header = (image["offset"] - BLOCK, image["size"] + BLOCK)
    return [header, *((part["offset"], part["size"]) for part in labels)]


def _ranges(
    stream: Any, ranges: Sequence[tuple[int, int]]
) -> Iterator[tuple[tuple[int, int], pa.Buffer]]:
    """The content of each range (offset, size), sorted, until the stream ends or breaks."""
    position = 0
    for offset, size in ranges:
        try:
            while position < offset:
                skipped = len(stream.read(min(offset - position, 1 << 22)))
                if not skipped:
                    return
                position += skipped
            content = stream.read(size)
        except (OSError, EOFError, ValueError):
            return
        position += len(content)
        if len(content) < size:
            return
        yield (offset, size), pa.py_buffer(content)


def _check_header(block: pa.Buffer, uri: str, size: int) -> None:
    """That the archive still holds this very member here: it may have been written anew."""
    try:
        header = tarfile.TarInfo.frombuf(block.to_pybytes(), "utf-8", "surrogateescape")
    except tarfile.HeaderError as err:
        raise ReadError("changed", "the archive holds no member here any more") from err
    name = decode_name(uri[len(_archive_of(uri)) + 1 :])
    # the listing numbers a repeated name
    names = {name, re.sub(r"#\d+$", "", name)}
    is_here = name.isascii() and len(name) <= _NAME_BYTES
    if header.size != size or (is_here and header.name.removeprefix("./") not in names):
        raise ReadError("changed", "the archive holds another member here")


def _codec(archive: str) -> str | None:
    return _CODECS.get(archive.lower().rpartition(".")[2])


def _stream(opened: Opened, archive: str) -> Any:
    codec = _codec(archive)
    return opened.file if codec is None else pa.CompressedInputStream(opened.file, codec)


def _archive_of(uri: str) -> str:
    match = _ARCHIVE.match(uri)
    assert match is not None, uri  # the listing made it
    return match[1]
