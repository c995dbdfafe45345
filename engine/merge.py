"""From what one specialist answered to rows of the table: checked, identified, in canonical order.

Nothing is suppressed here: a row that leaves a specialist is a row of the table.
"""

from collections.abc import Sequence

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import TableError
from engine.schema import CLAIM, ROLES, annotation_ids, canonical

_PAIRS = {f"{kind}/{role}" for kind, roles in ROLES.items() for role in roles}


def identify(
    rows: pa.Table, *, source: str, model: str | None, revision: str | None, round_: int = 0
) -> pa.Table:
    """The rows with `source`, `model`, `revision`, `round`, ids and references filled in.

    A specialist may name its own rows in `annotation_id` to refer to them from `region_id`,
    `text_id` and `parents` of the same answer; such names become the final ids. A region that is
    not named is its own first claim: its `region_id` is its `annotation_id`.

    Args:
        rows: Claims of one specialist; the rows of one image in the order the specialist gave them.
        source: Name of the specialist.
        model: Its model id; null where a source of images gave the rows.
        revision: Of its weights; null where there are none.
        round_: 0 for the first annotation, k for what round k writes.

    Returns:
        Claims in the given order; no rows, no rows.
    """
    num_rows = rows.num_rows
    keys = rows["image_key"].to_pylist()
    prompts = rows["prompt"].to_pylist()
    ordinals = _ordinals(keys, prompts, rows["source_id"].to_pylist())
    ids = annotation_ids(
        keys, [source] * num_rows, [revision] * num_rows, prompts, [round_] * num_rows, ordinals
    )
    columns = {name: rows[name] for name in CLAIM.names}
    fixed = {"source": source, "model": model, "revision": revision, "round": round_}
    for name, value in fixed.items():
        columns[name] = pa.array([value] * num_rows, pa.int16() if name == "round" else pa.string())
    columns.update(_references(rows, keys, ids))
    columns["annotation_id"] = pa.array(ids, pa.string())
    return canonical(pa.table(columns), CLAIM)


def _ordinals(
    keys: list[str], prompts: list[str | None], source_ids: list[str | None]
) -> list[int | str]:
    """The number of each row among those of its image, prompt and own id.

    A source may give one id to several rows, and the id "0" is not the row of number 0.
    """
    seen: dict[tuple[str, str | None, str | None], int] = {}
    ordinals: list[int | str] = []
    for group in zip(keys, prompts, source_ids, strict=True):
        own, number = group[2], seen.get(group, 0)
        ordinals.append(number if own is None else f"{own}/{number}")
        seen[group] = number + 1
    return ordinals


def _references(rows: pa.Table, keys: list[str], ids: list[str]) -> dict[str, pa.Array]:
    if rows["annotation_id"].null_count == rows.num_rows:  # nobody is named
        owns = pc.and_(
            pc.is_null(rows["region_id"]), pc.equal(rows["kind"].cast(pa.string()), "region")
        )
        region_ids = pc.if_else(owns, pa.array(ids, pa.string()), rows["region_id"])
        return {"region_id": region_ids, "text_id": rows["text_id"], "parents": rows["parents"]}
    local = rows["annotation_id"].to_pylist()
    final = {(k, a): i for k, a, i in zip(keys, local, ids, strict=True) if a is not None}

    def resolve(key: str, name: str | None) -> str | None:
        return final.get((key, name), name) if name is not None else None

    regions = [resolve(k, r) for k, r in zip(keys, rows["region_id"].to_pylist(), strict=True)]
    is_region = pc.equal(rows["kind"].cast(pa.string()), "region").to_pylist()
    owned = [
        i if r is None and own else r for r, i, own in zip(regions, ids, is_region, strict=True)
    ]
    texts = [resolve(k, t) for k, t in zip(keys, rows["text_id"].to_pylist(), strict=True)]
    parents = [
        None if names is None else [resolve(k, n) for n in names]
        for k, names in zip(keys, rows["parents"].to_pylist(), strict=True)
    ]
    return {
        "region_id": pa.array(owned, pa.string()),
        "text_id": pa.array(texts, pa.string()),
        "parents": pa.array(parents, pa.list_(pa.string())),
    }


def check_rows(rows: pa.Table, image_keys: Sequence[str]) -> pa.Table:
    """The rows in the claim schema, if they keep its rules.

    A box is not judged here: an impossible one is a claim, and `invalid_box` rejects it.

    Raises:
        TableError: A column is missing or of a wrong type, an image was not among those given, a
            kind has no such role, a row has no text (proposals aside), a score is not a number,
            or a polygon is not rings of corners.
    """
    if not isinstance(rows, pa.Table):
        raise TableError(
            f"returned {type(rows).__name__}; wanted an Arrow table of engine.schema.claims"
        )
    rows = canonical(rows, CLAIM)
    if rows.num_rows == 0:
        return rows
    foreign = pc.index_in(rows["image_key"], pa.array(image_keys, pa.string()))
    if foreign.null_count:
        key = rows["image_key"].filter(pc.is_null(foreign))[0].as_py()
        raise TableError(
            f"returned a row for image_key {key!r}, not among the {len(image_keys)} images given; "
            "return rows for those only"
        )
    _check_roles(rows)
    for name in ("score", "text_score"):
        if pc.any(pc.invert(pc.is_finite(rows[name]))).as_py():
            raise TableError(
                f"returned a {name} that is not a finite number; return null for no score"
            )
    _check_polygons(rows["polygon"])
    return rows


def _check_polygons(polygons: pa.ChunkedArray) -> None:
    rings = pc.list_flatten(polygons)
    if pc.any(pc.equal(pc.bit_wise_and(pc.list_value_length(rings), 1), 1)).as_py():
        raise TableError("returned a polygon with half a corner; rings are x0, y0, x1, y1, ...")
    if pc.any(pc.invert(pc.is_finite(pc.list_flatten(rings)))).as_py():
        raise TableError("returned a polygon with a coordinate that is not a finite number")


def _check_roles(rows: pa.Table) -> None:
    kinds, roles = rows["kind"].cast(pa.string()), rows["role"].cast(pa.string())
    pairs = pc.binary_join_element_wise(kinds.fill_null(""), roles.fill_null(""), "/")
    for pair in pc.unique(pairs).to_pylist():
        if pair not in _PAIRS:
            raise TableError(f"returned kind/role {pair!r}; allowed: {', '.join(sorted(_PAIRS))}")
    textless = pc.and_(pc.is_null(rows["text"]), pc.not_equal(roles, "proposal"))
    if pc.any(textless).as_py():
        raise TableError("returned a row without text; only proposals have none")


def merge(
    tables: Sequence[pa.Table], image_keys: Sequence[str], schema: pa.Schema = CLAIM
) -> pa.Table:
    """All tables in one, by image in the given order, then as given: sources, then ordinals.

    Returns:
        One canonical table: the same rows in the same tables give the same bytes.
    """
    rows = pa.concat_tables([canonical(t, schema) for t in tables] or [schema.empty_table()])
    rows = canonical(rows.unify_dictionaries(), schema)
    position = pc.index_in(rows["image_key"], pa.array(image_keys, pa.string()))
    if isinstance(position, pa.ChunkedArray):
        position = position.combine_chunks()
    order = np.argsort(position.to_numpy(zero_copy_only=False), kind="stable")
    return canonical(rows.take(pa.array(order)), schema)
