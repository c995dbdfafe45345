"""The labels in WebDataset shards: KEY.json, KEY.txt and KEY.cls beside the pictures of a tar."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import groupby
from typing import Any, ClassVar

from engine.errors import LabelsError
from engine.failures import Failure, fail
from engine.formats.parts import Labelled, PartBuilder, dump, labelled_images, own_record
from engine.formats.shapes import Header, LabelSet, Part, Place, ReadOptions
from engine.formats.tar_files import (
    codec_of,
    copy_range,
    new_tar,
    open_tar,
    stretches,
    write_member,
)
from engine.formats.tar_labels import Kept, check_row, thinned
from engine.source.filesystem import open_location
from engine.source.labels import LabelError, Labels
from engine.source.names import encode_name
from engine.source.shapes import Location
from engine.source.tar_index import LABELS, members, samples
from engine.source.tars import ENDINGS

_REFUSALS = {
    "unsafe_path": "a name that leads out of the archive; it is not followed",
    "special_file": "a link or device inside the archive; it is not followed",
    "broken_archive": "the archive ends or is damaged here; what follows is not known",
}
_REACH = ("endpoint", "region", "anonymous")  # of a bucket, to open it again


class WebDatasetTar:
    """A tar or a folder of tars (`.tar`, `.tgz`, `.tar.gz`, `.tar.bz2`, `.tar.zst`).

    Texts and classes are read as `engine.source.tars` does, our own nested views with all their
    rows; no picture is decoded. Written back, a shard is the one it was read from without the
    rejected texts (and without the samples whose image is not given any more): every other member
    is copied byte for byte, so the original must still be where it was. Pictures of another origin
    are not at hand here: such labels cannot be written.
    """

    name: ClassVar[str] = "webdataset"
    is_folder: ClassVar[bool] = False  # or a folder of such files

    def recognises(self, place: Place, head: bytes) -> bool:
        """A name that ends like a tar's; see `engine.formats.shapes.Format`."""
        if not place.path:
            return bool(_archives(place))
        is_tar = head[257:262] == b"ustar" or codec_of(place.path) is not None
        return place.path.lower().endswith(ENDINGS) and is_tar

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels; see `engine.formats.shapes.Format`."""
        archives = _archives(place)
        if not archives:
            raise LabelsError(f"{place}: holds no file that ends in {', '.join(ENDINGS)}")
        reach = {name: getattr(place.location, name, None) for name in _REACH}
        content = {"uri": place.location.uri, "archives": archives}
        content |= {name: value for name, value in reach.items() if value}
        header = Header(self.name, tuple(options.classes), content)
        return LabelSet(header, _read(place.location, archives, options))

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """The shards again, with what is kept; see `engine.formats.shapes.Format`."""
        if labels.header.kind != self.name:
            raise LabelsError(
                "webdataset: shards hold the pictures, which these labels do not bring; "
                "import them with their images, a dataset's own tars are WebDataset already"
            )
        content = labels.header.content
        reach = {name: content[name] for name in _REACH if name in content}
        location = open_location(content["uri"], **reach)
        archives: list[str] = list(content["archives"])
        if place.path and len(archives) > 1:
            raise LabelsError(f"{place}: {len(archives)} shards do not fit into one; give a folder")
        writer = _Writer(location, Labels(name=self.name, classes=labels.header.classes), place)
        missing = dict.fromkeys(archives)
        for archive, group in groupby(labelled_images(labels, is_own=True), _archive_of):
            if archive not in missing:
                raise LabelsError(f"{place}: images of {archive!r} do not stand together")
            del missing[archive]
            writer.write(archive, {each.image["uri"]: _kept(each) for each in group})
        for archive in missing:
            writer.write(archive, {})
        return []


def _archives(place: Place) -> list[str]:
    if place.path:
        return [place.path]
    return [name for name in place.location.names() if name.lower().endswith(ENDINGS)]


def _read(location: Location, archives: list[str], options: ReadOptions) -> Iterator[Part]:
    builder = PartBuilder()
    labels = Labels(name=WebDatasetTar.name, classes=options.classes)
    for archive in archives:
        with open_tar(Place(location, archive)) as file:
            for sample in index(file, archive):
                _add(sample, archive, file, builder, labels, options.limits.max_label_bytes)
                if len(builder) == options.part_size:
                    yield builder.take()
    if len(builder):
        yield builder.take()


def index(file: Any, archive: str) -> list[dict[str, Any]]:
    """The samples of an uncompressed archive, by uri: `uri` and `place` as in a listing.

    Those with labels but no picture, as a label version of ours has, follow the others; they bear
    the name of their first label.
    """
    file.seek(0)
    found = list(members(file, seekable=True))
    rows = samples(archive, found, Counter())
    placed = {part["offset"] for row in rows for part in row["place"]}
    alone: dict[tuple[str, int], list[dict[str, Any]]] = defaultdict(list)
    seen: Counter[str] = Counter()
    for member in found:
        folder, slash, base = member.name.removeprefix("./").rpartition("/")
        stem, _, field = base.partition(".")
        if not stem or member.refused is not None:
            continue
        seen[folder + slash + base] += 1  # a name that comes again begins another sample
        if field.lower() in LABELS and member.offset not in placed:
            place = {"field": field.lower(), "offset": member.offset, "size": member.size}
            alone[folder + slash + stem, seen[folder + slash + base]].append(place)
    for (stem, number), places in sorted(alone.items()):
        uri = f"{archive}/{encode_name(stem)}.{places[0]['field']}"
        rows.append({"uri": uri if number == 1 else f"{uri}#{number}", "place": places})
    return rows


def _add(
    sample: Mapping[str, Any],
    archive: str,
    file: Any,
    builder: PartBuilder,
    labels: Labels,
    most: int,
) -> None:
    image: dict[str, Any] = {"uri": sample["uri"], "extra": dump({"archive": archive})}
    first = sample["place"][0]
    if first["size"] is None:
        cause = first["field"]
        failure = fail("read", cause, _REFUSALS.get(cause, "the archive cannot be read"))
        builder.add(image, [], [failure], "failed")
        return
    fields, failures = _fields(sample["place"], file, most)
    told = labels.read(fields)
    image["licence"] = told.licence
    image["width"], image["height"] = _size(fields.get("json"))
    failures += [failure._replace(source=None) for failure in told.failures]
    rows = []
    for row in told.rows:
        try:
            check_row(row)
        except LabelError as err:
            failures.append(fail("labels", err.cause, err))
        else:
            rows.append({**row, "extra": dump({"prompt": row.get("prompt")})})
    builder.add(image, rows, failures)


def _fields(
    places: list[dict[str, Any]], file: Any, most: int
) -> tuple[dict[str, bytes], list[Failure]]:
    fields: dict[str, bytes] = {}
    failures: list[Failure] = []
    for part in places:
        field, size = part["field"], part["size"]
        if field not in LABELS:
            continue
        if size > most:
            found = f"{field}: {size} bytes, limits.max_label_bytes is {most}"
            failures.append(fail("labels", "too_many_labels", found))
            continue
        content = file.read_at(size, part["offset"])
        if len(content) < size:
            failures.append(fail("read", "broken_archive", f"{field}: the archive ends inside it"))
        else:
            fields[field] = content
    return fields, failures


def _size(content: bytes | None) -> tuple[int | None, int | None]:
    """Width and height as the JSON of a sample gives them: ours, or img2dataset's."""
    try:
        told = json.loads(content or b"null")
    except (ValueError, RecursionError):
        return None, None
    if not isinstance(told, dict):
        return None, None
    inner = told.get("image")
    sides = [(inner if isinstance(inner, dict) else told).get(name) for name in ("width", "height")]
    if not all(type(side) is int and 0 < side < 1 << 31 for side in sides):
        return None, None
    return sides[0], sides[1]


