"""A label version of one of our own datasets as a source: its pictures, keys, shards and rows."""

import hashlib
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import yaml

from engine import dataset
from engine.ancestry import ancestors, damaged, pixel_version, read_pixels
from engine.config import LimitsConfig, parse_config
from engine.errors import ConfigError
from engine.exchange import Pictures
from engine.reading import read_parquet
from engine.schema import ANNOTATIONS, canonical
from engine.sink import ShardFiles
from engine.source.filesystem import open_location
from engine.source.shapes import (
    LISTING,
    PLACE,
    Listing,
    Location,
    ReadError,
    Sample,
    Source,
    check_limit,
)
from engine.stages import source_of
from engine.versions import find_version, read_versions

_LISTED = pa.schema([*LISTING, ("shard", pa.int32())])
_FACTS = ["image_key", "uri", "size_bytes", "status"]
# Second entry of a place whose picture is in no tar; where its own source has it comes after that.
_ORIGINAL = "original"
_AT_ONCE = 64  # shards whose tables are asked for before anybody looks at them


@dataclass(frozen=True, kw_only=True)
class Stored:
    """The images of a label version that are `ok`, in its shards, with its rows and their verdicts.

    Keys, shards and the order of images are those of the dataset, and rows keep their ids: what is
    made of them is told shard by shard beside the dataset. Rows are not judged again: who rests on
    a row that a later one superseded would be without ground. `fld filter` judges them again.

    A version whose tars hold no pictures has those of its nearest ancestor; where none holds any
    they are read from where the dataset itself was made, if they still are what they were.

    Attributes:
        uri: The dataset: a local path, `file://`, `s3://bucket/prefix` or `gs://bucket/prefix`.
        version: Its label version; null for the one that is current when a run is planned.
        labels: Whether its rows come along, for specialists to see and into what is written.
        endpoint: Address of an S3 or GCS compatible server.
        region: The bucket's region.
        anonymous: Send no credentials.
    """

    uri: str
    version: str | None = None
    labels: bool = True
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    location: Location = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        location = open_location(
            self.uri, endpoint=self.endpoint, region=self.region, anonymous=self.anonymous
        )
        # derived once; the config fields stay frozen
        object.__setattr__(self, "location", location)

    @cached_property
    def produces(self) -> dict[str, tuple[str, ...]]:
        """Kinds of the kept rows of each source; see `engine.source.shapes.Source`.

        Raises:
            ConfigError: There is no such dataset or version, or it is not finished.
        """
        if not self.labels:
            return {}
        found: dict[str, dict[str, None]] = {}
        for name in dataset.totals_of(self.location, self._version).annotations:
            source, kind, role, status = name.rsplit("/", 3)
            kinds = found.setdefault(source, {})
            if status == "kept":
                kinds[f"{kind}/{role}"] = None
        return {source: tuple(kinds) for source, kinds in found.items()}

    @property
    def order(self) -> dict[str, Any]:
        """See `engine.source.shapes.Ledger`. Raises as `produces`."""
        if not self.labels:
            return {"levels": [], "replacing": {}}
        version = read_versions(self.location)[0][self._version]
        levels = [list(level) for level in version.levels] or [list(self.produces)]
        return {"levels": levels, "replacing": dict(version.replacing)}

    def listing(self, limit: int | None = None) -> Listing:
        """The `ok` images with their shards, others counted by status; see `Source`.

        Reads the images table of every shard: a dataset says nowhere else which of them are `ok`.

        Raises:
            ConfigError: As `produces`; not all shards of the version are there, or its pictures are
                nowhere.
        """
        check_limit(limit)
        version, ignored = self._version, Counter[str]()
        plan: pa.Table | None = None
        found, missing = [_LISTED.empty_table()], limit
        for shard, table in self._tables(version):
            ignored.update(f"status {name}" for name in table["status"].to_pylist())
            images = table.filter(pc.equal(table["status"], "ok")).slice(0, missing)
            if images.num_rows and len(found) == 1 and not self._has_pixels(version, shard):
                self._original()  # it can be opened, or says what is wrong
                plan = dataset.read_plan(self.location)[0]
            if images.num_rows:
                found.append(_listed(version, shard, images, plan))
            missing = None if missing is None else missing - images.num_rows
            if missing == 0:
                break
        del ignored["status ok"]
        return Listing(self.uri, pa.concat_tables(found), dict(sorted(ignored.items())))

    def read(self, images: pa.Table, limits: LimitsConfig) -> Iterator[Sample | ReadError]:
        """Images of one shard, as they were listed; see `engine.source.shapes.Source`.

        Raises:
            ShardError: A file of the shard is gone or damaged.
            ConfigError: The pictures are in no tar, and where they were is not known any more.
        """
        if not images.num_rows:
            return
        version, shard = _place_of(images)
        stored = self._read(version, shard, "images", ["image_key", "sha256", "licence"])
        stored = stored.take(pc.index_in(images["image_key"], stored["image_key"].combine_chunks()))
        answers = (
            self._originals(images, stored["sha256"].to_pylist(), limits)
            if len(images["place"][0]) > 1
            else self._pixels(version, shard, images["image_key"].to_pylist(), limits)
        )
        for answer, licence in zip(answers, stored["licence"].to_pylist(), strict=True):
            yield answer if isinstance(answer, ReadError) else Sample(answer, licence=licence)

    def claims(self, images: pa.Table) -> pa.Table:
        """Every row on images of one shard; see `engine.source.shapes.Ledger`.

        Raises:
            ShardError: The table is gone or damaged.
        """
        if not self.labels or not images.num_rows:
            return ANNOTATIONS.empty_table()
        rows = self._read(*_place_of(images), "annotations")
        wanted = pc.is_in(rows["image_key"], images["image_key"].combine_chunks())
        return canonical(rows.filter(wanted), ANNOTATIONS)

    @cached_property
    def _version(self) -> str:
        return find_version(self.location, self.version)[0]

    def _tables(self, version: str) -> Iterator[tuple[int, pa.Table]]:
        """What a listing needs to know of each shard, in order."""
        shards = sorted(dataset.Markers(self.location, version).load())
        planned = dataset.read_dataset(self.location)["shards"]
        if len(shards) < planned:
            raise ConfigError(
                f"{self.uri}: {version} has {len(shards):,} of {planned:,} shards; finish it with "
                "the command that makes it"
            )
        with ThreadPoolExecutor(self.location.readers) as pool:
            for start in range(0, len(shards), _AT_ONCE):
                some = shards[start : start + _AT_ONCE]
                tables = pool.map(lambda n: self._read(version, n, "images", _FACTS), some)
                yield from zip(some, tables, strict=True)

    def _read(
        self, version: str, shard: int, what: str, columns: list[str] | None = None
    ) -> pa.Table:
        path = f"{version}/{getattr(ShardFiles(shard), what)}"
        try:
            return read_parquet(self.location, path, columns, use_threads=False)
        except (ReadError, OSError, pa.ArrowException) as err:
            raise damaged(self.location, path, err) from err

    def _ancestors(self, version: str) -> list[str]:
        return ancestors(dataset.read_dataset(self.location), version)

    def _has_pixels(self, version: str, shard: int) -> bool:
        return pixel_version(self.location, self._ancestors(version), shard) is not None

    def _pixels(
        self, version: str, shard: int, keys: Sequence[str], limits: LimitsConfig
    ) -> Iterator[pa.Buffer | ReadError]:
        data = dict(read_pixels(self.location, self._ancestors(version), shard, set(keys)))
        for key in keys:
            content = data.pop(key, None)
            if content is None:
                yield ReadError("missing", "the tar of its shard does not hold it")
            elif len(content) > limits.max_bytes:
                said = f"{len(content)} bytes, limits.max_bytes is {limits.max_bytes}"
                yield ReadError("too_many_bytes", said)
            else:
                yield pa.py_buffer(content)

    def _originals(
        self, images: pa.Table, digests: Sequence[str | None], limits: LimitsConfig
    ) -> Iterator[pa.Buffer | ReadError]:
        """From where the dataset was made; labels on other bytes would be labels of nothing."""
        places = [place[2:] or None for place in images["place"].to_pylist()]
        at = images.schema.get_field_index("place")
        images = images.set_column(at, "place", pa.array(places, PLACE))
        answers = self._original().read(images, limits)
        for answer, digest in zip(answers, digests, strict=True):
            if isinstance(answer, ReadError):
                yield answer
            elif digest not in (None, hashlib.sha256(answer.data).hexdigest()):
                yield ReadError("changed", "other bytes than when the dataset was made")
            else:
                yield answer.data

    def _original(self) -> "Source | Pictures":
        """The source that the dataset itself was made from, opened."""
        nowhere = f"{self.uri}: its tars hold no pictures, and where they came from"
        try:
            raw = yaml.safe_load(self.location.read(dataset.CONFIG).data.to_pybytes())
            config = parse_config(raw, (), f"{self.uri}: {dataset.CONFIG}")
        except (ReadError, yaml.YAMLError, ValueError, TypeError) as err:
            raise ConfigError(f"{nowhere} cannot be read: {err}") from err
        first = self._ancestors(self._version)[-1]
        if read_versions(self.location)[0][first].made_by != "import":
            return source_of(config)
        pictures = config.source.images
        if pictures is None:
            raise ConfigError(
                f"{nowhere} was never said; `fld import` the labels with source.images=FOLDER"
            )
        reach = {name: getattr(config.source, name) for name in ("endpoint", "region", "anonymous")}
        return Pictures(open_location(pictures, **(reach if "://" in pictures else {})))


