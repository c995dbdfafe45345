"""Where the real photos and weights are, and one clear reason to skip where they are not."""

import os
from pathlib import Path

import pytest

_ROOT = Path(__file__).resolve().parent.parent


def shared_data() -> Path:
    """The folder of real data: FLD_TEST_DATA, or `../shared/data` beside the project."""
    return Path(os.environ.get("FLD_TEST_DATA", _ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    folder = shared_data()
    if not folder.is_dir():
        pytest.skip("real data not found; set FLD_TEST_DATA to its folder")
    return folder
