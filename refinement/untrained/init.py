"""Makes an untrained Florence-2 checkpoint: what a training starts from."""

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from refinement.untrained.presets import Preset, find_preset
from refinement.untrained.tokenizer import IMAGE

# What the released checkpoints scale colours by, the usual numbers of ImageNet.
_COLOUR_MEAN, _COLOUR_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
_BICUBIC = 3  # as Pillow counts
_BOS, _PAD, _EOS = 0, 1, 2
_TOWER_STD = 0.02  # of the random weights of the tower, as published
_LARGEST_SEED = 2**63 - 1


@dataclass(frozen=True, kw_only=True)
class InitFacts:
    """What was made.

    Attributes:
        parameters: Numbers to train; those that reading and speaking share count once.
        vocabulary: Words, special tokens included.
        image_size: Side every picture is scaled to, pixels.
        image_tokens: Of one picture.
        max_positions: Longest sequence, image tokens and all.
    """

    parameters: int
    vocabulary: int
    image_size: int
    image_tokens: int
    max_positions: int


def init_model(
    folder: Path,
    *,
    preset: str,
    tokenizer: Any,
    image_size: int | None = None,
    seed: int = 0,
    overrides: Mapping[str, Any] | None = None,
) -> InitFacts:
    """Writes a checkpoint folder whose weights are random; the same seed gives the same bytes.

    The folder appears whole or not at all.

    Args:
        folder: New, or empty.
        preset: `tiny`, `base` or `large`; see `refinement.untrained.presets`.
        tokenizer: As `refinement.untrained.tokenizer` gives it.
        image_size: Side pictures are scaled to, pixels; null: the preset's.
        seed: Of the weights.
        overrides: Numbers of the preset to replace.

    Raises:
        ConfigError: Such a preset, size or seed cannot be, the folder holds something, or it cannot
            be written.
    """
    sizes = find_preset(preset, overrides)
    side = sizes.image_size if image_size is None else image_size
    sizes.grid(side)
    if not -_LARGEST_SEED <= seed <= _LARGEST_SEED:
        raise ConfigError(f"seed {seed}; allowed: {-_LARGEST_SEED} to {_LARGEST_SEED}")
    folder = folder.resolve()
    refuse_full(folder)
    model = build_model(sizes, tokenizer, side, seed)
    _write(folder, model, _processor(sizes, tokenizer, side))
    text = model.config.text_config
    return InitFacts(
        parameters=model.num_parameters(),
        vocabulary=text.vocab_size,
        image_size=side,
        image_tokens=sizes.image_tokens(side),
        max_positions=text.max_position_embeddings,
    )


def build_model(sizes: Preset, tokenizer: Any, image_size: int, seed: int) -> Any:
    """The untrained model in memory, or without any inside `torch.device("meta")`.

    Leaves torch's own random numbers as they were.
    """
    import torch
    import transformers

    library: Any = transformers  # partly typed
    tokens = {"bos_token_id": _BOS, "pad_token_id": _PAD, "eos_token_id": _EOS}
    text = library.BartConfig(
        vocab_size=len(tokenizer),
        **sizes.text(image_size),
        **tokens,
        decoder_start_token_id=_EOS,
        # a forced end would close answers that were cut with a token the model did not choose
        forced_eos_token_id=None,
    )
    config = library.Florence2Config(
        text_config=text.to_dict(),
        vision_config={**sizes.vision(image_size), "initializer_range": _TOWER_STD},
        initializer_range=_TOWER_STD,  # of what joins the two
        image_token_id=tokenizer.convert_tokens_to_ids(IMAGE),
        **tokens,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = library.Florence2ForConditionalGeneration(config)
    model.generation_config = library.GenerationConfig(**tokens, decoder_start_token_id=_EOS)
    return model


def _processor(sizes: Preset, tokenizer: Any, image_size: int) -> Any:
    import transformers

    library: Any = transformers
    square = {"height": image_size, "width": image_size}
    pictures = library.CLIPImageProcessor(
        size=square,
        crop_size=square,
        do_center_crop=False,
        resample=_BICUBIC,
        image_mean=_COLOUR_MEAN,
        image_std=_COLOUR_STD,
    )
    pictures.image_seq_length = sizes.image_tokens(image_size)
    return library.Florence2Processor(pictures, tokenizer)


def refuse_full(folder: Path) -> None:
    """Stops where a checkpoint cannot go; worth a call before a vocabulary is learned.

    Raises:
        ConfigError: The folder holds something, or is none.
    """
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise ConfigError(f"{folder}: is there already; name a new folder, or empty this one")


def save_weights(folder: Path, model: Any, state: Mapping[str, Any] | None = None) -> None:
    """Config and weights, as safetensors, for whoever may read other files of this process.

    Args:
        folder: Is there already.
        model: A model of transformers.
        state: Its weights, by name; null: as they are in the model.
    """
    model.save_pretrained(folder, state_dict=state)
    for weights in folder.glob("*.safetensors"):
        # the library leaves them to their owner alone, and the umask is not asked
        shutil.copymode(folder / "config.json", weights)


def _write(folder: Path, model: Any, processor: Any) -> None:
    import transformers

    library: Any = transformers
    library.logging.disable_progress_bar()
    unfinished = folder.with_name(f".{folder.name}.unfinished")
    try:
        shutil.rmtree(unfinished, ignore_errors=True)  # of a run that was killed
        unfinished.mkdir(parents=True)
        save_weights(unfinished, model)
        processor.save_pretrained(unfinished)
        unfinished.replace(folder)
    except OSError as err:
        raise ConfigError(f"{folder}: cannot be written: {err}") from err
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
