"""Images of a COCO set with their annotations, part by part."""

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.failures import Failure, fail
from engine.formats.coco_index import Index, Records
from engine.formats.coco_rows import Found, Picture, RowMaker
from engine.formats.failed_images import FailedImages
from engine.formats.image_records import known_side
from engine.formats.json_decode import NO_ID, Flaw, RecordDecoder, repeats
from engine.formats.json_file import JsonFile
from engine.formats.shapes import Part, ReadOptions
from engine.schema import image_rows

_PART_BYTES = 64 << 20  # of annotations in a part: a few such are in memory at a time


class Listed(NamedTuple):
    """Image records and the file they stand in; a list of results has those of another file."""

    file: JsonFile | None
    images: Records
    is_list: bool  # there is a list of images, so that an image can be missing from it


class _Order(NamedTuple):
    """Annotations by image.

    Attributes:
        annotations: Numbers of the annotations, grouped by image, in the order of the file.
        borders: Where the annotations of image i begin in it, shape (images + 1,).
        codes: Code of the id of each image, listed ones first, then those only mentioned.
        num_listed: How many are listed.
    """

    annotations: npt.NDArray[np.int64]
    borders: npt.NDArray[np.int64]
    codes: npt.NDArray[np.int64]
    num_listed: int


class Parts:
    """The parts of a set; read once."""

    def __init__(
        self,
        file: JsonFile,
        index: Index,
        listed: Listed,
        maker: RowMaker,
        licences: Mapping[Any, str],
        options: ReadOptions,
    ) -> None:
        self._file, self._index, self._listed = file, index, listed
        self._maker, self._licences, self._options = maker, licences, options
        self._pictures = RecordDecoder(Picture)
        self._repeated = np.flatnonzero(repeats(index.annotations.ids))
        self._repeated_images = repeats(listed.images.ids)

    def read(self) -> Iterator[Part]:
        """All of them: listed images in their order, then those that are only mentioned."""
        try:
            order = self._ordered()
            sizes = self._sizes(order)
            for first, last in _cuts(sizes, self._options.part_size):
                yield self._part(order, sizes, first, last)
        finally:
            self._file.close()
            if self._listed.file is not None:
                self._listed.file.close()

    def _ordered(self) -> _Order:
        listed, mentioned = self._listed.images.ids, self._index.annotations.images
        known, firsts = np.unique(listed, return_index=True)  # the first of two of one id
        known, firsts = known[known != NO_ID], firsts[known != NO_ID]
        if len(known):
            nearest = np.minimum(np.searchsorted(known, mentioned), len(known) - 1)
            is_known = known[nearest] == mentioned
            images = np.where(is_known, firsts[nearest], -1)
        else:
            is_known, images = np.zeros(len(mentioned), bool), np.full(len(mentioned), -1)
        others, other_firsts, other_of = np.unique(
            mentioned[~is_known], return_index=True, return_inverse=True
        )
        rank = np.argsort(np.argsort(other_firsts))
        images[~is_known] = len(listed) + rank[other_of]
        codes = np.concatenate([listed, others[np.argsort(other_firsts)]])
        annotations = np.argsort(images, kind="stable")
        borders = np.searchsorted(images[annotations], np.arange(len(codes) + 1))
        return _Order(annotations, borders, codes, len(listed))

    def _sizes(self, order: _Order) -> npt.NDArray[np.int64]:
        """Bytes of the annotations of each image."""
        lengths = self._index.annotations.lengths[order.annotations]
        sums = np.concatenate([[0], np.cumsum(lengths, dtype=np.int64)])
        sizes: npt.NDArray[np.int64] = np.diff(sums[order.borders])
        return sizes

    def _part(self, order: _Order, sizes: npt.NDArray[np.int64], first: int, last: int) -> Part:
        failed = FailedImages()
        chosen = order.annotations[order.borders[first] : order.borders[last]]
        counts = np.diff(order.borders[first : last + 1])
        images = np.repeat(np.arange(last - first), counts)
        limit = self._options.limits.max_label_bytes
        for image in np.flatnonzero(sizes[first:last] > limit).tolist():
            failed.add(
                image,
                "too_many_labels",
                f"{sizes[first + image]} bytes of annotations, limits.max_label_bytes is {limit}",
            )
            chosen, images = chosen[images != image], images[images != image]
        self._tell_repeated(chosen, images, failed)
        found = self._index.annotations
        texts = self._file.pieces(found.starts[chosen], found.lengths[chosen])
        rows = self._maker.rows(Found(texts, images, found.starts[chosen]), failed)
        return Part(self._images(order, first, last, failed), rows)

    def _tell_repeated(
        self,
        chosen: npt.NDArray[np.int64],
        images: npt.NDArray[np.int64],
        failed: FailedImages,
    ) -> None:
        if len(self._repeated) == 0:
            return
        for place in np.flatnonzero(np.isin(chosen, self._repeated)).tolist():
            number = self._index.ids.decode(int(self._index.annotations.ids[chosen[place]]))
            failed.add(
                int(images[place]), "duplicate_id", f"the annotation id {number} stands twice"
            )

    def _images(self, order: _Order, first: int, last: int, failed: FailedImages) -> pa.Table:
        num_listed = max(min(last, order.num_listed) - first, 0)
        pictures, extra = self._decoded(first, num_listed, failed)
        ids = [self._index.ids.decode(int(code)) for code in order.codes[first:last]]
        missing = [self._missing(number) for number in ids[num_listed:]]
        uris = [
            (None if each is None else each.uri()) or ("" if number is None else str(number))
            for each, number in zip([*pictures, *[None] * len(missing)], ids, strict=True)
        ]
        sides = [
            (None, None) if each is None else (known_side(each.width), known_side(each.height))
            for each in pictures
        ]
        sides += [(None, None)] * len(missing)
        failures = [failed.of(image) or [] for image in range(last - first)]
        for image, failure in enumerate(missing, num_listed):
            failures[image] += failure
        return image_rows(
            image_key=[str(image) for image in range(last - first)],
            uri=uris,
            width=[width for width, _ in sides],
            height=[height for _, height in sides],
            licence=[each and self._licence(each) for each in pictures] + [None] * len(missing),
            status=["ok"] * num_listed + ["failed" if failure else "ok" for failure in missing],
            failures=[each or None for each in failures],
            source_id=[None if number is None else str(number) for number in ids],
            extra=pa.concat_arrays([extra, pa.nulls(len(missing), pa.string())]),
        )

    def _decoded(
        self, first: int, count: int, failed: FailedImages
    ) -> tuple[list[Picture | None], pa.StringArray]:
        """The records of listed images, null for one that cannot be taken, and their JSON."""
        if self._listed.file is None or count == 0:
            return [], pa.array([], pa.string())
        span = slice(first, first + count)
        images = self._listed.images
        texts = self._listed.file.pieces(images.starts[span], images.lengths[span])
        pictures: list[Picture | None] = []
        for image, found in enumerate(self._pictures.each(texts)):
            name = f"{self._listed.file.name}: the image at byte {images.starts[first + image] + 1}"
            if isinstance(found, Flaw):
                failed.add(image, found.cause, f"{name}: {found.message}")
                pictures.append(None)
                continue
            if found.uri() is None:
                failed.add(image, "bad_labels", f"{name} has no file_name; it is named by its id")
            if self._repeated_images[first + image]:
                failed.add(image, "duplicate_id", f"{name} has an id that an earlier one has")
            if images.ids[first + image] == NO_ID:
                failed.add(image, "bad_labels", f"{name} has no id")
            pictures.append(found)
        return pictures, texts

    def _missing(self, number: Any) -> list[Failure]:
        if not self._listed.is_list:
            return []
        return [fail("labels", "unknown_image", f"image_id {number} is not in `images`")]

    def _licence(self, picture: Picture) -> str | None:
        known = isinstance(picture.license, (int, float, str))
        return self._licences.get(picture.license) if known else None


def _cuts(sizes: npt.NDArray[np.int64], part_size: int) -> Iterator[tuple[int, int]]:
    """First and last (exclusive) image of each part."""
    sums = np.concatenate([[0], np.cumsum(sizes)])
    first = 0
    while first < len(sizes):
        full = int(np.searchsorted(sums, sums[first] + _PART_BYTES, side="right")) - 1
        last = min(max(full, first + 1), first + part_size, len(sizes))
        yield first, last
        first = last
