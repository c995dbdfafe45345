"""Small datasets whose labels become training pairs."""

import hashlib
from pathlib import Path

import pyarrow as pa

from engine.config import RunnerConfig
from engine.schema import claims
from refinement.pairs.options import PairOptions
from refinement.pairs.stream import Pairs
from refinement.pairs.writer import write_pairs
from tests.judged import put
from tests.shards import VERSION, dataset, images

SERIAL = RunnerConfig(kind="serial")


def sha(text):
    return hashlib.sha256(text.encode()).hexdigest()


def pictures(*keys, **columns):
    """Images of 100 x 80 px, each with a digest of its own."""
    count = len(keys)
    defaults = {"sha256": [sha(key) for key in keys], "width": [100] * count}
    return images(*keys, **{**defaults, "height": [80] * count, **columns})


def regions(*entries, **columns):
    """Categories: image, text and box of each; ids `IMAGE-NUMBER`."""
    keys = [key for key, _, _ in entries]
    defaults = {
        "annotation_id": [f"{key}-{number}" for number, key in enumerate(keys)],
        "kind": "region",
        "role": "category",
        "source": "yolo",
    }
    return claims(
        image_key=keys,
        text=[text for _, text, _ in entries],
        box=[box for _, _, box in entries],
        **{**defaults, **columns},
    )


def make(folder: Path, *shards, bare=()):
    """A dataset of shards, each a table of images and one of claims.

    Images named in `bare` have no picture in the tar; that of any other is `picture of KEY`.
    """
    place = dataset(folder, *[table["image_key"].to_pylist() for table, _ in shards])
    for number, (table, rows) in enumerate(shards):
        states = zip(table["image_key"].to_pylist(), table["status"].to_pylist(), strict=True)
        data = {
            key: f"picture of {key}".encode()
            for key, state in states
            if state == "ok" and key not in bare
        }
        put(place, number, table, rows, data)
    return place


def many(folder: Path, count=60, *, num_shards=3, boxes_each=2):
    """A dataset of images `image-N` in shards, each image with boxes and a text."""
    shards = []
    for shard in range(num_shards):
        keys = [f"image-{n}" for n in range(shard, count, num_shards)]
        found = [(key, f"thing {n}", [n, 2, 20 + n, 30]) for key in keys for n in range(boxes_each)]
        texts = claims(
            image_key=keys,
            annotation_id=[f"{key}-text" for key in keys],
            kind="text",
            role="brief",
            text=[f"a picture of {key}" for key in keys],
            source="captioner",
        )
        shards.append((pictures(*keys), pa.concat_tables([regions(*found), texts])))
    return make(folder, *shards)


def paired(place, folder: Path, *, seed=0, gold=(), runner=SERIAL, version=VERSION, **options):
    """What `write_pairs` says, and the pairs it made."""
    counts = write_pairs(
        place.output,
        version,
        PairOptions(**options),
        folder,
        runner=runner,
        seed=seed,
        gold=gold,
    )
    return counts, Pairs.open(folder, place.output)


def every(pairs, task="od"):
    """All examples of a task."""
    return [pairs.example(task, n) for n in range(pairs.counts.examples[task])]
