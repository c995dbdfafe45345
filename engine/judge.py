"""Rules in order over the rows of one level: who is kept, who is rejected, by which rule and why."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import StoppedError
from engine.protocols import Context, Rule
from engine.schema import ANNOTATIONS, CLAIM, VERDICT, Tables, Verdicts, canonical

# A rule is only called a runaway once it has judged this many rows (DESIGN 5).
ALARM_MIN_ROWS = 1_000


@dataclass(frozen=True)
class RuleEntry:
    """A rule as configured: its place in the order and the share of rejections that stops a run."""

    rule: Rule
    alarm_share: float = 0.95


@dataclass
class RuleCount:
    """How many rows a rule judged and how many of them it rejected."""

    judged: int = 0
    rejected: int = 0


RuleCounts = dict[str, RuleCount]


def judge(
    images: pa.Table,
    earlier: pa.Table,
    fresh: pa.Table,
    rules: Sequence[RuleEntry],
    *,
    replacing: frozenset[str] = frozenset(),
    seed: int = 0,
) -> tuple[pa.Table, RuleCounts]:
    """Verdicts on the fresh rows, with the kept rows of earlier levels as context.

    Args:
        images: The images of the shard.
        earlier: Rows with verdicts of the levels before; their verdicts are final, but that a kept
            row of a `replacing` source supersedes the rows it names as parents.
        fresh: Claims of this level.
        rules: In order; a rule sees only what the rules before it left.
        replacing: Sources whose kept rows supersede their parents.

    Returns:
        All rows, earlier ones first, with verdicts; and the counts of each rule, in their order.
    """
    kept_before = pc.equal(earlier["status"].cast(pa.string()), "kept").to_numpy()
    context_rows = earlier.filter(pa.array(kept_before)).select(CLAIM.names)
    rows = pa.concat_tables([context_rows, fresh]).unify_dictionaries().combine_chunks()
    is_fresh = np.arange(rows.num_rows) >= context_rows.num_rows
    verdicts = _Ledger(rows.num_rows)
    counts: RuleCounts = {}
    seen = rows
    for entry in rules:
        alive = np.flatnonzero(verdicts.alive)
        if len(alive) < seen.num_rows:  # most rules reject nothing: then no row is copied
            seen = rows.take(pa.array(alive))
        context = Context(fresh=is_fresh[alive], seed=seed)
        judged = is_fresh[alive] & _of_kinds(seen, entry.rule.applies_to)
        answer = entry.rule.judge(Tables(images, seen), context)
        rejected = np.asarray(answer.rejected.to_numpy(zero_copy_only=False), bool) & judged
        verdicts.reject(alive, rejected, entry.rule.name, answer)
        counts[entry.rule.name] = RuleCount(int(judged.sum()), int(rejected.sum()))
    new = verdicts.table(is_fresh)
    judged_rows = pa.table([*fresh.columns, *new.columns], schema=ANNOTATIONS)
    earlier = _supersede(earlier, judged_rows, replacing) if replacing else earlier
    return pa.concat_tables([earlier, judged_rows]).unify_dictionaries(), counts


def raise_alarm(counts: RuleCounts, rules: Sequence[RuleEntry]) -> None:
    """Stops the run when a rule has rejected more than its alarm share of at least 1,000 rows.

    Raises:
        StoppedError: With the share, the likely cause and the option that lifts the alarm.
    """
    for index, entry in enumerate(rules):
        count = counts.get(entry.rule.name)
        if count is None or count.judged < ALARM_MIN_ROWS:
            continue
        share = count.rejected / count.judged
        if share > entry.alarm_share:
            raise StoppedError(
                f"rule {entry.rule.name!r} rejected {share:.1%} of {count.judged:,} rows (alarm share "
                f"{entry.alarm_share:.0%}); check its limits and the specialist whose rows it judges, or "
                f"lift the alarm with rules.{index}.alarm_share=1"
            )


def add_counts(total: RuleCounts, more: RuleCounts) -> None:
    """Adds the counts of one shard or level to a running total, in place."""
    for name, count in more.items():
        entry = total.setdefault(name, RuleCount())
        entry.judged += count.judged
        entry.rejected += count.rejected


class _Ledger:
    """Verdict columns under construction, one entry per row."""

    def __init__(self, num_rows: int) -> None:
        self.alive = np.ones(num_rows, bool)
        self._rules: list[str] = []
        self._rule = np.full(num_rows, -1, np.int32)  # place in _rules
        self._measured = np.full(num_rows, np.nan, np.float32)
        self._limit = np.full(num_rows, np.nan, np.float32)
        self._winners = [pa.array([], pa.string())]
        self._against = np.full(num_rows, -1, np.int64)  # place in _winners, one after the other

    def reject(
        self,
        rows: npt.NDArray[np.intp],
        rejected: npt.NDArray[np.bool_],
        rule: str,
        answer: Verdicts,
    ) -> None:
        losers = rows[rejected]
        self.alive[losers] = False
        self._rule[losers] = len(self._rules)
        self._rules.append(rule)
        self._measured[losers] = _numbers(answer.measured, rejected)
        self._limit[losers] = _numbers(answer.limit, rejected)
        if answer.against is not None:
            taken = sum(map(len, self._winners))
            self._against[losers] = np.arange(taken, taken + len(losers))
            self._winners.append(answer.against.filter(pa.array(rejected)).cast(pa.string()))

    def table(self, chosen: npt.NDArray[np.bool_]) -> pa.Table:
        rule, against = self._rule[chosen], self._against[chosen]
        columns = {
            "status": _words((~self.alive[chosen]).astype(np.int32), ["kept", "rejected"]),
            "rule": _words(rule, self._rules),
            "measured": pa.array(self._measured[chosen], pa.float32(), from_pandas=True),
            "limit": pa.array(self._limit[chosen], pa.float32(), from_pandas=True),
            "against": pa.concat_arrays(self._winners).take(pa.array(against, mask=against < 0)),
        }
        return canonical(pa.table(columns), VERDICT)


def _words(places: npt.NDArray[np.int32], words: list[str]) -> pa.DictionaryArray:
    """The word at each place, null below 0."""
    indices = pa.array(places, mask=places < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(words, pa.string()))


def _numbers(
    value: pa.Array | float | None, chosen: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32] | float:
    if value is None:
        return float("nan")
    if isinstance(value, (int, float)):
        return float(value)
    numbers: npt.NDArray[np.float32] = np.asarray(value.to_numpy(zero_copy_only=False), np.float32)
    return numbers[chosen]


def _of_kinds(rows: pa.Table, kinds: tuple[str, ...]) -> npt.NDArray[np.bool_]:
    found = pc.is_in(rows["kind"].cast(pa.string()), pa.array(kinds, pa.string()))
    return np.asarray(found.to_numpy(), bool)


def _supersede(earlier: pa.Table, fresh: pa.Table, replacing: frozenset[str]) -> pa.Table:
    """Earlier kept rows named as parents by kept rows of a replacing source are superseded by them."""
    wins = pc.and_(
        pc.equal(fresh["status"].cast(pa.string()), "kept"),
        pc.is_in(fresh["source"].cast(pa.string()), pa.array(sorted(replacing), pa.string())),
    )
    winners = fresh.filter(wins)
    parents = winners["parents"].combine_chunks()
    ids = pc.take(winners["annotation_id"], pc.list_parent_indices(parents))
    found = pc.index_in(earlier["annotation_id"], pc.list_flatten(parents))
    hit = pc.and_(pc.is_valid(found), pc.equal(earlier["status"].cast(pa.string()), "kept"))
    by = pc.take(ids, found)
    names = pc.take(
        pc.take(winners["source"].cast(pa.string()), pc.list_parent_indices(parents)), found
    )
    changed = {
        "status": pc.if_else(hit, "superseded", earlier["status"].cast(pa.string())),
        "rule": pc.if_else(hit, names, earlier["rule"].cast(pa.string())),
        "against": pc.if_else(hit, by, earlier["against"]),
    }
    columns = {name: changed.get(name, earlier[name]) for name in ANNOTATIONS.names}
    return canonical(pa.table(columns), ANNOTATIONS)
