"""`fld train`: a Florence-2 checkpoint and pairs in, a checkpoint that has learnt them out."""

import contextlib
import errno
import hashlib
import json
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from engine.config import RunnerConfig, difference
from engine.errors import ConfigError, StoppedError, TrainingError
from engine.source.shapes import Location
from refinement.training.checkpoints import remove_leftovers, write_json
from refinement.training.collate import Stream
from refinement.training.curves import draw_curves
from refinement.training.log import read_log
from refinement.training.loop import Ended, Loop, LoopJob
from refinement.training.options import TrainOptions
from refinement.training.start import Start, check_start
from specialists.needs import revision_of

Tell = Callable[[dict[str, Any]], None]

_FULL = (errno.ENOSPC, errno.EDQUOT)
_JOB, _DONE, _LOG, _MODEL = "job.json", "done.json", "log.jsonl", "model"


@dataclass(frozen=True, kw_only=True)
class TrainJob:
    """What is trained on what, and where it goes.

    Attributes:
        model: The checkpoint to start from: a folder or a hub id.
        revision: Of a hub id; null: its main branch.
        pairs: Folder of the pairs, as `refinement.pairs.stream` wrote them.
        output: Of the dataset they were made of, which has the pixels.
        folder: Where all of this training goes; seen by all workers.
        options: How.
        weights: Share of each task in the mixture; null: as the pairs have them.
        without_fold: Number of folds and one of them, whose images are not learnt; null: all are.
        seed: Of order, dropout and adapters.
        runner: Where: `serial` is this process.
    """

    model: str
    pairs: Path
    output: Location
    folder: Path
    options: TrainOptions = field(default_factory=TrainOptions)
    revision: str | None = None
    weights: dict[str, float] | None = None
    without_fold: tuple[int, int] | None = None
    seed: int = 0
    runner: RunnerConfig = field(default_factory=RunnerConfig)


@dataclass(frozen=True)
class Trained:
    """What a training came to.

    Attributes:
        model: Folder of the checkpoint.
        steps: Taken.
        loss: Of the last step; null without any.
        valid_loss: The lowest of all validations; null without any.
        reason: Why it ended.
        seconds: Spent, all runs together.
        left_out: Examples that could not be learnt, by reason.
        digest: 16 hex digits of what decides on the weights.
    """

    model: Path
    steps: int
    loss: float | None
    valid_loss: float | None
    reason: str
    seconds: float
    left_out: dict[str, int]
    digest: str


def train(job: TrainJob, tell: Tell | None = None) -> Trained:
    """Trains to the end; the same call again returns at once, or goes on where one was killed.

    On a CPU a training that was killed comes to the very losses and weights of one that was not.
    The folder holds `model/` (the checkpoint), `log.jsonl`, `loss.png`, `done.json` and the last
    two checkpoints.

    Args:
        job: What to do.
        tell: Called with every line of the log as it is written.

    Raises:
        ConfigError: The start cannot be trained, the folder has another training, or the pairs have
            nothing of a task that is wanted.
        TrainingError: A loss or a gradient was no number.
        StoppedError: A signal or a full disk ended it; the same call resumes.
    """
    _check_workers(job)
    start = check_start(job.model, job.revision)
    digest = _claim(job, start)
    if (job.folder / _DONE).is_file():
        return _read_done(job.folder)
    remove_leftovers(job.folder)
    with _full_disk_told(job.folder):
        return _finish(job, _run(job, start.folder, tell), digest)


def _run(job: TrainJob, start: Path, tell: Tell | None) -> Ended:
    streams = open_streams(job)
    try:
        if job.runner.kind == "ray":
            from refinement.training.distributed import train_on_ray

            return train_on_ray(job, start, tell)
        return run_loop(job, start, tell, streams)
    finally:
        draw_curves(read_log(job.folder / _LOG), job.folder / "loss.png")


@contextlib.contextmanager
def _full_disk_told(folder: Path) -> Iterator[None]:
    """A full disk as what it is to a user; any other error as it was."""
    from safetensors import SafetensorError  # what it makes of one while it writes

    try:
        yield
    except (OSError, SafetensorError) as err:
        if getattr(err, "errno", None) in _FULL or "No space left" in str(err):
            raise StoppedError(
                f"training {folder}: no space left; free some and run the same command again"
            ) from err
        raise


