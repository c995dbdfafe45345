"""The dataset's own files beside its shards: dataset.json, config, plan, markers."""

import json
import zlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import yaml

from engine.config import Config, difference
from engine.errors import ConfigError
from engine.judge import RuleCount, RuleCounts, add_counts
from engine.output import read_if_there
from engine.schema import SCHEMA_VERSION
from engine.sink import DONE
from engine.source.shapes import Location

DATASET = "dataset.json"
CONFIG = "config.yaml"
FIRST = "round-0"  # the label version that annotating or importing makes
PLAN = "plan.parquet"
MODIFIED = "_run/modified.parquet"  # times differ between copies of the same files: not a data file
_ROLLED_UP = pa.schema([("shard", pa.int32()), ("marker", pa.string())])
_AT_ONCE = 4096  # markers unpacked at a time
_READERS = 16  # object stores answer slowly, but many at once


def rolled_up(version: str) -> str:
    """The file of all markers of a label version; a cache, and a data file of nobody."""
    return f"_run/{version}.markers.parquet"


def forget_rolled_up(output: Location) -> None:
    """Deletes the caches of all versions, before their shards are."""
    for name in output.names("_run"):
        if name.endswith(".markers.parquet"):
            output.delete(f"_run/{name}")


def read_dataset(output: Location) -> dict[str, Any]:
    """The content of dataset.json.

    Raises:
        ConfigError: There is no dataset here, or it was written by a newer engine.
    """
    raw = read_if_there(output, DATASET)
    if raw is None:
        raise ConfigError(f"{output.uri}: no dataset.json there; `fld annotate` writes one")
    try:
        dataset: dict[str, Any] = json.loads(raw.to_pybytes())
        version = dataset["schema_version"]
    except (ValueError, KeyError, TypeError) as err:
        raise ConfigError(f"{output.uri}: its dataset.json is not readable: {err}") from err
    if version > SCHEMA_VERSION:
        raise ConfigError(
            f"{output.uri}: written with schema version {version}, this engine reads up to "
            f"{SCHEMA_VERSION}; install a newer one"
        )
    return dataset


