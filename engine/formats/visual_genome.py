"""Visual Genome's region descriptions: boxes with phrases, image by image."""

import itertools
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar
from urllib.parse import urlsplit

import msgspec
import numpy as np
import pyarrow as pa

from engine.errors import LabelsError
from engine.formats.failed_images import FailedImages
from engine.formats.image_records import (
    broken_record,
    elements,
    image_batches,
    known_side,
    members,
    with_members,
)
from engine.formats.json_decode import Flaw, RecordDecoder, outline
from engine.formats.json_file import JsonFile
from engine.formats.seen_ids import SeenIds
from engine.formats.shapes import Header, LabelSet, Part, Place, ReadOptions
from engine.formats.visual_genome_write import write_visual_genome
from engine.schema import claims, image_rows

_REGIONS = "regions"
_NAME = "visual_genome"
_SHOWN = 60  # characters of a broken record in a message


class _Image(msgspec.Struct, gc=False):
    id: int | str | None = None
    image_id: int | str | None = None

    def number(self) -> int | str | None:
        return self.image_id if self.id is None else self.id


class _Region(msgspec.Struct, gc=False):
    x: float
    y: float
    width: float
    height: float
    phrase: str
    region_id: int | str | None = None
    id: int | str | None = None

    def number(self) -> int | str | None:
        return self.id if self.region_id is None else self.region_id


class _Size(msgspec.Struct, gc=False):
    width: float | None = None
    height: float | None = None
    url: str | None = None
    image_id: int | str | None = None
    id: int | str | None = None

    def uri(self) -> str | None:
        """The last folder and the name, as the two archives of the pictures unpack."""
        return "/".join(urlsplit(self.url or "").path.split("/")[-2:]) or None


