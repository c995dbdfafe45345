"""Sentences and annotation files of Flickr30k Entities: what they say, and parts taken out."""

import re
from collections.abc import Collection
from typing import NamedTuple
from xml.etree.ElementTree import Element, ParseError, tostring

from defusedxml import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import fromstring  # type: ignore[import-untyped]

from engine.source.labels import LabelError

_MENTION = re.compile(r"\[/EN#(\d+)((?:/[^/\s\]]+)*) ([^\]]*)\]")
_OBJECT = re.compile(r"[ \t]*<object\b[^>]*>.*?</object\s*>[ \t]*(?:\r?\n)?", re.DOTALL)
_DECLARATION = re.compile(r"^\ufeff?\s*<\?xml[^>]*\?>|^\ufeff")
_CORNERS = ("xmin", "ymin", "xmax", "ymax")


class Mention(NamedTuple):
    """A marked phrase.

    Attributes:
        chain: Number of the entity it names, which phrases of other sentences name too; "0" where
            it names nothing visible.
        kinds: What it is: people, clothing, bodyparts, animals, vehicles, instruments, scene,
            other, notvisual.
        start: Of the phrase in the sentence without mark-up, code points.
        end: One behind its last.
    """

    chain: str
    kinds: tuple[str, ...]
    start: int
    end: int


class Sentence(NamedTuple):
    """A sentence without mark-up, and the phrases that were marked."""

    text: str
    mentions: list[Mention]


def read_sentence(line: str) -> Sentence:
    """The sentence of a line; mark-up that is not whole is text.

    Example:
        >>> sentence = read_sentence("[/EN#7/people A man] sits .")
        >>> sentence.text, sentence.mentions[0].chain, sentence.mentions[0].end
        ('A man sits .', '7', 5)
    """
    text, end, mentions = "", 0, []
    for match in _MENTION.finditer(line):
        text += line[end : match.start()]
        kinds = tuple(match[2].split("/")[1:])
        mentions.append(Mention(match[1], kinds, len(text), len(text) + len(match[3])))
        text, end = text + match[3], match.end()
    return Sentence(text + line[end:], mentions)


def without_marks(line: str, gone: Collection[int]) -> str:
    """The line with the mark-up of those phrases (by their number) taken off; the words stay."""
    numbers = iter(range(len(line)))
    return _MENTION.sub(lambda match: match[3] if next(numbers) in gone else match[0], line)


class Thing(NamedTuple):
    """An object of an annotation file.

    Attributes:
        chains: Numbers of the entities it is.
        box: xyxy, pixels; null for a scene or a thing without a box.
    """

    chains: tuple[str, ...]
    box: tuple[float, float, float, float] | None


class Annotation(NamedTuple):
    """An annotation file: the picture's name and size, its objects, and those that are none.

    `bad` has the number of an object and what is wrong with it; such an object is also among the
    `things`, without a box.
    """

    file_name: str | None
    width: int | None
    height: int | None
    things: list[Thing]
    bad: list[tuple[int, str]]


def read_annotation(xml: str) -> Annotation:
    """What an annotation file says.

    Its corners count from 1, those of a `Thing` from 0: as the dataset's own reader does it.

    Raises:
        LabelError: It is no XML, not of this format, or declares entities or a document type.
    """
    root = _parse(xml)
    things, bad = [], []
    for number, element in enumerate(root.findall("object")):
        chains = tuple((name.text or "").strip() for name in element.findall("name"))
        box = None
        if (corners := element.find("bndbox")) is not None:
            try:
                sides = [float((corners.findtext(side) or "").strip()) - 1 for side in _CORNERS]
                box = (sides[0], sides[1], sides[2], sides[3])
            except ValueError:
                bad.append((number, "its bndbox has a corner that is no number"))
        things.append(Thing(chains, box))
    name = (root.findtext("filename") or "").strip()
    width, height = (_side(root.findtext(f"size/{side}")) for side in ("width", "height"))
    return Annotation(name or None, width, height, things, bad)


def without_objects(xml: str, gone: Collection[int]) -> str:
    """The file without those objects (by their number), otherwise as it was."""
    if not gone:
        return xml
    root = _parse(xml)
    found = list(_OBJECT.finditer(xml))
    elements = root.findall("object")
    if len(found) == len(elements):
        left, end = "", 0
        for number, match in enumerate(found):
            left += xml[end : match.start() if number in gone else match.end()]
            end = match.end()
        return left + xml[end:]
    for number, element in enumerate(elements):  # some stand in comments, or inside each other
        if number in gone:
            root.remove(element)
    return tostring(root, encoding="unicode")


def _parse(xml: str) -> Element:
    try:
        # a text cannot be in the encoding that its declaration names
        root: Element = fromstring(_DECLARATION.sub("", xml), forbid_dtd=True)
    except DefusedXmlException as err:
        what = "a document type, entities or external references"
        raise LabelError("bad_labels", f"the annotation declares {what}; refused") from err
    except (ParseError, ValueError, RecursionError) as err:
        raise LabelError("bad_labels", f"the annotation is no XML: {err}") from err
    if root.tag != "annotation":
        raise LabelError("bad_labels", f"the annotation is <{root.tag[:40]}>, not <annotation>")
    return root


def _side(text: str | None) -> int | None:
    text = (text or "").strip()
    return int(text) if text.isdecimal() and len(text) < 10 and int(text) else None  # noqa: PLR2004
