"""Rules that reject annotations, each found by name; importing this package loads none of them."""

import difflib
from importlib import import_module
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from engine.errors import ConfigError

# Where each rule lives: "module:Class".
RULES: dict[str, str] = {
    "invalid_box": "filters.region:InvalidBox",
    "min_score": "filters.region:MinScore",
    "min_area": "filters.region:MinArea",
    "duplicate_region": "filters.region:DuplicateRegion",
    "phrase_blacklist": "filters.grounding:PhraseBlacklist",
    "orphan": "filters.lineage:Orphan",
}
ENTRY_POINTS = "fld.rules"  # the group other packages name their rules in


def rule_class(name: str) -> type[Any]:
    """The class of the rule of that name: ours, or one that an installed package names.

    Raises:
        ConfigError: No rule has that name, two packages claim it, or its package does not load it.
    """
    if name in RULES:
        module, _, attribute = RULES[name].partition(":")
        found: type[Any] = getattr(import_module(module), attribute)
        return found
    others = [point for point in _entry_points() if point.name == name]
    if not others:
        raise ConfigError(
            f"rule {name!r} is not known; known, nearest first: {_nearest_first(name)}"
        )
    if len(others) > 1:
        claims = ", ".join(sorted(point.value for point in others))
        raise ConfigError(
            f"rule {name!r} is named by several packages: {claims}; uninstall all but one"
        )
    return _load(others[0])


def rule_names() -> list[str]:
    """Every name `rule_class` knows, sorted."""
    return sorted({*RULES, *(point.name for point in _entry_points())})


def _entry_points() -> tuple[EntryPoint, ...]:
    return tuple(entry_points(group=ENTRY_POINTS))


def _load(point: EntryPoint) -> type[Any]:
    try:
        found: type[Any] = point.load()
    except (ImportError, AttributeError) as err:
        raise ConfigError(
            f"rule {point.name!r}: {point.value} does not load: {err}; "
            "mend or uninstall its package"
        ) from err
    return found


def _nearest_first(name: str) -> str:
    def distance(known: str) -> float:
        return -difflib.SequenceMatcher(None, name, known).ratio()

    return ", ".join(sorted(rule_names(), key=distance))
