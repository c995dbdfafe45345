"""XML of labels: parsed safely and in a stream, its records kept to the letter by where they stand.

Document types, entities and references to other files are refused by defusedxml.
"""

import codecs
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple
from xml.etree.ElementTree import Element, ParseError, TreeBuilder
from xml.sax.saxutils import escape, quoteattr

import numpy as np
from defusedxml.common import DefusedXmlException  # type: ignore[import-untyped]
from defusedxml.ElementTree import DefusedXMLParser  # type: ignore[import-untyped]

from engine.formats.records import Skeleton, cut

ENCODINGS = ("utf-8", "ascii", "iso8859-1", "cp1252")  # read, by the names `codecs` gives them
MAX_DEPTH = 64  # the deepest of these formats has seven levels; beyond it is an attack

_DECLARED = re.compile(rb"""^\s*<\?xml[^>]*?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_WIDE = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE, codecs.BOM_UTF32_LE, codecs.BOM_UTF32_BE)
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class XmlError(Exception):
    """XML that is broken or refused; says the line where there is one."""


class Span(NamedTuple):
    """An element and where its bytes are in the whole document, end exclusive."""

    element: Element
    start: int
    end: int


@dataclass(frozen=True)
class Container:
    """An element that holds records, as text.

    Attributes:
        element: Its tree, records and all.
        before: Text since the container before it, or since the start of the document.
        text: Its own.
        spans: Where its children stand in `text`, with their trees.
        encoding: Of the document.
    """

    element: Element
    before: str
    text: str
    spans: tuple[Span, ...]
    encoding: str


class _Tree(TreeBuilder):
    """Builds the tree and notes where containers and their children start and end."""

    def __init__(self, depth: int, tag: str | None) -> None:
        super().__init__()
        self.depth, self.tag = depth, tag
        self.path: list[Element] = []
        self.position: Any = None  # the expat parser, which knows where it is
        self.starts: list[int] = []
        self.children: list[tuple[Element, int, int]] = []
        self.done: list[tuple[Element, int, int, list[tuple[Element, int, int]]]] = []
        self.others: list[Element] = []  # what stands where containers do and is none

    def start(self, tag: Any, attrs: Any) -> Element:
        if len(self.path) >= MAX_DEPTH:
            raise XmlError(f"elements nested deeper than {MAX_DEPTH}")
        element = super().start(tag, attrs)
        self.path.append(element)
        self.starts.append(self.position.CurrentByteIndex)
        return element

    def end(self, tag: Any) -> Element:
        element = super().end(tag)
        self.path.pop()
        start, at = self.starts.pop(), self.position.CurrentByteIndex
        level = len(self.path)
        if level == self.depth + 1 and self._is_container(self.path[self.depth]):
            self.children.append((element, start, at))
        elif level == self.depth:
            if self._is_container(element):
                self.done.append((element, start, at, self.children))
            else:
                self.others.append(element)
            self.children = []
            if level:
                self.path[-1].clear()  # what was read is not kept
        return element

    def _is_container(self, element: Element) -> bool:
        return self.tag is None or element.tag == self.tag


def containers(
    chunks: Iterable[bytes], *, depth: int = 0, tag: str | None = None, max_bytes: int
) -> Iterator["Container | Element | str"]:
    """Streams a document: elements of one depth that hold records, and what stands beside them.

    Args:
        chunks: The bytes of the document.
        depth: Of the containers: 0 is the root itself, 1 its children.
        tag: Only elements of that name; null for all.
        max_bytes: Of one container with what stands before it; bounds the memory.

    Yields:
        Every container; elements of the depth that are none, before the container after them; and
        last, as a string, the text after the last container.

    Raises:
        XmlError: Broken or refused XML, with its line.
    """
    tree = _Tree(depth, tag)
    parser = DefusedXMLParser(target=tree, forbid_dtd=True)
    tree.position = parser.parser
    window = _Window(max_bytes)
    for chunk in chunks:
        window.add(chunk)
        _guarded(parser, chunk)
        yield from _taken(tree, window)
        if window.base + len(window.data) - window.mark > max_bytes + len(chunk):
            said = f"more than {max_bytes} bytes (limits.max_label_bytes) without the end of one"
            raise XmlError(f"line {_line(parser)}: {said} <{tag or 'annotation'}>")
    _guarded(parser, None)
    yield from _taken(tree, window)
    yield window.text(window.mark, window.base + len(window.data))


class _Window:
    """The bytes of the document since the last container."""

    def __init__(self, max_bytes: int) -> None:
        self.data = b""
        self.base = 0  # where `data` starts in the document
        self.mark = 0  # where the last container ended
        self.encoding = ""
        self.max_bytes = max_bytes

    def add(self, chunk: bytes) -> None:
        self.data = self.data[self.mark - self.base :]
        self.base = self.mark
        if not self.encoding and (self.data or chunk):
            self.encoding = _encoding(self.data + chunk)
        self.data += chunk

    def text(self, start: int, end: int) -> str:
        return self.data[start - self.base : end - self.base].decode(self.encoding or "utf-8")

    def end_of(self, element: Element, at: int) -> int:
        """Where an element ends whose end event came at `at`: at its end tag, or past `/>`."""
        place = at - self.base
        is_bare = len(element) == 0 and not element.text
        if is_bare and self.data[max(place - 2, 0) : place] == b"/>":
            return at
        return self.base + self.data.index(b">", place) + 1


def _taken(tree: _Tree, window: _Window) -> Iterator[Container | Element]:
    yield from tree.others
    tree.others.clear()
    for element, start, at, children in tree.done:
        end = window.end_of(element, at)
        if end - start > window.max_bytes:
            said = f"more than {window.max_bytes} bytes (limits.max_label_bytes)"
            raise XmlError(f"{said} in one <{element.tag}>")
        spans = []
        before = window.text(window.mark, start)
        text = window.text(start, end)
        offsets = _Offsets(window, start)
        for child, child_start, child_at in children:
            child_end = window.end_of(child, child_at)
            spans.append(Span(child, offsets.place(child_start), offsets.place(child_end)))
        window.mark = end
        yield Container(element, before, text, tuple(spans), window.encoding)
    tree.done.clear()


class _Offsets:
    """Places in a text from places in its bytes; asked in ascending order."""

    def __init__(self, window: _Window, start: int) -> None:
        self._window, self._at, self._characters = window, start, 0

    def place(self, byte: int) -> int:
        self._characters += len(self._window.text(self._at, byte))
        self._at = byte
        return self._characters


def _guarded(parser: Any, chunk: bytes | None) -> None:
    """Feeds the parser, or closes it; what it says becomes one line."""
    try:
        if chunk is None:
            parser.close()
        else:
            parser.feed(chunk)
    except ParseError as err:
        line, column = err.position
        said = str(err).partition(":")[0]
        raise XmlError(f"line {line}, column {column + 1}: no well-formed XML: {said}") from err
    except DefusedXmlException as err:
        what = "a document type (DTD) or entities, which are refused; take them out"
        raise XmlError(f"line {_line(parser)}: holds {what}") from err
    except XmlError as err:
        raise XmlError(f"line {_line(parser)}: {err}") from err
    except (ValueError, LookupError, AssertionError) as err:  # encodings expat does not know
        raise XmlError(f"line {_line(parser)}: {err}; save it as UTF-8") from err


def _line(parser: Any) -> int:
    return int(parser.parser.CurrentLineNumber)


def _encoding(head: bytes) -> str:
    if head.startswith(_WIDE) or head[:2] in (b"<\0", b"\0<"):
        raise XmlError("line 1: is not UTF-8; save it as UTF-8")
    declared = _DECLARED.match(head.removeprefix(codecs.BOM_UTF8))
    name = declared[1].decode() if declared else "utf-8"
    try:
        known = codecs.lookup(name).name
    except LookupError as err:
        raise XmlError(f"line 1: encoding {name!r} is not known; save it as UTF-8") from err
    if known not in ENCODINGS:
        raise XmlError(f"line 1: encoding {name!r} is not read; save it as UTF-8")
    return known


def parse_root(data: bytes, *, max_bytes: int) -> tuple[Container, str]:
    """The root of a small document with its children, and the text after it.

    Raises:
        XmlError: As `containers`.
    """
    found: Container | None = None
    tail = ""
    for part in containers([data], max_bytes=max_bytes):
        if isinstance(part, Container):
            found = part
        elif isinstance(part, str):
            tail = part
    assert found is not None  # expat refuses a document without a root
    return found, tail


def skeleton_of_container(container: Container, spans: list[Span], tail: str = "") -> Skeleton:
    """The text around some of a container's children.

    An empty container may be spelled `<image .../>`: then the tail is `/>`, see `join_elements`.
    """
    text = f"{container.before}{container.text}{tail}"
    shift = len(container.before)
    own_end = shift + len(container.text)
    closing = container.text.rfind("</")
    empty_at = shift + closing if closing >= 0 else own_end - len("/>")
    # an element without children and text, <a></a>, has no place but before its end tag
    return cut(text, [(span.start + shift, span.end + shift) for span in spans], empty_at)


def join_elements(
    skeleton: Skeleton, kept: dict[int, str], added: list[str], *, tag: str, indent: str
) -> str:
    """`Skeleton.join` for elements: opens an empty element where it is to hold something now."""
    added = [f"{indent}{element}" for element in added]
    if added and skeleton.tail.startswith("/>"):
        head, tail = f"{skeleton.head}>", f"\n</{tag}>{skeleton.tail[2:]}"
        skeleton = Skeleton(head, skeleton.between, tail, skeleton.fixed)
    return skeleton.join(kept, added)


def element(tag: str, *inside: str, **attributes: object) -> str:
    """An element as text; `inside` is XML already, see `text_element`."""
    spelled = "".join(f" {name}={attribute(value)}" for name, value in attributes.items())
    body = "".join(inside)
    return f"<{tag}{spelled}>{body}</{tag}>" if body else f"<{tag}{spelled}/>"


def text_element(tag: str, value: object) -> str:
    """An element that holds a text; what XML cannot hold (control characters) becomes U+FFFD."""
    return f"<{tag}>{escape(printable(str(value)))}</{tag}>"


def attribute(value: object) -> str:
    """A quoted attribute value; see `text_element`."""
    return quoteattr(printable(str(value)))


def printable(text: str) -> str:
    """The text with U+FFFD for each character that XML 1.0 cannot hold."""
    return _NOT_XML.sub("\ufffd", text)


def spelled(value: float) -> str:
    """The shortest decimal number that is the same float32; whole numbers without a point.

    Example:
        >>> spelled(3.0), spelled(0.1)
        ('3', '0.1')
    """
    short = np.float32(value)
    return str(int(short)) if np.isfinite(short) and short == int(short) else str(short)
