"""Florence-2 checkpoints that take seconds to make, made once for all tests."""

import pytest


@pytest.fixture(scope="session")
def random_florence2(data, tmp_path_factory):
    """A model that says words and places without sense."""
    import torch
    from tiny_captioners import save_florence2

    torch.set_num_threads(1)
    tokenizer = data / "tokenizer" / "florence2_tokenizer"
    return save_florence2(tmp_path_factory.mktemp("florence") / "random", tokenizer, points=True)


@pytest.fixture(scope="session")
def taught_florence2(data, tmp_path_factory):
    """A model that has learnt `ANSWERS`."""
    import torch
    from florence2_checkpoints import ANSWERS, KNOWN
    from PIL import Image
    from tiny_captioners import save_florence2, teach_florence2

    from engine.formats.florence2_tasks import sentence_of

    torch.set_num_threads(1)
    tokenizer = data / "tokenizer" / "florence2_tokenizer"
    folder = save_florence2(tmp_path_factory.mktemp("florence") / "taught", tokenizer, init_std=0.1)
    answers = {sentence_of(prompt): answer for prompt, answer in ANSWERS.items()}
    return teach_florence2(folder, answers, Image.fromarray(KNOWN[0].rgb()))
