"""Counts of things that may be too many to hold: the frequent ones are kept, memory is bounded."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

_CAP = 50_000  # distinct things held; some 10 MB of short texts


class Tally:
    """Sums of columns by key, over many tables.

    Past the cap the rarest keys are forgotten. A key that comes back counts from zero then, so
    counts are lower bounds; `error` is how much any of them may lack.
    """

    def __init__(self, keys: Sequence[str], sums: Sequence[str], *, cap: int = _CAP) -> None:
        self._keys, self._sums, self._cap = list(keys), list(sums), cap
        self._pending: list[pa.Table] = []
        self._num_pending = 0
        self.error = 0

    def add(self, table: pa.Table) -> None:
        """Adds a table with the key columns and, in int64, those to be summed up."""
        if table.num_rows == 0:
            return
        self._pending.append(self._summed([table]))
        self._num_pending += self._pending[-1].num_rows
        if self._num_pending > 2 * self._cap:
            self._fold()

    def __len__(self) -> int:
        self._fold()
        return self._num_pending

    def top(self, count: int) -> list[dict[str, Any]]:
        """The rows with the largest sums, ties in order of their keys."""
        self._fold()
        if not self._pending:
            return []
        ordered = self._ordered(self._pending[0])
        found: list[dict[str, Any]] = ordered.select([*self._keys, *self._sums])[:count].to_pylist()
        return found

    def _fold(self) -> None:
        if not self._pending:
            return
        table = self._summed(self._pending)
        if table.num_rows > self._cap:
            table = self._ordered(table)
            self.error += int(table["_total"][self._cap].as_py())
            table = table.select([*self._keys, *self._sums])[: self._cap]
        self._pending, self._num_pending = [table], table.num_rows

    def _summed(self, tables: Sequence[pa.Table]) -> pa.Table:
        together = pa.concat_tables(tables).select([*self._keys, *self._sums])
        grouped = together.group_by(self._keys, use_threads=False).aggregate(
            [(name, "sum") for name in self._sums]
        )
        columns = {name: grouped[name] for name in self._keys}
        return pa.table(columns | {name: grouped[f"{name}_sum"] for name in self._sums})

    def _ordered(self, table: pa.Table) -> pa.Table:
        total = table[self._sums[0]]
        for name in self._sums[1:]:
            total = pc.add(total, table[name])
        keys = [(name, "ascending") for name in self._keys]
        return table.append_column("_total", total).sort_by([("_total", "descending"), *keys])


def count_groups(table: pa.Table, names: Sequence[str]) -> list[tuple[tuple[Any, ...], int]]:
    """How often each combination of values stands in those columns; for columns of few values."""
    if table.num_rows == 0:
        return []
    found = table.group_by(list(names), use_threads=False).aggregate([([], "count_all")])
    values = (found[name].to_pylist() for name in names)
    return list(zip(zip(*values, strict=True), found["count_all"].to_pylist(), strict=True))
