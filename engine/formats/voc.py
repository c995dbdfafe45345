"""Pascal VOC: a folder with one XML per image in `Annotations`, and lists in `ImageSets`.

Pixels count from 1 and both corners belong to the box (VOC2012 devkit, section 3.4): a box over
the whole of a 500 x 375 photo is 1, 1, 500, 375. In our table that is 0, 0, 500, 375: 1 is taken
from xmin and ymin, nothing from xmax and ymax, and the same is added again on the way back. Tools
that count from 0 write a 0 on the left border: it is the border too, and not -1.
"""

import json
import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, ClassVar, NamedTuple
from xml.etree.ElementTree import Element

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import LabelsError
from engine.formats import xml_files
from engine.formats.label_files import (
    Labelled,
    LeftOut,
    Paths,
    Row,
    changed_stem,
    find_files,
    finite_score,
    images_of,
    number,
    picture_uri,
    read_bytes,
    read_text,
    region,
    stems,
    stream,
    without,
    write_each,
)
from engine.formats.records import numbered, own_and_added, skeleton_of
from engine.formats.shapes import Header, LabelSet, Place, ReadOptions
from engine.formats.xml_files import XmlError, element, text_element
from engine.source.labels import LabelError
from engine.source.shapes import Location

_FOLDER = "Annotations"
_LISTS = r"(^|/)ImageSets/.*\.txt$|(^|/)labelmap\.txt$"
_MASKS = r"(^|/)Segmentation(Class|Object)/"
_LOCALISATION = ("CLS-LOC", "ILSVRC")  # ImageNet's own folders: see `engine.formats.imagenet`
_SAMPLE = 1000  # entries looked at to know the format
_YES = ("1", "true", "yes")
_MAX_PIXELS = 2**31 - 1  # of a side; what a size column holds


class _Item(NamedTuple):
    path: str
    kind: str  # "xml", or "picture" or "listed" for an image without one


class Voc:
    """Reads and writes Pascal VOC; unknown elements, lists and flags stay as they are.

    The class lists of `ImageSets/Main` are kept as they were: they do not follow objects that were
    left out. Lists lose the lines of images that are not written.
    """

    name: ClassVar[str] = "voc"
    is_folder: ClassVar[bool] = True

    def recognises(self, place: Place, head: bytes) -> bool:
        """Whether there are XML files of annotations that are not ImageNet's."""
        if head or place.path:
            return False
        found = sample_xml(place.location)
        return found is not None and not any(word in found for word in _LOCALISATION)

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels; see `engine.formats.shapes.Format`."""
        location = place.location
        files = find_files(location, ["xml", "txt"])
        is_list = pc.match_substring_regex(files.labels, _LISTS)
        lists = {
            path: _list_text(location, path, options)
            for path in files.labels.filter(is_list).to_pylist()
        }
        xml = annotation_files(files.labels)
        named = stems(xml)
        photos = files.pictures.filter(pc.invert(pc.match_substring_regex(files.pictures, _MASKS)))
        pictures = without(photos, named)
        listed = pa.array(_listed(lists), pa.string())
        listed = without(without(listed, named), stems(pictures))
        items = chain(
            (_Item(path.as_py(), "xml") for path in xml),
            (_Item(path.as_py(), "picture") for path in pictures),
            (_Item(f"{name.as_py()}.jpg", "listed") for name in listed),
        )
        limit = options.limits.max_label_bytes
        parts = stream(
            location, items, lambda item: _read(location, item, limit), options.part_size
        )
        return LabelSet(Header(self.name, content={"files": lists}), parts)

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Writes the set; see `engine.formats.shapes.Format`."""
        return write_objects(place.location, labels, self.name)


def annotation_files(paths: pa.Array) -> pa.Array:
    """The XML files among paths; only those below a folder `Annotations` where there is one."""
    xml = paths.filter(pc.match_substring_regex(paths, r"(?i)\.xml$"))
    inside = xml.filter(pc.match_substring_regex(xml, rf"(^|/){_FOLDER}/"))
    return inside if len(inside) else xml


def sample_xml(location: Location) -> str | None:
    """The path of one XML file that starts like an annotation, looked for near the top."""
    folders = ["", _FOLDER]
    entries = (entry.uri for entry, _ in zip(location.walk(), range(_SAMPLE), strict=False))
    near = [path for path in entries if path.lower().endswith(".xml")][:1]
    for folder in folders:
        names = [name for name in location.names(folder) if name.lower().endswith(".xml")]
        near += [posixpath.join(folder, name) for name in names[:1]]
    for path in near:
        head = location.read_head(path, 4096)
        if b"<annotation>" in head or b"<annotation " in head:
            return path
    return None


