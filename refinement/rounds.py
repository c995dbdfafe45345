"""Rounds of refinement: pairs, train, predict, relabel, filter, measure, accept or roll back.

Every step leaves files that say it is done, so the same call goes on where the last one died.
"""

import logging
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import chain
from pathlib import Path
from typing import Any, Protocol

from engine import dataset
from engine.config import LimitsConfig, RunnerConfig
from engine.crew import open_tasks, scratch_folder
from engine.errors import ConfigError
from engine.job import Observer
from engine.judge import RuleEntry, check_needs, raise_alarm
from engine.lease import Lease, kept_alive
from engine.output import remove_leftovers
from engine.protocols import Specialist
from engine.rejudge import Replay, round_name
from engine.schema import ROLES
from engine.sink import Target
from engine.source.filesystem import open_location
from engine.source.shapes import Location
from engine.versions import Version, find_version, put_version, read_versions
from refinement.calibrate import Calibration
from refinement.calibrating import fit_to
from refinement.decisions import Policy
from refinement.folded import Folded
from refinement.gold import Gold, Quality
from refinement.init import init_model
from refinement.options import RefineOptions
from refinement.pair_options import PairOptions
from refinement.pair_writer import write_pairs
from refinement.predict import predict
from refinement.presets import find_preset
from refinement.relabelling import RelabelSpec, read_outcomes, relabel_shard
from refinement.series import Round, Series, open_series
from refinement.tokenizer import dataset_texts, train_tokenizer
from refinement.train import TrainJob, train
from refinement.train_options import TrainOptions

_log = logging.getLogger(__name__)
WORK = "_refine"  # in the dataset: pairs, models, predictions and outcomes of each round


class Progress(Protocol):
    """Told of every step."""

    def __call__(self, done: str, number: int, total: int, /) -> None:
        """What is done of a step: shards, training steps."""


class MakePredictor(Protocol):
    """Builds the predictor over a model."""

    def __call__(self, model: str | None) -> Specialist:
        """Null: the model its own options name."""


@dataclass(frozen=True, kw_only=True)
class InitOptions:
    """An untrained checkpoint for a dataset; see `refinement.presets`.

    Attributes:
        preset: Its sizes.
        vocabulary_size: Most words of its tokenizer; null: the preset's.
        image_size: Side of the pictures it sees, pixels; null: the preset's.
    """

    preset: str = "tiny"
    vocabulary_size: int | None = None
    image_size: int | None = None


def learn_words(output: Location, version: str, preset: str, vocabulary_size: int | None) -> Any:
    """A tokenizer of the texts a label version keeps.

    Raises:
        ConfigError: There is no such preset, or too few words are allowed.
    """
    size = vocabulary_size or find_preset(preset).vocabulary_size
    return train_tokenizer(dataset_texts(output, version), size)


@dataclass(frozen=True, kw_only=True)
class RefineJob:
    """What to refine, and how; everything is built and checked.

    Attributes:
        output: The dataset.
        folder: A local folder for pairs, models and predictions.
        model: The checkpoint the first round starts from: a hub id or a folder.
        init: Makes one where `model` is null.
        options: Of the refinement.
        policy: What becomes of a disagreement.
        pairs: What is trained on.
        training: How; null: nothing is trained.
        predictor: Makes it.
        rules: Judge each round, in order.
        rule_options: The same as plain data, for dataset.json.
        gold: Measures; null: agreement decides.
        gold_sources: Sources whose rows never train.
        identity: Everything that changes a label, as plain data.
        runner: Where all this runs.
        limits: What is refused as an image.
        seed: Of everything drawn.
    """

    output: Location
    folder: Path
    model: str | None
    init: InitOptions | None = None
    options: RefineOptions
    policy: Policy
    pairs: PairOptions
    training: TrainOptions | None
    predictor: MakePredictor
    rules: Sequence[RuleEntry]
    rule_options: Sequence[dict[str, Any]]
    gold: Gold | None
    gold_sources: Sequence[str] = ()
    identity: Mapping[str, Any]
    runner: RunnerConfig = field(default_factory=RunnerConfig)
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    seed: int = 0


