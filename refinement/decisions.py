"""What a policy is and what it decides; what all policies ask before they add or change a label."""

from dataclasses import fields
from typing import NamedTuple, Protocol

import numpy as np

from engine.errors import ConfigError
from refinement.match import Flags, Floats, Indices, Matched

# What can become of a label, and `added` of a prediction.
OUTCOMES = ("confirmed", "moved", "renamed", "added", "superseded", "contested")
CONFIRMED, MOVED, RENAMED, ADDED, SUPERSEDED, CONTESTED = range(len(OUTCOMES))


class Decisions(NamedTuple):
    """What a policy makes of labels and predictions.

    Attributes:
        outcomes: Place in `OUTCOMES` of each label, shape (labels,).
        replaced_by: The prediction that becomes a row with the label as parent, or -1; shape
            (labels,). A label that is superseded by none is retracted.
        added: Predictions that become rows without a parent, shape (predictions,).
    """

    outcomes: Indices
    replaced_by: Indices
    added: Flags


class Policy(Protocol):
    """How labels and predictions become new labels."""

    @property
    def agree_iou(self) -> float:
        """Overlap from which two boxes are of one object."""

    @property
    def near_iou(self) -> float:
        """Overlap from which a box of the same text may be of the same object, misplaced."""

    @property
    def support_score(self) -> float:
        """Predictions less certain take no part."""

    @property
    def judges_alt(self) -> bool:
        """Whether alt-texts are judged too where brief texts are predicted."""

    def decide(self, matched: Matched) -> Decisions:
        """One outcome for every label."""


def passes(scores: Floats, limit: float) -> Flags:
    """Which reach the limit, compared in float32; a limit of 0 asks for no score at all."""
    reached: Flags = scores >= np.float32(limit)
    return reached | (limit <= 0)


def may_be_added(matched: Matched, min_add_score: float, min_text_score: float) -> Flags:
    """Predictions that are certain enough, lie in no crowd, and are no label's caption."""
    said, near = matched.predictions, matched.near
    certain = np.where(
        said.is_text, passes(said.scores, min_text_score), passes(said.scores, min_add_score)
    )
    certain[near.predictions[near.same_text & matched.labels.is_text[near.labels]]] = False
    return certain & ~matched.inside_ignored


def believed_kinds(matched: Matched, min_agreement: float) -> Flags:
    """Of which kinds and roles the predictor supports enough labels; where there are none: all."""
    labels = matched.labels
    size = 1 + max(labels.kinds.max(initial=0), matched.predictions.kinds.max(initial=0))
    judged = np.bincount(labels.kinds, minlength=size)
    agreed = np.bincount(labels.kinds[matched.supported], minlength=size)
    believed: Flags = agreed >= np.float64(min_agreement) * judged
    return believed


def believed_predictions(matched: Matched, min_agreement: float) -> Flags:
    """Predictions of such kinds, and captions, which differ without contradicting each other."""
    said = matched.predictions
    return believed_kinds(matched, min_agreement)[said.kinds] | said.is_text


def check_shares(name: str, policy: object, positive: tuple[str, ...]) -> None:
    """Refuses a limit outside 0 to 1, and an overlap of 0, at which boxes need not touch."""
    for option in fields(policy):  # type: ignore[arg-type]  # a dataclass
        value = getattr(policy, option.name)
        if not isinstance(value, float | int) or option.name == "max_unseen_ratio":
            continue
        if not 0 <= value <= 1 or (option.name in positive and value == 0):
            above = "above 0, at most 1" if option.name in positive else "0 to 1"
            raise ConfigError(f"policy {name!r}: {option.name} {value}; allowed: {above}")


def check_near(name: str, near_iou: float, agree_iou: float) -> None:
    """Refuses limits by which what agrees would not be near."""
    if near_iou > agree_iou:
        raise ConfigError(
            f"policy {name!r}: near_iou {near_iou} is above agree_iou {agree_iou}; what agrees is "
            "near, so set it to that or less"
        )
