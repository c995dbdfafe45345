"""Makes the training pairs of a label version by shards; the same call goes on after a kill."""

import json
from collections.abc import Callable, Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import Any

from engine.ancestry import ancestors
from engine.config import RunnerConfig, difference
from engine.crew import open_tasks
from engine.dataset import Markers, read_dataset, totals_of
from engine.errors import ConfigError
from engine.output import read_if_there, remove_leftovers
from engine.source.filesystem import open_location
from engine.source.shapes import Location
from engine.versions import find_version
from refinement.pairs.files import (
    IDENTITY,
    PairCounts,
    count_all,
    file_name,
    file_names,
    read_notes,
)
from refinement.pairs.options import PairOptions, check_rows, no_rows
from refinement.pairs.shards import PairSpec, digest_in, encode_shard

# Told what is done, of how many shards, and how many there are.
Progress = Callable[[str, int, int], None]


def write_pairs(
    output: Location,
    version: str,
    options: PairOptions,
    folder: Path,
    *,
    runner: RunnerConfig,
    seed: int,
    gold: Collection[str] = (),
    progress: Progress = lambda *_: None,
) -> PairCounts:
    """Writes an Arrow file of pairs for every shard of a label version, then `pairs.json`.

    Pairs are made of kept rows, not marked `ignore`, of images that are `ok`. A file that is there
    is not made again, unless what it was made from has changed since. The same dataset gives the
    same bytes.

    Args:
        output: The dataset's place.
        version: A label version that is finished.
        options: What to make.
        folder: Where to, on this machine: the files are mapped by whoever trains.
        runner: Where shards are encoded.
        seed: Tells which images are held out, and later which fold each is in.
        gold: Sources whose rows never train, nor rows derived from them.
        progress: Told `paired`, and how far it is.

    Raises:
        ConfigError: The version is not there or not finished, a task has no kept row to learn from
            or none but gold, or the folder holds pairs of another kind.
        ShardError: A shard is damaged.
        StoppedError: The disk is full; the same call goes on.
    """
    version, _ = find_version(output, version)
    where = f"{output.uri}: version {version!r}"
    check_rows(options, totals_of(output, version).annotations, gold, where)
    identity = {
        "version": version,
        "seed": seed,
        "gold": sorted(gold),
        "options": options.identity(),
    }
    place = _claim(folder, identity, options)
    shards = sorted(Markers(output, version).load())
    _delete_others(folder, shards)
    versions = tuple(ancestors(read_dataset(output), version))
    spec = PairSpec(output, versions, options, seed, tuple(sorted(gold)))
    todo = sorted(set(shards) - set(_up_to_date(output, folder, shards)))
    _encode(spec, place, todo, len(shards), runner, progress)
    counts = _counts(folder, options)
    for task in options.wanted:
        if not counts.examples[task.name]:
            raise no_rows(task, where, {f"left out, {k}": n for k, n in counts.left_out.items()})
    _put_identity(place, identity, options, counts)
    return counts


def _claim(folder: Path, identity: dict[str, Any], options: PairOptions) -> Location:
    """The folder as a place to write to, once it is known to be of these pairs or empty."""
    if folder.exists() and not folder.is_dir():
        raise ConfigError(f"{folder}: is a file; give a folder for the pairs")
    place = open_location(str(folder))
    raw = read_if_there(place, IDENTITY)
    if raw is None and file_names(folder):
        raise ConfigError(
            f"{folder}: holds Arrow files without a {IDENTITY}; nobody knows what they are made "
            "of; give another folder, or delete it"
        )
    if raw is not None:
        try:
            stored = json.loads(raw.to_pybytes())
            changes = difference({name: stored[name] for name in identity}, identity)
        except (ValueError, KeyError, TypeError) as err:
            raise ConfigError(f"{folder}: its {IDENTITY} is damaged; delete the folder") from err
        if changes:
            raise ConfigError(
                f"{folder}: holds pairs of another kind; differences: {'; '.join(changes)}; give "
                "another folder, or delete it"
            )
    remove_leftovers(place)
    _put_identity(place, identity, options, None)
    return place


def _put_identity(
    place: Location, identity: dict[str, Any], options: PairOptions, counts: PairCounts | None
) -> None:
    """What the pairs are; without counts they are not all there."""
    weights = {task.name: options.tasks[task.name] for task in options.wanted}
    found = None if counts is None else asdict(counts)
    content = {**identity, "weights": weights, "counts": found}
    place.write(IDENTITY, (json.dumps(content, indent=1) + "\n").encode())


def _delete_others(folder: Path, shards: Collection[int]) -> None:
    """Removes files of shards that are no more."""
    known = {file_name(shard) for shard in shards}
    for name in file_names(folder):
        if name not in known:
            (folder / name).unlink()


def _up_to_date(output: Location, folder: Path, shards: Collection[int]) -> Iterator[int]:
    """Shards whose file is whole, and made from what is there now."""
    found = {shard for shard in shards if (folder / file_name(shard)).is_file()}
    current = cache(lambda path: digest_in(output, path))

    def is_current(shard: int) -> bool:
        notes = read_notes(folder / file_name(shard))
        return notes is not None and all(
            digest is not None and current(path) == digest
            for path, digest in notes.made_from.items()
        )

    with ThreadPoolExecutor(output.readers) as pool:
        for shard, is_fine in zip(found, pool.map(is_current, found), strict=True):
            if is_fine:
                yield shard


def _encode(
    spec: PairSpec,
    place: Location,
    todo: Collection[int],
    total: int,
    runner: RunnerConfig,
    progress: Progress,
) -> None:
    done = total - len(todo)
    progress("paired", done, total)
    if not todo:
        return
    with open_tasks(runner) as tasks:
        # written here: a worker may be on another machine
        for number, (shard, encoded) in enumerate(tasks(encode_shard, spec, todo), start=done + 1):
            place.write(file_name(shard), encoded)
            progress("paired", number, total)


def _counts(folder: Path, options: PairOptions) -> PairCounts:
    notes = [read_notes(folder / name) for name in file_names(folder)]
    counts = [each.counts for each in notes if each is not None]
    return count_all(counts, [task.name for task in options.wanted])
