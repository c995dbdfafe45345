"""A dataset for training: every image, upright, joined with what a label version says of it."""

import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
from PIL import Image

from engine.ancestry import ancestors, damaged, find_version, read_pixels
from engine.dataset import Markers, read_dataset
from engine.errors import ConfigError, ShardError
from engine.pixels import DecodeError, EncodedImage
from engine.reading import read_parquet
from engine.schema import ANNOTATION_STATUS, ANNOTATIONS, box_array
from engine.sink import ShardFiles
from engine.source.filesystem import open_location
from engine.source.shapes import Location, ReadError

ImageForm = Literal["pil", "numpy", "bytes", "none"]
_FORMS: tuple[ImageForm, ...] = ("pil", "numpy", "bytes", "none")
_READ = ("image_key", "annotation_id", "kind", "role", "text", "text_id", "span_start", "span_end")
_NEEDED = (*_READ, "box", "score", "text_score", "status")


@dataclass(frozen=True, kw_only=True)
class Samples:
    """The images of a label version, one sample each, as often as they are iterated; see `load`."""

    output: Location
    versions: tuple[str, ...]  # the one read first, then those it came from
    shards: tuple[int, ...]
    image: ImageForm
    columns: tuple[str, ...]
    statuses: tuple[str, ...]
    rank: int
    num_ranks: int

    def __iter__(self) -> Iterator[dict[str, Any]]:
        """The samples of every shard that is this rank's and this DataLoader worker's."""
        worker, num_workers = _worker()
        mine = self.shards[self.rank :: self.num_ranks][worker::num_workers]
        for shard in mine:
            yield from self._read(shard)

    def _read(self, shard: int) -> Iterator[dict[str, Any]]:
        files, version = ShardFiles(shard), self.versions[0]
        images = self._table(f"{version}/{files.images}")
        images = images.filter(pc.equal(images["status"], "ok"))
        rows = self._table(f"{version}/{files.annotations}")
        rows = rows.select(list(dict.fromkeys([*_NEEDED, *self.columns])))
        wanted = pc.is_in(rows["status"].cast(pa.string()), pa.array(self.statuses))
        kinds = _by_kind(images, rows.filter(wanted).combine_chunks(), self.columns)
        pixels = self._pixels(shard, images["image_key"].to_pylist())
        names = ("image_key", "width", "height")
        for place, image in enumerate(images.select(names).to_pylist()):
            shown = _shown(image, next(pixels), self.image)
            yield {**image, "image": shown, **{name: kinds[name].of(place) for name in kinds}}

    def _table(self, path: str) -> pa.Table:
        try:
            # training has workers of its own, and a script that ends at its first sample must not
            # meet threads that are only just starting
            return read_parquet(self.output, path, use_threads=False)
        except (ReadError, pa.ArrowInvalid) as err:
            raise damaged(self.output, path, err) from err

    def _pixels(self, shard: int, keys: Sequence[str]) -> Iterator[bytes]:
        """The bytes of each image, in the order of the keys, which is that of the tar."""
        if self.image == "none":
            yield from [b""] * len(keys)
            return
        early: dict[str, bytes] = {}
        found = read_pixels(self.output, self.versions, shard, set(keys))
        for key in keys:
            while key not in early:
                name, data = next(found, (None, b""))
                if name is None:
                    raise ShardError(
                        f"{self.output.uri}: shard {shard:06d} holds no pixels of {key!r}; "
                        'load(..., image="none") reads the labels alone'
                    )
                early[name] = data
            yield early.pop(key)


