"""A new kind of annotation from a small set of it: train the refined checkpoint, annotate with it.

Every step leaves files that say it is done, so the same call goes on where the last one died.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from engine import dataset
from engine.config import LimitsConfig, RunnerConfig
from engine.crew import open_tasks, scratch_folder
from engine.errors import ConfigError
from engine.formats.florence2_tasks import Task
from engine.job import Observer
from engine.judge import RuleEntry, check_needs, raise_alarm
from engine.lease import Lease, kept_alive
from engine.output import disk_error, remove_leftovers
from engine.protocols import Specialist
from engine.sink import Target
from engine.source.filesystem import open_location
from engine.source.shapes import Location
from engine.versions import Version, find_version, put_version, read_versions
from refinement.cold_start.gold import GoldSet, Lesson, count_lost, open_lesson
from refinement.cold_start.shard import ColdSpec, add_shard, round_of
from refinement.cold_start.slots import Slot, find_slot, write_record
from refinement.pairs.options import PairOptions
from refinement.pairs.writer import write_pairs
from refinement.predict import predict
from refinement.refine_job import Progress
from refinement.series import Series, read_series
from refinement.training.options import TrainOptions
from refinement.training.train import TrainJob, train

MADE_BY = "cold-start"
# Builds the specialist over a trained model, under a name.
MakeSpecialist = Callable[[str, str], Specialist]


@dataclass(frozen=True, kw_only=True)
class ColdJob:
    """What to learn, from what, and what to annotate; everything is built and checked.

    Attributes:
        output: The dataset to annotate.
        folder: A local folder for the gold set, pairs, models and predictions.
        task: What is learned.
        gold: The small set.
        model: The checkpoint to train: a folder or a hub id.
        pairs: How pairs are made; its tasks are not looked at.
        training: How.
        predictor: Makes the specialist.
        predictor_name: Whose workers and threads of `runner` it takes.
        rules: Judge the new rows, in order.
        rule_options: The rules of the new version as plain data, for dataset.json.
        identity: Everything that changes a row, as plain data.
        runner: Where all this runs.
        limits: What is refused as an image.
        seed: Of everything drawn.
    """

    output: Location
    folder: Path
    task: Task
    gold: GoldSet
    model: str
    pairs: PairOptions
    training: TrainOptions
    predictor: MakeSpecialist
    predictor_name: str = "florence2"
    rules: Sequence[RuleEntry]
    rule_options: Sequence[Mapping[str, Any]]
    identity: Mapping[str, Any]
    runner: RunnerConfig = field(default_factory=RunnerConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    seed: int = 0


@dataclass(frozen=True, kw_only=True)
class ColdStarted:
    """What it came to.

    Attributes:
        version: The new label version.
        parent: The one it was made from.
        source: The `source` of its new rows.
        rows: New rows by status.
        is_current: Whether the version is the current one: not where no new row is kept.
        lost: Images of the gold set that could not be used whole.
        failed: Images the specialist gave no answer on.
        predictions: Where it answered, with its failures.
    """

    version: str
    parent: str
    source: str
    rows: Mapping[str, int]
    is_current: bool
    lost: int
    failed: int
    predictions: str


def refined_checkpoint(output: Location, model: str | None) -> str:
    """The checkpoint that rounds left, or that of the config where there were none.

    Args:
        output: The dataset's.
        model: As the config names it.

    Raises:
        ConfigError: Rounds are under way, their checkpoint is gone, or there is none at all.
    """
    series = read_series(output)
    if series is not None and series.ended is None:
        raise ConfigError(
            f"{output.uri}: its refinement has not ended; finish it with `fld refine`, then start "
            "cold from the checkpoint it leaves"
        )
    if series is not None and series.model is not None:
        if not Path(series.model).is_dir():
            raise ConfigError(
                f"{output.uri}: the checkpoint of its rounds, {series.model}, is gone; put it back"
            )
        return series.model
    if series is not None and series.last.round and _trained(series):
        raise ConfigError(
            f"{output.uri}: its rounds have left no checkpoint yet; the same `fld refine` makes it"
        )
    if model is None:
        raise ConfigError(
            f"{output.uri}: no checkpoint to start from: its rounds left none and the config names "
            "none; run `fld refine` first, or set model= to a hub id or a folder"
        )
    return model


def _trained(series: Series) -> bool:
    return (series.identity.get("refine") or {}).get("train") is not None


def cold_start(
    job: ColdJob, observer: Observer, progress: Progress = lambda *_: None
) -> ColdStarted:
    """Trains on the gold set, annotates every image, and writes a label version with the new rows.

    The rows of the gold set itself do not come along: as in the paper they are learned from, and
    the specialist annotates their images like all others.

    A finished one returns at once, and makes its version the current one again after an undo. One
    that is asked for differently, or on other labels, is another with a number in its name.

    Raises:
        ConfigError: Something is missing or wrong: no label was changed.
        TrainingError: The training diverged.
        StoppedError: An alarm, a full disk, a signal: the same call resumes.
    """
    check_needs(job.rules)
    with Lease.take(job.output) as lease, kept_alive(lease):
        remove_leftovers(job.output)
        slot = find_slot(job.output, job.task, job.identity)
        try:
            return _run(job, slot, observer, progress)
        except OSError as err:
            raise disk_error(err, job.output) from err


def _run(job: ColdJob, slot: Slot, observer: Observer, progress: Progress) -> ColdStarted:
    """All steps; each returns at once where it is done already."""
    lesson = _learn(job, slot)
    predictions = open_location(str(job.folder / slot.name / "predictions"))
    versions, current = read_versions(job.output)
    if not (slot.name in versions and versions[slot.name].finished):
        predict(
            job.output,
            slot.parent,
            _train(job, slot, lesson, progress),
            predictions,
            runner=_runner(job, slot.source),
            limits=job.limits,
            seed=job.seed,
            observer=observer,
        )
        _add_rows(job, slot, predictions, progress)
    rows = _count_rows(job.output, slot)
    is_taken_up = current == slot.parent and rows.get("kept", 0) > 0
    if is_taken_up:
        _, version = find_version(job.output, slot.name)
        put_version(job.output, slot.name, version, current=True)
    return ColdStarted(
        version=slot.name,
        parent=slot.parent,
        source=slot.source,
        rows=rows,
        is_current=is_taken_up or current != slot.parent,
        lost=count_lost(*lesson),
        failed=_count_failed(predictions, slot.source),
        predictions=predictions.uri,
    )


def _learn(job: ColdJob, slot: Slot) -> Lesson:
    """The gold set, looked at; from here on the slot is taken."""
    lesson = open_lesson(
        job.gold,
        job.task,
        job.folder / slot.name,
        (job.output, slot.parent),
        job.seed,
        is_begun=slot.is_begun,
    )
    if not slot.is_begun:
        write_record(job.output, slot, job.identity)
    return lesson


def _train(job: ColdJob, slot: Slot, lesson: Lesson, progress: Progress) -> Specialist:
    """The specialist over a checkpoint that has learned the task."""
    folder = job.folder / slot.name
    write_pairs(
        lesson.place,
        lesson.version,
        replace(job.pairs, tasks={job.task.name: 1.0}),
        folder / "pairs",
        runner=job.runner,
        seed=job.seed,
        progress=progress,
    )
    trained = train(
        TrainJob(
            model=job.model,
            pairs=folder / "pairs",
            output=lesson.place,
            folder=folder / "training",
            options=job.training,
            seed=job.seed,
            runner=job.runner,
        ),
        lambda line: progress("train", line["step"], job.training.steps),
    )
    return job.predictor(str(trained.model), slot.source)


def _runner(job: ColdJob, source: str) -> RunnerConfig:
    """The runner, with what it says of the predictor said of the new specialist."""
    changed = {}
    for option in ("workers", "threads"):
        told = getattr(job.runner, option)
        if job.predictor_name in told:
            changed[option] = {**told, source: told[job.predictor_name]}
    return job.runner.model_copy(update=changed)


def _add_rows(job: ColdJob, slot: Slot, predictions: Location, progress: Progress) -> None:
    version = _begin(job, slot)
    spec = ColdSpec(
        target=Target(
            job.output,
            slot.name,
            scratch_folder(job.output),
            pixels=False,
            views=version.views,
        ),
        parent=slot.parent,
        predictions=predictions,
        round=round_of(version),
        rules=tuple(job.rules),
        seed=job.seed,
    )
    shards = sorted(dataset.Markers(job.output, slot.parent).load())
    markers = dataset.Markers(job.output, slot.name)
    done = markers.load()
    totals = dataset.totals_of(job.output, slot.name)
    raise_alarm(totals.rules, job.rules)  # which stopped it before, and nobody has lifted it
    with open_tasks(job.runner) as tasks:
        todo = [shard for shard in shards if shard not in done]
        for number, (_, marker) in enumerate(tasks(add_shard, spec, todo), start=len(done) + 1):
            markers.add(marker)
            totals.add(marker)
            progress("annotated", number, len(shards))
            raise_alarm(totals.rules, job.rules)
    markers.save()
    put_version(job.output, slot.name, replace(version, finished=True))


def _begin(job: ColdJob, slot: Slot) -> Version:
    """Notes the version, unfinished."""
    _, parent = find_version(job.output, slot.parent)
    version = Version(
        parent=slot.parent,
        made_by=MADE_BY,
        levels=[*(parent.levels or [[]]), [slot.source]],
        replacing=parent.replacing,
        rules=list(job.rule_options),
        seed=job.seed,
        pixels=False,
        views=parent.views,
        decisions=parent.decisions,
        finished=False,
    )
    put_version(job.output, slot.name, version)
    return version


def _count_rows(output: Location, slot: Slot) -> dict[str, int]:
    found: dict[str, int] = {}
    for name, number in dataset.totals_of(output, slot.name).annotations.items():
        source, _, _, status = name.rsplit("/", 3)
        if source == slot.source:
            found[status] = found.get(status, 0) + number
    return found


def _count_failed(predictions: Location, source: str) -> int:
    if not predictions.exists(dataset.DATASET):
        return 0
    failures = dataset.totals_of(predictions, dataset.FIRST).failures
    return sum(number for name, number in failures.items() if name.startswith(f"{source}/"))
