"""Where the values of a JSON object stand in its text, so that they can be kept to the letter."""

import json
import re
from collections.abc import Callable, Generator, Iterator
from typing import Any, NamedTuple

_BLANK = re.compile(r"[ \t\n\r]*")
_DECODER = json.JSONDecoder()


class Value(NamedTuple):
    """A value and where its text starts and ends, end exclusive."""

    value: Any
    start: int
    end: int


def members(text: str) -> Iterator[tuple[str, Value]]:
    """The members of the one object that a text holds, in order.

    Raises:
        ValueError: It is no JSON object; says the line.
    """
    place = _expect(text, _skip(text, 1 if text.startswith("\ufeff") else 0), "{")
    place = yield from _items(text, place, "}", _member)
    if _skip(text, place) != len(text):
        raise json.JSONDecodeError("more after the object", text, place)


def elements(text: str, start: int) -> Iterator[Value]:
    """The elements of the array that starts there."""
    yield from _items(text, _expect(text, start, "["), "]", _value)


def _items(
    text: str, place: int, close: str, read: Callable[[str, int], tuple[Any, int]]
) -> Generator[Any, None, int]:
    place = _skip(text, place)
    if text[place : place + 1] == close:
        return place + 1
    while True:
        item, place = read(text, place)
        yield item
        place = _skip(text, place)
        if text[place : place + 1] == close:
            return place + 1
        place = _skip(text, _expect(text, place, ","))


def _value(text: str, place: int) -> tuple[Value, int]:
    try:
        value, end = _DECODER.raw_decode(text, place)
    except RecursionError as err:
        raise json.JSONDecodeError("nested too deeply", text, place) from err
    except json.JSONDecodeError:
        raise
    except ValueError as err:  # a whole number of more digits than Python converts
        raise json.JSONDecodeError(str(err).partition(";")[0], text, place) from err
    return Value(value, place, end), end


def _member(text: str, place: int) -> tuple[tuple[str, Value], int]:
    name, place = _value(text, place)
    if not isinstance(name.value, str):
        raise json.JSONDecodeError("expecting a name", text, name.start)
    value, place = _value(text, _skip(text, _expect(text, _skip(text, place), ":")))
    return (name.value, value), place


def _skip(text: str, place: int) -> int:
    found = _BLANK.match(text, place)
    return found.end() if found else place


def _expect(text: str, place: int, sign: str) -> int:
    if text[place : place + 1] != sign:
        raise json.JSONDecodeError(f"expecting {sign!r}", text, place)
    return place + 1
