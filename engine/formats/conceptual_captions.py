"""Conceptual Captions: a caption and a web address a line, parted by a tab."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

from engine.errors import LabelsError
from engine.failures import fail
from engine.formats.lines import Line, LineSpool, LineStyle, read_head, read_lines, text_of
from engine.formats.parts import (
    Labelled,
    Losses,
    PartBuilder,
    Repeats,
    dump,
    labelled_images,
    own_record,
)
from engine.formats.shapes import Header, LabelSet, Part, Place, ReadOptions

_ADDRESS = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://\S+")
_CAPTION_NAMES = {"caption", "captions", "text", "title"}
_ADDRESS_NAMES = {"url", "image_url", "image", "uri", "filepath"}
_SPACES = str.maketrans("\t\n\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029", " " * 11)


@dataclass(frozen=True)
class _Columns:
    """Where in a line the caption and the address stand; further cells survive untouched."""

    caption: int
    address: int
    header: str | None = None

    @classmethod
    def of(cls, line: str) -> "_Columns | None":
        """The columns, from the first line of a file; null where it is of no such file."""
        cells = line.split("\t")
        names = [cell.strip().lower() for cell in cells]
        captions = [i for i, name in enumerate(names) if name in _CAPTION_NAMES]
        addresses = [i for i, name in enumerate(names) if name in _ADDRESS_NAMES]
        if captions and addresses:
            return cls(captions[0], addresses[0], line)
        # without a header the second cell is the address, but in CC12M the first
        for caption, address in ((0, 1), (1, 0)):
            if len(cells) > 1 and _ADDRESS.fullmatch(cells[address].strip()):
                return cls(caption, address)
        return None

    def line(self, caption: str, address: str) -> str:
        """A line of those columns; further ones are empty."""
        count = len(self.header.split("\t")) if self.header is not None else 2
        cells = [""] * count
        cells[self.caption], cells[self.address] = caption, address
        return "\t".join(cells)


class ConceptualCaptions:
    """CC3M (`caption<TAB>url`), CC12M (`url<TAB>caption`), or other columns under a header.

    Plain lines: a quote is a character like any other. Each line is an image with one text of role
    `alt`; addresses are never fetched. One that comes again is another image, `#2` behind it, with
    the failure `duplicate_id`.
    """

    name: ClassVar[str] = "conceptual_captions"
    is_folder: ClassVar[bool] = False

    def recognises(self, place: Place, head: bytes) -> bool:
        """A first line of a caption and an address; see `engine.formats.shapes.Format`."""
        first = head.partition(b"\n")[0].decode("utf-8-sig", "replace").rstrip("\r")
        return bool(place.path) and _Columns.of(first) is not None

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The captions; see `engine.formats.shapes.Format`."""
        most = options.limits.max_label_bytes
        first = next(read_lines(place, max_bytes=most), None)
        if first is None:
            raise LabelsError(f"{place}: is empty; give a file of lines `caption<TAB>url`")
        columns = _Columns.of(text_of(first, place))
        if columns is None:
            raise LabelsError(
                f"{place} line {first.number}: no caption and web address parted by a tab, and no "
                "header that names such columns (caption, url)"
            )
        style = LineStyle.of(read_head(place))
        content: dict[str, Any] = {
            "header": columns.header,
            "newline": style.newline,
            "bom": style.bom,
        }
        content |= {"caption": columns.caption, "address": columns.address}
        parts = _read(place, columns, most, options.part_size)
        return LabelSet(Header(self.name, content=content), parts)

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """One line a text, the address as it was or the name of the picture; see the protocol."""
        is_own = labels.header.kind == self.name
        content = labels.header.content if is_own else {}
        header = content.get("header")
        columns = _Columns(content.get("caption", 0), content.get("address", 1), header)
        losses = Losses()
        with LineSpool() as lines:
            for labelled in labelled_images(labels, is_own=is_own):
                _write(labelled, lines, losses, is_own=is_own, columns=columns)
            lines.save(place, LineStyle.from_content(content), header)
        return losses.sentences()


def _read(place: Place, columns: _Columns, most: int, part_size: int) -> Iterator[Part]:
    lines = read_lines(place, max_bytes=most)
    next(lines) if columns.header is not None else None
    builder, repeats = PartBuilder(), Repeats()
    while batch := list(islice(lines, part_size)):
        texts = [text_of(line, place) for line in batch]
        cells = [text.split("\t") for text in texts]
        named = [_address(told, columns) for told in cells]
        counts = repeats.count([name or "" for name in named])
        for line, text, told, name, count in zip(batch, texts, cells, named, counts, strict=True):
            if name is None:
                _add_bad(builder, place, line, text, told)
            else:
                _add(builder, line, text, told[columns.caption], name, count)
        yield builder.take()


def _address(cells: Sequence[str], columns: _Columns) -> str | None:
    if len(cells) <= max(columns.caption, columns.address):
        return None
    return cells[columns.address].strip() or None


def _add_bad(builder: PartBuilder, place: Place, line: Line, text: str, cells: list[str]) -> None:
    found = f"line {line.number}: {len(cells)} cells, wanted a caption and an address"
    image = {"uri": f"{place.path}:{line.number}", "extra": dump([line.number, text])}
    builder.add(image, [], [fail("labels", "bad_labels", found)], "failed")


def _add(
    builder: PartBuilder, line: Line, text: str, caption: str, address: str, count: int
) -> None:
    record = dump([line.number, text])
    image: dict[str, Any] = {"uri": f"{address}#{count + 1}" if count else address}
    failures = []
    if count:
        found = f"line {line.number}: the same address stands in {count} lines before"
        failures.append(fail("labels", "duplicate_id", found))
    rows: list[Mapping[str, Any]] = []
    if caption.strip():
        rows.append({"kind": "text", "role": "alt", "text": caption, "extra": record})
    else:
        image["extra"] = record
    builder.add({**image, "source_id": str(line.number)}, rows, failures)


def _write(
    labelled: Labelled, lines: LineSpool, losses: Losses, *, is_own: bool, columns: _Columns
) -> None:
    image, rows = labelled
    if record := own_record(image, is_own):
        lines.add(record[1], record[0])
    elif not rows and not is_own:
        losses.note("images without a text: a line is a text")
    for row in rows:
        record = own_record(row, is_own)
        if record is not None:
            lines.add(record[1], record[0])
        elif row["kind"] != "text":
            losses.note(f"rows of kind {row['kind']}: only texts have a place")
        else:
            caption = row["text"].translate(_SPACES)
            lines.add(columns.line(caption, image["uri"].translate(_SPACES)))
            if caption != row["text"]:
                losses.note("texts whose tabs or line breaks became spaces")
            if row["text_score"] is not None:
                losses.note("scores of texts: a line has no place for them")
