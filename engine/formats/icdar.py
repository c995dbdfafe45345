"""ICDAR text detection (2013, 2015): a text file per image, a line per word with its transcript.

2015: eight numbers, the corners clockwise from the top left, then the transcript, which may hold
commas. 2013: four numbers, left, top, right, bottom, separated by commas or blanks, the transcript
in quotes. `###` is a word nobody could read: it is not judged. Quotes around a transcript are no
part of it, as in the official evaluation (rrc.cvc.uab.es, `rrc_evaluation_funcs`). Detections have
no transcript: theirs is the empty text.
"""

import json
import re
from collections.abc import Iterator
from itertools import chain
from typing import Any, ClassVar

import pyarrow as pa
import pyarrow.compute as pc

from engine.formats.label_files import (
    Labelled,
    LeftOut,
    Paths,
    Row,
    changed_stem,
    enclosing,
    find_files,
    images_of,
    number,
    read_text,
    region,
    stems,
    stream,
    write_each,
)
from engine.formats.records import as_json, own_line, said_of
from engine.formats.shapes import Header, LabelSet, Place, ReadOptions
from engine.source.labels import LabelError
from engine.source.shapes import Location, ReadError

_UNREADABLE = "###"
_NUMBER = r"\s*[-+]?(?:\d[\d.]*(?:[eE][-+]?\d+)?|\.\d+|nan|inf)\s*"
_QUAD = re.compile(rf"({_NUMBER}(?:,{_NUMBER}){{7}})(?:,(.*))?", re.DOTALL)
_BOX = re.compile(rf"({_NUMBER}(?:,{_NUMBER}){{3}})(?:,(.*))?", re.DOTALL)
_APART = r"[-+]?\d[\d.]*(?:\s+|$)"
_SPACED = re.compile(rf"\s*((?:{_APART}){{8}}|(?:{_APART}){{4}})(.*)", re.DOTALL)
_QUOTED = re.compile(r'\s*"(.*)"\s*', re.DOTALL)
_PREFIX = r"^(gt|res)_"
_PROSE = r"(?i)(^|/)(readme|license|licence)[^/]*\.txt$"
_QUAD_NUMBERS = 8


class Icdar:
    """Reads and writes ICDAR ground truth; lines of its own are written back as they stood.

    Other rows become lines of eight whole numbers, because the official evaluation reads no others.
    """

    name: ClassVar[str] = "icdar"
    is_folder: ClassVar[bool] = True

    def recognises(self, place: Place, head: bytes) -> bool:
        """Whether a file `gt_*.txt` lies there, or a text file starts with corners and a word."""
        if place.path:
            return False
        for folder in ("", "gt"):
            names = [name for name in place.location.names(folder) if name.endswith(".txt")]
            named = [name for name in names if name.startswith("gt_")]
            for name in (named or names)[:3]:
                if _has_words(place.location, f"{folder}/{name}" if folder else name):
                    return True
        return False

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels; see `engine.formats.shapes.Format`."""
        location = place.location
        files = find_files(location, ["txt"])
        texts = files.labels.filter(pc.invert(pc.match_substring_regex(files.labels, _PROSE)))
        named = texts.filter(pc.match_substring_regex(texts, r"(^|/)gt_[^/]*$"))
        texts = named if len(named) else texts
        pictures = files.pictures
        if options.images is not None:
            pictures = find_files(options.images, []).pictures
        names = pc.replace_substring_regex(stems(texts), _PREFIX, "")
        own = pc.index_in(names, value_set=stems(pictures))
        labelled = zip(texts, own, strict=True)
        alone = pictures.filter(pc.invert(pc.is_in(stems(pictures), value_set=names)))
        if options.images is not None:
            alone = alone.slice(0, 0)  # they may be pictures of other sets too
        items = chain(
            ((path.as_py(), _picture(pictures, at), True) for path, at in labelled),
            ((None, path.as_py(), True) for path in alone),
        )
        limit = options.limits.max_label_bytes
        parts = stream(
            location,
            items,
            lambda item: _read(location, item[0], item[1], limit),
            options.part_size,
        )
        return LabelSet(Header(self.name), parts)

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Writes the set; see `engine.formats.shapes.Format`."""
        left_out = LeftOut(self.name)
        is_own = labels.header.kind == self.name
        write_each(place.location, _files(labels, is_own, left_out))
        return left_out.notes()


def _has_words(location: Location, path: str) -> bool:
    try:
        text = location.read_head(path, 4096).decode("utf-8-sig", errors="ignore")
    except ReadError:
        return False
    line = next((line for line in text.splitlines() if line.strip()), "")
    if not line:
        return path.rpartition("/")[2].startswith("gt_")
    found = _QUAD.fullmatch(line) or _BOX.fullmatch(line)
    if path.rpartition("/")[2].startswith("gt_"):
        return bool(found or _SPACED.fullmatch(line))
    spaced = _SPACED.fullmatch(line)
    return bool((found and found[2] is not None) or (spaced and spaced[2].startswith('"')))


