"""The same training in Ray workers that share each batch: Ray Train over torch's own DDP.

All workers, and the driver, must see the training's folder, the pairs and the dataset.
"""

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Iterator, Mapping
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine import errors
from engine.errors import ConfigError, EngineError, StoppedError, TrainingError
from refinement.training.checkpoints import Progress, last_whole, read_state, write_json
from refinement.training.loop import Ended
from refinement.training.options import TrainOptions

if TYPE_CHECKING:
    from refinement.training.train import Tell, TrainJob

_POLL_S = 1.0  # how often the driver looks for new lines of the log
_RAY = "_ray"  # folder of Ray Train's own bookkeeping, gone when it has ended
_ENDED = "_ended.json"


def train_on_ray(job: "TrainJob", start: Path, tell: "Tell | None") -> Ended:
    """As `refinement.training.train.run_loop`, in `workers` processes of a local Ray or a cluster.

    A Ray that is connected already is used, and stays.

    Raises:
        ConfigError: There is no room for so many workers.
        EngineError: As a worker raised it.
        TrainingError: A worker ended otherwise.
        StoppedError: Ctrl-C; the last checkpoint stays.
    """
    import ray
    import ray.train

    (job.folder / _ENDED).unlink(missing_ok=True)
    try:
        with (
            _connected(job.runner.address),
            _handlers_kept(),
            _followed(job.folder / "log.jsonl", tell),
        ):
            if job.runner.address is None:  # a cluster may grow to what is asked of it
                check_room(job.options, ray.cluster_resources())  # type: ignore[no-untyped-call]
            _trainer(job, start).fit()
    except (KeyboardInterrupt, SystemExit) as err:  # SystemExit: how Ray answers Ctrl-C
        raise StoppedError(
            f"training {job.folder}: stopped by a signal; the same command resumes from the last "
            "checkpoint"
        ) from err
    except ray.train.TrainingFailedError as err:
        raise TrainingError(
            f"training {job.folder}: a worker ended: {_last_line(err)}; the same command resumes "
            "from the last checkpoint"
        ) from err
    finally:
        shutil.rmtree(job.folder / _RAY, ignore_errors=True)
    return _read_ended(job.folder)


def _trainer(job: "TrainJob", start: Path) -> Any:
    import ray.train
    import ray.train.torch

    # paths in a job may be relative to where the command was started
    os.environ.setdefault("RAY_CHDIR_TO_TRIAL_DIR", "0")
    bookkeeping = job.folder.resolve() / _RAY
    shutil.rmtree(bookkeeping, ignore_errors=True)  # it would take up where another run ended
    gpus = job.options.gpus_per_worker
    resources = {"CPU": float(job.options.threads)} | ({"GPU": gpus} if gpus else {})
    return ray.train.torch.TorchTrainer(
        _work,
        train_loop_config={"job": job, "start": start},
        scaling_config=ray.train.ScalingConfig(
            num_workers=job.options.workers, use_gpu=gpus > 0, resources_per_worker=resources
        ),
        run_config=ray.train.RunConfig(name="run", storage_path=str(bookkeeping)),
    )


@contextlib.contextmanager
def _connected(address: str | None) -> Iterator[None]:
    """To a Ray; to the one that is connected already, which then stays."""
    import ray

    from engine.cluster import connect, disconnect

    if ray.is_initialized():
        yield
        return
    connect(address)
    try:
        yield
    finally:
        disconnect()


def check_room(options: TrainOptions, found: Mapping[str, float]) -> None:
    """Refuses what this machine's Ray will never have room for: Ray itself would wait for it.

    Raises:
        ConfigError: With what is asked and what there is.
    """
    for option, each, resource in (
        ("threads", float(options.threads), "CPU"),
        ("gpus_per_worker", options.gpus_per_worker, "GPU"),
    ):
        wanted, there = options.workers * each, found.get(resource, 0.0)
        if wanted > there:
            raise ConfigError(
                f"refine.train: {options.workers} workers with {option} {each:g} take {wanted:g} "
                f"{resource}s, and there are {there:g}; take fewer, or name a larger cluster in "
                "runner.address"
            )


def _work(config: dict[str, Any]) -> None:
    """In a worker: the steps. What a user must be told goes through a file, as it was raised."""
    import ray.train

    from refinement.training.train import run_loop

    job: TrainJob = config["job"]
    try:
        ended = run_loop(job, config["start"], None)
        found: dict[str, Any] = asdict(ended)
    except OSError as err:  # a full disk, which the driver knows to tell
        found = {"errno": err.errno, "message": str(err)}
    except EngineError as err:
        found = {"error": type(err).__name__, "message": str(err)}
    if ray.train.get_context().get_world_rank() == 0:
        write_json(job.folder / _ENDED, found)


def _read_ended(folder: Path) -> Ended:
    file = folder / _ENDED
    if not file.is_file():
        raise StoppedError(
            f"training {folder}: its workers were stopped; the same command resumes from the last "
            "checkpoint"
        )
    found = json.loads(file.read_text(encoding="utf-8"))
    file.unlink()
    if "errno" in found:
        raise OSError(found["errno"], found["message"])
    if "error" in found:
        raise getattr(errors, found["error"], TrainingError)(found["message"])
    return Ended(**(found | {"progress": Progress(**found["progress"])}))


def _last_line(err: Exception) -> str:
    return str(err).strip().splitlines()[-1]


@contextlib.contextmanager
def _handlers_kept() -> Iterator[None]:
    """Ray sets a handler for Ctrl-C and leaves it."""
    before = signal.getsignal(signal.SIGINT)
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            signal.signal(signal.SIGINT, before)


@contextlib.contextmanager
def _followed(log: Path, tell: "Tell | None") -> Iterator[None]:
    """Tells the lines that workers add to a log, while it is being written and at last."""
    if tell is None:
        yield
        return
    ended = threading.Event()
    lines = _NewLines(log)

    def follow() -> None:
        is_over = False
        while not is_over:
            is_over = ended.wait(_POLL_S)
            for line in lines.read():
                tell(line)

    thread = threading.Thread(target=follow, name="follow-log")
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()


class _NewLines:
    """Lines that were added to a log since they were last read.

    A worker that resumes replaces the log by one without the steps that it will do again.
    """

    def __init__(self, log: Path) -> None:
        self._log = log
        self._file, self._place = self._state()
        kept = last_whole(log.parent)
        self._last = 0 if kept is None else read_state(kept)[1].step

    def _state(self) -> tuple[int, int]:
        """The file's number and size; zeros where there is none."""
        try:
            found = self._log.stat()
        except FileNotFoundError:
            return 0, 0
        return found.st_ino, found.st_size

    def read(self) -> list[dict[str, Any]]:
        """Whole lines, in order."""
        file, size = self._state()
        if file != self._file:
            self._file, self._place = file, 0
        if size == self._place:
            return []
        with self._log.open("rb") as opened:
            opened.seek(self._place)
            added = opened.read(size - self._place)
        whole = added[: added.rfind(b"\n") + 1]
        self._place += len(whole)
        found = [json.loads(line) for line in whole.splitlines()]
        new = [line for line in found if line["step"] > self._last]
        self._last = max([self._last, *(line["step"] for line in new)])
        return new
