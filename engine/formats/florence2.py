"""Florence-2's training files: JSON lines of an image, a task prompt, and the answer to it."""

import json
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import msgspec
import pyarrow as pa

from engine.errors import LabelsError
from engine.failures import Failure, fail
from engine.formats.florence2_lines import (
    Question,
    claims_of,
    image_of,
    read_question,
    remaining,
)
from engine.formats.florence2_targets import Order, encode_pairs
from engine.formats.florence2_tasks import TASKS, Task
from engine.formats.grouped_lines import LineGroups
from engine.formats.header_sizes import HeaderSizes
from engine.formats.lines import Line, LineSpool, LineStyle, read_head, text_of
from engine.formats.parts import Losses, PartBuilder, dump, own_record
from engine.formats.shapes import Header, LabelSet, Part, Place, ReadOptions
from engine.source.labels import LabelError

_MEMBERS = (b'"image"', b'"prefix"', b'"suffix"')


class Florence2Lines:
    """`{"image": ..., "prefix": "<OD>", "suffix": "dog<loc_1>..."}`, one a line.

    Every task of the model is read: captions, boxes, proposals, quads of text, phrases in their
    caption, outlines, and what is asked about a region. Boxes are bin centres in pixels, so a place
    needs the size of its picture. An answer that gave several rows loses those that are rejected,
    and goes when none is left; a line that gives no row (`<OCR>`, another prompt) stays.

    From rows of other formats come the lines of every task the rows of an image can answer.
    """

    name: ClassVar[str] = "florence2"
    is_folder: ClassVar[bool] = False

    def recognises(self, place: Place, head: bytes) -> bool:
        """A first line with image, prefix and suffix; see `engine.formats.shapes.Format`."""
        first, end, _ = head.removeprefix(b"\xef\xbb\xbf").partition(b"\n")
        if not place.path or not first.startswith(b"{"):
            return False
        is_cut = not end  # of a line longer than the head the members are looked for as they stand
        return image_of(first) is not None or (is_cut and all(name in first for name in _MEMBERS))

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels; see `engine.formats.shapes.Format`."""
        style = LineStyle.of(read_head(place))
        content = {"newline": style.newline, "bom": style.bom}
        return LabelSet(Header(self.name, content=content), _Reader(place, options).parts())

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Lines as they stood, or made from the rows; see `engine.formats.shapes.Format`."""
        is_own = labels.header.kind == self.name
        losses = Losses()
        with LineSpool() as lines:
            for part in labels.parts:
                _write(part, lines, losses, is_own=is_own)
            lines.save(place, LineStyle.from_content(labels.header.content if is_own else {}))
        return losses.sentences()


class _Reader:
    def __init__(self, place: Place, options: ReadOptions) -> None:
        self._place = place
        self._options = options
        self._sizes = None
        if options.images is not None:
            self._sizes = HeaderSizes(options.images, (), options.limits.max_bytes)

    def parts(self) -> Iterator[Part]:
        builder = PartBuilder()
        most = self._options.limits.max_label_bytes
        for lines in LineGroups(self._place, _key, most):
            self._add(lines, builder)
            if len(builder) == self._options.part_size:
                yield builder.take()
        if len(builder):
            yield builder.take()

    def _add(self, lines: list[Line], builder: PartBuilder) -> None:
        uri = image_of(lines[0].data)
        image = _Image(uri or f"{self._place.path}:{lines[0].number}")
        for line in lines:
            text = text_of(line, self._place)
            before = len(image.rows)
            try:
                self._read_line(line, text, image)
            except LabelError as err:
                image.failures.append(fail("labels", err.cause, f"line {line.number}: {err}"))
            image.lines.append([line.number, text, len(image.rows) - before])
        columns: dict[str, Any] = {"uri": image.uri, "extra": dump({"lines": image.lines})}
        if isinstance(image.size, tuple):
            columns["width"], columns["height"] = image.size
        builder.add(columns, image.rows, image.failures, "ok" if uri else "failed")

    def _read_line(self, line: Line, text: str, image: "_Image") -> None:
        question = read_question(text)
        size = self._size(image, question, line) if question.has_places else None
        rows, lost = claims_of(question, line.number, size)
        image.add(rows)
        if lost:
            raise LabelError("bad_labels", lost)

    def _size(self, image: "_Image", question: Question, line: Line) -> tuple[int, int]:
        if self._sizes is None:
            raise LabelsError(
                f"{self._place} line {line.number}: {question.task.token} speaks in thousandths of "
                "an image whose size is not known; set source.images to the folder of the pictures"
            )
        if image.size is None:
            path = self._sizes.find(image.uri)
            try:
                if path is None:
                    raise LabelError("bad_labels", "its picture, which tells its size, is missing")
                image.size = self._sizes.size(path)
            except LabelError as err:
                image.size = err
        if isinstance(image.size, LabelError):
            raise image.size
        return image.size


