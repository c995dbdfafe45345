"""Rows of our tables out of COCO records: the second of two passes, some images at a time."""

import itertools
from typing import Any, NamedTuple
from urllib.parse import urlsplit

import msgspec
import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.formats.coco_classes import Classes
from engine.formats.coco_outlines import outline_box, outlines
from engine.formats.failed_images import FailedImages
from engine.formats.json_decode import NO_ID, Flaw, RecordDecoder
from engine.schema import ROLES, claims, empty_claims

Floats = npt.NDArray[np.float32]

_SIDES = 4
_NO_SIDES = [float("nan")] * _SIDES
_NULL = msgspec.Raw(b"null")


class Annotation(msgspec.Struct, gc=False):
    """What we take of an annotation or result; `text` and `role` are written by our own export."""

    id: int | float | str | None = NO_ID
    category_id: int | float | str | None = None
    bbox: list[float] | None = None
    score: float | None = None
    caption: str | None = None
    iscrowd: bool | int | float | None = None
    ignore: bool | int | float | None = None
    segmentation: msgspec.Raw = _NULL
    text: Any = None
    role: Any = None
    text_score: Any = None


_NOTHING = Annotation(caption="")  # stands for a record that could not be taken


class Picture(msgspec.Struct, gc=False):
    """What we take of an image record; LVIS names its pictures by their address alone."""

    id: int | float | str | None = NO_ID
    file_name: str | None = None
    width: int | float | None = None
    height: int | float | None = None
    license: Any = None
    coco_url: str | None = None

    def uri(self) -> str | None:
        """The name of the picture; null where the record has none."""
        if self.file_name is not None or not self.coco_url:
            return self.file_name
        return urlsplit(self.coco_url).path.lstrip("/") or None


class Found(NamedTuple):
    """Annotations of some images, in the order of these images.

    `images` is the place of the image among those of the part, `names` how a message calls each
    record where it has no id.
    """

    texts: pa.StringArray
    images: npt.NDArray[np.int64]
    starts: npt.NDArray[np.int64]


