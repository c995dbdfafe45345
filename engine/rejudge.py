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

RELABEL = "relabel"  # the `rule` of a row that a refinement round retracted
_LAST = "orphan"  # follows from the other verdicts: always judged again
_IN_ROUND = "@"  # no name of a source holds it


@dataclass(frozen=True, kw_only=True)
class Replay:
    """How to judge again.

    Attributes:
        levels: Names of sources, those whose rows are judged together in one list, in order. Rows
            of a source in none of them belong to the first. What a source said in refinement round
            k has a level of its own where one names it so: `round_name("florence2", 2)`.
        replacing: When rows of a source supersede their parents; a name with a round speaks of the
            rows of that round alone.
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

    A row that a refinement round retracted (superseded by the rule `relabel`, `measured` is the
    round) stays so whatever the rules say. Until that round's level it is judged, and stands beside
    the others, as if nobody had retracted it yet: or what it had suppressed would rise again.

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
    settled, retracted = _settled(rows, replay.only), _retracted(rows)
    rules = [e for e in replay.rules if replay.only is None or e.rule.name in {*replay.only, _LAST}]
    level_of_row, round_of_row = _levels(rows, replay.levels), _rounds(rows["round"])
    state, places = ANNOTATIONS.empty_table(), np.empty(0, np.int64)
    for level in range(max(len(replay.levels), 1)):
        mine = level_of_row == level
        gone = (retracted > 0) & (retracted <= round_of_row[mine].max(initial=0))
        state = _without(state, gone[places])
        open_, fixed = np.flatnonzero(mine & ~settled), np.flatnonzero(mine & settled)
        fresh = _taken(rows, open_).select(CLAIM.names)
        judged, more = judge(images, state, fresh, rules, seed=replay.seed, decisions=decisions)
        add_counts(counts, more)
        before, new = judged.slice(0, state.num_rows), judged.slice(state.num_rows)
        if len(fixed):
            new = pa.concat_tables([new, rows.take(pa.array(fixed))]).unify_dictionaries()
        if replay.replacing:
            before = supersede(before, new, _replacing(replay, level))
        state = pa.concat_tables([before, new]).unify_dictionaries()
        places = np.concatenate([places, open_, fixed])
    verdicts = _taken(state.select(VERDICT.names), np.argsort(places, kind="stable"))
    if retracted.any():
        both = pa.concat_tables([verdicts, rows.select(VERDICT.names)]).unify_dictionaries()
        own = np.arange(rows.num_rows)
        verdicts = both.take(pa.array(np.where(retracted > 0, own + rows.num_rows, own)))
    columns = [*rows.select(CLAIM.names).columns, *canonical(verdicts, VERDICT).columns]
    return images, pa.table(columns, schema=ANNOTATIONS), counts


def round_name(source: str, round_: int) -> str:
    """A source in one refinement round, as `Replay.levels` and `Replay.replacing` name it.

    Example:
        >>> round_name("florence2", 2)
        'florence2@2'
    """
    return f"{source}{_IN_ROUND}{round_}"


def _replacing(replay: Replay, level: int) -> dict[str, Replaces]:
    """When rows of a source supersede their parents, of those of the level."""
    names = replay.levels[level] if replay.levels else ()
    return {
        name.partition(_IN_ROUND)[0]: when
        for name, when in replay.replacing.items()
        if _IN_ROUND not in name or name in names
    }


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


def _retracted(rows: pa.Table) -> npt.NDArray[np.int64]:
    """The round that retracted each row, shape (n,); 0 where none did."""
    by_round = pc.equal(rows["rule"].cast(pa.string()), RELABEL).fill_null(False)
    if not pc.any(by_round).as_py():
        return np.zeros(rows.num_rows, np.int64)
    told = pc.max_element_wise(pc.fill_null(rows["measured"], 1), 1)
    rounds: npt.NDArray[np.int64] = pc.if_else(by_round, told, 0).to_numpy().astype(np.int64)
    return rounds


def _without(state: pa.Table, gone: npt.NDArray[np.bool_]) -> pa.Table:
    """The rows judged so far, those kept that are gone from here on superseded."""
    if not gone.any():
        return state
    status = state["status"].cast(pa.string())
    falls = pc.and_(pc.equal(status, "kept"), pa.array(gone))
    place = ANNOTATIONS.get_field_index("status")
    changed = pc.if_else(falls, "superseded", status)
    return canonical(state.set_column(place, "status", changed), ANNOTATIONS)


def _rounds(column: pa.ChunkedArray) -> npt.NDArray[np.int64]:
    rounds: npt.NDArray[np.int64] = pc.fill_null(column, 0).to_numpy().astype(np.int64)
    return rounds


def _levels(rows: pa.Table, levels: Sequence[Sequence[str]]) -> npt.NDArray[np.int64]:
    level = {name: number for number, names in enumerate(levels) for name in names}
    encoded = rows["source"].combine_chunks()
    names, codes = encoded.dictionary.to_pylist(), pc.fill_null(encoded.indices, -1).to_numpy()
    numbers = [level.get(name, 0) for name in names]
    found: npt.NDArray[np.int64] = np.array([*numbers, 0], np.int64)[codes]
    rounds = _rounds(rows["round"])
    for round_ in np.unique(rounds[rounds > 0]).tolist():
        later = [level.get(round_name(name, round_), level.get(name, 0)) for name in names]
        found = np.where(rounds == round_, np.array([*later, 0], np.int64)[codes], found)
    return found
