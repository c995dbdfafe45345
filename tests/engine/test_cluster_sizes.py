"""How many workers a specialist gets. Running on Ray is tested in tests/recovery."""

import pytest

from engine.cluster import CpuBudget, auto_sizes


@pytest.mark.parametrize(
    ("costs", "cpus", "sizes"),
    [
        pytest.param({}, 2, {}, id="nobody"),
        pytest.param({"yolo": 0.04}, 2, {"yolo": 2}, id="one-takes-all-cores"),
        pytest.param({"yolo": 0.05, "ocr": 0.05}, 2, {"yolo": 1, "ocr": 1}, id="equals-share"),
        pytest.param({"yolo": 0.1, "ocr": 1.9}, 2, {"yolo": 1, "ocr": 2}, id="cost-decides"),
        pytest.param({"yolo": 1.0, "ocr": 3.0}, 16, {"yolo": 4, "ocr": 12}, id="in-proportion"),
        pytest.param({"a": 0.0, "b": 0.0}, 2, {"a": 1, "b": 1}, id="free-ones-still-get-a-worker"),
    ],
)
def test_auto_sizes_follow_the_measured_cost(costs, cpus, sizes):
    assert auto_sizes(costs, cpus) == sizes


def test_cpu_budget_never_asks_for_more_than_there_is():
    budget = CpuBudget(2)
    assert [budget.take(1) for _ in range(4)] == [1, 1, 0, 0]
    budget.give_back(1)
    assert budget.take(4) == 0.99  # less than a whole CPU: Ray takes no larger fraction
