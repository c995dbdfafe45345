"""What becomes of labels that a model agrees with, contradicts or does not see: three policies.

A policy is pure: from labels and predictions side by side to a decision on each. What a person said
stands in all of them, and so does every label the predictor was not asked about.
"""

import math
from dataclasses import dataclass, fields
from typing import NamedTuple, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from refinement.match import Flags, Floats, Indices, Matched

# What can become of a label, and `added` of a prediction.
OUTCOMES = ("confirmed", "moved", "renamed", "added", "superseded", "contested")
_CONFIRMED, _MOVED, _RENAMED, _ADDED, _SUPERSEDED, _CONTESTED = range(len(OUTCOMES))


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


@dataclass(frozen=True, kw_only=True)
class Append:
    """Adds what no label covers and touches nothing.

    A prediction is covered by a label of its kind and role that overlaps by `agree_iou`, whatever
    its text; a caption by one of the same role and text, so that captions add up as in FLD-5B,
    which has 1.87 brief texts an image (the paper's table 2). Labels that a prediction agrees with
    are confirmed, all others contested.

    Attributes:
        agree_iou: 0.5, as PASCAL VOC and COCO count a hit.
        min_add_score: Least certainty of a box that is added; 0 adds boxes without a score too.
            See `Consensus`.
        min_text_score: The same of a caption; not measured.
        min_agreement: See `Consensus`.
    """

    agree_iou: float = 0.5
    min_add_score: float = 0.35
    min_text_score: float = 0.3
    min_agreement: float = 0.1

    def __post_init__(self) -> None:
        _check_shares("append", self, positive=("agree_iou",))

    @property
    def near_iou(self) -> float:
        """A shifted box is none of its business."""
        return self.agree_iou

    @property
    def support_score(self) -> float:
        """Whatever is predicted takes part."""
        return 0.0

    @property
    def judges_alt(self) -> bool:
        """Alt-texts stay."""
        return False

    def decide(self, matched: Matched) -> Decisions:
        """See the class."""
        outcomes = np.where(matched.supported, _CONFIRMED, _CONTESTED)
        added = _may_be_added(
            matched, self.min_add_score, self.min_text_score
        ) & _believed_predictions(matched, self.min_agreement)
        is_caption = matched.labels.is_text[matched.near.labels]
        covers = ~is_caption | matched.near.same_text
        added[matched.near.predictions[covers]] = False
        return Decisions(outcomes, np.full(len(outcomes), -1), added)


@dataclass(frozen=True, kw_only=True)
class Replace:
    """Puts what the predictor says in the place of all labels of its kinds on predicted images.

    A label with a partner of its text is moved, with a partner of another renamed, and named as the
    parent of its successor; what has none is superseded. A person's label stays, confirmed or
    contested, and a prediction that overlaps it by `agree_iou` is not added.

    Attributes:
        agree_iou: 0.5, as PASCAL VOC and COCO count a hit.
        near_iou: 0.1, see `Consensus`.
    """

    agree_iou: float = 0.5
    near_iou: float = 0.1

    def __post_init__(self) -> None:
        _check_shares("replace", self, positive=("agree_iou", "near_iou"))
        _check_near("replace", self.near_iou, self.agree_iou)

    @property
    def support_score(self) -> float:
        """Whatever is predicted takes part."""
        return 0.0

    @property
    def judges_alt(self) -> bool:
        """Alt-texts are no kind of the predictor."""
        return False

    def decide(self, matched: Matched) -> Decisions:
        """See the class."""
        human, has_partner = matched.labels.human, matched.partner >= 0
        outcomes = np.where(matched.same_text, _MOVED, _RENAMED)
        outcomes[~has_partner] = _SUPERSEDED
        outcomes[human] = np.where(matched.supported, _CONFIRMED, _CONTESTED)[human]
        replaced_by = np.where(has_partner & ~human, matched.partner, -1)
        added = np.ones(len(matched.predictions.groups), bool)
        near = matched.near
        held = human[near.labels] & (near.iou >= np.float32(self.agree_iou))
        # two captions of one image are not one caption
        held &= near.same_text | ~matched.labels.is_text[near.labels]
        replaced_by[np.isin(replaced_by, near.predictions[held])] = -1
        outcomes[has_partner & ~human & (replaced_by < 0)] = _SUPERSEDED
        added[near.predictions[held]] = False
        added[replaced_by[replaced_by >= 0]] = False
        return Decisions(outcomes, replaced_by, added & ~matched.inside_ignored)


