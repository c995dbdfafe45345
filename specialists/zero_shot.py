"""Detectors of transformers that are told in words what to look for: two families, one answer.

Grounding DINO reads all phrases in one caption and scores boxes against its tokens; OWL-ViT and
OWLv2 score boxes against each phrase. Both are asked here which box fits which phrase; that a box
fits several is no contradiction ("a man", "the player").
"""

from collections.abc import Sequence
from typing import Any, NamedTuple, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from engine.errors import SpecialistError

_TOKEN_FAMILY = ("grounding-dino", "mm-grounding-dino")
_QUERY_FAMILY = ("owlvit", "owlv2")

Floats = npt.NDArray[np.float32]


class Fits(NamedTuple):
    """How well the boxes of one image fit its phrases.

    Attributes:
        boxes: Shape (b, 4), xyxy in pixels of the picture.
        scores: Shape (b, p), 0 to 1, for each phrase.
        text_scores: The same, of the phrase; null where the model gives no such number.
    """

    boxes: Floats
    scores: Floats
    text_scores: Floats | None


class ZeroShot(Protocol):
    """A detector that takes phrases."""

    def fit(self, pictures: Sequence[PillowImage.Image], phrases: list[list[str]]) -> list[Fits]:
        """Boxes of every picture for its phrases, of which each picture has at least one.

        The pictures are of one size.
        """


def zero_shot(name: str, model: str, processor: Any, network: Any) -> ZeroShot:
    """The family a loaded model belongs to.

    Raises:
        SpecialistError: It is of neither family.
    """
    kind = network.config.model_type
    if kind in _TOKEN_FAMILY:
        return TokenDetector(processor, network)
    if kind in _QUERY_FAMILY:
        return QueryDetector(processor, network)
    raise SpecialistError(
        f"specialist {name!r}: {model} is a {kind}; "
        f"allowed: {', '.join((*_TOKEN_FAMILY, *_QUERY_FAMILY))}"
    )


class TokenDetector:
    """Grounding DINO: one caption "a cat. a dog.", boxes scored against its tokens.

    The caption is put together from the tokens of each phrase, so which token belongs to which
    phrase is known by its place and never read back from a string. Phrases that do not fit into one
    caption go into further ones. `scores` are the highest of a phrase's tokens, as the model's own
    post-processing scores a box; `text_scores` the mean of them, which is low where the box is of
    the noun but not of its adjectives.
    """

    def __init__(self, processor: Any, network: Any) -> None:
        self._images = processor.image_processor
        self._tokenizer = processor.tokenizer
        self._network = network
        self._max_tokens = int(network.config.max_text_len)
        ends = self._tokenizer.convert_tokens_to_ids([".", "?"])
        self._stop, self._ends = ends[0], set(ends)  # both end a phrase for the model

    def fit(self, pictures: Sequence[PillowImage.Image], phrases: list[list[str]]) -> list[Fits]:
        """Boxes of every picture, of one size, for its phrases; see `ZeroShot`."""
        captions = [self._captions(words) for words in phrases]
        parts: list[list[Fits]] = [[] for _ in pictures]
        for number in range(max(len(found) for found in captions)):
            asked = [i for i, found in enumerate(captions) if number < len(found)]
            said = [captions[i][number] for i in asked]
            for i, fits in zip(asked, self._ask([pictures[i] for i in asked], said), strict=True):
                parts[i].append(fits)
        return [_beside(found) for found in parts]

    def _captions(self, phrases: list[str]) -> list[list[list[int]]]:
        """The tokens of each phrase, in as many captions as they need."""
        room = self._max_tokens - 2  # without those that open and close a caption
        captions: list[list[list[int]]] = [[]]
        used = 0
        for phrase in phrases:
            tokens = self._tokenizer(phrase.lower(), add_special_tokens=False)["input_ids"]
            words = [token for token in tokens if token not in self._ends][: room - 1]
            words = words or [self._tokenizer.unk_token_id]
            if used + len(words) + 1 > room:
                captions.append([])
                used = 0
            captions[-1].append(words)
            used += len(words) + 1
        return captions

    def _ask(
        self, pictures: list[PillowImage.Image], captions: list[list[list[int]]]
    ) -> list[Fits]:
        import torch

        rows, places = zip(*(self._tokens(caption) for caption in captions), strict=True)
        longest = max(len(row) for row in rows)
        pad = self._tokenizer.pad_token_id
        device, dtype = self._network.device, self._network.dtype
        ids = torch.tensor([[*row, *[pad] * (longest - len(row))] for row in rows])
        real = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
        seen = self._images(images=pictures, return_tensors="pt")
        with torch.inference_mode():
            answer = self._network(
                pixel_values=seen["pixel_values"].to(device, dtype),
                pixel_mask=seen["pixel_mask"].to(device),
                input_ids=ids.to(device),
                token_type_ids=torch.zeros_like(ids).to(device),
                attention_mask=real.to(device),
            )
        chances = answer.logits.float().sigmoid().cpu().numpy()
        boxes = _corners(answer.pred_boxes.float().cpu().numpy(), pictures[0].size)
        return [_of_phrases(boxes[i], chances[i], spans) for i, spans in enumerate(places)]

    def _tokens(self, caption: list[list[int]]) -> tuple[list[int], list[tuple[int, int]]]:
        """Token ids of a caption, and where in it each phrase's tokens are."""
        row, spans = [self._tokenizer.cls_token_id], []
        for words in caption:
            spans.append((len(row), len(row) + len(words)))
            row += [*words, self._stop]
        return [*row, self._tokenizer.sep_token_id], spans


