"""Image-text models of transformers: how alike a picture and a text are."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from engine.errors import SpecialistError
from specialists.hub import load_pretrained

Vectors = npt.NDArray[np.float32]


@dataclass(frozen=True)
class ImageTextModel:
    """A loaded model with one space for pictures and texts: CLIP, SigLIP, SigLIP 2.

    The dot product of two of its vectors is their cosine similarity, in -1..1: comparable between
    pictures and texts of one model, not between models. SigLIP's own score is a sigmoid of the
    cosine, scaled and shifted, which orders pairs alike.

    Attributes:
        processor: Of transformers, with tokenizer and image processor.
        model: Of transformers.
        batch_size: Pictures or texts in one pass.
    """

    processor: Any
    model: Any
    batch_size: int

    @classmethod
    def load(
        cls,
        owner: str,
        model: str,
        revision: str | None,
        *,
        batch_size: int,
        dtype: str,
        device: str,
    ) -> "ImageTextModel":
        """Loads model and processor.

        Args:
            owner: Name of the specialist, for messages.
            model: A folder or a hub id.
            revision: Of a hub id.
            batch_size: Pictures or texts in one pass.
            dtype: `float32`, `bfloat16` or `float16`.
            device: As torch names it.

        Raises:
            SpecialistError: transformers does not know such a model, there are no safetensors of
                it, or it does not compare pictures and texts.
        """
        processor, loaded = load_pretrained(
            owner, model, revision, ("AutoProcessor", "AutoModel"), dtype=dtype, device=device
        )
        wanted = (
            (loaded, "get_image_features"),
            (loaded, "get_text_features"),
            (processor, "image_processor"),
            (processor, "tokenizer"),
        )
        if not all(hasattr(part, name) for part, name in wanted):
            raise SpecialistError(
                f"specialist {owner!r}: {model} ({type(loaded).__name__}) does not compare "
                "pictures and texts; name a CLIP, SigLIP or SigLIP 2 model"
            )
        return cls(processor, loaded, batch_size)

    def pictures(self, pictures: Iterable[PillowImage.Image]) -> Vectors:
        """A vector of length 1 per picture, shape (n, d); they are taken as they are needed."""

        def inputs(batch: list[PillowImage.Image]) -> Any:
            return self.processor(images=batch, return_tensors="pt")

        return self._vectors(pictures, inputs, self.model.get_image_features)

    def texts(self, texts: Sequence[str]) -> Vectors:
        """A vector of length 1 per text, shape (n, d); what is too long for the model is cut."""
        length = self.model.config.text_config.max_position_embeddings

        def inputs(batch: list[str]) -> Any:
            # all to full length, as SigLIP is trained; CLIP looks no further than the end token
            return self.processor(
                text=batch,
                padding="max_length",
                truncation=True,
                max_length=length,
                return_tensors="pt",
            )

        return self._vectors(texts, inputs, self.model.get_text_features)

    def _vectors(
        self, things: Iterable[Any], inputs: Callable[[list[Any]], Any], embed: Callable[..., Any]
    ) -> Vectors:
        import torch

        waiting, found = iter(things), [np.empty((0, 0), np.float32)]
        while batch := list(islice(waiting, self.batch_size)):
            given = inputs(batch).to(self.model.device, dtype=self.model.dtype)
            with torch.inference_mode():
                vectors = embed(**given).pooler_output.float()
                vectors = torch.nn.functional.normalize(vectors, dim=-1)
            found.append(vectors.cpu().numpy())
        return np.concatenate(found[1:]) if len(found) > 1 else found[0]
