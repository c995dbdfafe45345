"""Which families are compared, and the accumulators for them."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.evaluate.captions import DocumentFrequencies
from engine.evaluate.families import (
    DEFAULT_FAMILIES,
    FAMILIES,
    Boxes,
    Captions,
    Family,
    Groundings,
    Words,
)
from engine.evaluate.pairs import Indices
from engine.evaluate.results import FamilyResult
from engine.evaluate.truth import Truth

_EXAMPLES = 5  # classes that are told
_IMAGES_AT_ONCE = 4096  # images of the truth whose texts are counted at a time


@dataclass(frozen=True, kw_only=True)
class Conventions:
    """How rows are compared; see `engine.assess.assess`."""

    min_iou: float
    ignore_case: bool
    merged_boxes: bool


def choose(asked: Sequence[str] | None, truth: Truth) -> list[str]:
    """The families to compare: those asked for, or the usual ones that the truth has.

    Raises:
        ConfigError: One is not known, or the truth has nothing for it.
    """
    present = [name for name in FAMILIES if _has(truth, name)]
    for name in asked or ():
        if name not in FAMILIES:
            raise ConfigError(f"family {name!r} is not known; known: {', '.join(FAMILIES)}")
        if name not in present:
            raise ConfigError(
                f"the truth has no rows of family {name!r}; it has: {', '.join(present) or 'none'}"
            )
    chosen = [name for name in present if name in (asked or DEFAULT_FAMILIES)]
    if not chosen:
        raise ConfigError(
            "the truth has no rows to compare with; families that can be asked for: "
            f"{', '.join(present) or 'none, it is empty'}"
        )
    return chosen


def make(
    chosen: Sequence[str],
    caption_roles: Sequence[str],
    frequencies: DocumentFrequencies,
    conventions: Conventions,
    num_worlds: int,
) -> dict[str, Family]:
    """An empty accumulator for each family; for captions one of each role."""
    made: dict[str, Family] = {}
    for name in chosen:
        role = FAMILIES[name][1]
        if name == "ocr":
            made[name] = Words(num_worlds, conventions.min_iou, ignore_case=conventions.ignore_case)
        elif name == "grounding":
            made[name] = Groundings(
                num_worlds, conventions.min_iou, merged=conventions.merged_boxes
            )
        elif role is None:
            made |= {
                f"{name}/{each}": Captions(each, frequencies, num_worlds) for each in caption_roles
            }
        else:
            made[name] = Boxes(role, num_worlds, conventions.min_iou)
    return made


def frequencies_of(truth: Truth, places: Indices) -> DocumentFrequencies:
    """The weights of CIDEr from the references of those images of the truth."""
    counted = DocumentFrequencies()
    for start in range(0, len(places), _IMAGES_AT_ONCE):
        some = places[start : start + _IMAGES_AT_ONCE]
        rows = truth.rows_of(some, pa.array([str(place) for place in some.tolist()], pa.string()))
        counted.add(rows.filter(pc.equal(rows["kind"].cast(pa.string()), "text")))
    return counted


def without_idle(result: FamilyResult, rule: str) -> FamilyResult:
    """The result without the step of that rule, where it rejected nothing."""
    steps = [step for step in result.steps if step.rule != rule or step.num_rejected]
    return replace(result, steps=steps)


def notes_on(results: Mapping[str, FamilyResult]) -> Iterator[str]:
    """What a reader of the numbers must know of them."""
    for name, result in results.items():
        unscored = result.measures.get("num_unscored")
        if unscored and result.measures["ap"] is None:
            yield f"{name}: no claim has a score, so nothing can be ranked; AP and AR are null"
        elif unscored:
            yield f"{name}: {unscored:,} claims without a score rank after all that have one"
        unknown = {
            each: counts["num_claimed"] or 0
            for each, counts in result.by_class.items()
            if counts["num_claimed"] and not counts["num_true"]
        }
        if unknown:
            most = sorted(unknown, key=lambda each: (-unknown[each], each))[:_EXAMPLES]
            yield (
                f"{name}: {sum(unknown.values()):,} claims are of {len(unknown):,} classes that "
                f"the truth never has ({', '.join(most)}): wrong in precision, left out of AP"
            )


def _has(truth: Truth, name: str) -> bool:
    kind, role = FAMILIES[name]
    return any(k == kind and role in (None, r) for k, r in truth.pairs)
