"""The rule that picks one text per region."""

import numpy as np
import pytest

from filters.region_text import BestRegionText
from tests.builders import all_fresh, tables


def judge(*, kept=(), **columns):
    given = tables(**{"role": "brief", "source": "picker"} | columns)
    return BestRegionText().judge(given, all_fresh(given, kept=kept))


@pytest.mark.parametrize(
    ("columns", "winners"),
    [
        pytest.param({"text_score": []}, [], id="no-rows"),
        pytest.param({"text_score": [0.1]}, [None], id="one-text"),
        pytest.param({"text_score": [0.1, 0.3, 0.2]}, ["row-1", None, "row-1"], id="the-highest"),
        pytest.param({"text_score": [-0.3, -0.1]}, ["row-1", None], id="below-zero"),
        pytest.param({"text_score": [0.2, 0.2, 0.1]}, [None, "row-0", "row-0"], id="a-tie"),
        pytest.param({"text_score": [None, 0.2]}, [None, None], id="no-score-takes-no-part"),
        pytest.param({"text_score": [None, None]}, [None, None], id="no-scores"),
        pytest.param(
            {"text_score": [0.1, 0.2], "region_id": ["r", "s"]}, [None, None], id="two-regions"
        ),
        pytest.param(
            {"text_score": [0.1, 0.2], "source": ["a", "b"]}, [None, None], id="two-sources"
        ),
        pytest.param(
            {"text_score": [0.1, 0.2], "image_key": ["a", "b"]}, [None, None], id="two-images"
        ),
        pytest.param(
            {"text_score": [0.1, 0.2], "role": ["phrase", "brief"]}, [None, None], id="other-roles"
        ),
        pytest.param(
            {"text_score": [0.1, 0.2, 0.3], "source": ["a", "b", "a"]},
            ["row-2", None, None],
            id="sources-in-turn",
        ),
    ],
)
def test_best_region_text_names_what_a_text_lost_against(columns, winners):
    count = len(columns["text_score"])
    verdicts = judge(**{"region_id": ["r"] * count, **columns})
    assert verdicts.rejected.to_pylist() == [winner is not None for winner in winners]
    assert verdicts.against.to_pylist() == winners


def test_best_region_text_measures_the_texts_own_score_against_the_winners():
    verdicts = judge(region_id=["r", "r"], text_score=[0.1, 0.3])
    assert verdicts.measured.to_pylist()[0] == np.float32(0.1)
    assert verdicts.limit.to_pylist()[0] == np.float32(0.3)


def test_best_region_text_lets_kept_rows_of_earlier_levels_take_no_part():
    verdicts = judge(region_id=["r"] * 3, text_score=[0.9, 0.1, 0.2], kept=[0])
    assert verdicts.against.to_pylist() == [None, "row-2", None]
