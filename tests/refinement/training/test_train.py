"""Whole trainings over real pairs: what they leave, which are one and the same, who stops them."""

import dataclasses
import errno
import json
import os
import shutil
import signal
import subprocess
import sys

import pyarrow as pa
import pytest
import torch
from PIL import Image

from engine.config import RunnerConfig
from engine.errors import ConfigError, StoppedError, TrainingError
from engine.schema import claims
from refinement.pairs.options import PairOptions
from refinement.pairs.writer import write_pairs
from refinement.training.checkpoints import find_checkpoints
from refinement.training.log import read_log
from refinement.training.train import Trained, train
from specialists.hub import load_pretrained
from tests.judged import put
from tests.refinement.killed_training import job_of
from tests.refinement.pair_datasets import paired, pictures, regions
from tests.refinement.trainings import png
from tests.shards import dataset

TIMES = ("seconds", "examples_per_s")
# Ray warns itself as it imports its own data library.
RAYS_OWN = pytest.mark.filterwarnings("ignore::DeprecationWarning:ray")
FILES = ("model/model.safetensors", "checkpoint-000008/training.safetensors")


@pytest.fixture(scope="module")
def labelled(tmp_path_factory):
    """Twelve pictures with boxes and captions, as a dataset and as pairs of two tasks."""
    folder = tmp_path_factory.mktemp("labelled")
    keys = [f"image-{n}" for n in range(12)]
    place = dataset(folder, keys)
    found = [(key, "dog", [n, 2, 20 + n, 30]) for n, key in enumerate(keys)]
    texts = claims(
        image_key=keys,
        annotation_id=[f"{key}-text" for key in keys],
        kind="text",
        role="brief",
        text=[f"a dog {n}" for n in range(12)],
        source="captioner",
    )
    images = pictures(*keys, width=[48] * 12, height=[40] * 12)
    rows = pa.concat_tables([regions(*found), texts])
    put(place, 0, images, rows, {key: png(n) for n, key in enumerate(keys)})
    paired(place, folder / "pairs", tasks={"od": 1, "caption": 1}, valid_share=0.3)
    return folder / "pairs", place.output.root


@pytest.fixture
def job(untrained, labelled, tmp_path):
    return job_of(untrained, *labelled, tmp_path / "training")


@pytest.fixture(scope="module")
def whole(untrained, labelled, tmp_path_factory):
    """An undisturbed training."""
    job = job_of(untrained, *labelled, tmp_path_factory.mktemp("whole") / "training")
    return job, train(job)


def with_options(job, **values):
    return dataclasses.replace(job, options=dataclasses.replace(job.options, **values))


def log_of(folder):
    lines = read_log(folder / "log.jsonl")
    return [{name: value for name, value in line.items() if name not in TIMES} for line in lines]


def same(folder, other):
    assert log_of(folder) == log_of(other)
    for name in FILES:
        assert (folder / name).read_bytes() == (other / name).read_bytes(), name


def test_a_training_leaves_a_checkpoint_that_loads_and_what_it_came_to(whole):
    job, trained = whole
    classes = ("Florence2Processor", "Florence2ForConditionalGeneration")
    assert load_pretrained("test", str(trained.model), None, classes)
    assert len({path.stat().st_mode for path in trained.model.iterdir()}) == 1
    lines = read_log(job.folder / "log.jsonl")
    assert [line["step"] for line in lines] == list(range(1, 9))
    assert [line["step"] for line in lines if "valid" in line] == [4, 8]
    assert set(lines[0]["tasks"]) == {"od", "caption"}
    assert (trained.steps, trained.loss) == (8, lines[-1]["loss"])
    assert trained.valid_loss == min(lines[3]["valid"], lines[7]["valid"])
    assert trained.reason == "all steps taken"
    assert trained.left_out == {}
    done = json.loads((job.folder / "done.json").read_text())
    assert done["options"]["steps"] == 8
    with Image.open(job.folder / "loss.png") as picture:
        assert picture.size == (1320, 540)
    names = {path.name for path in job.folder.iterdir()}
    assert names == {
        *("model", "log.jsonl", "loss.png", "done.json", "job.json"),
        *("checkpoint-000006", "checkpoint-000008"),
    }


def test_a_finished_training_returns_at_once(whole):
    job, trained = whole
    before = (job.folder / "log.jsonl").stat().st_mtime_ns
    assert train(job) == trained
    assert (job.folder / "log.jsonl").stat().st_mtime_ns == before


def test_it_leaves_torch_as_it_was(job):
    torch.manual_seed(7)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    train(with_options(job, steps=1))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"seed": 5}, "seed: 0 -> 5"),
        ({"weights": {"od": 1.0}}, r"weights: nothing -> {\"od\": 1.0}"),
        ({"without_fold": (3, 1)}, r"without_fold: nothing -> \[3, 1\]"),
    ],
)
def test_another_training_in_the_same_folder_is_refused(whole, change, message):
    with pytest.raises(ConfigError, match=f"holds another training .*{message}.*another folder"):
        train(dataclasses.replace(whole[0], **change))


def test_other_options_in_the_same_folder_are_refused(whole):
    with pytest.raises(ConfigError, match=r"train.learning_rate: 0.002 -> 0.1"):
        train(with_options(whole[0], learning_rate=0.1))


def test_another_start_in_the_same_folder_is_refused(whole):
    job, trained = whole
    with pytest.raises(ConfigError, match="start: "):
        train(dataclasses.replace(job, model=str(trained.model)))


