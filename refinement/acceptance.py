"""Whether a round's labels are better than those before it."""

from refinement.options import RefineOptions
from refinement.series import Round

_CHANGES = ("moved", "renamed", "added", "superseded")


def judge_round(before: Round, made: Round, options: RefineOptions) -> tuple[bool, str]:
    """Whether a round's labels are better than those before it, and why.

    A round that changed no label is no gain. With gold, F1 must not fall; where there is neither a
    label nor an object, no mistake was made, and it counts as 1. Without, the model must agree with
    a share of the labels: one that knows nothing of the images agrees with next to none of them;
    and it must not agree with fewer than the model of the round before.
    """
    if not any(made.outcomes.get(name) for name in _CHANGES):
        confirmed, judged = made.outcomes.get("confirmed", 0), sum(made.outcomes.values())
        return False, f"no label changed: the model confirmed {confirmed:,} of {judged:,}"
    if made.family is not None and before.family is not None:
        new, old = (1.0 if each.f1 is None else each.f1 for each in (made, before))
        change = f"F1 {old:.4f} -> {new:.4f}"
        return (new >= old, change if new >= old else f"{change}: it fell")
    if made.agreement is None:
        return _without_regions(options)
    told = f"without gold: {made.agreement:.1%} of the regions confirmed"
    if made.agreement < options.min_agreement:
        return False, f"{told}, min_agreement is {options.min_agreement:.1%}"
    if before.agreement is not None and made.agreement < before.agreement:
        return False, f"{told}, {before.agreement:.1%} in the round before"
    return True, told


def _without_regions(options: RefineOptions) -> tuple[bool, str]:
    """Captions differ without contradicting each other: only who asks for it goes unmeasured."""
    told = "without gold: no region to agree with"
    if options.min_agreement > 0:
        return False, f"{told}; give gold, or refine.min_agreement=0"
    return True, f"{told}, min_agreement is 0"