class QueryDetector:
    """OWL-ViT and OWLv2: every box scored against every phrase, each of at most 16 tokens.

    `text_scores` are null: there is one number for a box and a phrase.
    """

    def __init__(self, processor: Any, network: Any) -> None:
        self._processor = processor
        self._network = network

    def fit(self, pictures: Sequence[PillowImage.Image], phrases: list[list[str]]) -> list[Fits]:
        """Boxes of every picture, of one size, for its phrases; see `ZeroShot`."""
        import torch

        inputs = self._processor(
            text=phrases, images=list(pictures), truncation=True, return_tensors="pt"
        )
        device, dtype = self._network.device, self._network.dtype
        with torch.inference_mode():
            answer = self._network(
                pixel_values=inputs["pixel_values"].to(device, dtype),
                input_ids=inputs["input_ids"].to(device),
                attention_mask=inputs["attention_mask"].to(device),
            )
        # the families pad pictures differently; the library's own scaling knows how
        sizes = [(picture.height, picture.width) for picture in pictures]
        placed = self._processor.image_processor.post_process_object_detection(
            answer, threshold=-1.0, target_sizes=sizes
        )
        chances = answer.logits.float().sigmoid().cpu().numpy()
        return [
            Fits(found["boxes"].float().cpu().numpy(), chances[i][:, : len(phrases[i])], None)
            for i, found in enumerate(placed)
        ]


def _corners(boxes: Floats, size_wh: tuple[int, int]) -> Floats:
    """Boxes xyxy in pixels of boxes given by centre and size, as shares of the picture."""
    centres, halves = boxes[..., :2], boxes[..., 2:] / 2
    corners = np.concatenate([centres - halves, centres + halves], axis=-1)
    scaled: Floats = corners * np.array(size_wh * 2, np.float32)
    return scaled


def _of_phrases(boxes: Floats, chances: Floats, spans: list[tuple[int, int]]) -> Fits:
    best = np.stack([chances[:, start:end].max(axis=1) for start, end in spans], axis=1)
    mean = np.stack([chances[:, start:end].mean(axis=1) for start, end in spans], axis=1)
    return Fits(boxes, best, mean)


def _beside(parts: list[Fits]) -> Fits:
    """The answers to several captions as one; a box fits no phrase of another caption."""
    if len(parts) == 1:
        return parts[0]
    num_phrases = sum(part.scores.shape[1] for part in parts)
    boxes = np.concatenate([part.boxes for part in parts])
    scores = np.zeros((2, len(boxes), num_phrases), np.float32)
    row = column = 0
    for part in parts:
        height, width = part.scores.shape
        scores[0, row : row + height, column : column + width] = part.scores
        scores[1, row : row + height, column : column + width] = part.text_scores
        row, column = row + height, column + width
    return Fits(boxes, scores[0], scores[1])