@dataclass(frozen=True, kw_only=True)
class Consensus:
    """Agreement confirms; disagreement is decided by how sure the predictor is.

    - A region that any prediction of its text overlaps by `agree_iou` is confirmed and stays.
    - One whose partner has its text, at less overlap, is moved; one whose partner has another text,
      at `agree_iou` or more, is renamed: replaced, box and text, by what the predictor said, if
      that is certain enough, else contested.
    - One without a partner is superseded: the predictor looked and saw nothing of the kind. But not
      where it overlooks more than it corrects, see `max_unseen_ratio`: then contested.
    - A prediction without a partner is added if it is certain enough. Whether it says twice what
      another says is for a rule: `duplicate_region`.

    Captions of an image differ without contradicting each other: those of `replace_texts` give way
    to a predicted one that is certain enough, and more so than they; others stay, and a predicted
    one is added where its role has none. Certainty is that of `refinement.match.row_certainty`,
    calibrated where the caller has a calibration.

    Limits without an origin are ours, chosen on 40 COCO photos: one of YOLO11n and YOLOv8n gave the
    labels (scores of 0.25 or more), 0, 30 or 60 % of them broken by `engine.synthetic.add_noise`,
    the other predicted. On 40 other photos F1 rose from .409 to .514 at 30 % (before the damage it
    was .517), from .300 to .516 at 60 % and from .517 to .532 at none.

    Attributes:
        agree_iou: 0.5, as PASCAL VOC and COCO count a hit.
        near_iou: Least overlap of a shifted label with the box meant by it; 0.05 to 0.3 differ by
            .005 F1 at 30 % noise.
        support_score: Predictions less certain take no part at all; 0.05 to 0.2 differ by .006 F1.
        min_move_score: Least certainty that moves a label.
        min_rename_score: Least certainty that renames a label.
        min_add_score: Least certainty of a box that is added.
        min_text_score: Least certainty of a caption that is added or replaces one; not measured.
        trust_score: Labels with a certainty of their own of this or more are contested where they
            would have been moved, renamed or superseded. Null: none is trusted.
        max_unseen_ratio: Labels without a partner are superseded where there are at most so many
            for each one moved or renamed, by kind and role in the shard; 0 supersedes none, null
            all. Silence says either that a label is wrong or that the predictor is blind, and only
            what it contradicts tells how wrong labels are. At 30 % noise a perfect predictor is
            silent on 0.9 labels for each it corrects, a second real detector on 1.7, one that finds
            60 % of the true objects on 7: to supersede those took F1 from .80 to .70, to keep them
            to .85.
        min_agreement: Of the labels of a kind and role in a shard the predictor must support this
            share, or all it contradicts is contested and no box added: it knows other classes, or
            nothing. Random boxes agree with none; a predictor that finds one object in five still
            agrees with 0.1 of labels of which 60 % are broken.
        replace_texts: Sources or roles of captions that a predicted one replaces, `[alt]`; an
            alt-text by a brief one.
    """

    agree_iou: float = 0.5
    near_iou: float = 0.2
    support_score: float = 0.1
    min_move_score: float = 0.2
    min_rename_score: float = 0.2
    min_add_score: float = 0.35
    min_text_score: float = 0.3
    trust_score: float | None = None
    max_unseen_ratio: float | None = 2.0
    min_agreement: float = 0.1
    replace_texts: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        ratio = self.max_unseen_ratio
        if ratio is not None and not 0 <= ratio < math.inf:
            raise ConfigError(
                f"policy 'consensus': max_unseen_ratio {ratio}; allowed: 0 or more, or null"
            )
        _check_shares("consensus", self, positive=("agree_iou", "near_iou"))
        _check_near("consensus", self.near_iou, self.agree_iou)

    @property
    def judges_alt(self) -> bool:
        """Where some captions may be replaced."""
        return bool(self.replace_texts)

    def decide(self, matched: Matched) -> Decisions:
        """See the class."""
        labels, said, partner = matched.labels, matched.predictions, matched.partner
        believed = _believed(matched, self.min_agreement)
        certain = np.append(said.scores, np.float32(np.nan))[partner]
        paired = partner >= 0
        may = believed[labels.kinds] & ~labels.human & ~labels.is_text & ~matched.supported
        if self.trust_score is not None:
            may &= ~(labels.scores >= np.float32(self.trust_score))
        moved = may & paired & matched.same_text & passes(certain, self.min_move_score)
        renamed = may & paired & ~matched.same_text & passes(certain, self.min_rename_score)
        unseen = may & ~paired
        unseen &= self._silence_counts(labels.kinds, unseen, moved | renamed)
        outcomes = np.select(
            [matched.supported, moved, renamed, unseen],
            [_CONFIRMED, _MOVED, _RENAMED, _SUPERSEDED],
            _CONTESTED,
        )
        added = _may_be_added(matched, self.min_add_score, self.min_text_score)
        added &= believed[said.kinds] | said.is_text
        added[partner[paired & ~labels.is_text]] = False
        has_caption = labels.groups[labels.is_text & ~_is_role(labels.rows, "alt")]
        added &= ~(said.is_text & np.isin(said.groups, has_caption))
        decisions = Decisions(outcomes, np.where(moved | renamed, partner, -1), added)
        self._replace_captions(matched, decisions)
        return decisions

    def _silence_counts(self, kinds: Indices, unseen: Flags, corrected: Flags) -> Flags:
        """Labels of kinds and roles of which few enough are unseen, shape (labels,)."""
        if self.max_unseen_ratio is None:
            return np.ones(len(kinds), bool)
        num_unseen, num_corrected = (
            np.bincount(kinds[some], minlength=kinds.max(initial=0) + 1)
            for some in (unseen, corrected)
        )
        counts: Flags = num_unseen <= self.max_unseen_ratio * num_corrected
        return counts[kinds]

    def _replace_captions(self, matched: Matched, decisions: Decisions) -> None:
        """Lets captions give way to the most certain one that is predicted, in place."""
        labels, said, near = matched.labels, matched.predictions, matched.near
        names = pa.array(self.replace_texts, pa.string())
        listed = [pc.is_in(labels.rows[c].cast(pa.string()), names) for c in ("source", "role")]
        named = pc.or_(*listed).to_numpy().astype(bool)
        gives_way = np.flatnonzero(named & labels.is_text & ~labels.human & ~matched.supported)
        may = said.is_text & passes(said.scores, self.min_text_score)
        may[near.predictions[near.same_text]] = False  # a label says that already
        best = _first_of_group(said.groups, np.flatnonzero(may), (said.ranks, -said.scores))
        new = np.array([best.get(group, -1) for group in labels.groups[gives_way].tolist()], int)
        own = labels.scores[gives_way]
        better = (new >= 0) & (np.isnan(own) | (own < np.append(said.scores, np.nan)[new]))
        replaced = gives_way[better]
        first = _first_of_group(labels.groups, replaced, (labels.ranks,))
        decisions.outcomes[replaced] = _SUPERSEDED
        decisions.outcomes[list(first.values())] = _RENAMED
        decisions.replaced_by[replaced] = new[better]
        decisions.added[new[better]] = False