def _list_text(location: Location, path: str, options: ReadOptions) -> str:
    try:
        return read_text(location, path, options.limits.max_bytes)
    except LabelError as err:
        raise LabelsError(f"{location.uri!r}: {err}") from err


def _listed(lists: Mapping[str, str]) -> list[str]:
    """Names of images in `ImageSets`: the first word of each line, once."""
    names: dict[str, None] = {}
    for path, text in lists.items():
        if "ImageSets/" in path:
            names.update(
                dict.fromkeys(line.split()[0] for line in text.split("\n") if line.split())
            )
    return [name.lstrip("\ufeff") for name in names]


def _read(location: Location, item: _Item, max_bytes: int) -> Labelled:
    if item.kind != "xml":
        return Labelled(uri=_bare(item.path))
    return read_xml(location, item.path, max_bytes)


def _bare(path: str) -> str:
    """A picture's place without the folder that only says that it holds pictures."""
    return "/".join(part for part in path.split("/") if part != "JPEGImages")


def read_xml(location: Location, path: str, max_bytes: int) -> Labelled:
    """One annotation: its picture is named from the folder of the XML, without `Annotations`."""
    folder = "/".join(part for part in path.split("/")[:-1] if part != _FOLDER)
    guess = picture_uri(folder, changed_stem(path.rpartition("/")[2], ".jpg"))
    image = Labelled(uri=guess)
    try:
        root, tail = xml_files.parse_root(
            read_bytes(location, path, max_bytes), max_bytes=max_bytes
        )
    except LabelError as err:
        image.failed(err.cause, err)
        return image
    except XmlError as err:
        image.failed("bad_labels", f"{path}: {err}")
        return image
    if root.element.tag != "annotation":
        image.failed("bad_labels", f"{path}: is <{root.element.tag}>, wanted <annotation>")
        return image
    spelled = (root.element.findtext("filename") or "").strip()
    if spelled.strip("/\\"):
        image.uri = picture_uri(folder, spelled)
    image.width, image.height = (_side(root.element, side) for side in ("width", "height"))
    spans = [span for span in root.spans if span.element.tag == "object"]
    skeleton = xml_files.skeleton_of_container(root, spans, tail)
    fixed = {}
    for place, span in enumerate(spans):
        record = root.text[span.start : span.end]
        if span.element.find("bndbox") is None:
            fixed[place] = record  # a pose or a class without a box: nothing our table could say
            continue
        try:
            image.rows.append(_row(span.element, numbered(place, record), image, path))
        except ValueError as err:
            image.failed("bad_labels", f"{path}: object {place + 1}: {err}")
    image.extra = replace(skeleton, fixed=fixed).to_json(path=path, encoding=root.encoding)
    return image


def _side(root: Element, side: str) -> int | None:
    try:
        value = number(root.findtext(f"size/{side}") or "")
    except ValueError:
        return None
    return int(value) if 0 < value <= _MAX_PIXELS else None


def _row(found: Element, extra: str, image: Labelled, path: str) -> Row:
    """The row of an `<object>`.

    Raises:
        ValueError: It has no name, or a corner that is no number.
    """
    name = (found.findtext("name") or "").strip()
    if not name:
        raise ValueError("has no name")
    corners = [_corner(found, side) for side in ("xmin", "ymin", "xmax", "ymax")]
    box = [0.0 if near == 0 else near - 1 for near in corners[:2]] + corners[2:]
    spelled = found.findtext("score") or found.findtext("confidence")
    score = None if spelled is None else finite_score(spelled, image, path)
    difficult = (found.findtext("difficult") or "").strip().lower() in _YES
    return region(name, box, score=score, ignore=difficult, extra=extra)


def _corner(found: Element, side: str) -> float:
    spelled = found.findtext(f"bndbox/{side}")
    try:
        return number((spelled or "").strip())
    except ValueError as err:
        raise ValueError(f"{side} is {(spelled or '')[:40]!r}, wanted a number") from err


def write_objects(location: Location, labels: LabelSet, name: str) -> list[str]:
    """Writes annotations and lists of the format `name`; what could not be said."""
    writer = _Writer(name, is_own=labels.header.kind == name)
    write_each(location, writer.files(labels))
    lists = labels.header.content.get("files", {}) if writer.is_own else {}
    write_each(location, writer.lists(lists))
    return writer.left_out.notes()


