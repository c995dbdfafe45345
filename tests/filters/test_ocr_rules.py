"""Rules on readings: height of the writing, legibility, and the same place read twice."""

import json
import math

import numpy as np
import pytest
from hypothesis import given as for_all
from hypothesis import strategies as st

from engine.errors import ConfigError
from filters.ocr import DuplicateReading, MinLegibility, MinTextHeight
from filters.ocr_quads import outline_iou
from tests.builders import all_fresh, tables


def readings(**columns):
    return tables(**{"role": "ocr", "width": 5_000, "height": 5_000, **columns})


def judge(rule, given, *, kept=()):
    return rule.judge(given, all_fresh(given, kept=kept))


def truths(data):
    """Quads, transcripts and images of what people read on photos and receipts."""
    found = []
    for file in sorted((data / "icdar5" / "gt").iterdir()):
        for line in file.read_text(encoding="utf-8-sig").splitlines():
            *corners, text = line.split(",", 8)
            found.append(([float(number) for number in corners], text, file.stem))
    receipts = (data / "ocr-toys" / "wildreceipt" / "data.txt").read_text(encoding="utf-8")
    for image, line in enumerate(receipts.splitlines()):
        said = json.loads(line)["annotations"]
        found += [([float(n) for n in row["box"]], row["text"], f"r{image}") for row in said]
    return [row for row in found if row[1]]


def quad(length, height, degrees, x=100.0, y=100.0):
    """A line of writing turned clockwise, as x0, y0, ..., from its own top left."""
    turn = math.radians(degrees)
    along, down = (math.cos(turn), math.sin(turn)), (-math.sin(turn), math.cos(turn))
    corners = [(0, 0), (length, 0), (length, height), (0, height)]
    return [
        value
        for a, d in corners
        for value in (x + a * along[0] + d * down[0], y + a * along[1] + d * down[1])
    ]


def around(polygon):
    x, y = polygon[::2], polygon[1::2]
    return [min(x), min(y), max(x), max(y)]


@pytest.mark.parametrize(
    ("columns", "height"),
    [
        pytest.param({"box": [[0, 0, 40, 9]]}, 9, id="box"),
        pytest.param({"box": [[0, 0, 9, 40]]}, 9, id="upright-line"),
        pytest.param({"box": [[0, 0, 9, 40]], "text": ["I"]}, 40, id="one-character"),
        pytest.param({"box": [None], "polygon": [[quad(40, 9, 45)]]}, 9, id="slanted-quad"),
        pytest.param({"box": [[0, 0, 40, 30]], "polygon": [[quad(40, 9, 0)]]}, 9, id="quad-first"),
        pytest.param({"box": [[0, 0, 40, 9]], "polygon": [[[0.0, 0, 1, 1]]]}, 9, id="no-quad"),
        pytest.param({"box": [[0, 0, 40, 9]], "polygon": [[]]}, 9, id="no-ring"),
        pytest.param({"box": [None]}, None, id="neither"),
        pytest.param({"box": [[0, 0, 40, 9]], "role": "brief"}, None, id="no-reading"),
        pytest.param({"box": [[0, 0, 40, 9]], "ignore": True}, None, id="not-to-be-judged"),
    ],
)
def test_min_text_height_measures_the_height_of_the_line(columns, height):
    given = readings(**{"text": ["thing"], **columns})
    expected = None if height is None else pytest.approx(height, rel=1e-5)
    assert judge(MinTextHeight(), given).measured.to_pylist() == [expected]


def test_min_text_height_keeps_at_the_limit():
    given = readings(box=[[0, 0, 40, 8], [0, 0, 40, 7.9], [0, 0, 40, float("nan")]])
    assert judge(MinTextHeight(), given).rejected.to_pylist() == [False, True, False]
    with pytest.raises(ConfigError, match="min_height_px is 0; it is a height above 0, in px"):
        MinTextHeight(min_height_px=0)


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        pytest.param(None, None, id="null"),
        pytest.param("EXIT", None, id="word"),
        pytest.param("$13.99", None, id="price"),
        pytest.param("$", None, id="currency"),
        pytest.param(".49", None, id="at-the-limit"),
        pytest.param("12/30/2016", None, id="date"),
        pytest.param("XJ-9-KQZ", None, id="code"),
        pytest.param("\u51fa\u53e3", None, id="another-script"),
        pytest.param("", "signs", id="empty"),
        pytest.param("...", "signs", id="dots"),
        pytest.param("|_/~1", "signs", id="texture"),
        pytest.param("\U0001f600", "signs", id="emoji"),
        pytest.param("xqzjvkwqpzx", "spelling", id="letters-at-random"),
    ],
)
def test_min_legibility_says_why(text, reason):
    verdicts = judge(MinLegibility(), readings(text=[text]))
    assert verdicts.against.to_pylist() == [reason]
    assert verdicts.rejected.to_pylist() == [reason is not None]


def test_min_legibility_leaves_other_rows_and_those_to_ignore_alone():
    given = readings(text=["###"] * 3, role=["ocr", "ocr", "brief"], ignore=[True, False, False])
    assert judge(MinLegibility(), given).rejected.to_pylist() == [False, True, False]


@pytest.mark.parametrize("options", [{"min_share": 2}, {"max_surprise": float("nan")}])
def test_min_legibility_refuses_options_that_make_no_sense(options):
    (name,) = options
    with pytest.raises(ConfigError, match=f"rule 'min_legibility': {name} is"):
        MinLegibility(**options)


