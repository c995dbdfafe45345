"""What a refinement is told: everything built and checked, and who makes its predictor."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from engine.config import LimitsConfig, RunnerConfig
from engine.judge import RuleEntry
from engine.protocols import Specialist
from engine.source.shapes import Location
from refinement.decisions import Policy
from refinement.gold import Gold
from refinement.options import RefineOptions
from refinement.pairs.options import PairOptions
from refinement.training.options import TrainOptions

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
    """An untrained checkpoint for a dataset; see `refinement.untrained.presets`.

    Attributes:
        preset: Its sizes.
        vocabulary_size: Most words of its tokenizer; null: the preset's.
        image_size: Side of the pictures it sees, pixels; null: the preset's.
    """

    preset: str = "tiny"
    vocabulary_size: int | None = None
    image_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class RefineJob:
    """What to refine, and how; everything is built and checked.

    Attributes:
        output: The dataset.
        folder: A local folder for pairs, models and predictions.
        model: The checkpoint the first round starts from: a hub id or a folder.
        init: Makes one where `model` is null and something is trained.
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
