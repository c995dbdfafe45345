"""Rules on pictures that a dataset holds more than once: the same bytes, or nearly the same look.

Both look at the whole dataset: each shard is measured, the measures are reduced to a table that
names every duplicate and what it is a duplicate of, and each shard is judged by that table.
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.geometry import decide
from engine.protocols import Context
from engine.schema import Tables, Verdicts
from filters.columns import Flags, flags
from filters.image_hamming import MAX_DISTANCE, Hashes, distance, near_pairs, read_hashes

DECISIONS = pa.schema(
    [("image_key", pa.string()), ("against", pa.string()), ("measured", pa.float32())]
)
# A picture's hash sets 32 of its 64 bits, one for each coefficient above their median (all of 107
# pictures, receipts and crops of words do), a mirror image of itself half as many. Fewer are left
# only where most coefficients are equal: blank pictures, plain gradients, stripes. Of those the
# hash says that they are plain, not that they are one picture.
MIN_BITS = 16


def tells_pictures_apart(hashes: Hashes) -> Flags:
    """Which hashes have enough bits set to be compared, shape (n,)."""
    enough: Flags = np.bitwise_count(hashes) >= MIN_BITS
    return enough


@dataclass(frozen=True, kw_only=True)
class NearDuplicate:
    """Reject pictures that look like another one of the dataset: smaller, recoded, a shade lighter.

    Measures in how many of 64 bits the perceptual hash differs from that of the picture `against`
    names; rejected when measured <= max_distance. Of pictures that look alike the largest (in
    pixels, then the first key) is kept, all within the distance of it are rejected, and so on with
    the rest: no two kept pictures are within the distance of each other, and every rejected one is
    within it of a kept one. A chain of small changes is therefore cut, never followed to its end.

    Takes part: images that are `ok`, or that this rule rejected in the label version that is
    filtered. Left alone: pictures without a hash, and plain ones (blank, a gradient), whose hashes
    are alike whatever they are of; `blank` is the rule for them, `exact_duplicate` for equal bytes.

    The default finds all of 80 COCO photos that were made grey, blurred by 4 px, cut to a quarter
    of their sides or saved as JPEG at quality 30 (at most 4 bits), two thirds of those cropped by 2
    % and 68 made lighter by 30 %; 6 would find 70 and 77, a mirrored one has 32. Between unrelated
    pictures the least of 5,671 distances is 16; were hashes random, a million pictures would hold
    0.07 pairs within 4, 7 within 6 and 11,000 within 10.

    The reduction of a million pictures takes 2 s on one core within 4 bits, 4 s within 6, and some
    four times as long for every two bits more; ten times the pictures take some 15 times as long.
    """

    max_distance: int = 4
    name: ClassVar[str] = "near_duplicate"
    applies_to: ClassVar[tuple[str, ...]] = ("image",)

    def __post_init__(self) -> None:
        check_distance(self.name, self.max_distance)

    def measure(self, tables: Tables) -> pa.Table:
        """Key, hash and number of pixels of every picture of the shard that takes part."""
        images = _taking_part(tables.images, self.name)
        images = images.filter(pc.is_valid(images["phash"]))
        images = images.filter(pa.array(tells_pictures_apart(read_hashes(images["phash"]))))
        width, height = (pc.cast(images[name], pa.int64()) for name in ("width", "height"))
        pixels = pc.fill_null(pc.multiply(width, height), 0)
        return images.select(["image_key", "phash"]).append_column("pixels", pixels)

    def reduce(self, measured: pa.Table) -> pa.Table:
        """Every near-duplicate, the picture it is one of, and their distance; sorted by key."""
        best_first = [("pixels", "descending"), ("image_key", "ascending")]
        measured = measured.sort_by(best_first).combine_chunks()
        distinct, first, which = np.unique(
            read_hashes(measured["phash"]), return_index=True, return_inverse=True
        )
        by_rank = np.argsort(first)  # equal hashes win and lose together, by the best of them
        rank = np.empty_like(by_rank)
        rank[by_rank] = np.arange(len(by_rank))
        duels = np.sort(rank[near_pairs(distinct, self.max_distance)], axis=1)
        lost_to = decide(duels, len(distinct))
        winner = np.where(lost_to >= 0, lost_to, np.arange(len(distinct)))[rank[which]]
        original = first[by_rank[winner]]
        rows = np.flatnonzero(original != np.arange(measured.num_rows))
        away = distance(distinct[which[rows]], distinct[which[original[rows]]])
        return _decisions(measured["image_key"], rows, original[rows], away.astype(np.float32))

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.images`, in its order."""
        return _judge_by(self.name, tables.images, context, limit=self.max_distance)