def refine(job: RefineJob, observer: Observer, progress: Progress = lambda *_: None) -> Series:
    """Runs rounds until they are through, gain too little, or one is rolled back.

    Raises:
        ConfigError: Something is missing or wrong: nothing was changed.
        StoppedError: An alarm, a full disk, a signal: the same call resumes.
    """
    check_needs(job.rules)
    with Lease.take(job.output) as lease, kept_alive(lease):
        remove_leftovers(job.output)
        series = open_series(job.output, job.identity)
        if not series.rounds:
            series = series.with_round(_start(job))
        series = replace(series, ended=_end(series, job.options))
        series.save(job.output)
        while series.ended is None:
            made = _Rounding(job, series, observer, progress).run()
            series = series.with_round(made)
            series = replace(series, ended=_end(series, job.options))
            _tell(made)
            series.save(job.output)
        if series.model is None:
            series = replace(series, model=_deliverable(job, series, progress))
            series.save(job.output)
        return series


def _start(job: RefineJob) -> Round:
    """The labels as they are."""
    name, _ = find_version(job.output, None)
    return Round(
        round=0,
        version=name,
        reason="starting labels",
        kept=_kept(job.output, name),
        **_measures(job.gold.measure(job.output, name) if job.gold else None),
    )


def _measures(quality: Quality | None) -> dict[str, Any]:
    if quality is None:
        return {}
    return {
        "f1": quality.f1,
        "precision": quality.precision,
        "recall": quality.recall,
        "family": quality.family,
    }


def _kept(output: Location, version: str) -> int:
    counts = dataset.totals_of(output, version).annotations
    return sum(count for name, count in counts.items() if name.endswith("/kept"))


def _end(series: Series, options: RefineOptions) -> str | None:
    """Why there is no further round; null where there is one."""
    *_, last = series.rounds
    if not last.accepted:
        return f"round {last.round} was rolled back: {last.reason}"
    if len(series.rounds) > options.rounds:
        return f"{options.rounds} rounds, as asked"
    if len(series.rounds) > 1:
        gain = _gain(series.rounds[-2], last)
        if gain is not None and gain < options.min_gain:
            return f"round {last.round} gained {gain:.4f}, less than min_gain {options.min_gain}"
    return None


def _gain(before: Round, after: Round) -> float | None:
    if before.quality is None or after.quality is None:
        return None
    return after.quality - before.quality


def _tell(made: Round) -> None:
    verdict = "accepted" if made.accepted else "rolled back"
    _log.info("round %s (%s): %s, %s", made.round, made.version, verdict, made.reason)


def _deliverable(job: RefineJob, series: Series, progress: Progress) -> str | None:
    """The checkpoint of the refined labels: with folds, a fit to all of them.

    Without folds the model of the last accepted round has seen all images already.
    """
    last = series.last
    if job.training is None or last.round == 0:
        return None
    if job.options.folds == 1:
        return last.model
    folder = job.folder / f"round-{last.round}" / "full"
    write_pairs(
        job.output,
        last.version,
        job.pairs,
        folder / "pairs",
        runner=job.runner,
        seed=job.seed,
        gold=job.gold_sources,
        progress=progress,
    )
    start = str(job.folder / f"round-{last.round}" / "fold-0" / "model")
    return _train(job, folder / "pairs", folder / "model", start, None, progress)


