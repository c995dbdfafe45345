"""What specialists need on a machine (packages, weights) and what their weights are called."""

import hashlib
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path

from engine.errors import SpecialistError
from engine.protocols import Need

_CHUNK_BYTES = 1 << 20


def package_need(package: str, extra: str) -> Need:
    """Whether a Python package can be imported, without importing it.

    Args:
        package: Its import name.
        extra: The extra of this project that brings it.
    """
    present = importlib.util.find_spec(package) is not None
    return Need(f"package {package}", present, f"pip install 'fld-engine[{extra}]'")


def refuse_missing(name: str, needs: Iterable[Need]) -> None:
    """Stops at the first thing that is missing and will not be downloaded.

    Raises:
        SpecialistError: In one line: the specialist, what is missing, the command that mends it.
    """
    for need in needs:
        if not need.present and not need.downloads:
            raise SpecialistError(f"specialist {name!r}: {need.what} is missing; {need.mend}")


def cache_folder() -> Path:
    """Where weights and library settings stay between runs: `fld-engine` in the user's cache."""
    base = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(base).expanduser() / "fld-engine"


def revision_of(*paths: Path) -> str:
    """The first 16 hex digits of the sha256 over weights.

    One file: as `sha256sum` gives it. Several, or a folder: over name, size and bytes of every
    file, in sorted order; hidden files (a download's bookkeeping) do not count.

    Raises:
        FileNotFoundError: A path that does not exist.
    """
    digest = hashlib.sha256()
    if len(paths) == 1 and not paths[0].is_dir():
        _add_file(digest, paths[0])
        return digest.hexdigest()[:16]
    for root in paths:
        for file in _files(root):
            name = file.relative_to(root.parent if root.is_file() else root).as_posix()
            digest.update(f"{len(name)}:{name}{file.stat().st_size}:".encode())
            _add_file(digest, file)
    return digest.hexdigest()[:16]


def _files(root: Path) -> list[Path]:
    if not root.is_dir():
        return [root]
    inside = [(p, p.relative_to(root).parts) for p in root.rglob("*")]
    visible = [
        p for p, parts in inside if p.is_file() and not any(n.startswith(".") for n in parts)
    ]
    return sorted(visible, key=lambda p: p.relative_to(root).as_posix())


def _add_file(digest: "hashlib._Hash", file: Path) -> None:
    with file.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
