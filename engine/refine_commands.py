"""`fld train`, `fld model`, `fld refine`, `fld rounds`: from a config to the work and its words."""

import dataclasses
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console

from engine import dataset
from engine.compose import compose, make_specialist
from engine.config import Config, build, nearest
from engine.errors import ConfigError
from engine.job import Observer
from engine.judge import RuleEntry
from engine.label_commands import Lines, open_truth, place_of
from engine.output import local_path
from engine.protocols import Specialist
from engine.run import annotate, open_output
from engine.source.filesystem import open_location
from engine.source.shapes import Location
from engine.versions import find_version
from refinement.decisions import Policy
from refinement.gold import Gold
from refinement.one_round import learn_words
from refinement.options import RefineOptions
from refinement.pairs.options import PairOptions
from refinement.pairs.writer import write_pairs
from refinement.policies import POLICIES
from refinement.refine_job import WORK, InitOptions, MakePredictor, RefineJob
from refinement.rounds import refine
from refinement.rounds_table import rounds_table
from refinement.series import Series, read_series
from refinement.training.options import TrainOptions
from refinement.training.start import check_start
from refinement.training.train import Trained, TrainJob, train
from refinement.untrained.init import init_model
from refinement.untrained.presets import find_preset
from refinement.untrained.tokenizer import read_tokenizer

# What decides how long a series goes on, or where it works, and changes no label of a round.
_PATIENCE = ("rounds", "min_gain", "folder")


def run_refine(config: Config, observer: Observer, out: Console) -> Series:
    """Refines a dataset; where the source is none yet, it is annotated first.

    Raises:
        ConfigError: Something is missing or wrong.
        StoppedError: It ended early; the same call resumes.
    """
    options = build(RefineOptions, config.refine, "refine")
    # all is checked before anything runs: a typing error must not show after an hour of annotating
    predictor, training, pairs = (
        _predictor(config, options),
        train_options(options),
        pair_options(options),
    )
    policy, init = _policy(options), _init(config, options)
    output, rules, rule_options = _composed(config)
    gold = _gold(config, options, output)
    folder = work_folder(options.folder, output)
    if training is not None and config.model is not None:
        check_start(config.model, None)
    if training is None:
        predictor(config.model).prepare()
    if not is_dataset(config):
        annotate(compose(config), observer)
    series = refine(
        RefineJob(
            output=output,
            folder=folder,
            model=config.model,
            init=init,
            options=options,
            policy=policy,
            pairs=pairs,
            training=training,
            predictor=predictor,
            rules=rules,
            rule_options=rule_options,
            gold=gold,
            gold_sources=_gold_sources(config),
            identity=_identity(config, options, rule_options),
            runner=config.runner,
            limits=config.limits,
            seed=config.seed,
        ),
        observer,
        Lines(""),
    )
    show_rounds(output, out)
    return series


def run_train(config: Config, folder: Path, out: Console) -> Trained:
    """Trains a checkpoint on the kept labels of a dataset; the same call resumes.

    Raises:
        ConfigError: Something is missing or wrong.
        TrainingError: The training diverged.
        StoppedError: It ended early; the same call resumes.
    """
    options = build(RefineOptions, config.refine, "refine")
    training, pairs = train_options(options), pair_options(options)
    if training is None:
        raise ConfigError("refine.train is null: nothing is to be trained; leave it out")
    if config.model is None:
        raise ConfigError("model is missing: name the checkpoint to train, a hub id or a folder")
    output = place_of(config.source)
    version, _ = find_version(output, config.source.version)
    lines = Lines("shards")
    write_pairs(
        output,
        version,
        pairs,
        folder / "pairs",
        runner=config.runner,
        seed=config.seed,
        gold=_gold_sources(config),
        progress=lines,
    )
    steps = Lines("steps")
    trained = train(
        TrainJob(
            model=config.model,
            pairs=folder / "pairs",
            output=output,
            folder=folder,
            options=training,
            weights=pairs.tasks,
            seed=config.seed,
            runner=config.runner,
        ),
        lambda line: steps(f"loss {line['loss']:.4f},", line["step"], training.steps),
    )
    loss = "" if trained.loss is None else f", loss {trained.loss:.4f}"
    out.print(
        f"{trained.steps:,} steps in {trained.seconds:,.0f} s{loss}: {trained.reason}; the model "
        f"is {trained.model}, its losses are drawn in {folder / 'loss.png'}",
        soft_wrap=True,
    )
    return trained


