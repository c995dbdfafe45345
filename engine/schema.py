"""The two Arrow tables all parts speak in: annotations (one row, one claim) and images.

A claim is written once and never changes; the verdict columns say what a label version thinks of
it.
"""

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import TableError

SCHEMA_VERSION = 1

# Roles each kind may have.
ROLES: dict[str, tuple[str, ...]] = {
    "text": ("alt", "brief", "detailed", "more_detailed"),
    "region": ("category", "phrase", "brief", "ocr", "proposal"),
    "grounding": ("phrase",),
}
ANNOTATION_STATUS = ("kept", "rejected", "superseded")
IMAGE_STATUS = ("ok", "failed", "duplicate", "rejected")

_WORD = pa.dictionary(pa.int32(), pa.string())
BOX = pa.list_(pa.float32(), 4)
POLYGON = pa.list_(pa.list_(pa.float32()))
FAILURE = pa.struct(
    [
        ("stage", pa.string()),
        ("source", pa.string()),
        ("cause", pa.string()),
        ("message", pa.string()),
    ]
)

CLAIM = pa.schema(
    [
        ("image_key", pa.string()),
        ("annotation_id", pa.string()),
        ("kind", _WORD),
        ("role", _WORD),
        ("text", pa.string()),
        ("region_id", pa.string()),  # the annotation_id of the row that first claimed the region
        ("text_id", pa.string()),
        ("span_start", pa.int32()),
        ("span_end", pa.int32()),
        ("box", BOX),  # xyxy, pixels of the original upright image
        ("polygon", POLYGON),  # rings of x0, y0, x1, y1, ...
        ("score", pa.float32()),
        ("text_score", pa.float32()),
        ("source", _WORD),
        ("model", _WORD),
        ("revision", _WORD),
        ("prompt", _WORD),
        ("human", pa.bool_()),
        ("ignore", pa.bool_()),
        ("round", pa.int16()),
        ("parents", pa.list_(pa.string())),
        ("source_id", pa.string()),
        ("extra", pa.string()),
    ]
)
VERDICT = pa.schema(
    [
        ("status", _WORD),
        ("rule", _WORD),
        ("measured", pa.float32()),
        ("limit", pa.float32()),
        ("against", pa.string()),
    ]
)
ANNOTATIONS = pa.schema([*CLAIM, *VERDICT])
IMAGES = pa.schema(
    [
        ("image_key", pa.string()),
        ("uri", pa.string()),  # relative to the source
        ("sha256", pa.string()),
        ("format", pa.string()),
        ("width", pa.int32()),  # upright, as are all boxes
        ("height", pa.int32()),
        ("orientation", pa.int8()),  # EXIF, 1 to 8
        ("size_bytes", pa.int64()),
        ("phash", pa.string()),  # 16 hex
        ("sharpness", pa.float32()),
        ("contrast", pa.float32()),
        ("licence", pa.string()),
        ("status", pa.string()),
        ("duplicate_of", pa.string()),
        ("rule", pa.string()),
        ("measured", pa.float32()),
        ("limit", pa.float32()),
        ("failures", pa.list_(FAILURE)),
        ("source_id", pa.string()),  # an importer's own id and verbatim record, as for claims
        ("extra", pa.string()),
    ]
)

# What a claim has when its author says nothing; every other column defaults to null.
_DEFAULTS: dict[str, Any] = {"human": False, "ignore": False, "round": 0}


@dataclass(frozen=True)
class Tables:
    """Images and the annotations on them, in matching order of `image_key`."""

    images: pa.Table
    annotations: pa.Table


@dataclass(frozen=True)
class Verdicts:
    """What one rule says of each row of a table, in its order.

    `rejected` is boolean, one per row. `measured` and `limit` are float32 columns or one number for
    all; `against` names the row or term a rejected row lost against, null where there is none.
    """

    rejected: pa.Array
    measured: pa.Array | float | None = None
    limit: pa.Array | float | None = None
    against: pa.Array | None = None


def claims(**columns: Any) -> pa.Table:
    """Rows of the claim schema from columns: lists, arrays, or one value for all rows.

    Columns not given are null, but `human` and `ignore` (False) and `round` (0). `annotation_id`,
    `source`, `model` and `revision` are filled in by `engine.merge`; specialists leave them out.

    Raises:
        TableError: An unknown column, columns of different length, or a value of a wrong type.

    Example:
        >>> claims(image_key=["a", "a"], kind="region", role="category", text=["dog", "cat"],
        ...        box=[[0, 0, 4, 3], [1, 1, 2, 2]], score=[0.5, None]).num_rows
        2
    """
    return _build(CLAIM, columns, _DEFAULTS)


def image_rows(**columns: Any) -> pa.Table:
    """Rows of the images schema from columns, as `claims` does for annotations."""
    return _build(IMAGES, columns, {})


def empty_claims() -> pa.Table:
    """A claim table without rows."""
    return CLAIM.empty_table()


def _build(schema: pa.Schema, columns: dict[str, Any], defaults: dict[str, Any]) -> pa.Table:
    unknown = sorted(set(columns) - set(schema.names))
    if unknown:
        raise TableError(
            f"column {unknown[0]!r} is not in the table; known: {', '.join(schema.names)}"
        )
    lengths = {name: len(value) for name, value in columns.items() if _is_column(value)}
    if len(set(lengths.values())) > 1:
        raise TableError(f"columns of different length: {lengths}")
    num_rows = next(iter(lengths.values()), 0)
    arrays = [
        _to_array(field, columns.get(field.name, defaults.get(field.name)), num_rows)
        for field in schema
    ]
    return pa.Table.from_arrays(arrays, schema=schema)


