"""Captions by any image-to-text model of transformers (`pip install 'fld-engine[caption]'`).

Only what transformers itself implements and only safetensors: no remote code, no pickles.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
from PIL import Image as PillowImage

from engine.errors import ConfigError, SpecialistError
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import claims
from specialists.hub import hub_needs, load_pretrained, pin
from specialists.needs import refuse_missing
from specialists.threads import device_resources

_FLORENCE_PROMPTS = {
    "brief": "<CAPTION>",
    "detailed": "<DETAILED_CAPTION>",
    "more_detailed": "<MORE_DETAILED_CAPTION>",
}
_CHAT_PROMPTS = {
    "brief": "Describe this image in one short sentence.",
    "detailed": "Describe this image in two or three sentences.",
    "more_detailed": "Describe this image in one detailed paragraph.",
}


@dataclass(kw_only=True)
class Caption:
    """Answers each image with one row of kind `text` and the chosen role; none if it says nothing.

    `text_score` is the mean log-probability (natural, 0 or less) the model gives the tokens of the
    caption and the end token that closes it, under its own unaltered distribution; prompt, pads and
    other special tokens do not count. A caption cut at `max_new_tokens` has no end token. `score`
    is null. In float32 on a CPU a batch answers as its images one by one.

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
    _model: Any = field(init=False, repr=False, default=None)
    _processor: Any = field(init=False, repr=False, default=None)
    _said: str | None = field(init=False, repr=False, default=None)  # the prompt in force

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
        self._processor, self._model = load_pretrained(
            self.name,
            self.model,
            self._pinned or self.revision,
            ("AutoProcessor", "AutoModelForImageTextToText"),
            dtype=self.dtype,
            device=self.device,
        )
        if not hasattr(self._processor, "image_processor"):
            raise SpecialistError(
                f"specialist {self.name!r}: {self.model} has no processor for pictures; "
                "name an image-to-text model"
            )
        # a caption cut at max_new_tokens shall not close with a token the model did not choose
        self._model.generation_config.forced_eos_token_id = None
        self._said = self._default_prompt() if self.prompt is None else self.prompt
        tokenizer = self._processor.tokenizer
        if not self._model.config.is_encoder_decoder:
            # a decoder goes on from the last token, which must not be a pad
            tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """One row per image that got words, in order; see `engine.protocols.Specialist`."""
        texts, scores = self._caption(images) if images else ([], [])
        kept = [i for i, text in enumerate(texts) if text]
        return claims(
            image_key=[images[i].image_key for i in kept],
            kind="text",
            role=self.role,
            text=[texts[i] for i in kept],
            text_score=[scores[i] for i in kept],
            prompt=self._said,
        )

    def _caption(self, images: Sequence[Image]) -> tuple[list[str], list[float]]:
        import torch

        inputs = self._inputs([PillowImage.fromarray(image.rgb()) for image in images])
        with torch.inference_mode():
            answer = self._model.generate(
                **inputs.to(self.device, dtype=self._model.dtype),
                max_new_tokens=self.max_new_tokens,
                num_beams=self.num_beams,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
            tokens, scores = self._scored_tokens(answer)
        texts = self._processor.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts], scores.tolist()

    def _inputs(self, pictures: list[PillowImage.Image]) -> Any:
        if self._said is None:
            return self._processor(images=pictures, return_tensors="pt")
        text, nested = self._said, pictures
        if self._is_chat():
            content = [{"type": "image"}, {"type": "text", "text": self._said}]
            text = self._processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
            nested = [[picture] for picture in pictures]  # type: ignore[misc]  # one list per conversation
        return self._processor(
            text=[text] * len(pictures), images=nested, padding=True, return_tensors="pt"
        )

    def _is_chat(self) -> bool:
        return bool(getattr(self._processor, "chat_template", None))

    def _default_prompt(self) -> str | None:
        if hasattr(self._processor, "task_prompts_without_inputs"):  # Florence-2's processor
            return _FLORENCE_PROMPTS[self.role]
        return _CHAT_PROMPTS[self.role] if self._is_chat() else None

    def _scored_tokens(self, answer: Any) -> tuple[Any, Any]:
        """Generated tokens, (n, steps), and the mean log-probability of those that count, (n,)."""
        import torch

        steps, device = len(answer.logits), answer.sequences.device
        beams = getattr(answer, "beam_indices", None)
        if beams is None:  # greedy: row i of the logits is image i
            beams = torch.arange(len(answer.sequences), device=device)[:, None].expand(-1, steps)
        beams = beams[:, : int((beams >= 0).sum(dim=1).max())]  # -1 fills up after a beam's end
        tokens = answer.sequences[:, answer.sequences.shape[1] - beams.shape[1] :]
        counts = self._counted(tokens)
        total = torch.zeros(len(tokens), device=device)
        for step in range(beams.shape[1]):
            logits = answer.logits[step][beams[:, step].clamp(min=0)].float()
            chosen = logits.log_softmax(dim=-1).gather(1, tokens[:, step : step + 1]).squeeze(1)
            total += torch.where(counts[:, step], chosen, 0.0)
        return tokens, total / counts.sum(dim=1).clamp(min=1)

    def _counted(self, tokens: Any) -> Any:
        """Which tokens are caption: those up to the first end token, of special ones only that."""
        import torch

        tokenizer = self._processor.tokenizer
        configured = self._model.generation_config.eos_token_id
        ends = configured if isinstance(configured, list) else [configured]
        # BLIP ends with its separator
        ends = [*ends, tokenizer.eos_token_id, tokenizer.sep_token_id]
        known = torch.tensor([end for end in ends if end is not None], device=tokens.device)
        is_end = torch.isin(tokens, known)
        added = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
        special = torch.tensor([*tokenizer.all_special_ids, *added], device=tokens.device)
        is_special = torch.isin(tokens, special)
        before = is_end.cumsum(dim=1) - is_end.long()
        return (before == 0) & (is_end | ~is_special)
