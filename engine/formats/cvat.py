"""CVAT for images 1.1: one XML file, an `<image>` element each, its shapes inside; streamed.

Boxes, polygons, ellipses, masks and cuboids are regions, tags are classes of the whole image.
Points, polylines and skeletons enclose nothing that a box could hold: they stay in the record of
their image and are written back. The video format has no images but tracks; it is refused.
"""

import math
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import chain
from pathlib import Path
from typing import IO, Any, ClassVar
from xml.etree.ElementTree import Element

import pyarrow as pa

from engine.errors import LabelsError
from engine.formats import xml_files
from engine.formats.label_files import (
    Labelled,
    LeftOut,
    Row,
    enclosing,
    finite_score,
    images_of,
    number,
    region,
    stream,
    whole_image_class,
)
from engine.formats.records import numbered, own_and_added, skeleton_of
from engine.formats.shapes import Header, LabelSet, Place, ReadOptions
from engine.formats.xml_files import Container, XmlError, attribute, text_element
from engine.source.shapes import ReadError

_AREAS = ("box", "polygon", "ellipse", "mask", "cuboid")
_CLASSES = ("tag", "cls", "label")  # prompts of rows that are classes of the whole image
_CHUNK = 262_144  # bytes read at a time
_YES = ("1", "true", "yes")
_IGNORED = ("ignore", "difficult", "is_crowd", "iscrowd")  # attributes by which people say so
_MIN_CORNERS = 3
_FILE = "annotations.xml"  # what CVAT calls it inside its archives
_MAX_SIDE = 2**31 - 1
_END = "</annotations>\n"


class Cvat:
    """Reads and writes CVAT for images; what is no row stays as it was, to the letter.

    A row by a person (`source="manual"`) is `human`. An attribute `score` or `confidence` is the
    score; one of `ignore`, `difficult`, `is_crowd` that is true is `ignore`.
    """

    name: ClassVar[str] = "cvat"
    is_folder: ClassVar[bool] = False

    def recognises(self, place: Place, head: bytes) -> bool:
        """Whether the file's root is `<annotations>`, or a folder has CVAT's file."""
        if not place.path:
            return _FILE in place.location.names()
        return b"<annotations" in head and any(
            sign in head for sign in (b"<image", b"<meta", b"<track", b"<version")
        )

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels; see `engine.formats.shapes.Format`.

        Raises:
            LabelsError: No well-formed or safe XML, another root, or tracks of a video.
        """
        reader = _Reader(place, options)
        first = reader.first()
        items = chain([] if first is None else [first], reader.images)
        parts = stream(None, items, reader.read, options.part_size)
        content = {"head": reader.head, "encoding": reader.encoding}
        return LabelSet(Header(self.name, classes=reader.classes, content=content), parts)

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Writes the set; see `engine.formats.shapes.Format`."""
        is_own = labels.header.kind == self.name
        declared = labels.header.content.get("encoding") if is_own else None
        encoding = declared if declared in xml_files.ENCODINGS else "utf-8"
        writer = _Writer(LeftOut(self.name), is_own, encoding)
        with tempfile.TemporaryDirectory() as folder:
            body, whole = Path(folder) / "body", Path(folder) / "whole"
            with body.open("wb") as file:
                writer.images(labels, file)
            head = labels.header.content.get("head") if is_own else None
            with whole.open("wb") as file, body.open("rb") as images:
                file.write(writer.encoded(str(head) if head else writer.head()))
                while chunk := images.read(_CHUNK):
                    file.write(chunk)
                file.write(writer.encoded(_END))
            with pa.memory_map(str(whole)) as mapped:
                place.location.write(place.path or _FILE, mapped.read_buffer())
        return writer.left_out.notes()


