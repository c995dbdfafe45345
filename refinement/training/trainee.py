"""The model in training with its optimizer: loaded, saved, and put back as it was."""

from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from refinement.training.checkpoints import Progress, read_state, whole_folder, write_state
from refinement.training.collate import square
from refinement.training.lora import (
    adapter_weights,
    add_adapters,
    merged_state,
    set_adapter_weights,
)
from refinement.training.options import TrainOptions
from refinement.training.start import load_start
from refinement.untrained.init import save_weights

_MOMENTS = ("exp_avg", "exp_avg_sq", "step")  # AdamW's, of each weight


class Trainee:
    """Processor, model and optimizer, and which of the weights are learnt."""

    def __init__(self, start: Path, checkpoint: Path | None, options: TrainOptions) -> None:
        """Loads on the CPU.

        Args:
            start: Folder of the checkpoint the training started from.
            checkpoint: Of the training itself, to go on from.
            options: Of the training.
        """
        self._options = options
        lora = options.lora_options
        self.processor, self.model = load_start(start)  # checkpoints' pictures are of their stage
        if checkpoint is not None and lora is None:  # adapters are added to what they first were
            _, self.model = load_start(checkpoint)
        if options.dtype == "bfloat16" and not options.gpus_per_worker:
            # torch's fused attention computes its gradient in bfloat16 so slowly on CPUs that a
            # step takes twice as long (the tiny preset, batches of 32: 230 against 138 ms)
            self.model.set_attn_implementation("eager")
        if options.freeze_vision:
            self.model.model.vision_tower.requires_grad_(False)
        if lora is not None:
            add_adapters(self.model, lora, spare_vision=options.freeze_vision)
        self.num_image_tokens = {
            side: self._count_image_tokens(side)
            for side in {stage.resolution for stage in options.stages}
        }

    def _count_image_tokens(self, side: int | None) -> int:
        import torch
        from PIL import Image

        sides = {} if side is None else square(side)
        blank = self.processor.image_processor(
            [Image.new("RGB", (8, 8))], return_tensors="pt", **sides
        )["pixel_values"]
        try:
            with torch.inference_mode():
                count = self.model.eval().get_image_features(blank).pooler_output.shape[1]
        except (IndexError, RuntimeError) as err:
            raise ConfigError(
                f"refine.train.resolutions: the checkpoint cannot see pictures of {side} pixels a "
                f"side: {str(err).partition(chr(10))[0]}; choose a smaller multiple of 32"
            ) from err
        most = self.model.config.text_config.max_position_embeddings
        if count >= most:
            raise ConfigError(
                f"refine.train.resolutions: a picture of {side or 'the usual number of'} pixels a "
                f"side takes {count} tokens, and the checkpoint has positions for {most}"
            )
        return int(count)

    def learnt(self) -> dict[str, Any]:
        """The weights that are learnt, by name."""
        return {name: p for name, p in self.model.named_parameters() if p.requires_grad}

    def make_optimizer(self) -> Any:
        """AdamW over what is learnt; weight decay on matrices alone."""
        import torch

        learnt = self.learnt()
        decay = [p for p in learnt.values() if p.ndim > 1]
        spared = [p for p in learnt.values() if p.ndim <= 1]
        groups = [
            {"params": decay, "weight_decay": self._options.weight_decay},
            {"params": spared, "weight_decay": 0.0},
        ]
        beta1, beta2 = self._options.betas
        return torch.optim.AdamW(
            [group for group in groups if group["params"]],
            lr=self._options.learning_rate,
            betas=(beta1, beta2),
            fused=True,  # a tenth of a small model's step, where each weight goes by itself
        )

    def set_mode(self, *, learns: bool) -> None:
        """Dropout on or off; what is frozen answers as it will be asked, without."""
        if self.model.training == learns:
            return  # a walk over all modules takes a twentieth of a small model's step
        self.model.train(learns)
        if self._options.freeze_vision:
            self.model.model.vision_tower.eval()

    def save_model(self, path: Path, resolution: int | None) -> None:
        """A folder that loads as a plain Florence-2, adapters merged.

        Args:
            path: Of the folder.
            resolution: Of the pictures it has learnt last.
        """
        with whole_folder(path) as folder:
            self._write_model(folder, resolution)

    def save(self, path: Path, resolution: int | None, optimizer: Any, progress: Progress) -> None:
        """A checkpoint: the model, and what its training needs to go on."""
        adapters = adapter_weights(self.model)
        tensors = {f"adapter.{name}": tensor for name, tensor in adapters.items()}
        for name, parameter in self.learnt().items():
            moments = optimizer.state.get(parameter, {})
            tensors |= {f"{moment}.{name}": moments[moment] for moment in _MOMENTS if moments}
        with whole_folder(path) as folder:
            self._write_model(folder, resolution)
            write_state(folder, tensors, progress)

    def restore(self, path: Path, optimizer: Any) -> Progress:
        """Adapters and optimizer as `save` left them; the model itself is loaded from there."""
        tensors, progress = read_state(path)
        prefix = "adapter."
        adapters = {n.removeprefix(prefix): t for n, t in tensors.items() if n.startswith(prefix)}
        set_adapter_weights(self.model, adapters)
        for name, parameter in self.learnt().items():
            if f"step.{name}" in tensors:  # absent of a weight that no example has reached
                optimizer.state[parameter] = {
                    moment: tensors[f"{moment}.{name}"].to(parameter.device) for moment in _MOMENTS
                }
        return progress

    def _write_model(self, folder: Path, resolution: int | None) -> None:
        state = merged_state(self.model) if self._options.lora is not None else None
        save_weights(folder, self.model, state)
        self._sized_processor(resolution).save_pretrained(folder)

    def _sized_processor(self, side: int | None) -> Any:
        """The processor, its pictures of that side."""
        if side is None:
            return self.processor
        pictures = self.processor.image_processor
        sized = type(pictures)(**{**pictures.to_dict(), **square(side)})
        sized.image_seq_length = self.num_image_tokens[side]
        return type(self.processor)(
            sized,
            self.processor.tokenizer,
            num_additional_image_tokens=self.processor.num_additional_image_tokens,
            post_processor_config=self.processor.post_processor_config,
        )
