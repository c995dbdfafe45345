"""Rows that a source gives with its images: checked and identified like those of a specialist."""

from collections.abc import Sequence
from typing import Any

import pyarrow as pa

from engine.errors import TableError
from engine.failures import Failure, fail
from engine.merge import check_rows, identify
from engine.schema import CLAIM, claims
from engine.source.shard import Given

# Columns whose value differs from null where a row does not say.
_DEFAULTS: dict[str, Any] = {"human": False, "ignore": False}


def given_rows(given: Sequence[Given]) -> tuple[pa.Table, list[tuple[str, Failure]]]:
    """The rows a source gave, as claims of that source, and the images whose labels were refused.

    `model` and `revision` are null: nobody knows what or who made them.

    Returns:
        Claims in the given order; image key and failure (stage `labels`) of each image whose rows
        break the rules of the table, none of which are among the claims.
    """
    tables, failures = [CLAIM.empty_table()], []
    for source in dict.fromkeys(entry.source for entry in given):
        mine = [entry for entry in given if entry.source == source]
        try:
            tables.append(_claims(mine, source))
        except TableError:  # of all images: each alone tells whose fault
            for entry in mine:
                try:
                    tables.append(_claims([entry], source))
                except TableError as err:
                    failure = fail("labels", "bad_labels", err, source=source)
                    failures.append((entry.image_key, failure))
    return pa.concat_tables(tables).unify_dictionaries(), failures


def _claims(given: Sequence[Given], source: str) -> pa.Table:
    keys = [entry.image_key for entry in given for _ in entry.rows]
    rows = [row for entry in given for row in entry.rows]
    names = sorted({name for row in rows for name in row})
    columns = {name: [row.get(name, _DEFAULTS.get(name)) for row in rows] for name in names}
    table = check_rows(claims(image_key=keys, **columns), [entry.image_key for entry in given])
    return identify(table, source=source, model=None, revision=None)
