"""Masks of kept boxes by the SAM family of transformers (`pip install 'fld-engine[caption]'`).

Only what transformers itself implements and only safetensors: no remote code, no pickles.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from PIL import Image as PillowImage

from engine.errors import ConfigError
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import claims
from specialists.hub import hub_needs, load_pretrained, pin
from specialists.needs import package_need, refuse_missing
from specialists.outlines import mask_outlines
from specialists.regions import Regions
from specialists.threads import device_resources


@dataclass(kw_only=True)
class Segmenter:
    """Answers each kept box with one row of its region, which adds the outline of its mask.

    The row repeats what the prompted row says: kind, role, text, `region_id` and the very box, so
    that a region never has two; that row is its parent. `polygon` is the mask at the size of the
    upright image, one ring per connected part along the outer edge of its pixels, without holes,
    and not cut to the box. `score` is the quality the model itself predicts for the mask (its IoU
    with the true one; SAM's may exceed 1 a little). A box whose mask is empty has no row. An image
    is decoded and encoded once for all its boxes, and only if it has any; images go through the
    model one by one.

    Attributes:
        model: A folder, or a hub id (downloaded when it is not in the cache) of any model
            transformers has for mask generation that takes boxes: SAM, SAM-HQ, SAM 2. The default
            is the smallest of SAM 2.1 (156 MB).
        name: The `source` of its rows.
        roles: The boxes it is prompted with are those of rows of these roles. Crowds (`ignore`) are
            left out.
        tolerance_px: How far a simplified outline may lie from the mask's edge; 0 keeps every
            corner. 0.75 is just above the depth of the steps that pixels make of a slanted edge
            (0.71): of 272 masks people drew on COCO photos it keeps one corner in six and an IoU of
            0.984 with the mask (one in a hundred is below 0.935).
        min_area_px: Smaller parts of a mask are dropped, px squared; 20 is the rule `min_area`'s.
        multimask: Let the model propose three masks and take the one it scores highest. Off: its
            single mask, meant for prompts that leave no doubt, as boxes are.
        max_regions: Most regions of an image, those of highest score, then the largest. People drew
            at most 35 on one of 80 COCO photos.
        dtype: `float32`, `bfloat16` or `float16`.
        device: As torch names it; `cpu` unless asked otherwise.
        revision: Branch, tag or commit on the hub; null: its main branch.
        gpus: Share of a GPU one worker takes; null: a whole one if `device` is one, else none.
        quiet_limit: Null, because images without kept regions are normal.
    """

    model: str = "facebook/sam2.1-hiera-tiny"
    name: str = "segmenter"
    roles: tuple[Literal["category", "phrase", "proposal", "ocr"], ...] = ("category",)
    tolerance_px: float = 0.75
    min_area_px: float = 20.0
    multimask: bool = False
    max_regions: int = 40
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    revision: str | None = None
    gpus: float | None = None
    quiet_limit: int | None = None
    # nobody waits for a mask: it claims nothing that was not claimed, and a specialist that wants
    # what it gives itself could not run beside others of that kind, such as `consensus`
    produces: tuple[str, ...] = field(init=False, default=())
    requires: tuple[str, ...] = field(init=False)
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False)
    _pinned: str | None = field(init=False, repr=False, default=None)
    _model: Any = field(init=False, repr=False, default=None)
    _processor: Any = field(init=False, repr=False, default=None)

    def __post_init__(self) -> None:
        for option in ("tolerance_px", "min_area_px"):
            value = getattr(self, option)
            if not 0 <= value < np.inf:
                raise ConfigError(f"specialist {self.name!r}: {option} {value}; allowed: 0 or more")
        if self.max_regions < 1:
            raise ConfigError(
                f"specialist {self.name!r}: max_regions {self.max_regions}; allowed: 1 or more"
            )
        if not self.roles:
            raise ConfigError(f"specialist {self.name!r}: roles is empty; name at least one")
        self.requires = tuple(f"region/{role}" for role in self.roles)
        self.resources = device_resources(self.device, self.gpus)

    def needs(self) -> list[Need]:
        """transformers, torchvision, OpenCV, and the model as a folder or in the hub's cache."""
        return [package_need("cv2", "caption"), *hub_needs(self.model, self.revision, "caption")]

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
            SpecialistError: The model is none for mask generation, or there are no safetensors of
                it.
        """
        self._processor, self._model = load_pretrained(
            self.name,
            self.model,
            self._pinned or self.revision,
            ("AutoProcessor", "AutoModelForMaskGeneration"),
            dtype=self.dtype,
            device=self.device,
        )

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """At most one row per region, in order; see `engine.protocols.Specialist`."""
        regions = Regions.find(
            images, rows, self.roles, min_side_px=0, max_regions=self.max_regions
        )
        outlines: list[list[list[float]]] = []
        scores: list[float] = []
        for place in np.unique(regions.images):
            boxes = regions.boxes[regions.images == place]
            for mask, score in self._masks(images[place].rgb(), boxes):
                outlines.append(
                    mask_outlines(
                        mask, tolerance_px=self.tolerance_px, min_area_px=self.min_area_px
                    )
                )
                scores.append(score)
        found = np.flatnonzero([bool(rings) for rings in outlines])
        prompted = regions.rows.take(pa.array(found))
        same = ("image_key", "kind", "role", "text", "region_id", "box")
        return claims(
            **{name: prompted[name] for name in same},
            polygon=[outlines[i] for i in found],
            score=[scores[i] for i in found],
            parents=[[row] for row in prompted["annotation_id"].to_pylist()],
        )

    def _masks(
        self, pixels: npt.NDArray[np.uint8], boxes: npt.NDArray[np.float32]
    ) -> Iterator[tuple[npt.NDArray[np.bool_], float]]:
        """Mask of each box, shape (height, width) of the picture, and its predicted quality."""
        import torch

        picture = PillowImage.fromarray(pixels)
        inputs = self._processor(
            images=picture, input_boxes=[boxes.tolist()], return_tensors="pt"
        ).to(self.device)
        with torch.inference_mode():
            answer = self._model(
                pixel_values=inputs["pixel_values"].to(self._model.dtype),
                input_boxes=inputs["input_boxes"].float(),  # in 16 bits they would be whole pixels
                multimask_output=self.multimask,
            )
        scores, logits = answer.iou_scores[0].float(), answer.pred_masks[0].float()
        sizes = {k: inputs[k] for k in ("original_sizes", "reshaped_input_sizes") if k in inputs}
        best = scores.argmax(dim=1)
        for i, choice in enumerate(best.tolist()):  # one at a time: at full size they are large
            (mask,) = self._processor.post_process_masks(
                [logits[i : i + 1, choice : choice + 1]], **sizes
            )
            yield mask[0, 0].cpu().numpy(), float(scores[i, choice])
