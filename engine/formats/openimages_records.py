"""Records of Open Images' label files: which columns there are, and what one line says."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from engine.formats.lines import Line
from engine.source.labels import LabelError

DELIMITERS = (",", ";", "\t")
# As the files of V4 to V7 spell them; those of the masks name the box of each.
CORNERS = ("XMin", "XMax", "YMin", "YMax")
_MASK_CORNERS = tuple(f"Box{name}" for name in CORNERS)
_CLICKS = tuple(f"XClick{number}{axis}" for axis in "XY" for number in range(1, 5))
BOX_COLUMNS = (
    *("ImageID", "Source", "LabelName", "Confidence", *CORNERS),
    *("IsOccluded", "IsTruncated", "IsGroupOf", "IsDepiction", "IsInside"),
)
# Who drew or checked: extreme clicks, questions answered by staff or by volunteers. `activemil`
# boxes and `machine` labels come from models.
_PEOPLE = {"xclick", "verification", "crowdsource-verification", "human"}


def split_cells(line: str, delimiter: str) -> list[str] | None:
    """The cells of a line; null where its quotes do not pair."""
    if '"' not in line:
        return line.split(delimiter)
    try:
        return next(csv.reader([line], delimiter=delimiter, strict=True))
    except csv.Error:
        return None


def join_cells(cells: Sequence[str], delimiter: str = ",") -> str:
    """A line of those cells, quoted where they need it; line breaks become spaces."""
    stream = io.StringIO()
    flat = [" ".join(cell.splitlines()) for cell in cells]
    csv.writer(stream, delimiter=delimiter, lineterminator="").writerow(flat)
    return stream.getvalue()


@dataclass(frozen=True)
class Columns:
    """The columns of a file.

    Attributes:
        names: In the order of the file.
        delimiter: Between cells.
        corners: The four columns of a box; empty in a file of labels of whole images.
    """

    names: tuple[str, ...]
    delimiter: str
    corners: tuple[str, ...]

    @classmethod
    def of(cls, header: str) -> "Columns | None":
        """The columns of a header line; null where it is none of Open Images."""
        for delimiter in DELIMITERS:
            names = tuple(name.strip() for name in split_cells(header, delimiter) or ())
            if {"ImageID", "LabelName"} <= set(names):
                corners = [c for c in (CORNERS, _MASK_CORNERS) if set(c) <= set(names)]
                return cls(names, delimiter, corners[0] if corners else ())
        return None

    def image_id(self, line: Line) -> bytes | None:
        """The image a line speaks of; null where its cells cannot be told apart."""
        place = self.names.index("ImageID")
        delimiter = self.delimiter.encode()
        if b'"' not in line.data:
            cells = line.data.split(delimiter, place + 1)
            return cells[place].strip() if len(cells) > place else None
        told = split_cells(line.data.decode("utf-8", "replace"), self.delimiter)
        return told[place].strip().encode() if told and len(told) > place else None

    def record(self, text: str) -> dict[str, str]:
        """The cells of a line by column.

        Raises:
            LabelError: Their number is another than that of the columns.
        """
        cells = split_cells(text, self.delimiter)
        if cells is not None and len(cells) > len(self.names) and self.delimiter == ",":
            cells = self._with_decimal_commas(cells)
        if cells is None or len(cells) != len(self.names):
            found = "quotes that do not pair" if cells is None else f"{len(cells)} cells"
            raise LabelError("bad_labels", f"{found}, the header has {len(self.names)}")
        return dict(zip(self.names, (cell.strip() for cell in cells), strict=True))

    def _with_decimal_commas(self, cells: list[str]) -> list[str]:
        """Cells in which the numbers, written with decimal commas and unquoted, are whole again.

        Where as many cells are too many as there are numbers, each of them was cut. Else a 0 or 1
        before two digits or more was: flags have one digit.
        """
        numbers = {*self.corners, *_CLICKS} & set(self.names)
        surplus = len(cells) - len(self.names)
        if surplus == len(numbers) + 1:
            numbers = numbers | {"Confidence"}
        is_all = surplus == len(numbers)
        numbers = numbers | {"Confidence"}
        rest, joined = list(cells), []
        for name in self.names:
            if not rest:
                break
            cell = rest.pop(0)
            is_cut = bool(rest) and name in numbers and rest[0].isdecimal()
            if is_all:
                is_cut = is_cut and not (name == "Confidence" and surplus < len(numbers))
            else:
                is_cut = is_cut and cell in {"0", "1"} and len(rest[0]) > 1
            joined.append(f"{cell}.{rest.pop(0)}" if is_cut else cell)
        return [*joined, *rest]


def number_of(record: Mapping[str, str], column: str) -> float:
    """A number of a record, its decimals behind a point or a comma.

    Raises:
        LabelError: It is none.
    """
    cell = record[column]
    try:
        return float(cell.replace(",", ".") if "." not in cell else cell)
    except ValueError as err:
        raise LabelError("bad_labels", f"{column} is {cell[:40]!r}, wanted a number") from err


def is_absent(record: Mapping[str, str], columns: Columns) -> bool:
    """Whether a label of a whole image says that its class is not there."""
    if columns.corners or not record.get("Confidence"):
        return False
    return number_of(record, "Confidence") == 0.0


def row_of(
    record: Mapping[str, str],
    columns: Columns,
    classes: Mapping[str, str],
    size_wh: tuple[int, int] | None,
) -> dict[str, Any]:
    """The claim one record makes.

    Args:
        record: Its cells.
        columns: Of the file.
        classes: Display name by LabelName; empty where they are not known.
        size_wh: Width and height of the image, pixels; null where the file has no boxes.

    Raises:
        LabelError: A number that is none, or a class that is not listed.
    """
    name = record["LabelName"]
    if not name or (classes and name not in classes):
        shown = name[:80].removeprefix(
            "/"
        )  # a message may hold no path, and /m/01g317 looks like one
        raise LabelError("unknown_category", f"LabelName {shown!r} is not among the classes")
    score = number_of(record, "Confidence") if record.get("Confidence") else None
    if score is not None and not isfinite(score):
        raise LabelError("bad_labels", f"Confidence is {score}, wanted a finite number")
    told = {"text": classes.get(name, name), "human": record.get("Source", "").lower() in _PEOPLE}
    if not columns.corners or size_wh is None:
        return {"kind": "text", "role": "alt", "text_score": score, **told}
    x_min, x_max, y_min, y_max = (number_of(record, corner) for corner in columns.corners)
    width, height = size_wh
    return {
        "kind": "region",
        "role": "category",
        "box": [x_min * width, y_min * height, x_max * width, y_max * height],
        "score": score,
        "ignore": record.get("IsGroupOf") == "1",  # one box around five things or more
        "source_id": record.get("BoxID") or None,
        **told,
    }


def record_of(row: Mapping[str, Any], image_id: str, size_wh: tuple[int, int]) -> dict[str, str]:
    """The record of a region that came from elsewhere; flags it does not know are -1, as theirs."""
    width, height = size_wh
    x_min, y_min, x_max, y_max = row["box"]
    fractions = (x_min / width, x_max / width, y_min / height, y_max / height)
    score = row["score"]
    return {
        "ImageID": image_id,
        "Source": "human" if row["human"] else row["source"] or "",
        "LabelName": row["text"],
        "Confidence": "" if score is None else f"{score:.9g}",
        **{name: f"{value:.6f}" for name, value in zip(CORNERS, fractions, strict=True)},
        **dict.fromkeys(BOX_COLUMNS[-5:], "-1"),
        "IsGroupOf": "1" if row["ignore"] else "0",
    }
