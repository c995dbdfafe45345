"""True sentences about a scene, at three lengths, from a small grammar.

Shapes are named largest first in the brief text and from left to right in the longer ones, so that
there is one right order to learn; which of a few phrasings is used is drawn per scene.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import numpy as np

from engine.synthetic.relations import (
    OPPOSITE,
    Relation,
    from_left,
    full_name,
    position,
    relations,
    unique_name,
)
from engine.synthetic.things import Backdrop, Layout, Shape, Word

_NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven")
_MAX_NAMED = 2  # groups a brief text names; the others are counted
_MAX_RELATIONS = 3  # sentences on relations in the longest text


@dataclass(frozen=True)
class Captions:
    """The texts of one scene, by role."""

    brief: str  # one sentence: the largest shapes by colour
    detailed: str  # all shapes with size and pattern, the words, the background
    more_detailed: str  # a sentence per shape with its place, relations, words with their slant


def describe(layout: Layout, rng: np.random.Generator, width: int, height: int) -> Captions:
    """Captions of a layout; `rng` picks among phrasings that say the same."""
    words = sorted(layout.words, key=lambda word: word.box)
    return Captions(
        _brief(layout, words, rng),
        _detailed(layout, words, rng),
        _more_detailed(layout, words, rng, width, height),
    )


def _brief(layout: Layout, words: list[Word], rng: np.random.Generator) -> str:
    by_size = sorted(layout.shapes, key=_extent, reverse=True)
    groups = _counted(by_size, lambda shape, noun: f"{shape.colour} {noun or shape.name}")
    named = groups[:_MAX_NAMED]
    others = len(layout.shapes) - sum(count for _, count in named)
    items = [name for name, _ in named]
    if others:
        items.append(f"{_NUMBERS[others]} other {'shape' if others == 1 else 'shapes'}")
    if words and _heads(rng):
        return _sentence(_listed([*items, _quoted(words)]))
    ending = _pick(rng, ["", f" on {_article(_ground(layout.backdrop))}"])
    return _sentence(f"{_pick(rng, ['', 'a picture of '])}{_listed(items)}{ending}")


def _detailed(layout: Layout, words: list[Word], rng: np.random.Generator) -> str:
    ordered = [layout.shapes[i] for i in from_left(layout.shapes)]
    items = _listed([name for name, _ in _counted(ordered, full_name)])
    verb = "is" if len(ordered) == 1 else "are"
    opening = _pick(
        rng, [f"the picture shows {items}", f"this image contains {items}", f"here {verb} {items}"]
    )
    sentences = [opening, *(_lettering(word, layout.shapes, rng) for word in words)]
    sentences.append(f"the background is {layout.backdrop.texture} {layout.backdrop.colour}")
    return _prose(sentences)


def _more_detailed(
    layout: Layout, words: list[Word], rng: np.random.Generator, width: int, height: int
) -> str:
    sentences = [_summary(layout, words, rng)]
    for i in from_left(layout.shapes):
        shape = layout.shapes[i]
        name, place = _article(full_name(shape)), position(shape.box, width, height)
        sentences.append(_pick(rng, [f"{name} is {place}", f"{place}, there is {name}"]))
    told = (_told(relation, layout.shapes, rng) for relation in relations(layout, width, height))
    sentences += islice(filter(None, told), _MAX_RELATIONS)
    for word in words:
        place = f"{position(word.box, width, height)}{_slant(word)}"
        sentences += [_lettering(word, layout.shapes, rng), f"{_quoted([word])} is {place}"]
    if layout.backdrop.num_lines:
        sentences.append("thin lines cross the background")
    return _prose(sentences)


def _summary(layout: Layout, words: list[Word], rng: np.random.Generator) -> str:
    ground = _article(_ground(layout.backdrop))
    counts = [(len(layout.shapes), "shape"), (len(words), "word")]
    items = _listed(
        [f"{_NUMBERS[count]} {noun}{'' if count == 1 else 's'}" for count, noun in counts if count]
    )
    verb = "is" if len(layout.shapes) == 1 else "are"  # agrees with the item next to it
    return _pick(rng, [f"there {verb} {items} on {ground}", f"{ground} holds {items}"])


def _told(relation: Relation, shapes: Sequence[Shape], rng: np.random.Generator) -> str | None:
    """The relation as a clause, or null where one of the two cannot be named without doubt."""
    subject, object_ = (unique_name(shapes, i) for i in (relation.subject, relation.object))
    if subject is None or object_ is None:
        return None
    predicate = relation.predicate
    if predicate in OPPOSITE and _heads(rng):
        subject, predicate, object_ = object_, OPPOSITE[predicate], subject
    verb = "" if predicate == "partly covers" else "is "
    return f"the {subject} {verb}{predicate} the {object_}"


def _lettering(word: Word, shapes: Sequence[Shape], rng: np.random.Generator) -> str:
    if word.label is not None:
        sign = _article(f"{word.label} label")
        return f'{sign} reads "{word.transcript}" in {word.colour} letters'
    on = ""
    if word.host is not None:
        host = shapes[word.host]
        on = f" on {_article(f'{host.colour} {host.name}')}"
    return _pick(
        rng,
        [
            f"{_quoted([word])} is written in {word.colour}{on}",
            f'{word.colour} letters spell "{word.transcript}"{on}',
        ],
    )


def _slant(word: Word) -> str:
    if not word.angle:
        return ""
    return f" and slants {'upwards' if word.angle > 0 else 'downwards'}"


def _counted(
    shapes: Sequence[Shape], name: Callable[[Shape, str | None], str]
) -> list[tuple[str, int]]:
    """Shapes of one description together: ("a red heart", 1), ("two blue stars", 2)."""
    groups: dict[str, list[Shape]] = {}
    for shape in shapes:
        groups.setdefault(name(shape, None), []).append(shape)
    return [
        (_article(one), 1)
        if len(members) == 1
        else (
            f"{_NUMBERS[len(members)]} {name(members[0], _plural(members[0].name))}",
            len(members),
        )
        for one, members in groups.items()
    ]


def _extent(shape: Shape) -> float:
    x_min, y_min, x_max, y_max = shape.box
    return (x_max - x_min) * (y_max - y_min)


def _ground(backdrop: Backdrop) -> str:
    return f"{backdrop.texture} {backdrop.colour} background"


def _quoted(words: Sequence[Word]) -> str:
    quoted = _listed([f'"{word.transcript}"' for word in words])
    return f"the {'word' if len(words) == 1 else 'words'} {quoted}"


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def _article(noun: str) -> str:
    return f"{'an' if noun[0] in 'aeiou' else 'a'} {noun}"


def _listed(items: Sequence[str]) -> str:
    return " and ".join(filter(None, [", ".join(items[:-1]), items[-1]]))


def _pick(rng: np.random.Generator, phrasings: Sequence[str]) -> str:
    return phrasings[int(rng.integers(len(phrasings)))]


def _heads(rng: np.random.Generator) -> bool:
    return bool(rng.integers(2))


def _sentence(clause: str) -> str:
    return f"{clause[0].upper()}{clause[1:]}."


def _prose(clauses: Sequence[str]) -> str:
    return " ".join(map(_sentence, clauses))
