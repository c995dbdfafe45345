"""The region rules and the judge around them, in rows per second on one core."""

from tests.bench.children import ONE_THREAD, run_child
from tests.bench.results import Row
from tests.bench.settings import Part, say
from tests.conftest import shared_data

_BAR_M = 1.0
_DETECTORS = {"yolo11n": "yolo11n_int8_openvino_model", "yolov8n": "yolov8n_int8_640.onnx"}


def rules(part: Part) -> list[Row]:
    """Rates of CPU time over real detections, tiled; a rule's is that of the rows that entered.

    `judge` and `settle` hold the rules and what is done around them. By default most rows fall to
    `min_score`, as they would in a run; without a limit of score all of them reach the other rules.
    """
    photos = shared_data() / "coco80" / "images"
    if not photos.is_dir():
        say("rules: skipped, no photos; set FLD_TEST_DATA to the folder of real data")
        return []
    weights = {name: str(shared_data() / "weights" / file) for name, file in _DETECTORS.items()}
    job = {"photos": str(photos), "detectors": weights, "folder": str(part.folder)}
    real = run_child("detections", job)
    job = {"folder": str(part.folder)} | ({"rows": 50_000} if part.quick else {})
    found = run_child("region_rules", job, variables=ONE_THREAD)
    part.raw["rules"] = {**found, "of": real}
    say(
        f"rules: {real['rows']:,} detections on {real['photos']} photos, tiled to "
        f"{found['rows']:,} in {found['shards']} shards"
    )
    rows = []
    for title, rates in found["runs"].items():
        for name, rate in rates.items():
            bar = _BAR_M if (title, name) == ("default limits", "all rules") else None
            row = Row(f"region rules, {title}", name, rate / 1e6, "M rows/s", bar, at_most=False)
            rows.append(row)
        rate, judged = rates["all rules"] / 1e6, rates["judge"] / 1e6
        say(f"rules, {title}: {rate:.2f} M rows/s, with the judge {judged:.2f}")
    return rows
