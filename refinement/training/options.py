"""What a training is told, every value checked before any work starts."""

import dataclasses
import importlib.util
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.config import build
from engine.errors import ConfigError

# Attention and feed-forward layers of the language model and of the vision tower, as transformers
# names them; the choice of most public LoRA recipes for encoder-decoder models.
_LORA_TARGETS = ("q_proj", "k_proj", "v_proj", "out_proj", "fc1", "fc2", "qkv", "proj")
_PACKAGES = {"tensorboard": "tensorboard", "wandb": "wandb"}
_NUM_BETAS = 2


@dataclass(frozen=True, kw_only=True)
class LoraOptions:
    """Low-rank adapters in place of full training; they are merged in what the training leaves.

    Attributes:
        rank: Of the adapters.
        alpha: Their outputs are scaled by alpha / rank.
        dropout: Share of their inputs set to zero in training, in [0, 1).
        targets: Ends of the names of the layers that get one.
    """

    rank: int = 8
    alpha: int = 16
    dropout: float = 0.0
    targets: tuple[str, ...] = _LORA_TARGETS

    def __post_init__(self) -> None:
        _check("lora.rank", self.rank, self.rank >= 1, "1 or more")
        _check("lora.alpha", self.alpha, self.alpha >= 1, "1 or more")
        _check("lora.dropout", self.dropout, 0 <= self.dropout < 1, "from 0 to under 1")
        _check("lora.targets", list(self.targets), bool(self.targets), "one or more")


