"""The truth, held as columns while a dataset is read past it."""

from collections.abc import Iterable, Sequence

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.evaluate.pairs import Indices, Numbers, box_areas
from engine.evaluate.polygons import ring_areas
from engine.formats.shapes import Part
from engine.schema import BOX, POLYGON

_WORD = pa.dictionary(pa.int32(), pa.string())
# What the measures look at: little is left of a row, some 60 bytes of a box.
_ROWS = pa.schema(
    [
        ("kind", _WORD),
        ("role", _WORD),
        ("text", pa.string()),
        ("annotation_id", pa.string()),  # of texts alone, which groundings name
        ("text_id", pa.string()),
        ("span_start", pa.int32()),
        ("span_end", pa.int32()),
        ("box", BOX),
        ("polygon", POLYGON),  # of words alone
        ("ignore", pa.bool_()),
        ("area", pa.float64()),  # px squared; of the mask where it is known
    ]
)


class _Record(msgspec.Struct):
    area: float | None = None


class Truth:
    """True rows by image.

    Memory grows with the truth, not with the dataset that is compared with it. The area of an
    object is the `area` of the record it came from (COCO states that of the mask), else that inside
    its outline, else that of its box.

    Args:
        parts: Images with their rows; read once.
    """

    def __init__(self, parts: Iterable[Part]) -> None:
        uris, tables = [pa.array([], pa.string())], [_ROWS.empty_table()]
        counts = [np.empty(0, np.int64)]
        for part in parts:
            keys = part.images["image_key"].combine_chunks()
            uris.append(part.images["uri"].combine_chunks().fill_null(""))
            places = pc.index_in(part.rows["image_key"], keys).fill_null(len(keys))
            owners = places.to_numpy().astype(np.int64)
            order = np.argsort(owners, kind="stable")[: int((owners < len(keys)).sum())]
            tables.append(_slim(part.rows.take(pa.array(order))))
            counts.append(np.bincount(owners[order], minlength=len(keys)))
        self.uris: Sequence[str] = pa.concat_arrays(uris).to_pylist()
        self._rows = pa.concat_tables(tables).unify_dictionaries().combine_chunks()
        self._ends = np.cumsum(np.concatenate(counts))
        self.pairs = _pairs_of(self._rows)

    def rows_of(self, places: Indices, keys: pa.Array) -> pa.Table:
        """The rows of some images, in their order.

        Args:
            places: Of the images in `uris`, shape (n,).
            keys: The `image_key` their rows shall have, n strings.
        """
        stops = self._ends[places]
        starts = np.where(places > 0, self._ends[places - 1], 0)
        counts = stops - starts
        firsts = np.repeat(starts - (np.cumsum(counts) - counts), counts)
        rows = self._rows.take(pa.array(firsts + np.arange(int(counts.sum()))))
        owners = np.repeat(np.arange(len(places)), counts)
        return rows.append_column("image_key", keys.take(pa.array(owners)))


def _pairs_of(rows: pa.Table) -> dict[tuple[str, str], int]:
    """How many rows there are of each kind and role."""
    groups = rows.select(["kind", "role"]).group_by(["kind", "role"]).aggregate([([], "count_all")])
    return {(row["kind"], row["role"]): row["count_all"] for row in groups.to_pylist()}


def _slim(rows: pa.Table) -> pa.Table:
    kinds, roles = (rows[name].cast(pa.string()) for name in ("kind", "role"))
    nothing = pa.scalar(None, pa.string())
    columns = {name: rows[name] for name in _ROWS.names if name in rows.column_names}
    columns["annotation_id"] = pc.if_else(pc.equal(kinds, "text"), rows["annotation_id"], nothing)
    columns["polygon"] = _only(rows["polygon"], pc.equal(roles, "ocr"))
    columns["area"] = pa.array(_true_areas(rows))
    columns |= {"kind": kinds.dictionary_encode(), "role": roles.dictionary_encode()}
    return pa.table({name: columns[name] for name in _ROWS.names}).cast(_ROWS)


def _only(column: pa.ChunkedArray, chosen: pa.ChunkedArray) -> pa.Array:
    """The column with null where it is not chosen."""
    places = pc.if_else(chosen, pa.array(np.arange(len(column))), pa.scalar(None, pa.int64()))
    return column.combine_chunks().take(places.combine_chunks())


def _true_areas(rows: pa.Table) -> Numbers:
    areas = ring_areas(rows["polygon"])
    areas = np.where(np.isnan(areas), box_areas(rows), areas)
    stated = pc.fill_null(pc.match_substring(rows["extra"], '"area"'), False)
    places = np.flatnonzero(stated.to_numpy())
    decoder = msgspec.json.Decoder(_Record)
    for place, text in zip(places.tolist(), rows["extra"].filter(stated).to_pylist(), strict=True):
        try:
            area = decoder.decode(text).area
        except (msgspec.MsgspecError, UnicodeEncodeError):
            continue  # another format's record: its outline or box tells
        if area is not None and area >= 0:
            areas[place] = area
    return areas
