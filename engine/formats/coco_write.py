"""Writing COCO: records that came from such a file as they were, others from their columns."""

import mmap
import shutil
import tempfile
from collections.abc import Mapping
from contextlib import ExitStack
from typing import IO, Any

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from engine.formats.coco_index import ANNOTATIONS, CATEGORIES, IMAGES, LICENCES
from engine.formats.coco_records import RecordMaker
from engine.formats.json_decode import joined
from engine.formats.shapes import LabelSet, Part, Place

_SEPARATOR = ",\n"
_COPY = 1 << 20  # bytes at once


def write_coco(place: Place, labels: LabelSet) -> list[str]:
    """Writes a set of labels as one COCO file.

    A set read from COCO keeps its layout (an object, or a list of results), every section but
    images and annotations verbatim, and every record verbatim. What came from elsewhere becomes an
    object: regions of role `category` are annotations of that class, those of other roles have
    their role as class and keep it, with their text, in `role` and `text`. A set of texts alone
    becomes a captions file, which has no categories.

    Returns:
        What could not be written, one sentence each.
    """
    with ExitStack() as opened:
        return _Writer(labels, opened).write(place)


class _Spool:
    """Records of one array, in a temporary file until the sections around them are known."""

    def __init__(self, opened: ExitStack) -> None:
        self._file: IO[bytes] = opened.enter_context(_temporary())
        self.count = 0

    def add(self, records: pa.StringArray) -> None:
        if len(records) == 0:
            return
        self._file.write((_SEPARATOR if self.count else "\n").encode())
        self._file.write(joined(records, _SEPARATOR))
        self.count += len(records)

    def copy_to(self, out: IO[bytes]) -> None:
        self._file.seek(0)
        out.write(b"[")
        shutil.copyfileobj(self._file, out, _COPY)
        out.write(b"]")


class _Writer:
    def __init__(self, labels: LabelSet, opened: ExitStack) -> None:
        self._labels = labels
        content: Mapping[str, Any] = labels.header.content
        # without what was read beside them nobody knows what the numbers in a record mean
        self._is_coco = labels.header.kind == "coco" and "layout" in content
        content = content if self._is_coco else {}
        self._is_results = content.get("layout") == "results"
        self._sections: dict[str, str | None] = dict(content.get("sections", {}))
        self._maker = RecordMaker(content, () if self._is_coco else labels.header.classes)
        self._images, self._annotations, self._captions = (_Spool(opened) for _ in range(3))
        self._num_regions = 0
        self._out: IO[bytes] = opened.enter_context(_temporary())

    def write(self, place: Place) -> list[str]:
        for part in self._labels.parts:
            self._take(part)
        notes = self._maker.notes()
        if self._num_regions and self._captions.count:
            notes.append(
                f"{self._captions.count} texts are left out: COCO keeps captions in a file of "
                "their own; export the texts alone to get it"
            )
        rows = self._captions if self._captions.count and not self._num_regions else None
        self._write_document(rows or self._annotations)
        self._out.write(b"\n")
        self._out.flush()
        with (
            mmap.mmap(self._out.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
            memoryview(mapped) as data,
        ):
            place.location.write(place.path, data)
        return notes

    def _take(self, part: Part) -> None:
        images, rows = part
        pictures, ids = self._maker.pictures(images, self._told(images))
        if not self._is_results:
            self._images.add(pictures.drop_null())
        is_text = pc.equal(rows["kind"].cast(pa.string()), "text")
        self._num_regions += pc.sum(pc.invert(is_text)).as_py() or 0
        told = self._told(rows)
        self._annotations.add(_combined(rows["extra"].filter(told)))
        new = rows.filter(pc.invert(told))
        if new.num_rows:
            image_ids = self._maker.image_ids(images, ids)
            numbers = image_ids.take(_place_of(new, images))
            self._annotations.add(self._maker.regions(new, numbers))
            self._captions.add(self._maker.captions(new, numbers))

    def _told(self, table: pa.Table) -> pa.ChunkedArray:
        """Which rows are written as they were."""
        if not self._is_coco:
            return pa.chunked_array([pa.repeat(False, table.num_rows)])
        return pc.is_valid(table["extra"])

    def _write_document(self, rows: _Spool) -> None:
        if self._is_results:
            rows.copy_to(self._out)
            return
        sections = self._sections
        if not self._is_coco:
            keys = ("info", LICENCES, IMAGES, ANNOTATIONS, CATEGORIES)
            sections = {**dict.fromkeys(keys), "info": "{}", LICENCES: self._maker.licences()}
            if rows is self._captions:
                del sections[CATEGORIES]  # pycocotools asks every record for its class else
        elif rows is self._annotations and self._maker.classes.are_new:
            sections = {**sections, CATEGORIES: None}
        spools = {IMAGES: self._images, ANNOTATIONS: rows}
        for number, (key, text) in enumerate(sections.items()):
            self._out.write(b"{" if number == 0 else b",\n")
            self._out.write(msgspec.json.encode(key) + b": ")
            if key in spools:
                spools[key].copy_to(self._out)
            else:
                self._out.write((self._maker.classes.section() if text is None else text).encode())
        self._out.write(b"}")


def _temporary() -> IO[bytes]:
    return tempfile.TemporaryFile()


def _place_of(rows: pa.Table, images: pa.Table) -> pa.Array:
    """Place of the image of each row."""
    return _combined(pc.index_in(rows["image_key"], _combined(images["image_key"])))


def _combined(column: pa.ChunkedArray | pa.Array) -> pa.Array:
    return column.combine_chunks() if isinstance(column, pa.ChunkedArray) else column
