"""What formats share that keep an image and all that is said of it in one JSON record."""

import json
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import LabelsError
from engine.formats.json_file import JsonFile
from engine.formats.json_records import Value, read_records, refusal
from engine.formats.shapes import Part

_MAX_SIDE = 2**31 - 1  # the column is int32
_MEMBERS = msgspec.json.Decoder(dict[str, msgspec.Raw])
_ELEMENTS = msgspec.json.Decoder(list[msgspec.Raw])
_LENIENT = json.JSONDecoder()


def image_batches(
    file: JsonFile, part_size: int, wanted: str
) -> Iterator[tuple[pa.StringArray, list[int]]]:
    """Records of a document that is an array, some at a time, with their bytes in the file.

    Args:
        file: At its start.
        part_size: Records in a batch, at most.
        wanted: What the file should have been, for the message.

    Raises:
        LabelsError: The document is no array of records, or is broken.
    """
    for window in read_records(file, ()):
        if isinstance(window, Value):
            raise LabelsError(f"{file.name}: is one JSON object; wanted {wanted}")
        for first in range(0, len(window.starts), part_size):
            chosen = slice(first, first + part_size)
            starts, ends = window.starts[chosen].tolist(), window.ends[chosen].tolist()
            texts = [window.data[s:e].decode() for s, e in zip(starts, ends, strict=True)]
            yield pa.array(texts, pa.string()), [window.offset + start for start in starts]


def broken_record(file: JsonFile, offset: int, message: str) -> LabelsError:
    """The error for a record that is no JSON."""
    return refusal(file, offset, f"a record that is no JSON: {message}")


def members(record: str) -> dict[str, bytes]:
    """The members of a JSON object, verbatim, in their order; none of anything else."""
    if not record.startswith("{"):
        return {}
    try:
        found = _MEMBERS.decode(record.encode())
    except msgspec.DecodeError:  # NaN or infinity, as Python spells them
        return dict(_lenient_members(record))
    return {key: bytes(value) for key, value in found.items()}


def elements(array: bytes) -> list[bytes]:
    """The elements of a JSON array, verbatim, in their order."""
    try:
        return [bytes(each) for each in _ELEMENTS.decode(array)]
    except msgspec.DecodeError:  # as above
        return list(_lenient_elements(array.decode()))


def _lenient_members(text: str) -> Iterator[tuple[str, bytes]]:
    place = _skipped(text, 1)
    while text[place] != "}":
        key, place = _LENIENT.raw_decode(text, place)
        start = _skipped(text, _skipped(text, place) + 1)  # after the colon
        _, place = _LENIENT.raw_decode(text, start)
        yield key, text[start:place].encode()
        place = _skipped(text, place)
        place = _skipped(text, place + 1) if text[place] == "," else place


def _lenient_elements(text: str) -> Iterator[bytes]:
    place = _skipped(text, 1)
    while text[place] != "]":
        start = place
        _, place = _LENIENT.raw_decode(text, start)
        yield text[start:place].encode()
        place = _skipped(text, place)
        place = _skipped(text, place + 1) if text[place] == "," else place


def _skipped(text: str, place: int) -> int:
    while text[place] in " \t\r\n":
        place += 1
    return place


def with_members(found: Mapping[str, bytes]) -> str:
    """The object that `members` took apart."""
    pairs = [msgspec.json.encode(key) + b": " + value for key, value in found.items()]
    return (b"{" + b", ".join(pairs) + b"}").decode()


def known_side(side: float | None) -> int | None:
    """A width or height, px; null where it is not told, or is none that the column can hold."""
    return int(side) if side is not None and 0 < side <= _MAX_SIDE else None


def rows_by_image(part: Part) -> Iterator[tuple[dict[str, Any], list[dict[str, Any]]]]:
    """Each image of a part as a mapping of its columns, with its rows likewise, in their order."""
    columns = ["kind", "role", "text", "box", "polygon", "score", "text_score", "annotation_id"]
    columns += ["region_id", "source", "model", "revision", "human", "source_id", "extra"]
    keys = part.images["image_key"].combine_chunks()
    places = pc.index_in(part.rows["image_key"], keys).to_numpy()
    order = np.argsort(places, kind="stable")
    borders = np.searchsorted(places[order], np.arange(len(keys) + 1))
    rows = part.rows.select(columns).take(pa.array(order)).to_pylist()
    for place, image in enumerate(part.images.to_pylist()):
        yield image, rows[borders[place] : borders[place + 1]]
