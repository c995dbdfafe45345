"""True sentences about a plain scene, of few words and in one right order.

One phrasing for one scene, no capitals (a word is one word wherever it stands), shapes from left to
right: what a tiny model can learn to say word for word.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

from engine.synthetic.relations import Box, direction, position

_NUMBERS = ("no", "one", "two", "three")


class PlainShape(NamedTuple):
    """One object of a plain scene."""

    name: str
    colour: str
    size: str  # small, medium or large
    box: Box  # xyxy in pixels


class Phrase(NamedTuple):
    """A part of the brief caption and the shapes it names."""

    start: int  # code points, half-open
    end: int
    places: tuple[int, ...]  # in the scene's shapes; as many as it counts


@dataclass(frozen=True)
class PlainCaptions:
    """The texts of one scene, by role."""

    brief: str  # shapes by colour
    detailed: str  # with size, and the background
    more_detailed: str  # how many, a sentence per shape with its place, where neighbours stand
    phrases: tuple[Phrase, ...]  # of `brief`, in its order; together they name every shape


def describe_plain(
    shapes: Sequence[PlainShape], backdrop: str, width: int, height: int
) -> PlainCaptions:
    """Captions of shapes given from left to right.

    Example:
        >>> red = PlainShape("circle", "red", "small", (0.0, 0.0, 12.0, 12.0))
        >>> blue = PlainShape("square", "blue", "large", (36.0, 0.0, 64.0, 28.0))
        >>> print(describe_plain([red, blue], "gray", 64, 64).more_detailed)
        two shapes are on a gray background. a small red circle is in the top left. a large blue \
square is in the top right. the red circle is left of the blue square.
    """
    named = [f"{shape.colour} {shape.name}" for shape in shapes]
    whole = [f"{shape.size} {name}" for shape, name in zip(shapes, named, strict=True)]
    background = f"on {_article(f'{backdrop} background')}"
    verb = "is" if len(shapes) == 1 else "are"
    noun = "shape" if len(shapes) == 1 else "shapes"
    groups = _counted(named)
    brief = f"{_listed(list(groups))}."
    told = [f"{_NUMBERS[len(shapes)]} {noun} {verb} {background}"]
    told += [
        f"{_article(name)} is {position(shape.box, width, height)}"
        for shape, name in zip(shapes, whole, strict=True)
    ]
    told += _directions(shapes, named, whole)
    return PlainCaptions(
        brief=brief,
        detailed=f"there {verb} {_listed(list(_counted(whole)))} {background}.",
        more_detailed=". ".join(told) + ".",
        phrases=_found(groups, brief),
    )


def describe_shape(shape: PlainShape) -> str:
    """What one shape looks like: "a small red circle"."""
    return _article(f"{shape.size} {shape.colour} {shape.name}")


def _counted(names: Sequence[str]) -> dict[str, tuple[int, ...]]:
    """Equal names together, with their places: {"a red heart": (0,), "two blue rings": (1, 2)}."""
    places = {name: tuple(i for i, n in enumerate(names) if n == name) for name in names}
    return {
        _article(name) if len(same) == 1 else f"{_NUMBERS[len(same)]} {_plural(name)}": same
        for name, same in places.items()
    }


def _found(groups: dict[str, tuple[int, ...]], brief: str) -> tuple[Phrase, ...]:
    """Where each group stands in the text that lists them in that order."""
    phrases, start = [], 0
    for text, places in groups.items():
        start = brief.index(text, start)
        phrases.append(Phrase(start, start + len(text), places))
        start += len(text)
    return tuple(phrases)


def _directions(
    shapes: Sequence[PlainShape], named: Sequence[str], whole: Sequence[str]
) -> list[str]:
    """Where each shape is from the next, as far as both can be named without doubt."""
    told = []
    for i, j in pairwise(range(len(shapes))):
        said = direction(shapes[i].box, shapes[j].box)
        subject, object_ = (_unique(named, whole, place) for place in (i, j))
        if said and subject and object_:
            told.append(f"the {subject} is {said} the {object_}")
    return told


def _unique(named: Sequence[str], whole: Sequence[str], place: int) -> str | None:
    """The shortest name that fits this shape alone; null where even the whole one does not."""
    fits = (names[place] for names in (named, whole) if names.count(names[place]) == 1)
    return next(fits, None)


def _plural(name: str) -> str:
    return f"{name}es" if name.endswith("s") else f"{name}s"


def _article(name: str) -> str:
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _listed(items: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))
