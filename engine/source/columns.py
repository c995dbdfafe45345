"""Columns of tables: which holds the images, what Hugging Face says of them, and their values."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pyarrow as pa

from engine.errors import ConfigError
from engine.failures import Failure, fail
from engine.source.labels import LabelError, Labels, Told

# Names people give to a column of image bytes; the first that is there is taken.
_IMAGES = ("image", "img", "jpg", "jpeg", "png", "webp", "picture", "photo", "image_bytes", "bytes")
_NUMBER_BYTES = 8  # of a value that is no text
_MAX_SHOWN = 20  # names of columns in a message


def image_column(schema: pa.Schema, wanted: str | None, where: str) -> str:
    """The column that holds the bytes of the images.

    That is a binary column, or a struct of `bytes` and `path` as Hugging Face writes it: the one
    asked for, else one of a usual name, else the only one there is.

    Raises:
        ConfigError: There is none, or several and no usual name among them.
    """
    found: list[str] = [item.name for item in schema if _holds_bytes(item.type)]
    if wanted is not None:
        if wanted in found:
            return wanted
        what = "is no column of image bytes" if wanted in schema.names else "is no column"
        raise ConfigError(f"{where}: source.column {wanted!r} {what}; {_columns(schema)}")
    usual = next((name for name in _IMAGES if name in found), None)
    if usual is not None:
        return usual
    if len(found) == 1:
        return found[0]
    if not found:
        raise ConfigError(
            f"{where}: no column holds image bytes; {_columns(schema)}; for a table of uris set "
            "source.kind=table and source.images"
        )
    raise ConfigError(
        f"{where}: the columns {', '.join(found)} all hold bytes; name one in source.column"
    )


def path_part(schema: pa.Schema, column: str) -> str | None:
    """The part of an image column that holds the file's own name, null where there is none."""
    type_ = schema.field(column).type
    if pa.types.is_struct(type_) and type_.get_field_index("path") >= 0:
        return f"{column}.path"
    return None


def bytes_of(column: pa.Array) -> pa.Array:
    """The bytes of each image, null where it has none."""
    if not pa.types.is_struct(column.type):
        return column
    parts = column.flatten()  # unlike `field`, it knows of rows that are null as a whole
    return parts[column.type.get_field_index("bytes")]


def class_names(schema: pa.Schema) -> dict[str, Sequence[str]]:
    """Names of the classes of each column that Hugging Face calls a ClassLabel.

    They stand in the schema's metadata; what is not as `datasets` writes it is passed over.
    """
    try:
        told = json.loads((schema.metadata or {}).get(b"huggingface", b"{}"))
        features = told["info"]["features"].items()
    except (ValueError, LookupError, AttributeError, TypeError, RecursionError):
        return {}
    found: dict[str, Sequence[str]] = {}
    for name, feature in features:
        if isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
            names = feature.get("names")
            if isinstance(names, list) and all(isinstance(item, str) for item in names):
                found[name] = names
    return found


def row_values(
    batch: pa.RecordBatch, row: int, names: Sequence[str], source: str
) -> tuple[dict[str, Any], list[Failure]]:
    """Values of one row by column, and the failures of those that are no valid text."""
    values, failures = {}, []
    for name in names:
        try:
            values[name] = batch.column(name)[row].as_py()
        except (UnicodeDecodeError, ValueError, OverflowError) as err:  # also dates beyond Python's
            failures.append(fail("labels", "not_json", f"{name}: {err}", source=source))
    return values, failures


def fitting(
    values: Mapping[str, Any], max_bytes: int, source: str
) -> tuple[dict[str, Any], list[Failure]]:
    """The values of one row that are small enough, and the failures of the others.

    Args:
        values: By column.
        max_bytes: Of one value, `limits.max_label_bytes`.
        source: What failures name.
    """
    sizes = {name: _size(value) for name, value in values.items()}
    failures = [
        fail(
            "labels",
            "too_many_labels",
            f"{name}: {size} bytes, limits.max_label_bytes is {max_bytes}",
            source=source,
        )
        for name, size in sizes.items()
        if size > max_bytes
    ]
    return {name: v for name, v in values.items() if sizes[name] <= max_bytes}, failures


def told_of(
    labels: Labels, values: Mapping[str, Any], classes: Mapping[str, Sequence[str]] | None = None
) -> Told:
    """What the values of one row amount to.

    Args:
        labels: How fields are read.
        values: By column; numbers of `classes` become names, -1 (no class) becomes null.
        classes: Names by column.
    """
    fields: dict[str, Any] = {}
    failures: list[Failure] = []
    for name, value in values.items():
        try:
            fields[name] = _meant(name, value, (classes or {}).get(name))
        except LabelError as err:
            failures.append(fail("labels", err.cause, err, source=labels.name))
    told = labels.read(fields)
    told.failures[:0] = failures
    return told


def _meant(name: str, value: Any, classes: Sequence[str] | None) -> Any:
    """A value as `Labels` takes it: classes by name, JSON as the bytes of a file of that name."""
    if name == "json" and isinstance(value, str):
        return value.encode("utf-8", "surrogateescape")
    if classes is None or not isinstance(value, int):
        return value
    if value == -1:  # how `datasets` writes that nobody knows the class
        return None
    if not 0 <= value < len(classes):
        raise LabelError("bad_labels", f"{name} is {value}; {len(classes)} classes known")
    return classes[value]


def _size(value: Any) -> int:
    if isinstance(value, str):
        return len(value.encode("utf-8", "surrogateescape"))
    if isinstance(value, bytes):
        return len(value)
    if isinstance(value, dict):
        return sum(map(_size, value.values()))
    return sum(map(_size, value)) if isinstance(value, list) else _NUMBER_BYTES


def _holds_bytes(type_: pa.DataType) -> bool:
    if pa.types.is_struct(type_):
        index = type_.get_field_index("bytes")
        return index >= 0 and _is_binary(type_.field(index).type)
    return _is_binary(type_)


def _is_binary(type_: pa.DataType) -> bool:
    return bool(pa.types.is_binary(type_) or pa.types.is_large_binary(type_))


def _columns(schema: pa.Schema) -> str:
    names = schema.names
    more = f" and {len(names) - _MAX_SHOWN} more" if len(names) > _MAX_SHOWN else ""
    return f"found {', '.join(names[:_MAX_SHOWN]) or 'none'}{more}"
