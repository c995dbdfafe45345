"""One round: pairs, train, predict, relabel, filter, measure, accept or roll back.

Every step leaves files that say it is done, so the same call goes on where the last one died.
"""

import json
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from itertools import chain
from pathlib import Path
from typing import Any

from engine import dataset
from engine.crew import open_tasks, scratch_folder
from engine.job import Observer
from engine.judge import raise_alarm
from engine.output import remove_leftovers
from engine.protocols import Specialist
from engine.rejudge import Replay, round_name
from engine.schema import ROLES
from engine.sink import Target
from engine.source.filesystem import open_location
from engine.source.shapes import Location
from engine.versions import Version, find_version, put_version, read_versions
from refinement.acceptance import judge_round
from refinement.calibrate import Calibration
from refinement.calibrating import fit_to
from refinement.folded import Folded
from refinement.gold import Quality
from refinement.pairs.writer import write_pairs
from refinement.predict import predict
from refinement.refine_job import WORK, Progress, RefineJob
from refinement.relabelling import RelabelSpec, Tally, read_tally, relabel_shard
from refinement.series import Round, Series
from refinement.training.checkpoints import write_json
from refinement.training.train import Trained, TrainJob, train
from refinement.untrained.init import init_model
from refinement.untrained.presets import find_preset
from refinement.untrained.tokenizer import dataset_texts, train_tokenizer


def learn_words(output: Location, version: str, preset: str, vocabulary_size: int | None) -> Any:
    """A tokenizer of the texts a label version keeps.

    Raises:
        ConfigError: There is no such preset, or too few words are allowed.
    """
    size = vocabulary_size or find_preset(preset).vocabulary_size
    return train_tokenizer(dataset_texts(output, version), size)


def measures(quality: Quality | None) -> dict[str, Any]:
    """Of a `Round`; nothing without gold."""
    if quality is None:
        return {}
    return {
        "f1": quality.f1,
        "precision": quality.precision,
        "recall": quality.recall,
        "family": quality.family,
    }


def num_kept(output: Location, version: str) -> int:
    """Rows a label version keeps."""
    counts = dataset.totals_of(output, version).annotations
    return sum(count for name, count in counts.items() if name.endswith("/kept"))


def train_model(
    job: RefineJob,
    pairs: Path,
    folder: Path,
    model: str | None,
    without_fold: tuple[int, int] | None,
    progress: Progress,
) -> Trained:
    """Trains a checkpoint on pairs; returns at once where that is done.

    Args:
        job: What is refined.
        pairs: Folder of the pairs.
        folder: Where the training goes.
        model: The checkpoint to start from.
        without_fold: Number of folds and one of them, whose images are not learnt; null: all are.
        progress: Told of every line of its log.
    """
    training = job.training
    assert training is not None
    assert model is not None  # a job that trains has one, or the options of an untrained one
    return train(
        TrainJob(
            model=model,
            pairs=pairs,
            output=job.output,
            folder=folder,
            options=training,
            weights=job.pairs.tasks,
            without_fold=without_fold,
            seed=job.seed,
            runner=job.runner,
        ),
        lambda line: progress("train", line["step"], training.steps),
    )