@dataclass(frozen=True, kw_only=True)
class StageOptions:
    """A part of the training with pictures of one size.

    Attributes:
        steps: How many; null, for the last stage alone: what is left of all.
        resolution: Side of the pictures, pixels; null: the processor's own.
        batch_size: Null: that of the training.
        learning_rate: Highest; null: that of the training.
    """

    steps: int | None = None
    resolution: int | None = None
    batch_size: int | None = None
    learning_rate: float | None = None

    def __post_init__(self) -> None:
        for name in ("steps", "resolution", "batch_size"):
            value = getattr(self, name)
            _check(f"resolutions.{name}", value, value is None or value >= 1, "1 or more")
        rate = self.learning_rate
        _check(
            "resolutions.learning_rate",
            rate,
            rate is None or rate > 0,
            "more than 0",
        )


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """How a Florence-2 checkpoint is trained: AdamW under a warm-up and a decay.

    The paper's are AdamW, cosine decay, 5,000 steps of warm-up, 1e-4 (base) or 1e-5 (large) at
    batches of 2,048 and 3,072, pictures of 384 and then 768 pixels (Florence-2, 6); betas, weight
    decay and clipping are not stated there, and ours are those customary for such models.

    Attributes:
        steps: Optimizer steps in all.
        batch_size: Examples of one step, those of all workers together.
        learning_rate: Highest.
        warmup: Steps of linear warm-up, or below 1 their share of all.
        schedule: What follows: `cosine` down to the final fraction, or `constant`.
        final_fraction: Of the highest learning rate, at the last step.
        weight_decay: On matrices; biases, norms and other vectors are spared.
        betas: Of AdamW.
        clip_norm: The gradient is scaled down to this norm; null: never.
        accumulate: Parts a worker computes its share of a batch in: less memory, the same step.
        dtype: What is computed in; weights and optimizer are kept in float32.
        resolutions: Stages in sequence, see `StageOptions`; none: one, at the processor's own size.
        lora: See `LoraOptions`; null: all weights are trained.
        freeze_vision: Leaves the vision tower as it is.
        label_smoothing: In [0, 1).
        save_every: Steps between checkpoints.
        validate_every: Steps between validations; null: never.
        validation_examples: At most so many are looked at each time, always the same.
        patience: Validations without a lower loss after which the training ends, with the weights
            of the lowest; null: all steps are taken, and the last weights kept.
        workers: Processes that share each batch.
        gpus_per_worker: 0 computes on the CPU.
        threads: CPU threads of each worker.
        prefetch: Batches prepared ahead of the model.
        log_to: Where losses go beside `log.jsonl`.
    """

    steps: int = 1000
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup: float = 0.05
    schedule: Literal["cosine", "constant"] = "cosine"
    final_fraction: float = 0.0
    weight_decay: float = 0.01
    betas: tuple[float, ...] = (0.9, 0.999)
    clip_norm: float | None = 1.0
    accumulate: int = 1
    dtype: Literal["float32", "bfloat16"] = "float32"
    resolutions: list[dict[str, Any]] = field(default_factory=list)
    lora: dict[str, Any] | None = None
    freeze_vision: bool = False
    label_smoothing: float = 0.0
    save_every: int = 500
    validate_every: int | None = None
    validation_examples: int = 512
    patience: int | None = None
    workers: int = 1
    gpus_per_worker: float = 0.0
    threads: int = 1
    prefetch: int = 4
    log_to: list[Literal["tensorboard", "wandb"]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_fractions()
        if self.patience is not None and self.validate_every is None:
            raise ConfigError(
                f"refine.train.patience {self.patience}: nothing is validated; "
                "set refine.train.validate_every too, or refine.train.patience=null"
            )
        for package in self.log_to:
            if importlib.util.find_spec(_PACKAGES[package]) is None:
                raise ConfigError(
                    f"refine.train.log_to names {package}, which is not installed; "
                    f"pip install {_PACKAGES[package]}, or leave it out: log.jsonl and loss.png "
                    "are written in any case"
                )
        _ = self.stages, self.lora_options  # their own checks
        for stage in self.stages:
            self._check_split(stage)

    def _check_counts(self) -> None:
        for name in (
            *("steps", "batch_size", "accumulate", "save_every", "validation_examples"),
            *("workers", "threads", "prefetch"),
        ):
            value = getattr(self, name)
            _check(name, value, value >= 1, "1 or more")
        for name in ("validate_every", "patience"):
            value = getattr(self, name)
            _check(name, value, value is None or value >= 1, "1 or more, or null")

    def _check_fractions(self) -> None:
        rate, norm, betas = self.learning_rate, self.clip_norm, self.betas
        _check("learning_rate", rate, rate > 0, "more than 0")
        _check("warmup", self.warmup, self.warmup >= 0, "0 or more")
        _check("weight_decay", self.weight_decay, self.weight_decay >= 0, "0 or more")
        _check("clip_norm", norm, norm is None or norm > 0, "more than 0, or null")
        _check(
            "gpus_per_worker",
            self.gpus_per_worker,
            self.gpus_per_worker >= 0,
            ">= 0",
        )
        final, smoothing = self.final_fraction, self.label_smoothing
        _check("final_fraction", final, 0 <= final <= 1, "from 0 to 1")
        _check("label_smoothing", smoothing, 0 <= smoothing < 1, "from 0 to under 1")
        allowed = len(betas) == _NUM_BETAS and all(0 <= beta < 1 for beta in betas)
        _check("betas", list(betas), allowed, "two numbers from 0 to under 1")

    def _check_split(self, stage: StageOptions) -> None:
        parts = self.workers * self.accumulate
        if stage.batch_size is not None and stage.batch_size % parts:
            raise ConfigError(
                f"refine.train.batch_size {stage.batch_size} does not divide by {self.workers} "
                f"workers times accumulate {self.accumulate}; choose a multiple of {parts}"
            )

    @property
    def stages(self) -> list[StageOptions]:
        """The stages with nothing left open but a resolution that is the processor's own.

        Raises:
            ConfigError: A wrong option, or steps that do not add up to all.
        """
        given = [
            build(StageOptions, stage, f"refine.train.resolutions[{i}]")
            for i, stage in enumerate(self.resolutions or [{}])
        ]
        named = sum(stage.steps or 0 for stage in given)
        is_open = given[-1].steps is None
        if any(stage.steps is None for stage in given[:-1]) or (
            named >= self.steps if is_open else named != self.steps
        ):
            raise ConfigError(
                f"refine.train.resolutions: stages name {named} of refine.train.steps "
                f"{self.steps}; name the steps of every stage so that they add up, or of all but "
                "the last"
            )
        return [
            dataclasses.replace(
                stage,
                steps=stage.steps or self.steps - named,
                batch_size=stage.batch_size or self.batch_size,
                learning_rate=stage.learning_rate or self.learning_rate,
            )
            for stage in given
        ]

    @property
    def lora_options(self) -> LoraOptions | None:
        """The options of the adapters; null without."""
        return None if self.lora is None else build(LoraOptions, self.lora, "refine.train.lora")

    @property
    def warmup_steps(self) -> int:
        """Of all steps."""
        return round(self.warmup * self.steps) if self.warmup < 1 else round(self.warmup)

    def identity(self) -> dict[str, Any]:
        """What decides on the weights that come out, but for the last bits of their sums.

        Not where or how fast it runs, how often it is saved, and where its losses are shown.
        """
        free = {"save_every", "workers", "gpus_per_worker", "threads", "prefetch", "log_to"}
        return {name: value for name, value in vars(self).items() if name not in free}


def _check(name: str, value: object, is_allowed: bool, allowed: str) -> None:
    if not is_allowed:  # also of NaN, which compares as false
        raise ConfigError(f"refine.train.{name} is {value!r}; allowed: {allowed}")
