"""The tables of `fld plan`, `checks`, `failures`, `specialists` and `rules`."""

import io
from dataclasses import dataclass, field

import pytest
from rich.console import Console

from engine.checks import Check, run_checks
from engine.compose import compose
from engine.config import parse_config
from engine.errors import ConfigError
from engine.job import Job
from engine.overview import checks_table, failures_table, options_table, plan_overview
from engine.protocols import Need
from engine.registry import Registry
from engine.run import list_source
from specialists import SPECIALISTS
from tests import tiny
from tests.shards import FAILED, VERSION, commit, dataset, images


@dataclass(kw_only=True)
class Listed:
    """Say nothing, for a listing.

    More about it.
    """

    name: str
    limits: dict[str, float] = field(default_factory=lambda: {"*": 0.5})
    iou: float | None = None
    state: object = field(init=False, default=None)


THINGS = Registry("thing", {"listed": f"{__name__}:Listed"}, "fld_test.nothing")


def printed(renderable, width=160):
    console = Console(file=io.StringIO(), width=width)
    console.print(renderable)
    return console.file.getvalue()


def job(tmp_path, **sections):
    raw = {
        "source": {"uri": str(tiny.write_photos(tmp_path / "photos")), "shard_size": 2},
        "output": {"uri": str(tmp_path / "out")},
        "specialists": [{"kind": "null"}, {"kind": "composer"}],
    }
    return compose(parse_config({**raw, **sections}, [], "a.yaml"))


def test_the_plan_shows_config_shards_and_levels_and_writes_nothing(tmp_path):
    composed = job(tmp_path)
    (tmp_path / "photos" / "notes.md").write_text("", encoding="utf-8")
    text = printed(plan_overview(composed, list_source(composed.config, None)))
    assert "5 images in 3 shards of up to 2" in text
    assert "ignored: 1 x " in text
    assert "level 0: null" in text
    assert "level 1: composer" in text
    assert "alarm_share: 0.95" in text
    assert not (tmp_path / "out").exists()


def test_a_limit_shortens_the_plan(tmp_path):
    composed = job(tmp_path)
    text = printed(plan_overview(composed, list_source(composed.config, 1)))
    assert "1 images in 1 shards" in text


def test_checks_of_nothing_print_nothing():
    assert printed(checks_table([])).strip() == ""


def test_failing_checks_show_what_mends_them():
    text = printed(checks_table([Check("a", True), Check("b", False, "pip install b")]))
    assert [line.split() for line in text.splitlines()] == [
        ["ok", "a"],
        ["MISSING", "b", "pip", "install", "b"],
    ]


class Needy:
    """A specialist with one thing there, one missing, and one it fetches itself."""

    name = "needy"

    def needs(self):
        return [
            Need("this", present=True),
            Need("that", present=False, mend="pip install that"),
            Need("weights", present=False, mend="fetch weights", downloads=True),
        ]


def test_checks_tell_missing_from_downloads_and_look_at_both_ends(tmp_path):
    composed = job(tmp_path)
    found = list(run_checks(Job(composed.config, [Needy()], composed.rules)))
    states = {check.what: (check.ok, check.detail) for check in found}
    assert states["needy: this"] == (True, "")
    assert states["needy: that"] == (False, "pip install that")
    assert states["needy: weights"][0]
    assert "downloads at first use; or now: fetch weights" in states["needy: weights"][1]
    assert states[f"source {composed.config.source.uri}"] == (True, "readable")
    assert states[f"output {composed.config.output.uri}"][0]


def test_failures_of_a_dataset_without_any_are_a_heading(tmp_path):
    place = dataset(tmp_path, ["a"])
    commit(place, 0, images("a"))
    assert len(printed(failures_table(place.output, VERSION)).splitlines()) == 1


def test_failures_are_listed_with_image_stage_and_cause(tmp_path):
    place = dataset(tmp_path, ["a"])
    commit(place, 0, images("a", status=["failed"], failures=[FAILED]))
    lines = printed(failures_table(place.output, VERSION)).splitlines()
    assert lines[1].split() == ["a", "a.jpg", "failed", "decode", "-", "corrupt", "no", "picture"]


def test_markup_in_names_and_messages_is_shown_as_it_is(tmp_path):
    """A file may be called [bold].jpg."""
    place = dataset(tmp_path, ["a"])
    failure = [{**FAILED[0], "message": "[red]no[/red] [/]"}]
    commit(place, 0, images("a", uri=["[bold].jpg"], status=["failed"], failures=[failure]))
    text = printed(failures_table(place.output, VERSION))
    assert "[bold].jpg" in text
    assert "[red]no[/red] [/]" in text


def test_options_without_a_name_list_everything_with_its_first_sentence():
    lines = printed(options_table(THINGS, None)).splitlines()
    assert [line.split() for line in lines] == [
        ["thing", "what", "it", "does"],
        ["listed", "Say", "nothing,", "for", "a", "listing."],
    ]


def test_options_of_one_show_types_and_defaults():
    text = printed(options_table(THINGS, "listed"))
    lines = [line.split() for line in text.splitlines()]
    assert "More about it." in text
    assert ["name", "str", "(must", "be", "given)"] in lines
    assert ["limits", "dict[str,", "float]", "{'*':", "0.5}"] in lines
    assert ["iou", "float", "|", "None", "None"] in lines
    assert not any(line[:1] == ["state"] for line in lines)


def test_options_of_nobody_are_an_error():
    with pytest.raises(ConfigError, match="thing 'liste' is not known; did you mean 'listed'"):
        options_table(THINGS, "liste")


@pytest.mark.parametrize("name", sorted(SPECIALISTS.table))
def test_options_of_every_specialist_print(name):
    assert "quiet_limit" in printed(options_table(SPECIALISTS, name))
