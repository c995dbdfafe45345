"""`fld checks` of a config with rounds of refinement: what they need beside the run itself."""

from collections.abc import Iterator

from engine.checks import Check, check_need, run_checks
from engine.compose import compose, make_specialist
from engine.config import Config
from engine.refine_commands import is_dataset
from specialists.needs import package_need

_TRAINING = ("accelerate", "peft", "torch", "transformers")


def refine_checks(config: Config) -> Iterator[Check]:
    """Of the dataset or the run that makes it, the predictor, its model, and of the training."""
    if is_dataset(config):
        yield Check(f"dataset {config.source.uri}", True, "readable")
    else:
        yield from run_checks(compose(config))
    entry = dict(config.refine.get("predictor", {"kind": "florence2"}))
    trains = config.refine.get("train", {}) is not None
    if config.model is not None:
        entry["model"] = config.model
    if config.model is not None or not trains:
        predictor = make_specialist(entry, "refine.predictor")
        for need in predictor.needs():
            yield check_need(f"predictor {predictor.name}", need)
    if trains:
        for package in _TRAINING:
            yield check_need("training", package_need(package, "train"))