@dataclass(frozen=True, kw_only=True)
class ExactDuplicate:
    """Reject pictures whose file is that of another one of the dataset, byte for byte.

    Of equal files the one with the first key is kept, which `against` names; nothing is measured.
    Takes part: images that are `ok`, or that this rule rejected in the label version that is
    filtered, and have a `sha256`. Equal files within one shard are `duplicate` since they were
    read.
    """

    name: ClassVar[str] = "exact_duplicate"
    applies_to: ClassVar[tuple[str, ...]] = ("image",)

    def measure(self, tables: Tables) -> pa.Table:
        """Key and digest of every picture of the shard that takes part."""
        images = _taking_part(tables.images, self.name)
        return images.filter(pc.is_valid(images["sha256"])).select(["image_key", "sha256"])

    def reduce(self, measured: pa.Table) -> pa.Table:
        """Every duplicate and the picture it is one of; sorted by key."""
        measured = measured.sort_by("image_key").combine_chunks()
        codes = pc.dictionary_encode(measured["sha256"]).combine_chunks().indices.to_numpy()
        _, first = np.unique(codes, return_index=True)  # codes count by first appearance
        rows = np.flatnonzero(first[codes] != np.arange(len(codes)))
        return _decisions(measured["image_key"], rows, first[codes[rows]], None)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.images`, in its order."""
        return _judge_by(self.name, tables.images, context, limit=None)


def check_distance(rule: str, max_distance: int) -> None:
    """Refuses a distance that is none or that unrelated pictures have.

    Raises:
        ConfigError: Naming the rule and what is allowed.
    """
    if not 0 <= max_distance <= MAX_DISTANCE:
        raise ConfigError(
            f"rule {rule!r}: max_distance is {max_distance}; allowed: 0 to {MAX_DISTANCE} of 64 "
            "bits, beyond which unrelated pictures are alike"
        )


def _taking_part(images: pa.Table, rule: str) -> pa.Table:
    """Those that are `ok`, and those this rule itself rejected before: it will judge them again."""
    status, by = images["status"].cast(pa.string()), images["rule"].cast(pa.string())
    mine = pc.and_(pc.equal(status, "rejected"), pc.equal(by, rule))
    return images.filter(pc.or_(pc.equal(status, "ok"), pc.fill_null(mine, False)))


def _decisions(
    keys: pa.ChunkedArray, rows: np.ndarray, originals: np.ndarray, measured: np.ndarray | None
) -> pa.Table:
    columns = {
        "image_key": keys.take(pa.array(rows)),
        "against": keys.take(pa.array(originals)),
        "measured": pa.nulls(len(rows), pa.float32()) if measured is None else measured,
    }
    return pa.table(columns, schema=DECISIONS).sort_by("image_key").combine_chunks()


def _judge_by(rule: str, images: pa.Table, context: Context, *, limit: float | None) -> Verdicts:
    if context.decisions is None:
        raise ConfigError(
            f"rule {rule!r} must have seen the whole dataset; list it in a config of fld filter"
        )
    decisions = context.decisions.combine_chunks()
    found = pc.index_in(images["image_key"], decisions["image_key"].combine_chunks())
    found = found.combine_chunks()
    return Verdicts(
        pa.array(flags(pc.is_valid(found))),
        measured=decisions["measured"].combine_chunks().take(found),
        limit=limit,
        against=decisions["against"].combine_chunks().take(found),
    )
