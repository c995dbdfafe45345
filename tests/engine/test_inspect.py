"""The terminal's view of one image."""

from io import StringIO

import pytest
from rich.console import Console

from engine.inspect import format_rows
from engine.schema import ANNOTATIONS, claims, image_rows
from tests.builders import rows

FAILURE = {"stage": "annotate", "source": "yolo", "cause": "timeout", "message": "took [bold]long"}
NAN = float("nan")


def shown(given, *, columns=160, **image):
    """What a terminal of that width shows, its lines joined by one space."""
    described = {"image_key": ["a"], "width": [640], "height": [427], "status": ["ok"]}
    row = image_rows(**{**described, **image}).to_pylist()[0]
    out = StringIO()
    Console(file=out, width=columns).print(format_rows(row, given))
    return out.getvalue()


def judged(**verdicts):
    """Two rows, `dog` and `cat`, with those verdict columns."""
    claimed = rows(text=["dog", "cat"], score=[0.9, 0.5], box=[[0, 0, 4, 4], [0, 0, 4, 3]])
    columns = {name: [None, None] for name in ANNOTATIONS.names}
    columns |= {name: claimed[name] for name in claimed.column_names} | verdicts
    return type(claimed).from_pydict(columns).cast(ANNOTATIONS)


def test_format_rows_says_that_there_are_none():
    assert "nobody said anything" in shown(rows())


def test_format_rows_shows_claims_without_verdicts_as_kept():
    text = shown(rows(text=["dog"], score=[0.9], text_score=[0.25], box=[[1, 2, 30, 40]]))
    assert "1 kept" in text
    assert "rejected" not in text
    for part in ("row-0", "category", "yolo", "0.900/0.250", "dog", "1 2 30 40"):
        assert part in text


def test_format_rows_puts_kept_first_then_rejected_with_all_that_decided():
    given = judged(
        status=["rejected", "kept"],
        rule=["duplicate_region", None],
        measured=[0.75, None],
        limit=[0.7, None],
        against=["row-1", None],
    )
    text = shown(given)
    assert text.index("1 kept") < text.index("cat") < text.index("1 rejected") < text.index("dog")
    assert "duplicate_region measured 0.75 limit 0.7" in text
    assert "against row-1 yolo cat" in text


def test_format_rows_names_a_term_as_it_is():
    given = judged(
        status=["rejected", "kept"], rule=["phrase_blacklist", None], against=["it", None]
    )
    assert "against it" in shown(given)


def test_format_rows_puts_superseded_last():
    given = judged(status=["superseded", "rejected"], rule=["consensus", "min_score"])
    text = shown(given)
    assert text.index("1 rejected") < text.index("1 superseded") < text.index("consensus")


def test_format_rows_shows_captions_before_regions():
    given = rows(kind=["region", "text"], role=["category", "brief"], text=["dog", "A caption."])
    assert shown(given).index("A caption.") < shown(given).index("dog")


@pytest.mark.parametrize("width", [80, 200])
def test_format_rows_loses_no_word_from_80_columns_on(width):
    words = [f"word{n}" for n in range(60)]
    given = claims(image_key=["a"], kind="text", role="brief", text=[" ".join(words)])
    text = shown(given, columns=width)
    assert [word for word in words if word not in text] == []
    assert max(map(len, text.splitlines())) <= width


def test_format_rows_takes_markup_in_texts_literally():
    assert "[red]x[/red]" in shown(rows(text=["[red]x[/red]"]))


def test_format_rows_tells_what_failed():
    text = shown(rows(), failures=[[FAILURE]])
    assert "failed: annotate / yolo: timeout took [bold]long" in text


@pytest.mark.parametrize(
    ("image", "expected"),
    [
        pytest.param({}, "640 x 427 px", id="ok"),
        pytest.param({"width": [None]}, "size unknown", id="not-decoded"),
        pytest.param({"status": ["duplicate"], "duplicate_of": ["b"]}, "duplicate (b)", id="copy"),
        pytest.param(
            {"status": ["rejected"], "rule": ["min_side"], "measured": [3.0], "limit": [8.0]},
            "rejected (min_side) measured 3, limit 8",
            id="rejected",
        ),
    ],
)
def test_format_rows_heads_with_the_image(image, expected):
    assert expected in shown(rows(), **image)


def test_format_rows_shows_a_broken_box():
    assert "nan 0 5 5" in shown(rows(box=[[NAN, 0, 5, 5]]))
