"""What is made once for all tests: an untrained checkpoint, labels with noise."""

import shutil
from pathlib import Path

import pytest

from tests.refinement.rounds_runs import annotate_in, install


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    import torch

    from tests.refinement.trainings import save_checkpoint

    torch.set_num_threads(1)
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained")


@pytest.fixture(scope="session")
def known_oracle(tmp_path_factory):
    """Makes `tests.refinement.oracle` a specialist; returns the folder to have on a path."""
    site = install(tmp_path_factory.mktemp("oracle") / "site")
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(site))
        yield site


@pytest.fixture(scope="session")
def noisy_labels(tmp_path_factory, known_oracle):
    """A dataset of plain scenes whose labels are broken; not to be changed."""
    return annotate_in(tmp_path_factory.mktemp("noisy") / "out")


@pytest.fixture
def noisy(tmp_path, noisy_labels):
    """A copy of it."""
    return Path(shutil.copytree(noisy_labels, tmp_path / "out"))
