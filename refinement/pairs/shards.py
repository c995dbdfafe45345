"""The training pairs of one shard: its kept rows as prompts and answers, and where pictures lie."""

import json
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.ancestry import damaged
from engine.formats.florence2_targets import Order, Pair, encode_pairs
from engine.formats.florence2_tasks import Task
from engine.output import read_if_there
from engine.reading import read_parquet
from engine.sink import ShardFiles
from engine.source.shapes import Location, ReadError
from engine.source.tar_index import BROKEN, Member, members
from refinement.pairs.files import SCHEMA, Notes, PairCounts, encode_file
from refinement.pairs.folds import is_held_out
from refinement.pairs.options import PairOptions, is_about

Flags = npt.NDArray[np.bool_]

_IMAGE = ("image_key", "sha256", "width", "height", "status")
_ROW = (
    *("image_key", "annotation_id", "kind", "role", "text", "text_id", "span_start"),
    *("box", "polygon", "source", "ignore", "parents", "status"),
)
_DIGEST = "^[0-9a-f]{64}$"


@dataclass(frozen=True)
class PairSpec:
    """What every process needs to make pairs; small, and the same for all shards.

    Attributes:
        output: The dataset's place.
        versions: The label version, then those it came from.
        options: What to make.
        seed: Tells which images are held out.
        gold: Sources whose rows never train.
    """

    output: Location
    versions: tuple[str, ...]
    options: PairOptions
    seed: int
    gold: tuple[str, ...]


@dataclass(frozen=True)
class _Pictures:
    """The tar of a shard that holds its pictures, and where in it each is."""

    tar: str = ""
    members: Mapping[str, Member] = field(default_factory=dict)


def encode_shard(spec: PairSpec, shard: int) -> pa.Buffer:
    """The Arrow file of a shard, a row for each pair: by image, then by task.

    Raises:
        ShardError: A file of the shard is damaged.
    """
    files, version = ShardFiles(shard), spec.versions[0]
    images = _read(spec.output, f"{version}/{files.images}", _IMAGE)
    rows = _read(spec.output, f"{version}/{files.annotations}", _ROW)
    pictures = _find_pictures(spec, files)
    left_out: Counter[str] = Counter()
    images = images.filter(pc.equal(images["status"], "ok"))
    rows = _may_train(rows, spec, left_out)
    made = list(_examples(spec, images, rows, pictures, left_out))
    counts = PairCounts(
        examples=dict(Counter(example["task"] for example in made)),
        valid=dict(Counter(example["task"] for example in made if example["is_valid"])),
        images=len({example["image_key"] for example in made}),
        left_out=dict(left_out),
    )
    read = [f"{version}/{files.images}", f"{version}/{files.annotations}", pictures.tar]
    made_from = {path: digest_in(spec.output, path) for path in read if path}
    columns = {name: [example[name] for example in made] for name in SCHEMA.names}
    tasks = [task.name for task in spec.options.wanted]
    return encode_file(columns, tasks, Notes(counts, made_from))


def digest_in(output: Location, path: str) -> str | None:
    """The sha256 of a file of a shard, as its marker has it; null where there is none."""
    version, _, name = path.partition("/")
    marker = f"{version}/{ShardFiles(int(name.partition('.')[0])).marker}"
    raw = read_if_there(output, marker)
    return None if raw is None else str(json.loads(raw.to_pybytes())["files"][name]["sha256"])


def _read(output: Location, path: str, columns: Sequence[str]) -> pa.Table:
    try:
        return read_parquet(output, path, list(columns), use_threads=False)
    except (ReadError, pa.ArrowInvalid) as err:
        raise damaged(output, path, err) from err


def _find_pictures(spec: PairSpec, files: ShardFiles) -> _Pictures:
    """In the first of the versions whose tar of the shard has any picture.

    Headers alone are read on a disk, the whole tar from a bucket: a request for each costs more.
    """
    for version in spec.versions:
        path = f"{version}/{files.tar}"
        if not spec.output.exists(path):
            continue
        try:
            is_near = spec.output.readers == 1
            file = (
                spec.output.open(path).file
                if is_near
                else pa.BufferReader(spec.output.read(path).data)
            )
        except ReadError as err:
            raise damaged(spec.output, path, err) from err
        found: dict[str, Member] = {}
        with file:
            for member in members(file, seekable=True):
                if member == BROKEN:
                    raise damaged(spec.output, path, "ends early")
                key, _, ending = member.name.partition(".")
                if ending != "json" and member.refused is None:
                    found.setdefault(key, member)
        if found:
            return _Pictures(path, found)
    return _Pictures()


