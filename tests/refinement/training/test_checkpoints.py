"""Folders that are whole or not there, and which of them a training goes on from."""

import json

import pytest
import torch

from engine.errors import TrainingError
from refinement.training.checkpoints import (
    Progress,
    checkpoint_path,
    find_checkpoints,
    last_whole,
    prune,
    read_state,
    remove_leftovers,
    whole_folder,
    write_json,
    write_state,
)


def write(folder, *steps):
    for step in steps:
        with whole_folder(checkpoint_path(folder, step)) as path:
            write_state(path, {"step.a": torch.tensor(float(step))}, Progress(step=step))


def test_a_folder_without_checkpoints_has_no_last(tmp_path):
    assert last_whole(tmp_path) is None
    assert find_checkpoints(tmp_path) == []


def test_state_comes_back_as_it_was(tmp_path):
    tensors = {"exp_avg.a": torch.randn(3, 2), "step.a": torch.tensor(4.0)}
    progress = Progress(step=4, loss=0.5, best=0.25, best_step=2, waited=1, left_out={"x": 3})
    write_state(tmp_path, tensors, progress)
    found, numbers = read_state(tmp_path)
    assert numbers == progress
    assert {name: tensor.tolist() for name, tensor in found.items()} == {
        name: tensor.tolist() for name, tensor in tensors.items()
    }


def test_the_last_is_the_one_with_the_highest_step(tmp_path):
    write(tmp_path, 2, 1_000_000, 30)
    assert last_whole(tmp_path) == tmp_path / "checkpoint-1000000"


def test_the_last_two_are_kept(tmp_path):
    write(tmp_path, 10, 20, 30, 40)
    prune(tmp_path)
    assert [path.name for path in find_checkpoints(tmp_path)] == [
        "checkpoint-000040",
        "checkpoint-000030",
    ]


@pytest.mark.parametrize("file", ["training.safetensors", "training.json"])
def test_one_that_is_cut_short_gives_way_to_the_one_before(tmp_path, file, caplog):
    write(tmp_path, 10, 20)
    damaged = tmp_path / "checkpoint-000020" / file
    damaged.write_bytes(damaged.read_bytes()[:-8])
    assert last_whole(tmp_path) == tmp_path / "checkpoint-000010"
    assert "checkpoint-000020 cannot be read" in caplog.text


def test_none_that_can_be_read_is_an_error_and_no_new_start(tmp_path):
    write(tmp_path, 10)
    (tmp_path / "checkpoint-000010" / "training.json").write_text("{")
    with pytest.raises(TrainingError, match="none of its 1 checkpoints can be read; remove the"):
        last_whole(tmp_path)


def test_a_folder_whose_writing_fails_does_not_take_its_name(tmp_path):
    def write_half():
        with whole_folder(tmp_path / "model") as path:
            (path / "config.json").write_text("{}")
            raise RuntimeError("half-way")

    with pytest.raises(RuntimeError, match="half-way"):
        write_half()
    assert not (tmp_path / "model").exists()
    remove_leftovers(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_folder_replaces_the_one_of_its_name(tmp_path):
    for content in ("first", "second"):
        with whole_folder(tmp_path / "best") as path:
            (path / content).write_text(content)
    assert [path.name for path in (tmp_path / "best").iterdir()] == ["second"]


def test_json_is_replaced_as_a_whole(tmp_path):
    write_json(tmp_path / "done.json", {"b": 1})
    write_json(tmp_path / "done.json", {"a": 2})
    assert json.loads((tmp_path / "done.json").read_text()) == {"a": 2}
    assert [path.name for path in tmp_path.iterdir()] == ["done.json"]
