"""From a config to a job: entries found and built, defaults filled in, required rules added."""

import sys

import pytest

from engine import dataset
from engine.compose import compose, with_required_rules
from engine.config import load_config, parse_config
from engine.errors import ConfigError

MINIMAL = {"source": {"uri": "photos"}, "output": {"uri": "out"}}


def job(**sections):
    return compose(parse_config({**MINIMAL, **sections}, [], "a.yaml"))


def test_a_config_without_entries_has_the_required_rules():
    composed = job()
    assert list(composed.specialists) == []
    assert [entry.rule.name for entry in composed.rules] == ["invalid_box", "orphan"]


@pytest.mark.parametrize(
    ("given_rules", "expected"),
    [
        pytest.param([], ["invalid_box", "orphan"], id="none"),
        pytest.param(["min_score"], ["invalid_box", "min_score", "orphan"], id="around"),
        pytest.param(["orphan", "min_area"], ["invalid_box", "orphan", "min_area"], id="placed"),
        pytest.param(["min_area", "invalid_box"], ["min_area", "invalid_box", "orphan"], id="late"),
    ],
)
def test_required_rules_are_added_where_the_config_does_not_place_them(given_rules, expected):
    entries = with_required_rules([{"rule": name} for name in given_rules])
    assert [entry["rule"] for entry in entries] == expected


def test_a_specialist_is_named_after_its_kind_unless_it_is_named():
    composed = job(specialists=[{"kind": "null"}, {"kind": "null", "name": "second"}])
    assert [s.name for s in composed.specialists] == ["null", "second"]


def test_the_resolved_config_holds_every_option():
    config = job(
        specialists=[{"kind": "null", "num_rows": 2}], rules=[{"rule": "min_score"}]
    ).config
    entry = config.specialists[0]
    assert (entry["kind"], entry["name"], entry["num_rows"]) == ("null", "null", 2)
    assert entry["kinds"] == ["region/category"]
    assert config.rules[1] == {"rule": "min_score", "alarm_share": 0.95, "limits": {"*": 0.25}}


def test_the_resolved_config_is_the_same_run_when_it_is_read_back(tmp_path):
    first = job(
        specialists=[{"kind": "null", "work_ms": 1}, {"kind": "composer"}],
        rules=[{"rule": "duplicate_region"}, {"rule": "min_score", "limits": {"null": 0.5}}],
    )
    path = tmp_path / "config.yaml"
    path.write_text(dataset.dump_config(first.config), encoding="utf-8")
    again = compose(load_config(path))
    assert again.config == first.config
    assert again.config.digest() == first.config.digest()
    assert dataset.dump_config(again.config) == path.read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("sections", "message"),
    [
        pytest.param(
            {"specialists": [{"kind": "nul"}]},
            "specialist 'nul' is not known; did you mean 'null'[?] known: caption, composer, ",
            id="unknown-specialist",
        ),
        pytest.param(
            {"rules": [{"rule": "min_scor"}]},
            "rule 'min_scor' is not known; did you mean 'min_score'[?]",
            id="unknown-rule",
        ),
        pytest.param(
            {"specialists": [{"kind": "null"}, {"kind": "null", "name": "b", "num_row": 1}]},
            r"specialists\[1\].num_row is not an option; did you mean 'num_rows'",
            id="unknown-option",
        ),
        pytest.param(
            {"rules": [{"rule": "min_score", "limit": {}}]},
            r"rules\[0\].limit is not an option; did you mean 'limits'",
            id="counted-as-in-the-file",
        ),
        pytest.param(
            {"rules": [{"rule": "min_area"}, {"rule": "min_score", "limits": {"yolo": "x"}}]},
            r"rules\[1\].limits.yolo: .*; found 'x'",
            id="wrong-type",
        ),
        pytest.param(
            {"rules": [{"rule": "min_score", "alarm_share": 1.5}]},
            r"rules\[0\].alarm_share: found 1.5; allowed 0 to 1",
            id="alarm-share",
        ),
        pytest.param(
            {"rules": [{"rule": "min_score", "alarm_share": True}]},
            r"rules\[0\].alarm_share: found True",
            id="alarm-share-is-no-switch",
        ),
        pytest.param(
            {"specialists": [{"kind": "null"}], "runner": {"workers": {"nul": 2}}},
            "runner.workers.nul names no specialist of this config; did you mean 'null'",
            id="workers-of-nobody",
        ),
        pytest.param(
            {"runner": {"threads": {"yolo": 2}}},
            "runner.threads.yolo names no specialist of this config; known: nothing",
            id="threads-of-nobody",
        ),
    ],
)
def test_compose_says_what_is_wrong_and_where(sections, message):
    with pytest.raises(ConfigError, match=message):
        job(**sections)


def test_a_rule_knows_its_place_in_the_config_for_messages():
    composed = job(rules=[{"rule": "min_area"}, {"rule": "min_score"}])
    places = {entry.rule.name: entry.place for entry in composed.rules}
    assert places == {"invalid_box": None, "min_area": 0, "min_score": 1, "orphan": None}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        pytest.param("del", r"specialists\[0\] \(theirs\): lacks 'replaces'", id="missing"),
        pytest.param(True, r"replaces is True; allowed: never, kept, always", id="wrong"),
    ],
)
def test_a_specialist_that_is_not_made_as_agreed_is_refused_before_the_run(
    change, message, tmp_path, monkeypatch
):
    """Other people's: found by entry point, so nothing checked them before."""
    line = "" if change == "del" else f"    replaces: bool = {change}\n"
    monkeypatch.delitem(sys.modules, "theirs", raising=False)
    (tmp_path / "theirs.py").write_text(
        "from dataclasses import dataclass, field\n"
        "@dataclass\nclass Theirs:\n    name: str = 'theirs'\n    model: str = 'm'\n"
        "    produces: tuple[str, ...] = ('text/brief',)\n    requires: tuple[str, ...] = ()\n"
        f"    resources: int = 1\n    quiet_limit: int | None = None\n{line}"
    )
    about = tmp_path / "theirs-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[fld.specialists]\ntheirs = theirs:Theirs\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=message):
        job(specialists=[{"kind": "theirs"}])