def _listed(version: str, shard: int, images: pa.Table, plan: pa.Table | None) -> pa.Table:
    """Rows of a listing; with a plan, where the dataset's own source has each image."""
    start: list[dict[str, Any]] = [{"field": version, "offset": shard, "size": None}]
    places = [start] * images.num_rows
    if plan is not None:
        low, high = np.searchsorted(plan["shard"].to_numpy(), [shard, shard + 1]).tolist()
        planned = plan.slice(low, high - low)
        own = planned["place"].take(
            pc.index_in(images["image_key"], planned["image_key"].combine_chunks())
        )
        original = {"field": _ORIGINAL, "offset": None, "size": None}
        places = [[*start, original, *(place or ())] for place in own.to_pylist()]
    columns = {name: images[name] for name in ("image_key", "uri", "size_bytes")}
    columns["modified"] = pa.nulls(images.num_rows, pa.int64())
    columns["place"] = pa.array(places, PLACE)
    columns["shard"] = pa.array(np.full(images.num_rows, shard), pa.int32())
    return pa.table(columns, schema=_LISTED)


def _place_of(images: pa.Table) -> tuple[str, int]:
    """Version and shard of images; all are of one, since a plan keeps the shards listed."""
    place = images["place"][0].as_py()[0]
    return str(place["field"]), int(place["offset"])
