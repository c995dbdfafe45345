"""The small set of labels a cold start learns from, as a dataset of its own with its pictures.

Where nobody says where its pictures are, they are those of the dataset that is to be annotated,
found by their names as `fld evaluate` finds them.
"""

import hashlib
import shutil
from collections import Counter, deque
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import dataset
from engine.config import Config, LimitsConfig, OutputConfig, SourceConfig
from engine.errors import ConfigError, LabelsError
from engine.evaluate.join import join_images, stem_of
from engine.formats.florence2_tasks import Task
from engine.formats.places import find_format, find_place
from engine.formats.shapes import LabelSet, Part, Place
from engine.importing import Importing, Opened, open_labels
from engine.judge import RuleEntry
from engine.reading import read_failures, read_parquet, read_pixels
from engine.sink import ShardFiles
from engine.source.filesystem import open_location
from engine.source.names import extension
from engine.source.shapes import Location, ReadError
from engine.versions import find_version
from filters import RULES
from refinement.pairs.options import is_about, needs_of

_COLUMNS = ["image_key", "uri"]
# What keeps a table sound: what people said is not judged further before it is learned from.
_RULES = ("invalid_box", "orphan")
_NEVER = 1.0  # an alarm share


@dataclass(frozen=True, kw_only=True)
class GoldSet:
    """Labels to learn from.

    Attributes:
        uri: A file or folder of labels in any format, or a dataset of ours.
        images: Where its pictures are; null: in the dataset that is to be annotated.
        limits: Of what is read.
    """

    uri: str
    images: str | None = None
    limits: LimitsConfig

    def digest(self) -> str:
        """16 hex digits of what it says: of a file its bytes, of a folder its names and sizes.

        Raises:
            ConfigError: There is nothing, or nothing that a format knows.
        """
        hashed = hashlib.blake2b(digest_size=8)
        place = find_place(self.uri)
        if not place.path and place.location.exists(dataset.DATASET):
            name, _ = find_version(place.location, None)
            stored = dataset.read_dataset(place.location)
            hashed.update(f"{name} {stored['digest']}".encode())
            return hashed.hexdigest()
        hashed.update("\n".join(_spelled(place)).encode())
        return hashed.hexdigest()


def _spelled(place: Place) -> Iterator[str]:
    """What tells two sets of labels apart."""
    if not place.path:
        yield from (f"{entry.uri} {entry.size_bytes}" for entry in place.location.walk())
    else:
        try:
            content = place.location.read(place.path).data
        except ReadError as err:
            raise ConfigError(f"{place}: cannot be read: {err}") from err
        if not content.to_pybytes().strip():
            raise ConfigError(f"{place}: is empty; give labels of the kind to be learned")
        yield hashlib.sha256(content).hexdigest()
    try:
        find_format("auto", place)
    except LabelsError as err:
        raise ConfigError(
            f"{place}: holds no labels in a format that is recognised; give Florence-2 lines or "
            "what `fld import` takes without a kind"
        ) from err


class Lesson(NamedTuple):
    """A label version to learn from."""

    place: Location
    version: str


def open_lesson(
    gold: GoldSet,
    task: Task,
    folder: Path,
    labels: tuple[Location, str],
    seed: int,
    *,
    is_begun: bool,
) -> Lesson:
    """The gold set as a dataset with pictures; imported into `folder/gold` unless it is there.

    Args:
        gold: The set.
        task: What it is to teach.
        folder: Local, of this cold start alone.
        labels: Dataset and version that may hold the pictures.
        seed: Of the import.
        is_begun: Whether a finished import in the folder is known to be of this set.

    Raises:
        ConfigError: It holds nothing, nothing for the task, or none of its pictures is found.
    """
    place = open_location(str(folder / "gold"))
    given = find_place(gold.uri)
    if not given.path and given.location.exists(dataset.DATASET):
        place = given.location
    elif not (is_begun and _is_finished(place)):
        for name in ("gold", "pictures"):  # a small set is sooner read again than mended
            shutil.rmtree(folder / name, ignore_errors=True)
        _import(gold, place, folder / "pictures", labels, seed)
    version, _ = find_version(place, None)
    try:
        _check(gold, task, place, version)
    except ConfigError:
        # nothing stays of what cannot be used: the next call looks at it anew
        shutil.rmtree(folder / "gold", ignore_errors=True)
        raise
    shutil.rmtree(folder / "pictures", ignore_errors=True)  # the tars hold them
    return Lesson(place, version)


def _is_finished(place: Location) -> bool:
    if not place.exists(dataset.DATASET):
        return False
    try:
        find_version(place, dataset.FIRST)
    except ConfigError:
        return False
    return True


def _import(
    gold: GoldSet, place: Location, pictures: Path, labels: tuple[Location, str], seed: int
) -> None:
    config = Config(
        source=SourceConfig(uri=gold.uri, images=gold.images or str(pictures)),
        output=OutputConfig(uri=place.uri, pixels="copy", views=False),
        rules=[{"rule": name} for name in _RULES],
        limits=gold.limits,
        seed=seed,
    )
    names: Mapping[str, str] = {}
    if gold.images is None:
        pictures.mkdir(parents=True)
        # read once for the names alone: sizes of pictures that are not there yet are failures
        uris = [
            uri for part in _open(config).labels.parts for uri in part.images["uri"].to_pylist()
        ]
        names = _fetch(gold, list(dict.fromkeys(uris)), pictures, labels)
    opened = _open(config)
    parts = (_renamed(part, names) for part in opened.labels.parts)
    opened = replace(opened, labels=LabelSet(opened.labels.header, parts))
    rules = [RuleEntry(RULES.find(name)(), _NEVER) for name in _RULES]
    deque(Importing(config, rules, opened, place).run(), maxlen=0)