class VisualGenome:
    """`region_descriptions.json`: regions of role `phrase`.

    It tells neither sizes nor names of the pictures: `options.annotations` may be the
    `image_data.json` beside it, which does. Without it a picture is named by its number, with
    `.jpg`, as they are spread.
    """

    name: ClassVar[str] = _NAME
    is_folder: ClassVar[bool] = False

    def recognises(self, place: Place, head: bytes) -> bool:
        """Whether the first bytes are of such a file; see `Format`."""
        keys = outline(head)
        is_image = bool(keys.get("", set()) & {"id", "image_id"})
        is_region = "region_id" in keys.get(f"[{_REGIONS}]", set())
        return "[]" in keys and _REGIONS in keys[""] and (is_image or is_region)

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """Labels in parts, in one pass; see `Format`."""
        sizes, notes = {}, []
        if options.annotations is not None:
            sizes = _read_sizes(options.annotations)
        else:
            notes.append("sizes of the images are not known; give image_data.json in annotations")
        return LabelSet(Header(_NAME, notes=notes), _Parts(place, options, sizes).read())

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Writes one file; see `Format` and `engine.formats.visual_genome_write`."""
        return write_visual_genome(place, labels)


def _read_sizes(place: Place) -> dict[int | str | None, _Size]:
    """What `image_data.json` says of each image, by its number."""
    file = JsonFile(place)
    decoder = RecordDecoder(_Size)
    found: dict[int | str | None, _Size] = {}
    try:
        for texts, offsets in image_batches(file, 1 << 16, "image_data.json, an array of images"):
            for each, offset in zip(decoder.each(texts), offsets, strict=True):
                if isinstance(each, Flaw):
                    raise LabelsError(f"{file.name}: byte {offset + 1}: {each.message}")
                found[each.id if each.image_id is None else each.image_id] = each
    finally:
        file.close()
    return found


class _Parts:
    def __init__(
        self, place: Place, options: ReadOptions, sizes: Mapping[int | str | None, _Size]
    ) -> None:
        self._file = JsonFile(place)
        self._options, self._sizes = options, sizes
        self._images, self._regions = RecordDecoder(_Image), RecordDecoder(_Region)
        self._seen_images, self._seen_regions = SeenIds(), SeenIds()

    def read(self) -> Iterator[Part]:
        wanted = "region_descriptions.json, an array of images"
        try:
            for texts, offsets in image_batches(self._file, self._options.part_size, wanted):
                yield self._part(texts, offsets)
        finally:
            self._file.close()

    def _part(self, texts: pa.StringArray, offsets: list[int]) -> Part:
        failed = FailedImages()
        numbers: list[int | str | None] = []
        regions: list[list[bytes]] = []
        extra = []
        limit = self._options.limits.max_label_bytes
        found = zip(self._images.each(texts), texts.to_pylist(), offsets, strict=True)
        for place, (image, text, offset) in enumerate(found):
            if isinstance(image, Flaw) and image.cause == "not_json":
                raise broken_record(self._file, offset, image.message)
            numbers.append(None if isinstance(image, Flaw) else image.number())
            told = members(text)
            regions.append([])
            extra.append(text)
            if not told.get(_REGIONS, b"").startswith(b"["):
                failed.add(place, "bad_labels", f"image {numbers[-1]} has no list of regions")
            elif isinstance(image, Flaw) or numbers[-1] is None:
                failed.add(place, "bad_labels", "an image without a number (`id`)")
            elif len(text) > limit:
                message = f"{len(text)} characters, limits.max_label_bytes is {limit}"
                failed.add(place, "too_many_labels", message)
            else:
                regions[place] = elements(told[_REGIONS])
                extra[place] = with_members({**told, _REGIONS: b"[]"})
        rows = self._rows(regions, failed)
        return Part(self._image_rows(numbers, extra, failed), rows)

    def _rows(self, regions: list[list[bytes]], failed: FailedImages) -> pa.Table:
        texts = [raw.decode() for raw in itertools.chain.from_iterable(regions)]
        extra = pa.array(texts, pa.string())
        places = np.repeat(np.arange(len(regions)), [len(each) for each in regions])
        found = self._regions.each(extra)
        sound = np.array([not isinstance(each, Flaw) for each in found], bool)
        for row in np.flatnonzero(~sound).tolist():
            flaw = found[row]
            assert isinstance(flaw, Flaw)
            message = f"{self._file.name}: {texts[row][:_SHOWN]}: {flaw.message}"
            failed.add(int(places[row]), flaw.cause, message)
        kept = [each for each in found if not isinstance(each, Flaw)]
        places = places[sound]
        ids = [each.number() for each in kept]
        for row in self._seen_regions.repeated(ids):
            failed.add(int(places[row]), "duplicate_id", f"region_id {ids[row]} stands twice")
        return claims(
            image_key=pa.array(places).cast(pa.string()),
            kind="region",
            role="phrase",
            text=pa.array([each.phrase for each in kept], pa.string()),
            box=_boxes(kept),
            source_id=pa.array([None if each is None else str(each) for each in ids], pa.string()),
            extra=extra.filter(pa.array(sound)),
        )

    def _image_rows(
        self, numbers: list[int | str | None], extra: list[str], failed: FailedImages
    ) -> pa.Table:
        for place in self._seen_images.repeated(list(numbers)):
            failed.add(place, "duplicate_id", f"image {numbers[place]} stands twice")
        sizes = [self._sizes.get(number, _Size()) for number in numbers]
        names = ["" if number is None else f"{number}.jpg" for number in numbers]
        return image_rows(
            image_key=[str(place) for place in range(len(numbers))],
            uri=[size.uri() or name for size, name in zip(sizes, names, strict=True)],
            width=[known_side(size.width) for size in sizes],
            height=[known_side(size.height) for size in sizes],
            status="ok",
            failures=[failed.of(place) for place in range(len(numbers))],
            source_id=[None if number is None else str(number) for number in numbers],
            extra=extra,
        )


def _boxes(regions: list[_Region]) -> Any:
    boxes = np.array([(r.x, r.y, r.width, r.height) for r in regions], np.float64).reshape(-1, 4)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite boxes are claims as well
        boxes[:, 2:] += boxes[:, :2]
        return boxes.astype(np.float32)
