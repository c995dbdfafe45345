"""COCO records made from columns, for rows and images that came from elsewhere."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.formats.coco_boxes import box_texts, ring_texts
from engine.formats.coco_index import CATEGORIES

_WHOLE = re.compile(r"0|-?[1-9][0-9]{0,17}")  # fits 64 bits, and is spelled one way only


class _Numbered(msgspec.Struct):
    id: msgspec.Raw
    name: str | int | None = None


class ClassNumbers:
    """Numbers of classes: those of a `categories` section, then new ones as they are met."""

    def __init__(self, section: str | None, names: Iterable[str]) -> None:
        self._section = section or "[]"
        self._numbers: dict[str, str] = {}
        self._new: list[dict[str, Any]] = []
        self._next = 1
        known = msgspec.json.decode(self._section, type=list[_Numbered] | None) or []
        self._is_listed = bool(known)
        for each in known:
            number = bytes(each.id).decode()
            self._numbers.setdefault(str(each.name) if each.name is not None else number, number)
            if _WHOLE.fullmatch(number):
                self._next = max(self._next, int(number) + 1)
        for name in names:
            self.number(name)

    @property
    def are_new(self) -> bool:
        """Whether a class was met that the section does not list."""
        return bool(self._new)

    def known(self, name: str) -> str | None:
        """The number of a listed class, as JSON; where none are listed, a name that is a number."""
        if not self._is_listed and _WHOLE.fullmatch(name):
            return name
        return self._numbers.get(name)

    def number(self, name: str) -> str:
        """The number of a class, as JSON."""
        if name not in self._numbers:
            self._numbers[name] = str(self._next)
            self._new.append({"id": self._next, "name": name, "supercategory": ""})
            self._next += 1
        return self._numbers[name]

    def section(self) -> str:
        """The section with the new classes at its end, JSON."""
        if not self._new:
            return self._section
        old = self._section.strip().removesuffix("]").rstrip()
        new = msgspec.json.encode(self._new).decode()[1:]
        return f"{old}{'' if old == '[' else ', '}{new}" if self._is_listed else f"[{new}"


class RecordMaker:
    """Makes records, and gives them numbers no other record has.

    Args:
        content: Of a header of COCO: numbers go on where it ends; else empty.
        classes: Names that get the first numbers.
    """

    def __init__(self, content: Mapping[str, Any], classes: Iterable[str]) -> None:
        self._is_coco = bool(content)
        self._is_results = content.get("layout") == "results"
        section = content.get("sections", {}).get(CATEGORIES)
        self.classes = ClassNumbers(section, classes)
        self._next_annotation = int(content.get("next_annotation_id", 1))
        self._next_image = int(content.get("next_image_id", 1))
        self._image_numbers: set[int] = set()
        self._licences: dict[str, int] = {}
        self._lost = {"grounding": 0, "box": 0, "class": 0}

    def pictures(
        self, images: pa.Table, told: pa.ChunkedArray
    ) -> tuple[pa.StringArray, dict[int, str]]:
        """A record per image, and the numbers of those that are new, by their place.

        An image of a COCO set without a record was only mentioned: its record stays null.
        """
        extra = images["extra"].combine_chunks()
        if pc.all(told).as_py():
            return extra, {}
        records, numbers = extra.to_pylist(), {}
        columns = ("uri", "width", "height", "licence", "source_id")
        for place, image in enumerate(images.select(columns).to_pylist()):
            if told[place].as_py():
                continue
            records[place] = None
            if not (self._is_coco and image["source_id"] is not None):
                numbers[place] = str(self._image_number(image["source_id"]))
                records[place] = self._picture(numbers[place], image)
        return pa.array(records, pa.string()), numbers

    def _image_number(self, own: str | None) -> int:
        """The image's own id where it is a whole number nobody has, else the next free one."""
        number = int(own) if own is not None and _WHOLE.fullmatch(own) else -1
        if self._is_coco or number < 0 or number in self._image_numbers:
            while self._next_image in self._image_numbers:
                self._next_image += 1
            number = self._next_image
        self._image_numbers.add(number)
        return number

    def _picture(self, number: str, image: Mapping[str, Any]) -> str:
        record: dict[str, Any] = {"id": msgspec.Raw(number.encode()), "file_name": image["uri"]}
        record |= {side: image[side] for side in ("width", "height") if image[side] is not None}
        if image["licence"] is not None and not self._is_coco:
            record["license"] = self._licences.setdefault(image["licence"], len(self._licences) + 1)
        return msgspec.json.encode(record).decode()

    def image_ids(self, images: pa.Table, new: Mapping[int, str]) -> pa.StringArray:
        """The number of each image as JSON, for records that name it."""
        decoder = msgspec.json.Decoder(_Numbered)
        ids = []
        pairs = zip(images["source_id"].to_pylist(), images["extra"].to_pylist(), strict=True)
        for place, (own, extra) in enumerate(pairs):
            if place in new:
                ids.append(new[place])
            elif extra is not None:
                ids.append(bytes(decoder.decode(extra).id).decode())
            else:
                is_number = own is not None and _WHOLE.fullmatch(own)
                ids.append(own if is_number else msgspec.json.encode(own).decode())
        return pa.array(ids, pa.string())

    def licences(self) -> str:
        """The `licenses` section of the images made so far, JSON."""
        sections = [
            {"id": number, "name": name, "url": name if "://" in name else ""}
            for name, number in self._licences.items()
        ]
        return msgspec.json.encode(sections).decode()

    def regions(self, rows: pa.Table, image_ids: pa.StringArray) -> pa.StringArray:
        """Records of the regions among the rows; `image_ids` is JSON, one per row."""
        kinds = rows["kind"].cast(pa.string())
        self._lost["grounding"] += pc.sum(pc.equal(kinds, "grounding")).as_py() or 0
        boxes, areas, is_finite = box_texts(rows)
        is_region = pc.equal(kinds, "region").combine_chunks()
        self._lost["box"] += pc.sum(pc.and_not(is_region, is_finite)).as_py() or 0
        classes = self._class_numbers(rows)
        chosen = pc.and_(is_region, is_finite)
        self._lost["class"] += pc.sum(pc.and_(chosen, pc.is_null(classes))).as_py() or 0
        chosen = pc.and_(chosen, pc.is_valid(classes))
        pieces = [
            '"image_id": ',
            image_ids,
            ', "category_id": ',
            classes,
            boxes,
            ring_texts(rows["polygon"].combine_chunks()),
            *([] if self._is_results else [areas, _crowd_texts(rows)]),
            _score_texts(rows["score"], "score"),
            _score_texts(rows["text_score"], "text_score"),
            _own_texts(rows),
            "}",
        ]
        bodies = pc.binary_join_element_wise(*pieces, "").filter(chosen)
        return self._numbered(bodies, rows["source_id"].filter(chosen))

    def _class_numbers(self, rows: pa.Table) -> pa.StringArray:
        """Per row, as JSON; null where the layout cannot add a class."""
        roles = rows["role"].cast(pa.string())
        names = pc.if_else(pc.equal(roles, "category"), rows["text"], roles).combine_chunks()
        distinct = names.dictionary_encode()
        is_region = pc.equal(rows["kind"].cast(pa.string()), "region").combine_chunks()
        met = set(distinct.indices.filter(is_region).to_pylist())
        number = self.classes.known if self._is_results else self.classes.number
        numbers = [
            number(name) if place in met else None
            for place, name in enumerate(distinct.dictionary.to_pylist())
        ]
        return pa.array(numbers, pa.string()).take(distinct.indices)

    def captions(self, rows: pa.Table, image_ids: pa.StringArray) -> pa.StringArray:
        """Records of the texts among the rows."""
        is_text = pc.equal(rows["kind"].cast(pa.string()), "text").combine_chunks()
        texts = rows["text"].filter(is_text).to_pylist()
        bodies = pc.binary_join_element_wise(
            '"image_id": ',
            image_ids.filter(is_text),
            ', "caption": ',
            pa.array([msgspec.json.encode(text).decode() for text in texts], pa.string()),
            _score_texts(rows["score"].filter(is_text), "score"),
            "}",
            "",
        )
        return self._numbered(bodies, rows["source_id"].filter(is_text))

    def _numbered(self, bodies: pa.StringArray, own: pa.ChunkedArray) -> pa.StringArray:
        """Records with a number each, but results, which have none."""
        if self._is_results or len(bodies) == 0:
            return pc.binary_join_element_wise("{", bodies, "")
        numbers = np.arange(self._next_annotation, self._next_annotation + len(bodies))
        if not self._is_coco and own.null_count == 0:
            spelled = own.to_pylist()
            if all(_WHOLE.fullmatch(each) for each in spelled):
                ids = np.array(spelled, np.int64)
                # ids that only rise are no two the same, whatever comes later
                if ids[0] >= self._next_annotation and (np.diff(ids) > 0).all():
                    numbers = ids
        self._next_annotation = int(numbers[-1]) + 1
        return pc.binary_join_element_wise(
            '{"id": ', pa.array(numbers).cast(pa.string()), ", ", bodies, ""
        )

    def notes(self) -> list[str]:
        """What was left out so far, one sentence each."""
        said = {
            "grounding": "phrases of texts are left out: COCO has no spans of a caption",
            "box": "boxes with NaN or infinity are left out: JSON has no such number",
            "class": "regions are left out: results name classes by number, theirs have none",
        }
        return [f"{count} {said[what]}" for what, count in self._lost.items() if count]


def _crowd_texts(rows: pa.Table) -> pa.StringArray:
    ignored = rows["ignore"].combine_chunks().fill_null(False)
    return pc.if_else(ignored, ', "iscrowd": 1', ', "iscrowd": 0')


def _score_texts(scores: pa.ChunkedArray, key: str) -> pa.StringArray:
    """`, "score": 0.5` in the fewest digits that give the same float32; nothing for null."""
    column = scores.combine_chunks()
    column = pc.if_else(pc.is_finite(column), column, pa.scalar(None, column.type))
    texts = pc.binary_join_element_wise(f', "{key}": ', column.cast(pa.string()), "")
    return texts.fill_null("")


def _own_texts(rows: pa.Table) -> pa.StringArray:
    """Role and text of regions that are no class."""
    roles = rows["role"].cast(pa.string()).to_pylist()
    if all(role == "category" for role in roles):
        return pa.repeat("", rows.num_rows)
    return pa.array(
        [
            ""
            if role == "category"
            else f', "role": "{role}", "text": {msgspec.json.encode(text).decode()}'
            for role, text in zip(roles, rows["text"].to_pylist(), strict=True)
        ],
        pa.string(),
    )