class _Reader:
    """Streams the images of one file."""

    def __init__(self, place: Place, options: ReadOptions) -> None:
        self._place = Place(place.location, place.path or _FILE)
        self._limits = options.limits
        self._ids: set[int] = set()  # hashes
        self.images = self._containers()
        self.head, self.encoding = "", "utf-8"
        self.classes: list[str] = []

    def first(self) -> Container | None:
        """The first image; what stands before it becomes the head of the file."""
        image = next(self.images, None)
        if image is not None:
            self.head, self.encoding = image.before, image.encoding
            return replace(image, before="")
        return None

    def _containers(self) -> Iterator[Container]:
        parts = xml_files.containers(
            self._chunks(), depth=1, tag="image", max_bytes=self._limits.max_label_bytes
        )
        images = 0
        try:
            for part in parts:
                if isinstance(part, Container):
                    images += 1
                    yield part
                elif isinstance(part, str):
                    self._end(part, images)
                else:
                    self._other(part)
        except XmlError as err:
            raise LabelsError(f"{str(self._place)!r}: {err}") from err

    def _end(self, tail: str, images: int) -> None:
        if images:
            return
        if "<annotations" not in tail:
            raise LabelsError(f"{str(self._place)!r}: has no <annotations>; it is not CVAT's")
        cut = tail.rfind("</annotations>")
        self.head = tail[:cut] if cut >= 0 else tail.rstrip().removesuffix("/>") + ">\n"

    def _other(self, found: Element) -> None:
        if found.tag == "track":
            raise LabelsError(
                f"{str(self._place)!r}: holds <track> elements of a video; export the task from "
                "CVAT as 'CVAT for images 1.1'"
            )
        self.classes += [label.findtext("name") or "" for label in found.iter("label")]

    def _chunks(self) -> Iterator[bytes]:
        try:
            with self._place.location.open(self._place.path).file as file:
                while chunk := file.read(_CHUNK):
                    yield chunk
        except (ReadError, OSError) as err:
            raise LabelsError(f"{str(self._place)!r}: cannot be read: {err}") from err

    def read(self, found: Container) -> Labelled:
        """One image with its rows."""
        about = found.element.attrib
        where = f"{self._place.path}: image {about.get('id', '?')[:40]}"
        name = about.get("name", "").strip()
        image = Labelled(uri=name or f"image-{about.get('id', '?')}", source_id=about.get("id"))
        if not name:
            image.failed("bad_labels", f"{where}: has no name")
        image.width, image.height = _side(about.get("width")), _side(about.get("height"))
        if image.source_id is not None:
            if hash(image.source_id) in self._ids:
                image.failed("duplicate_id", f"{where}: a second image of this id")
            self._ids.add(hash(image.source_id))
        spans = [span for span in found.spans if span.element.tag in (*_AREAS, "tag")]
        for place, span in enumerate(spans):
            extra = numbered(place, found.text[span.start : span.end])
            try:
                image.rows.append(_row(span.element, extra, image, where))
            except ValueError as err:
                said = f"{where}: {span.element.tag} {place + 1}: {str(err)[:120]}"
                image.failed("bad_labels", said)
        image.extra = xml_files.skeleton_of_container(found, spans).to_json()
        return image


def _side(spelled: str | None) -> int | None:
    try:
        value = number(spelled or "")
    except ValueError:
        return None
    return int(value) if 0 < value <= _MAX_SIDE else None


def _row(shape: Element, extra: str, image: Labelled, where: str) -> Row:
    """The row of a shape or tag.

    Raises:
        ValueError: It has no label, or no numbers where its kind needs them.
    """
    about = {item.get("name", ""): (item.text or "").strip() for item in shape.iter("attribute")}
    label = shape.get("label", "")
    if not label:
        raise ValueError("has no label")
    said = about.get("score") or about.get("confidence") or shape.get("score")
    score = None if said is None else finite_score(said, image, where)
    common: Row = {"human": shape.get("source") == "manual", "source_id": shape.get("id")}
    common["ignore"] = any(about.get(name, "").lower() in _YES for name in _IGNORED)
    if shape.tag == "tag":
        return {**whole_image_class(label, "tag", extra), **common, "text_score": score}
    box, ring = _outline(shape)
    polygon = [ring] if ring else None
    return region(label, box, polygon=polygon, score=score, extra=extra, **common)


def _outline(shape: Element) -> tuple[list[float], list[float] | None]:
    """Box and outline; a turned box is the outline of its corners."""
    if shape.tag == "polygon":
        ring = [
            _number("points", v) for xy in shape.get("points", "").split(";") for v in _pair(xy)
        ]
        if len(ring) < 2 * _MIN_CORNERS:
            raise ValueError(f"has {len(ring) // 2} points, wanted {_MIN_CORNERS}")
        return enclosing(ring), ring
    if shape.tag == "box":
        box = _numbers(shape, "xtl", "ytl", "xbr", "ybr")
        return _turned(box, _number("rotation", shape.get("rotation", "0")))
    if shape.tag == "mask":
        left, top, width, height = _numbers(shape, "left", "top", "width", "height")
        return [left, top, left + width, top + height], None
    if shape.tag == "ellipse":
        x, y, across, down = _numbers(shape, "cx", "cy", "rx", "ry")
        angle = math.radians(_number("rotation", shape.get("rotation", "0")))
        half_x = math.hypot(across * math.cos(angle), down * math.sin(angle))
        half_y = math.hypot(across * math.sin(angle), down * math.cos(angle))
        return [x - half_x, y - half_y, x + half_x, y + half_y], None
    corners = sorted(key[1:] for key in shape.attrib if key.startswith("x"))
    flat = _numbers(shape, *(f"{axis}{corner}" for corner in corners for axis in "xy"))
    if len(flat) < 2 * _MIN_CORNERS:
        raise ValueError("has no corners")
    return enclosing(flat), None


def _pair(text: str) -> list[str]:
    pair = text.split(",")
    if len(pair) != 2:  # noqa: PLR2004
        raise ValueError(f"point {text[:40]!r} is no x,y")
    return pair


def _numbers(shape: Element, *names: str) -> list[float]:
    return [_number(name, shape.get(name, "")) for name in names]