def load(
    path: str | Path,
    version: str | None = None,
    *,
    image: ImageForm = "pil",
    columns: Sequence[str] = (),
    statuses: Sequence[str] = ("kept",),
    seed: int | None = None,
    rank: int | None = None,
    num_ranks: int | None = None,
    endpoint: str | None = None,
    region: str | None = None,
    anonymous: bool = False,
) -> Samples:
    """The `ok` images of a dataset with their labels, for training.

    Each sample is a dictionary of `image`, `image_key`, `width`, `height` (px, upright) and

    - `texts`: `text` and `role`, lists; `score`, float32 (n,)
    - `regions`: `box`, float32 (n, 4), xyxy in px of the upright image; `text` and `role`, lists;
      `score` and `text_score`, float32 (n,)
    - `grounding`: `text`, the phrases, and `role`; `caption`, the text each is a phrase of; `span`,
      int32 (n, 2), its code points there; `box` and `score` as for regions

    in the order of the table. A score, box or span that nobody gave is NaN, or -1 for a span; a
    text is null. An image without labels is a sample with empty ones.

    It is iterated as often as wanted, always in the same order, and can be given to torch's
    `DataLoader` with `batch_size=None` or a `collate_fn` of your own. Shards are dealt to ranks,
    then to the workers of a DataLoader: with fewer shards than workers some have nothing to do, and
    ranks may differ in length.

    Args:
        path: The dataset: a folder, or `s3://` or `gs://`.
        version: A label version; null for the current one. Pixels it does not hold are read from
            the version it came from.
        image: `pil` or `numpy` (uint8, (height, width, 3)), both turned upright as the boxes are;
            `bytes`, encoded as the source had them and not turned; `none`.
        columns: Further columns of the annotations table that texts, regions and grounding bring
            along as lists, such as `source` or `polygon`.
        statuses: Of the rows: `kept`, and if wanted `rejected` or `superseded`.
        seed: Shuffles the shards; another seed for every epoch gives another order. Null: in order.
        rank: Which part of the shards; null: as torch.distributed or torchrun say, else all.
        num_ranks: How many parts; given with `rank`.
        endpoint: Server address of an S3-compatible bucket.
        region: The bucket's.
        anonymous: Send no credentials, for public buckets.

    Raises:
        ConfigError: No dataset there, no such version, column or status, or half a rank.
    """
    _check(image, columns, statuses)
    output = open_location(str(path), endpoint=endpoint, region=region, anonymous=anonymous)
    content = read_dataset(output)
    first = find_version(output, content, version)
    shards = np.array(sorted(Markers(output, first).load()), np.int64)
    if seed is not None:
        shards = np.random.default_rng(seed).permutation(shards)
    mine, of = _rank(rank, num_ranks)
    _register_with_torch()
    return Samples(
        output=output,
        versions=tuple(ancestors(content, first)),
        shards=tuple(shards.tolist()),
        image=image,
        columns=tuple(columns),
        statuses=tuple(statuses),
        rank=mine,
        num_ranks=of,
    )


def _check(image: str, columns: Sequence[str], statuses: Sequence[str]) -> None:
    for what, given, known in (
        ("image form", (image,), _FORMS),
        ("column", columns, ANNOTATIONS.names),
        ("status", statuses, ANNOTATION_STATUS),
    ):
        unknown = [name for name in given if name not in known]
        if unknown:
            raise ConfigError(f"load: no {what} {unknown[0]!r}; there are: {', '.join(known)}")


def _rank(rank: int | None, num_ranks: int | None) -> tuple[int, int]:
    if (rank is None) != (num_ranks is None):
        raise ConfigError("load: rank and num_ranks belong together; give both or neither")
    if rank is None or num_ranks is None:
        return _rank_of_torch()
    if not 0 <= rank < num_ranks:
        raise ConfigError(f"load: rank is {rank} of {num_ranks}; ranks count from 0")
    return rank, num_ranks


def _rank_of_torch() -> tuple[int, int]:
    """Of torch.distributed if it runs, else what torchrun says in the environment."""
    distributed: Any = sys.modules.get("torch.distributed")  # loaded already by whoever uses it
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank()), int(distributed.get_world_size())
    rank, size = os.environ.get("RANK", ""), os.environ.get("WORLD_SIZE", "")
    return (int(rank), int(size)) if rank.isdigit() and size.isdigit() else (0, 1)


