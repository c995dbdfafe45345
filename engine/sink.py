"""Tables and image bytes become a shard: written aside, verified, renamed, marker last."""

import hashlib
import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.errors import ShardError
from engine.nested import nested_views, to_json
from engine.output import take_over
from engine.schema import ANNOTATIONS, IMAGE_STATUS, IMAGES, canonical
from engine.source.shapes import Location

DONE = "_done"
# Columns of few values, and those by which a reader would skip row groups. Of ids and numbers a
# dictionary is built in vain: without it, and without bounds that nobody asks for, 65,000 rows are
# written in 36 ms against 47, read in 19 against 21, and take 1.5 % more space.
_REPEATING = frozenset(
    [field.name for field in ANNOTATIONS if pa.types.is_dictionary(field.type)]
    + ["image_key", "text", "against", "format", "status", "licence"]
)
_SORTED_BY = frozenset({"image_key", "score", "text_score", "width", "height"})
# File name endings of what the sniffed formats of engine.pixels are called.
_EXTENSIONS = {"jpeg": "jpg", "tiff": "tif"}


@dataclass(frozen=True)
class ShardFiles:
    """The names of one shard's files inside its version folder."""

    shard: int

    @property
    def tar(self) -> str:
        """WebDataset."""
        return f"{self.shard:06d}.tar"

    @property
    def annotations(self) -> str:
        """Every claim with its verdict."""
        return f"{self.shard:06d}.annotations.parquet"

    @property
    def images(self) -> str:
        """Every image, ok or not."""
        return f"{self.shard:06d}.images.parquet"

    @property
    def marker(self) -> str:
        """Present = the shard is complete."""
        return f"{DONE}/{self.shard:06d}.json"

    @property
    def data(self) -> tuple[str, str, str]:
        """The three data files, in the order they are renamed."""
        return (self.tar, self.annotations, self.images)


@dataclass(frozen=True)
class Expected:
    """What must add up before a shard may be committed."""

    num_images: int  # candidates the plan lists
    num_rows: dict[str, int]  # rows counted as they left each specialist


@dataclass(frozen=True)
class Target:
    """Where shards are committed: an output, a label version, and a local folder to write aside."""

    output: Location
    version: str
    scratch: Path  # for a local output on its file system, so that a rename commits
    pixels: bool = True
    views: bool = True  # whether tars hold the nested view of each image


def write_shard(
    target: Target,
    shard: int,
    images: pa.Table,
    annotations: pa.Table,
    data: dict[str, Any],
    expected: Expected,
    *,
    rules: dict[str, list[int]],
) -> dict[str, Any]:
    """Writes a shard aside, verifies it, moves it to its place and writes its marker last.

    Args:
        target: Where to.
        shard: Its number.
        images: Every image of the plan, in the IMAGES schema.
        annotations: Every claim with its verdict.
        data: Encoded bytes of the `ok` images by image_key, of those that have any.
        expected: What left the source and the specialists.
        rules: Rows judged and rejected by each rule, for the marker.

    Returns:
        The marker: counts, and sha256 and size of the three files.

    Raises:
        ShardError: Something does not add up; nothing was committed.
    """
    images, annotations = canonical(images, IMAGES), canonical(annotations, ANNOTATIONS)
    _check_conservation(shard, images, annotations, expected)
    files = ShardFiles(shard)
    target.scratch.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=target.scratch, prefix=f"{shard:06d}-") as folder:
        return _commit(target, files, Path(folder), images, annotations, data, rules)


def _commit(
    target: Target,
    files: ShardFiles,
    scratch: Path,
    images: pa.Table,
    annotations: pa.Table,
    data: dict[str, Any],
    rules: dict[str, list[int]],
) -> dict[str, Any]:
    members = list(_members(images, annotations, data, views=target.views))
    written = {
        files.tar: _write_tar(scratch / files.tar, members),
        files.annotations: _write_table(scratch / files.annotations, annotations),
        files.images: _write_table(scratch / files.images, images),
    }
    _verify(scratch, files, [name for name, _ in members], images, annotations)
    marker = {
        "shard": files.shard,
        "images": _count_values(images["status"], IMAGE_STATUS),
        "failures": _count_failures(images),
        "annotations": _count_annotations(annotations),
        "rules": rules,
        "files": written,
    }
    version, output = target.version, target.output
    # a retry takes the old shard back before it changes it
    output.delete(f"{version}/{files.marker}")
    for name in files.data:
        take_over(output, scratch / name, f"{version}/{name}")
    output.write(f"{version}/{files.marker}", (json.dumps(marker, indent=1) + "\n").encode())
    return marker