def _number(name: str, spelled: str) -> float:
    try:
        return number(spelled.strip())
    except ValueError as err:
        raise ValueError(f"{name} is {spelled[:40]!r}, wanted a number") from err


def _turned(box: list[float], degrees: float) -> tuple[list[float], list[float] | None]:
    """A box turned clockwise about its centre."""
    if degrees == 0 or not math.isfinite(degrees):
        return box, None
    x, y = (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
    cos, sin = math.cos(math.radians(degrees)), math.sin(math.radians(degrees))
    ring: list[float] = []
    for at_x, at_y in ((0, 1), (2, 1), (2, 3), (0, 3)):
        across, down = box[at_x] - x, box[at_y] - y
        ring += [x + across * cos - down * sin, y + across * sin + down * cos]
    return enclosing(ring), ring


@dataclass
class _Writer:
    """Turns parts into `<image>` elements, and gathers the labels that the head must name."""

    left_out: LeftOut
    is_own: bool
    encoding: str

    def __post_init__(self) -> None:
        self._labels: dict[str, None] = {}
        self._groups = 0
        self._count = 0

    def encoded(self, text: str) -> bytes:
        return text.encode(self.encoding, "xmlcharrefreplace")

    def images(self, labels: LabelSet, file: IO[bytes]) -> None:
        """Writes every image; those without rows too."""
        is_first = self.is_own
        for part in labels.parts:
            for image, rows in images_of(part):
                text = self._own(image, rows) if self.is_own else None
                if text is None:
                    shapes = "".join(f"    {shape}\n" for shape in self._shapes(rows))
                    text = f"  <image {self._about(image)}>\n{shapes}  </image>\n"
                elif is_first:
                    text = text.lstrip()  # the head ends where it starts
                is_first = False
                self._count += 1
                file.write(self.encoded(text))
        if self.is_own and self._count:
            file.write(b"\n")

    def _own(self, image: Row, rows: list[Row]) -> str | None:
        skeleton = skeleton_of(image["extra"] or "")
        if skeleton is None:
            return None
        kept, added = own_and_added(rows)
        shapes = self._shapes(added)
        return xml_files.join_elements(skeleton, kept, shapes, tag="image", indent="\n    ")

    def _about(self, image: Row) -> str:
        sides = [f"{name}={attribute(image[name])}" for name in ("width", "height") if image[name]]
        named = f"id={attribute(self._count)} name={attribute(image['uri'])}"
        return " ".join([named, *sides])

    def _shapes(self, rows: list[Row]) -> list[str]:
        shapes: list[str] = []
        for row in rows:
            is_tag = row["kind"] == "text" and row["prompt"] in _CLASSES
            is_shape = row["kind"] == "region" and row["role"] == "category" and row["box"]
            if not is_tag and not is_shape:
                self.left_out.row(row)
                continue
            self._labels[row["text"]] = None
            if is_tag:
                about = _attributes(row)
                shapes.append(f"<tag label={attribute(row['text'])}>{about}</tag>")
            else:
                shapes += self._areas(row)
        return shapes

    def _areas(self, row: Row) -> Iterator[str]:
        rings = row["polygon"] or []
        about = f'label={attribute(row["text"])} occluded="0" z_order="0"'
        if len(rings) > 1:
            self._groups += 1
            self.left_out.count("outlines of several rings are polygons that share a group_id")
            about += f' group_id="{self._groups}"'
        for ring in rings:
            flat = [xml_files.spelled(value) for value in ring]
            points = ";".join(",".join(flat[at : at + 2]) for at in range(0, len(flat), 2))
            yield f'<polygon {about} points="{points}">{_attributes(row)}</polygon>'
        if not rings:
            pairs = zip(("xtl", "ytl", "xbr", "ybr"), row["box"], strict=True)
            sides = " ".join(f'{name}="{xml_files.spelled(value)}"' for name, value in pairs)
            yield f"<box {about} {sides}>{_attributes(row)}</box>"

    def head(self) -> str:
        """The start of a file of our own making."""
        names = (text_element("name", label) for label in self._labels)
        score = "<attribute><name>score</name><input_type>number</input_type></attribute>"
        ignore = "<attribute><name>ignore</name><input_type>checkbox</input_type></attribute>"
        about = f"<attributes>{score}{ignore}</attributes>"
        labels = "".join(f"\n        <label>{name}{about}</label>" for name in names)
        return (
            '<?xml version="1.0" encoding="utf-8"?>\n<annotations>\n  <version>1.1</version>\n'
            f"  <meta>\n    <task>\n      <size>{self._count}</size>\n"
            f"      <labels>{labels}\n      </labels>\n    </task>\n  </meta>\n"
        )


def _attributes(row: Row) -> str:
    score = row["score"] if row["score"] is not None else row.get("text_score")
    said: list[tuple[str, Any]] = []
    if score is not None:
        said.append(("score", xml_files.spelled(score)))
    if row["ignore"]:
        said.append(("ignore", "true"))
    return "".join(f'<attribute name="{name}">{value}</attribute>' for name, value in said)