def test_other_pairs_in_the_same_folder_are_refused(whole, tmp_path):
    job = whole[0]
    copied = shutil.copytree(job.pairs, tmp_path / "pairs")
    file = next(copied.glob("*.arrow"))
    file.write_bytes(file.read_bytes().replace(b"a dog 3", b"a cat 3"))  # of the same length
    with pytest.raises(ConfigError, match=r"holds another training \(pairs: "):
        train(dataclasses.replace(job, pairs=copied))


def test_where_it_runs_makes_no_other_training(whole):
    job, trained = whole
    assert train(with_options(job, threads=2, save_every=1)) == trained


@pytest.mark.slow
def test_a_training_that_was_killed_comes_to_the_same_bytes(whole, untrained, labelled, tmp_path):
    """SIGKILL of the process between two checkpoints; the other moments are in test_train_loop."""
    folder = tmp_path / "killed"
    given = [untrained, *labelled, folder, 5]
    ended = subprocess.run(
        [sys.executable, "-m", "tests.refinement.killed_training", *map(str, given)],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert ended.returncode == -signal.SIGKILL, ended.stderr
    assert [path.name for path in find_checkpoints(folder)] == ["checkpoint-000003"]
    assert not (folder / "model").exists()
    train(dataclasses.replace(whole[0], folder=folder))
    same(folder, whole[0].folder)


@pytest.fixture
def unheard():
    """A handler of both signals for the time in which a training has none of its own."""

    def handler(number, _frame):
        raise AssertionError(f"signal {number} was for the training")

    signals = (signal.SIGTERM, signal.SIGINT)
    before = {number: signal.signal(number, handler) for number in signals}
    yield handler
    for number, one in before.items():
        signal.signal(number, one)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT], ids=["sigterm", "ctrl-c"])
def test_a_signal_ends_it_behind_a_checkpoint(whole, unheard, tmp_path, number):
    folder = tmp_path / "stopped"

    def tell(line):
        if line["step"] == 5:
            signal.raise_signal(number)

    job = dataclasses.replace(whole[0], folder=folder)
    with pytest.raises(StoppedError, match="stopped by a signal after step 5 of 8; the same comm"):
        train(job, tell)
    assert signal.getsignal(number) is unheard
    assert find_checkpoints(folder)[0].name == "checkpoint-000005"
    assert (folder / "loss.png").is_file()
    train(job)
    same(folder, whole[0].folder)


def test_a_task_without_an_example_is_refused(job):
    with pytest.raises(ConfigError, match=r"no pairs of 'ocr_with_region'; of .*caption"):
        train(dataclasses.replace(job, weights={"od": 1.0, "ocr_with_region": 1.0}))


def test_validation_without_examples_is_refused(job, tmp_path):
    write_pairs(
        job.output,
        "round-0",
        PairOptions(valid_share=0),
        tmp_path / "pairs",
        runner=job.runner,
        seed=0,
    )
    with pytest.raises(ConfigError, match=r"no example to validate on; set refine.train"):
        train(dataclasses.replace(job, pairs=tmp_path / "pairs"))


def test_a_full_disk_ends_it_and_the_same_call_resumes(whole, job, monkeypatch):
    def fill(line):
        def full(_handle):
            raise OSError(errno.ENOSPC, "No space left on device")

        if line["step"] == 5:
            monkeypatch.setattr(os, "fsync", full)

    with pytest.raises(StoppedError, match=r"no space left; free some and run the same"):
        train(job, fill)
    monkeypatch.undo()
    train(job)
    same(job.folder, whole[0].folder)


def test_several_workers_need_ray(job):
    with pytest.raises(ConfigError, match=r"workers is 2, and runner.kind serial is one process"):
        train(with_options(job, workers=2))


def test_gpus_that_are_not_there(job):
    if torch.cuda.is_available():
        pytest.skip("there is one")
    with pytest.raises(ConfigError, match="torch finds no GPU here; set it to 0"):
        train(with_options(job, gpus_per_worker=1.0))


def test_a_start_that_is_none_is_refused_before_anything_is_written(job, tmp_path):
    with pytest.raises(ConfigError, match="no such folder"):
        train(dataclasses.replace(job, model=str(tmp_path / "nothing")))
    assert not job.folder.exists()


@pytest.fixture
def connected():
    """A Ray that is there before a training."""
    import ray

    from engine.cluster import connect, disconnect

    connect(None)
    yield
    assert ray.is_initialized()
    disconnect()


@pytest.mark.ray
@RAYS_OWN
@pytest.mark.slow
@pytest.mark.usefixtures("connected")
def test_a_ray_worker_comes_to_the_same_bytes_and_two_to_nearly_the_same(whole, job, tmp_path):
    told = []
    one = dataclasses.replace(job, runner=RunnerConfig(kind="ray"))
    found: Trained = train(one, told.append)
    same(job.folder, whole[0].folder)
    assert [line["step"] for line in told] == list(range(1, 9))
    assert found.loss == whole[1].loss
    assert not (job.folder / "_ray").exists()
    two = with_options(dataclasses.replace(one, folder=tmp_path / "two"), workers=2, steps=4)
    train(two)
    first, alone = log_of(two.folder)[0], log_of(job.folder)[0]
    assert first["loss"] == pytest.approx(alone["loss"], rel=0.1)  # other dropout, same examples


@pytest.mark.ray
@pytest.mark.slow
@RAYS_OWN
def test_an_error_of_a_ray_worker_is_told_as_it_is(job):
    wild = with_options(job, learning_rate=1e30, clip_norm=None)
    with pytest.raises(TrainingError, match=r"lower learning rate than 1e.30"):
        train(dataclasses.replace(wild, runner=RunnerConfig(kind="ray")))
