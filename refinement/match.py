"""Labels and predictions of a shard side by side: which of them lie on one another, who is whose.

On columns for all images at once; the greedy choice alone goes through the pairs one by one.
"""

from collections.abc import Collection
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.evaluate.pairs import candidates
from engine.geometry import area, is_box, paired_iou, shared_area
from engine.schema import box_array

Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float32]

_EVERYWHERE = np.array([0, 0, 1, 1], np.float32)  # two captions of an image lie on one another


class Side(NamedTuple):
    """Rows that take part, all arrays of shape (n,) but the boxes.

    `groups` and `texts` mean the same on both sides of a comparison.
    """

    rows: pa.Table
    groups: Indices  # code of image, kind and role
    kinds: Indices  # code of kind and role alone
    texts: Indices  # code of the text, case and outer blanks ignored; a null is a text too
    boxes: Floats  # (n, 4)
    scores: Floats  # NaN where there is none
    ranks: Indices  # place by annotation_id: what ties are broken by, whatever the rows' order
    is_text: Flags
    human: Flags


class Near(NamedTuple):
    """Label `labels[i]` and prediction `predictions[i]` of one group overlap by `iou[i]`."""

    labels: Indices
    predictions: Indices
    iou: Floats
    same_text: Flags


class Matched(NamedTuple):
    """Both sides, and the partner of each.

    Attributes:
        labels: What stands.
        predictions: What is said now.
        near: All pairs that overlap enough, best first.
        partner: Of each label, a prediction or -1; shape (labels,). No prediction is there twice.
        iou: With the partner; NaN without.
        same_text: Whether label and partner have one text.
        supported: Whether any prediction of its text overlaps the label by `agree_iou`.
        inside_ignored: Predictions that lie in a row marked `ignore`; shape (predictions,).
    """

    labels: Side
    predictions: Side
    near: Near
    partner: Indices
    iou: Floats
    same_text: Flags
    supported: Flags
    inside_ignored: Flags


def row_certainty(rows: pa.Table) -> Floats:
    """How sure a row is of box and text together, shape (n,): the product of both scores.

    That is the probability that both hold if their errors are independent. Where one is null the
    other stands alone; NaN where both are.
    """
    score, text_score = (
        np.asarray(rows[name].to_numpy(zero_copy_only=False), np.float32)
        for name in ("score", "text_score")
    )
    both: Floats = np.where(np.isnan(text_score), 1, text_score) * np.where(
        np.isnan(score), 1, score
    )
    return np.where(np.isnan(score) & np.isnan(text_score), np.float32(np.nan), both).astype(
        np.float32
    )


def pairs_of_kind(rows: pa.Table) -> pa.Array:
    """`kind/role` of each row."""
    columns = (rows[name].cast(pa.string()).fill_null("") for name in ("kind", "role"))
    return pc.binary_join_element_wise(*columns, "/").combine_chunks()


def has_place(rows: pa.Table) -> Flags:
    """Which rows can be compared: captions, and regions with a box that encloses something."""
    kinds = rows["kind"].cast(pa.string())
    captions = _flags(pc.equal(kinds, "text"))
    regions = _flags(pc.equal(kinds, "region")) & is_box(box_array(rows))
    return captions | regions


def match(
    labels: pa.Table,
    predictions: pa.Table,
    ignored: pa.Table,
    *,
    agree_iou: float,
    near_iou: float,
    prediction_scores: Floats | None = None,
) -> Matched:
    """The optimum one can explain: the best overlap first, each row once.

    Rows meet those of their image, kind and role; an alt-text meets brief texts. Pairs of the same
    text and an IoU of `near_iou` or more are decided first, then pairs of different texts at
    `agree_iou` or more, of labels that no prediction supports. In each turn the larger IoU goes
    first, then the more certain prediction, then the smaller ids: the order of the rows does not
    count.

    Args:
        labels: Rows for which `has_place` holds.
        predictions: The same of the predictor; ids are there and unique.
        ignored: Label rows marked `ignore`. A prediction lies in one of its kind and role by its
            share inside it, `agree_iou` or more, as COCO has it for crowds; a category only in one
            of its class.
        agree_iou: In (0, 1].
        near_iou: In (0, `agree_iou`].
        prediction_scores: In place of `row_certainty`.

    Returns:
        Sides in the order given.
    """
    tables = [labels, predictions, ignored]
    sides = _sides(tables)
    if prediction_scores is not None:
        sides[1] = sides[1]._replace(scores=prediction_scores)
    mine, said, crowds = sides
    near = _near(mine, said, near_iou)
    agrees = near.same_text & (near.iou >= np.float32(agree_iou))
    supported = np.zeros(len(mine.groups), bool)
    supported[near.labels[agrees]] = True
    differs = ~near.same_text & (near.iou >= np.float32(agree_iou)) & ~supported[near.labels]
    won = _greedy(near, [near.same_text, differs])
    partner = np.full(len(mine.groups), -1, np.int64)
    iou = np.full(len(mine.groups), np.nan, np.float32)
    same_text = np.zeros(len(mine.groups), bool)
    partner[near.labels[won]] = near.predictions[won]
    iou[near.labels[won]] = near.iou[won]
    same_text[near.labels[won]] = near.same_text[won]
    inside = _inside(said, crowds, agree_iou)
    return Matched(mine, said, near, partner, iou, same_text, supported, inside)


