"""Models of transformers, by hub id or folder: found, fetched, loaded.

Only what transformers itself implements and only safetensors: no remote code, no pickles.
"""

import re
from pathlib import Path
from typing import Any

from engine.errors import SpecialistError
from engine.protocols import Need
from specialists.needs import package_need, revision_of
from specialists.threads import thread_count

# Names that stand for checkpoints of this project.
_OWN = {"plain": Path(__file__).parent / "weights" / "plain"}
# What is fetched from the hub: safetensors, and the small text files of config and tokenizer.
_FILES = ("*.safetensors", "*.json", "*.txt", "*.model", "*.jinja")
_HUB_ID = re.compile(r"^[\w-][\w.-]*(/[\w.-]+)?$")


def local_folder(model: str) -> Path | None:
    """Where a model lies that is not to be had from the hub; null for all others.

    Args:
        model: A folder, a hub id, or a name of this project's own checkpoints, which goes before
            both; a folder of that name is `./plain`.
    """
    folder = _OWN.get(model, Path(model))
    return folder if model in _OWN or folder.is_dir() else None


def hub_needs(model: str, revision: str | None, extra: str) -> list[Need]:
    """transformers, torchvision, and the model as a folder or in the hub's cache.

    Args:
        model: A folder with config.json and safetensors, a hub id, or `plain`, which is ours.
        revision: Branch, tag or commit on the hub; null: its main branch.
        extra: The extra of this project that brings transformers for this specialist.
    """
    needs = [package_need(package, extra) for package in ("transformers", "torchvision")]
    what = f"model {model}"
    folder = local_folder(model)
    if folder is not None:
        mend = "the folder must hold config.json and *.safetensors; save_pretrained writes both"
        if model in _OWN:
            mend = "it ships with fld-engine: reinstall the package"
        return [*needs, Need(what, _is_complete(folder), mend)]
    if not _HUB_ID.match(model):
        mend = "name an existing folder or a hub id"
        return [*needs, Need(f"model folder {model}", False, mend)]
    mend = f"it is downloaded from the hub; offline, name a folder: hf download {model}"
    cached = needs[0].present and _is_cached(model, revision)
    return [*needs, Need(what, cached, mend, downloads=True)]


def fetch(owner: str, model: str, revision: str | None) -> Path:
    """The folder that holds the model: itself, or the hub's cache, downloaded where needed.

    Args:
        owner: Name of the specialist, for messages.
        model: A folder, a hub id or `plain`.
        revision: Of a hub id; ignored for a folder.

    Raises:
        SpecialistError: The hub has no such model or cannot be reached.
    """
    folder = local_folder(model)
    if folder is not None:
        return folder
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    try:
        cached = snapshot_download(model, revision=revision, allow_patterns=list(_FILES))
    except (OSError, HFValidationError) as err:  # every error of the hub's client is an OSError
        raise SpecialistError(
            f"specialist {owner!r}: model {model} cannot be had from the hub: "
            f"{_first_line(err)}; check its name and the network, or name a folder"
        ) from err
    return Path(cached)


def pin(owner: str, model: str, revision: str | None) -> str:
    """Fetches the model; returns the commit of a hub model, or the digest of a folder.

    A specialist hands the result to `fetch` in `load`, so that every worker loads this very commit.

    Raises:
        SpecialistError: As `fetch`.
    """
    folder = fetch(owner, model, revision)
    # the cache keeps each commit in a folder of its name
    return revision_of(folder) if local_folder(model) else folder.name


def load_pretrained(
    owner: str,
    model: str,
    revision: str | None,
    classes: tuple[str, str],
    *,
    dtype: str = "float32",
    device: str = "cpu",
) -> tuple[Any, Any]:
    """Processor and model, ready to answer, computing with the threads this worker may take.

    Args:
        owner: Name of the specialist, for messages.
        model: A folder or a hub id.
        revision: What `pin` returned, or what the user asked for.
        classes: Names of the processor's and the model's class in transformers.
        dtype: `float32`, `bfloat16` or `float16`.
        device: As torch names it.

    Raises:
        SpecialistError: transformers does not know such a model, there are no safetensors of it or
            not of all its parts, or the hub cannot be reached.
    """
    import torch
    import transformers
    from safetensors import SafetensorError

    torch.set_num_threads(thread_count())
    library: Any = transformers  # partly typed
    library.logging.set_verbosity_error()
    library.logging.disable_progress_bar()
    folder = fetch(owner, model, revision)
    try:
        processor = getattr(library, classes[0]).from_pretrained(folder, trust_remote_code=False)
        loaded, report = getattr(library, classes[1]).from_pretrained(
            folder,
            dtype=getattr(torch, dtype),
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, KeyError, ImportError, SafetensorError) as err:
        raise SpecialistError(
            f"specialist {owner!r}: {model} cannot be loaded: {_first_line(err)}"
        ) from err
    missing = sorted(report["missing_keys"])
    if missing:  # the library fills them at random, and the answers would be inventions
        raise SpecialistError(
            f"specialist {owner!r}: {model} has no weights for {len(missing)} parts of a "
            f"{type(loaded).__name__}, such as {missing[0]}; name a model trained for this task"
        )
    return processor, loaded.eval().to(torch.device(device))


def _first_line(err: Exception) -> str:
    return str(err).strip().partition("\n")[0]


def _is_complete(folder: Path) -> bool:
    return (folder / "config.json").is_file() and any(folder.glob("*.safetensors"))


def _is_cached(model: str, revision: str | None) -> bool:
    from huggingface_hub import try_to_load_from_cache

    return isinstance(try_to_load_from_cache(model, "config.json", revision=revision), str)
