"""Rules on images in order: which images of a shard are worth the work, which are not, and why."""

from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.judge import RuleCount, RuleCounts, RuleEntry, add_counts
from engine.protocols import Context, Rule
from engine.schema import CLAIM, IMAGES, Tables, Verdicts, canonical

_JUDGED = ("status", "duplicate_of", "rule", "measured", "limit")


def judges_images(rule: Rule) -> bool:
    """Whether a rule is on images, not on what is said of them."""
    return "image" in rule.applies_to


def judge_images(
    images: pa.Table,
    rules: Sequence[RuleEntry],
    *,
    only: Collection[str] | None = None,
    seed: int = 0,
    decisions: Mapping[str, pa.Table] = MappingProxyType({}),
) -> tuple[pa.Table, RuleCounts]:
    """The images of a shard with the verdicts of the rules on images.

    Verdicts of an earlier time are taken back first: only what is undecodable or has the bytes of
    another image of the shard stays what it was. A rule sees the images that those before it left.

    Args:
        images: Schema `engine.schema.IMAGES`.
        rules: Of any kind; only those on images are asked, in their order.
        only: The verdicts of other rules stay; null: all are judged again.
        seed: The run's.
        decisions: What rules over the whole dataset came to, by name.

    Returns:
        The table with `status` `rejected`, or `duplicate` where the rule names another image, and
        `rule`, `measured`, `limit`; and the counts of each rule.
    """
    entries = [entry for entry in rules if judges_images(entry.rule)]
    if only is not None:
        entries = [entry for entry in entries if entry.rule.name in only]
    images = _taken_back(images, only)
    counts: RuleCounts = {}
    for entry in entries:
        places = np.flatnonzero(pc.equal(images["status"], "ok").to_numpy())
        context = Context(np.ones(len(places), bool), seed, decisions.get(entry.rule.name))
        seen = Tables(images.take(pa.array(places)), CLAIM.empty_table())
        answer = entry.rule.judge(seen, context)
        rejected = np.asarray(answer.rejected.to_numpy(zero_copy_only=False), bool)
        add_counts(counts, {entry.rule.name: RuleCount(len(places), int(rejected.sum()))})
        if rejected.any():
            images = _reject(images, places[rejected], rejected, entry.rule.name, answer)
    return images, counts


def _taken_back(images: pa.Table, only: Collection[str] | None) -> pa.Table:
    """The images as they were before the rules: what one of them had decided is `ok` again."""
    was_rule = pc.is_valid(images["rule"])
    if only is not None:
        was_rule = pc.is_in(images["rule"], pa.array(list(only), pa.string()))
    if not pc.any(was_rule).as_py():
        return images
    none = {name: pa.scalar(None, IMAGES.field(name).type) for name in _JUDGED}
    none["status"] = pa.scalar("ok")
    changed = {name: pc.if_else(was_rule, none[name], images[name]) for name in _JUDGED}
    return canonical(
        pa.table({name: changed.get(name, images[name]) for name in IMAGES.names}), IMAGES
    )


def _reject(
    images: pa.Table, losers: np.ndarray, rejected: np.ndarray, rule: str, answer: Verdicts
) -> pa.Table:
    chosen = pa.array(rejected)
    against = pa.nulls(len(losers), pa.string())
    if answer.against is not None:
        against = answer.against.filter(chosen).cast(pa.string())
    said = {
        "status": pc.if_else(pc.is_valid(against), "duplicate", "rejected"),
        "duplicate_of": against,
        "rule": pa.array([rule] * len(losers), pa.string()),
        "measured": _numbers(answer.measured, chosen, len(losers)),
        "limit": _numbers(answer.limit, chosen, len(losers)),
    }
    hit = np.zeros(images.num_rows, bool)
    hit[losers] = True
    mask = pa.array(hit)
    columns = {
        name: pc.replace_with_mask(images[name].combine_chunks(), mask, said[name])
        if name in said
        else images[name]
        for name in IMAGES.names
    }
    return canonical(pa.table(columns), IMAGES)


def _numbers(value: pa.Array | float | None, chosen: pa.Array, count: int) -> pa.Array:
    if value is None or isinstance(value, (int, float)):
        return pa.array([value] * count, pa.float32())
    return value.filter(chosen).cast(pa.float32())
