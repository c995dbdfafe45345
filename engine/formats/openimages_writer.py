"""Writes boxes and labels as Open Images has them."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from engine.formats.lines import LineSpool, LineStyle
from engine.formats.openimages_records import BOX_COLUMNS, Columns, join_cells, record_of
from engine.formats.parts import Labelled, Losses, Repeats, labelled_images, own_record
from engine.formats.shapes import LabelSet, Place
from engine.source.images import EXTENSIONS

IMAGES_SUFFIX = "-images.csv"
CLASSES_SUFFIX = "-class-descriptions.csv"
_NAMED = ("category", "phrase", "brief")  # roles whose text can stand for a class


def write_lines(place: Place, labels: LabelSet, *, is_own: bool) -> list[str]:
    """Lines that came from the format as they stood, others made from the columns.

    Labels of another format also get a list of their images (an image without boxes has no line)
    and one of their classes, named after the file.
    """
    content = labels.header.content if is_own else {}
    header = str(content.get("header") or ",".join(BOX_COLUMNS))
    columns = Columns.of(header)
    assert columns is not None, header
    style = LineStyle.from_content(content)
    with LineSpool() as lines, LineSpool() as images, LineSpool() as described:
        writer = _Writer(columns, is_own, dict(content.get("classes") or {}), lines, images)
        for labelled in labelled_images(labels, is_own=is_own):
            writer.add(labelled)
        lines.save(place, style, header)
        if not is_own:
            stem = place.path.removesuffix(".csv")
            listed = Place(place.location, stem + IMAGES_SUFFIX)
            images.save(listed, style, "ImageID,FileName,Width,Height,License")
            for name in writer.names:
                described.add(join_cells([name, name]))
            names = Place(place.location, stem + CLASSES_SUFFIX)
            described.save(names, style, "LabelName,DisplayName")
    return writer.losses.sentences()


@dataclass
class _Writer:
    columns: Columns
    is_own: bool
    classes: Mapping[str, str]  # display name by LabelName
    lines: LineSpool
    images: LineSpool
    names: dict[str, None] = field(default_factory=dict)  # of the classes made here
    losses: Losses = field(default_factory=Losses)
    repeats: Repeats = field(default_factory=Repeats)
    label_names: dict[str, str] = field(init=False)

    def __post_init__(self) -> None:
        self.label_names = {shown: name for name, shown in self.classes.items()}

    def add(self, labelled: Labelled) -> None:
        image, rows = labelled
        for number, text in own_record(image, self.is_own) or ():
            self.lines.add(text, number)
        image_id = image["source_id"] if self.is_own else None
        if image_id is None:
            image_id = self._image_id(image["uri"])
        if not self.is_own:
            cells = [image[name] for name in ("uri", "width", "height", "licence")]
            told = ["" if cell is None else str(cell) for cell in cells]
            self.images.add(join_cells([image_id, *told]))
        for row in rows:
            record = own_record(row, self.is_own)
            if record is not None:
                self.lines.add(record[1], record[0])
            elif line := self._made(row, image, image_id):
                self.lines.add(line)

    def _image_id(self, uri: str) -> str:
        """The name without its extension, where that is another image's already the whole name."""
        stem, dot, ending = uri.rpartition(".")
        plain = stem if dot and ending.lower() in EXTENSIONS else uri
        return plain if self.repeats.count([plain]) == [0] else uri

    def _made(self, row: Mapping[str, Any], image: Mapping[str, Any], image_id: str) -> str | None:
        if lost := self._lost(row, image):
            self.losses.note(lost)
            return None
        record = record_of(row, image_id, (image["width"], image["height"]))
        record["LabelName"] = self.label_names.get(row["text"], row["text"])
        self.names.setdefault(row["text"])
        if row["polygon"] is not None:
            self.losses.note("outlines: a line has a box alone")
        if row["text_score"] is not None:
            self.losses.note("scores of texts: a line has one Confidence, the box's")
        renamed = dict(zip(self.columns.corners, BOX_COLUMNS[4:8], strict=True))
        cells = [record.get(renamed.get(name, name), "") for name in self.columns.names]
        return join_cells(cells, self.columns.delimiter)

    def _lost(self, row: Mapping[str, Any], image: Mapping[str, Any]) -> str | None:
        if not self.columns.corners:
            return "new rows: a file of labels of whole images takes none"
        if row["kind"] != "region":
            return f"rows of kind {row['kind']}: only boxes of classes have a place"
        if row["role"] not in _NAMED or not row["text"]:
            return f"regions of role {row['role']}: a box needs a class"
        if row["box"] is None:
            return "regions without a box"
        if not image["width"] or not image["height"]:
            return "boxes on images of unknown size: corners are fractions of it"
        return None
