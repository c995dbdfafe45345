"""Names of specialists and rules: our tables, and those of other people's packages.

What each rule does with its example is tested in tests/filters, the specialists in
tests/specialists.
"""

import dataclasses
import inspect

import pytest

from engine.errors import ConfigError
from engine.registry import Registry
from filters import RULES
from specialists import SPECIALISTS

OURS = {"min_score": "filters.region_scores:MinScore", "orphan": "filters.lineage:Orphan"}


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Makes packages importable and known to importlib.metadata, as pip would leave them."""

    def install(package: str, code: str, **points: str) -> None:
        (tmp_path / f"{package}.py").write_text(code, encoding="utf-8")
        info = tmp_path / f"{package}-1.0.dist-info"
        info.mkdir()
        (info / "METADATA").write_text(f"Name: {package}\nVersion: 1.0\n", encoding="utf-8")
        lines = [f"[{group}]\n{line}\n" for group, line in points.items()]
        (info / "entry_points.txt").write_text("".join(lines).replace("__", "."), encoding="utf-8")

    monkeypatch.syspath_prepend(str(tmp_path))
    return install


def test_a_registry_without_names_says_so():
    with pytest.raises(ConfigError, match="rule 'x' is not known; known: nothing"):
        Registry("rule", {}, "no.such.group").find("x")


@pytest.mark.parametrize("registry", [SPECIALISTS, RULES], ids=lambda r: r.what)
def test_every_table_entry_resolves_to_a_described_dataclass(registry):
    assert registry.table
    for name in registry.table:
        found = registry.find(name)
        assert dataclasses.is_dataclass(found), name
        assert all(f.kw_only for f in dataclasses.fields(found) if f.init), name
        summary = inspect.getdoc(found).split("\n\n")[0]
        assert summary.endswith("."), name
        assert "(" not in summary.split()[0], f"{name} has no docstring of its own"


@pytest.mark.parametrize("name", RULES.table)
def test_a_rule_bears_the_name_it_is_found_by(name):
    assert RULES.find(name).name == name


def test_an_unknown_name_gives_the_nearest_and_all():
    with pytest.raises(
        ConfigError,
        match=r"^rule 'min_scor' is not known; did you mean 'min_score'\? known: min_score, orph",
    ):
        Registry("rule", OURS, "no.such.group").find("min_scor")


def test_a_package_adds_names_by_entry_point(installed):
    installed("their_rules", "class Loud: ...\n", fld_test__rules="loud = their_rules:Loud")
    registry = Registry("rule", OURS, "fld_test.rules")
    assert registry.names() == {**OURS, "loud": "their_rules:Loud"}
    assert registry.find("loud").__name__ == "Loud"


def test_a_package_may_not_take_a_name_that_is_ours(installed):
    installed("greedy_rules", "class Mine: ...\n", fld_test__rules="orphan = greedy_rules:Mine")
    with pytest.raises(
        ConfigError,
        match=r"rule 'orphan' is claimed twice, by filters.lineage:Orphan and by greedy_rules:Mine",
    ):
        Registry("rule", OURS, "fld_test.rules").names()


def test_two_packages_may_not_share_a_name(installed):
    for package in ("one_rules", "two_rules"):
        installed(package, "", fld_test__rules=f"loud = {package}:Loud")
    with pytest.raises(ConfigError, match="by one_rules:Loud and by two_rules:Loud"):
        Registry("rule", {}, "fld_test.rules").names()


def test_a_name_whose_class_is_gone_is_a_user_error(installed):
    installed("stale_rules", "import no_such_module_at_all\n", fld_test__rules="a = stale_rules:A")
    installed("empty_rules", "", fld_test__rules="b = empty_rules:B")
    registry = Registry("rule", {}, "fld_test.rules")
    with pytest.raises(ConfigError, match="'a': stale_rules:A cannot be imported: No module named"):
        registry.find("a")
    with pytest.raises(ConfigError, match=r"'b': empty_rules:B cannot be .* no attribute 'B'"):
        registry.find("b")
