"""Open Images: boxes, or labels of whole images, one a line of a CSV file."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from engine.errors import LabelsError
from engine.failures import Failure, fail
from engine.formats.grouped_lines import LineGroups
from engine.formats.header_sizes import HeaderSizes
from engine.formats.image_info import ImageInfo, ImageList, read_image_list, read_sizes
from engine.formats.lines import Line, LineStyle, read_head, read_lines, text_of
from engine.formats.openimages_records import (
    Columns,
    is_absent,
    row_of,
    split_cells,
)
from engine.formats.openimages_writer import IMAGES_SUFFIX, write_lines
from engine.formats.parts import PartBuilder, dump
from engine.formats.shapes import Header, LabelSet, Part, Place, ReadOptions
from engine.source.labels import LabelError

_ENDINGS = (".jpg", ".png", ".jpeg")
_ABSENT = (
    "labels of whole images with Confidence 0 say that a class is absent: they are no rows, "
    "and are written back as they stand"
)


class OpenImages:
    """Boxes (V4 to V7), boxes of masks, or image-level labels, with or without names of classes.

    Names of classes stand in a `*class-descriptions*.csv` beside the file. Corners are fractions:
    sizes come from a list of images with Width and Height (`options.annotations`, or one named
    after the file as `write` leaves it), from Datumaro's `images.meta`, or from the pictures. A
    given list also says which images there are.

    Decimals may stand behind a point or a comma, cells behind a comma, semicolon or tab. Boxes of
    groups are `ignore`. `Source` tells people from models.
    """

    name: ClassVar[str] = "openimages"
    is_folder: ClassVar[bool] = False

    def recognises(self, place: Place, head: bytes) -> bool:
        """A header line with ImageID and LabelName; see `engine.formats.shapes.Format`."""
        first = head.partition(b"\n")[0].decode("utf-8-sig", "replace").rstrip("\r")
        return bool(place.path) and Columns.of(first) is not None

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels; see `engine.formats.shapes.Format`."""
        head = read_head(place)
        style = LineStyle.of(head)
        most = options.limits.max_label_bytes
        first = next(read_lines(place, max_bytes=most), None)
        header = text_of(first, place) if first else ""
        columns = Columns.of(header)
        if columns is None:
            raise LabelsError(
                f"{place} line 1: no header with ImageID and LabelName, as Open Images' files of "
                "boxes and labels have; give one of those (relations between things are not read)"
            )
        classes = _read_classes(place, most)
        images = _Images.of(place, options, needs_sizes=bool(columns.corners))
        content = {
            "header": header,
            "newline": style.newline,
            "bom": style.bom,
            "classes": classes,
        }
        names = list(dict.fromkeys(classes.values()))
        notes = images.notes() + ([] if columns.corners else [_ABSENT])
        reader = _Reader(place, columns, classes, images, options)
        return LabelSet(Header(self.name, names, content, notes), reader.parts())

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """One file, and for labels of another format the lists it needs; see the protocol."""
        return write_lines(place, labels, is_own=labels.header.kind == self.name)


@dataclass(frozen=True)
class _Images:
    """What is known of the images beside the labels."""

    listed: ImageList | None  # the images there are
    sizes: ImageList | None
    pictures: HeaderSizes | None

    @classmethod
    def of(cls, place: Place, options: ReadOptions, *, needs_sizes: bool) -> "_Images":
        folder, stem = _split(place)
        beside = place.location.names(folder)
        own = f"{stem}{IMAGES_SUFFIX}"
        listed = None
        if options.annotations is not None:
            listed = read_image_list(options.annotations)
        elif own in beside:
            listed = read_image_list(Place(place.location, f"{folder}{own}"))
        sizes = None
        if "images.meta" in beside:
            meta = Place(place.location, f"{folder}images.meta")
            sizes = read_sizes(meta, options.limits.max_label_bytes)
        pictures = None
        if options.images is not None:
            pictures = HeaderSizes(options.images, _ENDINGS, options.limits.max_bytes)
        has_sizes = pictures or sizes or (listed is not None and listed.has_sizes)
        if needs_sizes and not has_sizes:
            raise LabelsError(
                f"{place}: corners are fractions of images whose sizes are not known; set "
                "source.images to the folder of the pictures, or source.annotations to a CSV with "
                "ImageID, Width and Height"
            )
        return cls(listed, sizes, pictures)

    def notes(self) -> list[str]:
        """What to say of the list."""
        count = self.listed.bad_lines if self.listed is not None else 0
        return [f"{count} lines of the list of images have too few or many cells"] if count else []

    def info(self, image_id: str) -> ImageInfo | None:
        """What is said of an image; null where there is a list and it is not in it."""
        info = ImageInfo() if self.listed is None else self.listed.look_up(image_id)
        size = self.sizes.look_up(image_id) if self.sizes is not None else None
        if size is not None and info is not None and info.size_wh is None:
            return info._replace(size_wh=size.size_wh)
        return info

    def path(self, image_id: str, info: ImageInfo) -> str:
        """The name of the picture."""
        found = self.pictures.find(info.file_name or image_id) if self.pictures else None
        return found or info.file_name or f"{image_id}.jpg"  # as all of Open Images are called

    def size(self, path: str, info: ImageInfo) -> tuple[int, int]:
        """Width and height.

        Raises:
            LabelError: Nothing tells them.
        """
        if info.size_wh is not None:
            return info.size_wh
        if self.pictures is None:
            raise LabelError("bad_labels", "nothing tells the size of this image")
        return self.pictures.size(path)