def _open(config: Config) -> Opened:
    return open_labels(config.source, config)


def _renamed(part: Part, names: Mapping[str, str]) -> Part:
    """The images called as their pictures are."""
    uris = part.images["uri"].to_pylist()
    column = pa.array([names.get(uri, uri) for uri in uris], pa.string())
    place = part.images.schema.get_field_index("uri")
    return Part(part.images.set_column(place, "uri", column), part.rows)


def _fetch(
    gold: GoldSet, uris: Sequence[str], pictures: Path, labels: tuple[Location, str]
) -> dict[str, str]:
    """Writes the pictures of those names; returns where each lies below the folder.

    Raises:
        ConfigError: The labels name images, and the dataset has none of them.
    """
    output, version = labels
    known = _images_like(output, version, {stem_of(uri) for uri in uris})
    joined = join_images(uris, known["uri"].to_pylist())
    found = np.flatnonzero(joined.partners >= 0)
    if len(uris) and not len(found):
        raise ConfigError(
            f"{gold.uri}: {output.uri} has none of its images, which are named like {uris[0]!r}; "
            "name images as the dataset does, or say where the pictures are"
        )
    partners = known.take(pa.array(joined.partners[found])).to_pylist()
    names: dict[str, str] = {}
    target = open_location(str(pictures))
    by_shard: dict[int, dict[str, str]] = {}
    for place, partner in zip(found.tolist(), partners, strict=True):
        name = _file_name(uris[place], partner["uri"])
        names[uris[place]] = name
        by_shard.setdefault(partner["shard"], {})[partner["image_key"]] = name
    for shard, wanted in sorted(by_shard.items()):
        for key, data in read_pixels(output, version, shard, list(wanted)).items():
            target.write(wanted[key], data)
    return names


def _images_like(output: Location, version: str, stems: set[str]) -> pa.Table:
    """Images of a version whose file name, without its ending, is one of those; with `shard`."""
    wanted = pa.array(sorted(stems - {""}), pa.string())
    found = [pa.table({name: pa.array([], pa.string()) for name in _COLUMNS})]
    found[0] = found[0].append_column("shard", pa.array([], pa.int64()))
    for shard in sorted(dataset.Markers(output, version).load()):
        images = read_parquet(output, f"{version}/{ShardFiles(shard).images}", _COLUMNS)
        names = pa.array([stem_of(uri) for uri in images["uri"].to_pylist()], pa.string())
        near = images.filter(pc.is_in(names, wanted))
        numbers = pa.array(np.full(near.num_rows, shard), pa.int64())
        found.append(near.append_column("shard", numbers))
    return pa.concat_tables(found)


def _file_name(uri: str, partner: str) -> str:
    """A path below a folder that is spelt like a uri, with the picture's ending if it has none.

    Example:
        >>> _file_name("/data/../a.png", "x/a.png"), _file_name("s3://b/c", "c.jpg")
        ('data/a.png', 'b/c.jpg')
    """
    if "://" in uri:
        uri = uri.partition("://")[2].partition("?")[0].partition("#")[0]
    parts = [part for part in uri.replace("\\", "/").split("/") if part not in ("", ".", "..")]
    ending = extension(partner)
    path = "/".join(parts)
    return path if extension(path) or not ending else f"{path}.{ending}"


def _check(gold: GoldSet, task: Task, place: Location, version: str) -> None:
    totals = dataset.totals_of(place, version)
    if not totals.num_images:
        raise ConfigError(f"{gold.uri}: holds no labels; give some of the kind to be learned")
    if not totals.images.get("ok"):
        first = next(iter(read_failures(place, version)), {"message": "nobody knows why"})
        raise ConfigError(
            f"{gold.uri}: none of its {totals.num_images:,} images can be used, the first because: "
            f"{first['message']}"
        )
    kept: Counter[tuple[str, str]] = Counter()
    for name, count in totals.annotations.items():
        _, kind, role, status = name.rsplit("/", 3)
        if status == "kept":
            kept[kind, role] += count
    kinds, roles = (pa.array([pair[i] for pair in kept], pa.string()) for i in (0, 1))
    if not is_about(pa.table({"kind": kinds, "role": roles}), task).any():
        held = ", ".join(f"{kind}/{role} {count:,}" for (kind, role), count in sorted(kept.items()))
        raise ConfigError(
            f"{gold.uri}: nothing in it teaches {task.name!r}, which is made of {needs_of(task)}; "
            f"found: {held or 'nothing at all'}; name the kind of rows it holds, or another set"
        )


def count_lost(place: Location, version: str) -> int:
    """How many images of a gold set could not be used whole."""
    return len({failure["image_key"] for failure in read_failures(place, version)})
