"""Limits by role: how they are written, which rows they hold for, and judging rows by them."""

from collections.abc import Callable, Mapping
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.schema import ROLES, Tables, Verdicts
from filters.columns import Flags, Floats, flags, is_word, words_of

Measure = Callable[[pa.Array], Floats]  # distinct texts (k,) -> (k,), NaN: nothing to measure

_PLACES = tuple(ROLES) + tuple(f"{kind}/{role}" for kind in ROLES for role in ROLES[kind])
# Sentences that a person or a model made up.
CAPTIONS = ("text", "region/brief")


def check_places(rule: str, option: str, places: Mapping[str, object] | tuple[str, ...]) -> None:
    """Refuses anything but kinds and `kind/role`, and nothing at all.

    Raises:
        ConfigError: With what was found and what is allowed.
    """
    if not places:
        raise ConfigError(
            f"rule {rule!r}: {option} is empty; name a kind or kind/role, or leave the rule out"
        )
    for place in places:
        if place not in _PLACES:
            raise ConfigError(
                f"rule {rule!r}: {option} names {place!r}; allowed: {', '.join(_PLACES)}"
            )


def check_limits(rule: str, limits: Mapping[str, float], least: float = 0) -> None:
    """Refuses limits that are no number of at least `least`, or that name no kind or role.

    Raises:
        ConfigError: With what was found and what is allowed.
    """
    check_places(rule, "limits", limits)
    for place, limit in limits.items():
        if not least <= limit < float("inf"):
            raise ConfigError(
                f"rule {rule!r}: limits.{place} is {limit}; it is a number of at least {least:g}"
            )


def limit_of_rows(rows: pa.Table, limits: Mapping[str, float]) -> Floats:
    """The limit for each row, shape (n,): of its `kind/role`, else of its kind, else NaN."""
    found = np.full(rows.num_rows, np.nan, np.float32)
    for place in sorted(limits, key=lambda place: "/" in place):  # the narrower has the last word
        found[of_place(rows, place)] = limits[place]
    return found


def of_place(rows: pa.Table, place: str) -> Flags:
    """Which rows are of that kind, or of that `kind/role`, shape (n,)."""
    kind, _, role = place.partition("/")
    chosen = is_word(rows["kind"], [kind])
    return chosen & is_word(rows["role"], [role]) if role else chosen


def of_places(rows: pa.Table, places: tuple[str, ...]) -> Flags:
    """Which rows are of any of those, shape (n,)."""
    chosen = np.zeros(rows.num_rows, bool)
    for place in places:
        chosen |= of_place(rows, place)
    return chosen


def measure_texts(rows: pa.Table, judged: Flags, measure: Measure) -> Floats:
    """What `measure` says of the texts of the judged rows, shape (n,), each distinct text once.

    NaN for the other rows, and where there is no text.
    """
    texts = words_of(rows["text"].filter(pa.array(judged)))
    found = np.full(rows.num_rows, np.nan, np.float32)
    found[judged] = np.append(measure(texts.words), np.float32(np.nan))[texts.indices]
    return found


def judge_limits(
    tables: Tables, limits: Mapping[str, float], measure: Measure, keeps: Literal["min", "max"]
) -> Verdicts:
    """Rejects rows whose text measures below the least, or above the most; NaN is left alone."""
    rows = tables.annotations
    limit = limit_of_rows(rows, limits)
    measured = measure_texts(rows, ~np.isnan(limit), measure)
    rejected = measured < limit if keeps == "min" else measured > limit
    return Verdicts(
        pa.array(rejected),
        measured=pa.array(measured, from_pandas=True),
        limit=pa.array(limit, from_pandas=True),
    )


def judge_share(
    tables: Tables,
    places: tuple[str, ...],
    measure: Measure,
    limit: float,
    keeps: Literal["min", "max"],
) -> Verdicts:
    """The same with one limit for all rows of those places."""
    return judge_limits(tables, dict.fromkeys(places, limit), measure, keeps)


def judge_terms(
    tables: Tables, places: tuple[str, ...], find: Callable[[pa.Array], pa.Array]
) -> Verdicts:
    """Rejects rows in whose text `find` finds a term, which `against` names.

    `find` takes the distinct texts, shape (k,), and gives a string array (k,), null for no term.
    """
    rows = tables.annotations
    judged = of_places(rows, places)
    texts = words_of(rows["text"].filter(pa.array(judged)))
    place = np.full(rows.num_rows, -1, np.int64)
    place[judged] = texts.indices
    against = find(texts.words).take(pa.array(place, mask=place < 0))
    return Verdicts(pa.array(flags(pc.is_valid(against))), against=against)