def _worker() -> tuple[int, int]:
    """Which worker of a DataLoader this is, and of how many; the only one outside of one."""
    data: Any = sys.modules.get("torch.utils.data")
    info = data.get_worker_info() if data is not None else None
    return (0, 1) if info is None else (int(info.id), int(info.num_workers))


def _register_with_torch() -> None:
    """Lets a DataLoader see that samples come one after another and have no numbers."""
    try:
        from torch.utils.data import IterableDataset
    except ImportError:
        return  # labels can be read without it
    IterableDataset.register(Samples)


def _shown(row: Mapping[str, Any], data: bytes, form: ImageForm) -> Any:
    if form in ("bytes", "none"):
        return data if form == "bytes" else None
    encoded = EncodedImage(row["image_key"], memoryview(data), row["width"], row["height"])
    try:
        pixels = encoded.rgb()
    except DecodeError as err:
        raise ShardError(
            f"image {row['image_key']!r} was fine when it was annotated and does not decode now: "
            f"{err}; its tar is damaged"
        ) from err
    return Image.fromarray(pixels) if form == "pil" else pixels


@dataclass(frozen=True)
class _Kind:
    """The rows of one kind in a shard, by image: columns are taken apart once, then only cut."""

    ends: Sequence[int]  # the rows of image i are those from ends[i] to ends[i + 1]
    lists: Mapping[str, list[Any]]
    arrays: Mapping[str, npt.NDArray[Any]]

    def of(self, place: int) -> dict[str, Any]:
        """Those of the image at that place; arrays are copies, which may be written to."""
        own = slice(self.ends[place], self.ends[place + 1])
        lists: dict[str, Any] = {name: values[own] for name, values in self.lists.items()}
        return lists | {name: values[own].copy() for name, values in self.arrays.items()}


def _by_kind(images: pa.Table, rows: pa.Table, columns: Sequence[str]) -> dict[str, _Kind]:
    """Texts, regions and grounding of a shard, each in the order of its images."""
    places = pc.index_in(rows["image_key"], images["image_key"].combine_chunks())
    known = np.asarray(pc.fill_null(places, -1).to_numpy(), np.int64)
    of_kind = rows["kind"].cast(pa.string())
    found = {}
    for name, kind in (("texts", "text"), ("regions", "region"), ("grounding", "grounding")):
        chosen = np.flatnonzero(pc.equal(of_kind, kind).to_numpy())
        chosen = chosen[np.argsort(known[chosen], kind="stable")]
        ends = np.searchsorted(known[chosen], np.arange(images.num_rows + 1)).tolist()
        own = rows.take(pa.array(chosen))
        lists = {column: own[column].to_pylist() for column in ("text", "role", *columns)}
        if kind == "grounding":
            captions = pc.take(rows["text"], pc.index_in(own["text_id"], rows["annotation_id"]))
            lists["caption"] = captions.to_pylist()
        found[name] = _Kind(ends, lists, _arrays(own, kind))
    return found


def _arrays(rows: pa.Table, kind: str) -> dict[str, npt.NDArray[Any]]:
    if kind == "text":
        return {"score": _numbers(rows["text_score"], np.float32, np.nan)}
    arrays = {"box": box_array(rows), "score": _numbers(rows["score"], np.float32, np.nan)}
    if kind == "region":
        return arrays | {"text_score": _numbers(rows["text_score"], np.float32, np.nan)}
    spans = [_numbers(rows[name], np.int32, -1) for name in ("span_start", "span_end")]
    return arrays | {"span": np.stack(spans, axis=1)}


def _numbers(column: pa.ChunkedArray, kind: type[np.generic], absent: float) -> npt.NDArray[Any]:
    return np.asarray(pc.fill_null(column, absent).to_numpy(), kind)
