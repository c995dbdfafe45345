"""Judges the rows of a finished shard again, level by level, as the run that made them did."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.judge import RuleCounts, RuleEntry, add_counts, judge, supersede
from engine.judge_images import judge_images
from engine.protocols import Replaces
from engine.schema import ANNOTATIONS, CLAIM, VERDICT, canonical

_LAST = "orphan"  # follows from the other verdicts: always judged again


@dataclass(frozen=True, kw_only=True)
class Replay:
    """How to judge again.

    Attributes:
        levels: Names of sources, those whose rows are judged together in one list, in order. Rows
            of a source in none of them belong to the first.
        replacing: When rows of a source supersede their parents.
        rules: In order.
        only: The verdicts of the other rules stay; null: all are judged again.
        seed: The run's.
    """

    levels: Sequence[Sequence[str]]
    replacing: Mapping[str, Replaces] = field(default_factory=dict)
    rules: Sequence[RuleEntry] = ()
    only: Collection[str] | None = None
    seed: int = 0


def rejudge(
    images: pa.Table,
    rows: pa.Table,
    replay: Replay,
    decisions: Mapping[str, pa.Table],
) -> tuple[pa.Table, pa.Table, RuleCounts]:
    """Both tables of a shard with new verdicts; claims and their order stay.

    Args:
        images: Schema `engine.schema.IMAGES`.
        rows: Schema `engine.schema.ANNOTATIONS`; their verdicts are forgotten, but with `only`.
        replay: How.
        decisions: What rules over the whole dataset came to, by name.

    Returns:
        Images, rows, and the counts of each rule.
    """
    images, counts = judge_images(
        images, replay.rules, only=replay.only, seed=replay.seed, decisions=decisions
    )
    settled = _settled(rows, replay.only)
    rules = [e for e in replay.rules if replay.only is None or e.rule.name in {*replay.only, _LAST}]
    level_of_row = _levels(rows["source"], replay.levels)
    state, places = ANNOTATIONS.empty_table(), np.empty(0, np.int64)
    for level in range(max(len(replay.levels), 1)):
        mine = level_of_row == level
        open_, fixed = np.flatnonzero(mine & ~settled), np.flatnonzero(mine & settled)
        fresh = _taken(rows, open_).select(CLAIM.names)
        judged, more = judge(images, state, fresh, rules, seed=replay.seed, decisions=decisions)
        add_counts(counts, more)
        before, new = judged.slice(0, state.num_rows), judged.slice(state.num_rows)
        if len(fixed):
            new = pa.concat_tables([new, rows.take(pa.array(fixed))]).unify_dictionaries()
        if replay.replacing:
            before = supersede(before, new, replay.replacing)
        state = pa.concat_tables([before, new]).unify_dictionaries()
        places = np.concatenate([places, open_, fixed])
    verdicts = _taken(state.select(VERDICT.names), np.argsort(places, kind="stable"))
    columns = [*rows.select(CLAIM.names).columns, *canonical(verdicts, VERDICT).columns]
    return images, pa.table(columns, schema=ANNOTATIONS), counts


def _taken(rows: pa.Table, places: npt.NDArray[np.int64]) -> pa.Table:
    """The rows at those places; as they are where those are all, in order."""
    if len(places) == rows.num_rows and bool((places == np.arange(len(places))).all()):
        return rows
    return rows.take(pa.array(places))


def _settled(rows: pa.Table, only: Collection[str] | None) -> npt.NDArray[np.bool_]:
    """Rows whose verdict stays: rejected by a rule that is not judged again."""
    if only is None:
        return np.zeros(rows.num_rows, bool)
    again = pc.is_in(rows["rule"].cast(pa.string()), pa.array([*only, _LAST], pa.string()))
    rejected = pc.equal(rows["status"].cast(pa.string()), "rejected")
    return np.asarray(pc.and_(rejected, pc.invert(again)).to_numpy(), bool)


def _levels(sources: pa.ChunkedArray, levels: Sequence[Sequence[str]]) -> npt.NDArray[np.int64]:
    level = {name: number for number, names in enumerate(levels) for name in names}
    encoded = sources.combine_chunks()
    numbers = [level.get(name, 0) for name in encoded.dictionary.to_pylist()]
    found: npt.NDArray[np.int64] = np.array([*numbers, 0], np.int64)[
        pc.fill_null(encoded.indices, -1).to_numpy()
    ]
    return found
