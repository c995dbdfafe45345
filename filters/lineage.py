"""The rule that lets no row outlive what it was derived from."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.protocols import Context
from engine.schema import Tables, Verdicts
from filters.columns import Flags, flags, image_places, links


@dataclass(frozen=True, kw_only=True)
class Orphan:
    """Reject rows that rest on a row, or on an image, which was not kept.

    Judges all kinds. A row rests on its `parents`, on its `text_id`, and on its `region_id` unless
    that is itself. What it names must be in the table, which holds only rows still kept, or be
    kept by this rule: rows that rest on an orphan are orphans too. `against` names what is
    missing, a parent before a region before a text; nothing is measured. Null names nothing. Rows
    that name each other in a circle rest on nothing that is missing, and stay.

    An image is not kept that could not be read or that a rule turned down; `against` then names it.
    One that is a duplicate byte for byte keeps its rows: another text may have come with it.
    """

    name: ClassVar[str] = "orphan"
    applies_to: ClassVar[tuple[str, ...]] = ("text", "region", "grounding")

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        lost_image = _image_lost(tables) & context.fresh
        named = links(tables.annotations, ["parents", "region_id", "text_id"])
        lost_by = np.full(tables.annotations.num_rows, -1, np.int64)  # the link that broke
        broken = named.targets < 0
        # the verdicts on rows that are not fresh are final
        open_ = (context.fresh & ~lost_image)[named.rows]
        while (falls := np.flatnonzero(broken & open_)).size:
            lost_by[named.rows[falls[::-1]]] = falls[::-1]  # the last write wins: the first link
            open_ &= lost_by[named.rows] < 0
            broken = (named.targets >= 0) & (lost_by[named.targets] >= 0)
        by_row = named.ids.take(pa.array(lost_by, mask=lost_by < 0))
        keys = tables.annotations["image_key"].combine_chunks()
        against = pc.if_else(pa.array(lost_image), keys, by_row)
        return Verdicts(pa.array(lost_image | (lost_by >= 0)), against=against)


def _image_lost(tables: Tables) -> Flags:
    """Which rows are on an image that failed or that a rule turned down, shape (n,)."""
    images = tables.images
    failed = pc.equal(images["status"].fill_null("ok"), "failed")
    lost = pc.or_(failed, pc.is_valid(images["rule"]))
    if not pc.any(lost).as_py():
        return np.zeros(tables.annotations.num_rows, bool)
    return np.append(flags(lost), False)[image_places(tables)]
