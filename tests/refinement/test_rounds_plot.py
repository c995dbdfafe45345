"""The picture and the table of rounds."""

import pytest
from PIL import Image

from refinement.rounds_plot import plot_rounds
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


def colours(path):
    picture = Image.open(path).convert("RGB")
    return {colour for _, colour in picture.getcolors(1 << 20)}, picture.size


@pytest.mark.parametrize("rounds", [0, 1, 3, 9])
@pytest.mark.parametrize("gold", [True, False])
def test_it_is_drawn_with_or_without_gold_however_many_rounds_there_are(tmp_path, gold, rounds):
    path = tmp_path / "deep" / "rounds.png"
    plot_rounds(series(gold=gold, rounds=min(rounds, 3)), path)
    found, (width, height) = colours(path)
    assert width >= 800 <= height
    assert ((0, 158, 115) in found) == (gold or rounds > 0)