def _check_conservation(
    shard: int, images: pa.Table, annotations: pa.Table, expected: Expected
) -> None:
    counts = _count_values(images["status"], IMAGE_STATUS)
    if images.num_rows != expected.num_images or sum(counts.values()) != expected.num_images:
        spelled = ", ".join(f"{name} {n}" for name, n in counts.items())
        raise ShardError(
            f"shard {shard:06d}: {expected.num_images:,} images in, {sum(counts.values()):,} "
            f"accounted for ({spelled}); nothing was committed, please report this"
        )
    found = count_by(annotations["source"])
    for source in {**found, **expected.num_rows}:
        given, kept = expected.num_rows.get(source, 0), found.get(source, 0)
        if given != kept:
            raise ShardError(
                f"shard {shard:06d}: source {source!r} gave {given:,} rows, the table holds "
                f"{kept:,}; nothing was committed, please report this"
            )


def _members(
    images: pa.Table, annotations: pa.Table, data: dict[str, Any], *, views: bool
) -> Iterator[tuple[str, Any]]:
    if not (data or views):
        return
    for view in nested_views(images, annotations):
        key = view["image"]["image_key"]
        if key in data:
            suffix = view["image"]["format"]
            yield f"{key}.{_EXTENSIONS.get(suffix, suffix)}", data[key]
        if views:
            yield f"{key}.json", to_json(view)


def _write_tar(path: Path, members: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    with path.open("wb") as raw:
        hashed = _HashedFile(raw)
        # USTAR without times or owners: the same members are the same bytes anywhere
        with tarfile.open(fileobj=hashed, mode="w|", format=tarfile.USTAR_FORMAT) as tar:
            for name, content in members:
                info = tarfile.TarInfo(name)
                info.size, info.mtime, info.mode = len(content), 0, 0o644
                tar.addfile(info, io.BytesIO(content))
    return {"sha256": hashed.sha256.hexdigest(), "size_bytes": hashed.size_bytes}


def _write_table(path: Path, table: pa.Table) -> dict[str, Any]:
    with path.open("wb") as raw:
        hashed = _HashedFile(raw)
        with pq.ParquetWriter(
            pa.PythonFile(hashed, mode="w"),
            table.schema,
            compression="zstd",
            version="2.6",
            use_dictionary=[name for name in table.column_names if name in _REPEATING],
            write_statistics=[name for name in table.column_names if name in _SORTED_BY],
        ) as writer:
            if table.num_rows:  # `datasets` cannot read a row group without rows
                writer.write_table(table)
    return {"sha256": hashed.sha256.hexdigest(), "size_bytes": hashed.size_bytes}


class _HashedFile(io.RawIOBase):
    """A write-only file that digests what passes through it."""

    def __init__(self, raw: IO[bytes]) -> None:
        super().__init__()
        self._raw = raw
        self.sha256 = hashlib.sha256()
        self.size_bytes = 0

    def writable(self) -> bool:
        return True

    def write(self, content: Any) -> int:
        self.sha256.update(content)
        self.size_bytes += len(content)
        return self._raw.write(content)


def _verify(
    scratch: Path, files: ShardFiles, names: list[str], images: pa.Table, annotations: pa.Table
) -> None:
    with tarfile.open(scratch / files.tar) as tar:
        found = [member.name for member in tar]
    if found != names:
        raise ShardError(
            f"shard {files.shard:06d}: its tar reads back {len(found)} of {len(names)} members"
        )
    for name, table in ((files.annotations, annotations), (files.images, images)):
        rows = pq.read_metadata(scratch / name).num_rows
        if rows != table.num_rows:
            raise ShardError(
                f"shard {files.shard:06d}: {name} reads back {rows} of {table.num_rows} rows"
            )


def _count_values(column: Any, names: tuple[str, ...]) -> dict[str, int]:
    found = count_by(column)
    return {name: found.get(name, 0) for name in names}


def count_by(column: Any) -> dict[str, int]:
    """How many rows bear each value of a column of strings, plain or of a dictionary."""
    counted = pc.value_counts(column.cast(pa.string()))
    return {str(entry["values"]): entry["counts"].as_py() for entry in counted}


def _count_failures(images: pa.Table) -> dict[str, int]:
    """Failures by `stage/cause`, those of specialists by `source/cause`."""
    counts: dict[str, int] = {}
    for failures in images["failures"].to_pylist():
        for failure in failures or ():
            name = f"{failure['source'] or failure['stage']}/{failure['cause']}"
            counts[name] = counts.get(name, 0) + 1
    return dict(sorted(counts.items()))


def _count_annotations(annotations: pa.Table) -> dict[str, int]:
    """Rows by `source/kind/role/status`."""
    names = ("source", "kind", "role", "status")
    words = [annotations[name].cast(pa.string()) for name in names]
    if annotations.num_rows == 0:
        return {}
    return dict(sorted(count_by(pc.binary_join_element_wise(*words, "/")).items()))
