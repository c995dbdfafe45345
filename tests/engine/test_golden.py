"""A small run whose every kept word is compared with reviewed text: `make golden` writes it anew.

Digests of the Parquet files are left out: they change with the library that writes them.
"""

import json
import tarfile
from pathlib import Path

import pytest

from engine.compose import compose
from engine.config import parse_config
from engine.job import Observer
from engine.run import annotate
from tests import tiny

GOLDEN = Path(__file__).resolve().parent.parent / "golden"
CONFIG = {
    "specialists": [
        {"kind": "null", "num_rows": 7, "kinds": ["region/category", "text/alt"]},
        {"kind": "composer"},
        {
            "kind": "null",
            "name": "second",
            "kinds": ["text/detailed"],
            "num_rows": 1,
            "after": ["text/brief"],
        },
    ],
    "rules": [
        {"rule": "min_score", "limits": {"null": 0.3}},
        {"rule": "min_area", "min_area_px": 16},
        {"rule": "duplicate_region", "iou": 0.3},
    ],
    "runner": {"kind": "serial", "batch_size": 2},
    "seed": 0,
}


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("golden")
    photos = tiny.write_photos(folder / "photos")
    (photos / "f.bmp").write_bytes(tiny.BMP + b"\0")  # alone in the second shard
    places = {
        "source": {"uri": str(photos), "shard_size": 5},
        "output": {"uri": str(folder / "out")},
    }
    annotate(compose(parse_config({**places, **CONFIG}, [], "golden")), Observer())
    return folder / "out" / "round-0"


def compare(name: str, found: object, request: pytest.FixtureRequest) -> None:
    text = json.dumps(found, indent=1, ensure_ascii=True, sort_keys=False) + "\n"
    path = GOLDEN / name
    if request.config.getoption("--update-golden"):
        path.write_text(text, encoding="utf-8")
    assert text == path.read_text(encoding="utf-8"), f"{name} differs; `make golden`, then review"


def test_markers_are_as_reviewed(output, request):
    markers = [json.loads(p.read_bytes()) for p in sorted((output / "_done").iterdir())]
    for marker in markers:
        marker["files"] = {n: f for n, f in marker["files"].items() if n.endswith(".tar")}
    compare("markers.json", markers, request)


def test_nested_views_are_as_reviewed(output, request):
    views = {}
    for path in sorted(output.glob("*.tar")):
        with tarfile.open(path) as tar:
            for member in tar:
                content = tar.extractfile(member).read()
                is_view = member.name.endswith(".json")
                views[member.name] = json.loads(content) if is_view else len(content)
    compare("views.json", views, request)


def test_pixels_are_the_bytes_of_the_source(output):
    found = {}
    for path in sorted(output.glob("*.tar")):
        with tarfile.open(path) as tar:
            members = [m for m in tar if not m.name.endswith(".json")]
            found |= {m.name.partition("-")[0]: tar.extractfile(m).read() for m in members}
    assert found == {"a": tiny.PNG, "b": tiny.BMP, "c": tiny.GIF, "f": tiny.BMP + b"\0"}