class RowMaker:
    """Makes rows; holds what all parts of a set share.

    Args:
        classes: Of the set.
        where: The file, for messages.
    """

    def __init__(self, classes: Classes, where: str) -> None:
        self._classes = classes
        self._where = where
        self._names = pa.array(classes.names, pa.string())
        self._decoder = RecordDecoder(Annotation)

    def rows(self, found: Found, failed: FailedImages) -> pa.Table:
        """A row per annotation that can be taken; what cannot is added to `failed`."""
        if len(found.texts) == 0:
            return empty_claims()
        records: list[Any] = list(self._decoder.each(found.texts))
        flaws = _Flaws(self._where, found, records, failed)
        for place, record in enumerate(records):
            if isinstance(record, Flaw):
                records[place] = _NOTHING
                flaws.add(place, *record)
        class_of = self._class_places(records, flaws)
        boxes, has_box = _boxes(records, flaws)
        scores = _scores(records, flaws)
        self._check_said(records, class_of, flaws)
        polygons = _polygons(records, flaws)
        keep = ~flaws.dropped
        if keep.all():
            kept, extra, images = records, found.texts, found.images
        else:
            kept = [record for record, good in zip(records, keep.tolist(), strict=True) if good]
            extra, images = found.texts.filter(pa.array(keep)), found.images[keep]
            boxes, has_box = boxes[keep], has_box[keep]
            scores, class_of = scores[keep], class_of[keep]
            polygons = polygons.filter(pa.array(keep))
        kinds, roles, texts = self._said(kept, class_of)
        kinds, roles, prompts = _of_whole_images(kinds, roles, has_box, polygons)
        return claims(
            image_key=pa.array(images).cast(pa.string()),
            kind=kinds,
            role=roles,
            text=texts,
            box=_box_column(boxes, has_box),
            polygon=polygons,
            score=pa.array(scores, mask=np.isnan(scores)),
            text_score=_text_scores(kept),
            prompt=prompts,
            ignore=pa.array([bool(each.iscrowd or each.ignore) for each in kept]),
            source_id=_spelled_all([each.id for each in kept]),
            extra=extra,
        )

    def _class_places(self, records: list[Any], flaws: "_Flaws") -> npt.NDArray[np.int64]:
        """Place of the class of each record among the names; -1 where it has none."""
        if not self._classes.are_known:
            return np.full(len(records), -1)
        places = self._classes.places
        none = len(self._names)
        numbers = [None if each.caption is not None else each.category_id for each in records]
        class_of = np.array([places.get(number, none) for number in numbers], np.int64)
        for place in np.flatnonzero(class_of == none).tolist():
            class_of[place] = -1
            if numbers[place] is not None:
                flaws.add(
                    place, "unknown_category", f"category_id {numbers[place]} is not in categories"
                )
        return class_of

    def _check_said(
        self, records: list[Any], class_of: npt.NDArray[np.int64], flaws: "_Flaws"
    ) -> None:
        """Whether each record has a class or a text."""
        silent = [each.category_id is None and each.caption is None for each in records]
        if any(silent):
            for place in np.flatnonzero(silent).tolist():
                if _own_role(records[place]) is None:
                    flaws.add(place, "bad_labels", "neither category_id nor caption")

    def _said(self, records: list[Any], class_of: npt.NDArray[np.int64]) -> tuple[Any, Any, Any]:
        """Columns kind, role and text."""
        own = [each.role is not None and _own_role(each) for each in records]
        if not any(own) and not _any_given([each.caption for each in records]):
            if self._classes.are_known:
                return "region", "category", self._names.take(pa.array(class_of))
            texts = [None if (n := each.category_id) is None else str(n) for each in records]
            return "region", "category", pa.array(texts, pa.string())
        kinds, roles, texts = [], [], []
        for each, place, role in zip(records, class_of.tolist(), own, strict=True):
            if each.caption is not None:
                said = ("text", "brief", each.caption)
            elif role:
                said = ("region", role, each.text)
            elif place >= 0:
                said = ("region", "category", self._classes.names[place])
            else:
                said = ("region", "category", _spelled(each.category_id))
            kinds.append(said[0])
            roles.append(said[1])
            texts.append(said[2])
        return kinds, roles, texts


class _Flaws:
    """Which records of a part are dropped, and why."""

    def __init__(self, where: str, found: Found, records: list[Any], failed: FailedImages) -> None:
        self.dropped = np.zeros(len(records), bool)
        self._where, self._found, self._records, self._failed = where, found, records, failed

    def add(self, place: int, cause: str, message: str, *, drop: bool = True) -> None:
        """The first flaw of a record is told."""
        if self.dropped[place]:
            return
        self.dropped[place] = drop
        own = _spelled(self._records[place].id)
        start = int(self._found.starts[place]) + 1
        name = f"the record at byte {start}" if own is None else f"annotation {own}"
        self._failed.add(int(self._found.images[place]), cause, f"{self._where}: {name}: {message}")


def _of_whole_images(
    kinds: Any, roles: Any, has_box: npt.NDArray[np.bool_], polygons: pa.Array
) -> tuple[Any, Any, Any]:
    """Columns kind, role and prompt: a class without a place is one of the whole image.

    As in other sources (`engine.source.labels`) it is a text of role `alt` and prompt `cls`.
    """
    placed = has_box | polygons.is_valid().to_numpy(zero_copy_only=False)
    if placed.all():
        return kinds, roles, None
    number = len(placed)
    kinds = np.array(kinds if isinstance(kinds, list) else [kinds] * number, object)
    roles = np.array(roles if isinstance(roles, list) else [roles] * number, object)
    bare = ~placed & (kinds == "region") & (roles == "category")
    kinds[bare], roles[bare] = "text", "alt"
    return kinds.tolist(), roles.tolist(), ["cls" if each else None for each in bare.tolist()]


