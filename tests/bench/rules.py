"""The region rules and the judge around them, in rows per second on one core."""

from tests.bench.children import ONE_THREAD, run_child
from tests.bench.results import Row
from tests.bench.settings import Part, say

_BAR_M = 1.0


def rules(part: Part) -> list[Row]:
    """Rates of CPU time; `judge` and `settle` hold the rules and what is done around them."""
    job = {"repeats": 3 if part.quick else 7, "images": 2_560 if part.quick else 25_600}
    runs = run_child("region_rules", job, variables=ONE_THREAD)["runs"]
    part.raw["rules"] = runs
    rows = []
    for title, rates in runs.items():
        for name, rate in rates.items():
            bar = _BAR_M if name == "all rules" else None
            row = Row(f"rules, {title}", name, rate / 1e6, "M rows/s", bar, at_most=False)
            rows.append(row)
        rate, judged = rates["all rules"] / 1e6, rates["judge"] / 1e6
        say(f"rules, {title}: {rate:.2f} M rows/s, with the judge {judged:.2f}")
    return rows
