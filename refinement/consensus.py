"""The policy in which agreement confirms and certainty decides."""

import math
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from refinement.decisions import (
    CONFIRMED,
    CONTESTED,
    MOVED,
    RENAMED,
    SUPERSEDED,
    Decisions,
    believed_kinds,
    believed_predictions,
    check_near,
    check_shares,
    may_be_added,
    passes,
)
from refinement.match import Flags, Floats, Indices, Matched


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
    was .517), from .300 to .516 at 60 % and from .517 to .532 at none. They are limits on the
    scores of detectors: calibrate others first, see `refinement.calibrate`.

    Attributes:
        agree_iou: 0.5, as PASCAL VOC and COCO count a hit.
        near_iou: Least overlap of a shifted label with the box meant by it; 0.05 to 0.3 differ by
            .005 F1 at 30 % noise.
        support_score: Predictions less certain take no part at all; 0.05 to 0.2 differ by .006 F1
            at 30 % noise.
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
        check_shares("consensus", self, positive=("agree_iou", "near_iou"))
        check_near("consensus", self.near_iou, self.agree_iou)

    @property
    def judges_alt(self) -> bool:
        """Where some captions may be replaced."""
        return bool(self.replace_texts)

    def decide(self, matched: Matched) -> Decisions:
        """See the class."""
        labels, said, partner = matched.labels, matched.predictions, matched.partner
        believed = believed_kinds(matched, self.min_agreement)
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
            [CONFIRMED, MOVED, RENAMED, SUPERSEDED],
            CONTESTED,
        )
        added = may_be_added(matched, self.min_add_score, self.min_text_score)
        added &= believed_predictions(matched, self.min_agreement)
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
        decisions.outcomes[replaced] = SUPERSEDED
        decisions.outcomes[list(first.values())] = RENAMED
        decisions.replaced_by[replaced] = new[better]
        decisions.added[new[better]] = False


def _first_of_group(
    groups: Indices, chosen: Indices, keys: tuple[Floats | Indices, ...]
) -> dict[int, int]:
    """The chosen row of each group that is first by the keys, the last key weighing most."""
    order = chosen[np.lexsort([key[chosen] for key in keys])] if len(chosen) else chosen
    return {int(groups[row]): int(row) for row in reversed(order.tolist())}


def _is_role(rows: pa.Table, role: str) -> Flags:
    found = pc.equal(rows["role"].cast(pa.string()), role)
    return np.asarray(pc.fill_null(found, False).to_numpy(), bool)
