"""Quality against truth: how many claimed regions are true, how many true ones were claimed."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.geometry import pairwise_iou
from engine.schema import box_array


@dataclass(frozen=True)
class Score:
    """Counts of one comparison; precision, recall and F1 are null where they are 0/0."""

    num_matched: int
    num_claimed: int
    num_true: int

    @property
    def precision(self) -> float | None:
        """Share of claims that are true."""
        return self.num_matched / self.num_claimed if self.num_claimed else None

    @property
    def recall(self) -> float | None:
        """Share of the truth that was claimed."""
        return self.num_matched / self.num_true if self.num_true else None

    @property
    def f1(self) -> float | None:
        """Harmonic mean of the two."""
        both = self.num_claimed + self.num_true
        return 2 * self.num_matched / both if both else None


def score_regions(
    claimed: pa.Table, truth: pa.Table, *, min_iou: float = 0.5, same_text: bool = True
) -> Score:
    """Matches boxes one to one within each image, best score first, as COCO does.

    Args:
        claimed: Rows with boxes; every one counts, so filter to kept ones of one role before.
        truth: True rows with boxes of the same images.
        min_iou: Least overlap of a match; 0.5 is the usual one (PASCAL VOC).
        same_text: A match must have the same text too, case ignored.

    Returns:
        The counts; no rows on either side give zero matches.
    """
    matched = 0
    by_image = _positions(truth)
    words = [_folded(table) for table in (claimed, truth)]
    boxes = [box_array(table) for table in (claimed, truth)]
    scores = _scores(claimed)
    for key, mine in _positions(claimed).items():
        true = by_image.get(key)
        if true is None:
            continue
        iou = pairwise_iou(boxes[0][mine], boxes[1][true])
        if same_text:
            iou[words[0][mine][:, None] != words[1][true][None, :]] = 0.0
        matched += _match(iou, np.argsort(-scores[mine], kind="stable"), min_iou)
    return Score(matched, claimed.num_rows, truth.num_rows)


def _match(iou: npt.NDArray[np.float32], order: npt.NDArray[np.intp], min_iou: float) -> int:
    free = np.ones(iou.shape[1], bool)
    matched = 0
    for row in order.tolist():
        best = int(np.argmax(np.where(free, iou[row], -1.0)))
        if free[best] and iou[row, best] >= min_iou:
            free[best] = False
            matched += 1
    return matched


def _positions(table: pa.Table) -> dict[str, npt.NDArray[np.intp]]:
    found: dict[str, list[int]] = {}
    for i, key in enumerate(table["image_key"].to_pylist()):
        found.setdefault(key, []).append(i)
    return {key: np.array(rows, np.intp) for key, rows in found.items()}


def _folded(table: pa.Table) -> npt.NDArray[np.object_]:
    words = pc.utf8_lower(table["text"].fill_null(""))
    return np.asarray(words.to_numpy(zero_copy_only=False), object)


def _scores(table: pa.Table) -> npt.NDArray[np.float32]:
    score = pc.coalesce(table["score"], table["text_score"], pa.scalar(0.0, pa.float32()))
    return np.asarray(score.to_numpy(zero_copy_only=False), np.float32)
