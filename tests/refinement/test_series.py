"""What `rounds.json` holds; for series that end, go on and follow each other see test_rounds."""

import pytest

from engine.errors import ConfigError
from engine.source.filesystem import open_location
from refinement.series import Round, Series, open_series, read_series

START = Round(round=0, version="round-0", reason="starting labels")
GOOD = Round(round=4, version="round-4", family="boxes", f1=0.9, outcomes={"moved": 3})
BAD = Round(round=5, version="round-5", accepted=False, reason="it fell", cost={"train": 1.5})


@pytest.fixture
def place(tmp_path):
    return open_location(str(tmp_path))


def test_a_place_without_rounds_has_no_series(place):
    assert read_series(place) is None
    assert open_series(place, {"seed": 0}, 7) == Series(identity={"seed": 0}, first=7)


def test_what_is_saved_is_read_again(place):
    series = Series(identity={"seed": 0}, rounds=(START, GOOD, BAD), ended="enough", first=4)
    series.save(place)
    assert read_series(place) == series
    assert open_series(place, {"seed": 0}, 6) == series


def test_the_last_round_is_the_last_accepted_one():
    series = Series(identity={}, rounds=(START,), first=4)
    assert (series.last, series.next_number) == (START, 4)
    series = series.with_round(GOOD).with_round(BAD)
    assert (series.last, series.next_number) == (GOOD, 6)


def test_what_came_before_an_other_series_is_kept_whole(place):
    first = Series(identity={"seed": 0}, rounds=(START, GOOD), ended="enough", first=4)
    first.save(place)
    second = open_series(place, {"seed": 1}, 5)
    second.with_round(START).save(place)
    third = open_series(place, {"seed": 1}, 9)
    assert (third.first, third.rounds) == (5, (START,))
    [earlier] = third.earlier
    assert earlier["identity"] == {"seed": 0}
    assert [each["version"] for each in earlier["rounds"]] == ["round-0", "round-4"]
    assert "earlier" not in earlier


def test_another_series_waits_until_the_one_before_has_ended(place):
    Series(identity={"seed": 0, "rules": [1]}, rounds=(START,)).save(place)
    with pytest.raises(ConfigError, match=r"differences: seed: 0 -> 1; rules: \[1\] -> \[\]"):
        open_series(place, {"seed": 1, "rules": []}, 1)


@pytest.mark.parametrize(
    "content", ["", "7", "[]", "{}", '{"rounds": [{}], "earlier": []}', "\xff"]
)
def test_a_broken_file_is_told(place, tmp_path, content):
    (tmp_path / "rounds.json").write_bytes(content.encode("latin-1"))
    with pytest.raises(ConfigError, match=r"rounds\.json is not what a refinement writes"):
        read_series(place)


def test_rounds_are_compared_by_f1_with_gold_and_else_by_agreement():
    assert GOOD.quality == 0.9
    assert Round(round=1, version="a", agreement=0.5).quality == 0.5
    assert Round(round=1, version="a", agreement=0.5, family="boxes").quality is None
    assert START.quality is None
