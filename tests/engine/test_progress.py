"""What a person sees of a run: the words, not the drawing of the bar."""

import io
import logging

import pytest
from rich.console import Console

from engine.progress import LogObserver, TerminalObserver, clock, plan_line, time_left
from engine.status import Run
from engine.summary import next_steps, summary
from tests.builders import rows
from tests.shards import commit, images, plan, target


def new_run(*keys):
    return Run(plan(list(keys)), 1 if keys else 0, [])


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(0, "0:00:00"), (59.9, "0:00:59"), (3600, "1:00:00"), (400_000, "111:06:40")],
)
def test_clock(seconds, text):
    assert clock(seconds) == text


def test_the_plan_of_nothing_is_a_line_too():
    assert plan_line(new_run()) == "0 images in 0 shards"


def test_the_plan_line_counts_what_is_done_and_what_was_ignored():
    run = new_run("a", "b")
    run.shards_done, run.ignored = 1, {"hidden file": 2, "text": 1_000}
    assert plan_line(run) == (
        "2 images in 1 shards, 1 shards done already; "
        "ignored 1,002 other files (2 hidden file, 1,000 text)"
    )


def test_time_left_is_unknown_before_the_first_image():
    assert time_left(new_run("a")) == "?"


def test_the_log_has_one_line_per_shard_with_its_counts(caplog, tmp_path):
    run = new_run("a", "b")
    table = images("a", "b", status=["ok", "failed"])
    marker = commit(target(tmp_path), 0, table, rows(text=["x", "no"]))
    run.totals.add(marker)
    run.shards_done = 1
    observer = LogObserver()
    with caplog.at_level(logging.INFO, logger="engine.progress"):
        observer.planned(run)
        observer.started(run)
        observer.tick(run)
        observer.shard_done(run, marker)
        observer.close()
    assert caplog.messages[-1].startswith(
        "shard 000000: 1 images ok, 1 failed, 0 duplicates; 1 rows kept of 2; 1 of 1 shards, "
    )
    assert len(caplog.messages) == 2


def test_the_terminal_shows_the_plan_and_closes_even_before_it_started():
    text = io.StringIO()
    observer = TerminalObserver(Console(file=text, color_system=None, width=120))
    run = new_run("a")
    observer.planned(run)
    observer.tick(run)
    observer.close()
    assert "1 images in 1 shards" in text.getvalue()


def test_the_terminal_leaves_its_last_picture():
    text = io.StringIO()
    observer = TerminalObserver(Console(file=text, force_terminal=True, width=120))
    run = new_run("a", "b")
    observer.started(run)
    run.totals.images = {"ok": 1}
    observer.tick(run)
    observer.close()
    observer.close()
    assert "1/2 images" in text.getvalue()


STATUS = {
    "state": "finished",
    "shards": {"planned": 2, "done": 2},
    "images": {"planned": 1_200, "ok": 1_199, "failed": 1},
    "annotations": {"yolo/region/category/kept": 5, "yolo/region/category/rejected": 1_000},
    "rules": {"min_score": [1_005, 1_000], "orphan": [0, 0]},
    "failures": {"decode/corrupt": 1, "yolo/raised": 3},
    "last": {"usage": {"endpoint": {"prompt_tokens": 81_200}}},
}


def printed(status):
    console = Console(file=io.StringIO(), width=120)
    console.print(summary(status, "out"))
    return console.file.getvalue()


def test_the_summary_of_nothing_is_one_line():
    nothing = {"state": "finished", "shards": STATUS["shards"], "images": {"planned": 0}}
    nothing |= {"annotations": {}, "rules": {}, "failures": {}, "last": {}}
    text = printed(nothing)
    assert "0 images planned: 0 ok, 0 failed" in text
    assert "failures" not in text


def test_the_summary_shows_rows_rules_and_failures():
    lines = [line.split() for line in printed(STATUS).splitlines()]
    assert ["yolo", "region", "category", "5", "1,000", "-"] in lines
    assert ["min_score", "1,005", "1,000", "99.5%"] in lines
    assert ["orphan", "0", "0", "-"] in lines
    assert ["yolo", "raised", "3"] in lines
    assert ["endpoint", "prompt_tokens", "81,200"] in lines


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        ({}, ["fld failures out", "--retry-failed", "fld inspect out"]),
        ({"state": "interrupted"}, ["the same `fld annotate` command again"]),
    ],
)
def test_next_steps_are_commands(change, expected):
    steps = " ".join(next_steps({**STATUS, **change}, "out"))
    assert all(words in steps for words in expected)


def test_an_output_with_brackets_is_shown_as_it_is():
    text = printed(STATUS)
    console = Console(file=io.StringIO(), width=120)
    console.print(summary(STATUS, "out[old]"))
    assert console.file.getvalue() == text.replace(
        "fld failures out", "fld failures out[old]"
    ).replace("fld inspect out", "fld inspect out[old]")


def test_nothing_to_do_is_no_step():
    assert list(next_steps({**STATUS, "failures": {}, "images": {"planned": 0}}, "out")) == []
