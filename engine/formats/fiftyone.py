"""FiftyOne datasets on disk: a JSON of samples with detections, polylines and classifications."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

from engine.errors import LabelsError
from engine.failures import Failure, fail
from engine.formats.fiftyone_labels import labels_in, outlines_in, row_of, sample_of, without_labels
from engine.formats.header_sizes import HeaderSizes
from engine.formats.json_array import read_array
from engine.formats.lines import LocalCopy
from engine.formats.parts import Losses, PartBuilder, dump, labelled_images, own_record
from engine.formats.shapes import Header, LabelSet, Part, Place, ReadOptions
from engine.source.labels import LabelError
from engine.source.shapes import ReadError

_METADATA, _SAMPLES = "metadata.json", "samples.json"


class FiftyOne:
    """A folder with `metadata.json` and `samples.json`, as `fiftyone.types.FiftyOneDataset`.

    Any field of detections, polylines or classifications is read, whatever its name; boxes are
    fractions, so samples without `metadata` need their pictures. Written back, samples lose the
    labels that were rejected and keep all else.

    From rows of other formats come the fields `detections`, `polylines` (outlines of those
    detections), `grounding` and `captions`; who said it, its role and ids are attributes of each
    label. `filepath` is the name of the picture in its source: load with `rel_dir` set to that.
    """

    name: ClassVar[str] = "fiftyone"
    is_folder: ClassVar[bool] = True

    def recognises(self, place: Place, head: bytes) -> bool:
        """A folder with both files; see `engine.formats.shapes.Format`."""
        return not place.path and {_METADATA, _SAMPLES} <= set(place.location.names())

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels; see `engine.formats.shapes.Format`."""
        if _SAMPLES not in place.location.names():
            raise LabelsError(f"{place}: holds no {_SAMPLES}; give a folder that FiftyOne exported")
        content = {"metadata": _read_metadata(place, options.limits.max_label_bytes)}
        return LabelSet(Header(self.name, content=content), _read(place, options))

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Both files; see `engine.formats.shapes.Format`."""
        is_own = labels.header.kind == self.name
        losses = Losses()
        with LocalCopy() as copy:
            copy.file.write(b'{"samples": [')
            separator = b"\n"
            for image, rows in labelled_images(labels, is_own=is_own):
                told = own_record(image, is_own)
                if told is None:
                    text = json.dumps(sample_of(image, rows, losses), ensure_ascii=False)
                else:
                    text = _thinned(told["sample"], rows, losses)
                copy.file.write(separator + text.encode())
                separator = b",\n"
            copy.file.write(b"\n]}\n")
            copy.send(Place(place.location, _SAMPLES))
        metadata = labels.header.content.get("metadata") if is_own else None
        if metadata is None:
            metadata = json.dumps({"name": "fld", "media_type": "image", "info": {}}) + "\n"
        place.location.write(_METADATA, str(metadata).encode())
        return losses.sentences()


def _read_metadata(place: Place, max_bytes: int) -> str | None:
    if _METADATA not in place.location.names():
        return None
    try:
        data: bytes = place.location.read(_METADATA, max_bytes=max_bytes).data.to_pybytes()
        return data.decode()
    except (ReadError, UnicodeDecodeError) as err:
        raise LabelsError(f"{place}/{_METADATA}: cannot be read: {err}") from err


def _read(place: Place, options: ReadOptions) -> Iterator[Part]:
    builder = PartBuilder()
    sizes = None
    if options.images is not None:
        sizes = HeaderSizes(options.images, (), options.limits.max_bytes)
    samples = Place(place.location, _SAMPLES)
    for number, text, sample in read_array(samples, "samples", options.limits.max_label_bytes):
        name = sample.get("filepath") if isinstance(sample, dict) else None
        if not isinstance(name, str) or not name or not _is_text(name):
            failure = fail("labels", "bad_labels", f"sample {number}: has no filepath")
            image = {"uri": f"{_SAMPLES}:{number}", "extra": dump({"sample": text})}
            builder.add(image, [], [failure], "failed")
        else:
            _add(number, text, sample, builder, samples, sizes)
        if len(builder) == options.part_size:
            yield builder.take()
    if len(builder):
        yield builder.take()


def _is_text(value: str) -> bool:
    """Whether a text of JSON is one: half a surrogate pair is none, and no table can hold it."""
    return not any("\ud800" <= char <= "\udfff" for char in value)


def _add(
    number: int,
    text: str,
    sample: Mapping[str, Any],
    builder: PartBuilder,
    place: Place,
    sizes: HeaderSizes | None,
) -> None:
    failures: list[Failure] = []
    found = list(labels_in(sample))
    size = None
    if any(label.get("_cls") in ("Detection", "Polyline") for _, _, label in found):
        size = _size(sample, place, number, sizes, failures)
    rows: dict[tuple[str, int], dict[str, Any]] = {}
    for field, index, label in found:
        try:
            row = row_of(label, size)
        except LabelError as err:
            failures.append(fail("labels", err.cause, f"sample {number}: {field}[{index}]: {err}"))
            continue
        if row is not None:
            rows[field, index] = {**row, "extra": dump({"field": field, "index": index})}
    for outline, owner in outlines_in(sample).items():
        if outline in rows and owner in rows:
            rows[owner]["polygon"] = rows.pop(outline)["polygon"]
    image: dict[str, Any] = {"uri": sample["filepath"], "extra": dump({"sample": text})}
    identity = sample.get("_id")
    if isinstance(identity, dict) and isinstance(identity.get("$oid"), str):
        image["source_id"] = identity["$oid"]
    if size is not None:
        image["width"], image["height"] = size
    builder.add(image, list(rows.values()), failures)


def _size(
    sample: Mapping[str, Any],
    place: Place,
    number: int,
    sizes: HeaderSizes | None,
    failures: list[Failure],
) -> tuple[int, int] | None:
    told = sample.get("metadata")
    sides = [told.get(side) if isinstance(told, dict) else None for side in ("width", "height")]
    if all(type(side) is int and 0 < side < 1 << 31 for side in sides):
        return int(sides[0] or 0), int(sides[1] or 0)
    if sizes is None:
        raise LabelsError(
            f"{place} sample {number}: boxes are fractions of an image whose size is not known "
            "(no metadata); set source.images to the folder of the pictures"
        )
    path = sizes.find(sample["filepath"])
    try:
        if path is None:
            raise LabelError("bad_labels", "its picture, which tells its size, is missing")
        return sizes.size(path)
    except LabelError as err:
        failures.append(fail("labels", err.cause, f"sample {number}: {err}"))
        return None


def _thinned(text: str, rows: Sequence[Mapping[str, Any]], losses: Losses) -> str:
    """The sample without the labels whose rows are gone; as it stood where none is."""
    kept: dict[str, set[int]] = defaultdict(set)
    for row in rows:
        record = own_record(row, is_own=True)
        if record is None:
            losses.note("new rows: only labels of the samples themselves are written back")
        else:
            kept[record["field"]].add(record["index"])
    return without_labels(text, kept)
