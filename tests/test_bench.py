"""The benchmarks run and leave their three files. What they measure is no test."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from tests.bench.results import Row, to_markdown

_ROOT = Path(__file__).resolve().parent.parent


def run_bench(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "tests.bench", *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=_ROOT,
    )


def test_markdown_of_no_numbers_is_an_empty_table():
    assert to_markdown({"cores": 2}, []).splitlines()[0] == "Measured on: cores 2."


@pytest.mark.parametrize(
    ("value", "at_most", "verdict"),
    [
        pytest.param(2.5, True, "<= 2.5 (met)", id="at-the-bar"),
        pytest.param(2.6, True, "<= 2.5 (**missed**)", id="above-a-bar-from-above"),
        pytest.param(2.6, False, ">= 2.5 (met)", id="above-a-bar-from-below"),
        pytest.param(2.4, False, ">= 2.5 (**missed**)", id="below-a-bar-from-below"),
    ],
)
def test_markdown_says_whether_a_bar_was_met(value, at_most, verdict):
    line = to_markdown({}, [Row("part", "what", value, "s", 2.5, at_most)]).splitlines()[-1]
    assert line == f"| part | what | {value} s | {verdict} |"


def test_bench_names_the_parts_it_knows():
    done = run_bench("speed")
    assert done.returncode == 2
    assert "'speed' is no part; known: rules, labels, text_rules, resume, null, real" in done.stderr


@pytest.mark.slow
def test_bench_writes_numbers_table_and_picture(tmp_path):
    done = run_bench("rules", "--quick", "--out", str(tmp_path / "bench"))
    assert done.returncode == 0, done.stderr
    found = json.loads((tmp_path / "bench" / "bench.json").read_text(encoding="utf-8"))
    whats = {row["what"] for row in found["rows"]}
    assert {"duplicate_region", "all rules", "judge", "settle"} <= whats
    assert all(row["value"] > 0 for row in found["rows"])
    assert str(tmp_path) not in json.dumps(found)
    assert (tmp_path / "bench" / "bench.md").read_text(encoding="utf-8") + "\n" == done.stdout
    assert (tmp_path / "bench" / "bench.png").read_bytes().startswith(b"\x89PNG")
