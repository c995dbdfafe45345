"""Detectors of transformers: RT-DETR, D-FINE, DETR, YOLOS (`pip install 'fld-engine[caption]'`).

The Apache-2.0 way to boxes. Only what transformers itself implements and only safetensors: no
remote code, no pickles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image as PillowImage

from engine.errors import ConfigError, SpecialistError
from engine.geometry import clip
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import claims, empty_claims
from specialists.hub import hub_needs, load_pretrained, pin
from specialists.needs import refuse_missing
from specialists.threads import device_resources


@dataclass(kw_only=True)
class Detr:
    """Answers each image with a row of kind `region`, role `category`, per object it finds.

    Boxes are in pixels of the upright image, as the model's own post-processing gives them for that
    size and then clipped to the image (these models place sides a fraction of a pixel outside).
    `text` is the class name of the model's config, `score` the model's. Models that score every
    class of a box by itself (RT-DETR, D-FINE) may give one box under two names. In float32 on a CPU
    a batch answers as its images one by one: only inputs of one shape share a pass, nothing is
    padded.

    Attributes:
        model: A folder, or a hub id (downloaded when it is not in the cache) of any model
            transformers has for object detection. The default is small (41 MB) and knows COCO's 80
            classes. Checkpoints whose backbone is timm's need that package; `facebook/detr-*` have
            a revision `no_timm`.
        name: The `source` of its rows.
        min_score: A row's score is above it. 0.05 leaves the choice to the rules, as it does for
            `yolo`.
        max_boxes: Most rows per image, those of highest score; 300 is the number of queries of most
            of these models.
        dtype: `float32`, `bfloat16` or `float16`.
        device: As torch names it; `cpu` unless asked otherwise.
        revision: Branch, tag or commit on the hub; null: its main branch.
        gpus: Share of a GPU one worker takes; null: a whole one if `device` is one, else none.
        quiet_limit: Alarm when the first images, this many, gave no row. 64: as for `yolo`, no 64
            ordinary photos are without one object.
    """

    model: str = "ustc-community/dfine-small-coco"
    name: str = "detr"
    min_score: float = 0.05
    max_boxes: int = 300
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    revision: str | None = None
    gpus: float | None = None
    quiet_limit: int | None = 64
    produces: tuple[str, ...] = field(init=False, default=("region/category",))
    requires: tuple[str, ...] = field(init=False, default=())
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False)
    _pinned: str | None = field(init=False, repr=False, default=None)
    _model: Any = field(init=False, repr=False, default=None)
    _processor: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        if not 0 <= self.min_score <= 1:
            raise ConfigError(
                f"specialist {self.name!r}: min_score {self.min_score}; allowed: 0 to 1"
            )
        if self.max_boxes < 1:
            raise ConfigError(
                f"specialist {self.name!r}: max_boxes {self.max_boxes}; allowed: 1 or more"
            )
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
            SpecialistError: The model is none for object detection, there are no safetensors of it,
                or its processor cannot turn its answers into boxes.
        """
        self._processor, self._model = load_pretrained(
            self.name,
            self.model,
            self._pinned or self.revision,
            ("AutoImageProcessor", "AutoModelForObjectDetection"),
            dtype=self.dtype,
            device=self.device,
        )
        if not hasattr(self._processor, "post_process_object_detection"):
            raise SpecialistError(
                f"specialist {self.name!r}: the processor of {self.model} "
                f"({type(self._processor).__name__}) gives no boxes; name an object detection model"
            )

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """Rows in the images' order, then by falling score; see `engine.protocols.Specialist`."""
        found = self._detect(images)
        keys = np.array([image.image_key for image in images], dtype=object)
        counts = [len(boxes.scores) for boxes in found]
        if not sum(counts):
            return empty_claims()
        names = self._model.config.id2label
        return claims(
            image_key=np.repeat(keys, counts),
            kind="region",
            role="category",
            text=[names[int(label)] for boxes in found for label in boxes.labels],
            box=np.concatenate([boxes.boxes for boxes in found]),
            score=np.concatenate([boxes.scores for boxes in found]),
        )

    def _detect(self, images: Sequence[Image]) -> list["_Found"]:
        inputs = [self._input(image) for image in images]
        chunks: dict[tuple[int, ...], list[int]] = {}
        for i, one in enumerate(inputs):
            chunks.setdefault(tuple(one["pixel_values"].shape), []).append(i)
        found: dict[int, _Found] = {}
        for chunk in chunks.values():
            together = self._detect_equals([inputs[i] for i in chunk], [images[i] for i in chunk])
            found.update(zip(chunk, together, strict=True))
        return [found[i] for i in range(len(images))]

    def _input(self, image: Image) -> Any:
        # as a picture: of an array of 1 or 3 rows the processor takes the rows for its colours
        picture = PillowImage.fromarray(image.rgb())
        return self._processor(images=[picture], return_tensors="pt")

    def _detect_equals(self, inputs: list[Any], images: list[Image]) -> list["_Found"]:
        """Answers to inputs of one shape."""
        import torch

        batch = {name: torch.cat([one[name] for one in inputs]) for name in inputs[0]}
        pixels = batch.pop("pixel_values").to(self.device, self._model.dtype)
        others = {name: value.to(self.device) for name, value in batch.items()}
        with torch.inference_mode():
            answer = self._model(pixel_values=pixels, **others)
        # scaled to pixels in 16 bits, boxes would be rounded a second time
        answer.logits, answer.pred_boxes = answer.logits.float(), answer.pred_boxes.float()
        given = self._processor.post_process_object_detection(
            answer,
            threshold=self.min_score,
            target_sizes=[(image.height, image.width) for image in images],
        )
        return [
            _Found.best(one, image, self.max_boxes)
            for one, image in zip(given, images, strict=True)
        ]


@dataclass(frozen=True)
class _Found:
    """Objects of one image, best first."""

    scores: npt.NDArray[np.float32]  # (n,)
    labels: npt.NDArray[np.int64]  # (n,)
    boxes: npt.NDArray[np.float32]  # (n, 4), inside the image

    @classmethod
    def best(cls, given: Any, image: Image, max_boxes: int) -> "_Found":
        scores, labels, boxes = (given[k].cpu().numpy() for k in ("scores", "labels", "boxes"))
        order = np.argsort(-scores, kind="stable")[:max_boxes]
        inside = clip(boxes[order], np.array([image.width, image.height], np.float32))
        return cls(scores[order], labels[order], inside)
