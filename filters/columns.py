"""Columns of an annotation table as numpy arrays: what several rules measure with."""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.schema import Tables, Verdicts

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


class Words(NamedTuple):
    """A text column as positions in its distinct texts.

    `indices` is int64, shape (n,), -1 for null; `words` is a string array, each distinct text once,
    in order of first appearance.
    """

    indices: Indices
    words: pa.Array


def words_of(column: pa.ChunkedArray, *, fold: bool = False) -> Words:
    """The distinct texts of a column and where each row's is; no rows, no words.

    With `fold` they are casefolded, and texts that differ in case alone are one.
    """
    array = _encode(one_chunk(column))
    indices = _codes(array)
    if not fold:
        return Words(indices, array.dictionary)
    folded = _encode(casefold(array.dictionary))
    return Words(np.append(_codes(folded), -1)[indices], folded.dictionary)


def casefold(words: pa.Array) -> pa.Array:
    """`str.casefold` of each text, none of them null; Arrow does those in ASCII, which are most."""
    lower = pc.ascii_lower(words)
    others = pc.invert(pc.string_is_ascii(words))
    folded = [word.casefold() for word in words.filter(others).to_pylist()]
    return pc.replace_with_mask(lower, others, pa.array(folded, pa.string()))


def is_word(column: pa.ChunkedArray, words: Collection[str]) -> Flags:
    """Which rows of a dictionary column hold one of the words, shape (n,); null holds none."""
    found = words_of(column)
    return np.append(flags(pc.is_in(found.words, pa.array(words, pa.string()))), False)[
        found.indices
    ]


def _encode(array: pa.Array) -> pa.DictionaryArray:
    return array if pa.types.is_dictionary(array.type) else array.dictionary_encode()


def _codes(array: pa.DictionaryArray) -> Indices:
    indices = pc.fill_null(array.indices, -1).to_numpy(zero_copy_only=False)
    codes: Indices = indices.astype(np.int64)
    return codes


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


def lost_against(
    rows: pa.Table, lost: Indices, winners: Indices, measured: Floats, limit: float
) -> Verdicts:
    """Verdicts that reject the rows `lost`, each for one of `winners`; all of shape (k,)."""
    rejected = np.zeros(rows.num_rows, bool)
    rejected[lost] = True
    numbers = np.full(rows.num_rows, np.nan, np.float32)
    numbers[lost] = measured
    winner = np.full(rows.num_rows, -1, np.int64)
    winner[lost] = winners
    against = one_chunk(rows["annotation_id"]).take(pa.array(winner, mask=~rejected))
    return Verdicts(
        pa.array(rejected),
        measured=pa.array(numbers, from_pandas=True),
        limit=limit,
        against=against,
    )


def groups_of(*codes: Indices) -> Indices:
    """A code per row, counted from 0, equal where all the codes (0 or more) are; shapes (n,)."""
    joined: Indices = np.zeros_like(codes[0])
    for code in codes:
        joined = np.unique(joined * (code.max(initial=0) + 1) + code, return_inverse=True)[1]
    return joined