def test_no_rule_rejects_what_people_read(data):
    polygons, texts, images = zip(*truths(data), strict=True)
    given = readings(
        text=list(texts),
        polygon=[[polygon] for polygon in polygons],
        box=[around(polygon) for polygon in polygons],
        image_key=list(images),
        ignore=[text == "###" for text in texts],
    )
    assert given.annotations.num_rows > 100
    for rule in (MinTextHeight(), MinLegibility(), DuplicateReading()):
        rejected = np.flatnonzero(judge(rule, given).rejected.to_pylist())
        assert [texts[place] for place in rejected] == []


BOX, MOVED, NEAR = [0, 0, 100, 10], [20, 0, 120, 10], [5, 0, 105, 10]  # IoU 2/3, 0.9


@pytest.mark.parametrize(
    ("columns", "against"),
    [
        pytest.param({"box": [BOX, MOVED]}, [None, "row-0"], id="the-same-text"),
        pytest.param({"text": ["Exit!", "EXIT"]}, [None, "row-0"], id="but-for-case-and-signs"),
        pytest.param({"text": ["exit", "taxi"]}, [None, None], id="another-text-beside"),
        pytest.param(
            {"text": ["exit", "!x3"], "box": [BOX, NEAR]}, [None, "row-0"], id="one-place-two-texts"
        ),
        pytest.param({"text": ["--", ".."]}, [None, None], id="no-letters-are-not-the-same"),
        pytest.param({"text": [None, None]}, [None, None], id="no-text"),
        pytest.param({"text_score": [0.1, 0.9]}, ["row-1", None], id="the-surer-wins"),
        pytest.param({"human": [False, True]}, ["row-1", None], id="a-person-wins"),
        pytest.param({"source": ["x", "y"]}, [None, "row-0"], id="whoever-said-it"),
        pytest.param({"image_key": ["a", "b"]}, [None, None], id="of-two-images"),
        pytest.param({"ignore": [True, False]}, [None, None], id="one-to-ignore"),
        pytest.param({"role": ["ocr", "brief"]}, [None, None], id="no-reading"),
        pytest.param({"box": [BOX, None]}, [None, None], id="no-box"),
    ],
)
def test_duplicate_reading_keeps_the_better(columns, against):
    given = readings(**{"text": ["exit", "exit"], "box": [BOX, MOVED], **columns})
    verdicts = judge(DuplicateReading(), given)
    assert verdicts.against.to_pylist() == against
    assert verdicts.rejected.to_pylist() == [name is not None for name in against]


def test_duplicate_reading_never_judges_rows_kept_earlier():
    given = readings(text=["exit"] * 2, box=[BOX, MOVED], text_score=[0.9, 0.1])
    assert judge(DuplicateReading(), given, kept=[1]).against.to_pylist() == ["row-1", None]


def test_duplicate_reading_measures_against_the_limit_that_held():
    given = readings(text=["exit", "exit", "taxi"], box=[BOX, MOVED, NEAR])
    verdicts = judge(DuplicateReading(), given)
    assert verdicts.rejected.to_pylist() == [False, True, True]
    assert verdicts.measured.to_pylist() == [
        None,
        pytest.approx(2 / 3),
        pytest.approx(0.9048, abs=1e-3),
    ]
    assert verdicts.limit.to_pylist()[1:] == [0.5, pytest.approx(0.8)]


def test_duplicate_reading_keeps_parallel_lines_whose_boxes_meet():
    """Two slanted lines of the same words: the boxes around them overlap, the lines do not."""
    lines = [quad(300, 15, 45), quad(300, 15, 45, y=140.0)]
    given = readings(
        text=["sale", "sale"],
        polygon=[[line] for line in lines],
        box=[around(line) for line in lines],
    )
    assert judge(DuplicateReading(), given).rejected.to_pylist() == [False, False]
    as_boxes = readings(text=["sale", "sale"], box=[around(line) for line in lines])
    assert judge(DuplicateReading(), as_boxes).rejected.to_pylist() == [False, True]


def test_duplicate_reading_finds_a_slanted_line_read_again():
    lines = [quad(300, 15, 45), quad(290, 15, 45)]
    given = readings(
        text=["sale", "sale"],
        polygon=[[line] for line in lines],
        box=[around(line) for line in lines],
    )
    verdicts = judge(DuplicateReading(), given)
    assert verdicts.rejected.to_pylist() == [False, True]
    assert verdicts.measured.to_pylist() == [None, pytest.approx(290 / 300, rel=1e-3)]


@pytest.mark.parametrize("option", ["iou", "iou_any"])
def test_duplicate_reading_refuses_an_overlap_beyond_1(option):
    with pytest.raises(ConfigError, match=f"{option} is 1.5; an overlap lies in 0..1"):
        DuplicateReading(**{option: 1.5})


@for_all(
    st.integers(20, 200),
    st.integers(10, 50),
    st.floats(0, 360),
    st.floats(0, 1),
    st.floats(0, 1),
)
def test_overlap_of_turned_lines_is_that_of_the_same_lines_level(length, height, turn, along, down):
    """Moved along the line's own axes: the overlap is known and does not depend on the turn."""
    angle = math.radians(turn)
    x = 100 + along * length * math.cos(angle) - down * height * math.sin(angle)
    y = 100 + along * length * math.sin(angle) + down * height * math.cos(angle)
    pair = [quad(length, height, turn), quad(length, height, turn, x=x, y=y)]
    shared = (1 - along) * (1 - down)
    quads = np.array(pair, np.float32).reshape(2, 4, 2)
    boxes = np.array([around(line) for line in pair], np.float32)
    overlap = outline_iou(boxes, quads, np.array([0]), np.array([1]))
    filled = length * height / np.prod(boxes[0, 2:] - boxes[0, :2])
    tolerance = 1e-3 if filled < 0.9 else 0.25  # a level line's overlap is that of its box
    assert overlap[0] == pytest.approx(shared / (2 - shared), abs=tolerance)
