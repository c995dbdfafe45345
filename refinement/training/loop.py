"""The optimizer steps of a training, in each of its workers, be it one or many."""

import contextlib
import math
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import StoppedError, TrainingError
from refinement.training.checkpoints import Progress, checkpoint_path, last_whole, prune
from refinement.training.collate import Batch, Collator, Part, Stream, ahead
from refinement.training.log import TrainLog
from refinement.training.loss import LossSums, answer_logits, token_losses
from refinement.training.options import TrainOptions
from refinement.training.schedule import Plan, Step, step_seed
from refinement.training.signals import stopped_by_signals
from refinement.training.trainee import Trainee

_BEST = "best"  # folder of the weights of the lowest validation loss, while patience waits


@dataclass(frozen=True, kw_only=True)
class LoopJob:
    """What a worker is told.

    Attributes:
        start: Folder of the checkpoint it starts from.
        folder: Of the training.
        options: Of the training.
        seed: Of order and dropout.
        learns: The stream of examples to learn.
        checks: That to validate on; null without.
    """

    start: Path
    folder: Path
    options: TrainOptions
    seed: int
    learns: Stream
    checks: Stream | None


@dataclass(frozen=True)
class Ended:
    """How the steps ended: the reason, and what they came to."""

    reason: str
    progress: Progress
    seconds: float


