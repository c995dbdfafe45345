"""Rules in order over the rows of one level: who is kept, who is rejected, by which rule, why."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError, StoppedError
from engine.protocols import Context, Need, Replaces, Rule
from engine.schema import ANNOTATIONS, CLAIM, VERDICT, Tables, Verdicts, canonical

# A rule is only called a runaway once it has judged this many rows (DESIGN 5).
ALARM_MIN_ROWS = 1_000


@dataclass(frozen=True)
class RuleEntry:
    """A rule as configured, and the share of rejections that stops a run.

    `place` is its index in the config's own `rules`; null where the config does not list it.
    """

    rule: Rule
    alarm_share: float = 0.95
    place: int | None = None


def needs_of(entry: RuleEntry) -> list[Need]:
    """What a rule needs on this machine; most need nothing."""
    told = getattr(entry.rule, "needs", None)
    return list(told()) if told is not None else []


def check_needs(rules: Sequence[RuleEntry]) -> None:
    """Refuses to begin where a rule lacks something.

    Raises:
        ConfigError: What is missing, and the command that mends it.
    """
    for entry in rules:
        missing = [need for need in needs_of(entry) if not need.present and not need.downloads]
        if missing:
            lines = "; ".join(f"{need.what} is missing: {need.mend}" for need in missing)
            raise ConfigError(f"rule {entry.rule.name!r}: {lines}")


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
    replacing: Mapping[str, Replaces] = MappingProxyType({}),
    seed: int = 0,
    decisions: Mapping[str, pa.Table] = MappingProxyType({}),
) -> tuple[pa.Table, RuleCounts]:
    """Verdicts on the fresh rows, with the kept rows of earlier levels as context.

    Args:
        images: The images of the shard.
        earlier: Rows with verdicts of the levels before; these are final, but that a row of a
            `replacing` source supersedes the rows it names as parents.
        fresh: Claims of this level.
        rules: In order; a rule sees only what the rules before it left.
        replacing: When rows of a source supersede their parents; of those not named they never do.
        seed: The run's, for rules that draw.
        decisions: What rules over the whole dataset came to, by name.

    Returns:
        All rows, earlier ones first, with verdicts; and the counts of each rule, in their order.
    """
    kept_before = pc.equal(earlier["status"].cast(pa.string()), "kept").to_numpy()
    context_rows = earlier.filter(pa.array(kept_before)).select(CLAIM.names)
    rows = _together(context_rows, fresh)
    is_fresh = np.arange(rows.num_rows) >= context_rows.num_rows
    verdicts = _Ledger(rows.num_rows)
    alive, seen = np.arange(rows.num_rows), rows
    kinds, constant = _Kinds(rows), _constant_columns(rows)
    counts: RuleCounts = {}
    for entry in rules:
        if "image" in entry.rule.applies_to:
            continue  # see `engine.judge_images`
        context = Context(is_fresh[alive], seed, decisions.get(entry.rule.name))
        judged = is_fresh[alive] & kinds.among(entry.rule.applies_to)[alive]
        answer = entry.rule.judge(Tables(images, seen), context)
        rejected = np.asarray(answer.rejected.to_numpy(zero_copy_only=False), bool) & judged
        # a rule may stand in the config twice, with other options
        add_counts(counts, {entry.rule.name: RuleCount(int(judged.sum()), int(rejected.sum()))})
        if rejected.any():  # most rules reject few rows of a shard or none: copy only when they do
            verdicts.reject(alive[rejected], rejected, entry.rule.name, answer)
            alive, seen = alive[~rejected], _without(seen, rejected, constant)
    new = verdicts.table(is_fresh)
    judged_rows = pa.table([*fresh.columns, *new.columns], schema=ANNOTATIONS)
    earlier = supersede(earlier, judged_rows, replacing) if replacing else earlier
    return pa.concat_tables([earlier, judged_rows]).unify_dictionaries(), counts


def raise_alarm(counts: RuleCounts, rules: Sequence[RuleEntry]) -> None:
    """Stops the run when a rule has rejected more than its alarm share of at least 1,000 rows.

    Raises:
        StoppedError: With the share, the likely cause and the option that lifts the alarm.
    """
    for entry in rules:
        count = counts.get(entry.rule.name)
        if count is None or count.judged < ALARM_MIN_ROWS:
            continue
        share = count.rejected / count.judged
        if share > entry.alarm_share:
            raise StoppedError(
                f"rule {entry.rule.name!r} rejected {share:.1%} of {count.judged:,} rows (alarm "
                f"share {entry.alarm_share:.0%}); check its limits and the specialist whose rows "
                f"it judges, or lift the alarm with {_lifted(entry)}"
            )


def _lifted(entry: RuleEntry) -> str:
    if entry.place is None:
        return f"an entry {{rule: {entry.rule.name}, alarm_share: 1}} in rules"
    return f"rules.{entry.place}.alarm_share=1"


def add_counts(total: RuleCounts, more: RuleCounts) -> None:
    """Adds the counts of one shard or level to a running total, in place."""
    for name, count in more.items():
        entry = total.setdefault(name, RuleCount())
        entry.judged += count.judged
        entry.rejected += count.rejected


class _Ledger:
    """Verdict columns under construction, one entry per row."""

    def __init__(self, num_rows: int) -> None:
        self._names: list[str] = []
        self._rule = np.full(num_rows, -1, np.int32)
        self._measured = np.full(num_rows, np.nan, np.float32)
        self._limit = np.full(num_rows, np.nan, np.float32)
        self._against = np.full(num_rows, -1, np.int64)  # position in the pieces, one after another
        self._pieces = [pa.array([], pa.string())]
        self._num_terms = 0

    def reject(
        self,
        losers: npt.NDArray[np.intp],
        rejected: npt.NDArray[np.bool_],
        rule: str,
        answer: Verdicts,
    ) -> None:
        """Notes rows that lost: `losers` are their places here, `rejected` those in the answer."""
        self._rule[losers] = len(self._names)
        self._names.append(rule)
        self._measured[losers] = _numbers(answer.measured, rejected)
        self._limit[losers] = _numbers(answer.limit, rejected)
        if answer.against is not None:
            terms = answer.against.filter(pa.array(rejected)).cast(pa.string())
            self._pieces.append(terms)
            self._against[losers] = self._num_terms + np.arange(len(losers))
            self._num_terms += len(losers)

    def table(self, chosen: npt.NDArray[np.bool_]) -> pa.Table:
        rule, against = self._rule[chosen], self._against[chosen]
        terms = pa.chunked_array(self._pieces).combine_chunks()
        columns = {
            "status": _words((rule >= 0).astype(np.int32), ["kept", "rejected"]),
            "rule": _words(rule, self._names),
            "measured": pa.array(self._measured[chosen], pa.float32(), from_pandas=True),
            "limit": pa.array(self._limit[chosen], pa.float32(), from_pandas=True),
            "against": terms.take(pa.array(against, mask=against < 0)),
        }
        return pa.table(columns, schema=VERDICT)


def _words(codes: npt.NDArray[np.int32], names: list[str]) -> pa.Array:
    """A dictionary column; a negative code is null."""
    indices = pa.array(codes, pa.int32(), mask=codes < 0)
    return pa.DictionaryArray.from_arrays(indices, pa.array(names, pa.string()))


def _numbers(
    value: pa.Array | float | None, chosen: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32] | float:
    if value is None:
        return float("nan")
    if isinstance(value, (int, float)):
        return float(value)
    numbers: npt.NDArray[np.float32] = np.asarray(value.to_numpy(zero_copy_only=False), np.float32)
    return numbers[chosen]


def _together(context_rows: pa.Table, fresh: pa.Table) -> pa.Table:
    """The rows of earlier levels, then the fresh ones, in one chunk."""
    if context_rows.num_rows == 0:
        return fresh.combine_chunks()  # shares the columns of a table in one chunk
    return pa.concat_tables([context_rows, fresh]).unify_dictionaries().combine_chunks()


class _Kinds:
    """The kind of every row, read once for all rules."""

    def __init__(self, rows: pa.Table) -> None:
        column = rows["kind"].combine_chunks().dictionary_encode()
        self._names = column.dictionary.cast(pa.string()).to_pylist()
        self._codes = column.indices.fill_null(-1).to_numpy()  # -1: the entry appended below

    def among(self, kinds: tuple[str, ...]) -> npt.NDArray[np.bool_]:
        """Which rows are of those kinds, shape (n,)."""
        chosen = np.array([*(name in kinds for name in self._names), False])
        of_kind: npt.NDArray[np.bool_] = chosen[self._codes]
        return of_kind


def _constant_columns(rows: pa.Table) -> frozenset[str]:
    """Columns with one value, or null, in every row: of a detector's claims they are most."""
    found = []
    for name, column in zip(rows.column_names, rows.columns, strict=True):
        if column.null_count in (0, len(column)) and _has_one_value(column):
            found.append(name)
    return frozenset(found)