class _Writer:
    """Turns parts into files, and remembers which images were written."""

    def __init__(self, name: str, *, is_own: bool) -> None:
        self.is_own = is_own
        self.left_out = LeftOut(name)
        self._paths = Paths()
        self._written: set[int] = set()  # hashes of stems
        self._listed = bytearray()
        self._classes: dict[str, None] = {}

    def files(self, labels: LabelSet) -> Iterator[tuple[str, bytes]]:
        for part in labels.parts:
            for image, rows in images_of(part):
                yield from self._file(image, rows)
        self.left_out.count("files were renamed, whose names stood twice", self._paths.renamed)

    def _file(self, image: Row, rows: list[Row]) -> Iterator[tuple[str, bytes]]:
        written = own_file(image, rows, self.left_out) if self.is_own else None
        if written is not None:
            path, data = written
        elif self.is_own and image["extra"] is None and not rows:
            self._written.add(hash(_stem(image["uri"])))  # it had no XML, or a broken one
            return
        else:
            path = f"{_FOLDER}/{changed_stem(_bare(image['uri']), '.xml')}"
            data = _document(image, [_object(row) for row in self._taken(rows)]).encode()
        path = self._paths.claim(path)
        self._written.add(hash(_stem(path)))
        if not self.is_own:
            name = path.removeprefix(f"{_FOLDER}/").removesuffix(".xml")
            self._listed.extend(f"{name}\n".encode())
        yield path, data

    def _taken(self, rows: list[Row]) -> list[Row]:
        taken = [row for row in rows if can_write(row, self.left_out)]
        self._classes.update((row["text"], None) for row in taken)
        return taken

    def lists(self, lists: Mapping[str, str]) -> Iterator[tuple[str, bytes]]:
        if not self.is_own:
            yield "ImageSets/Main/default.txt", bytes(self._listed)
            # Datumaro and CVAT take classes that are not VOC's own only from here
            names = "".join(f"{' '.join(name.split())}:::\n" for name in self._classes)
            yield "labelmap.txt", f"# label:color_rgb:parts:actions\n{names}".encode()
        for path, text in lists.items():
            if "ImageSets/" in path:
                lines = [line for line in text.splitlines(keepends=True) if self._keeps(line)]
                yield self._paths.claim(path), "".join(lines).encode()
            else:
                yield self._paths.claim(path), text.encode()

    def _keeps(self, line: str) -> bool:
        words = line.lstrip("\ufeff").split()
        return not words or hash(_stem(f"{words[0]}.jpg")) in self._written


def _stem(path: str) -> str:
    return path.rpartition("/")[2].rpartition(".")[0]


def own_file(image: Row, rows: list[Row], left_out: LeftOut) -> tuple[str, bytes] | None:
    """Path and bytes of an annotation that was read from such a file; null if it was not."""
    skeleton = skeleton_of(image["extra"] or "")
    if skeleton is None:
        return None
    about = json.loads(image["extra"])
    kept, others = own_and_added(rows)
    added = [_object(row) for row in others if can_write(row, left_out)]
    text = xml_files.join_elements(skeleton, kept, added, tag="annotation", indent="\n  ")
    encoding = about.get("encoding")
    encoding = encoding if encoding in xml_files.ENCODINGS else "utf-8"
    path = str(about.get("path", f"{_FOLDER}/{changed_stem(image['uri'], '.xml')}"))
    return path, text.encode(encoding, "xmlcharrefreplace")


def can_write(row: Row, left_out: LeftOut) -> bool:
    """Whether an object can say a row; counts what it cannot."""
    if row["kind"] != "region" or row["role"] != "category" or row["box"] is None:
        left_out.row(row)
        return False
    if row["polygon"]:
        left_out.count("outlines are not written, their boxes are")
    return True


def _document(image: Row, objects: list[str]) -> str:
    name = image["uri"].rpartition("/")[2]
    size = ""
    if image["width"] is not None and image["height"] is not None:
        sides = [text_element(side, image[side]) for side in ("width", "height")]
        size = f"\n  {element('size', *sides, text_element('depth', 3))}"
    body = "".join(f"\n  {text}" for text in objects)
    filename = text_element("filename", name)
    return f"<annotation>\n  {filename}{size}\n  <segmented>0</segmented>{body}\n</annotation>\n"


def _object(row: Row) -> str:
    sides = zip(("xmin", "ymin", "xmax", "ymax"), row["box"], (1, 1, 0, 0), strict=True)
    corners = [text_element(side, _shifted(value, by)) for side, value, by in sides]
    score = [] if row["score"] is None else [text_element("score", xml_files.spelled(row["score"]))]
    inside: list[Any] = [
        text_element("name", row["text"]),
        text_element("difficult", int(bool(row["ignore"]))),
        element("bndbox", *corners),
        *score,
    ]
    return element("object", *inside)


def _shifted(value: float, by: int) -> str:
    """The number that is the same float32 again when `by` is taken from it."""
    short = xml_files.spelled(value + by)
    with np.errstate(over="ignore"):
        is_same = np.float32(float(short) - by) == np.float32(value)
    return short if is_same or not np.isfinite(value) else repr(float(value) + by)