def run_model_init(
    folder: Path,
    *,
    preset: str,
    dataset_uri: str | None,
    tokenizer: Path | None,
    vocabulary_size: int | None,
    image_size: int | None,
    seed: int,
) -> str:
    """Makes an untrained checkpoint; returns what to say of it.

    Raises:
        ConfigError: Both or neither of dataset and tokenizer are given, or one is none.
    """
    if (dataset_uri is None) == (tokenizer is None):
        raise ConfigError(
            "model init: give either --dataset, whose texts a tokenizer is trained on, or "
            "--tokenizer, a folder with a vocabulary"
        )
    if dataset_uri is not None:
        output = open_location(dataset_uri)
        version, _ = find_version(output, None)
        words = learn_words(output, version, preset, vocabulary_size)
    else:
        assert tokenizer is not None
        words = read_tokenizer(tokenizer)
    facts = init_model(folder, preset=preset, tokenizer=words, image_size=image_size, seed=seed)
    return (
        f"wrote {folder}: {facts.parameters:,} parameters, {facts.vocabulary:,} words, pictures of "
        f"{facts.image_size} px as {facts.image_tokens} tokens; nothing is trained yet"
    )


def show_rounds(output: Location, out: Console) -> None:
    """Prints the table of rounds and draws it.

    Raises:
        ConfigError: The dataset has no rounds.
    """
    series = read_series(output)
    if series is None:
        raise ConfigError(f"{output.uri}: has no rounds yet; `fld refine` makes them")
    out.print(rounds_table(series))
    local = local_path(output, "_run/rounds.png")
    if local is not None:
        from refinement.rounds_plot import plot_rounds  # drawing is slow to load

        plot_rounds(series, local)
        out.print(f"drawn in {local}", soft_wrap=True)


def is_dataset(config: Config) -> bool:
    """Whether the source is a dataset, to be refined as it is; what else is annotated first."""
    place = place_of(config.source)
    if config.source.uri != "synthetic" and place.exists(dataset.DATASET):
        return True
    if config.source.kind == "dataset":
        raise ConfigError(f"source.uri {config.source.uri}: no dataset.json there")
    return False


def _composed(config: Config) -> tuple[Location, Sequence[RuleEntry], Sequence[dict[str, Any]]]:
    """Where the dataset is or will be, and the rules that judge each round.

    Those are the config's, or where it has none those of the dataset as it is.
    """
    if not is_dataset(config):
        job = compose(config)
        output = open_output(job.config)
    elif config.specialists:
        raise ConfigError(
            "specialists: source is a dataset that is refined in place; `fld annotate` it with "
            "more specialists first, or take them out"
        )
    else:
        output, rules = place_of(config.source), config.rules
        name, version = find_version(output, None)
        if config.source.version not in (None, name):
            raise ConfigError(
                f"source.version is {config.source.version!r}: rounds go on from the current "
                f"version, {name!r}; take it out, or `fld filter --undo` first"
            )
        if not rules:
            stored = dataset.read_dataset(output)["identity"]["rules"]
            rules = [dict(rule) for rule in version.rules or stored]
        job = compose(config.model_copy(update={"rules": rules}))
    for entry in job.rules:
        if hasattr(entry.rule, "measure"):
            raise ConfigError(
                f"rules: {entry.rule.name!r} must have seen the whole dataset; leave it out here, "
                "and `fld filter` the refined dataset with it"
            )
    return output, job.rules, job.config.rules


def _identity(
    config: Config, options: RefineOptions, rules: Sequence[dict[str, Any]]
) -> dict[str, Any]:
    """What makes two refinements the same, as plain data; never how patient they are."""
    chosen = {k: v for k, v in dataclasses.asdict(options).items() if k not in _PATIENCE}
    entries = config.model_copy(
        update={"rules": list(rules), "specialists": [options.predictor]}
    ).identity()
    identity = {
        "model": config.model,
        "refine": {**chosen, "predictor": entries["specialists"][0]},
        "rules": entries["rules"],
        "gold": config.gold.model_dump(exclude_defaults=True) if config.gold else None,
        "seed": config.seed,
    }
    plain: dict[str, Any] = json.loads(json.dumps(identity, default=str))
    return plain


