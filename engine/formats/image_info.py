"""Lists of images as CSV (id, size, licence, file name): millions of them, held as columns."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from pyarrow import csv

from engine.errors import LabelsError
from engine.formats.lines import open_file, read_lines, text_of
from engine.formats.shapes import Place

# Columns by name in lower case; Open Images' own lists have no sizes, those people make have.
_COLUMNS = {
    "imageid": "name",
    "image_id": "name",
    "width": "width",
    "height": "height",
    "license": "licence",
    "filename": "file_name",
}


class ImageInfo(NamedTuple):
    """What a list says of one image; null what it does not."""

    file_name: str | None = None
    size_wh: tuple[int, int] | None = None
    licence: str | None = None


@dataclass
class ImageList:
    """The images of a list, found by name.

    Attributes:
        table: Columns `name`, and of `file_name`, `width`, `height`, `licence` those it has.
        bad_lines: Lines that have another number of cells than the header.
    """

    table: pa.Table
    bad_lines: int = 0
    _order: npt.NDArray[np.int64] = field(init=False, repr=False)
    _hashes: npt.NDArray[np.int64] = field(init=False, repr=False)
    _seen: npt.NDArray[np.bool_] = field(init=False, repr=False)

    def __post_init__(self) -> None:
        hashes = np.fromiter((hash(name.as_py()) for name in self.table["name"]), np.int64)
        self._order = np.argsort(hashes, kind="stable")
        self._hashes = hashes[self._order]
        self._seen = np.zeros(len(hashes), bool)

    @property
    def has_sizes(self) -> bool:
        """Whether it tells sizes at all."""
        return {"width", "height"} <= set(self.table.column_names)

    def look_up(self, name: str) -> ImageInfo | None:
        """What is said of an image, which then counts as seen; null where it is not listed."""
        wanted = hash(name)
        start = int(np.searchsorted(self._hashes, wanted))
        while start < len(self._hashes) and self._hashes[start] == wanted:
            place = int(self._order[start])
            if self.table["name"][place].as_py() == name:
                self._seen[place] = True
                return self._info(place)
            start += 1
        return None

    def unseen(self) -> Iterator[tuple[str, ImageInfo]]:
        """The images nobody looked up, in the order of the list."""
        for place in np.flatnonzero(~self._seen).tolist():
            yield self.table["name"][place].as_py(), self._info(place)

    def _info(self, place: int) -> ImageInfo:
        said = {name: self.table[name][place].as_py() for name in self.table.column_names}
        width, height = said.get("width"), said.get("height")
        size = (width, height) if width and height and min(width, height) > 0 else None
        return ImageInfo(said.get("file_name") or None, size, said.get("licence") or None)


def read_image_list(place: Place) -> ImageList:
    """The images a CSV with a header lists.

    Raises:
        LabelsError: It cannot be read, or has no column ImageID.
    """
    bad: list[Any] = []

    def skip(row: Any) -> str:
        bad.append(row.number)
        return "skip"

    with open_file(place).file as file:
        try:
            table = csv.read_csv(
                file,
                parse_options=csv.ParseOptions(newlines_in_values=True, invalid_row_handler=skip),
                convert_options=csv.ConvertOptions(
                    column_types={"ImageID": pa.string(), "image_id": pa.string()}
                ),
            )
        except (pa.ArrowInvalid, OSError) as err:
            raise LabelsError(f"{place}: cannot be read as CSV: {err}") from err
    columns = {}
    for name in table.column_names:
        own = _COLUMNS.get(name.strip().lower())
        if own is not None and own not in columns:
            columns[own] = _converted(table[name], own, place)
    if "name" not in columns:
        raise LabelsError(f"{place} line 1: no column ImageID; give a list of images with one")
    return ImageList(pa.table(columns), len(bad))


def read_sizes(place: Place, max_bytes: int) -> ImageList:
    """The sizes of a file of lines `ID HEIGHT WIDTH`, as Datumaro writes; "#" begins a comment."""
    names, widths, heights = [], [], []
    for line in read_lines(place, max_bytes=max_bytes):
        cells = _words(text_of(line, place))
        if not cells:
            continue
        if len(cells) != 3 or not (cells[1].isdecimal() and cells[2].isdecimal()):  # noqa: PLR2004
            raise LabelsError(f"{place} line {line.number}: wanted an image, its height and width")
        names.append(cells[0])
        heights.append(int(cells[1]))
        widths.append(int(cells[2]))
    columns = {
        "name": pa.array(names, pa.string()),
        "width": pa.array(widths, pa.int64()),
        "height": pa.array(heights, pa.int64()),
    }
    return ImageList(pa.table(columns))


def _words(line: str) -> list[str]:
    try:
        return shlex.split(line, comments=True)  # as Datumaro quotes them
    except ValueError:  # a quote that is not closed
        return [line]


def _converted(column: pa.ChunkedArray, name: str, place: Place) -> pa.ChunkedArray:
    wanted = pa.int64() if name in {"width", "height"} else pa.string()
    try:
        return pc.cast(column, wanted)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
        raise LabelsError(f"{place}: column {name}: {err}") from err