def _may_train(rows: pa.Table, spec: PairSpec, left_out: Counter[str]) -> pa.Table:
    """Kept rows that may be learned from; counts the others of the wanted tasks."""
    rows = rows.filter(pc.equal(rows["status"].cast(pa.string()), "kept")).combine_chunks()
    wanted = np.zeros(rows.num_rows, bool)
    for task in spec.options.wanted:
        wanted |= is_about(rows, task)
    is_gold, ignored = _gold(rows, spec.gold), np.asarray(rows["ignore"].to_numpy(), bool)
    for reason, mask in (("gold", is_gold), ("ignored", ignored & ~is_gold)):
        if count := int((mask & wanted).sum()):
            left_out[reason] += count
    return rows.filter(pa.array(~is_gold & ~ignored))


def _gold(rows: pa.Table, gold: Sequence[str]) -> Flags:
    """Rows of gold sources, and those derived from them: what was made of gold gives it away."""
    found = np.asarray(
        pc.is_in(rows["source"].cast(pa.string()), pa.array(gold, pa.string())).to_numpy(), bool
    )
    if not found.any():
        return found
    parents = rows["parents"].combine_chunks()
    children = pc.list_parent_indices(parents).to_numpy()
    parent_ids, ids = pc.list_flatten(parents), rows["annotation_id"]
    while True:
        of_gold = pc.is_in(parent_ids, ids.filter(pa.array(found)).combine_chunks()).to_numpy(
            zero_copy_only=False
        )
        more = found.copy()
        more[children[of_gold]] = True
        if (more == found).all():
            return found
        found = more


def _examples(
    spec: PairSpec,
    images: pa.Table,
    rows: pa.Table,
    pictures: _Pictures,
    left_out: Counter[str],
) -> Iterator[dict[str, Any]]:
    """Every pair of the images as a row of `SCHEMA`."""
    places = pc.index_in(rows["image_key"], images["image_key"].combine_chunks())
    known = np.asarray(pc.fill_null(places, -1).to_numpy(), np.int64)
    order = np.argsort(known, kind="stable")
    rows = rows.take(pa.array(order)).combine_chunks()
    ends = np.searchsorted(known[order], np.arange(images.num_rows + 1))
    about = {task.name: is_about(rows, task) for task in spec.options.wanted}
    for image, start, end in zip(_images(images, spec), ends[:-1], ends[1:], strict=True):
        mine = {name: mask[start:end] for name, mask in about.items() if mask[start:end].any()}
        if not mine:
            continue
        member = pictures.members.get(image["image_key"])
        reason = image.pop("lacks")
        if reason or member is None:
            left_out[reason or "no_picture"] += 1
            continue
        image |= {"tar": pictures.tar, "offset": member.offset, "num_bytes": member.size}
        own = rows.slice(start, end - start)
        for task in spec.options.wanted:
            if task.name in mine:
                for pair in _pairs(task, own, image, spec.options, mine[task.name], left_out):
                    said = {"task": task.name, "prompt": pair.prompt, "target": pair.target}
                    yield {**image, **said}


def _images(images: pa.Table, spec: PairSpec) -> Iterator[dict[str, Any]]:
    """Each image, whether it is held out, and what it lacks to be learned from, if anything."""
    has_size = pc.and_(pc.greater(images["width"], 0), pc.greater(images["height"], 0))
    has_digest = pc.match_substring_regex(images["sha256"], _DIGEST)
    lacks = pc.if_else(
        pc.fill_null(has_digest, False),
        pc.if_else(pc.fill_null(has_size, False), None, "no_size"),
        "no_sha256",
    ).to_pylist()
    known = [
        digest for digest, gap in zip(images["sha256"].to_pylist(), lacks, strict=True) if not gap
    ]
    held_out = iter(is_held_out(known, spec.options.valid_share, spec.seed).tolist())
    for image, gap in zip(images.drop_columns("status").to_pylist(), lacks, strict=True):
        yield {**image, "lacks": gap, "is_valid": False if gap else next(held_out)}


def _pairs(
    task: Task,
    rows: pa.Table,
    image: Mapping[str, Any],
    options: PairOptions,
    about: Flags,
    left_out: Counter[str],
) -> Iterator[Pair]:
    """The pairs of one task and image that are within the limits; counts the others."""
    size = (image["width"], image["height"])
    said = np.zeros(rows.num_rows, bool)
    for pair in encode_pairs(task, rows, size, order=_order(task, options.order)):
        places = list(pair.rows)
        said[places] = True
        if options.max_items is not None and about[places].sum() > options.max_items:
            left_out["too_many_items"] += 1
        elif len(pair.prompt) + len(pair.target) > options.max_characters:
            left_out["too_long"] += 1
        else:
            yield pair
    if unsaid := int((about & ~said).sum()):
        left_out["not_said"] += unsaid


def _order(task: Task, order: Order) -> Order:
    return "reading" if order == "area" and "ocr" in task.roles else order
