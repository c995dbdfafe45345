"""Rows of our two tables as one row an image, lists within, and back."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.formats.parts import dump, own_record
from engine.formats.shapes import Part
from engine.schema import CLAIM, IMAGES, claims, image_rows

_SAID = ("annotation_id", "role", "text", "text_score")
_MADE = ("source", "model", "revision", "prompt", "human", "ignore", "round", "parents")
_KEPT = ("source_id", "extra")
_PLACED = ("region_id", "box", "polygon", "score")
_SPANS = ("text_id", "span_start", "span_end")
# By name of the list: the kind of its rows, and the columns of a claim that such rows have.
COLUMNS: dict[str, tuple[str, tuple[str, ...]]] = {
    "texts": ("text", (*_SAID, *_MADE, *_KEPT)),
    "regions": ("region", (*_SAID, *_PLACED, *_MADE, *_KEPT)),
    "grounding": ("grounding", (*_SAID, *_SPANS, *_PLACED, *_MADE, *_KEPT)),
}
# What a reader's table may not have, or has in names of its own: in `extra` while it is rows.
_CLAIM_RECORD = (
    *("annotation_id", "region_id", "text_id", "parents"),
    *("source", "model", "revision", "round", "extra"),
)
_IMAGE_RECORD = ("image_key", "status", "extra")
_NUMBERS = {pa.float32(): "float32", pa.int8(): "int8", pa.int16(): "int16", pa.int32(): "int32"}
_NUMBERS |= {pa.int64(): "int64", pa.string(): "string", pa.bool_(): "bool"}


def _plain(kind: pa.DataType) -> pa.DataType:
    """The type without dictionaries and fixed lengths, which some readers of Parquet lack."""
    if pa.types.is_dictionary(kind):
        return kind.value_type
    if pa.types.is_list(kind) or pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain(kind.value_type))
    return kind


def _feature(kind: pa.DataType) -> Any:
    """A type as Hugging Face's `Features` are written down."""
    if pa.types.is_list(kind):
        return [_feature(kind.value_type)]
    if pa.types.is_struct(kind):
        return {field.name: _feature(field.type) for field in kind}
    return {"dtype": _NUMBERS[kind], "_type": "Value"}


def _schema() -> pa.Schema:
    fields = [(field.name, _plain(field.type)) for field in IMAGES]
    for name, (_, columns) in COLUMNS.items():
        inner = [(column, _plain(CLAIM.field(column).type)) for column in columns]
        fields.append((name, pa.list_(pa.struct(inner))))
    features = {"image": {"_type": "Image"}, **{name: _feature(kind) for name, kind in fields}}
    picture = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
    metadata = {"huggingface": json.dumps({"info": {"features": features}})}
    return pa.schema([("image", picture), *fields], metadata)


SCHEMA = _schema()


def nest(part: Part, pictures: Sequence[bytes | None], *, is_own: bool) -> pa.Table:
    """One row an image, in the order of the part.

    Args:
        part: Images and rows.
        pictures: The encoded bytes of each image, null where they are not given.
        is_own: Whether rows and images hold in `extra` what `unnest` put there.
    """
    images, rows = part
    place = pc.index_in(rows["image_key"], images["image_key"]).combine_chunks()
    order = pc.sort_indices(pa.table({"place": place}), [("place", "ascending")])
    rows, place = rows.take(order), place.take(order)
    if is_own:
        images = _restored(images, _IMAGE_RECORD)
        rows = _restored(rows, _CLAIM_RECORD)
    uris = images["uri"].to_pylist()
    shown = [
        None if data is None else {"bytes": data, "path": uri.rpartition("/")[2]}
        for data, uri in zip(pictures, uris, strict=True)
    ]
    columns: list[pa.Array | pa.ChunkedArray] = [pa.array(shown, SCHEMA.field("image").type)]
    columns += [images[field.name].cast(SCHEMA.field(field.name).type) for field in IMAGES]
    for name, (kind, inner) in COLUMNS.items():
        is_kind = pc.equal(rows["kind"].cast(pa.string()), kind)
        columns.append(_lists(rows.filter(is_kind), place.filter(is_kind), inner, len(uris), name))
    return pa.Table.from_arrays(columns, schema=SCHEMA)


def _lists(
    rows: pa.Table, place: pa.Array, inner: Sequence[str], num_images: int, name: str
) -> pa.Array:
    kind = SCHEMA.field(name).type
    counts = np.bincount(place.to_numpy(zero_copy_only=False).astype(int), minlength=num_images)
    offsets = pa.array(np.concatenate([[0], np.cumsum(counts)]), pa.int32())
    arrays = [
        rows[column].combine_chunks().cast(kind.value_type.field(column).type) for column in inner
    ]
    structs = pa.StructArray.from_arrays(arrays, fields=list(kind.value_type))
    return pa.ListArray.from_arrays(offsets, structs)


def unnest(batch: pa.RecordBatch) -> Part:
    """Images and rows of a batch, as a reader gives them."""
    count = batch.num_rows
    keys = [str(number) for number in range(count)]
    names = [name for name in IMAGES.names if name in batch.schema.names]
    told: dict[str, Any] = {
        name: batch.column(name).to_pylist() for name in names if name not in _IMAGE_RECORD
    }
    told["extra"] = _records(batch, _IMAGE_RECORD)
    told["image_key"] = keys
    statuses = batch.column("status").to_pylist() if "status" in names else ["ok"] * count
    told["status"] = ["failed" if status == "failed" else "ok" for status in statuses]
    tables = [_rows(batch, name, keys) for name in COLUMNS]
    rows = pa.concat_tables(tables).unify_dictionaries()
    order = pc.sort_indices(pc.index_in(rows["image_key"], pa.array(keys, pa.string())))
    return Part(image_rows(**told), rows.take(order).combine_chunks())


def _rows(batch: pa.RecordBatch, name: str, keys: Sequence[str]) -> pa.Table:
    kind, inner = COLUMNS[name]
    lists = batch.column(name)
    places = pc.list_parent_indices(lists)
    said = pa.Table.from_struct_array(pc.list_flatten(lists))
    known = [column for column in inner if column in said.column_names]
    named = {"source", "model", "revision"}  # which whoever asks fills in
    columns = {column: said[column].to_pylist() for column in known if column not in named}
    columns["extra"] = _records(said, _CLAIM_RECORD)
    columns["image_key"] = pa.array(keys, pa.string()).take(places).to_pylist()
    for flag in ("human", "ignore"):
        columns[flag] = [bool(value) for value in columns.get(flag, [False] * said.num_rows)]
    columns["round"] = [0] * said.num_rows
    return claims(**{**columns, "kind": [kind] * said.num_rows})


def _records(table: pa.Table | pa.RecordBatch, names: Sequence[str]) -> list[str]:
    known = [name for name in names if name in table.schema.names]
    columns = [table.column(name).to_pylist() for name in known]
    return [dump(dict(zip(known, values, strict=True))) for values in zip(*columns, strict=True)]


def _restored(table: pa.Table, names: Sequence[str]) -> pa.Table:
    """The table with the columns that its records hold, as they stood in the file."""
    records: list[Mapping[str, Any] | None] = [
        own_record({"extra": extra}, is_own=True) for extra in table["extra"].to_pylist()
    ]
    for name in names:
        field = table.schema.field(name)
        given = table[name].to_pylist()
        values = [
            record.get(name) if isinstance(record, dict) else value
            for record, value in zip(records, given, strict=True)
        ]
        column = pa.array(values, _plain(field.type)).cast(field.type)
        table = table.set_column(table.schema.get_field_index(name), field, column)
    return table