def _init(config: Config, options: RefineOptions) -> InitOptions | None:
    """What makes the first checkpoint, where the config asks for one.

    Raises:
        ConfigError: There is none to start from, or two.
    """
    if options.init and config.model is not None:
        raise ConfigError(
            f"refine.init: model is {config.model!r}, and a training starts from one checkpoint; "
            "take one of the two out"
        )
    if options.init:
        init = build(InitOptions, options.init, "refine.init")
        sizes = find_preset(init.preset)
        sizes.grid(sizes.image_size if init.image_size is None else init.image_size)
        return init
    if options.train is not None and config.model is None:
        raise ConfigError(
            "model is missing: name the checkpoint to train, a hub id or a folder, or set "
            "refine.init.preset=tiny to start from an untrained one"
        )
    return None


def _predictor(config: Config, options: RefineOptions) -> MakePredictor:
    """Makes the predictor over a model; checked once, now."""
    entry = dict(options.predictor)
    if not isinstance(entry.get("kind"), str):
        raise ConfigError("refine.predictor.kind is missing; `fld specialists` lists what there is")
    if entry.get("model") is not None and (config.model is not None or options.train is not None):
        other = (
            f"model is {config.model!r}" if options.train is None else "the trained one predicts"
        )
        raise ConfigError(
            f"refine.predictor.model is {entry['model']!r}, and {other}; take one of the two out"
        )

    def make(model: str | None) -> Specialist:
        given = {"model": model} if model is not None else {}
        made = make_specialist({**entry, **given}, "refine.predictor")
        # a model that says nothing is no reason to stop: its round is rolled back, with the reason
        made.quiet_limit = None
        return made

    make(None if options.train is None else "untrained")
    return make


def _policy(options: RefineOptions) -> Policy:
    if options.policy_name not in POLICIES:
        raise ConfigError(
            f"refine.policy {options.policy_name!r}: {nearest(options.policy_name, POLICIES)}"
        )
    policy: Policy = build(POLICIES[options.policy_name], options.policy_options, "refine.policy")
    return policy


def train_options(options: RefineOptions) -> TrainOptions | None:
    """How to train; null where nothing is trained."""
    if options.train is None:
        return None
    return build(TrainOptions, options.train, "refine.train")


def pair_options(options: RefineOptions) -> PairOptions:
    """What to train on."""
    return build(PairOptions, options.pairs, "refine.pairs")


def _gold_sources(config: Config) -> list[str]:
    """Sources of the dataset whose rows are gold: those that bear its name."""
    return [config.gold.name] if config.gold is not None and config.gold.name else []


def _gold(config: Config, options: RefineOptions, output: Location) -> Gold | None:
    if config.gold is None:
        if options.calibrate == "gold":
            raise ConfigError("refine.calibrate is gold, and there is no `gold`; give its uri")
        return None
    gold = config.gold
    if gold.uri != "synthetic" and _root(place_of(gold)) == _root(output):
        raise ConfigError(
            f"gold.uri {gold.uri}: is the dataset that is refined, whose labels train; gold never "
            "trains: give labels that somebody checked"
        )
    open_truth(gold, config)  # it is there, and readable
    return Gold(
        open=lambda: open_truth(gold, config),
        family=options.family,
        halved=options.calibrate == "gold",
        seed=config.seed,
    )


def _root(place: Location) -> str:
    """What is the same for all ways to name a place."""
    local = local_path(place, "")
    return str(local.resolve()) if local is not None else place.uri.rstrip("/")


def work_folder(asked: str | None, output: Location) -> Path:
    """Where pairs, checkpoints and predictions go, a local folder.

    Args:
        asked: The config's `refine.folder`.
        output: Where the dataset is or will be.

    Raises:
        ConfigError: The dataset is in a bucket and the config names none.
    """
    folder = local_path(output, WORK) if asked is None else Path(asked)
    if folder is None:
        raise ConfigError(
            f"refine.folder is missing: {output.uri} is a bucket, and a training needs files here; "
            "name a local folder for pairs, checkpoints and predictions, the same each time"
        )
    return folder
