"""What `fld refine` may be told, beside the model and the rules."""

from dataclasses import dataclass, field
from typing import Any, Literal

from engine.errors import ConfigError

_MOST_FOLDS = 100


@dataclass(frozen=True, kw_only=True)
class RefineOptions:
    """The section `refine` of a config.

    Attributes:
        rounds: How many at most, 1 or more.
        folds: Into how many parts the images are cut, so that each is answered by a model that was
            trained on the other parts alone; 1: one model, which has seen the labels it corrects.
        policy: Name of a policy of `refinement.relabel`, or `{name: ..., option: value}`.
        min_gain: A round that gains less than this ends the series; F1, or agreement without gold.
        min_agreement: Without gold, a round that confirms a smaller share of the labels than this
            is rolled back: a model that knows the images agrees with much of even noisy labels.
        family: What of the gold labels is compared, see `fld evaluate`; null: what it has first of
            boxes, words, phrases.
        calibrate: What the model's scores are calibrated against before the policy sees them:
            `gold` (half of its images, by hash; the other half measures), `agreement` with the
            labels, or null: they are taken as they are.
        pairs: What the model is trained on, see `refinement.pairs.options.PairOptions`.
        init: Makes the checkpoint the first round starts from, where the config names no `model`:
            an untrained one with a tokenizer of the dataset's own words. Keys are those of
            `fld model init`: `preset`, `vocabulary_size`, `image_size`.
        train: How, see `refinement.training.options.TrainOptions`; null: the model predicts as it
            is.
        predictor: The specialist that predicts, as in `specialists`; it is given the trained model.
        folder: A local folder for pairs, checkpoints and predictions, the same each time; null:
            `_refine` in the dataset, which only a dataset in a local folder has.
    """

    rounds: int = 1
    folds: int = 1
    policy: str | dict[str, Any] = "consensus"
    min_gain: float = 0.002
    min_agreement: float = 0.2
    family: Literal["boxes", "words", "phrases"] | None = None
    calibrate: Literal["gold", "agreement"] | None = None
    pairs: dict[str, Any] = field(default_factory=dict)
    init: dict[str, Any] = field(default_factory=dict)
    train: dict[str, Any] | None = field(default_factory=dict)
    predictor: dict[str, Any] = field(default_factory=lambda: {"kind": "florence2"})
    folder: str | None = None

    def __post_init__(self) -> None:
        if self.rounds < 1:
            raise ConfigError(f"refine.rounds is {self.rounds}; allowed: 1 or more")
        if not 1 <= self.folds <= _MOST_FOLDS:
            raise ConfigError(f"refine.folds is {self.folds}; allowed: 1 to {_MOST_FOLDS}")
        if self.train is None and (self.folds > 1 or self.rounds > 1):
            raise ConfigError(
                "refine.train is null: a model that is not trained says the same each time; "
                "rounds and folds must be 1"
            )
        if self.train is None and self.init:
            raise ConfigError("refine.init: an untrained model cannot predict, and train is null")
        for name in ("min_gain", "min_agreement"):
            if not 0 <= getattr(self, name) <= 1:
                raise ConfigError(f"refine.{name} is {getattr(self, name)}; allowed: 0 to 1")
        if self.train is None and self.pairs:
            raise ConfigError("refine.pairs: train is null and nothing is trained; take one out")

    @property
    def policy_name(self) -> str:
        """Of the policy."""
        return self.policy if isinstance(self.policy, str) else str(self.policy.get("name"))

    @property
    def policy_options(self) -> dict[str, Any]:
        """Its own options."""
        given = {} if isinstance(self.policy, str) else self.policy
        return {name: value for name, value in given.items() if name != "name"}
