"""Writing Visual Genome's region descriptions."""

import tempfile
from collections import Counter
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa

from engine.formats.coco_boxes import as_decimals
from engine.formats.image_records import members, rows_by_image, with_members
from engine.formats.shapes import LabelSet, Place

_NAME = "visual_genome"


def write_visual_genome(place: Place, labels: LabelSet) -> list[str]:
    """Writes a set of labels as an array of images, each with its regions.

    Images and regions that came from such a file are written as they were. Regions from elsewhere
    are described by their text, whatever their role.

    Returns:
        What could not be written, one sentence each.
    """
    maker = _Maker(labels.header.kind == _NAME)
    with tempfile.NamedTemporaryFile() as out:
        separator = b"["
        for part in labels.parts:
            for image, rows in rows_by_image(part):
                out.write(separator + maker.record(image, rows).encode())
                separator = b",\n"
        out.write(b"]\n" if separator != b"[" else b"[]\n")
        out.flush()
        with pa.memory_map(out.name) as mapped:
            place.location.write(place.path, mapped.read_buffer())
    return maker.notes()


class _Maker:
    def __init__(self, is_own: bool) -> None:
        self._is_own = is_own
        self._lost: Counter[str] = Counter()
        self._images: set[int] = set()
        self._next_region = 1

    def record(self, image: dict[str, Any], rows: list[dict[str, Any]]) -> str:
        number = self._image_number(image)
        regions = []
        for row in rows:
            if self._is_own and row["extra"] is not None:
                regions.append(row["extra"])
            elif (region := self._region(row, number)) is not None:
                regions.append(region)
        if not self._is_own or image["extra"] is None:
            found = {"id": msgspec.json.encode(number)}
        else:
            found = members(image["extra"])
            if found.get("regions") != b"[]":  # could not be taken apart when it was read
                return str(image["extra"])
        return with_members({**found, "regions": f"[{', '.join(regions)}]".encode()})

    def _image_number(self, image: dict[str, Any]) -> int | str:
        own = image["source_id"]
        if self._is_own and own is not None:
            return int(own) if own.isdecimal() else str(own)
        number = int(own) if own is not None and own.isdecimal() else 0
        while number < 1 or number in self._images:
            number = max(len(self._images), number) + 1
        self._images.add(number)
        return number

    def _region(self, row: dict[str, Any], image: int | str) -> str | None:
        if row["kind"] != "region":
            self._lost[f"rows of kind {row['kind']} are left out: there are only regions"] += 1
            return None
        if row["box"] is None or row["text"] is None or not np.isfinite(row["box"]).all():
            self._lost["regions without a box or a text are left out"] += 1
            return None
        if row["score"] is not None:
            self._lost["scores are left out: descriptions have none"] += 1
        x, y, right, bottom = as_decimals(np.array(row["box"], np.float32)).tolist()
        own = row["source_id"]
        if own is not None and own.isdecimal() and int(own) >= self._next_region:
            self._next_region = int(own)
        record = {
            "region_id": self._next_region,
            "width": round(right - x, 10),
            "height": round(bottom - y, 10),
            "image_id": image,
            "phrase": row["text"],
            "y": y,
            "x": x,
        }
        self._next_region += 1
        return msgspec.json.encode(record).decode()

    def notes(self) -> list[str]:
        return [f"{count} {what}" for what, count in self._lost.items()]
