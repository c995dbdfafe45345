"""Records inside the text of their file: cut out, and put back where they stood, to the letter."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import msgspec

_BLANK = re.compile(r"[\s,]*")
_INDENT = re.compile(r"\s*\Z")


@dataclass(frozen=True)
class Skeleton:
    """The text of a file without its records.

    Attributes:
        head: Everything before the first record, or before the place where one would stand.
        between: What stands between each record and the next: one less than there are records.
        tail: Everything after the last.
        fixed: Records, by their number, that are no rows and so are always written.
    """

    head: str
    between: Sequence[str] = ()
    tail: str = ""
    fixed: Mapping[int, str] = field(default_factory=dict)

    def to_json(self, **more: str) -> str:
        """The skeleton as `extra` of an image, with what else the image needs."""
        fixed = {str(place): text for place, text in self.fixed.items()}
        parts = {
            "head": self.head,
            "between": list(self.between),
            "tail": self.tail,
            "fixed": fixed,
        }
        return as_json({**more, **parts})

    def join(self, kept: Mapping[int, str], added: Sequence[str] = (), comma: str = "") -> str:
        """The text with some of its records, and new ones after them.

        Args:
            kept: Records by their number, counted from 0 in the order of the text.
            added: Further records.
            comma: What must stand between two records; "" for elements of XML.

        Returns:
            With all records and none added, the text that was cut, to the letter.
        """
        records = {**self.fixed, **kept}
        leads = ["", *self.between]
        found = _INDENT.search(self.head)
        gap = f"{comma}{found[0] if found else ''}"
        out, is_first = [self.head], True
        for place in sorted({*range(len(leads)), *records}):
            lead = leads[place] if place < len(leads) else gap
            has_own = _BLANK.fullmatch(lead) is None  # something else stands there; it stays
            if has_own or (place in records and not is_first):
                out.append(lead)
            if place in records:
                out.append(records[place])
                is_first = False
        for record in added:
            out.append(record if is_first else f"{gap}{record}")
            is_first = False
        return "".join([*out, self.tail])


def skeleton_of(extra: str) -> Skeleton | None:
    """The skeleton that `to_json` spelled; null if it is something else."""
    try:
        parts = json.loads(extra)
        return Skeleton(
            str(parts["head"]),
            [str(text) for text in parts["between"]],
            str(parts["tail"]),
            {int(place): str(text) for place, text in parts["fixed"].items()},
        )
    except (ValueError, KeyError, TypeError, AttributeError):
        return None


def cut(text: str, spans: Sequence[tuple[int, int]], empty_at: int) -> Skeleton:
    """The skeleton of a text.

    Args:
        text: The whole text.
        spans: Where each record starts and ends, ascending.
        empty_at: Where a first record would stand if there is none.
    """
    if not spans:
        return Skeleton(text[:empty_at], (), text[empty_at:])
    between = [text[end:start] for (_, end), (start, _) in pairwise(spans)]
    return Skeleton(text[: spans[0][0]], between, text[spans[-1][1] :])


def numbered(place: int, record: str) -> str:
    """The `extra` of a row: its record as text, and its number in the file."""
    return as_json({"n": place, "record": record})


def as_json(value: object) -> str:
    """JSON with every character as it is; several times as fast as `json` at that."""
    return msgspec.json.encode(value).decode()


def number_and_record(extra: str | None) -> tuple[int, str] | None:
    """What `numbered` spelled; null if it is something else."""
    try:
        parts = json.loads(extra or "")
        place, record = parts["n"], parts["record"]
    except (ValueError, KeyError, TypeError):
        return None
    is_ours = isinstance(place, int) and place >= 0 and isinstance(record, str)
    return (place, record) if is_ours else None


def own_and_added(
    rows: Sequence[dict[str, Any]],
) -> tuple[dict[int, str], list[dict[str, Any]]]:
    """The records of rows that came from this file by their place in it, and the other rows."""
    own: dict[int, str] = {}
    added: list[dict[str, Any]] = []
    for row in rows:
        found = number_and_record(row["extra"])
        if found is None:
            added.append(row)
        else:
            own[found[0]] = found[1]
    return own, added


def said_of(extra: str | None) -> dict[str, Any]:
    """What `extra` holds as an object; nothing if it is something else."""
    try:
        said = json.loads(extra or "{}")
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def own_line(extra: str | None) -> str | None:
    """The line of text that `extra` holds; null if it is something else."""
    try:
        line = json.loads(extra or "")
    except ValueError:
        return None
    return line if isinstance(line, str) and "\n" not in line else None
