"""LabelMe: a JSON file per image, its shapes in a list, the picture perhaps inside as base64.

Shapes that enclose something are rows: polygon, rectangle, circle, mask, and rotation, which
X-AnyLabeling adds with `score` and `difficult`. Points and lines enclose nothing that a box could
hold; like the flags and the picture they stay in the record of the image and are written back.
"""

import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import replace
from itertools import chain
from typing import Any, ClassVar

from engine.formats.json_spans import Value, elements, members
from engine.formats.label_files import (
    Labelled,
    LeftOut,
    Paths,
    Row,
    changed_stem,
    decode,
    enclosing,
    find_files,
    finite_score,
    images_of,
    picture_uri,
    read_bytes,
    region,
    stems,
    stream,
    without,
    write_each,
)
from engine.formats.records import (
    cut,
    numbered,
    own_and_added,
    skeleton_of,
)
from engine.formats.shapes import Header, LabelSet, Place, ReadOptions
from engine.source.labels import LabelError
from engine.source.shapes import Location

_VERSION = "5.5.0"  # of LabelMe, whose fields we write
_AREAS = ("polygon", "rectangle", "circle", "mask", "rotation")
_MIN_CORNERS = 3
_MAX_SIDE = 2**31 - 1
_SAMPLE = 1000  # entries looked at to know the format


class LabelMe:
    """Reads and writes LabelMe; everything that is no row stays as it was, to the letter."""

    name: ClassVar[str] = "labelme"
    is_folder: ClassVar[bool] = True

    def recognises(self, place: Place, head: bytes) -> bool:
        """Whether the first JSON file has shapes and names its picture."""
        if place.path:
            return False
        location = place.location
        names = [name for name in location.names() if name.lower().endswith(".json")][:1]
        if not names:
            entries = (e.uri for e, _ in zip(location.walk(), range(_SAMPLE), strict=False))
            names = [path for path in entries if path.lower().endswith(".json")][:1]
        return any(_is_labelme(location.read_head(name, 65_536)) for name in names)

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels; see `engine.formats.shapes.Format`."""
        location, limits = place.location, options.limits
        files = find_files(location, ["json"])
        pictures = without(files.pictures, stems(files.labels))
        items = chain(
            ((path.as_py(), True) for path in files.labels),
            ((path.as_py(), False) for path in pictures),
        )
        # the picture may be inside, as base64
        max_bytes = limits.max_label_bytes + limits.max_bytes * 4 // 3

        def read(item: tuple[str, bool]) -> Labelled:
            path, is_json = item
            if not is_json:
                return Labelled(uri=path)
            return _read(location, path, max_bytes, limits.max_label_bytes)

        return LabelSet(Header(self.name), stream(location, items, read, options.part_size))

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Writes the set; see `engine.formats.shapes.Format`."""
        left_out = LeftOut(self.name)
        is_own = labels.header.kind == self.name
        write_each(place.location, _files(labels, is_own, left_out))
        return left_out.notes()


def _is_labelme(head: bytes) -> bool:
    is_ours = b'"shapes"' in head or b'"imageData"' in head
    return is_ours and (b'"imagePath"' in head or b'"shape_type"' in head or b'"flags"' in head)


def _read(location: Location, path: str, max_bytes: int, max_label_bytes: int) -> Labelled:
    folder = path.rpartition("/")[0]
    image = Labelled(uri=changed_stem(path, ".jpg"))
    try:
        text = decode(read_bytes(location, path, max_bytes), path)
        _check_size(text, path, max_label_bytes)
        said = dict(members(text))
        _check(said, path)
        shapes = list(elements(text, said["shapes"].start)) if "shapes" in said else []
    except LabelError as err:
        image.failed(err.cause, err)
        return image
    except json.JSONDecodeError as err:
        image.failed("not_json", f"{path}: line {err.lineno}: {err.msg}")
        return image
    spelled = said["imagePath"].value if "imagePath" in said else None
    if isinstance(spelled, str) and spelled.strip("/\\ ") and _is_text(spelled):
        image.uri = picture_uri(folder, spelled)
    image.width, image.height = _side(said.get("imageWidth")), _side(said.get("imageHeight"))
    fixed = {}
    for place, shape in enumerate(shapes):
        record = text[shape.start : shape.end]
        if _stays(shape.value):
            fixed[place] = record
            continue
        try:
            image.rows.append(_row(shape.value, numbered(place, record), image, path))
        except (ValueError, TypeError, OverflowError) as err:
            image.failed("bad_labels", f"{path}: shape {place + 1}: {str(err)[:120]}")
    spans = [(shape.start, shape.end) for shape in shapes]
    if "shapes" in said:
        skeleton = replace(cut(text, spans, said["shapes"].start + 1), fixed=fixed)
        image.extra = skeleton.to_json(path=path)
    return image


def _check_size(text: str, path: str, max_label_bytes: int) -> None:
    """Looks at the size before anything is parsed; the picture inside does not count."""
    named = text.find('"imageData"')
    start = text.find('"', named + len('"imageData"')) if named >= 0 else -1
    picture = text.find('"', start + 1) - start if start >= 0 else 0
    if len(text) - picture > max_label_bytes:
        message = f"{path}: larger than limits.max_label_bytes ({max_label_bytes})"
        raise LabelError("too_many_labels", message)


def _check(said: Mapping[str, Value], path: str) -> None:
    shapes = said.get("shapes")
    if shapes is None and "imageData" not in said:
        raise LabelError("bad_labels", f"{path}: has no shapes, so it is no LabelMe file")
    if shapes is not None and not isinstance(shapes.value, list):
        raise LabelError("bad_labels", f"{path}: shapes is no list")


