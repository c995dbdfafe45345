"""Label Studio's tasks in JSON: predictions to import there, and its export to read back."""

from collections.abc import Iterator
from typing import ClassVar

import pyarrow as pa

from engine.formats.failed_images import FailedImages
from engine.formats.image_records import broken_record, image_batches
from engine.formats.json_decode import Flaw, RecordDecoder, outline
from engine.formats.json_file import JsonFile
from engine.formats.label_studio_rows import Task, TaskReader
from engine.formats.label_studio_write import write_label_studio
from engine.formats.seen_ids import SeenIds
from engine.formats.shapes import Header, LabelSet, Part, Place, ReadOptions
from engine.schema import claims, image_rows

_NAME = "label_studio"
_ANSWERS = {"annotations", "predictions", "completions"}


class LabelStudio:
    """An array of tasks, one per image, as Label Studio imports and exports it (not `JSON-MIN`).

    Rectangles and polygons are regions: of role `category` by their label, or of the text written
    into them. Texts that belong to no region are captions. Rows of `annotations` are `human`.
    Choices, brushes, relations and everything else stay in the task and are written back.
    """

    name: ClassVar[str] = _NAME
    is_folder: ClassVar[bool] = False

    def recognises(self, place: Place, head: bytes) -> bool:
        """Whether the first bytes are of such a file; see `Format`."""
        keys = outline(head)
        return "[]" in keys and "data" in keys[""] and bool(keys[""] & _ANSWERS)

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """Labels in parts, in one pass; see `Format`."""
        return LabelSet(Header(_NAME), _read_parts(place, options))

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Writes one file; see `Format` and `engine.formats.label_studio_write`."""
        return write_label_studio(place, labels)


def _read_parts(place: Place, options: ReadOptions) -> Iterator[Part]:
    file, seen = JsonFile(place), SeenIds()
    decoder = RecordDecoder(Task)
    try:
        for texts, offsets in image_batches(file, options.part_size, "an array of tasks"):
            found = decoder.each(texts)
            for task, offset in zip(found, offsets, strict=True):
                if isinstance(task, Flaw) and task.cause == "not_json":
                    raise broken_record(file, offset, task.message)
            yield _part(file.name, found, texts, seen, options.limits.max_label_bytes)
    finally:
        file.close()


def _part(
    where: str, tasks: list[Task | Flaw], texts: pa.StringArray, seen: SeenIds, limit: int
) -> Part:
    failed = FailedImages()
    images, rows = [], []
    for place, (task, text) in enumerate(zip(tasks, texts.to_pylist(), strict=True)):
        image = {"image_key": str(place), "uri": "", "status": "ok", "extra": text}
        if isinstance(task, Flaw):
            failed.add(place, task.cause, f"{where}: {task.message}")
        elif len(text) > limit:
            message = f"{len(text)} characters, limits.max_label_bytes is {limit}"
            failed.add(place, "too_many_labels", message)
            image |= task.image()
        else:
            reader = TaskReader(task, text)
            rows += [{"image_key": str(place), **row} for row in reader.rows]
            image |= {**task.image(), **reader.size, "extra": reader.skeleton}
            for cause, message in reader.flaws:
                failed.add(place, cause, f"{where}: task {task.id}: {message}")
        images.append(image)
    for place in seen.repeated([None if isinstance(t, Flaw) else t.id for t in tasks]):
        failed.add(place, "duplicate_id", f"the task id {images[place]['source_id']} stands twice")
    for place, image in enumerate(images):
        image["failures"] = failed.of(place)
    columns = ("kind", "role", "text", "box", "polygon", "score", "human", "source_id", "extra")
    return Part(
        image_rows(**{name: [i.get(name) for i in images] for name in _IMAGE_COLUMNS}),
        claims(**{name: [row.get(name) for row in rows] for name in ("image_key", *columns)}),
    )


_IMAGE_COLUMNS = (
    "image_key",
    "uri",
    "width",
    "height",
    "status",
    "failures",
    "source_id",
    "extra",
)