def run_loop(
    job: TrainJob,
    start: Path,
    tell: Tell | None,
    streams: tuple[Stream, Stream | None] | None = None,
) -> Ended:
    """The steps, in this process; torch's threads and generator are left as they were."""
    import torch

    learns, checks = streams or open_streams(job)
    loop_job = LoopJob(
        start=start,
        folder=job.folder,
        options=job.options,
        seed=job.seed,
        learns=learns,
        checks=checks,
    )
    threads = torch.get_num_threads()
    with torch.random.fork_rng(enabled=job.runner.kind == "serial"):
        try:
            return Loop(loop_job, tell).run()
        finally:
            torch.set_num_threads(threads)


def open_streams(job: TrainJob) -> tuple[Stream, Stream | None]:
    """The examples to learn, and those to validate on, if that is wanted.

    Raises:
        ConfigError: There are none, or none of a wanted task.
    """
    from refinement.pairs.stream import Pairs

    pairs = Pairs.open(job.pairs, job.output)

    def stream(split: Literal["train", "valid"]) -> Stream:
        return pairs.stream(
            split=split, seed=job.seed, weights=job.weights, without_fold=job.without_fold
        )

    learns = stream("train")
    if job.options.validate_every is None:
        return learns, None
    checks = stream("valid")
    if not sum(checks.len_epoch.values()):
        raise ConfigError(
            f"pairs {job.pairs}: no example to validate on; set refine.train.validate_every=null, "
            "or make pairs with a larger valid_share"
        )
    return learns, checks


def _check_workers(job: TrainJob) -> None:
    options = job.options
    if job.runner.kind == "serial" and options.workers > 1:
        raise ConfigError(
            f"refine.train.workers is {options.workers}, and runner.kind serial is one process; "
            "set refine.train.workers=1 or runner.kind=ray"
        )
    if options.gpus_per_worker and job.runner.kind == "serial":
        import torch

        if not torch.cuda.is_available():
            raise ConfigError(
                f"refine.train.gpus_per_worker is {options.gpus_per_worker:g}, and torch finds no "
                "GPU here; set it to 0"
            )


def _claim(job: TrainJob, start: Start) -> str:
    """Takes the folder for this training; returns its digest.

    Raises:
        ConfigError: It holds another one.
    """
    described = {
        "start": start.revision,
        "pairs": revision_of(job.pairs),
        "weights": job.weights,
        "without_fold": job.without_fold,
        "seed": job.seed,
        "train": job.options.identity(),
    }
    identity = json.loads(json.dumps(described))
    file = job.folder / _JOB
    if file.is_file():
        changed = difference(json.loads(file.read_text(encoding="utf-8")), identity)
        if changed:
            raise ConfigError(
                f"training {job.folder}: holds another training ({'; '.join(changed)}); "
                "name another folder, or remove this one"
            )
    else:
        job.folder.mkdir(parents=True, exist_ok=True)
        write_json(file, identity)
    spelled = json.dumps(identity, sort_keys=True)
    return hashlib.blake2b(spelled.encode(), digest_size=8).hexdigest()


def _finish(job: TrainJob, ended: Ended, digest: str) -> Trained:
    if not (job.folder / _MODEL).is_dir():
        raise TrainingError(
            f"training {job.folder}: its workers ended and left no model; its folder must be one "
            "that all workers and this process see"
        )
    progress = ended.progress
    facts = {
        "steps": progress.step,
        "loss": progress.loss,
        "valid_loss": progress.best,
        "reason": ended.reason,
        "seconds": round(ended.seconds, 1),
        "left_out": progress.left_out,
        "digest": digest,
    }
    write_json(job.folder / _DONE, facts | {"options": asdict(job.options)})
    return _read_done(job.folder)


def _read_done(folder: Path) -> Trained:
    facts = json.loads((folder / _DONE).read_text(encoding="utf-8"))
    del facts["options"]
    return Trained(model=folder / _MODEL, **facts)
