"""ImageNet and the like: classes of whole images, as folders or as lists, and its boxes as XML.

Folders: the folder that holds a picture is its class (`train/n01440764/x.JPEG`). Lists: lines
`path number ...` in `train.txt`, `val.txt`, ..., the names in `synsets.txt` (the first word of a
line may be the synset, the rest its words). Localisation: Pascal VOC's XML below `CLS-LOC`. A class
is a row of kind `text`, role `alt`, prompt `cls`, as in other sources (`engine.source.labels`).
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import chain
from typing import Any, ClassVar

import pyarrow.compute as pc

from engine.errors import LabelsError
from engine.formats.label_files import (
    Labelled,
    LeftOut,
    Paths,
    Row,
    find_files,
    images_of,
    read_text,
    stream,
    whole_image_class,
    write_each,
)
from engine.formats.shapes import Header, LabelSet, Place, ReadOptions
from engine.formats.voc import annotation_files, read_xml, sample_xml, write_objects
from engine.source.images import EXTENSIONS
from engine.source.labels import LabelError
from engine.source.names import extension
from engine.source.shapes import Location, ReadError

_SYNSETS = re.compile(r"(?i)(?:.*/)?(?:(?:LOC_)?synset[^/]*|classes)\.txt")
_LINE = re.compile(r'(?:"(?P<quoted>[^"]+)"|(?P<bare>\S.*?))(?P<classes>(?:\s+\d+)*)\s*')
_WNID = re.compile(r"n\d{8}")
_SPLITS = ("train", "val", "validation", "test")
_NO_CLASSES = ("images", "labels", "JPEGImages", "Annotations")
_CHUNK = 1_048_576  # bytes of a list read at a time
_PROMPT = "cls"
_SAMPLE = 1000  # entries looked at to know the format
_FEW = 8  # text files opened to know the format: splits, prose
_MAX_CLASS = 9  # digits of a class number


class ImageNet:
    """Reads and writes classes of whole images. Pictures are never moved.

    Sets made of folders, and rows of other origin, are written as lists with `synsets.txt`: what
    they say cannot be said in folders without the pictures.
    """

    name: ClassVar[str] = "imagenet"
    is_folder: ClassVar[bool] = True

    def recognises(self, place: Place, head: bytes) -> bool:
        """A list of pictures with numbers, folders of a split or named by synsets, or CLS-LOC."""
        if place.path:
            return False
        location = place.location
        names = location.names()
        lists = [name for name in names if _is_list_name(name)][:_FEW]
        if any(_is_list(location, name) for name in lists):
            return True
        found = sample_xml(location)
        if found is not None:
            return "CLS-LOC" in found or "ILSVRC" in found
        if any(extension(name) in ("xml", "json", "yaml", "yml") for name in names):
            return False
        entries = (entry.uri for entry, _ in zip(location.walk(), range(_SAMPLE), strict=False))
        paths = [path for path in entries if extension(path) in EXTENSIONS]
        return bool(paths) and all(_is_in_class(path) for path in paths)

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels; see `engine.formats.shapes.Format`."""
        location = place.location
        files = find_files(location, ["txt", "xml"])
        texts = [path for path in files.labels.to_pylist() if _is_list_name(path)]
        lists = [path for path in texts if _is_list(location, path)]
        if lists:
            return self._read_lists(location, files.labels.to_pylist(), lists, options)
        xml = annotation_files(files.labels)
        if len(xml):
            limit = options.limits.max_label_bytes
            parts = stream(
                location,
                (path.as_py() for path in xml),
                lambda path: read_xml(location, path, limit),
                options.part_size,
            )
            return LabelSet(Header(self.name, content={"layout": "localisation"}), parts)
        folders = pc.replace_substring_regex(files.pictures, r"/?[^/]*$", "")
        classes = sorted({_class_of(folder) for folder in pc.unique(folders).to_pylist()} - {""})
        items = (path.as_py() for path in files.pictures)
        parts = stream(None, items, _from_folder, options.part_size)
        return LabelSet(Header(self.name, classes=classes, content={"layout": "folders"}), parts)

    def _read_lists(
        self, location: Location, texts: Sequence[str], lists: Sequence[str], options: ReadOptions
    ) -> LabelSet:
        classes = list(options.classes)
        once: dict[str, str] = {}
        for path in texts:
            if _SYNSETS.fullmatch(path):
                try:
                    once[path] = read_text(location, path, options.limits.max_bytes)
                except LabelError as err:
                    raise LabelsError(f"{location.uri!r}: {err}") from err
                lines = once[path].lstrip("\ufeff").split("\n")
                classes = classes or [line.strip() for line in lines]
        while classes and not classes[-1]:
            classes.pop()
        items = chain.from_iterable(_lines(location, path, options) for path in lists)
        parts = stream(None, items, lambda item: _from_line(*item, classes), options.part_size)
        content = {"layout": "lists", "files": once, "lists": list(lists)}
        return LabelSet(Header(self.name, classes=classes, content=content), parts)

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Writes the set; see `engine.formats.shapes.Format`."""
        is_own = labels.header.kind == self.name
        if is_own and labels.header.content.get("layout") == "localisation":
            return write_objects(place.location, labels, self.name)
        writer = _Writer(labels.header, is_own=is_own)
        for part in labels.parts:
            for image, rows in images_of(part):
                writer.add(image, rows)
        write_each(place.location, writer.files())
        return writer.left_out.notes()


def _is_list_name(path: str) -> bool:
    return path.lower().endswith(".txt") and not _SYNSETS.fullmatch(path)


def _is_list(location: Location, path: str) -> bool:
    """Whether the first line is a picture, with or without numbers of classes."""
    try:
        text = location.read_head(path, 4096).decode("utf-8-sig", errors="ignore")
    except ReadError:
        return False
    found = _LINE.fullmatch(text.split("\n")[0].strip())
    return found is not None and extension(found["quoted"] or found["bare"]) in EXTENSIONS


def _is_in_class(path: str) -> bool:
    parts = path.split("/")[:-1]
    if not parts or parts[-1] in _NO_CLASSES:
        return False
    return _WNID.fullmatch(parts[-1]) is not None or (len(parts) > 1 and parts[0] in _SPLITS)


def _class_of(folder: str) -> str:
    """The class that a folder stands for: its own name, unless it is the folder of a split."""
    parts = folder.split("/")
    return "" if len(parts) == 1 and parts[0] in (*_SPLITS, "") else parts[-1]


def _from_folder(path: str) -> Labelled:
    image = Labelled(uri=path)
    name = _class_of(path.rpartition("/")[0])
    if name:
        image.rows.append(whole_image_class(name, _PROMPT))
    return image


def _lines(location: Location, path: str, options: ReadOptions) -> Iterator[tuple[str, int, bytes]]:
    """Path, number and bytes of each line that holds something."""
    limit = options.limits.max_label_bytes
    number, rest = 0, b""
    try:
        with location.open(path).file as file:
            while chunk := file.read(_CHUNK):
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    number += 1
                    if line.strip():
                        yield path, number, line
                if len(rest) > limit:
                    raise LabelsError(
                        f"{path}: line {number + 1}: longer than limits.max_label_bytes ({limit})"
                    )
    except (ReadError, OSError) as err:
        raise LabelsError(f"{location.uri!r}: {path} cannot be read: {err}") from err
    if rest.strip():
        yield path, number + 1, rest


def _from_line(path: str, number: int, line: bytes, classes: Sequence[str]) -> Labelled:
    where = f"{path}: line {number}"
    try:
        text = line.decode().removeprefix("\ufeff").strip()
    except UnicodeDecodeError as err:
        raise LabelsError(f"{where}: is not UTF-8; save the file as UTF-8") from err
    found = _LINE.fullmatch(text)
    if found is None:  # a line of nothing but a quote
        image = Labelled(uri=text or "image")
        image.failed("bad_labels", f"{where}: {text[:40]!r} is no path with numbers")
        return image
    image = Labelled(uri=found["quoted"] or found["bare"])
    spelled = text[: found.start("classes")]
    image.extra = json.dumps({"list": path, "path": spelled}, ensure_ascii=False)
    for word in found["classes"].split():
        known = len(word) <= _MAX_CLASS and int(word) < len(classes)
        if classes and not known:
            said = f"{where}: class {word[:20]}; {len(classes)} classes are named"
            image.failed("unknown_category", said)
            continue
        name = classes[int(word)] if classes else word
        image.rows.append(whole_image_class(name, _PROMPT, json.dumps(word)))
    return image


class _Writer:
    """Gathers the lines of each list as bytes: a list is one file."""

    def __init__(self, header: Header, *, is_own: bool) -> None:
        self.left_out = LeftOut(ImageNet.name)
        self._is_own = is_own
        self._content: Mapping[str, Any] = header.content if is_own else {}
        self._numbers = {name: key for key, name in enumerate(header.classes)} if is_own else {}
        self._num_given = len(self._numbers)
        self._lists = {str(path): bytearray() for path in self._content.get("lists", [])}
        if self._content.get("layout") == "folders":
            self.left_out.count("set of folders is written as lists: no picture was moved")

    def add(self, image: Row, rows: list[Row]) -> None:
        """One image; without classes it is a line of its path alone."""
        about = _about(image["extra"]) if self._is_own else {}
        uri = " ".join(image["uri"].split())
        default = f'"{uri}"' if " " in uri else uri
        words = [word for word in (self._word(row) for row in rows) if word is not None]
        first = uri.partition("/")[0]
        split = first if "/" in uri and first in _SPLITS else _SPLITS[0]
        path = str(about.get("list") or f"{split}.txt")
        line = " ".join([str(about.get("path") or default), *words])
        self._lists.setdefault(path, bytearray()).extend(f"{line}\n".encode())

    def _word(self, row: Row) -> str | None:
        own = _about(row["extra"]).get("class") if self._is_own else None
        if own is not None:
            return str(own)
        if row["kind"] != "text" or row["prompt"] not in (_PROMPT, "tag", "label"):
            self.left_out.row(row)
            return None
        if not self._numbers and self._is_own and self._content.get("layout") == "lists":
            return str(row["text"])  # nothing names the numbers
        return str(self._numbers.setdefault(row["text"], len(self._numbers)))

    def files(self) -> Iterator[tuple[str, bytes]]:
        """The lists, and the names."""
        paths = Paths()
        for path, lines in self._lists.items():
            yield paths.claim(path), bytes(lines)
        for path, text in self._content.get("files", {}).items():
            yield paths.claim(path), text.encode()
        if self._content.get("layout") == "lists":
            new = len(self._numbers) - self._num_given
            self.left_out.count("classes are new and in no file of names", new)
        else:
            names = "".join(f"{' '.join(name.split())}\n" for name in self._numbers)
            yield paths.claim("synsets.txt"), names.encode()


def _about(extra: str | None) -> dict[str, Any]:
    try:
        said = json.loads(extra or "{}")
    except ValueError:
        return {}
    if isinstance(said, str):
        return {"class": said}
    return said if isinstance(said, dict) else {}