POLICIES: dict[str, type[Append] | type[Replace] | type[Consensus]] = {
    "append": Append,
    "replace": Replace,
    "consensus": Consensus,
}


def passes(scores: Floats, limit: float) -> Flags:
    """Which reach the limit, compared in float32; a limit of 0 asks for no score at all."""
    reached: Flags = scores >= np.float32(limit)
    return reached | (limit <= 0)


def _may_be_added(matched: Matched, min_add_score: float, min_text_score: float) -> Flags:
    """Predictions that are certain enough, lie in no crowd, and are no label's caption."""
    said, near = matched.predictions, matched.near
    certain = np.where(
        said.is_text, passes(said.scores, min_text_score), passes(said.scores, min_add_score)
    )
    certain[near.predictions[near.same_text & matched.labels.is_text[near.labels]]] = False
    return certain & ~matched.inside_ignored


def _believed(matched: Matched, min_agreement: float) -> Flags:
    """Of which kinds and roles the predictor supports enough labels; where there are none: all."""
    labels = matched.labels
    size = 1 + max(labels.kinds.max(initial=0), matched.predictions.kinds.max(initial=0))
    judged = np.bincount(labels.kinds, minlength=size)
    agreed = np.bincount(labels.kinds[matched.supported], minlength=size)
    believed: Flags = agreed >= np.float64(min_agreement) * judged
    return believed


def _believed_predictions(matched: Matched, min_agreement: float) -> Flags:
    said = matched.predictions
    return _believed(matched, min_agreement)[said.kinds] | said.is_text


def _first_of_group(
    groups: Indices, chosen: Indices, keys: tuple[Floats | Indices, ...]
) -> dict[int, int]:
    """The chosen row of each group that is first by the keys, the last key weighing most."""
    order = chosen[np.lexsort([key[chosen] for key in keys])] if len(chosen) else chosen
    return {int(groups[row]): int(row) for row in reversed(order.tolist())}


def _is_role(rows: pa.Table, role: str) -> Flags:
    found = pc.equal(rows["role"].cast(pa.string()), role)
    return np.asarray(pc.fill_null(found, False).to_numpy(), bool)


def _check_shares(name: str, policy: object, positive: tuple[str, ...]) -> None:
    """Refuses a limit outside 0 to 1, and an overlap of 0, at which boxes need not touch."""
    for option in fields(policy):  # type: ignore[arg-type]  # a dataclass
        value = getattr(policy, option.name)
        if not isinstance(value, float | int) or option.name == "max_unseen_ratio":
            continue
        if not 0 <= value <= 1 or (option.name in positive and value == 0):
            above = "above 0, at most 1" if option.name in positive else "0 to 1"
            raise ConfigError(f"policy {name!r}: {option.name} {value}; allowed: {above}")


def _check_near(name: str, near_iou: float, agree_iou: float) -> None:
    if near_iou > agree_iou:
        raise ConfigError(
            f"policy {name!r}: near_iou {near_iou} is above agree_iou {agree_iou}; what agrees is "
            "near, so set it to that or less"
        )
