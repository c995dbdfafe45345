"""Rounds of refinement, until they are through, gain too little, or one is rolled back."""

import logging
import re
from dataclasses import replace

from engine.errors import ConfigError
from engine.job import Observer
from engine.judge import check_needs
from engine.lease import Lease, kept_alive
from engine.output import remove_leftovers
from engine.versions import find_version, read_versions
from refinement.one_round import Rounding, measures, num_kept, train_model
from refinement.options import RefineOptions
from refinement.pairs.writer import write_pairs
from refinement.refine_job import Progress, RefineJob
from refinement.series import ROUNDS, Round, Series, open_series

_log = logging.getLogger(__name__)
_ROUND = re.compile(r"round-(\d+)")


def refine(job: RefineJob, observer: Observer, progress: Progress = lambda *_: None) -> Series:
    """Runs rounds until they are through, gain too little, or one is rolled back.

    Raises:
        ConfigError: Something is missing or wrong: nothing was changed.
        StoppedError: An alarm, a full disk, a signal: the same call resumes.
    """
    check_needs(job.rules)
    with Lease.take(job.output) as lease, kept_alive(lease):
        remove_leftovers(job.output)
        series = open_series(job.output, job.identity, _first_number(job))
        if not series.rounds:
            series = series.with_round(_start(job))
        series = replace(series, ended=_end(series, job.options))
        if series.ended is None:
            _check_current(job, series)
        series.save(job.output)
        while series.ended is None:
            made = Rounding(job, series, observer, progress).run()
            series = series.with_round(made)
            series = replace(series, ended=_end(series, job.options), model=None)
            _tell(made)
            series.save(job.output)
        if series.model is None:
            series = replace(series, model=_deliverable(job, series, progress))
            series.save(job.output)
        return series


def _first_number(job: RefineJob) -> int:
    """Of the first round of a new series: what a round left behind is never taken for another's."""
    versions, _ = read_versions(job.output)
    names = [*versions, *(path.name for path in job.folder.glob("round-*"))]
    numbers = (_ROUND.match(name) for name in names)
    return 1 + max((int(found[1]) for found in numbers if found), default=0)


def _check_current(job: RefineJob, series: Series) -> None:
    """Refuses to go on from labels that are not those one sees."""
    _, current = read_versions(job.output)
    # a round that was killed at its very end has moved on already
    if current not in (series.last.version, f"round-{series.next_number}"):
        raise ConfigError(
            f"{job.output.uri}: the current label version is {current!r}, and the rounds would go "
            f"on from {series.last.version!r}; make that one current (`fld filter --undo`), or "
            f"move {ROUNDS} away to start from {current!r}"
        )


def _start(job: RefineJob) -> Round:
    """The labels as they are."""
    name, _ = find_version(job.output, None)
    return Round(
        round=0,
        version=name,
        reason="starting labels",
        kept=num_kept(job.output, name),
        **measures(job.gold.measure(job.output, name) if job.gold else None),
    )


def _end(series: Series, options: RefineOptions) -> str | None:
    """Why there is no further round; null where there is one."""
    *_, last = series.rounds
    if not last.accepted:
        return f"round {last.round} was rolled back: {last.reason}"
    if len(series.rounds) > options.rounds:
        return f"{options.rounds} round{'s' if options.rounds > 1 else ''}, as asked"
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
    folder = job.folder / f"round-{last.round}"
    pairs = folder / "full-pairs"
    write_pairs(
        job.output,
        last.version,
        job.pairs,
        pairs,
        runner=job.runner,
        seed=job.seed,
        gold=job.gold_sources,
        progress=progress,
    )
    ancestor = str(folder / "fold-0/model")
    return str(train_model(job, pairs, folder / "full", ancestor, None, progress).model)
