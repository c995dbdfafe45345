"""Captions by any image-to-text model of transformers (`pip install 'fld-engine[caption]'`).

Only what transformers itself implements and only safetensors: no remote code, no pickles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
from PIL import Image as PillowImage

from engine.errors import ConfigError
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import claims
from specialists.captioner import Captioner
from specialists.hub import hub_needs, pin
from specialists.needs import refuse_missing
from specialists.threads import device_resources


@dataclass(kw_only=True)
class Caption:
    """Answers each image with one row of kind `text` and the chosen role; none if it says nothing.

    `text_score`, in 0..1, is the geometric mean of the probabilities the model gives the tokens of
    the caption and the end token that closes it, under its own unaltered distribution; prompt, pads
    and other special tokens do not count. A caption cut at `max_new_tokens` has no end token.
    `score` is null. In float32 on a CPU a batch answers as its images one by one.

    Memory: beside the model, `max_new_tokens` x batch x `num_beams` x vocabulary x 4 bytes.

    Attributes:
        model: A folder, or a hub id (downloaded when it is not in the cache).
        name: The `source` of its rows.
        role: `brief`, `detailed` or `more_detailed`.
        prompt: What the model is told, through its chat template where it has one. Null:
            Florence-2's caption task of that role, a request for that length from chat models,
            nothing for others.
        max_new_tokens: Longest caption, tokens.
        num_beams: 1 is greedy; more search wider at as many times the cost.
        dtype: `float32`, `bfloat16` or `float16`.
        device: As torch names it; `cpu` unless asked otherwise.
        revision: Branch, tag or commit on the hub; null: its main branch.
        gpus: Share of a GPU one worker takes; null: a whole one if `device` is one, else none.
        quiet_limit: Alarm when the first images, this many, gave no row. 16: an empty caption is
            silence, and a captioner is never silent on ordinary photos.
    """

    model: str
    name: str = "caption"
    role: Literal["brief", "detailed", "more_detailed"] = "brief"
    prompt: str | None = None
    max_new_tokens: int = 64
    num_beams: int = 1
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    revision: str | None = None
    gpus: float | None = None
    quiet_limit: int | None = 16
    produces: tuple[str, ...] = field(init=False)
    requires: tuple[str, ...] = field(init=False, default=())
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False)
    _pinned: str | None = field(init=False, repr=False, default=None)
    _captioner: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        counts = {
            "max_new_tokens": self.max_new_tokens,
            "num_beams": self.num_beams,
        }
        for option, count in counts.items():
            if count is not None and count < 1:
                raise ConfigError(f"specialist {self.name!r}: {option} {count}; allowed: 1 or more")
        self.produces = (f"text/{self.role}",)
        self.resources = device_resources(self.device, self.gpus)

    def needs(self) -> list[Need]:
        """transformers, torchvision, and the model as a folder or in the hub's cache."""
        return hub_needs(self.model, self.revision, "caption")

    def prepare(self) -> str:
        """Downloads a hub model; returns its commit, or the digest of a folder.

        Raises:
            SpecialistError: A package or the folder is missing, or the hub has no such model or
                cannot be reached.
        """
        refuse_missing(self.name, self.needs())
        self._pinned = pin(self.name, self.model, self.revision)
        return self._pinned

    def load(self) -> None:
        """Loads model and processor.

        Raises:
            SpecialistError: transformers does not know such a model, there are no safetensors of
                it, or it does not take pictures.
        """
        self._captioner = Captioner.load(
            self.name,
            self.model,
            self._pinned or self.revision,
            role=self.role,
            prompt=self.prompt,
            max_new_tokens=self.max_new_tokens,
            num_beams=self.num_beams,
            dtype=self.dtype,
            device=self.device,
        )

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """One row per image that got words, in order; see `engine.protocols.Specialist`."""
        captioner = self._captioner
        pictures = [PillowImage.fromarray(image.rgb()) for image in images]
        texts, scores = captioner.caption(pictures)
        kept = [i for i, text in enumerate(texts) if text]
        return claims(
            image_key=[images[i].image_key for i in kept],
            kind="text",
            role=self.role,
            text=[texts[i] for i in kept],
            text_score=[scores[i] for i in kept],
            prompt=captioner.said,
        )
