"""Where the files of a YOLO set lie, what it says once, and which label is of which picture."""

import posixpath
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc
import yaml

from engine.errors import LabelsError
from engine.formats.label_files import find_files, read_text, stems
from engine.formats.shapes import ReadOptions
from engine.source.images import EXTENSIONS
from engine.source.labels import LabelError
from engine.source.names import extension
from engine.source.shapes import Location

YAML = ("yaml", "yml")
MAX_CLASSES = 1_000_000  # more is no list of classes

_CLASS_FILES = ("classes.txt", "obj.names", "predefined_classes.txt")
_PROSE = r"(?i)(^|/)(readme|license|licence|requirements)[^/]*\.txt$"
_SPLITS = ("train", "val", "test")


class Pair(NamedTuple):
    """A picture and its label file; either may be missing."""

    picture: str | None
    labels: str | None
    listed: str | None = None  # a picture that only a list of a split names
    is_second: bool = False  # another label file has the picture already


@dataclass(frozen=True)
class Layout:
    """What a set says once.

    Attributes:
        classes: Name by number; empty where nothing names them.
        keypoints: Numbers of a pose behind its box; null where the set has no poses.
        files: Text of every file that is neither a label nor a picture, by path.
        lists: Those of `files` that list pictures.
        labels: Paths of label files.
        pictures: Paths of pictures, in their own location.
    """

    classes: Mapping[int, str]
    keypoints: int | None
    files: Mapping[str, str]
    lists: Sequence[str]
    labels: pa.Array
    pictures: pa.Array


def find_layout(location: Location, options: ReadOptions) -> Layout:
    """Looks at the names of all files, and reads those that say something once.

    Raises:
        LabelsError: A file of names cannot be read or understood.
    """
    found = find_files(location, ["txt", *YAML, "names", "data"])
    pictures = found.pictures
    if options.images is not None:
        pictures = find_files(options.images, []).pictures
    paths = found.labels
    is_text = pc.match_substring_regex(paths, r"(?i)\.txt$")
    others = paths.filter(pc.invert(is_text)).to_pylist()
    once = {path: _text(location, path, options) for path in others}
    described = _described(once)
    texts = paths.filter(is_text)
    texts = texts.filter(pc.invert(pc.match_substring_regex(texts, _PROSE)))
    lists = _lists(texts, described, location)
    labels, names = _labels(texts, lists)
    for path in [*names, *lists]:
        once[path] = _text(location, path, options)
    classes = _classes(once, described, options.classes)
    return Layout(classes, _keypoints(described), once, lists, labels, pictures)


def _text(location: Location, path: str, options: ReadOptions) -> str:
    try:
        return read_text(location, path, options.limits.max_bytes)
    except LabelError as err:
        raise LabelsError(f"{location.uri!r}: {err}") from err


def _described(once: Mapping[str, str]) -> dict[str, Any]:
    """The mapping of the YAML file that names classes, with its path as `_path`; else empty.

    Nothing but strings is made of it, so that a class may be called `no` or `1e3`.
    """
    for path, text in sorted(once.items(), key=lambda item: (item[0].count("/"), item[0])):
        if extension(path) not in YAML:
            continue
        try:
            said = yaml.load(text, Loader=yaml.BaseLoader)
        except (yaml.YAMLError, RecursionError, ValueError) as err:
            line = getattr(getattr(err, "problem_mark", None), "line", 0) + 1
            why = str(getattr(err, "problem", None) or err).splitlines()[0]
            raise LabelsError(f"{path}: line {line}: no YAML: {why}; correct the file") from err
        if isinstance(said, dict) and "names" in said:
            return {**said, "_path": path}
    return {}


def _lists(texts: pa.Array, described: Mapping[str, Any], location: Location) -> list[str]:
    """Text files that list pictures: named by the YAML, or called like a split."""
    named = {f"{split}.txt" for split in _SPLITS}
    for split in _SPLITS:
        said = described.get(split) or []
        for path in [said] if isinstance(said, str) else said:
            if isinstance(path, str) and path.endswith(".txt"):
                named.add(posixpath.basename(path))
    bare = pc.replace_substring_regex(texts, r"^.*/", "")
    candidates = texts.filter(pc.is_in(bare, value_set=pa.array(sorted(named), pa.string())))
    in_labels = pc.match_substring_regex(candidates, r"(^|/)labels/")
    paths = candidates.filter(pc.invert(in_labels)).to_pylist()
    return [path for path in paths if _is_list(location.read_head(path, 4096))]


def _is_list(head: bytes) -> bool:
    line = head.decode(errors="replace").lstrip("\ufeff").split("\n")[0].strip()
    return extension(line) in EXTENSIONS


def _labels(texts: pa.Array, lists: Sequence[str]) -> tuple[pa.Array, list[str]]:
    """Label files, and files of class names; labels are below `labels` where there is one."""
    bare = pc.replace_substring_regex(texts, r"^.*/", "")
    is_names = pc.is_in(bare, value_set=pa.array(_CLASS_FILES, pa.string()))
    others = pc.or_(is_names, pc.is_in(texts, value_set=pa.array(lists, pa.string())))
    labels = texts.filter(pc.invert(others))
    below = labels.filter(pc.match_substring_regex(labels, r"(^|/)labels/"))
    return (below if len(below) else labels), texts.filter(is_names).to_pylist()