def _own_role(record: Any) -> str | None:
    """The role under which our own export wrote a region that has no class."""
    is_ours = record.role in ROLES["region"] and record.role != "category"
    is_said = isinstance(record.text, str) or (record.role == "proposal" and record.text is None)
    return record.role if is_ours and is_said else None


def _spelled(number: Any) -> str | None:
    return None if number is None or number == NO_ID else str(number)


def _spelled_all(numbers: list[Any]) -> pa.Array:
    if numbers.count(NO_ID) == len(numbers):
        return pa.nulls(len(numbers), pa.string())
    return pa.array(list(map(_spelled, numbers)), pa.string())


def _any_given(values: list[Any]) -> bool:
    return values.count(None) < len(values)


def _boxes(records: list[Any], flaws: _Flaws) -> tuple[npt.NDArray[np.float64], Any]:
    """Boxes xyxy, shape (n, 4), float64, and which records have one."""
    sides = [each.bbox or _NO_SIDES for each in records]
    if set(map(len, sides)) != {_SIDES}:
        for place, each in enumerate(sides):
            if len(each) != _SIDES:
                flaws.add(place, "bad_labels", f"bbox of {len(each)} numbers; wanted x, y, w, h")
                sides[place] = _NO_SIDES
    flat = np.fromiter(itertools.chain.from_iterable(sides), np.float64, _SIDES * len(sides))
    boxes = flat.reshape(-1, _SIDES)
    with np.errstate(invalid="ignore", over="ignore"):  # infinite boxes are claims as well
        boxes[:, 2:] += boxes[:, :2]
    has_box = np.array([each is not _NO_SIDES for each in sides])
    if not has_box.all():
        for place in np.flatnonzero(~has_box).tolist():
            box = _outline_box(records[place], place, flaws)
            if box is not None:
                boxes[place], has_box[place] = box, True
    return boxes, has_box


def _outline_box(record: Any, place: int, flaws: _Flaws) -> list[float] | None:
    """The box around the segmentation of a record that has no box."""
    try:
        return outline_box(bytes(record.segmentation))
    except (ValueError, OverflowError) as err:
        flaws.add(place, "bad_labels", f"segmentation: {err}")
    return None


def _scores(records: list[Any], flaws: _Flaws) -> Floats:
    """Scores as float32, NaN where a record has none."""
    given = [each.score for each in records]
    with np.errstate(over="ignore"):
        scores = np.array(given, np.float64).astype(np.float32)
    for place in np.flatnonzero(~np.isfinite(scores)).tolist():
        if given[place] is not None:
            flaws.add(place, "bad_labels", f"score is {given[place]}; wanted a finite number")
    return scores


def _text_scores(records: list[Any]) -> pa.Array | None:
    given = [each.text_score for each in records]
    if not _any_given(given):
        return None
    given = [each if isinstance(each, float) else None for each in given]
    scores = np.array(given, np.float32)
    return pa.array(scores, mask=~np.isfinite(scores))


def _polygons(records: list[Any], flaws: _Flaws) -> pa.Array:
    """Rings of every record, null where it has none; a broken ring is told and left out."""
    given = [each.segmentation for each in records]
    column, broken = outlines([b"" if each is _NULL else bytes(each) for each in given])
    for place in broken:
        flaws.add(
            place,
            "bad_labels",
            "segmentation that is no rings of x, y; left out, its box is kept",
            drop=False,
        )
    return column


def _box_column(boxes: npt.NDArray[np.float64], has_box: npt.NDArray[np.bool_]) -> pa.Array:
    with np.errstate(over="ignore"):
        flat = pa.array(boxes.astype(np.float32).reshape(-1))
    if has_box.all():
        return pa.FixedSizeListArray.from_arrays(flat, _SIDES)
    return pa.FixedSizeListArray.from_arrays(flat, _SIDES, mask=pa.array(~has_box))