class Loop:
    """A worker's state between steps."""

    def __init__(self, job: LoopJob, tell: Callable[[dict[str, Any]], None] | None) -> None:
        import torch
        from accelerate import Accelerator

        self._job, self._options, self._tell = job, job.options, tell
        torch.set_num_threads(job.options.threads)
        self._accelerator = Accelerator(
            cpu=job.options.gpus_per_worker == 0,
            log_with=list(job.options.log_to) or None,
            project_dir=job.folder,
        )
        torch.set_num_threads(job.options.threads)  # again: loaders set their own
        torch.manual_seed(step_seed(job.seed, -1, 0))  # adapters start at random, all alike
        checkpoint = last_whole(job.folder)
        self._trainee = Trainee(job.start, checkpoint, job.options)
        torch.set_num_threads(job.options.threads)
        self._plain = answer_logits(self._trainee.model)
        self._forward = self._accelerator.prepare(self._plain)
        self._optimizer = self._trainee.make_optimizer()
        self._learnt = list(self._trainee.learnt().values())
        self._progress = Progress()
        if checkpoint is not None:
            self._progress = self._trainee.restore(checkpoint, self._optimizer)
        self._collator = Collator(
            self._trainee.processor, self._trainee.model.config, self._trainee.num_image_tokens
        )
        self._plan = Plan(job.options)
        self._stop = threading.Event()
        self._left_out: dict[str, int] = {}  # of this worker, since the last checkpoint

    @property
    def _is_first(self) -> bool:
        return bool(self._accelerator.is_main_process)

    @property
    def _resolution(self) -> int | None:
        """Of the last step's pictures."""
        return self._plan.at(self._progress.step - 1).resolution

    def run(self) -> Ended:
        """Takes the steps that are left.

        Raises:
            TrainingError: A loss or a gradient that is no number, or a GPU without room.
            StoppedError: A signal; a checkpoint has been written.
        """
        import torch

        if self._options.log_to:
            self._accelerator.init_trackers("train")
        with contextlib.ExitStack() as stack:
            log = None
            if self._is_first:
                log = stack.enter_context(
                    TrainLog(self._job.folder / "log.jsonl", self._progress.step)
                )
            stack.enter_context(stopped_by_signals(self._stop))
            began = time.monotonic() - (log.seconds if log else 0.0)
            try:
                reason = self._steps(log, began)
            except torch.OutOfMemoryError as err:
                raise self._too_large(err) from err
            self._finish()
            seconds = time.monotonic() - began
        self._accelerator.end_training()
        return Ended(reason, self._progress, seconds)

    def _steps(self, log: TrainLog | None, began: float) -> str:
        if ended := self._has_waited():  # killed between its last checkpoint and its end
            return ended
        numbers = range(self._progress.step, self._plan.num_steps)
        steps = (self._plan.at(number) for number in numbers)
        for step, part in ahead(self._prepare, steps, self._options.prefetch):
            line = self._learn(step, part)
            ended = self._validate(step, line)
            line["seconds"] = round(time.monotonic() - began, 3)
            self._report(log, line)
            is_last = ended or step.number + 1 == self._plan.num_steps
            if is_last or (step.number + 1) % self._options.save_every == 0:
                self._save(log)
            if ended:
                return ended
            if self._stop.is_set():
                self._save(log)
                raise StoppedError(
                    f"training {self._job.folder}: stopped by a signal after step "
                    f"{self._progress.step} of {self._plan.num_steps}; the same command resumes"
                )
        return "all steps taken"

    def _prepare(self, step: Step) -> tuple[Step, Part]:
        """This worker's share of a step, as tensors."""
        share = step.batch_size // self._accelerator.num_processes
        part = self._collator.collect(
            self._job.learns,
            step.position + self._accelerator.process_index * share,
            share,
            resolution=step.resolution,
            parts=self._options.accumulate,
        )
        return step, part

    def _learn(self, step: Step, part: Part) -> dict[str, Any]:
        """One optimizer step; its line of the log.

        Its loss is the mean over all tokens of the step, however they fall on parts and workers.
        """
        import torch

        began = time.monotonic()
        for reason, count in part.left_out.items():
            self._left_out[reason] = self._left_out.get(reason, 0) + count
        workers = self._accelerator.num_processes
        torch.manual_seed(step_seed(self._job.seed, step.number, self._accelerator.process_index))
        self._trainee.set_mode(learns=True)
        tokens = sum(len(batch.labels) for batch in part.batches)
        if workers > 1:
            counted = torch.tensor(float(tokens), device=self._accelerator.device)
            tokens = int(self._accelerator.reduce(counted).item())
        sums = LossSums(self._accelerator.device)
        for number, batch in enumerate(part.batches):
            is_last = number + 1 == len(part.batches)
            with contextlib.nullcontext() if is_last else self._no_sync():
                losses = self._losses(self._forward, batch, self._options.label_smoothing)
                # workers' gradients are averaged, so each counts for as many
                self._accelerator.backward(losses.sum() * (workers / tokens))
            sums.add(losses, batch)
        limit = self._options.clip_norm or math.inf
        norm = float(self._accelerator.clip_grad_norm_(self._learnt, limit))
        loss, tasks = sums.means(self._accelerator)
        if not (math.isfinite(loss) and math.isfinite(norm)):
            raise self._diverged(step, loss, norm)
        for group in self._optimizer.param_groups:
            group["lr"] = step.learning_rate
        self._optimizer.step()
        self._optimizer.zero_grad(set_to_none=True)
        self._progress.step, self._progress.loss = step.number + 1, loss
        return {
            "step": step.number + 1,
            "loss": loss,
            "tasks": tasks,
            "learning_rate": step.learning_rate,
            "grad_norm": norm,
            "examples_per_s": round(step.batch_size / (time.monotonic() - began), 1),
        }

    def _no_sync(self) -> Any:
        return self._accelerator.no_sync(self._forward)

    def _losses(self, forward: Any, batch: Batch, smoothing: float) -> Any:
        import torch

        device = self._accelerator.device
        is_half = self._options.dtype == "bfloat16"
        with torch.autocast(device.type, dtype=torch.bfloat16, enabled=is_half):
            logits = forward(*batch.inputs(device))
        return token_losses(logits, batch.labels.to(device), smoothing)

    def _diverged(self, step: Step, loss: float, norm: float) -> TrainingError:
        what = f"gradient is {norm}" if math.isfinite(loss) else f"loss is {loss}"
        last = last_whole(self._job.folder)
        before = self._progress.loss
        return TrainingError(
            f"training {self._job.folder}: the {what} at step {step.number + 1}, after a loss of "
            f"{'none yet' if before is None else format(before, '.4g')}; kept: "
            f"{last or 'nothing, no checkpoint was due'}; train on from there, or from the start, "
            f"into another folder with a lower learning rate than {self._options.learning_rate:g}, "
            "more warm-up, clip_norm=1 or dtype=float32"
        )

    def _too_large(self, err: Exception) -> TrainingError:
        options = self._options
        return TrainingError(
            f"training {self._job.folder}: a GPU has no room for step {self._progress.step + 1} "
            f"({str(err).partition('. ')[0]}); into another folder, set refine.train.accumulate "
            f"above {options.accumulate}, or train with dtype=bfloat16, lora, freeze_vision or "
            "smaller pictures"
        )

    def _validate(self, step: Step, line: dict[str, Any]) -> str | None:
        """Adds the losses of a validation, where one is due; the reason to end, if it is one."""
        every, stream = self._options.validate_every, self._job.checks
        if every is None or stream is None or (step.number + 1) % every:
            return None
        loss, line["valid_tasks"] = self._measure(stream, step)
        if not math.isfinite(loss):
            raise self._diverged(step, loss, math.inf)
        line["valid"] = loss
        progress, patience = self._progress, self._options.patience
        if progress.best is None or loss < progress.best:
            progress.best, progress.best_step, progress.waited = loss, step.number + 1, 0
            if patience is not None and self._is_first:
                self._trainee.save_model(self._job.folder / _BEST, step.resolution)
            return None
        progress.waited += 1
        return self._has_waited()

    def _has_waited(self) -> str | None:
        patience = self._options.patience
        if patience is None or self._progress.waited < patience:
            return None
        return f"no lower validation loss in {patience} validations"

    def _measure(self, stream: Stream, step: Step) -> tuple[float, dict[str, float]]:
        """The loss on the validation split, over all workers; without dropout or smoothing."""
        import torch

        count = min(sum(stream.len_epoch.values()), self._options.validation_examples)
        workers = self._accelerator.num_processes
        size = max(step.batch_size // workers // self._options.accumulate, 1)
        first = range(self._accelerator.process_index * size, count, workers * size)

        def prepare(start: int) -> Part:
            number = min(size, count - start)
            return self._collator.collect(
                stream, start, number, resolution=step.resolution, replace=False
            )

        self._trainee.set_mode(learns=False)
        sums = LossSums(self._accelerator.device)
        with torch.no_grad():
            for part in ahead(prepare, first, self._options.prefetch):
                for batch in part.batches:
                    sums.add(self._losses(self._plain, batch, 0.0), batch)
        return sums.means(self._accelerator)

    def _report(self, log: TrainLog | None, line: dict[str, Any]) -> None:
        if log is not None:
            log.write(line)
            if self._tell is not None:
                self._tell(line)
        if self._options.log_to:
            numbers = {name: value for name, value in line.items() if not isinstance(value, dict)}
            for split in ("tasks", "valid_tasks"):
                numbers |= {f"{split}/{task}": loss for task, loss in line.get(split, {}).items()}
            self._accelerator.log(numbers, step=line["step"])

    def _save(self, log: TrainLog | None) -> None:
        """A checkpoint behind the last step, unless there is one."""
        self._gather_left_out()
        path = checkpoint_path(self._job.folder, self._progress.step)
        if log is not None and not path.exists():
            log.sync()
            self._trainee.save(path, self._resolution, self._optimizer, self._progress)
            prune(self._job.folder)
        self._accelerator.wait_for_everyone()

    def _gather_left_out(self) -> None:
        from accelerate.utils import gather_object

        for found in gather_object([self._left_out]):
            for reason, count in found.items():
                left_out = self._progress.left_out
                left_out[reason] = left_out.get(reason, 0) + count
        self._left_out = {}

    def _finish(self) -> None:
        """The final checkpoint: the last weights, or the best where patience looked for them."""
        if not self._is_first:
            return
        target, best = self._job.folder / "model", self._job.folder / _BEST
        if self._options.patience is None or self._progress.best is None:
            self._trainee.save_model(target, self._resolution)
        elif best.is_dir():  # else a run that was killed just now has moved it already
            best.rename(target)
