"""Folders that are there whole or not at all, and the checkpoints a training resumes from.

No pickles: tensors are safetensors, numbers JSON. A checkpoint is also a model anyone can load, so
that a training that failed leaves something to start another from.
"""

import json
import logging
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from engine.errors import TrainingError

_log = logging.getLogger(__name__)

_NAME = re.compile(r"checkpoint-(\d{6,})")
_TENSORS, _NUMBERS = "training.safetensors", "training.json"
_KEPT = 2  # the one before serves where the disk has lost the last


@dataclass
class Progress:
    """What a training has come to behind a step, but for its tensors.

    Attributes:
        step: Steps done.
        loss: Of the last of them.
        best: The lowest loss of a validation, and `best_step` where it was.
        waited: Validations since.
        left_out: Examples that could not be learnt, by reason.
    """

    step: int = 0
    loss: float | None = None
    best: float | None = None
    best_step: int | None = None
    waited: int = 0
    left_out: dict[str, int] = field(default_factory=dict)


@contextmanager
def whole_folder(path: Path) -> Iterator[Path]:
    """A folder to write into that takes its name when all is written and on the disk.

    One of that name that exists already is replaced.
    """
    aside = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(aside, ignore_errors=True)
    aside.mkdir(parents=True)
    yield aside
    for file in aside.rglob("*"):
        _sync(file)
    if path.exists():
        shutil.rmtree(path)
    aside.rename(path)
    _sync(path.parent)


def write_json(path: Path, content: Any) -> None:
    """Writes a file that is there whole or not at all."""
    aside = path.with_name(f".{path.name}.tmp")
    aside.write_text(json.dumps(content, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    _sync(aside)
    aside.replace(path)
    _sync(path.parent)


def checkpoint_path(folder: Path, step: int) -> Path:
    """Where the checkpoint behind a step lies."""
    return folder / f"checkpoint-{step:06d}"


def find_checkpoints(folder: Path) -> list[Path]:
    """Those of a training, the last first."""
    found = [(int(m[1]), path) for path in folder.glob("*") if (m := _NAME.fullmatch(path.name))]
    return [path for _, path in sorted(found, reverse=True)]


def write_state(folder: Path, tensors: dict[str, Any], progress: Progress) -> None:
    """Adds to a checkpoint what only its training needs."""
    import safetensors.torch

    plain = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    safetensors.torch.save_file(plain, folder / _TENSORS)
    text = json.dumps(asdict(progress), indent=1, sort_keys=True)
    (folder / _NUMBERS).write_text(text + "\n", encoding="utf-8")


def read_state(folder: Path) -> tuple[dict[str, Any], Progress]:
    """Tensors and numbers of a checkpoint."""
    import safetensors.torch

    numbers = json.loads((folder / _NUMBERS).read_text(encoding="utf-8"))
    return safetensors.torch.load_file(folder / _TENSORS), Progress(**numbers)


def last_whole(folder: Path) -> Path | None:
    """The last checkpoint whose files can be read; null where there is none.

    Raises:
        TrainingError: There are some, and none can be read.
    """
    import safetensors

    found = find_checkpoints(folder)
    for path in found:
        try:
            for file in path.glob("*.safetensors"):
                with safetensors.safe_open(file, framework="numpy"):
                    pass  # its header tells of a file that is too short
            Progress(**json.loads((path / _NUMBERS).read_text(encoding="utf-8")))
        except (safetensors.SafetensorError, OSError, ValueError, TypeError) as err:
            _log.warning("%s cannot be read (%s); the one before is taken", path, err)
            continue
        return path
    if found:
        raise TrainingError(
            f"training {folder}: none of its {len(found)} checkpoints can be read; remove the "
            "folder to start again"
        )
    return None


def prune(folder: Path) -> None:
    """Removes all checkpoints but the last two."""
    for path in find_checkpoints(folder)[_KEPT:]:
        shutil.rmtree(path)


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed training had not finished writing."""
    for path in folder.glob(".*.tmp"):
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()


def _sync(path: Path) -> None:
    """Makes a file's content, or the names in a folder, survive a power cut."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)