def _train(
    job: RefineJob,
    pairs: Path,
    folder: Path,
    model: str | None,
    without_fold: tuple[int, int] | None,
    progress: Progress,
) -> str:
    training = job.training
    assert training is not None
    if model is None:
        raise ConfigError("model is missing: name the checkpoint to train, a hub id or a folder")
    trained = train(
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
    return str(trained.model)


class _Rounding:
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
        self.cost: dict[str, float] = {}

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
            outcomes = self._relabel(spec)
        with self._timed("measure"):
            quality = self._measure()
        made = Round(
            round=self.number,
            version=self.name,
            agreement=agreement(outcomes),
            outcomes=dict(sorted(outcomes.items())),
            kept=_kept(self.job.output, self.name),
            model=models[0] if models else self.job.model,
            cost=self.cost,
            **_measures(quality),
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
        models = []
        with self._timed("train"):
            for fold in range(options.folds):
                left_out = (options.folds, fold) if options.folds > 1 else None
                models.append(
                    _train(
                        job,
                        self.folder / "pairs",
                        self.folder / f"fold-{fold}",
                        self._ancestor(fold),
                        left_out,
                        self.progress,
                    )
                )
        return models

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
        folder = self.job.folder / "untrained"
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
            levels=[*parent.levels, [level]],
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
        self.folder.joinpath("calibration.json").write_text(found.to_json(), encoding="utf-8")
        return found

    def _relabel(self, spec: RelabelSpec) -> Counter[str]:
        job = self.job
        planned = int(dataset.read_dataset(job.output)["shards"])
        markers = dataset.Markers(job.output, self.name)
        done = markers.load()
        outcomes: Counter[str] = Counter()
        for shard in done:
            outcomes += read_outcomes(spec, shard)
        totals = dataset.totals_of(job.output, self.name)
        todo = [shard for shard in range(planned) if shard not in done]
        with open_tasks(job.runner) as tasks:
            results = tasks(relabel_shard, spec, todo)
            for number, (_, (marker, found)) in enumerate(results, start=len(done) + 1):
                markers.add(marker)
                totals.add(marker)
                outcomes.update(found)
                self.progress("relabel", number, planned)
                raise_alarm(totals.rules, job.rules)
        markers.save()
        versions, _ = read_versions(job.output)
        put_version(job.output, self.name, replace(versions[self.name], finished=True))
        return outcomes

    def _measure(self) -> Quality | None:
        return self.job.gold.measure(self.job.output, self.name) if self.job.gold else None

    @contextmanager
    def _timed(self, step: str) -> Iterator[None]:
        """Seconds of a step; of one that was resumed, those of the last part."""
        start = time.monotonic()
        yield
        self.cost[step] = round(time.monotonic() - start, 1)


def pairs_of(produces: Sequence[str]) -> tuple[str, ...]:
    """What a specialist produces as `kind/role`, each role of a kind that is named alone."""
    found = [
        [name] if "/" in name else [f"{name}/{role}" for role in ROLES[name]] for name in produces
    ]
    return tuple(chain.from_iterable(found))


def agreement(outcomes: Mapping[str, int]) -> float | None:
    """Share of the labels the model spoke of that it confirmed, 0 to 1; null where of none."""
    spoken = sum(count for name, count in outcomes.items() if name != "added")
    return outcomes.get("confirmed", 0) / spoken if spoken else None


def judge_round(before: Round, made: Round, options: RefineOptions) -> tuple[bool, str]:
    """Whether a round's labels are better than those before it, and why.

    With gold, F1 must not fall. Without, the model must agree with a share of the labels: one that
    knows nothing of the images agrees with next to none of them; and it must not agree with fewer
    than the model of the round before.
    """
    if made.f1 is not None and before.f1 is not None:
        change = f"F1 {before.f1:.4f} -> {made.f1:.4f}"
        return (made.f1 >= before.f1, change if made.f1 >= before.f1 else f"{change}: it fell")
    if made.agreement is None:
        return False, "the model said nothing of any label"
    told = f"without gold: {made.agreement:.1%} of the labels confirmed"
    if made.agreement < options.min_agreement:
        return False, f"{told}, min_agreement is {options.min_agreement:.1%}"
    if before.agreement is not None and made.agreement < before.agreement:
        return False, f"{told}, {before.agreement:.1%} in the round before"
    return True, told
