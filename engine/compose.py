"""From a config to a job: specialists and rules found by name, built and checked."""

import dataclasses
import json
from typing import Any, get_args

from engine.config import Config, RunnerConfig, build, nearest
from engine.errors import ConfigError
from engine.job import Job
from engine.judge import RuleEntry
from engine.protocols import Replaces, Rule, Specialist
from filters import RULES
from specialists import SPECIALISTS

# Rules without which a kept row could break the table's promises: always there, first and last.
_FIRST, _LAST = "invalid_box", "orphan"


def compose(config: Config) -> Job:
    """The job of a config, and the config with every default of its entries filled in.

    Raises:
        ConfigError: An unknown specialist, rule or option, or a value that is not allowed.
    """
    specialists = [
        make_specialist(entry, f"specialists[{i}]") for i, entry in enumerate(config.specialists)
    ]
    _check_names(config.runner, [*(each.name for each in specialists), *_predictors(config)])
    entries = with_required_rules(config.rules)
    places = {id(entry): place for place, entry in enumerate(config.rules)}
    rules = [_rule(entry, places.get(id(entry))) for entry in entries]
    resolved = config.model_copy(
        update={
            "specialists": [
                {"kind": entry["kind"], **_options(built)}
                for entry, built in zip(config.specialists, specialists, strict=True)
            ],
            "rules": [
                {"rule": entry["rule"], "alarm_share": built.alarm_share, **_options(built.rule)}
                for entry, built in zip(entries, rules, strict=True)
            ],
        }
    )
    return Job(resolved, specialists, rules)


def with_required_rules(rules: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The rules with `invalid_box` first and `orphan` last, unless the config places them."""
    named = [entry["rule"] for entry in rules]
    first = [] if _FIRST in named else [{"rule": _FIRST}]
    last = [] if _LAST in named else [{"rule": _LAST}]
    return [*first, *rules, *last]


def make_specialist(entry: dict[str, Any], where: str) -> Specialist:
    """A specialist of its config entry.

    Raises:
        ConfigError: An unknown specialist or option, or a value that is not allowed.
    """
    options = {name: value for name, value in entry.items() if name != "kind"}
    options.setdefault("name", entry["kind"])
    cls = SPECIALISTS.find(entry["kind"])
    specialist: Specialist = build(cls, options, where)
    _check_made(specialist, f"{where} ({entry['kind']})")
    return specialist


def _check_made(specialist: Specialist, where: str) -> None:
    """Whoever wrote it: what is missing shows before the run starts, not in the middle of it."""
    for name in Specialist.__annotations__:
        if not hasattr(specialist, name):
            raise ConfigError(
                f"{where}: lacks {name!r}; engine/protocols.py says what it must have"
            )
    if specialist.replaces not in get_args(Replaces):
        allowed = ", ".join(get_args(Replaces))
        raise ConfigError(f"{where}: replaces is {specialist.replaces!r}; allowed: {allowed}")


def _predictors(config: Config) -> list[str]:
    """The name of what predicts in rounds of refinement, if there are any."""
    refines = config.refine or config.model
    entry = config.refine.get("predictor", {"kind": "florence2"}) if refines else {}
    return [str(entry[name]) for name in ("name", "kind") if name in entry][:1]


def _check_names(runner: RunnerConfig, names: list[str]) -> None:
    """Workers and threads of a specialist that is not there would be options without effect."""
    for option in ("workers", "threads"):
        for name in getattr(runner, option):
            if name not in names:
                raise ConfigError(
                    f"runner.{option}.{name} names no specialist of this config; "
                    f"{nearest(name, names)}"
                )


def _rule(entry: dict[str, Any], place: int | None) -> RuleEntry:
    where = f"rules[{place}]"
    options = {name: value for name, value in entry.items() if name not in ("rule", "alarm_share")}
    rule: Rule = build(RULES.find(entry["rule"]), options, where)
    share = entry.get("alarm_share", RuleEntry.alarm_share)
    if isinstance(share, bool) or not isinstance(share, (int, float)) or not 0 <= share <= 1:
        raise ConfigError(f"{where}.alarm_share: found {share!r}; allowed 0 to 1, 1 is never")
    return RuleEntry(rule, float(share), place)


def _options(built: Any) -> dict[str, Any]:
    """The options of a built entry as plain data, defaults included."""
    fields = [f.name for f in dataclasses.fields(built) if f.init]
    plain: dict[str, Any] = json.loads(json.dumps({f: getattr(built, f) for f in fields}))
    return plain
