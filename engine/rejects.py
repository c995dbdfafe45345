"""The picture of rejected rows that a filter leaves beside its verdicts."""

import io
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import pyarrow as pa

from engine import dataset
from engine.ancestry import ancestors, pixel_version
from engine.draw_rejects import ShardPixels, draw_rejects
from engine.exchange import path_of
from engine.reading import read_parquet
from engine.sink import ShardFiles
from engine.source.shapes import Location, ReadError

_MOST_SHARDS = 16  # looked through for rows to draw; of a large dataset a few tell enough
_MAX_BYTES = 100_000_000  # of a picture


def write_rejects(
    output: Location, version: str, pictures: Location | None = None, *, seed: int = 0
) -> str | None:
    """Draws 20 random rejected rows of a label version into the dataset's `_run` folder.

    Args:
        output: The dataset's, or the ledger of filtered labels.
        version: Its label version.
        pictures: The folder of the pictures, where the dataset holds none.
        seed: Of the choice.

    Returns:
        Where the PNG was written; null where there is no picture to draw on, or nothing rejected.
    """
    shards = _shards_with_rejects(output, version)
    versions = ancestors(dataset.read_dataset(output), version)
    if pictures is None and not any(pixel_version(output, versions, shard) for shard in shards[:1]):
        return None
    if not shards:
        return None
    page = draw_rejects(_read(output, version, versions, shards, pictures), seed=seed)
    buffer = io.BytesIO()
    page.save(buffer, "PNG")
    path = f"_run/reports/{version}.rejects.png"
    output.write(path, buffer.getvalue())
    return f"{output.uri.rstrip('/')}/{path}"


def _shards_with_rejects(output: Location, version: str) -> list[int]:
    """Evenly spread over those that have any."""
    markers = dataset.Markers(output, version)
    markers.load()
    found = [
        marker["shard"]
        for marker in markers.each()
        if any(name.endswith("/rejected") for name in marker["annotations"])
    ]
    step = max(1, -(-len(found) // _MOST_SHARDS))
    return found[::step]


def _read(
    output: Location,
    version: str,
    versions: list[str],
    shards: list[int],
    pictures: Location | None,
) -> Iterator[tuple[pa.Table, pa.Table, Mapping[str, bytes]]]:
    for shard in shards:
        files = ShardFiles(shard)
        images = read_parquet(output, f"{version}/{files.images}")
        rows = read_parquet(output, f"{version}/{files.annotations}")
        data: Mapping[str, bytes] = ShardPixels(output, versions, shard)
        if pictures is not None:
            uris = zip(images["image_key"].to_pylist(), images["uri"].to_pylist(), strict=True)
            data = _Looked(pictures, dict(uris))
        yield images, rows, data


@dataclass(frozen=True)
class _Looked(Mapping[str, bytes]):
    """Pictures by key, each read when it is asked for."""

    pictures: Location
    uris: Mapping[str, str]

    def __getitem__(self, key: str) -> bytes:
        try:
            path = path_of(self.pictures, self.uris[key])
            return bytes(self.pictures.read(path, max_bytes=_MAX_BYTES).data)
        except ReadError as err:
            raise KeyError(key) from err

    def __iter__(self) -> Iterator[str]:
        return iter(self.uris)

    def __len__(self) -> int:
        return len(self.uris)