def _sides(tables: list[pa.Table]) -> list[Side]:
    """The tables as arrays, with codes that mean the same in all of them."""
    names = [pairs_of_kind(rows) for rows in tables]
    meets = [pc.replace_substring_regex(name, "^text/alt$", "text/brief") for name in names]
    kinds = _codes(meets)
    images = _codes([rows["image_key"] for rows in tables])
    texts = _codes([_folded(rows["text"]) for rows in tables])
    width = 1 + max((int(codes.max(initial=0)) for codes in kinds), default=0)
    sides = []
    for rows, image, kind, text in zip(tables, images, kinds, texts, strict=True):
        is_text = _flags(pc.equal(rows["kind"].cast(pa.string()), "text"))
        boxes = np.where(is_text[:, None], _EVERYWHERE, box_array(rows))
        ranks = pc.rank(rows["annotation_id"].combine_chunks(), tiebreaker="first")
        sides.append(
            Side(
                rows,
                image * width + kind,
                kind,
                text,
                boxes,
                row_certainty(rows),
                ranks.to_numpy().astype(np.int64),
                is_text,
                _flags(rows["human"]),
            )
        )
    return sides


def _folded(texts: pa.ChunkedArray) -> pa.Array:
    trimmed = pc.utf8_lower(pc.utf8_trim_whitespace(texts.cast(pa.string())))
    return pc.fill_null(trimmed, "").combine_chunks()


def _codes(columns: list[pa.Array | pa.ChunkedArray]) -> list[Indices]:
    """Each column as positions in their common distinct values."""
    pieces = [c.combine_chunks() if isinstance(c, pa.ChunkedArray) else c for c in columns]
    encoded = pa.concat_arrays(pieces).dictionary_encode()
    codes = encoded.indices.to_numpy(zero_copy_only=False).astype(np.int64)
    return list(np.split(codes, np.cumsum([len(piece) for piece in pieces])[:-1]))


def _near(labels: Side, predictions: Side, near_iou: float) -> Near:
    """Pairs of one group that overlap by `near_iou` or more, in the order in which they choose."""
    found = [(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0, np.float32))]
    for left, right in candidates(labels.groups, predictions.groups):
        iou = paired_iou(labels.boxes[left], predictions.boxes[right])
        near = iou >= np.float32(near_iou)
        found.append((left[near], right[near], iou[near]))
    mine, said = (np.concatenate([piece[side] for piece in found]) for side in (0, 1))
    overlaps = np.concatenate([piece[2] for piece in found])
    certain = np.nan_to_num(predictions.scores[said], nan=-1.0)
    order = np.lexsort((predictions.ranks[said], labels.ranks[mine], -certain, -overlaps))
    mine, said = mine[order], said[order]
    return Near(mine, said, overlaps[order], labels.texts[mine] == predictions.texts[said])


def _greedy(near: Near, turns: list[Flags]) -> Indices:
    """The pairs that come about: turn by turn, in order, each row once."""
    won: list[int] = []
    busy_labels: set[int] = set()
    busy_predictions: set[int] = set()
    for turn in turns:
        places = np.flatnonzero(turn)
        chosen = zip(
            places.tolist(),
            near.labels[places].tolist(),
            near.predictions[places].tolist(),
            strict=True,
        )
        for place, label, prediction in chosen:
            if label not in busy_labels and prediction not in busy_predictions:
                won.append(place)
                busy_labels.add(label)
                busy_predictions.add(prediction)
    return np.array(won, np.int64)


def _inside(predictions: Side, crowds: Side, share: float) -> Flags:
    """Which predictions lie by that share of their area in a row marked `ignore`."""
    inside = np.zeros(len(predictions.groups), bool)
    names_class = _flags(pc.equal(pairs_of_kind(crowds.rows), "region/category"))
    for crowd, said in candidates(crowds.groups, predictions.groups):
        boxes = predictions.boxes[said]
        own, common = area(boxes), shared_area(crowds.boxes[crowd], boxes)
        is_meant = ~names_class[crowd] | (crowds.texts[crowd] == predictions.texts[said])
        inside[said[is_meant & (own > 0) & (common >= np.float32(share) * own)]] = True
    return inside & ~predictions.is_text


def rows_of(rows: pa.Table, pairs: Collection[str], keys: pa.Array) -> Flags:
    """Which rows are of those kinds and roles, on those images, and can be compared."""
    wanted = pc.is_in(pairs_of_kind(rows), pa.array(sorted(pairs), pa.string()))
    on_image = pc.is_in(rows["image_key"], keys)
    return _flags(wanted) & _flags(on_image) & has_place(rows)


def _flags(column: pa.Array | pa.ChunkedArray) -> Flags:
    return np.asarray(pc.fill_null(column, False).to_numpy(zero_copy_only=False), bool)
