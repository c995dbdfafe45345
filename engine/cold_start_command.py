"""`fld refine --cold-start`: from a config and a small set of labels to a new kind of rows."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from engine import dataset
from engine.compose import compose, make_specialist
from engine.config import Config, build
from engine.errors import ConfigError
from engine.job import Observer
from engine.judge import RuleEntry
from engine.label_commands import Lines, place_of
from engine.protocols import Specialist
from engine.refilter import global_rules
from engine.refine_commands import is_dataset, pair_options, train_options, work_folder
from engine.run import annotate, open_output
from engine.source.shapes import Location
from engine.versions import find_version
from refinement.cold_start.gold import GoldSet
from refinement.cold_start.start import ColdJob, ColdStarted, cold_start, refined_checkpoint
from refinement.cold_start.tasks import find_cold_task, short_name
from refinement.options import RefineOptions
from refinement.training.start import check_start

_KIND = "florence2"


def run_cold_start(
    config: Config,
    kind_of_rows: str,
    gold_uri: str,
    observer: Observer,
    out: Console,
    *,
    images: str | None = None,
) -> ColdStarted:
    """Teaches the refined checkpoint a new kind of annotation, and annotates a dataset with it.

    Args:
        config: As of `fld refine`.
        kind_of_rows: A role or a task, see `refinement.cold_start.tasks`.
        gold_uri: Labels of that kind, in any format; they are learned from.
        observer: Told of the run that annotates.
        out: Where words go.
        images: The pictures of those labels; null: they are among those of the dataset.

    Raises:
        ConfigError: Something is missing or wrong.
        TrainingError: The training diverged.
        StoppedError: It ended early; the same call resumes.
    """
    task = find_cold_task(kind_of_rows)
    options = build(RefineOptions, config.refine, "refine")
    pairs, training = pair_options(options), train_options(options)
    if training is None:
        raise ConfigError(
            "refine.train is null, and a cold start trains; say how, such as "
            "'refine.train={steps: 500}'"
        )
    entry = _entry(options, task.name)
    _make(entry, "untrained", f"cold_{short_name(task)}")  # a typing error must show now
    _refuse_measure(config, gold_uri)
    output = _place(config)
    _refuse_itself(output, gold_uri)
    folder = work_folder(options.folder, output)
    gold = GoldSet(uri=gold_uri, images=images, limits=config.limits)
    model = refined_checkpoint(output, config.model)
    digest, revision = gold.digest(), check_start(model, None).revision
    if not is_dataset(config):
        annotate(compose(config), observer)
    rules, rule_options, skipped = _rules(config, output)
    identity = {
        "task": task.name,
        "gold": {"digest": digest, "images": images},
        "model": revision,
        "pairs": {name: value for name, value in pairs.identity().items() if name != "tasks"},
        "train": training.identity(),
        **_lasting(config, entry, rule_options if config.rules else []),
    }
    out.print(f"{gold_uri} is learned from here, and measures nothing", soft_wrap=True)
    found = cold_start(
        ColdJob(
            output=output,
            folder=folder,
            task=task,
            gold=gold,
            model=model,
            pairs=pairs,
            training=training,
            predictor=lambda trained, name: _make(entry, trained, name),
            predictor_name=str(options.predictor.get("name", options.predictor.get("kind"))),
            rules=rules,
            rule_options=rule_options,
            identity=json.loads(json.dumps(identity, default=str)),
            runner=config.runner,
            limits=config.limits,
            seed=config.seed,
        ),
        observer,
        Lines(""),
    )
    _say(found, skipped, out)
    return found


def _place(config: Config) -> Location:
    """Where the dataset is, or will be once the source is annotated."""
    if not is_dataset(config):
        return open_output(compose(config).config)
    if config.specialists:
        raise ConfigError(
            "specialists: source is a dataset, to which a cold start adds one; `fld annotate` it "
            "with more specialists first, or take them out"
        )
    output = place_of(config.source)
    name, _ = find_version(output, None)
    if config.source.version not in (None, name):
        raise ConfigError(
            f"source.version is {config.source.version!r}: a cold start adds to the current "
            f"version, {name!r}; take it out, or `fld filter --undo` first"
        )
    return output


def _lasting(
    config: Config, entry: dict[str, Any], rules: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What of specialist and rules changes a row: who lifts an alarm goes on with the same work."""
    said = config.model_copy(update={"specialists": [entry], "rules": list(rules)}).identity()
    return {name: said[name] for name in ("specialists", "rules", "seed")}


def _entry(options: RefineOptions, task: str) -> dict[str, Any]:
    """The new specialist as a config would name it: as the predictor, where that is one."""
    given = dict(options.predictor) if options.predictor.get("kind") == _KIND else {"kind": _KIND}
    return {**given, "tasks": [task]}


def _make(entry: Mapping[str, Any], model: str, name: str) -> Specialist:
    return make_specialist({**entry, "model": model, "name": name}, "refine.predictor")


def _refuse_measure(config: Config, gold_uri: str) -> None:
    """What measures rounds must not be learned from."""
    if config.gold is not None and _same_place(config.gold.uri, gold_uri):
        raise ConfigError(
            f"{gold_uri}: is `gold` of the config, which measures and never trains; give other "
            "labels to start cold from"
        )


def _refuse_itself(output: Location, gold_uri: str) -> None:
    if _same_place(output.uri, gold_uri):
        raise ConfigError(
            f"{gold_uri}: is the dataset that is to be annotated; give a set of the new kind"
        )


def _same_place(one: str, other: str) -> bool:
    def plain(uri: str) -> str:
        path = uri.removeprefix("file://")
        return path.rstrip("/") if "://" in path else str(Path(path).expanduser().resolve())

    return plain(one) == plain(other)


def _rules(
    config: Config, output: Location
) -> tuple[Sequence[RuleEntry], list[dict[str, Any]], list[str]]:
    """The rules for the new rows, those of the version as plain data, and names of those left out.

    Without rules in the config they are those of the current version. What must have seen the whole
    dataset has no say on rows that are not there yet; its verdicts on the others stay.
    """
    rules = config.rules
    if not rules:
        _, version = find_version(output, None)
        stored = dataset.read_dataset(output)["identity"]["rules"]
        rules = [dict(rule) for rule in version.rules or stored]
    job = compose(config.model_copy(update={"rules": rules, "specialists": []}))
    skipped = global_rules(job.rules)
    if config.rules and skipped:
        raise ConfigError(
            f"rules: {skipped[0].rule.name!r} must have seen the whole dataset; leave it out here, "
            "and `fld filter` the dataset with it afterwards"
        )
    judging = [entry for entry in job.rules if entry not in skipped]
    return judging, job.config.rules, [entry.rule.name for entry in skipped]


def _say(found: ColdStarted, skipped: Sequence[str], out: Console) -> None:
    if found.lost:
        out.print(f"note: {found.lost:,} images of the labels could not be used whole")
    if found.failed:
        out.print(
            f"note: no answer on {found.failed:,} images; `fld failures {found.predictions}`",
            soft_wrap=True,
        )
    if skipped:
        out.print(
            f"note: not judged by {', '.join(skipped)}, which must see the whole dataset; "
            "`fld filter` it",
            soft_wrap=True,
        )
    rows, kept = sum(found.rows.values()), found.rows.get("kept", 0)
    told = f"{found.source} said {rows:,} rows, {kept:,} of them kept"
    if found.is_current:
        told += (
            f"; {found.version} is the current version, made from {found.parent}; `fld filter "
            "--undo` goes back"
        )
    else:
        told += f"; {found.parent} stays the current version"
    out.print(told, soft_wrap=True)
