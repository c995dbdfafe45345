"""The picture and the table of rounds."""

import io

import pytest
from PIL import Image
from rich.console import Console

from engine.errors import ConfigError
from refinement.rounds_plot import plot_rounds
from refinement.rounds_table import rounds_table
from refinement.series import Round, Series

START = Round(round=0, version="round-0", reason="starting labels", kept=15_000)
COST = {"pairs": 5.0, "train": 1190.0, "predict": 200.0, "relabel": 15.0, "measure": 10.0}


def outcomes(confirmed, moved, renamed, added, superseded, contested):
    return {
        "confirmed": confirmed,
        "moved": moved,
        "renamed": renamed,
        "added": added,
        "superseded": superseded,
        "contested": contested,
    }


def series(*, gold=True, rounds=3):
    numbers = [(0.71, 0.72, 0.70), (0.91, 0.93, 0.89), (0.94, 0.95, 0.935), (0.90, 0.96, 0.85)]
    made = [
        Round(
            round=n,
            version=f"round-{n}",
            accepted=n < 3,
            reason="F1 fell" if n == 3 else "F1 rose",
            agreement=None if n == 0 else (0.69, 0.9, 0.88)[n - 1],
            kept=15_000 + 50 * n,
            outcomes={} if n == 0 else outcomes(10_000 + 1500 * n, 2000 // n, 1500, 900, 700, 500),
            cost={} if n == 0 else COST,
            **(
                {
                    "family": "boxes",
                    **dict(zip(("f1", "precision", "recall"), numbers[n], strict=True)),
                }
                if gold
                else {}
            ),
        )
        for n in range(rounds + 1)
    ]
    ended = "round 3 was rolled back: F1 fell" if rounds == 3 else None
    return Series(identity={}, rounds=tuple(made), ended=ended)


def drawn(path, made):
    """Colours of the picture, and its size."""
    plot_rounds(made, path)
    picture = Image.open(path).convert("RGB")
    return {colour for _, colour in picture.getcolors(1 << 20)}, picture.size


GREEN, PINK, ORANGE = (0, 158, 115), (204, 121, 167), (213, 94, 0)


@pytest.mark.parametrize(
    ("gold", "rounds", "wanted", "unwanted"),
    [
        pytest.param(True, 0, {GREEN}, {PINK}, id="starting-labels"),
        pytest.param(False, 0, {GREEN}, set(), id="nothing-measured"),
        pytest.param(True, 3, {GREEN, ORANGE}, {PINK}, id="gold"),
        pytest.param(False, 3, {GREEN, PINK}, set(), id="agreement"),
    ],
)
def test_what_is_known_is_drawn(tmp_path, gold, rounds, wanted, unwanted):
    found, (width, height) = drawn(tmp_path / "deep" / "a.png", series(gold=gold, rounds=rounds))
    assert width >= 800 <= height
    assert wanted <= found
    assert not unwanted & found


def test_a_picture_that_cannot_be_written_is_told(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="give a file that can be written"):
        plot_rounds(series(), tmp_path / "file" / "rounds.png")


def printed(made, width=80):
    told = io.StringIO()
    Console(file=told, width=width).print(rounds_table(made))
    return told.getvalue()


def test_the_table_has_a_line_for_every_round_and_says_why():
    said = printed(series())
    for text in ("round-0", "round-1", "round-3 (back)", "0.940", "15,150", "23.7"):
        assert text in said
    assert "round-3: rolled back, the labels are as they were: F1 fell" in said
    assert "ended: round 3 was rolled back: F1 fell" in said
    assert "..." not in said
    assert "\u2026" not in said


def test_the_table_without_gold_has_no_numbers_nobody_knows():
    said = printed(series(gold=False, rounds=1))
    assert "F1" not in said.partition("round-0")[0]
    assert "not ended: run it again to go on" in said
