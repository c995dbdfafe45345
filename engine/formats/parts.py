"""Parts of a label set: gathered image by image while reading, taken apart again for writing."""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.failures import Failure
from engine.formats.shapes import LabelSet, Part
from engine.schema import claims, image_rows

_ENCODER = json.JSONEncoder(separators=(",", ":"))
_TELLING = ["image_key", "kind", "text", "source_id", "extra"]
_OF_IMAGE = ["image_key", "uri", "width", "height", "licence", "source_id", "extra"]


class PartBuilder:
    """Gathers images and their rows into one part."""

    def __init__(self) -> None:
        self._images: list[dict[str, Any]] = []
        self._rows: list[dict[str, Any]] = []

    def __len__(self) -> int:
        return len(self._images)

    def add(
        self,
        image: Mapping[str, Any],
        rows: Sequence[Mapping[str, Any]],
        failures: Sequence[Failure] = (),
        status: str = "ok",
    ) -> None:
        """Adds an image (columns of the images table) with the rows on it (columns of claims)."""
        key = str(len(self._images))
        told = [failure._asdict() for failure in failures]
        self._images.append({**image, "image_key": key, "status": status, "failures": told})
        self._rows.extend({**row, "image_key": key} for row in rows)

    def take(self) -> Part:
        """The part, and begins another."""
        images, rows = self._images, self._rows
        self._images, self._rows = [], []
        return Part(image_rows(**_columns(images)), claims(**_columns(rows)))


def _columns(records: list[dict[str, Any]]) -> dict[str, list[Any]]:
    names = dict.fromkeys(name for record in records for name in record)
    # what a record does not say is null, but for what is never null
    usual = {"human": False, "ignore": False, "round": 0}
    return {name: [r.get(name, usual.get(name)) for r in records] for name in names}


class Repeats:
    """Counts how often each name came before, at 8 bytes a name: sets of labels may be large."""

    def __init__(self) -> None:
        self._sorted: list[npt.NDArray[np.int64]] = []

    def count(self, names: Sequence[str]) -> list[int]:
        """Of each name, how often it came before, in earlier calls or earlier in this one."""
        hashes = np.array([hash(name) for name in names], np.int64)
        before = np.zeros(len(names), np.int64)
        for known in self._sorted:
            before += np.searchsorted(known, hashes, "right") - np.searchsorted(known, hashes)
        here: Counter[str] = Counter()
        counts = []
        for name, count in zip(names, before.tolist(), strict=True):
            counts.append(count + here[name])
            here[name] += 1
        self._add(np.sort(hashes))
        return counts

    def _add(self, hashes: npt.NDArray[np.int64]) -> None:
        # arrays double in length, so that there are few to look into and each is sorted seldom
        while self._sorted and len(self._sorted[-1]) <= len(hashes):
            hashes = np.sort(np.concatenate([self._sorted.pop(), hashes]), kind="stable")
        self._sorted.append(hashes)


class Labelled(NamedTuple):
    """One image of a set with the rows on it, each as its columns."""

    image: dict[str, Any]
    rows: list[dict[str, Any]]


def labelled_images(labels: LabelSet, *, is_own: bool) -> Iterator[Labelled]:
    """Every image with its rows, in order.

    Rows that all have a record of the format (`is_own`) come with the columns alone that tell which
    they are: their record says the rest.
    """
    for part in labels.parts:
        by_key: dict[str, list[dict[str, Any]]] = defaultdict(list)
        has_records = is_own and not part.rows["extra"].null_count
        for row in (part.rows.select(_TELLING) if has_records else part.rows).to_pylist():
            by_key[row["image_key"]].append(row)
        for image in part.images.select(_OF_IMAGE).to_pylist():
            yield Labelled(image, by_key.get(image["image_key"], []))


class Losses:
    """What could not be said in a format, counted."""

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()

    def note(self, what: str, count: int = 1) -> None:
        """Counts something; `what` reads on after a number: "scores have no place here"."""
        self._counts[what] += count

    def sentences(self) -> list[str]:
        """One sentence for each thing."""
        return [f"{count} {what}" for what, count in self._counts.items() if count]


def own_record(row: Mapping[str, Any], is_own: bool) -> Any:
    """The verbatim record of a row or image that came from the format; null where it has none."""
    extra = row.get("extra")
    if not is_own or extra is None:
        return None
    try:
        return json.loads(extra)
    except ValueError:  # somebody else's words; they are no record of the format
        return None


def dump(value: Any) -> str:
    """Compact JSON in ASCII: any text at all fits into an Arrow column."""
    return _ENCODER.encode(value)


def spell(value: Any, like: str, *, compact: bool = False) -> str:
    """JSON as a text of it was spelt: in ASCII where that was, or where it escapes half characters.

    Half a surrogate pair can be escaped and not encoded.
    """
    has_half = "\\ud" in like.lower() or any("\ud800" <= char <= "\udfff" for char in like)
    is_ascii = like.isascii() or has_half
    separators = (",", ":") if compact else (", ", ": ")
    return json.dumps(value, ensure_ascii=is_ascii, separators=separators)
