"""The loss, computed here and not by the model: what released versions of it did differs.

Cross entropy over the tokens of the targets. The decoder reads its start token and then the target
but its last token, so that every position is asked for the token that comes next: one shift. Pads
are no tokens: neither the head nor the loss sees them.
"""

from typing import Any


def shift_right(labels: Any, start: int) -> Any:
    """What the decoder reads to say `labels`.

    Args:
        labels: Tokens of the targets from their begin to their end token, padded, shape
            (n, tokens).
        start: The decoder's start token.

    Returns:
        The start token, then all labels but the last, same shape.
    """
    import torch

    return torch.cat([labels.new_full((len(labels), 1), start), labels[:, :-1]], dim=1)


def token_losses(logits: Any, labels: Any, smoothing: float = 0.0) -> Any:
    """The loss of each token, natural logarithms, in float32.

    Args:
        logits: At the positions that are asked, shape (tokens, words).
        labels: What is to be said at each, shape (tokens,); no pads.
        smoothing: Share of the target spread over all words, in [0, 1).
    """
    import torch

    return torch.nn.functional.cross_entropy(
        logits.float(), labels, reduction="none", label_smoothing=smoothing
    )


def answer_logits(model: Any) -> Any:
    """The model as a module that gives its logits for targets that are known.

    It reads as `specialists.florence2_model.Checkpoint` does: the picture's features, then the
    sentence. A picture that several examples share is seen once. Its `forward` takes the tensors of
    `refinement.collate.Batch`, without the labels, and returns the logits at the positions that are
    no padding, in their order, shape (tokens, words).
    """
    import torch

    class AnswerLogits(torch.nn.Module):
        def __init__(self, model: Any) -> None:
            super().__init__()
            self.model = model

        def forward(
            self, pixels: Any, picture: Any, read: Any, read_mask: Any, before: Any, counted: Any
        ) -> Any:
            features = self.model.get_image_features(pixels).pooler_output
            if len(pixels) < len(picture):
                features = features.index_select(0, picture)
            words = self.model.get_input_embeddings()(read)
            mask = torch.cat([read_mask.new_ones(features.shape[:2]), read_mask], 1)
            states = self.model.model(
                inputs_embeds=torch.cat([features.to(words.dtype), words], 1),
                attention_mask=mask,
                decoder_input_ids=before,
                use_cache=False,
            ).last_hidden_state
            return self.model.get_output_embeddings()(states[counted])

    return AnswerLogits(model)
