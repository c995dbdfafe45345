"""The checkpoint a training starts from: refused in one line where it cannot be trained."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ConfigError
from specialists.hub import fetch, load_pretrained, local_folder
from specialists.needs import package_need, refuse_missing, revision_of

_OWNER = "train"  # as which the loaders speak of us in their messages
_CLASSES = ("Florence2Processor", "Florence2ForConditionalGeneration")
_PACKAGES = ("torch", "transformers", "torchvision", "accelerate", "safetensors")
_PICKLES = ("*.bin", "*.pt", "*.pth", "*.ckpt")
_BY_WORD = ("shared.weight", "embed_tokens.weight", "lm_head.weight")
_NUM_BINS = 1000  # location tokens, Florence-2's bins of each axis
# Embeddings are often padded with rows no token has, up to a multiple of this.
_PADDED_TO = 128


@dataclass(frozen=True)
class Start:
    """A checkpoint that was looked at: where it lies, and the digest or commit of what it is."""

    folder: Path
    revision: str


def check_start(model: str, revision: str | None) -> Start:
    """Finds the checkpoint and reads everything about it but its weights' values.

    Args:
        model: A folder, a hub id, or `plain`, the checkpoint of this project.
        revision: Of a hub id.

    Raises:
        SpecialistError: A package is missing, or the hub cannot be reached.
        ConfigError: It is no folder, holds pickles alone, is cut short, is no Florence-2, or its
            vocabulary has no locations or is not that of its embeddings.
    """
    refuse_missing(_OWNER, [package_need(package, "train") for package in _PACKAGES])
    if not local_folder(model) and Path(model).is_absolute():
        raise ConfigError(f"model {model}: no such folder; name a folder or a hub id")
    folder = fetch(_OWNER, model, revision)
    _check_architecture(model, folder)
    shapes = _read_shapes(model, folder)
    _check_vocabulary(model, folder, shapes)
    digest = revision_of(folder) if local_folder(model) else folder.name
    return Start(folder, digest)


def load_start(folder: Path) -> tuple[Any, Any]:
    """Processor and model on the CPU, in float32.

    Raises:
        SpecialistError: As `specialists.hub.load_pretrained`.
    """
    return load_pretrained(_OWNER, str(folder), None, _CLASSES)


def _check_architecture(model: str, folder: Path) -> None:
    config = _read_json(model, folder / "config.json")
    if config.get("model_type") != "florence2":
        raise ConfigError(
            f"model {model}: is a {config.get('model_type') or 'model of no known type'}; "
            "training needs a Florence-2 in transformers' own format"
        )
    if "auto_map" in config:
        raise ConfigError(
            f"model {model}: brings code of its own, which is never run; "
            "name the same checkpoint in transformers' own format (florence-community on the hub)"
        )


def _read_json(model: str, file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as err:
        raise ConfigError(
            f"model {model}: has no {file.name}; name a folder that save_pretrained wrote"
        ) from err
    except (OSError, ValueError) as err:
        raise ConfigError(f"model {model}: {file.name} cannot be read: {err}") from err
    if not isinstance(found, dict):
        raise ConfigError(f"model {model}: {file.name} holds no mapping")
    return found


def _read_shapes(model: str, folder: Path) -> dict[str, list[int]]:
    """Name and shape of every tensor, from the headers; a file cut short is found by them."""
    import safetensors

    files = sorted(folder.glob("*.safetensors"))
    if not files:
        pickles = sorted(file.name for pattern in _PICKLES for file in folder.glob(pattern))
        found = f"only {pickles[0]}, a pickle, which can run code" if pickles else "no weights"
        raise ConfigError(
            f"model {model}: holds {found}; wanted *.safetensors, as "
            "save_pretrained(safe_serialization=True) writes them"
        )
    shapes: dict[str, list[int]] = {}
    for file in files:
        try:
            with safetensors.safe_open(file, framework="numpy") as opened:
                names = opened.keys()
                shapes |= {name: opened.get_slice(name).get_shape() for name in names}
        except (safetensors.SafetensorError, OSError) as err:
            raise ConfigError(
                f"model {model}: {file.name} cannot be read ({err}); it is cut short or damaged, "
                "fetch it again"
            ) from err
    _check_all_files(model, folder, shapes)
    return shapes


def _check_all_files(model: str, folder: Path, shapes: dict[str, list[int]]) -> None:
    index = folder / "model.safetensors.index.json"
    if not index.is_file():
        return
    named = _read_json(model, index).get("weight_map", {})
    if missing := sorted({file for name, file in named.items() if name not in shapes}):
        raise ConfigError(f"model {model}: {missing[0]} is missing or incomplete; fetch it again")


def _check_vocabulary(model: str, folder: Path, shapes: dict[str, list[int]]) -> None:
    tokenizer = _load_tokenizer(model, folder)
    known = tokenizer.get_vocab()
    lacking = [n for n in range(_NUM_BINS) if f"<loc_{n}>" not in known]
    if lacking:
        raise ConfigError(
            f"model {model}: its tokenizer lacks {len(lacking)} of {_NUM_BINS} location tokens, "
            f"such as <loc_{lacking[0]}>; training needs Florence-2's vocabulary"
        )
    num_tokens = max(known.values()) + 1
    for name, shape in shapes.items():
        is_padded = num_tokens <= shape[0] < num_tokens + _PADDED_TO
        if name.endswith(_BY_WORD) and not is_padded:
            raise ConfigError(
                f"model {model}: {name} has {shape[0]} words, the tokenizer {num_tokens}; "
                "they are of different checkpoints"
            )


def _load_tokenizer(model: str, folder: Path) -> Any:
    import transformers

    library: Any = transformers
    library.logging.set_verbosity_error()
    try:
        return library.AutoTokenizer.from_pretrained(folder, trust_remote_code=False)
    except Exception as err:  # its tokenizers raise bare Exception for a file that is no tokenizer
        said = str(err).strip().partition("\n")[0]
        raise ConfigError(f"model {model}: its tokenizer cannot be loaded: {said}") from err
