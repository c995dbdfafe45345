"""A Florence-2 checkpoint of transformers: pictures seen once, asked any number of things."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from PIL import Image as PillowImage

from engine.formats.florence2_codec import Flags, Floats, Span, classify_pieces, join_pieces

# Positions whose chances are computed at once: 256 x 51,290 words x 4 bytes are 50 MB, twice.
_POSITIONS_AT_ONCE = 256


@dataclass(frozen=True)
class Said:
    """One generated answer, with what the model thought of each of its tokens.

    Scores are geometric means of the probabilities of tokens, in 0..1.

    Attributes:
        text: With its special tokens, up to the first end token.
        spans: The characters each token has a part in, shape (n, 2).
        log_probs: Of each token given those before it, natural, shape (n,): the model's own
            unaltered distribution, whatever the search made of it.
        is_word: Which tokens are no special ones, shape (n,).
        is_mark: Which are begin, end or pad, shape (n,).
        is_cut: Whether it was cut before its end token.
    """

    text: str
    spans: npt.NDArray[np.int64]
    log_probs: Floats
    is_word: Flags
    is_mark: Flags
    is_cut: bool

    def text_score(self) -> float | None:
        """That of all words and of the end token, if there is one."""
        counted = self.is_word.copy()
        if not self.is_cut:
            counted[-1] = True
        return self._mean(counted)

    def label_score(self, span: Span) -> float | None:
        """That of the words in a range of characters; null without any."""
        return self._mean(self._touches(span) & self.is_word)

    def place_score(self, spans: Sequence[Span]) -> float | None:
        """That of location tokens; null without any."""
        touched = [self._touches(span) for span in spans]
        return self._mean(np.logical_or.reduce(touched) & ~self.is_mark) if touched else None

    def _touches(self, span: Span) -> Flags:
        touched: Flags = (self.spans[:, 0] < span[1]) & (self.spans[:, 1] > span[0])
        return touched

    def _mean(self, counted: Flags) -> float | None:
        return float(np.exp(self.log_probs[counted].mean())) if counted.any() else None


class Checkpoint:
    """Processor and model as `specialists.hub.load_pretrained` gives them."""

    def __init__(self, processor: Any, model: Any) -> None:
        self._model = model
        self._pictures = processor.image_processor
        self._tokenizer = processor.tokenizer
        # an answer cut at its limit shall not close with a token the model did not choose
        model.generation_config.forced_eos_token_id = None
        self._end = self._tokenizer.eos_token_id

    @property
    def max_tokens(self) -> int:
        """The longest sequence its decoder, and its encoder, have positions for."""
        return int(self._model.config.text_config.max_position_embeddings)

    def see(self, pictures: Sequence[PillowImage.Image]) -> Any:
        """Features of pictures, shape (n, image tokens, width): all that any task needs of them."""
        import torch

        pixels = self._pictures(list(pictures), return_tensors="pt")["pixel_values"]
        with torch.inference_mode():
            seen = self._model.get_image_features(pixels.to(self._model.device, self._model.dtype))
        return seen.pooler_output

    def ask(
        self, features: Any, sentences: Sequence[str], *, max_new_tokens: int, num_beams: int
    ) -> list[Said]:
        """One answer per sentence, in order.

        Args:
            features: Of the picture of each sentence, as `see` gives them.
            sentences: What the model reads after the picture; one that is too long for it is cut.
            max_new_tokens: Longest answer, tokens.
            num_beams: 1 is greedy.
        """
        import torch

        with torch.inference_mode():
            encoded, mask = self._encode(features, sentences)
            if num_beams == 1:
                tokens, log_probs = self._generate_greedily(encoded, mask, max_new_tokens)
            else:
                tokens = self._generate(encoded, mask, max_new_tokens, num_beams=num_beams)
                log_probs = self._log_probs(encoded, mask, tokens)
        said = tokens[:, 1:].cpu().numpy()
        return [self._said(*one) for one in zip(said, log_probs.cpu().numpy(), strict=True)]

    def _encode(self, features: Any, sentences: Sequence[str]) -> tuple[Any, Any]:
        """The encoder's states of pictures and sentences, and which of them are no padding.

        The picture comes first, as in the processor's own inputs, so that setting its features
        before the sentence is the same as setting them in place of its tokens.
        """
        import torch

        bos, eos = self._tokenizer.bos_token, self._tokenizer.eos_token
        read = self._tokenizer(
            [f"{bos}{sentence}{eos}" for sentence in sentences],
            add_special_tokens=False,
            padding=True,
            padding_side="right",
            truncation=True,
            max_length=self.max_tokens - features.shape[1],
            return_tensors="pt",
        ).to(self._model.device)
        words = self._model.get_input_embeddings()(read.input_ids)
        mask = torch.cat([read.attention_mask.new_ones(features.shape[:2]), read.attention_mask], 1)
        states = self._model.get_encoder()(
            inputs_embeds=torch.cat([features.to(words.dtype), words], 1), attention_mask=mask
        )
        return states.last_hidden_state, mask

    def _generate(self, encoded: Any, mask: Any, max_new_tokens: int, **options: Any) -> Any:
        """Tokens of every answer, the decoder's start token first, padded; shape (n, steps)."""
        from transformers.modeling_outputs import BaseModelOutput

        return self._model.generate(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=mask,
            max_new_tokens=max_new_tokens,
            do_sample=False,
            **options,
        )

    def _generate_greedily(self, encoded: Any, mask: Any, max_new_tokens: int) -> tuple[Any, Any]:
        """Tokens, and the log-probability of every token but the first, shape (n, steps - 1).

        What each step computed is looked at as soon as its token is chosen, and forgotten: to keep
        it all would take steps x answers x words x 4 bytes, gigabytes for a page of transcripts.
        """
        import torch
        from transformers import StoppingCriteriaList

        head = self._model.get_output_embeddings()
        logits: list[Any] = []
        found: list[Any] = []

        def chosen(tokens: Any, _scores: Any, **_: Any) -> Any:
            chances = logits.pop()[:, -1].float().log_softmax(dim=-1)
            found.append(chances.gather(1, tokens[:, -1:]))
            return torch.zeros(len(tokens), dtype=torch.bool, device=tokens.device)  # never stops

        hook = head.register_forward_hook(lambda _head, _states, out: logits.append(out))
        try:
            tokens = self._generate(
                encoded,
                mask,
                max_new_tokens,
                num_beams=1,
                stopping_criteria=StoppingCriteriaList([chosen]),
            )
        finally:
            hook.remove()
        return tokens, torch.cat(found, dim=1)

    def _log_probs(self, encoded: Any, mask: Any, tokens: Any) -> Any:
        """The same for answers of a beam search, by one more pass over the finished answers.

        Which beam a token came from is only known at the end, and to keep all steps is no choice.
        """
        import torch
        from transformers.modeling_outputs import BaseModelOutput

        states = self._model.model(
            encoder_outputs=BaseModelOutput(last_hidden_state=encoded),
            attention_mask=mask,
            decoder_input_ids=tokens[:, :-1],
            use_cache=False,
        ).last_hidden_state
        said = tokens[:, 1:]
        is_end = said == self._end
        counts = is_end.cumsum(dim=1) - is_end.long() == 0  # what follows the end is padding
        found = []
        for part, ids in zip(
            states[counts].split(_POSITIONS_AT_ONCE),
            said[counts].split(_POSITIONS_AT_ONCE),
            strict=True,
        ):
            logits = self._model.get_output_embeddings()(part).float()
            found.append(logits.log_softmax(dim=-1).gather(1, ids[:, None])[:, 0])
        log_probs = torch.zeros(said.shape, device=said.device)
        log_probs[counts] = torch.cat(found)
        return log_probs

    def _said(self, ids: npt.NDArray[np.int64], log_probs: Floats) -> Said:
        ends = np.flatnonzero(ids == self._end)
        is_cut = len(ends) == 0
        ids = ids if is_cut else ids[: ends[0] + 1]
        pieces = self._tokenizer.convert_ids_to_tokens(ids.tolist())
        text, spans = join_pieces(pieces)
        is_word, is_mark = classify_pieces(pieces)
        return Said(
            text=text,
            spans=spans,
            log_probs=log_probs[: len(ids)],
            is_word=is_word,
            is_mark=is_mark,
            is_cut=is_cut,
        )
