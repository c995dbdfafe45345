"""`fld checks` of a config with rounds of refinement: what they need beside the run itself."""

from collections.abc import Iterator

from engine.checks import Check, check_need, run_checks
from engine.compose import compose, make_specialist
from engine.config import Config, build
from engine.errors import ConfigError
from engine.label_commands import place_of
from engine.refine_commands import is_dataset, work_folder
from engine.run import open_output
from refinement.options import RefineOptions
from specialists.needs import package_need

_TRAINING = ("accelerate", "peft", "torch", "transformers")


def refine_checks(config: Config) -> Iterator[Check]:
    """Of the dataset or the run that makes it, the predictor, its model, and of the training.

    Raises:
        ConfigError: A value of `refine` is none that it takes.
    """
    options = build(RefineOptions, config.refine, "refine")
    if is_dataset(config):
        yield Check(f"dataset {config.source.uri}", True, "readable")
        output = place_of(config.source)
    else:
        job = compose(config)
        yield from run_checks(job)
        output = open_output(job.config)
    try:
        folder = work_folder(options.folder, output)
        yield Check("folder of pairs and checkpoints", True, str(folder))
    except ConfigError as err:
        yield Check("folder of pairs and checkpoints", False, str(err))
    entry, trains = dict(options.predictor), options.train is not None
    if config.model is not None:
        entry["model"] = config.model
    if config.model is not None or not trains:
        predictor = make_specialist(entry, "refine.predictor")
        for need in predictor.needs():
            yield check_need(f"predictor {predictor.name}", need)
    if trains:
        for package in _TRAINING:
            yield check_need("training", package_need(package, "train"))
