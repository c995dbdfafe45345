"""What one source claims and no other sees."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.errors import ConfigError
from engine.geometry import pairwise_iou
from filters.agreement import Agreement
from tests.builders import all_fresh, tables

HERE, NEAR, HALF, FAR = [0, 0, 10, 10], [0, 0, 10, 9], [0, 0, 10, 5], [50, 50, 60, 60]
BOTH = {"box": [HERE, NEAR], "source": ["a", "b"]}
NAN = float("nan")


def judge(rule, *, kept=(), **columns):
    given = tables(**columns)
    return rule.judge(given, all_fresh(given, kept=kept))


@pytest.mark.parametrize(
    ("columns", "rejected"),
    [
        pytest.param({"box": []}, [], id="no-rows"),
        pytest.param(BOTH, [False, False], id="two-sources"),
        pytest.param({**BOTH, "source": ["a", "a"]}, [True, True], id="one-source-twice"),
        pytest.param({**BOTH, "box": [HERE, FAR]}, [True, True], id="elsewhere"),
        pytest.param({**BOTH, "box": [HERE, HALF]}, [False, False], id="at-the-limit"),
        pytest.param({**BOTH, "box": [HERE, [0, 0, 10, 4.9]]}, [True, True], id="below-the-limit"),
        pytest.param({**BOTH, "image_key": ["a", "b"]}, [True, True], id="other-image"),
        pytest.param({**BOTH, "role": ["category", "ocr"]}, [True, True], id="other-role"),
        pytest.param({**BOTH, "role": "brief"}, [False, False], id="not-judged"),
        pytest.param({**BOTH, "kind": "grounding"}, [False, False], id="no-region"),
        pytest.param({**BOTH, "human": [False, True]}, [False, False], id="a-person-confirms"),
        pytest.param(
            {"box": [HERE, FAR], "source": ["a", "b"], "human": [False, True]},
            [True, False],
            id="a-person-needs-nobody",
        ),
        pytest.param({**BOTH, "ignore": [False, True]}, [True, False], id="a-crowd-and-one-of-it"),
        pytest.param({**BOTH, "parents": [None, ["row-0"]]}, [True, True], id="its-own-child"),
        pytest.param({**BOTH, "box": [HERE, None]}, [True, False], id="no-box"),
        pytest.param({**BOTH, "box": [HERE, [NAN] * 4]}, [True, False], id="no-numbers"),
        pytest.param({**BOTH, "text": ["Sofa", "couches"]}, [False, False], id="one-class"),
        pytest.param({**BOTH, "text": ["man", "young man"]}, [False, False], id="most-words"),
        pytest.param({**BOTH, "text": ["man", "a very young man"]}, [True, True], id="few-words"),
        pytest.param({**BOTH, "text": ["dog", "cat"]}, [True, True], id="another-class"),
        pytest.param({**BOTH, "text": [None, None]}, [False, False], id="proposals"),
        pytest.param({**BOTH, "text": ["dog", None]}, [True, True], id="text-and-none"),
    ],
)
def test_agreement_asks_for_another_source(columns, rejected):
    verdicts = judge(Agreement(min_iou=0.5), **columns)
    assert verdicts.rejected.to_pylist() == rejected


def test_agreement_measures_the_best_overlap_and_names_the_row():
    verdicts = judge(
        Agreement(min_iou=0.95),
        box=[HERE, HALF, NEAR, FAR],
        source=["a", "b", "b", "b"],
        human=[False, True, True, True],
    )
    assert verdicts.rejected.to_pylist() == [True, False, False, False]
    assert verdicts.measured.to_pylist() == [np.float32(0.9), None, None, None]
    assert verdicts.against.to_pylist() == ["row-2", None, None, None]
    alone = judge(Agreement(), box=[HERE])
    assert (alone.measured.to_pylist(), alone.against.to_pylist()) == ([0], [None])


def test_agreement_counts_kept_rows_of_earlier_levels():
    given = tables(**BOTH)
    verdicts = Agreement().judge(given, all_fresh(given, kept=[0]))
    assert verdicts.rejected.to_pylist() == [False, False]


def test_agreement_trusts_a_high_score():
    columns = {"box": [HERE] * 3, "image_key": ["a", "b", "c"], "score": [0.4, 0.39, None]}
    verdicts = judge(Agreement(trusted_score=0.4), **columns)
    assert verdicts.rejected.to_pylist() == [False, True, True]


def test_agreement_takes_more_synonyms():
    columns = {**BOTH, "text": ["gizmo", "gadget"]}
    assert judge(Agreement(), **columns).rejected.to_pylist() == [True, True]
    rule = Agreement(synonyms={"gizmo": ["gadget"]})
    assert judge(rule, **columns).rejected.to_pylist() == [False, False]


@given(seed=st.integers(0, 2**32), count=st.integers(0, 30), limit=st.sampled_from([0.2, 0.5, 0.9]))
@settings(max_examples=150, deadline=None)
def test_agreement_equals_a_look_at_every_pair(seed, count, limit):
    rng = np.random.default_rng(seed)
    corner = rng.integers(0, 5, (count, 2))
    boxes = np.concatenate([corner, corner + rng.integers(0, 5, (count, 2))], axis=1)
    boxes = boxes.astype(np.float32)
    columns = {
        name: rng.choice(values, count).tolist()
        for name, values in {
            "source": ["a", "b", "c"],
            "text": ["dog", "cat"],
            "image_key": ["i", "j"],
        }.items()
    }
    verdicts = judge(Agreement(min_iou=limit), box=boxes, **columns)
    overlaps = pairwise_iou(boxes, boxes)
    encloses = (boxes[:, :2] < boxes[:, 2:]).all(axis=1)
    expected = []
    for row in range(count):
        others = [
            overlaps[row, other]
            for other in range(count)
            if columns["source"][row] != columns["source"][other]
            and all(columns[name][row] == columns[name][other] for name in ("text", "image_key"))
        ]
        expected.append(max(others, default=np.float32(0)) if encloses[row] else None)
    assert verdicts.measured.to_pylist() == expected
    low = [best is not None and best < np.float32(limit) for best in expected]
    assert verdicts.rejected.to_pylist() == low


@pytest.mark.parametrize(
    ("options", "complaint"),
    [
        ({"min_iou": 65}, "min_iou is 65; it lies in 0..1"),
        ({"min_iou": 0}, "min_iou is 0, at which boxes need not touch"),
        ({"min_dice": NAN}, "min_dice is nan; it lies in 0..1"),
        ({"trusted_score": -1}, "trusted_score is -1; it lies in 0..1"),
        ({"roles": ["dog"]}, "roles names 'dog'; allowed: category"),
    ],
)
def test_agreement_refuses_limits_that_are_none(options, complaint):
    with pytest.raises(ConfigError, match=complaint):
        Agreement(**options)
