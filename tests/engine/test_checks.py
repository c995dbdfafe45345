"""What `fld checks` says before a run."""

import pytest

from engine.checks import run_checks
from engine.compose import compose
from engine.config import parse_config
from tests.tiny import write_photos


def checks(tmp_path, **changes):
    raw = {
        "source": {"uri": str(tmp_path / "photos")},
        "output": {"uri": str(tmp_path / "out")},
        "specialists": [{"kind": "null"}],
        **changes,
    }
    return {check.what: check for check in run_checks(compose(parse_config(raw, (), "test")))}


@pytest.fixture
def photos(tmp_path):
    write_photos(tmp_path / "photos")
    return tmp_path


def test_checks_are_all_fine_on_a_machine_that_has_everything(photos):
    found = checks(photos)
    assert all(check.ok for check in found.values()), found
    assert "GiB free" in found["memory"].detail
    assert [path.name for path in photos.iterdir()] == ["photos"]  # nothing is left behind


def test_checks_name_missing_weights_and_the_mend(photos):
    found = checks(photos, specialists=[{"kind": "yolo", "model": "nowhere/best.onnx"}])
    missing = next(check for what, check in found.items() if "weights" in what)
    assert not missing.ok
    assert "name an existing file" in missing.detail


def test_checks_name_a_source_that_is_not_there(tmp_path):
    source = next(check for what, check in checks(tmp_path).items() if what.startswith("source"))
    assert not source.ok
    assert "no such folder" in source.detail


def test_checks_say_that_a_folder_holds_no_image(tmp_path):
    (tmp_path / "photos").mkdir()
    source = next(check for what, check in checks(tmp_path).items() if what.startswith("source"))
    assert (source.ok, source.detail) == (False, "holds no image")
