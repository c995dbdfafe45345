"""The picture of a log, and what the driver of Ray workers does by itself: follow it, and count."""

import numpy as np
import pytest
import torch
from PIL import Image

from engine.errors import ConfigError
from refinement.training.checkpoints import Progress, checkpoint_path, whole_folder, write_state
from refinement.training.curves import draw_curves
from refinement.training.distributed import _followed, check_room
from refinement.training.log import TrainLog, read_log
from refinement.training.options import TrainOptions


def line(step, **values):
    return {"step": step, "loss": 1 / step, "tasks": {"od": 2 / step}, "seconds": step} | values


def drawn(lines, path):
    draw_curves(lines, path)
    with Image.open(path) as picture:
        return np.asarray(picture.convert("RGB"))


def test_no_step_gives_an_empty_plot(tmp_path):
    assert drawn([], tmp_path / "loss.png").shape == (540, 1320, 3)


def test_each_task_and_each_validation_is_drawn(tmp_path):
    lines = [line(step) for step in range(1, 200)]
    plain = drawn(lines, tmp_path / "loss.png")
    lines[99] |= {"valid": 0.5, "valid_tasks": {"od": 0.4}}
    validated = drawn(lines, tmp_path / "loss.png")
    left, right = np.s_[:, :660], np.s_[:, 660:]
    assert (validated[left] != plain[left]).any()
    assert (validated[right] != plain[right]).any()
    assert [path.name for path in tmp_path.iterdir()] == ["loss.png"]


def test_a_log_without_a_file_has_no_line(tmp_path):
    assert read_log(tmp_path / "log.jsonl") == []


def test_a_log_goes_on_behind_its_step(tmp_path):
    path = tmp_path / "log.jsonl"
    with TrainLog(path, 0) as log:
        for step in (1, 2, 3):
            log.write(line(step))
    path.write_text(path.read_text() + '{"step": 4, "lo')
    with TrainLog(path, 2) as log:
        assert log.seconds == 2
        log.write(line(3, loss=9))
    assert [each["loss"] for each in read_log(path)] == [1, 0.5, 9]


def save(folder, step):
    with whole_folder(checkpoint_path(folder, step)) as path:
        write_state(path, {"step.a": torch.zeros(())}, Progress(step=step))


@pytest.mark.parametrize("done", [0, 2])
def test_whoever_follows_is_told_each_step_of_this_run_once(tmp_path, done):
    path, told = tmp_path / "log.jsonl", []
    if done:  # killed behind step 4, the last checkpoint behind step 2
        save(tmp_path, done)
        with TrainLog(path, 0) as log:
            for step in (1, 2, 3, 4):
                log.write(line(step))
    with _followed(path, told.append), TrainLog(path, done) as log:
        for step in range(done + 1, 7):
            log.write(line(step))
    assert [each["step"] for each in told] == list(range(done + 1, 7))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"workers": 3}, "3 workers with threads 1 take 3 CPUs, and there are 2"),
        ({"threads": 4}, "1 workers with threads 4 take 4 CPUs"),
        ({"gpus_per_worker": 0.5}, r"gpus_per_worker 0.5 take 0.5 GPUs, and there are 0"),
    ],
)
def test_more_than_a_machine_has_is_refused_and_not_waited_for(values, message):
    with pytest.raises(ConfigError, match=message):
        check_room(TrainOptions(batch_size=12, **values), {"CPU": 2.0})


def test_all_that_a_machine_has_may_be_taken():
    check_room(TrainOptions(workers=2, gpus_per_worker=0.5), {"CPU": 2.0, "GPU": 1.0})
