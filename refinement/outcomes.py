"""What a relabelling comes to: new rows, retracted ones, and a ledger of every decision."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.merge import merge
from engine.rejudge import RELABEL
from engine.schema import ANNOTATIONS, CLAIM, VERDICT, annotation_ids, canonical
from filters.columns import links
from refinement.decisions import ADDED, OUTCOMES, SUPERSEDED, Decisions
from refinement.match import Matched

_WORD = pa.dictionary(pa.int32(), pa.string())
LEDGER = pa.schema(
    [
        ("image_key", pa.string()),
        ("annotation_id", pa.string()),  # of the label; null if added
        ("new_id", pa.string()),  # of the row that takes its place; null if none does
        ("kind", _WORD),
        ("role", _WORD),
        ("outcome", _WORD),
        ("iou", pa.float32()),  # with the prediction it was compared with; null for captions
        ("label_score", pa.float32()),  # `refinement.match.row_certainty`
        ("prediction_score", pa.float32()),  # the same, calibrated where there is a calibration
        ("text_before", pa.string()),  # the label's
        ("text_after", pa.string()),  # the prediction's, whether or not it came to be
    ]
)


@dataclass(frozen=True)
class Relabelled:
    """What one round makes of one shard.

    Attributes:
        number: Of the round.
        new: Claims to append, in the predictions' order.
        retracted: `annotation_id` of labels that go without a successor.
        ledger: Schema `LEDGER`: every label that took part in the order of its table, then what was
            added.
        counts: Rows of the ledger by outcome; every outcome is there.
    """

    number: int
    new: pa.Table
    retracted: pa.Array
    ledger: pa.Table
    counts: dict[str, int]


def make_outcomes(
    matched: Matched, decisions: Decisions, rest: pa.Table, *, number: int, predictor: str
) -> Relabelled:
    """Rows and ledger from the decisions.

    Args:
        matched: Labels and predictions.
        decisions: On them.
        rest: Kept rows the predictor does not speak about; those that rest on a retracted row
            (`parents`, `region_id`, `text_id`) go with it, as rule `orphan` has it, unless a person
            said them or they are marked `ignore`.
        number: Of the round.
        predictor: The `source` of the new rows.
    """
    labels, said = matched.labels.rows, matched.predictions.rows
    gone = (decisions.outcomes == SUPERSEDED) & (decisions.replaced_by < 0)
    orphans = _resting_on(labels.filter(pa.array(gone)), rest)
    is_new = decisions.added.copy()
    is_new[decisions.replaced_by[decisions.replaced_by >= 0]] = True
    ids = _new_ids(said, predictor, number)
    new = _new_rows(said, ids, is_new, _parents(matched, decisions), number, predictor)
    added = np.flatnonzero(decisions.added)
    # which label and which prediction each row of the ledger is about; -1 for none
    about = np.concatenate([np.arange(labels.num_rows), np.full(len(added), -1)])
    partner = np.where(decisions.replaced_by >= 0, decisions.replaced_by, matched.partner)
    by = np.concatenate([partner, added])
    outcome = np.concatenate([decisions.outcomes, np.full(len(added), ADDED)])
    taken = np.concatenate([decisions.replaced_by, added])
    iou = np.where(partner == matched.partner, matched.iou, np.nan)
    iou = np.where(matched.labels.is_text, np.nan, iou)
    iou = np.concatenate([iou, np.full(len(added), np.nan)])
    ledger = _ledger(matched, about, by, _taken(ids, taken), outcome, iou)
    ledger = pa.concat_tables([ledger, _lost(orphans)]).unify_dictionaries()
    ledger = canonical(ledger, LEDGER)
    retracted = pa.concat_arrays(
        [
            labels["annotation_id"].filter(pa.array(gone)).combine_chunks(),
            orphans["annotation_id"].combine_chunks(),
        ]
    )
    told = ledger["outcome"].to_pylist()
    counts = {name: told.count(name) for name in OUTCOMES}
    return Relabelled(number, new, retracted, ledger, counts)


def apply(rows: pa.Table, relabelled: Relabelled, image_keys: Sequence[str]) -> pa.Table:
    """The rows with the new ones among them, as `engine.rejudge` wants them.

    Args:
        rows: Schema ANNOTATIONS, of the shard that was relabelled. No claim of them changes.
        relabelled: What to do to them.
        image_keys: All images of the shard, in its order.

    Returns:
        Schema ANNOTATIONS: each image's rows as they were, then its new ones, whose verdicts are
        null. A retracted row is superseded by rule `relabel`, and `measured` is the round.
    """
    hit = pc.is_in(rows["annotation_id"], relabelled.retracted)
    number = pa.scalar(relabelled.number, pa.float32())
    changed = {
        "status": pc.if_else(hit, "superseded", rows["status"].cast(pa.string())),
        "rule": pc.if_else(hit, RELABEL, rows["rule"].cast(pa.string())),
        "measured": pc.if_else(hit, number, rows["measured"]),
        "limit": pc.if_else(hit, pa.scalar(None, pa.float32()), rows["limit"]),
        "against": pc.if_else(hit, pa.scalar(None, pa.string()), rows["against"]),
    }
    old = pa.table({name: changed.get(name, rows[name]) for name in ANNOTATIONS.names})
    unjudged = [pa.nulls(relabelled.new.num_rows, field.type) for field in VERDICT]
    new = pa.table([*relabelled.new.columns, *unjudged], schema=ANNOTATIONS)
    return merge([old, new], image_keys, ANNOTATIONS)


def _new_ids(said: pa.Table, predictor: str, number: int) -> pa.Array:
    """The id each prediction has as a row of the round: of its own, so rounds never meet."""
    count = said.num_rows
    revisions, prompts = (
        said[name].cast(pa.string()).to_pylist() for name in ("revision", "prompt")
    )
    ids = annotation_ids(
        said["image_key"].to_pylist(),
        [predictor] * count,
        revisions,
        prompts,
        [number] * count,
        said["annotation_id"].to_pylist(),
    )
    return pa.array(ids, pa.string())


def _parents(matched: Matched, decisions: Decisions) -> list[list[str]]:
    """Ids of the labels each prediction takes the place of, smallest first."""
    parents: list[list[str]] = [[] for _ in range(len(matched.predictions.groups))]
    places = np.flatnonzero(decisions.replaced_by >= 0)
    ids = matched.labels.rows["annotation_id"].take(pa.array(places)).to_pylist()
    for prediction, name in zip(decisions.replaced_by[places].tolist(), ids, strict=True):
        parents[prediction].append(name)
    return [sorted(names) for names in parents]


def _new_rows(
    said: pa.Table,
    ids: pa.Array,
    is_new: npt.NDArray[np.bool_],
    parents: list[list[str]],
    number: int,
    predictor: str,
) -> pa.Table:
    count = said.num_rows
    columns = {name: said[name] for name in CLAIM.names}
    columns["annotation_id"] = ids
    columns["source"] = pa.array([predictor] * count, pa.string())
    columns["round"] = pa.array([number] * count, pa.int16())
    columns["parents"] = pa.array(parents, pa.list_(pa.string()))
    # a region is its own, unless the prediction that first claimed it comes with it
    kept = pa.array(is_new)
    owner = pc.index_in(said["region_id"], pc.filter(said["annotation_id"], kept).combine_chunks())
    is_region = pc.equal(said["kind"].cast(pa.string()), "region")
    own = pc.coalesce(pc.take(pc.filter(ids, kept), owner), ids)
    columns["region_id"] = pc.if_else(is_region, own, pa.scalar(None, pa.string()))
    return canonical(pa.table(columns).filter(kept), CLAIM)


def _ledger(
    matched: Matched,
    about: npt.NDArray[np.int64],
    by: npt.NDArray[np.int64],
    new_ids: pa.Array,
    outcome: npt.NDArray[np.int64],
    iou: npt.NDArray[np.float64],
) -> pa.Table:
    labels, said = matched.labels, matched.predictions
    own = {n: _taken(labels.rows[n], about) for n in ("image_key", "annotation_id", "kind", "role")}
    theirs = {n: _taken(said.rows[n], by) for n in ("image_key", "kind", "role")}
    both = {n: pc.coalesce(_plain(own[n]), _plain(theirs[n])) for n in theirs}
    scores = [
        pa.array(np.append(side.scores, np.nan)[places], pa.float32(), from_pandas=True)
        for side, places in ((labels, about), (said, by))
    ]
    columns = {
        "image_key": both["image_key"],
        "annotation_id": own["annotation_id"],
        "new_id": new_ids,
        "kind": both["kind"],
        "role": both["role"],
        "outcome": pa.array(np.array(OUTCOMES)[outcome].tolist(), pa.string()),
        "iou": pa.array(iou, pa.float32(), from_pandas=True),
        "label_score": scores[0],
        "prediction_score": scores[1],
        "text_before": _taken(labels.rows["text"], about),
        "text_after": _taken(said.rows["text"], by),
    }
    return canonical(pa.table(columns), LEDGER)


def _lost(orphans: pa.Table) -> pa.Table:
    """Rows of the ledger for rows that go with the retracted one they rest on."""
    columns = {
        **{name: orphans[name] for name in ("image_key", "annotation_id", "kind", "role")},
        "outcome": pa.array(["superseded"] * orphans.num_rows, pa.string()),
        "text_before": orphans["text"],
    }
    missing = (field for field in LEDGER if field.name not in columns)
    columns |= {field.name: pa.nulls(orphans.num_rows, field.type) for field in missing}
    return canonical(pa.table(columns), LEDGER)


def _resting_on(gone: pa.Table, rest: pa.Table) -> pa.Table:
    """Rows of `rest` that name a gone row, or one that names it, and so on."""
    both = pa.concat_tables([gone, rest]).unify_dictionaries()
    named = links(both, ["parents", "region_id", "text_id"])
    spared = pc.or_(both["human"].fill_null(False), both["ignore"].fill_null(False))
    may_fall = ~np.asarray(spared.to_numpy(), bool)
    lost = np.arange(both.num_rows) < gone.num_rows
    linked = named.targets >= 0
    rows, targets = named.rows[linked], named.targets[linked]
    while (falls := rows[lost[targets] & ~lost[rows] & may_fall[rows]]).size:
        lost[falls] = True
    return both.filter(pa.array(lost)).slice(gone.num_rows)


def _taken(column: pa.Array | pa.ChunkedArray, places: npt.NDArray[np.int64]) -> pa.Array:
    """The values at those places; null for -1."""
    found = column.take(pa.array(places, mask=places < 0))
    return found.combine_chunks() if isinstance(found, pa.ChunkedArray) else found


def _plain(column: pa.Array) -> pa.Array:
    return column.cast(pa.string())