def _archive_of(labelled: Labelled) -> str:
    record = own_record(labelled.image, is_own=True)
    return str(record["archive"]) if isinstance(record, dict) and "archive" in record else ""


def _kept(labelled: Labelled) -> Kept:
    texts = frozenset(row["text"] for row in labelled.rows if row["kind"] == "text")
    ids = frozenset(row["source_id"] for row in labelled.rows if row["source_id"] is not None)
    return Kept(texts, ids)


def _root(location: Location) -> str:
    """Where a location is, however the user spelt it."""
    return str(getattr(location, "root", location.uri))


@dataclass(frozen=True)
class _Writer:
    location: Location  # of the original shards
    labels: Labels
    place: Place

    def write(self, archive: str, kept: Mapping[str, Kept]) -> None:
        """One shard, with the samples of those images and what is kept of each."""
        source = Place(self.location, archive)
        target = Place(self.place.location, self.place.path or archive)
        if (_root(self.location), archive) == (_root(self.place.location), target.path):
            raise LabelsError(f"{target}: is the shard itself; give another place to write to")
        with open_tar(source) as file, new_tar(target) as out:
            parts = {
                part["offset"]: (sample["uri"], part["field"])
                for sample in index(file, archive)
                for part in sample["place"]
            }
            end = 0
            for start, end, info in stretches(file):
                uri, field = parts.get(info.offset_data, (None, ""))
                if uri is None:
                    copy_range(file, out, start, end)
                elif uri in kept:
                    if field not in LABELS:
                        copy_range(file, out, start, end)
                        continue
                    content = file.read_at(info.size, info.offset_data)
                    left = thinned(field, content, self.labels, kept[uri])
                    if left == content:
                        copy_range(file, out, start, end)
                    elif left is not None:
                        write_member(out, info, left)
            copy_range(file, out, end)
