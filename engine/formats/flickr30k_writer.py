"""Sentences with marked phrases and annotation files, made from rows of other formats."""

from collections.abc import Mapping, Sequence
from math import isfinite
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, SubElement, indent, tostring

from engine.formats.parts import Losses

_BRACKETS = str.maketrans("[]\t\n\r\x0b\x0c\x85\u2028\u2029", "()        ")

Corners = tuple[int, int, int, int]


class Files(NamedTuple):
    """The two files of an image."""

    sentences: str
    annotation: str


class _Phrase(NamedTuple):
    start: int
    end: int
    boxes: frozenset[Corners]


def make_files(
    image: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], losses: Losses
) -> Files:
    """The sentences of an image with its phrases marked, and the boxes they name.

    Phrases of the same boxes are one entity. A region that no phrase names is an entity of its own,
    without words.
    """
    chains: dict[frozenset[Corners], int] = {}
    lines = []
    for row in rows:
        if row["kind"] == "text":
            lines.append(_marked(row, _phrases(row, rows, losses), chains, losses))
        if row["text_score"] is not None:
            losses.note("scores of texts: there is no place for them")
        if row["score"] is not None:
            losses.note("scores of boxes: there is no place for them")
    boxes: dict[Corners, list[int]] = {}
    for group, chain in chains.items():
        for box in sorted(group):
            boxes.setdefault(box, []).append(chain)
    for row in rows:
        place = _corners(row, losses) if row["kind"] == "region" else None
        if place is not None and place not in boxes:
            boxes[place] = [len(chains) + 1]
            chains[frozenset([place])] = boxes[place][0]
            losses.note("regions that no phrase names: their words have no place")
    return Files("".join(line + "\n" for line in lines), _annotation(image, boxes))


def _phrases(
    text: Mapping[str, Any], rows: Sequence[Mapping[str, Any]], losses: Losses
) -> list[_Phrase]:
    """The phrases of one text that can be marked, in order."""
    found: dict[tuple[int, int], set[Corners]] = {}
    for row in rows:
        if row["kind"] != "grounding" or row["text_id"] != text["annotation_id"]:
            continue
        start, end = row["span_start"], row["span_end"]
        box = _corners(row, losses)
        if start is None or end is None or not 0 <= start < end <= len(text["text"]):
            losses.note("phrases without a place in their text")
        elif box is not None:
            found.setdefault((start, end), set()).add(box)
    phrases: list[_Phrase] = []
    for (start, end), boxes in sorted(found.items()):
        if phrases and start < phrases[-1].end:
            losses.note("phrases that overlap another one")
        else:
            phrases.append(_Phrase(start, end, frozenset(boxes)))
    return phrases


def _marked(
    row: Mapping[str, Any],
    phrases: Sequence[_Phrase],
    chains: dict[frozenset[Corners], int],
    losses: Losses,
) -> str:
    text: str = row["text"].translate(_BRACKETS)
    if text != row["text"]:
        losses.note("texts whose square brackets or line breaks became others: they mean mark-up")
    line, behind = "", 0
    for start, end, boxes in phrases:
        chain = chains.setdefault(boxes, len(chains) + 1)
        line += f"{text[behind:start]}[/EN#{chain}/other {text[start:end]}]"
        behind = end
    return line + text[behind:]


def _corners(row: Mapping[str, Any], losses: Losses) -> Corners | None:
    """A box in whole pixels counted from 1."""
    box = row["box"]
    if box is None or not all(map(isfinite, box)):
        losses.note("boxes that are no numbers, or missing")
        return None
    x_min, y_min, x_max, y_max = (round(side) + 1 for side in box)
    return x_min, y_min, x_max, y_max


def _annotation(image: Mapping[str, Any], boxes: Mapping[Corners, Sequence[int]]) -> str:
    root = Element("annotation")
    _text(root, "filename", image["uri"].rpartition("/")[2])
    size = SubElement(root, "size")
    for side in ("width", "height"):
        _text(size, side, str(image[side] or 0))
    _text(size, "depth", "3")
    for box, chains in boxes.items():
        thing = SubElement(root, "object")
        for chain in chains:
            _text(thing, "name", str(chain))
        corners = SubElement(thing, "bndbox")
        for name, value in zip(("xmin", "ymin", "xmax", "ymax"), box, strict=True):
            _text(corners, name, str(value))
    indent(root, "\t")
    return tostring(root, encoding="unicode") + "\n"


def _text(parent: Element, name: str, text: str) -> None:
    # XML 1.0 has no way to write control characters
    SubElement(parent, name).text = "".join(char for char in text if char.isprintable())
