"""Rows of any Arrow table as JSON and back, exactly: what JSON cannot say travels as Arrow."""

import base64
import json
from collections.abc import Sequence

import pyarrow as pa

from engine.formats.parts import dump

_PLAIN = (
    pa.types.is_boolean,
    pa.types.is_integer,
    pa.types.is_float32,
    pa.types.is_float64,
    pa.types.is_string,
    pa.types.is_large_string,
    pa.types.is_null,
)


def encode_schema(schema: pa.Schema) -> str:
    """A schema with all its metadata as a text."""
    return base64.b64encode(schema.serialize().to_pybytes()).decode()


def decode_schema(text: str) -> pa.Schema:
    """The schema of `encode_schema`."""
    return pa.ipc.read_schema(pa.py_buffer(base64.b64decode(text)))


def encode_rows(batch: pa.RecordBatch) -> list[str]:
    """Each row as a JSON object in ASCII, a member for each column; their names differ.

    Values of types that JSON lacks (bytes, times, decimals, maps) are a text: the column, one row
    long, in base64 of Arrow's stream format. Numbers keep their value to the last bit; those that
    are not finite are spelt NaN and Infinity, which Python reads.
    """
    columns = []
    for field, column in zip(batch.schema, batch.columns, strict=True):
        if _is_plain(field.type):
            columns.append(column.to_pylist())
        else:
            columns.append([_stream(column.slice(i, 1), field) for i in range(len(column))])
    names = batch.schema.names
    return [dump(dict(zip(names, values, strict=True))) for values in zip(*columns, strict=True)]


def decode_rows(rows: Sequence[str], schema: pa.Schema) -> pa.RecordBatch:
    """The rows of `encode_rows`, as they were."""
    records = [json.loads(row) for row in rows]
    arrays = []
    for field in schema:
        values = [record[field.name] for record in records]
        if _is_plain(field.type):
            arrays.append(pa.array(values, field.type))
        else:
            chunks = [_unstream(value) for value in values]
            arrays.append(pa.concat_arrays(chunks) if chunks else pa.nulls(0, field.type))
    return pa.RecordBatch.from_arrays(arrays, schema=schema)


def _is_plain(kind: pa.DataType) -> bool:
    if pa.types.is_list(kind) or pa.types.is_large_list(kind) or pa.types.is_fixed_size_list(kind):
        return _is_plain(kind.value_type)
    if pa.types.is_struct(kind):
        names = [kind.field(i).name for i in range(kind.num_fields)]
        return len(set(names)) == len(names) and all(_is_plain(inner.type) for inner in kind)
    return any(check(kind) for check in _PLAIN)


def _stream(column: pa.Array, field: pa.Field) -> str:
    sink = pa.BufferOutputStream()
    batch = pa.RecordBatch.from_arrays([column], schema=pa.schema([field]))
    with pa.ipc.new_stream(sink, batch.schema) as writer:
        writer.write_batch(batch)
    return base64.b64encode(sink.getvalue().to_pybytes()).decode()


def _unstream(text: str) -> pa.Array:
    with pa.ipc.open_stream(pa.py_buffer(base64.b64decode(text))) as reader:
        table = reader.read_all()
    column: pa.Array = table.column(0).combine_chunks()
    return column