def _picture(pictures: pa.Array, at: Any) -> str | None:
    return pictures[at.as_py()].as_py() if at.is_valid else None


def _read(location: Location, path: str | None, picture: str | None, max_bytes: int) -> Labelled:
    if path is None:
        return Labelled(uri=picture or "")
    folder, slash, name = path.rpartition("/")
    bare = re.sub(_PREFIX, "", name)
    image = Labelled(uri=picture or changed_stem(f"{folder}{slash}{bare}", ".jpg"))
    try:
        text = read_text(location, path, max_bytes)
    except LabelError as err:
        image.failed(err.cause, err)
        return image
    newline = "\r\n" if "\r\n" in text else "\n"
    lines = text.lstrip("\ufeff").split("\n")
    about = {"labels": path, "newline": newline, "ends": text.endswith("\n")}
    image.extra = json.dumps({**about, "bom": text[:1] == "\ufeff"})
    for place, line in enumerate(lines, start=1):
        if line.strip():
            _line(line.removesuffix("\r"), f"{path}: line {place}", image)
    return image


def _line(line: str, where: str, image: Labelled) -> None:
    parted = _QUAD.fullmatch(line) or _BOX.fullmatch(line) or _SPACED.fullmatch(line)
    if parted is None:
        said = f"{where}: {line[:40]!r} is not 4 or 8 numbers and a transcript"
        image.failed("bad_labels", said)
        return
    try:
        values = [number(word) for word in re.split(r"[\s,]+", parted[1].strip())]
    except ValueError as err:
        image.failed("bad_labels", f"{where}: {err}")
        return
    said = parted[2] or ""
    quoted = _QUOTED.fullmatch(said)
    text = re.sub(r'\\([\\"])', r"\1", quoted[1]) if quoted else said
    is_quad = len(values) == _QUAD_NUMBERS
    image.rows.append(
        region(
            text,
            enclosing(values) if is_quad else values,
            role="ocr",
            polygon=[values] if is_quad else None,
            ignore=text == _UNREADABLE,
            extra=as_json(line),
        )
    )


def _files(labels: LabelSet, is_own: bool, left_out: LeftOut) -> Iterator[tuple[str, bytes]]:
    paths = Paths()
    for part in labels.parts:
        for image, rows in images_of(part):
            about = said_of(image["extra"]) if is_own else {}
            if is_own and not about and not rows:
                continue  # it had no file, or a broken one
            lines = [own_line(row["extra"]) if is_own else None for row in rows]
            spelled = [
                line if line is not None else _spelled(row, left_out)
                for line, row in zip(lines, rows, strict=True)
            ]
            kept = [line for line in spelled if line is not None]
            newline = str(about.get("newline", "\r\n"))
            text = newline.join(kept) + newline * bool(kept and about.get("ends", True))
            text = "\ufeff" * bool(about.get("bom")) + text
            yield paths.claim(str(about.get("labels") or _gt_path(image["uri"]))), text.encode()
    left_out.count("files were renamed, whose pictures share a name", paths.renamed)


def _gt_path(uri: str) -> str:
    folder, slash, name = changed_stem(uri, ".txt").rpartition("/")
    return f"{folder}{slash}gt_{name}"


def _spelled(row: Row, left_out: LeftOut) -> str | None:
    """The line of a row of other origin; null for what is no word with a place."""
    if row["kind"] != "region" or row["role"] != "ocr" or row["box"] is None:
        left_out.row(row)
        return None
    if row["score"] is not None:
        left_out.count("scores are not written")
    left, top, right, bottom = row["box"]
    corners = [left, top, right, top, right, bottom, left, bottom]
    rings = row["polygon"] or []
    if len(rings) == 1 and len(rings[0]) == _QUAD_NUMBERS:
        corners = rings[0]
    elif rings:
        left_out.count("outlines have not four corners, so the boxes are written")
    whole = [_whole(value) for value in corners]
    if any(float(a) != b for a, b in zip(whole, corners, strict=True)):
        left_out.count("words are rounded to whole pixels")
    return ",".join([*whole, _transcript(row, left_out)])


def _whole(value: float) -> str:
    return str(round(value)) if abs(value) < float("inf") else str(value)


def _transcript(row: Row, left_out: LeftOut) -> str:
    text = str(row["text"] or "")
    if row["ignore"]:
        if text != _UNREADABLE:
            left_out.count("transcripts to be ignored are written as ###")
        return _UNREADABLE
    if "\n" in text or "\r" in text:
        left_out.count("transcripts of several lines are written in one")
        text = " ".join(text.split())
    if text != text.strip() or _QUOTED.fullmatch(text):
        escaped = text.replace("\\", "\\\\").replace('"', '\\"')
        return f'"{escaped}"'
    return text
