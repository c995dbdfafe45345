"""Tar files as tests need them: whole, hostile or broken."""

import gzip
import io
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path


def tar_bytes(members: Mapping[str, bytes] | Iterable[tuple[str, bytes | str]]) -> bytes:
    """A tar of those members in order; a text in place of bytes makes a link to it."""
    pairs = members.items() if isinstance(members, Mapping) else members
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, content in pairs:
            info = tarfile.TarInfo(name)
            if isinstance(content, str):
                info.type, info.linkname = tarfile.SYMTYPE, content
                tar.addfile(info)
            else:
                info.size = len(content)
                tar.addfile(info, io.BytesIO(content))
    return stream.getvalue()


def write_tar(path: Path, members, *, cut: int | None = None) -> Path:
    """Writes such a tar, gzipped by its name; only its first `cut` bytes where given."""
    content = tar_bytes(members)[:cut]
    if path.name.endswith("gz"):
        content = gzip.compress(content, mtime=0)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path
