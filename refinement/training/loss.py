"""The loss, computed here and not by the model: what released versions of it did differs.

Cross entropy over the tokens of the targets. The decoder reads its start token and then the target
but its last token, so that every position is asked for the token that comes next: one shift. Pads
are no tokens: neither the head nor the loss sees them.
"""

import math
from typing import TYPE_CHECKING, Any

from engine.formats.florence2_tasks import TASKS

if TYPE_CHECKING:
    from refinement.training.collate import Batch


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
    `refinement.training.collate.Batch`, without the labels, and returns the logits at the positions
    that are no padding, in their order, shape (tokens, words).
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


class LossSums:
    """Losses summed by task, in float64; the same in any number of workers."""

    def __init__(self, device: Any) -> None:
        import torch

        self._sums = torch.zeros(2, len(TASKS), dtype=torch.float64, device=device)

    def add(self, losses: Any, batch: "Batch") -> None:
        """Those of a batch, one for each of its labels."""
        import torch

        found = losses.detach().double()
        task_of = batch.task_of.to(found.device)
        self._sums[0].index_add_(0, task_of, found)
        self._sums[1].index_add_(0, task_of, torch.ones_like(found))

    def means(self, accelerator: Any) -> tuple[float, dict[str, float]]:
        """Of all tokens of all workers, and by task; NaN without any."""
        sums = self._sums
        if accelerator.num_processes > 1:
            sums = accelerator.reduce(sums)
        total, counts = sums.cpu().tolist()
        tasks = {
            name: loss / count
            for name, loss, count in zip(TASKS, total, counts, strict=True)
            if count
        }
        return (math.fsum(total) / sum(counts) if sum(counts) else math.nan), tasks