@dataclass
class _Image:
    """What is gathered of one image."""

    uri: str

    def __post_init__(self) -> None:
        self.size: tuple[int, int] | LabelError | None = None
        self.rows: list[dict[str, Any]] = []
        self.failures: list[Failure] = []
        self.lines: list[list[Any]] = []
        self._texts: dict[str, str] = {}  # name of the first text row by what it says

    def add(self, rows: Sequence[Mapping[str, Any]]) -> None:
        """Adds the rows of a line; a caption that another line told is not told again."""
        known: dict[str, str] = {}
        for row in rows:
            text_id = row.get("text_id")
            if row["kind"] == "text":
                first = self._texts.setdefault(row["text"], row["annotation_id"])
                if json.loads(row["extra"])[1] is None and first != row["annotation_id"]:
                    known[row["annotation_id"]] = first
                    continue
            self.rows.append(
                {**row, "text_id": known.get(text_id, text_id)} if text_id else {**row}
            )


def _key(line: Line) -> bytes | None:
    image = image_of(line.data)
    return None if image is None else image.encode()


def _write(part: Part, lines: LineSpool, losses: Losses, *, is_own: bool) -> None:
    keys = part.rows["image_key"].to_pylist()
    told = {name: part.rows[name].to_pylist() for name in ("kind", "text", "extra")}
    places: dict[str, list[int]] = defaultdict(list)
    for place, key in enumerate(keys):
        places[key].append(place)
    for image in part.images.to_pylist():
        mine = places.get(image["image_key"], [])
        record = own_record(image, is_own)
        if record is not None:
            known = [place for place in mine if told["extra"][place] is not None]
            rows = [{name: column[place] for name, column in told.items()} for place in known]
            _add_lines(record["lines"], rows, lines)
            mine = [place for place in mine if told["extra"][place] is None]
        if mine:
            _add_pairs(image, part.rows.take(pa.array(mine, pa.int64())), lines, losses)


def _add_lines(
    told: Sequence[Sequence[Any]], rows: Sequence[Mapping[str, Any]], lines: LineSpool
) -> None:
    """The lines of an image as they were, without the items that are no rows any more."""
    kept: dict[int, set[int]] = defaultdict(set)
    for row in rows:
        number, item = json.loads(row["extra"])
        kept[number].update([] if item is None else [item])
    texts = {row["text"] for row in rows if row["kind"] == "text"}
    for number, text, num_rows in told:
        if not num_rows:
            lines.add(text, number)
            continue
        question = read_question(text)
        if question.task.kind == "grounding" and question.given not in texts:
            continue  # what is asked about a caption goes with it
        left = remaining(text, kept[number])
        if left is not None:
            lines.add(left, number)


def _add_pairs(image: Mapping[str, Any], rows: pa.Table, lines: LineSpool, losses: Losses) -> None:
    """A line for each thing the rows can answer."""
    size = (image["width"], image["height"])
    used: set[int] = set()
    for task in TASKS.values():
        if not _needs_size(task):
            pairs = encode_pairs(task, rows, (1, 1), order="given")
        elif size[0] and size[1]:
            pairs = encode_pairs(task, rows, size, order=_order(task))
        else:
            continue
        for prompt, target, places in pairs:
            used.update(places)
            record = {"image": image["uri"], "prefix": prompt, "suffix": target}
            lines.add(msgspec.json.encode(record).decode())
    if rows.num_rows > len(used):
        losses.note(
            "rows that no task can say (ignored, without words, place or size)",
            rows.num_rows - len(used),
        )
    for name in ("score", "text_score"):
        if count := len(rows) - rows[name].null_count:
            losses.note(f"values of {name}: a line has no place for them", count)


def _needs_size(task: Task) -> bool:
    return task.form != "text" or task.takes == "region"


def _order(task: Task) -> Order:
    return "reading" if "ocr" in task.roles else "area"
