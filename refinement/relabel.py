"""A round's relabelling of one shard: what stands, what the predictor says, what comes of it.

Pure: the same tables in, the same tables out, whatever the order of their rows. Rows of kind
`grounding` never take part: a phrase is of its text, and texts that change bring phrases of their
own, which specialists find anew. Neither do regions without a box that encloses something.
"""

from collections.abc import Collection

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.rejudge import RELABEL
from engine.schema import CLAIM, ROLES, canonical
from refinement.calibrate import Calibration
from refinement.decisions import Policy, passes
from refinement.match import Flags, match, row_certainty, rows_of
from refinement.outcomes import Relabelled, make_outcomes

_ALT, _BRIEF = "text/alt", "text/brief"
_PAIRS = {f"{kind}/{role}" for kind, roles in ROLES.items() for role in roles}


def relabel(
    rows: pa.Table,
    predictions: pa.Table,
    policy: Policy,
    *,
    number: int,
    predictor: str,
    tasks: Collection[str],
    predicted_keys: Collection[str],
    calibration: Calibration | None = None,
) -> Relabelled:
    """What a round makes of the labels of one shard.

    Only labels of the kinds and roles in `tasks` on images in `predicted_keys` take part: on
    another image the predictor failed, and its silence says nothing. An image that was predicted
    and has no prediction is evidence. Rows marked `ignore` are never touched.

    Args:
        rows: All rows of the shard, schema ANNOTATIONS; only kept ones take part.
        predictions: Claims of the predictor with their ids, or ANNOTATIONS, of which kept ones take
            part.
        policy: Which decides; see `refinement.policies`.
        number: Of the round, 1 or more.
        predictor: The `source` of the new rows.
        tasks: What the predictor was asked for, `kind/role`; predictions of others are not read.
        predicted_keys: Images the predictor answered, with or without a row.
        calibration: Of the predictor's certainty, which the limits of the policy are compared with;
            claims keep the scores they have.

    Returns:
        New claims, retracted ids, ledger and counts. No rows and no predictions: nothing.

    Raises:
        ConfigError: The predictor's name is `relabel`, the round is not 1 or more, or a task is no
            kind and role.
    """
    _check(number, predictor, tasks)
    kept, said = _kept(rows), _kept(predictions)
    keys = pa.array(sorted(predicted_keys), pa.string())
    judged = set(tasks) - {_ALT}
    said = said.filter(pa.array(rows_of(said, judged, keys)))
    scores = row_certainty(said)
    if calibration is not None:
        scores = calibration.apply(scores)
    speaks = passes(scores, policy.support_score)
    if policy.judges_alt and _BRIEF in judged:
        judged |= {_ALT}
    takes_part = rows_of(kept, judged, keys)
    ignored = _flags(kept["ignore"])
    matched = match(
        kept.filter(pa.array(takes_part & ~ignored)),
        said.filter(pa.array(speaks)),
        kept.filter(pa.array(takes_part & ignored)),
        agree_iou=policy.agree_iou,
        near_iou=policy.near_iou,
        prediction_scores=scores[speaks],
    )
    rest = kept.filter(pa.array(~takes_part))
    return make_outcomes(matched, policy.decide(matched), rest, number=number, predictor=predictor)


def _check(number: int, predictor: str, tasks: Collection[str]) -> None:
    if number < 1:
        raise ConfigError(f"relabel: round {number}; 0 is the first annotation, rounds start at 1")
    if predictor == RELABEL:
        raise ConfigError(
            f"relabel: the predictor's name is {RELABEL!r}, which stands for rows a round has "
            "retracted; give it another"
        )
    for task in sorted(tasks):
        if task not in _PAIRS:
            raise ConfigError(
                f"relabel: tasks holds {task!r}; allowed: {', '.join(sorted(_PAIRS))}"
            )


def _kept(rows: pa.Table) -> pa.Table:
    """The kept rows as claims; claims without verdicts are all kept."""
    if "status" in rows.column_names:
        rows = rows.filter(pc.equal(rows["status"].cast(pa.string()), "kept"))
    return canonical(rows.select(CLAIM.names), CLAIM)


def _flags(column: pa.ChunkedArray) -> Flags:
    return np.asarray(pc.fill_null(column, False).to_numpy(), bool)
