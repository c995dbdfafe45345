"""Where every record of a COCO file lies and which image it belongs to: the first of two passes.

COCO's annotations are not grouped by image, so they are found first, 28 bytes each, and decoded
part by part afterwards.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
import numpy as np
import numpy.typing as npt

from engine.formats.json_decode import NO_ID, Codes, Flaw, Ids, RecordDecoder
from engine.formats.json_file import JsonFile
from engine.formats.json_records import Value, Window, read_records, refusal

ANNOTATIONS, IMAGES = "annotations", "images"
CATEGORIES, LICENCES = "categories", "licenses"
_UNREADABLE = NO_ID + 1  # the image of a record that names none


class _AnnotationIds(msgspec.Struct, gc=False):
    image_id: int | float | str
    id: int | float | str | None = NO_ID


class _ImageIds(msgspec.Struct, gc=False):
    id: int | float | str | None = NO_ID


class Records(NamedTuple):
    """Records of one array, one entry each, in the order of the file.

    `starts` (bytes) and `lengths` say where they lie, `ids` and `images` are codes of `Ids`;
    `images` is empty for records that are images.
    """

    starts: npt.NDArray[np.int64]
    lengths: npt.NDArray[np.int32]
    ids: Codes
    images: Codes


class Index(NamedTuple):
    """A COCO file at a glance.

    Attributes:
        images: The image records.
        annotations: Annotations or results.
        ids: What the codes of both mean.
        sections: Keys of the top object in their order, with the verbatim JSON of what is neither
            images nor annotations; empty for a list of results.
        is_list: The file is a list of results.
        stray: What was said of no image at all: one sentence each.
        has_captions: The first record is a caption, which needs no class.
    """

    images: Records
    annotations: Records
    ids: Ids
    sections: dict[str, str | None]
    is_list: bool
    stray: list[str]
    has_captions: bool


def index(file: JsonFile, *, images_only: bool = False, ids: Ids | None = None) -> Index:
    """Reads the whole file once.

    Args:
        file: At its start.
        images_only: Leave the annotations out: the file is asked for its images and classes.
        ids: Codes of another file that are to mean the same here.

    Raises:
        LabelsError: Broken JSON, with file, line and byte, or panoptic labels.
    """
    return _Indexer(file, images_only, ids or Ids()).index()


class _Indexer:
    def __init__(self, file: JsonFile, images_only: bool, ids: Ids) -> None:
        self._file = file
        self._images_only = images_only
        self._ids = ids
        self._found: dict[str, list[Records]] = {IMAGES: [], ANNOTATIONS: []}
        self._sections: dict[str, str | None] = {}
        self._strays: list[int] = []
        self._has_captions = False

    def index(self) -> Index:
        is_list = False
        for piece in read_records(self._file, (IMAGES, ANNOTATIONS)):
            if isinstance(piece, Value):
                self._sections[piece.key] = piece.text
                continue
            is_list = is_list or piece.key == ""
            if piece.key:
                self._sections[piece.key] = None
            self._take(piece)
        return Index(
            _concatenated(self._found[IMAGES]),
            _concatenated(self._found[ANNOTATIONS]),
            self._ids,
            self._sections,
            is_list,
            list(self._stray_notes()),
            self._has_captions,
        )

    def _take(self, window: Window) -> None:
        if window.key == IMAGES:
            ids, images = self._image_ids(window), np.empty(0, np.int64)
        elif self._images_only or len(window.starts) == 0:
            return
        else:
            if not self._found[ANNOTATIONS]:
                self._look_at_first(window)
            ids, images = self._annotation_ids(window)
        lengths = (window.ends - window.starts).astype(np.int32)
        records = Records(window.starts + window.offset, lengths, ids, images)
        self._found[window.key or ANNOTATIONS].append(records)

    def _image_ids(self, window: Window) -> Codes:
        found = self._decoded(window, RecordDecoder(_ImageIds))
        return self._ids.encode([None if isinstance(each, Flaw) else each.id for each in found])

    def _annotation_ids(self, window: Window) -> tuple[Codes, Codes]:
        found = self._decoded(window, RecordDecoder(_AnnotationIds))
        if not any(isinstance(each, Flaw) for each in found):
            sound: list[Any] = found
            images = self._ids.encode([each.image_id for each in sound])
            return self._ids.encode([each.id for each in sound]), images
        flawed = np.array([isinstance(each, Flaw) for each in found])
        self._strays += (window.starts[flawed] + window.offset).tolist()
        sound = [None if isinstance(each, Flaw) else each for each in found]
        images = self._ids.encode([each and each.image_id for each in sound])
        images[flawed] = _UNREADABLE
        return self._ids.encode([each and each.id for each in sound]), images

    def _decoded(self, window: Window, decoder: RecordDecoder[Any]) -> list[Any]:
        found = decoder.array(b"[" + window.data + b"]")
        if found is not None and len(found) == len(window.starts):
            return found
        return list(self._one_by_one(window, decoder))

    def _one_by_one(self, window: Window, decoder: RecordDecoder[Any]) -> Iterator[Any]:
        for start, end in zip(window.starts.tolist(), window.ends.tolist(), strict=True):
            found = decoder.one(window.data[start:end])
            if isinstance(found, Flaw) and found.cause == "not_json":
                raise refusal(
                    self._file, window.offset + start, f"a record that is no JSON: {found.message}"
                )
            yield found

    def _look_at_first(self, window: Window) -> None:
        first = window.data[window.starts[0] : window.ends[0]]
        self._has_captions = b'"caption"' in first
        if b'"segments_info"' in first:
            raise refusal(
                self._file,
                window.offset,
                "panoptic labels, whose masks are in PNG files beside; "
                "give instances (panopticapi's converter writes them)",
            )

    def _stray_notes(self) -> Iterator[str]:
        if self._strays:
            yield (
                f"{len(self._strays)} records name no image (`image_id`) and are left out, "
                f"the first at byte {self._strays[0] + 1}"
            )


def _concatenated(found: list[Records]) -> Records:
    empty = np.empty(0, np.int64)
    if not found:
        return Records(empty, empty.astype(np.int32), empty, empty)
    columns = [np.concatenate(column) for column in zip(*found, strict=True)]
    records = Records(*columns)
    if len(records.images) == 0:
        return records
    named = records.images != _UNREADABLE
    return records if named.all() else Records(*(column[named] for column in records))
