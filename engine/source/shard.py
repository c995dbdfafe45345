"""Reads one shard of a plan: the bytes of its images, and all that is known about each of them."""

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.config import LimitsConfig
from engine.failures import Failure, fail
from engine.pixels import DecodeError, probe
from engine.schema import image_rows
from engine.source.measures import contrast, hash_picture, perceptual_hashes, sharpness
from engine.source.shapes import ReadError, Sample, Source


class Given(NamedTuple):
    """What a source says of one image: see `engine.source.shapes.Sample`."""

    image_key: str
    source: str
    rows: Sequence[Mapping[str, Any]]


class LoadedShard(NamedTuple):
    """A row per planned image (`engine.schema.IMAGES`) and, in the same order, its bytes.

    `data` is null for every image whose status is not `ok`. `given` has an entry per image that
    the source gave rows for, whatever became of the image: a duplicate may bear another text.
    """

    images: pa.Table
    data: list[pa.Buffer | None]
    given: list[Given]


class _Loaded(NamedTuple):
    """One image read and measured, or the failure of it; columns of the images table."""

    data: pa.Buffer | None = None
    failure: Failure | None = None
    licence: str | None = None
    label_failures: Sequence[Failure] = ()
    sha256: str | None = None
    format: str | None = None
    width: int | None = None
    height: int | None = None
    orientation: int | None = None
    size_bytes: int | None = None
    sharpness: float | None = None
    contrast: float | None = None
    picture: npt.NDArray[np.uint8] | None = None


_COLUMNS = (
    "sha256",
    "format",
    "width",
    "height",
    "orientation",
    "size_bytes",
    "sharpness",
    "contrast",
    "licence",
)
_DEFAULT_LIMITS = LimitsConfig()


def read_shard(
    source: Source,
    plan_rows: pa.Table,
    modified: pa.Array | None = None,
    limits: LimitsConfig = _DEFAULT_LIMITS,
) -> LoadedShard:
    """Reads, checks and measures every image of one shard.

    An image that cannot be read or decoded is a row of status `failed` with one failure (stage
    `read` or `decode`) and null measures. Of images with equal bytes the first is `ok`, the others
    are `duplicate` and name it; duplicates in other shards are not seen here. Labels that cannot be
    taken are failures of the stage `labels` and leave the status alone.

    Args:
        source: Where the plan was made, or a copy of it.
        plan_rows: The shard's rows of the plan (schema `engine.source.plan.PLAN`); none give an
            empty shard.
        modified: When each file was last modified at planning time (int64, ns); null entries, or
            null altogether, are not compared.
        limits: Per image.
    """
    keys: list[str] = plan_rows["image_key"].to_pylist()
    uris: list[str] = plan_rows["uri"].to_pylist()
    planned: list[int | None] = plan_rows["size_bytes"].to_pylist()
    times: list[int | None] = [None] * len(uris) if modified is None else modified.to_pylist()
    loaded, given = [], []
    answers = source.read(plan_rows, limits)
    for key, size, time, answer in zip(keys, planned, times, answers, strict=True):
        loaded.append(_load(answer, size, time, limits))
        if isinstance(answer, Sample) and answer.source is not None and answer.rows:
            given.append(Given(key, answer.source, answer.rows))
    originals = _duplicates(keys, loaded)
    data = [
        image.data if original is None else None
        for image, original in zip(loaded, originals, strict=True)
    ]
    return LoadedShard(_table(keys, uris, planned, loaded, originals), data, given)


def _load(
    answer: Sample | ReadError, size: int | None, modified: int | None, limits: LimitsConfig
) -> _Loaded:
    if isinstance(answer, ReadError):
        return _Loaded(failure=fail("read", answer.cause, answer))
    if size is not None and answer.data.size != size:
        message = f"{answer.data.size} bytes, {size} when it was listed"
        return _Loaded(failure=fail("read", "changed", message))
    if modified is not None and answer.modified is not None and answer.modified != modified:
        message = "modified since it was listed"
        return _Loaded(failure=fail("read", "changed", message))
    if answer.data.size == 0:
        loaded = _Loaded(failure=fail("read", "empty"), size_bytes=0)
    else:
        loaded = _measured(answer.data, limits)
    return loaded._replace(licence=answer.licence, label_failures=answer.failures)


def _measured(data: pa.Buffer, limits: LimitsConfig) -> _Loaded:
    digest = hashlib.sha256(data).hexdigest()
    try:
        found = probe(data.to_pybytes(), max_pixels=limits.max_pixels)
    except DecodeError as err:
        failure = fail("decode", err.cause, err)
        return _Loaded(failure=failure, sha256=digest, size_bytes=data.size)
    return _Loaded(
        data=data,
        sha256=digest,
        format=found.format,
        width=found.width,
        height=found.height,
        orientation=found.orientation,
        size_bytes=data.size,
        sharpness=sharpness(found.thumbnail),
        contrast=contrast(found.thumbnail),
        picture=hash_picture(found.thumbnail),
    )


def _duplicates(keys: list[str], loaded: list[_Loaded]) -> list[str | None]:
    """Per image the key of the first decodable image with the same bytes, null for the first."""
    first: dict[str, str] = {}
    originals: list[str | None] = []
    for key, image in zip(keys, loaded, strict=True):
        original = (
            key if image.sha256 is None or image.failure else first.setdefault(image.sha256, key)
        )
        originals.append(None if original == key else original)
    return originals


def _table(
    keys: list[str],
    uris: list[str],
    planned: list[int | None],
    loaded: list[_Loaded],
    originals: list[str | None],
) -> pa.Table:
    hashes = iter(
        perceptual_hashes([image.picture for image in loaded if image.picture is not None])
    )
    columns: dict[str, list[object]] = {
        name: [getattr(image, name) for image in loaded] for name in _COLUMNS
    }
    columns["size_bytes"] = [
        size if image.size_bytes is None else image.size_bytes
        for image, size in zip(loaded, planned, strict=True)
    ]
    return image_rows(
        image_key=keys,
        uri=uris,
        phash=[None if image.picture is None else next(hashes) for image in loaded],
        status=[
            "failed" if image.failure else "duplicate" if original else "ok"
            for image, original in zip(loaded, originals, strict=True)
        ],
        duplicate_of=originals,
        failures=[
            [
                failure._asdict()
                for failure in (image.failure, *image.label_failures)
                if failure is not None
            ]
            for image in loaded
        ],
        **columns,
    )