def _classes(
    once: Mapping[str, str], described: Mapping[str, Any], given: Sequence[str]
) -> dict[int, str]:
    """Names by number: those the user gives, else of the YAML, else of a file of names."""
    if given:
        return dict(enumerate(given))
    if described:
        return _named(described["names"], described["_path"])
    for path, text in sorted(once.items()):
        if posixpath.basename(path) in _CLASS_FILES or extension(path) == "names":
            lines = [line.strip() for line in text.lstrip("\ufeff").split("\n")]
            while lines and not lines[-1]:
                lines.pop()
            return dict(enumerate(lines))
    return {}


def _named(names: object, path: str) -> dict[int, str]:
    listed = enumerate(names) if isinstance(names, list) else None
    mapped = names.items() if isinstance(names, dict) else None
    try:
        found = {int(key): name for key, name in listed or mapped or ()}
    except (TypeError, ValueError) as err:
        raise LabelsError(f"{path}: names has a key that is no number ({err}); correct it") from err
    is_wrong = any(not isinstance(name, str) or not name.isprintable() for name in found.values())
    if is_wrong or any(not 0 <= key < MAX_CLASSES for key in found) or (names and not found):
        raise LabelsError(
            f"{path}: names is {str(names)[:40]!r}; wanted a list of texts, or texts by number"
        )
    return found


def _keypoints(described: Mapping[str, Any]) -> int | None:
    shape = described.get("kpt_shape")
    if shape is None:
        return None
    try:
        count, size = (int(value) for value in (shape if isinstance(shape, list) else ()))
    except (TypeError, ValueError) as err:
        raise LabelsError(
            f"{described['_path']}: kpt_shape is {str(shape)[:40]!r}; wanted [count, 2 or 3]"
        ) from err
    return count * size


def pairs(layout: Layout) -> Iterator[Pair]:
    """Every picture with its label file, then labels without a picture, then listed pictures.

    A picture and a label belong together where their paths are the same but for the last `images`
    and `labels` and the extension; where that finds nothing, where they are the same below those
    folders; else where they have the same name and no other picture has it.
    """
    places = _places(layout)
    first = pc.index_in(pa.array(range(len(layout.pictures)), pa.int32()), value_set=places)
    for picture, label in zip(layout.pictures, first, strict=True):
        labels = layout.labels[label.as_py()].as_py() if label.is_valid else None
        yield Pair(picture.as_py(), labels)
    own = pc.take(first, places)  # the first label of each label's picture
    for number, (label, place) in enumerate(zip(layout.labels, places, strict=True)):
        if not place.is_valid:
            yield Pair(None, label.as_py())
        elif own[number].as_py() != number:
            yield Pair(layout.pictures[place.as_py()].as_py(), label.as_py(), is_second=True)
    for path in _listed(layout):
        yield Pair(None, None, listed=path)


def _places(layout: Layout) -> pa.Array:
    """The number of each label's picture, int32, null where there is none."""
    of_labels, of_pictures = _keys(layout.labels), _keys(layout.pictures)
    found = pc.coalesce(
        pc.index_in(of_labels[0], value_set=of_pictures[0]),
        pc.index_in(of_labels[1], value_set=of_pictures[1]),
    )
    counts = of_pictures[2].value_counts()  # a bare name that several pictures bear says nothing
    alone = counts.field("values").filter(pc.equal(counts.field("counts"), 1))
    named = pc.if_else(pc.is_in(of_labels[2], value_set=alone), of_labels[2], None)
    by_name = pc.index_in(named, value_set=of_pictures[2], skip_nulls=True)
    return pc.coalesce(found, by_name)


def _keys(paths: pa.Array) -> list[pa.Array]:
    """Ways of naming files without their extension, the most exact first."""
    full = pc.replace_substring_regex(paths, r"\.[^./]*$", "")
    full = pc.replace_substring_regex(full, r"^((?:.*/)?)(?:images|labels)/", r"\1images/")
    return [full, pc.replace_substring_regex(full, r"^(?:.*/)?images/", ""), stems(paths)]


def _listed(layout: Layout) -> list[str]:
    """Pictures that lists name and nobody has, as they are spelled."""
    lines: dict[str, None] = {}
    for path in layout.lists:
        lines.update(dict.fromkeys(listed_names(layout.files[path])))
    names = pa.array(list(lines), pa.string())
    known = pa.concat_arrays([stems(layout.pictures), stems(layout.labels)])
    unknown: list[str] = names.filter(
        pc.invert(pc.is_in(stems(names), value_set=known))
    ).to_pylist()
    return unknown


def listed_names(text: str) -> Iterator[str]:
    """The paths of a list of pictures; blank lines and a leading `./` are left out."""
    for line in text.lstrip("\ufeff").split("\n"):
        name = re.sub(r"^(\./)+", "", line.strip())
        if name:
            yield name
