"""YOLO: one text file per image, one object a line, in fractions of the picture's sides.

Lines are `class cx cy w h`, with a score behind in predictions (`save_conf`); `class x y x y ...`
is an outline, with four corners also an oriented box; where the set has poses (`kpt_shape`), what
follows the box are its keypoints. Layouts are Ultralytics' (data.yaml; `images` beside `labels`;
lists of splits), Darknet's (obj.data, obj.names) and plain folders of text files.
"""

import json
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import yaml

from engine.errors import LabelsError
from engine.formats.label_files import (
    Labelled,
    LeftOut,
    Paths,
    Row,
    changed_stem,
    enclosing,
    finite_score,
    images_of,
    number,
    read_text,
    region,
    stream,
    write_each,
)
from engine.formats.picture_sizes import read_size
from engine.formats.records import as_json, own_line, said_of
from engine.formats.shapes import Header, LabelSet, Place, ReadOptions
from engine.formats.yolo_layout import (
    YAML,
    Layout,
    Pair,
    find_layout,
    listed_names,
    pairs,
)
from engine.source.labels import LabelError
from engine.source.names import extension
from engine.source.shapes import Location, ReadError

_BOX = 4  # numbers of a box, and of the box before keypoints
_MIN_OUTLINE = 6  # numbers of a triangle
_MAX_SLACK = 1e-4  # of a side: four digits are the fewest that people write
_MAX_DECIMALS = 17  # a float tells no digit behind them
_FEW = 8  # files opened in a folder to know the format: one may be prose, or a picture's empty one
_FOLDERS = ("", "labels", "labels/train", "labels/val", "train/labels", "obj_train_data")


class Yolo:
    """Reads and writes YOLO text labels; a line of its own is written back as it stood.

    Lines of other origin have no score: Ultralytics refuses a set with a sixth column to train on.
    A file with an outline holds outlines only, the other boxes by their corners, because
    Ultralytics refuses the mixture too.
    """

    name: ClassVar[str] = "yolo"
    is_folder: ClassVar[bool] = True

    def recognises(self, place: Place, head: bytes) -> bool:
        """A data.yaml with names, Darknet's obj.data, or text files of numbers alone."""
        if place.path:
            return extension(place.path) in YAML and b"names:" in head
        location = place.location
        for folder in _FOLDERS:
            paths = [f"{folder}/{name}" if folder else name for name in location.names(folder)]
            signs = [path for path in paths if extension(path) in YAML or path == "obj.data"]
            texts = [path for path in paths if extension(path) == "txt"][:_FEW]
            if any(_is_sign(location, path) for path in signs[:_FEW]):
                return True
            if any(_looks_like_labels(location, path) for path in texts):
                return True
        return False

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels; see `engine.formats.shapes.Format`. A data.yaml stands for its folder.

        Raises:
            LabelsError: No pictures are at hand, whose sizes the fractions need, or a file of
                names cannot be understood.
        """
        layout = find_layout(place.location, options)
        pictures = options.images or place.location
        if len(layout.labels) and not len(layout.pictures):
            raise LabelsError(
                f"{str(place)!r}: YOLO labels are fractions of pictures, and there is none; "
                "give their folder as source.images"
            )
        reader = _Reader(place.location, pictures, layout, options)
        classes = _dense(layout.classes)
        content = {
            "files": dict(layout.files),
            "lists": list(layout.lists),
            "names": {str(key): name for key, name in layout.classes.items()},
        }
        parts = stream(place.location, pairs(layout), reader.read, options.part_size)
        return LabelSet(Header(self.name, classes=classes, content=content), parts)

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Writes the set; see `engine.formats.shapes.Format`.

        Raises:
            LabelsError: An image with rows of other origin has no size.
        """
        writer = _Writer(labels.header, is_own=labels.header.kind == self.name)
        write_each(place.location, writer.files(labels))
        write_each(place.location, writer.once())
        return writer.left_out.notes()


def _is_sign(location: Location, path: str) -> bool:
    if path == "obj.data":
        return True
    return extension(path) in YAML and b"names:" in location.read_head(path, 65_536)


def _looks_like_labels(location: Location, path: str) -> bool:
    try:
        lines = location.read_head(path, 4096).decode("utf-8-sig").split("\n")
        first = [number(word) for word in lines[0].split()]
    except (ReadError, ValueError):
        return False
    return len(first) > _BOX and first[0] >= 0 and first[0] == int(first[0])


def _dense(classes: Mapping[int, str]) -> list[str]:
    return [classes.get(key, str(key)) for key in range(max(classes, default=-1) + 1)]


