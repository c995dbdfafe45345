"""Which first annotations a row comes from, however many rounds lie between."""

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from filters.columns import links


def roots(rows: pa.Table) -> pa.Array:
    """The round-0 ancestors of every row, through `parents`.

    A row of round 0 is its own and only root, whatever it was derived from. One that a round added,
    and that no label stood for before, has none. Parents that are not in the table lead nowhere,
    nor do rows that name each other in a circle.

    Args:
        rows: Claims or annotations; superseded rows among them, or lines end.

    Returns:
        list<string>, one per row: ids in the order in which their rows stand. No rows, no lists.

    Example:
        >>> from engine.schema import claims
        >>> rows = claims(image_key="a", annotation_id=["x", "y"], round=[0, 1],
        ...     kind="region", role="category", parents=[None, ["x"]])
        >>> roots(rows).to_pylist()
        [['x'], ['x']]
    """
    count = rows.num_rows
    is_first = np.asarray(pc.equal(rows["round"].fill_null(0), 0).to_numpy(), bool)
    named = links(rows, ["parents"])
    known = named.targets >= 0
    order = np.argsort(named.rows[known], kind="stable")
    children, parents = named.rows[known][order], named.targets[known][order]
    # pairs of a row and an ancestor, as one number each; those met before are not followed again
    fresh = np.arange(count) * (count + 1)
    met = fresh
    while fresh.size:
        row, ancestor = np.divmod(fresh, max(count, 1))
        follows = ~is_first[ancestor]
        row, ancestor = row[follows], ancestor[follows]
        starts = np.searchsorted(children, ancestor, side="left")
        sizes = np.searchsorted(children, ancestor, side="right") - starts
        steps = np.arange(sizes.sum()) - np.repeat(np.cumsum(sizes) - sizes, sizes)
        further = parents[np.repeat(starts, sizes) + steps]
        fresh = np.setdiff1d(np.repeat(row, sizes) * count + further, met)
        met = np.union1d(met, fresh)
    row, ancestor = np.divmod(np.sort(met), max(count, 1))
    found = is_first[ancestor]
    offsets = np.searchsorted(row[found], np.arange(count + 1))
    ids = rows["annotation_id"].combine_chunks().take(pa.array(ancestor[found]))
    return pa.ListArray.from_arrays(pa.array(offsets, pa.int32()), ids)