@dataclass(frozen=True)
class _Reader:
    place: Place
    columns: Columns
    classes: Mapping[str, str]
    images: _Images
    options: ReadOptions

    def parts(self) -> Iterator[Part]:
        builder = PartBuilder()
        groups = LineGroups(
            self.place, self.columns.image_id, self.options.limits.max_label_bytes, skip=1
        )
        for lines in groups:
            self._add(lines, builder)
            if len(builder) == self.options.part_size:
                yield builder.take()
        for image_id, info in self.images.listed.unseen() if self.images.listed else ():
            builder.add(self._image(image_id, info), [])
            if len(builder) == self.options.part_size:
                yield builder.take()
        if len(builder):
            yield builder.take()

    def _image(self, image_id: str, info: ImageInfo) -> dict[str, Any]:
        path = self.images.path(image_id, info)
        image: dict[str, Any] = {"uri": path, "source_id": image_id, "licence": info.licence}
        if info.size_wh is not None:
            image["width"], image["height"] = info.size_wh
        return image

    def _add(self, lines: list[Line], builder: PartBuilder) -> None:
        key = self.columns.image_id(lines[0])
        texts = [text_of(line, self.place) for line in lines]
        if not key:
            untaken = dump([[line.number, text] for line, text in zip(lines, texts, strict=True)])
            nameless = {"uri": f"{self.place.path}:{lines[0].number}", "extra": untaken}
            failure = fail("labels", "bad_labels", f"line {lines[0].number}: names no image")
            builder.add(nameless, [], [failure], "failed")
            return
        image_id = key.decode()
        info = self.images.info(image_id)
        image = self._image(image_id, info or ImageInfo())
        failures, rows, untaken_lines = [], [], []
        if info is None:
            found = f"line {lines[0].number}: image {image_id!r} is not in the list of images"
            failures.append(fail("labels", "unknown_image", found))
        size = self._size(image, info or ImageInfo(), failures)
        for line, text in zip(lines, texts, strict=True):
            record = [line.number, text]
            try:
                row = self._row(text, size)
            except LabelError as err:
                failures.append(fail("labels", err.cause, f"line {line.number}: {err}"))
                row = None
            if row is None:
                untaken_lines.append(record)
            else:
                rows.append({**row, "extra": dump(record)})
        image["extra"] = dump(untaken_lines) if untaken_lines else None
        builder.add(image, rows, failures, "ok" if info is not None else "failed")

    def _size(
        self, image: dict[str, Any], info: ImageInfo, failures: list[Failure]
    ) -> tuple[int, int] | None:
        if not self.columns.corners:
            return None
        try:
            image["width"], image["height"] = size = self.images.size(image["uri"], info)
        except LabelError as err:
            failures.append(fail("labels", err.cause, err))
            return None
        return size

    def _row(self, text: str, size: tuple[int, int] | None) -> dict[str, Any] | None:
        """The row of a line; null where it makes no claim, or none that has a place."""
        record = self.columns.record(text)
        if is_absent(record, self.columns) or (self.columns.corners and size is None):
            return None
        return row_of(record, self.columns, self.classes, size)


def _split(place: Place) -> tuple[str, str]:
    """The folder of a file with its slash, "" for none, and its name without the extension."""
    folder, slash, base = place.path.rpartition("/")
    return folder + slash, base.rpartition(".")[0] or base


def _read_classes(place: Place, max_bytes: int) -> dict[str, str]:
    """Display name by LabelName, from the file beside that is named most like this one."""
    folder, stem = _split(place)
    found = [
        name
        for name in place.location.names(folder)
        if "class-descriptions" in name.lower() and name.lower().endswith(".csv")
    ]
    if not found:
        return {}
    best = next((name for name in found if name.startswith(f"{stem}-")), found[0])
    described = Place(place.location, folder + best)
    classes: dict[str, str] = {}
    for line in read_lines(described, max_bytes=max_bytes):
        cells = split_cells(text_of(line, described), ",")
        if cells is None or len(cells) < 2:  # noqa: PLR2004 (a name and what it means)
            raise LabelsError(f"{described} line {line.number}: wanted a label and its name")
        if line.number > 1 or cells[1].lower() not in {"displayname", "name"}:
            classes[cells[0].strip()] = cells[1].strip()
    return classes