def create_dataset(
    output: Location,
    config: Config,
    identity: dict[str, Any],
    plan: pa.Table,
    modified: pa.Array,
    order: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Writes plan, config and, last, dataset.json: with it the dataset exists.

    `order` is what judging it again needs: see `engine.versions.Version`.
    """
    output.write(PLAN, _parquet(plan))
    output.write(MODIFIED, _parquet(pa.table({"modified": modified})))
    output.write(CONFIG, dump_config(config).encode())
    content = {
        "schema_version": SCHEMA_VERSION,
        **_said_of(config, identity, plan),
        "versions": {FIRST: {"parent": None, "made_by": "annotate", **order}},
        "current": FIRST,
    }
    write_dataset(output, content)


def extend_dataset(
    output: Location,
    config: Config,
    identity: dict[str, Any],
    added: pa.Table,
    modified: pa.Array,
    order: Mapping[str, Any] = MappingProxyType({}),
) -> None:
    """Appends images to the plan as new shards; those that are there stay as they are.

    A crash in the middle leaves a plan with or without all of them: the same call mends it.

    Args:
        output: The dataset's.
        config: As of this run.
        identity: As of this run.
        added: Rows of a plan, their shards numbered on.
        modified: When each of them was last modified.
        order: As for `create_dataset`.
    """
    plan, times = read_plan(output)
    if added.num_rows:
        known = times if times is not None else pa.nulls(plan.num_rows, pa.int64())
        times = pa.concat_arrays([known, modified])
        plan = pa.concat_tables([plan, added]).combine_chunks()
        output.write(PLAN, _parquet(plan))
        output.write(MODIFIED, _parquet(pa.table({"modified": times})))
        output.write(CONFIG, dump_config(config).encode())
    content = {**read_dataset(output), **_said_of(config, identity, plan)}
    content["versions"][FIRST] |= order
    write_dataset(output, content)


def replace_plan(output: Location, plan: pa.Table) -> None:
    """Writes the plan of a dataset whose images were not known when it was begun."""
    output.write(PLAN, _parquet(plan))
    counts = {"images": plan.num_rows, "shards": count_shards(plan)}
    write_dataset(output, {**read_dataset(output), **counts})


def _said_of(config: Config, identity: dict[str, Any], plan: pa.Table) -> dict[str, Any]:
    source = config.source
    parts = [
        {"name": part.name, "uri": part.uri, "kind": part.kind, "licence": part.licence}
        | {"weight": part.weight}
        for part in source.sources
    ]
    return {
        "digest": config.digest(),
        "identity": identity,
        "source": {"uri": source.uri, "kind": source.kind, "licence": source.licence},
        **({"sources": parts} if parts else {}),
        "images": plan.num_rows,
        "shards": count_shards(plan),
    }


def write_dataset(output: Location, content: dict[str, Any]) -> None:
    """Replaces dataset.json."""
    output.write(DATASET, (json.dumps(content, indent=1) + "\n").encode())


def check_same_run(
    output: Location, stored: dict[str, Any], identity: dict[str, Any], *, extend: bool = False
) -> None:
    """Refuses to go on with a run that was started differently.

    Who extends may ask for another limit and for more sources beside the old ones.

    Raises:
        ConfigError: Source, specialists, weights, rules, limit or seed differ; each difference is
            shown.
    """
    before, now = stored["identity"], json.loads(json.dumps(identity))
    if extend:
        before = {**before, "limit": now["limit"]}
        parts, more = (each["source"].get("sources", []) for each in (before, now))
        if parts and all(part in more for part in parts):
            before["source"] = {**before["source"], "sources": more}
    lines = difference(before, now)
    if lines:
        raise ConfigError(
            f"{output.uri}: was made by another run; differences: {'; '.join(lines)}. Choose "
            "another output, go back to the old settings, or pass --overwrite to start again"
        )


def read_plan(output: Location) -> tuple[pa.Table, pa.Array | None]:
    """The plan, and the modification times seen when it was made (null where they are lost)."""
    plan = pq.read_table(pa.BufferReader(output.read(PLAN).data))
    raw = read_if_there(output, MODIFIED)
    if raw is None:
        return plan, None
    modified = pq.read_table(pa.BufferReader(raw))["modified"].combine_chunks()
    # of another length: a crash while the plan was extended
    return plan, modified if len(modified) == plan.num_rows else None


def count_shards(plan: pa.Table) -> int:
    """How many shards a plan has; its rows are sorted by shard."""
    return plan["shard"][-1].as_py() + 1 if plan.num_rows else 0


def dump_config(config: Config) -> str:
    """The resolved config as YAML."""
    return yaml.safe_dump(config.model_dump(), sort_keys=False, allow_unicode=True)


class Markers:
    """Which shards are complete, and what they hold: read once, then kept in step with the run.

    A rolled-up table of all markers makes a dataset of 100,000 shards known in seconds; only
    markers not in it yet are read one by one. Held as packed JSON without the file digests, some
    250 bytes a shard, so that the driver stays small.
    """

    def __init__(self, output: Location, version: str) -> None:
        self._output = output
        self._version = version
        self._found: dict[int, bytes] = {}  # JSON, packed

    def load(self) -> set[int]:
        """The complete shards. The listing decides; the rolled-up table only saves reads.

        Writes nothing: who only looks must not race a driver that takes shards back.
        """
        names = self._output.names(f"{self._version}/{DONE}")
        present = {int(n[:-5]) for n in names if n.endswith(".json") and n[:-5].isdigit()}
        self._found = {shard: text for shard, text in self._rolled_up() if shard in present}
        unread = sorted(present - self._found.keys())
        with ThreadPoolExecutor(_READERS) as pool:
            for start in range(0, len(unread), _AT_ONCE):
                for marker in pool.map(self._read, unread[start : start + _AT_ONCE]):
                    self.add(marker)
        return present

    def add(self, marker: dict[str, Any]) -> None:
        """Takes note of a shard just committed."""
        slim = {name: value for name, value in marker.items() if name != "files"}
        self._found[marker["shard"]] = _packed(json.dumps(slim))

    def forget(self, shards: list[int]) -> None:
        """Takes shards out of the rolled-up table before they are made again."""
        for shard in shards:
            self._found.pop(shard, None)
        self.save()

    def each(self) -> Iterator[dict[str, Any]]:
        """The markers in shard order, without their file digests."""
        for shard in sorted(self._found):
            yield json.loads(zlib.decompress(self._found[shard]))

    def save(self) -> None:
        """Writes the rolled-up table; shards that are added meanwhile come with the next."""
        shards, buffer = sorted(self._found), pa.BufferOutputStream()
        with pq.ParquetWriter(buffer, _ROLLED_UP, compression="zstd", version="2.6") as writer:
            for start in range(0, len(shards), _AT_ONCE):
                some = shards[start : start + _AT_ONCE]
                texts = [zlib.decompress(self._found[shard]).decode() for shard in some]
                writer.write_batch(pa.record_batch([some, texts], schema=_ROLLED_UP))
        self._output.write(rolled_up(self._version), buffer.getvalue())

    def _rolled_up(self) -> Iterator[tuple[int, bytes]]:
        raw = read_if_there(self._output, rolled_up(self._version))
        if raw is None:
            return
        try:
            for batch in pq.ParquetFile(pa.BufferReader(raw)).iter_batches(_AT_ONCE):
                texts = map(_packed, batch["marker"].to_pylist())
                yield from zip(batch["shard"].to_pylist(), texts, strict=True)
        except (pa.ArrowInvalid, KeyError):
            return  # only a cache: the markers themselves are the truth

    def _read(self, shard: int) -> dict[str, Any]:
        name = f"{self._version}/{DONE}/{shard:06d}.json"
        try:
            marker: dict[str, Any] = json.loads(self._output.read(name).data.to_pybytes())
        except ValueError as err:
            raise ConfigError(
                f"{self._output.uri}: marker {name} is not valid JSON; delete it to make "
                "the shard again"
            ) from err
        return marker


def _packed(text: str) -> bytes:
    return zlib.compress(text.encode(), 1)  # names repeat: a fifth is left, or less


@dataclass
class Totals:
    """Everything committed so far, over all runs."""

    images: dict[str, int] = field(default_factory=dict)
    failures: dict[str, int] = field(default_factory=dict)
    annotations: dict[str, int] = field(default_factory=dict)  # source/kind/role/status
    rules: RuleCounts = field(default_factory=dict)

    def add(self, marker: dict[str, Any]) -> None:
        """Adds one shard."""
        for name in ("images", "failures", "annotations"):
            mine = getattr(self, name)
            for key, count in marker[name].items():
                mine[key] = mine.get(key, 0) + count
        add_counts(self.rules, {name: RuleCount(*pair) for name, pair in marker["rules"].items()})

    @property
    def num_images(self) -> int:
        """Images accounted for."""
        return sum(self.images.values())


def totals_of(output: Location, version: str) -> Totals:
    """Everything that the markers of a label version count."""
    markers, totals = Markers(output, version), Totals()
    markers.load()
    for marker in markers.each():
        totals.add(marker)
    return totals


def _parquet(table: pa.Table) -> bytes:
    buffer = pa.BufferOutputStream()
    pq.write_table(table, buffer, compression="zstd", version="2.6")
    return bytes(buffer.getvalue())
