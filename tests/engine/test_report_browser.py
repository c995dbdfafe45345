"""The report in a real browser: what it asks for, what it complains of, and whether it fits."""

import pytest

from engine.compose import compose
from engine.config import parse_config
from engine.job import Observer
from engine.report import write_report
from engine.run import annotate
from engine.source.filesystem import open_location
from tests.browser import BROWSER, DRIVER, browser
from tests.hostile_rows import hostile_dataset

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not (BROWSER and DRIVER), reason="no chromium with a chromedriver here"),
]
PHONE, DESK = 390, 1280
# Boxes that reach out of their photo by more than half a line.
BOXES_OUTSIDE = (
    "return [...document.querySelectorAll('.shot')].flatMap(shot => {"
    "const frame = shot.querySelector('img')?.getBoundingClientRect();"
    "return [...shot.querySelectorAll('rect')].map(r => r.getBoundingClientRect()).filter("
    "r => r.left < frame.left - 3 || r.right > frame.right + 3 || r.top < frame.top - 3"
    " || r.bottom > frame.bottom + 3)}).length"
)


@pytest.fixture(scope="module")
def chromium(tmp_path_factory):
    with browser(tmp_path_factory.mktemp("profile")) as session:
        yield session


@pytest.fixture(scope="module")
def photos(data, tmp_path_factory):
    """Real photos with what a real detector says of them, at a score that lets much through."""
    out = tmp_path_factory.mktemp("photos") / "out"
    model = data / "weights" / "yolo11n_int8_openvino_model"
    raw = {
        "source": {"uri": str(data / "coco80" / "images"), "shard_size": 6},
        "output": {"uri": str(out)},
        "specialists": [{"kind": "yolo", "model": str(model), "min_score": 0.05}],
        "rules": [
            {"rule": "min_score", "limits": {"yolo": 0.25, "yolo/person": 0.4}},
            {"rule": "duplicate_region"},
        ],
        "runner": {"kind": "serial"},
    }
    annotate(compose(parse_config(raw, (), "test")), Observer(), limit=12)
    write_report(open_location(str(out)))
    return out / "_run" / "reports" / "round-0.html"


def check(chromium, page, *, num_pictures):
    for width in (DESK, PHONE):
        chromium.resize(width)
        chromium.open(page)
        assert chromium.run("return document.readyState") == "complete"
        sizes = chromium.run("return [...document.images].map(i => [i.naturalWidth, i.width])")
        assert len(sizes) == num_pictures
        assert all(natural > 0 and shown > 0 for natural, shown in sizes)
        assert chromium.run("return innerWidth") == width  # a phone zooms out where a page is wider
        assert chromium.run("return document.documentElement.scrollWidth") <= width
        assert chromium.run(BOXES_OUTSIDE) == 0
        assert chromium.run("return document.scripts.length") == 0
        assert chromium.requests() == [page.as_uri()]
        assert chromium.complaints() == []


@pytest.mark.weights
def test_a_report_of_real_photos_loads_nothing_and_fits_a_phone(chromium, photos):
    check(chromium, photos, num_pictures=12)
    drawn = chromium.run(
        "return ['kept', 'rejected'].map(s => document.querySelectorAll('.shot rect.' + s).length)"
    )
    assert min(drawn) > 10
    dashes = chromium.run(
        "return ['kept', 'rejected'].map(s => "
        "getComputedStyle(document.querySelector('.shot rect.' + s)).strokeDasharray)"
    )
    assert dashes[0] == "none"
    assert dashes[1] != "none"


@pytest.mark.weights
def test_a_button_shows_the_photos_of_one_rule_without_script(chromium, photos):
    chromium.resize(DESK)
    chromium.open(photos)
    photos_shown = "[...document.querySelectorAll('.photo')].filter(p => p.offsetParent !== null)"
    shown = f"return {photos_shown}.length"
    assert chromium.run(shown) == 12
    chromium.run("document.querySelector('label[for=pick1]').click()")
    assert 0 < chromium.run(shown) < 12


def test_a_report_of_hostile_rows_runs_nothing(chromium, tmp_path):
    place = hostile_dataset(tmp_path)
    write_report(place.output)
    page = tmp_path / "out" / "_run" / "reports" / "round-0.html"
    check(chromium, page, num_pictures=1)
    assert chromium.run("return typeof window.broken") == "undefined"
    assert chromium.run("return document.querySelectorAll('[onerror],[onload],iframe').length") == 0
