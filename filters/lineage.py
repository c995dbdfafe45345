"""The rule that lets no row outlive what it was derived from."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa

from engine.protocols import Context
from engine.schema import Tables, Verdicts
from filters.columns import links


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """Reject rows that rest on a row which was not kept.

    Judges all kinds. A row rests on its `parents`, on its `text_id`, and on its `region_id` unless
    that is itself. What it names must be in the table, which holds only rows still kept, or be
    kept by this rule: rows that rest on an orphan are orphans too. `against` names what is
    missing, a parent before a region before a text; nothing is measured. Null names nothing. Rows
    that name each other in a circle rest on nothing that is missing, and stay.
    """

    name: ClassVar[str] = "orphan"
    applies_to: ClassVar[tuple[str, ...]] = ("text", "region", "grounding")

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        named = links(tables.annotations, ["parents", "region_id", "text_id"])
        lost_by = np.full(tables.annotations.num_rows, -1, np.int64)  # the link that broke
        broken = named.targets < 0
        open_ = context.fresh[named.rows]  # the verdicts on the other rows are final
        while (falls := np.flatnonzero(broken & open_)).size:
            lost_by[named.rows[falls[::-1]]] = falls[::-1]  # the last write wins: the first link
            open_ &= lost_by[named.rows] < 0
            broken = (named.targets >= 0) & (lost_by[named.targets] >= 0)
        rejected = lost_by >= 0
        return Verdicts(
            pa.array(rejected), against=named.ids.take(pa.array(lost_by, mask=~rejected))
        )