def _is_column(value: Any) -> bool:
    return isinstance(value, (list, tuple, np.ndarray, pa.Array, pa.ChunkedArray))


def _to_array(field: pa.Field, value: Any, num_rows: int) -> pa.Array:
    try:
        if not _is_column(value):
            return _repeated(field, value, num_rows)
        if isinstance(value, pa.ChunkedArray):
            value = value.combine_chunks()
        if isinstance(value, np.ndarray) and field.type == BOX:
            return _boxes_of(value)
        if isinstance(value, pa.Array):
            return (
                encode_words(value)
                if pa.types.is_dictionary(field.type)
                else value.cast(field.type)
            )
        if pa.types.is_dictionary(field.type):
            return pa.array(value, pa.string()).dictionary_encode()
        return pa.array(value, field.type)
    except (
        pa.ArrowInvalid,
        pa.ArrowTypeError,
        pa.ArrowNotImplementedError,
        TypeError,
        ValueError,
    ) as err:
        raise TableError(f"column {field.name!r}: {err}; wanted {field.type}") from err


def _boxes_of(boxes: npt.NDArray[Any]) -> pa.Array:
    if boxes.size and boxes.shape[1:] != (4,):
        raise ValueError(f"shape {boxes.shape}, a box has four numbers")
    flat = pa.array(np.ascontiguousarray(boxes, np.float32).reshape(-1), pa.float32())
    return pa.FixedSizeListArray.from_arrays(flat, 4)


def _repeated(field: pa.Field, value: Any, num_rows: int) -> pa.Array:
    if value is None:
        return pa.nulls(num_rows, field.type)
    if pa.types.is_dictionary(field.type):
        return pa.DictionaryArray.from_arrays(
            pa.array(np.zeros(num_rows, np.int32)), pa.array([value], pa.string())
        )
    return pa.repeat(pa.scalar(value, field.type), num_rows)


def encode_words(column: pa.Array | pa.ChunkedArray) -> pa.Array:
    """The column dictionary-encoded afresh, by first appearance: equal columns, equal bytes."""
    if isinstance(column, pa.ChunkedArray):
        column = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    if pa.types.is_dictionary(column.type):
        if _is_encoded_afresh(column):
            return column
        column = column.dictionary_decode()
    return column.cast(pa.string()).dictionary_encode()


def _is_encoded_afresh(column: pa.DictionaryArray) -> bool:
    """Whether each word stands once in the dictionary, where the column first names it."""
    words = column.dictionary
    if column.type != _WORD or words.null_count or len(pc.unique(words)) != len(words):
        return False
    codes = pc.fill_null(column.indices, -1).to_numpy(zero_copy_only=False)
    highest = np.maximum.accumulate(np.append(np.int32(-1), codes))
    return int(highest[-1]) == len(words) - 1 and bool((np.diff(highest) <= 1).all())


def canonical(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """The table in one chunk, with the schema's column order, types and fresh dictionaries.

    Raises:
        TableError: A column is missing, unknown or of a type that does not convert.
    """
    if set(table.column_names) != set(schema.names):
        missing = sorted(set(schema.names) - set(table.column_names))
        extra = sorted(set(table.column_names) - set(schema.names))
        raise TableError(f"table columns do not match: missing {missing}, unknown {extra}")
    arrays = []
    for field in schema:
        column = table[field.name]
        if pa.types.is_dictionary(field.type):
            arrays.append(encode_words(column))
            continue
        if column.type != field.type:
            column = _cast(column, field)
        arrays.append(column.combine_chunks() if column.num_chunks != 1 else column.chunk(0))
    return pa.Table.from_arrays(arrays, schema=schema)


def _cast(column: pa.ChunkedArray, field: pa.Field) -> pa.ChunkedArray:
    try:
        return column.cast(field.type)
    except (pa.ArrowInvalid, pa.ArrowNotImplementedError) as err:
        raise TableError(
            f"column {field.name!r} is {column.type}, wanted {field.type}: {err}"
        ) from err


def box_array(table: pa.Table) -> npt.NDArray[np.float32]:
    """The boxes of every row, shape (n, 4), xyxy in pixels; a row without a box is four NaN."""
    column = table["box"]
    if len(column) == 0:
        return np.empty((0, 4), np.float32)
    flat = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
    boxes: npt.NDArray[np.float32] = (
        pc.list_flatten(flat.fill_null([float("nan")] * 4))
        .to_numpy(zero_copy_only=False)
        .reshape(-1, 4)
    )
    return boxes


def annotation_ids(
    image_keys: Sequence[str],
    sources: Sequence[str],
    revisions: Sequence[str | None],
    prompts: Sequence[str | None],
    rounds: Sequence[int],
    ordinals: Iterable[int | str],
) -> list[str]:
    """20 hex digits per row, of everything that identifies a claim but its numbers.

    No float takes part, so the id survives the last bit of a score. Fields are length-prefixed: no
    two different rows can spell the same string.
    """
    ids, last, start = [], None, ""
    groups = zip(image_keys, sources, revisions, prompts, rounds, strict=True)
    for group, ordinal in zip(groups, ordinals, strict=True):
        if group != last:  # most rows differ from the one before in nothing but their number
            last = group
            start = "".join("-" if f is None else f"{len(str(f))}:{f}" for f in group)
        number = str(ordinal)
        spelled = f"{start}{len(number)}:{number}".encode()
        ids.append(hashlib.blake2b(spelled, digest_size=10).hexdigest())
    return ids