class _Reader:
    """Reads label files of one layout."""

    def __init__(
        self, location: Location, pictures: Location, layout: Layout, options: ReadOptions
    ) -> None:
        self._location, self._pictures, self._layout = location, pictures, layout
        self._limits = options.limits

    def read(self, pair: Pair) -> Labelled:
        """One image with its rows; a label without a picture has rows without boxes."""
        guess = changed_stem(pair.labels or pair.listed or "", ".jpg")
        image = Labelled(uri=pair.picture or pair.listed or guess)
        if pair.labels is None:
            return image
        if pair.is_second:
            image.failed("duplicate_id", f"{pair.labels}: its picture has another label file")
        try:
            text = read_text(self._location, pair.labels, self._limits.max_label_bytes)
        except LabelError as err:
            image.failed(err.cause, err)
            return image
        lines = text.lstrip("\ufeff").split("\n")
        about = {"labels": pair.labels, "newline": "\r\n" if "\r\n" in text else "\n"}
        image.extra = json.dumps(
            {**about, "ends": text.endswith("\n"), "bom": text[:1] == "\ufeff"}
        )
        if pair.picture is None:
            image.unlisted = True
            image.failed("unknown_image", f"{pair.labels}: there is no picture of that name")
        elif text.strip():
            size = read_size(self._pictures, pair.picture, self._limits.max_bytes)
            image.width, image.height = size or (None, None)
            if size is None:
                image.failed("bad_labels", f"{pair.picture}: has no readable size, so no boxes")
        for place, line in enumerate(lines, start=1):
            if line.strip():
                self._line(line.rstrip("\r"), f"{pair.labels}: line {place}", image)
        return image

    def _line(self, line: str, where: str, image: Labelled) -> None:
        words = line.split()
        try:
            values = [number(word) for word in words]
        except ValueError as err:
            image.failed("bad_labels", f"{where}: {str(err)[:80]}")
            return
        category = self._category(values[0], where, image)
        if category is None:
            return
        box, outline, score = self._shape(values[1:], words[1:])
        if box is None:
            image.failed("bad_labels", f"{where}: {len(values)} numbers are no box and no outline")
            return
        checked = None if score is None else finite_score(score, image, where)
        rings = [_scaled(outline, image)] if outline and image.width else None
        in_pixels = _scaled(box, image) if image.width else None
        extra = as_json(line)
        image.rows.append(region(category, in_pixels, polygon=rings, score=checked, extra=extra))

    def _category(self, value: float, where: str, image: Labelled) -> str | None:
        if not math.isfinite(value) or value != int(value):
            image.failed("bad_labels", f"{where}: class {value} is no whole number")
            return None
        known = self._layout.classes
        if known and int(value) not in known:
            said = f"{where}: class {int(value)} has no name; {len(known)} classes are named"
            image.failed("unknown_category", said)
            return None
        return known.get(int(value), str(int(value)))

    def _shape(
        self, values: list[float], words: list[str]
    ) -> tuple[list[float] | None, list[float] | None, float | None]:
        """Box, outline and score, as fractions; the box is null where the numbers are neither."""
        count, pose = len(values), self._layout.keypoints
        is_pose = pose is not None and count in (_BOX + pose, _BOX + pose + 1)
        has_score = count > _BOX + pose if is_pose and pose is not None else count % 2 == 1
        score = values[-1] if has_score and count > _BOX else None
        if count in (_BOX, _BOX + 1) or is_pose:
            across, down = _sides(values[0::2], words[0::2]), _sides(values[1::2], words[1::2])
            return [across[0], down[0], across[1], down[1]], None, score
        if count < _MIN_OUTLINE:
            return None, None, None
        ring = values[: count - has_score]
        return enclosing(ring), ring, score


def _sides(values: list[float], words: list[str]) -> tuple[float, float]:
    """Near and far side of a box along one axis, from its centre and extent.

    Both were rounded to their last digit, so that a box on the border may seem to cross it: within
    what rounding explains (but 1e-4 at most, half a pixel of 5000) the border is meant.
    """
    center, extent = values[0], values[1]
    near, far = center - extent / 2, center + extent / 2
    slack = min(_last_digit(words[0]) / 2 + _last_digit(words[1]) / 4, _MAX_SLACK)
    return (
        0.0 if -slack <= near < 0 else near,
        1.0 if 1 < far <= 1 + slack else far,
    )


def _last_digit(word: str) -> float:
    """What one unit of the last digit of a number is worth."""
    digits, _, exponent = word.lower().partition("e")
    decimals = len(digits.partition(".")[2])
    if decimals > _MAX_DECIMALS or len(exponent) > _MAX_DECIMALS:
        return 0.0
    return float(10.0 ** (min(int(exponent or 0), 0) - decimals))


def _scaled(values: list[float], image: Labelled) -> list[float]:
    sides = (image.width or 0, image.height or 0)
    return [value * sides[place % 2] for place, value in enumerate(values)]


