"""Labels and predictions by hand for the tests of relabelling."""

import numpy as np
import pyarrow as pa

from engine.schema import ANNOTATIONS, VERDICT
from refinement.relabel import relabel
from tests.builders import rows

REGION = ["region/category"]
BOX, NEAR, FAR = [0, 0, 10, 10], [4, 0, 14, 10], [50, 50, 60, 60]  # NEAR on BOX: IoU 6 / 14
CLOSE = [1, 0, 11, 10]  # on BOX: IoU 9 / 11


def labels(**columns):
    """Kept rows of source yolo, ids label-0, ..., unless given."""
    status = columns.pop("status", "kept")
    count = len(next(value for value in columns.values() if isinstance(value, (list, np.ndarray))))
    columns.setdefault("annotation_id", [f"label-{n}" for n in range(count)])
    claimed = rows(**columns)
    return judged(claimed, status)


def judged(claimed, status="kept"):
    count = claimed.num_rows
    statuses = [status] * count if isinstance(status, str) else status
    words = pa.array(statuses, pa.string()).dictionary_encode()
    rest = [pa.nulls(count, field.type) for field in list(VERDICT)[1:]]
    return pa.table([*claimed.columns, words, *rest], schema=ANNOTATIONS)


def said(**columns):
    """Claims of the predictor, ids said-0, ..., score 0.9, unless given."""
    count = len(next(value for value in columns.values() if isinstance(value, (list, np.ndarray))))
    given = {"annotation_id": [f"said-{n}" for n in range(count)], "score": [0.9] * count}
    return rows(**{**given, "source": "florence2", **columns})


def run(policy, kept, predicted, **options):
    """One round with the usual arguments, on the images `a` and `b`."""
    usual = {
        "number": 1,
        "predictor": "florence2",
        "tasks": REGION,
        "predicted_keys": ["a", "b"],
    }
    return relabel(kept, predicted, policy, **{**usual, **options})


def outcomes(made):
    """Outcome by label id; added ones by text."""
    ledger = made.ledger.to_pylist()
    return {row["annotation_id"] or row["text_after"]: row["outcome"] for row in ledger}


def parents(made):
    """Ids of the labels each new row names, by its text."""
    return {row["text"]: row["parents"] for row in made.new.to_pylist()}
