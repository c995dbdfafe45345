"""An untrained checkpoint, made once for all tests."""

import pytest


@pytest.fixture(scope="session")
def untrained(tmp_path_factory):
    import torch

    from tests.refinement.trainings import save_checkpoint

    torch.set_num_threads(1)
    return save_checkpoint(tmp_path_factory.mktemp("checkpoint") / "untrained")