def _is_text(value: str) -> bool:
    """Whether every character is whole: JSON can spell half of one."""
    return not any("\ud800" <= sign <= "\udfff" for sign in value)


def _side(value: Value | None) -> int | None:
    side = value.value if value is not None else None
    if not isinstance(side, (int, float)) or not 0 < side <= _MAX_SIDE:
        return None
    return int(side)


def _stays(shape: object) -> bool:
    kind = shape.get("shape_type", "polygon") if isinstance(shape, dict) else "polygon"
    return isinstance(kind, str) and kind not in _AREAS


def _row(shape: Any, extra: str, image: Labelled, path: str) -> Row:
    """The row of a shape.

    Raises:
        ValueError: It has no label or corners, or not as many as its kind needs.
    """
    if not isinstance(shape, dict):
        raise ValueError(f"is {type(shape).__name__}, wanted an object")
    label = shape.get("label")
    if not isinstance(label, str) or not label or not _is_text(label):
        raise ValueError(
            f"label is {str(label)[:40]!r}, wanted a text".encode(errors="replace").decode()
        )
    kind = shape.get("shape_type") or "polygon"
    box, ring = _outline(kind, _points(shape.get("points")))
    score = shape.get("score")
    checked = None if score is None else finite_score(score, image, path)
    return region(
        label,
        box,
        polygon=[ring] if ring else None,
        score=checked,
        ignore=shape.get("difficult") is True,
        extra=extra,
    )


def _points(points: object) -> list[float]:
    if not isinstance(points, list) or not points:
        raise ValueError("has no points")
    flat: list[float] = []
    for point in points:
        if not isinstance(point, list) or len(point) != 2 or not all(map(_is_number, point)):  # noqa: PLR2004
            raise ValueError(f"point {str(point)[:40]} is no pair of numbers")
        flat += [float(value) for value in point]
    return flat


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _outline(kind: str, flat: list[float]) -> tuple[list[float], list[float] | None]:
    """Box and outline of a shape. A rectangle is drawn from any of its corners."""
    corners = len(flat) // 2
    needed = {"circle": 2, "mask": 2, "rectangle": 2}.get(kind, _MIN_CORNERS)
    if corners < needed:
        raise ValueError(f"{kind} with {corners} points, wanted {needed}")
    box = enclosing(flat)
    if kind == "circle":  # its centre, and a point on it
        x, y, radius = *flat[:2], math.dist(flat[:2], flat[2:4])
        return [x - radius, y - radius, x + radius, y + radius], None
    if kind == "mask":  # both corners belong to the mask
        return [*box[:2], box[2] + 1, box[3] + 1], None
    return box, None if kind == "rectangle" else flat


def _files(labels: LabelSet, is_own: bool, left_out: LeftOut) -> Iterator[tuple[str, bytes]]:
    paths = Paths()
    for part in labels.parts:
        for image, rows in images_of(part):
            own = _own_file(image, rows, left_out) if is_own else None
            if own is None and is_own and image["extra"] is None and not rows:
                continue  # it had no file, or a broken one
            path, text = own or _new_file(image, rows, left_out)
            yield paths.claim(path), text.encode()
    left_out.count("files were renamed, whose pictures share a name", paths.renamed)


def _own_file(image: Row, rows: list[Row], left_out: LeftOut) -> tuple[str, str] | None:
    skeleton = skeleton_of(image["extra"] or "")
    if skeleton is None:
        return None
    kept, added = own_and_added(rows)
    path = json.loads(image["extra"]).get("path") or changed_stem(image["uri"], ".json")
    return str(path), skeleton.join(kept, _shapes(added, left_out), comma=",")


def _new_file(image: Row, rows: list[Row], left_out: LeftOut) -> tuple[str, str]:
    shapes = "".join(f"\n    {shape}," for shape in _shapes(rows, left_out)).removesuffix(",")
    said = {
        "imagePath": image["uri"].rpartition("/")[2],
        "imageData": None,
        "imageHeight": image["height"],
        "imageWidth": image["width"],
    }
    rest = json.dumps(said, ensure_ascii=False, indent=2).removeprefix("{").removesuffix("\n}")
    text = (
        f'{{\n  "version": "{_VERSION}",\n  "flags": {{}},\n  "shapes": [{shapes}\n  ],{rest}\n}}\n'
    )
    return changed_stem(image["uri"], ".json"), text


def _shapes(rows: list[Row], left_out: LeftOut) -> list[str]:
    """Each row as a shape; one of several rings as shapes that share a group."""
    shapes = []
    groups = 0
    for row in rows:
        if row["kind"] != "region" or row["role"] != "category" or row["box"] is None:
            left_out.row(row)
            continue
        rings = row["polygon"] or []
        groups += len(rings) > 1
        if len(rings) > 1:
            left_out.count("outlines of several rings are shapes that share a group_id")
        group = groups if len(rings) > 1 else None
        shapes += [_shape(row, ring, group, bool(rings)) for ring in rings or [row["box"]]]
    return shapes


def _shape(row: Row, ring: list[float], group: int | None, is_polygon: bool) -> str:
    shape = {
        "label": row["text"],
        "points": [ring[place : place + 2] for place in range(0, len(ring), 2)],
        "group_id": group,
        "description": "",
        "shape_type": "polygon" if is_polygon else "rectangle",
        "flags": {},
    }
    if row["ignore"]:
        shape["difficult"] = True
    if row["score"] is not None:
        shape["score"] = row["score"]
    return json.dumps(shape, ensure_ascii=False)