class _Writer:
    """Turns parts into label files, and counts classes as they come."""

    def __init__(self, header: Header, *, is_own: bool) -> None:
        self.left_out = LeftOut(Yolo.name)
        self._is_own = is_own
        self._content: Mapping[str, Any] = header.content if is_own else {}
        names = self._content.get("names", {})
        named = {int(key): name for key, name in names.items()} if is_own else {}
        named = named or dict(enumerate(header.classes))
        self._numbers = {name: key for key, name in named.items()}
        self._num_given = len(self._numbers)
        self._paths = Paths()
        self._written: set[int] = set()  # hashes of names of pictures

    def files(self, labels: LabelSet) -> Iterator[tuple[str, bytes]]:
        """Label files; none for an image that had none and has no rows."""
        for part in labels.parts:
            for image, rows in images_of(part):
                self._written.add(hash(_bare(image["uri"])))
                about = said_of(image["extra"]) if self._is_own else {}
                if self._is_own and not about and not rows:
                    continue
                lines = self._lines(image, rows)
                newline = str(about.get("newline", "\n"))
                text = newline.join(lines) + (newline if lines and about.get("ends", True) else "")
                path = about.get("labels") or _label_path(image["uri"])
                bom = "\ufeff" if about.get("bom") else ""
                yield self._paths.claim(str(path)), (bom + text).encode()
        said = "label files were renamed, whose pictures share a name; rename the pictures too"
        self.left_out.count(said, self._paths.renamed)

    def _lines(self, image: Row, rows: list[Row]) -> list[str]:
        own = [own_line(row["extra"]) if self._is_own else None for row in rows]
        fresh = [row for row, line in zip(rows, own, strict=True) if line is None]
        fresh = [row for row in fresh if self._can_write(row)]
        as_outlines = any(row["polygon"] for row in fresh)
        if fresh and (image["width"] is None or image["height"] is None):
            raise LabelsError(
                f"{image['uri']}: has no width and height, and YOLO writes fractions of them; "
                "give source.images"
            )
        return [line for line in own if line is not None] + [
            self._line(row, (image["width"], image["height"]), as_outlines) for row in fresh
        ]

    def _can_write(self, row: Row) -> bool:
        if row["kind"] != "region" or row["role"] != "category" or row["box"] is None:
            self.left_out.row(row)
            return False
        if row["ignore"]:
            self.left_out.count("boxes to be ignored (crowd, difficult) are written as any other")
        if row["score"] is not None:
            self.left_out.count("scores are not written: a set to train on has no sixth column")
        return True

    def _line(self, row: Row, sides: tuple[int, int], as_outlines: bool) -> str:
        key = self._numbers.setdefault(row["text"], self._free())
        left, top, right, bottom = row["box"]
        if as_outlines:
            rings = row["polygon"] or [[left, top, right, top, right, bottom, left, bottom]]
            if len(rings) > 1:
                self.left_out.count("outlines of several rings are written as their largest")
            ring = max(rings, key=len)
            values = [value / sides[place % 2] for place, value in enumerate(ring)]
        else:
            center = ((left + right) / 2 / sides[0], (top + bottom) / 2 / sides[1])
            values = [*center, (right - left) / sides[0], (bottom - top) / sides[1]]
        return " ".join([str(key), *(f"{value:.9g}" for value in values)])

    def _free(self) -> int:
        return max(self._numbers.values(), default=-1) + 1

    def once(self) -> Iterator[tuple[str, bytes]]:
        """Files of names and lists; a list loses the pictures that are not written."""
        lists = self._content.get("lists", [])
        for path, text in self._content.get("files", {}).items():
            kept = self._kept(text) if path in lists else text
            yield self._paths.claim(path), kept.encode()
        if not self._content.get("files"):
            names = {key: name for name, key in self._numbers.items()}
            about = {"path": ".", "train": "images", "val": "images", "names": names}
            if names or not self._is_own:
                spelled = yaml.safe_dump(about, allow_unicode=True, sort_keys=False)
                yield self._paths.claim("data.yaml"), spelled.encode()
        elif len(self._numbers) > self._num_given:
            self.left_out.count("classes are new and in no file of names", len(self._numbers))

    def _kept(self, text: str) -> str:
        lines = text.splitlines(keepends=True)
        names = [next(iter(listed_names(line)), "") for line in lines]
        return "".join(
            line
            for line, name in zip(lines, names, strict=True)
            if not name or hash(_bare(name)) in self._written
        )


def _bare(path: str) -> str:
    return changed_stem(path.rpartition("/")[2], "")


def _label_path(uri: str) -> str:
    """Where Ultralytics looks for the labels of a picture that lies below `images`."""
    folder, found, name = f"/{uri}".rpartition("/images/")
    path = f"{folder}/labels/{name}" if found else f"labels/{uri}"
    return changed_stem(path.removeprefix("/"), ".txt")
