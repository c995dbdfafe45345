"""What becomes of labels that a model agrees with, contradicts or does not see: three policies.

A policy is pure: from labels and predictions side by side to a decision on each. What a person said
stands in all of them, and so does every label the predictor was not asked about.
"""

from dataclasses import dataclass

import numpy as np

from refinement.consensus import Consensus
from refinement.decisions import (
    CONFIRMED,
    CONTESTED,
    MOVED,
    RENAMED,
    SUPERSEDED,
    Decisions,
    believed_predictions,
    check_near,
    check_shares,
    may_be_added,
)
from refinement.match import Matched

__all__ = ["POLICIES", "Append", "Consensus", "Replace"]


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
        check_shares("append", self, positive=("agree_iou",))

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
        outcomes = np.where(matched.supported, CONFIRMED, CONTESTED)
        added = may_be_added(
            matched, self.min_add_score, self.min_text_score
        ) & believed_predictions(matched, self.min_agreement)
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
        check_shares("replace", self, positive=("agree_iou", "near_iou"))
        check_near("replace", self.near_iou, self.agree_iou)

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
        outcomes = np.where(matched.same_text, MOVED, RENAMED)
        outcomes[~has_partner] = SUPERSEDED
        outcomes[human] = np.where(matched.supported, CONFIRMED, CONTESTED)[human]
        replaced_by = np.where(has_partner & ~human, matched.partner, -1)
        added = np.ones(len(matched.predictions.groups), bool)
        near = matched.near
        held = human[near.labels] & (near.iou >= np.float32(self.agree_iou))
        # two captions of one image are not one caption
        held &= near.same_text | ~matched.labels.is_text[near.labels]
        replaced_by[np.isin(replaced_by, near.predictions[held])] = -1
        outcomes[has_partner & ~human & (replaced_by < 0)] = SUPERSEDED
        added[near.predictions[held]] = False
        added[replaced_by[replaced_by >= 0]] = False
        return Decisions(outcomes, replaced_by, added & ~matched.inside_ignored)


POLICIES: dict[str, type[Append] | type[Replace] | type[Consensus]] = {
    "append": Append,
    "replace": Replace,
    "consensus": Consensus,
}
