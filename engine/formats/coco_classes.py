"""Classes and licences as a COCO file numbers them."""

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from engine.errors import LabelsError


class _Category(msgspec.Struct):
    id: int | float | str
    name: str | int | None = None


class _Licence(msgspec.Struct):
    id: int | float | str | None = None
    name: str | None = None
    url: str | None = None


class Classes(NamedTuple):
    """Names of classes, in the order of their numbers.

    Attributes:
        names: One per class; the number itself for a class without a name.
        places: Of a class among `names`, by its number.
        are_known: Whether the set lists its classes; else every number is taken as a name.
        notes: Numbers and names that stand twice.
    """

    names: list[str]
    places: dict[Any, int]
    are_known: bool
    notes: list[str]


def read_classes(section: str | None, given: Sequence[str], where: str) -> Classes:
    """The classes of a `categories` section.

    Args:
        section: Its JSON; null where there is none.
        given: Names to take where the section has none: the first is number 0.
        where: The file, for messages.

    Raises:
        LabelsError: The section is no list of categories.
    """
    try:
        categories = msgspec.json.decode(section or "[]", type=list[_Category] | None) or []
    except msgspec.DecodeError as err:
        raise LabelsError(
            f"{where}: `categories` cannot be read: {err}; wanted records with id and name"
        ) from err
    if not categories and given:
        return Classes(list(given), {n: n for n in range(len(given))}, True, [])
    by_id: dict[Any, str] = {}
    for category in categories:
        name = category.id if category.name is None else category.name
        by_id.setdefault(category.id, str(name))
    notes = _repeats([each.id for each in categories], "category ids", "the first name is taken")
    notes += _repeats(list(by_id.values()), "category names", "their classes become one")
    order = sorted(by_id, key=lambda number: (isinstance(number, str), number))
    places = {number: place for place, number in enumerate(order)}
    return Classes([by_id[number] for number in order], places, bool(by_id), notes)


def _repeats(values: list[Any], what: str, so: str) -> list[str]:
    repeated = [value for value, count in Counter(values).items() if count > 1]
    if not repeated:
        return []
    return [f"{len(repeated)} {what} stand more than once, such as {repeated[0]!r}; {so}"]


def read_licences(section: str | None) -> Mapping[Any, str]:
    """Names of licences by their numbers, addresses where they have no name; none if unreadable."""
    try:
        licences = msgspec.json.decode(section or "[]", type=list[_Licence] | None) or []
    except msgspec.DecodeError:  # nothing rests on it, and it is written back as it is
        return {}
    return {each.id: each.name or each.url or "" for each in licences if each.name or each.url}