def _has_one_value(column: pa.ChunkedArray) -> bool:
    if column.null_count == len(column):
        return True
    if pa.types.is_dictionary(column.type):
        return column.num_chunks == 1 and len(column.chunk(0).dictionary) == 1
    if pa.types.is_boolean(column.type) or pa.types.is_integer(column.type):
        least, most = pc.min_max(column).as_py().values()
        return bool(least == most)
    return False


def _without(rows: pa.Table, rejected: npt.NDArray[np.bool_], constant: frozenset[str]) -> pa.Table:
    """The rows not rejected; of a column of one value any so many will do, and need no copy."""
    varying = [name for name in rows.column_names if name not in constant]
    kept = rows.select(varying).filter(pa.array(~rejected))
    columns = [
        rows[name].slice(0, kept.num_rows) if name in constant else kept[name]
        for name in rows.column_names
    ]
    return pa.table(columns, schema=rows.schema)


def supersede(earlier: pa.Table, fresh: pa.Table, replacing: Mapping[str, Replaces]) -> pa.Table:
    """Earlier rows, those kept superseded where a row of a replacing source names them a parent.

    What a person said, only a person's row supersedes.
    """
    sources = fresh["source"].cast(pa.string())
    when_kept, always = (
        pc.is_in(sources, pa.array([n for n, when in replacing.items() if when == it], pa.string()))
        for it in ("kept", "always")
    )
    is_kept = pc.equal(fresh["status"].cast(pa.string()), "kept")
    wins = pc.or_(always, pc.and_(when_kept, is_kept))
    winners = fresh.filter(wins)
    parents = winners["parents"].combine_chunks()
    ids = pc.take(winners["annotation_id"], pc.list_parent_indices(parents))
    found = pc.index_in(earlier["annotation_id"], pc.list_flatten(parents))
    by_person = pc.take(pc.take(winners["human"], pc.list_parent_indices(parents)), found)
    may = pc.or_(pc.invert(earlier["human"]), by_person)
    kept = pc.equal(earlier["status"].cast(pa.string()), "kept")
    hit = pc.and_(pc.and_(pc.is_valid(found), kept), pc.fill_null(may, False))
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
