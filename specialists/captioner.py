"""Any image-to-text model of transformers, loaded to put pictures into words."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from PIL import Image as PillowImage

from engine.errors import SpecialistError
from specialists.hub import load_pretrained

Role = Literal["brief", "detailed", "more_detailed"]

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


@dataclass(frozen=True)
class Captioner:
    """A loaded model that answers pictures with texts and how sure it is of them.

    A score, in 0..1, is the geometric mean of the probabilities the model gives the tokens of the
    caption and the end token that closes it, under its own unaltered distribution; prompt, pads and
    other special tokens do not count. A caption cut at `max_new_tokens` has no end token.

    Attributes:
        processor: Of transformers, with its tokenizer ready for batches.
        model: Of transformers.
        said: The prompt in force; null where the model takes none.
        max_new_tokens: Longest caption, tokens.
        num_beams: 1 is greedy.
    """

    processor: Any
    model: Any
    said: str | None
    max_new_tokens: int
    num_beams: int

    @classmethod
    def load(
        cls,
        owner: str,
        model: str,
        revision: str | None,
        *,
        role: Role,
        prompt: str | None,
        max_new_tokens: int,
        num_beams: int,
        dtype: str,
        device: str,
    ) -> "Captioner":
        """Loads model and processor.

        Args:
            owner: Name of the specialist, for messages.
            model: A folder or a hub id.
            revision: Of a hub id.
            role: Length of the captions, where the prompt is the family's own.
            prompt: What the model is told; null: what its family is told for that role.
            max_new_tokens: Longest caption, tokens.
            num_beams: 1 is greedy.
            dtype: `float32`, `bfloat16` or `float16`.
            device: As torch names it.

        Raises:
            SpecialistError: transformers does not know such a model, there are no safetensors of
                it, or it does not take pictures.
        """
        classes = ("AutoProcessor", "AutoModelForImageTextToText")
        processor, loaded = load_pretrained(
            owner, model, revision, classes, dtype=dtype, device=device
        )
        if not hasattr(processor, "image_processor"):
            raise SpecialistError(
                f"specialist {owner!r}: {model} has no processor for pictures; "
                "name an image-to-text model"
            )
        # a caption cut at max_new_tokens shall not close with a token the model did not choose
        loaded.generation_config.forced_eos_token_id = None
        tokenizer = processor.tokenizer
        if not loaded.config.is_encoder_decoder:
            # a decoder goes on from the last token, which must not be a pad
            tokenizer.padding_side = "left"
        if tokenizer.pad_token is None:
            tokenizer.pad_token = tokenizer.eos_token
        said = _default_prompt(processor, role) if prompt is None else prompt
        return cls(processor, loaded, said, max_new_tokens, num_beams)

    def caption(self, pictures: Sequence[PillowImage.Image]) -> tuple[list[str], list[float]]:
        """Text and score of each picture, in order; a text is empty where the model says nothing.

        All pictures go through the model in one pass; none, no answers.
        """
        import torch

        if not pictures:
            return [], []
        inputs = self.inputs(list(pictures))
        with torch.inference_mode():
            answer = self.model.generate(
                **inputs.to(self.model.device, dtype=self.model.dtype),
                max_new_tokens=self.max_new_tokens,
                num_beams=self.num_beams,
                do_sample=False,
                return_dict_in_generate=True,
                output_logits=True,
            )
            tokens, scores = self._scored_tokens(answer)
        texts = self.processor.batch_decode(tokens, skip_special_tokens=True)
        return [text.strip() for text in texts], scores.tolist()

    def inputs(self, pictures: list[PillowImage.Image]) -> Any:
        """What the model is given for those pictures: tensors by name."""
        if self.said is None:
            return self.processor(images=pictures, return_tensors="pt")
        text, nested = self.said, pictures
        if _is_chat(self.processor):
            content = [{"type": "image"}, {"type": "text", "text": self.said}]
            text = self.processor.apply_chat_template(
                [{"role": "user", "content": content}], add_generation_prompt=True
            )
            nested = [[picture] for picture in pictures]  # type: ignore[misc]  # one list per conversation
        return self.processor(
            text=[text] * len(pictures), images=nested, padding=True, return_tensors="pt"
        )

    def _scored_tokens(self, answer: Any) -> tuple[Any, Any]:
        """Generated tokens, (n, steps), and the mean probability of those that count, (n,)."""
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
        return tokens, (total / counts.sum(dim=1).clamp(min=1)).exp()

    def _counted(self, tokens: Any) -> Any:
        """Which tokens are caption: those up to the first end token, of special ones only that."""
        import torch

        tokenizer = self.processor.tokenizer
        configured = self.model.generation_config.eos_token_id
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


def _is_chat(processor: Any) -> bool:
    return bool(getattr(processor, "chat_template", None))


def _default_prompt(processor: Any, role: Role) -> str | None:
    if hasattr(processor, "task_prompts_without_inputs"):  # Florence-2's processor
        return _FLORENCE_PROMPTS[role]
    return _CHAT_PROMPTS[role] if _is_chat(processor) else None