class Rounding:
    """One round, from its number to what it came to."""

    def __init__(
        self, job: RefineJob, series: Series, observer: Observer, progress: Progress
    ) -> None:
        self.job = job
        self.series = series
        self.observer = observer
        self.progress = progress
        self.before = series.rounds[-1]
        self.number = series.next_number
        self.name = f"round-{self.number}"
        self.folder = job.folder / self.name
        self._cost_file = self.folder / "cost.json"
        self.cost: dict[str, float] = {}
        if self._cost_file.is_file():
            self.cost = json.loads(self._cost_file.read_text(encoding="utf-8"))

    def run(self) -> Round:
        """All steps; each returns at once where it is done already."""
        models = self._models()
        predictor = self._predictor(models)
        predictions = open_location(str(self.folder / "predictions"))
        with self._timed("predict"):
            predict(
                self.job.output,
                self.before.version,
                predictor,
                predictions,
                runner=self.job.runner,
                limits=self.job.limits,
                seed=self.job.seed,
                observer=self.observer,
            )
        spec = self._spec(predictions, predictor)
        with self._timed("relabel"):
            came = self._relabel(spec)
        with self._timed("measure"):
            quality = self._measure()
        made = Round(
            round=self.number,
            version=self.name,
            agreement=came.agreement,
            outcomes=dict(sorted(came.outcomes.items())),
            kept=num_kept(self.job.output, self.name),
            model=models[0] if models else predictor.model,
            cost=self.cost,
            **measures(quality),
        )
        accepted, reason = judge_round(self.before, made, self.job.options)
        if accepted:
            _, version = find_version(self.job.output, self.name)
            put_version(self.job.output, self.name, version, current=True)
        return replace(made, accepted=accepted, reason=reason)

    def _models(self) -> list[str]:
        """A checkpoint for each fold, trained where the config says so."""
        job, options = self.job, self.job.options
        if job.training is None:
            return []
        with self._timed("pairs"):
            write_pairs(
                job.output,
                self.before.version,
                job.pairs,
                self.folder / "pairs",
                runner=job.runner,
                seed=job.seed,
                gold=job.gold_sources,
                progress=self.progress,
            )
        trained = []
        for fold in range(options.folds):
            left_out = (options.folds, fold) if options.folds > 1 else None
            trained.append(
                train_model(
                    job,
                    self.folder / "pairs",
                    self.folder / f"fold-{fold}",
                    self._ancestor(fold),
                    left_out,
                    self.progress,
                )
            )
        # a training keeps its own clock, which no kill sets back
        self._note_cost("train", sum(each.seconds for each in trained))
        return [str(each.model) for each in trained]

    def _ancestor(self, fold: int) -> str | None:
        """The checkpoint a fold's model starts from: that of the same fold, one round before.

        A model of another fold has seen the labels of this one.
        """
        if self.before.round == 0:
            return self._first()
        return str(self.job.folder / f"round-{self.before.round}" / f"fold-{fold}" / "model")

    def _first(self) -> str | None:
        """The checkpoint of the config, or an untrained one made for this dataset."""
        init = self.job.init
        if self.job.model is not None or init is None:
            return self.job.model
        folder = self.folder / "untrained"
        if not (folder / "config.json").is_file():
            version = self.series.rounds[0].version
            words = learn_words(self.job.output, version, init.preset, init.vocabulary_size)
            init_model(
                folder,
                preset=init.preset,
                tokenizer=words,
                image_size=init.image_size,
                seed=self.job.seed,
            )
        return str(folder)

    def _predictor(self, models: Sequence[str]) -> Specialist:
        made = [self.job.predictor(model) for model in models]
        made = made or [self.job.predictor(self.job.model)]
        return made[0] if len(made) == 1 else Folded(specialists=made, seed=self.job.seed)

    def _spec(self, predictions: Location, predictor: Specialist) -> RelabelSpec:
        job, level = self.job, round_name(predictor.name, self.number)
        versions, _ = read_versions(job.output)
        parent = versions[self.before.version]
        version = Version(
            parent=self.before.version,
            made_by=self.name,
            # where nobody said levels, all rows are of the first
            levels=[*(parent.levels or [[]]), [level]],
            # what corrects a label is never worse than nothing: it must be kept itself
            replacing={**parent.replacing, level: "kept"},
            rules=list(job.rule_options),
            seed=job.seed,
            pixels=False,
            finished=False,
        )
        if not versions.get(self.name, version).finished:
            put_version(job.output, self.name, version)
        return RelabelSpec(
            target=Target(job.output, self.name, scratch_folder(job.output), pixels=False),
            parent=self.before.version,
            predictions=predictions,
            predictor=predictor.name,
            tasks=pairs_of(predictor.produces),
            policy=job.policy,
            number=self.number,
            replay=Replay(
                levels=version.levels,
                replacing=version.replacing,
                rules=tuple(job.rules),
                seed=job.seed,
            ),
            ledger=f"{WORK}/{self.name}/ledger",
            calibration=self._calibration(predictions),
        )

    def _calibration(self, predictions: Location) -> Calibration | None:
        against = self.job.options.calibrate
        if against is None:
            return None
        gold = self.job.gold.half("calibrating") if against == "gold" and self.job.gold else None
        found = fit_to(self.job.output, self.before.version, predictions, gold)
        if found is None:
            return None
        self.folder.joinpath("calibration.json").write_text(found.to_json(), encoding="utf-8")
        return found

    def _relabel(self, spec: RelabelSpec) -> Tally:
        job = self.job
        remove_leftovers(open_location(str(self.folder)))
        planned = int(dataset.read_dataset(job.output)["shards"])
        markers = dataset.Markers(job.output, self.name)
        done = markers.load()
        came = Tally()
        for shard in done:
            came.add(read_tally(spec, shard))
        totals = dataset.totals_of(job.output, self.name)
        raise_alarm(totals.rules, job.rules)  # which stopped it before, and nobody has lifted it
        todo = [shard for shard in range(planned) if shard not in done]
        with open_tasks(job.runner) as tasks:
            results = tasks(relabel_shard, spec, todo)
            for number, (_, (marker, found)) in enumerate(results, start=len(done) + 1):
                markers.add(marker)
                totals.add(marker)
                came.add(found)
                self.progress("relabel", number, planned)
                raise_alarm(totals.rules, job.rules)
        markers.save()
        versions, _ = read_versions(job.output)
        put_version(job.output, self.name, replace(versions[self.name], finished=True))
        return came

    def _measure(self) -> Quality | None:
        return self.job.gold.measure(self.job.output, self.name) if self.job.gold else None

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        """Adds to the seconds of a step; what a killed process spent in it is not known."""
        start = time.monotonic()
        try:
            yield
        finally:
            with suppress(OSError):  # a full disk is told of by the step that met it
                self._note_cost(step, self.cost.get(step, 0.0) + time.monotonic() - start)

    def _note_cost(self, step: str, seconds: float) -> None:
        self.cost[step] = round(seconds, 1)
        self.folder.mkdir(parents=True, exist_ok=True)
        write_json(self._cost_file, self.cost)


def pairs_of(produces: Sequence[str]) -> tuple[str, ...]:
    """What a specialist produces as `kind/role`, each role of a kind that is named alone."""
    found = [
        [name] if "/" in name else [f"{name}/{role}" for role in ROLES[name]] for name in produces
    ]
    return tuple(chain.from_iterable(found))
