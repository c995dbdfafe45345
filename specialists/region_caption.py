"""Captions of single regions by any image-to-text model (`pip install 'fld-engine[caption]'`).

Only what transformers itself implements and only safetensors: no remote code, no pickles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Literal

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import claims
from specialists.captioner import Captioner
from specialists.hub import hub_needs, pin
from specialists.needs import refuse_missing
from specialists.regions import Regions, crops_of
from specialists.threads import device_resources


@dataclass(kw_only=True)
class RegionCaption:
    """Answers each kept region with one row `region`, role `brief`: what its crop shows.

    The row has the `region_id` and the box of the region, which is also its parent; `text_score` is
    that of `caption`, `score` is null: this model found no box. A crop the model says nothing of
    has no row. An image is decoded once, and only if it has regions. Crops go through the model in
    rows' order, `batch_size` at a time, across the images of a batch; in float32 on a CPU they
    answer as one by one.

    Memory: beside the model, `max_new_tokens` x `batch_size` x `num_beams` x vocabulary x 4 bytes.

    Attributes:
        model: A folder, or a hub id (downloaded when it is not in the cache).
        name: The `source` of its rows.
        roles: The regions it looks at are told by rows of these roles. Crowds (`ignore`) are not.
        margin: What a crop shows beyond the box on every side, as a share of the box's own side,
            as far as the image reaches. 0.08 is R-CNN's context: 16 pixels on either side of a box
            scaled to 195.
        min_side_px: A region whose box is narrower inside the image has no caption; what a model
            says of fewer pixels is a guess. 16 is ours: one in five of the 739 boxes people drew on
            80 COCO photos is narrower.
        max_regions: Most regions of an image, those of highest score, then the largest. People drew
            at most 35 on one of those photos.
        batch_size: Crops in one pass.
        prompt: What the model is told, through its chat template where it has one. Null:
            Florence-2's task of a brief caption, a request for one from chat models, nothing for
            others.
        max_new_tokens: Longest caption, tokens.
        num_beams: 1 is greedy; more search wider at as many times the cost.
        dtype: `float32`, `bfloat16` or `float16`.
        device: As torch names it; `cpu` unless asked otherwise.
        revision: Branch, tag or commit on the hub; null: its main branch.
        gpus: Share of a GPU one worker takes; null: a whole one if `device` is one, else none.
        quiet_limit: Null, because images without kept regions are normal.
    """

    model: str
    name: str = "region_caption"
    roles: tuple[Literal["category", "phrase", "proposal", "ocr"], ...] = ("category",)
    margin: float = 0.08
    min_side_px: int = 16
    max_regions: int = 40
    batch_size: int = 16
    prompt: str | None = None
    max_new_tokens: int = 32
    num_beams: int = 1
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    revision: str | None = None
    gpus: float | None = None
    quiet_limit: int | None = None
    produces: tuple[str, ...] = field(init=False, default=("region/brief",))
    requires: tuple[str, ...] = field(init=False)
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False)
    _pinned: str | None = field(init=False, repr=False, default=None)
    _captioner: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        counts = {
            "min_side_px": self.min_side_px,
            "max_regions": self.max_regions,
            "batch_size": self.batch_size,
            "max_new_tokens": self.max_new_tokens,
            "num_beams": self.num_beams,
        }
        for option, count in counts.items():
            if count < 1:
                raise ConfigError(f"specialist {self.name!r}: {option} {count}; allowed: 1 or more")
        if not 0 <= self.margin <= 1:
            raise ConfigError(f"specialist {self.name!r}: margin {self.margin}; allowed: 0 to 1")
        if not self.roles:
            raise ConfigError(f"specialist {self.name!r}: roles is empty; name at least one")
        self.requires = tuple(f"region/{role}" for role in self.roles)
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
            role="brief",
            prompt=self.prompt,
            max_new_tokens=self.max_new_tokens,
            num_beams=self.num_beams,
            dtype=self.dtype,
            device=self.device,
        )

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """At most one row per region, in order; see `engine.protocols.Specialist`."""
        regions = Regions.find(
            images,
            rows,
            self.roles,
            min_side_px=self.min_side_px,
            max_regions=self.max_regions,
        )
        texts: list[str] = []
        scores: list[float] = []
        crops = crops_of(images, regions, self.margin)
        while batch := list(islice(crops, self.batch_size)):
            said, sure = self._captioner.caption(batch)
            texts += said
            scores += sure
        told = np.flatnonzero([bool(text) for text in texts])
        named = regions.rows.take(pa.array(told))
        return claims(
            image_key=named["image_key"],
            kind="region",
            role="brief",
            text=[texts[i] for i in told],
            region_id=named["region_id"],
            box=named["box"],
            text_score=[scores[i] for i in told],
            prompt=self._captioner.said,
            parents=[[row] for row in named["annotation_id"].to_pylist()],
        )
