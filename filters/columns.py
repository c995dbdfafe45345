"""Columns of an annotation table as numpy arrays: what several rules measure with."""

from collections.abc import Callable, Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.schema import Tables

Flags = npt.NDArray[np.bool_]
Floats = npt.NDArray[np.float32]
Indices = npt.NDArray[np.int64]


def one_chunk(column: pa.ChunkedArray) -> pa.Array:
    """The column as one array; copied only when it is in several pieces."""
    return column.chunk(0) if column.num_chunks == 1 else column.combine_chunks()


def flags(column: pa.Array | pa.ChunkedArray) -> Flags:
    """A boolean column, null as False, shape (n,)."""
    found: Flags = pc.fill_null(column, False).to_numpy(zero_copy_only=False)
    return found.astype(bool, copy=False)


def is_word(column: pa.ChunkedArray, words: Collection[str]) -> Flags:
    """Which rows of a dictionary column hold one of the words, shape (n,); null holds none."""
    codes = words_of(column)
    wanted = np.array([word in words for word in codes.words], bool)
    return np.append(wanted, False)[codes.indices]


class Words(NamedTuple):
    """A text column as positions in its distinct texts.

    `indices` is int64, shape (n,), -1 for null; `words` holds each distinct text once, in order of
    first appearance.
    """

    indices: Indices
    words: list[str]


def words_of(column: pa.ChunkedArray, spell: Callable[[str], str] | None = None) -> Words:
    """The distinct texts of a column and where each row's is.

    `spell` is applied once per distinct text, and texts it spells alike become one. No rows, no
    words.
    """
    array = one_chunk(column)
    if not pa.types.is_dictionary(array.type):
        array = array.dictionary_encode()
    indices = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False).astype(np.int64)
    words = array.dictionary.to_pylist()
    if spell is None:
        return Words(indices, words)
    places: dict[str, int] = {}
    moved = [places.setdefault(spell(word), len(places)) for word in words]
    return Words(np.array([*moved, -1], np.int64)[indices], list(places))


def image_places(tables: Tables) -> Indices:
    """The row of `tables.images` each annotation belongs to, shape (n,); -1 where there is none."""
    found = pc.index_in(
        tables.annotations["image_key"], tables.images["image_key"].combine_chunks()
    )
    places: Indices = pc.fill_null(found, -1).to_numpy().astype(np.int64)
    return places


def image_sizes(tables: Tables) -> Floats:
    """Width and height of each annotation's image, px, shape (n, 2); NaN where not known."""
    columns = [_floats(tables.images[name]) for name in ("width", "height")]
    known = np.append(np.stack(columns, axis=1), [[np.nan, np.nan]], axis=0)
    sizes: Floats = known.astype(np.float32)[image_places(tables)]
    return sizes


def row_scores(annotations: pa.Table) -> Floats:
    """The box score, or the text score of a row without one, shape (n,); NaN without either."""
    return _floats(pc.coalesce(annotations["score"], annotations["text_score"]))


def _floats(column: pa.Array | pa.ChunkedArray) -> Floats:
    numbers: Floats = pc.cast(column, pa.float32(), safe=False).to_numpy(zero_copy_only=False)
    return np.asarray(numbers, np.float32)


class Links(NamedTuple):
    """References: row `rows[i]` names `ids[i]`, which is row `targets[i]`, -1 if absent."""

    rows: Indices
    targets: Indices
    ids: pa.Array


def links(annotations: pa.Table, columns: Collection[str]) -> Links:
    """Where the ids in those columns (`parents`, `region_id`, `text_id`) lead, column by column.

    Null refers to nothing, nor does a row that names itself, as the first claim of a region does.
    """
    rows, ids = [np.empty(0, np.int64)], [pa.array([], pa.string())]
    own = annotations["annotation_id"]
    for name in columns:
        column = one_chunk(annotations[name])
        if pa.types.is_list(column.type):
            named = pc.list_flatten(column)
            holders = pc.list_parent_indices(column).filter(pc.is_valid(named))
            rows.append(holders.to_numpy(zero_copy_only=False).astype(np.int64))
            ids.append(named.drop_null())
        else:
            holding = np.flatnonzero(flags(pc.not_equal(column, one_chunk(own))))
            rows.append(holding)
            ids.append(column.take(pa.array(holding)))
    all_ids = pa.concat_arrays(ids)
    return Links(np.concatenate(rows), _find(one_chunk(own), all_ids), all_ids)


def _find(own: pa.Array, wanted: pa.Array) -> Indices:
    """The row of each wanted id, -1 if absent. None is null; being fewer, they are hashed."""
    encoded = wanted.dictionary_encode()
    if len(encoded.dictionary) == 0:
        return np.full(len(wanted), -1, np.int64)
    places = pc.fill_null(pc.index_in(own, encoded.dictionary), -1).to_numpy(zero_copy_only=False)
    row_of = np.full(len(encoded.dictionary), -1, np.int64)
    hits = np.flatnonzero(places >= 0)
    row_of[places[hits]] = hits
    found: Indices = row_of[encoded.indices.to_numpy()]
    return found
