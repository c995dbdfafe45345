"""Labels of the scenes of a world: the truth, and the same broken by a known share.

Noise is made for whole blocks of scenes, so that what is said of one does not depend on how many
there are, which are read together, or in which order.
"""

import functools
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.schema import CLAIM, claims
from engine.synthetic.noise import add_noise
from engine.synthetic.outlines import CLASSES
from engine.synthetic.plain import PLAIN_CLASSES, PLAIN_SIZE, plain_scene
from engine.synthetic.world import DEFAULT_SIZE, scene

BLOCK = 64  # scenes broken together: one read, all laid out; another number breaks other labels
_INVENTED_SHARE = 1 / 3  # of the share: then as many labels as objects, precision = recall
_BROKEN = ("missing", "wrong_class", "shifted", "wrong_caption")

_Places = npt.NDArray[np.int64]


class World(NamedTuple):
    """What can be had of a kind of scenes."""

    encode: Callable[[int, int], bytes]  # the picture, from seed and index
    rows: Callable[[int, int, str], pa.Table]  # the truth, from seed, index and image key
    size: tuple[int, int]  # width and height, pixels
    classes: tuple[str, ...]
    gives: tuple[str, ...]  # "kind/role" of the rows


WORLDS = {
    "scenes": World(
        encode=lambda seed, index: scene(seed, index).jpeg(),
        rows=lambda seed, index, key: scene(seed, index).rows(key),
        size=DEFAULT_SIZE,
        classes=CLASSES,
        gives=(
            "text/brief",
            "text/detailed",
            "text/more_detailed",
            "region/category",
            "region/ocr",
        ),
    ),
    "plain": World(
        encode=lambda seed, index: plain_scene(seed, index).png(),
        rows=lambda seed, index, key: plain_scene(seed, index).rows(key),
        size=PLAIN_SIZE,
        classes=PLAIN_CLASSES,
        gives=(
            "text/brief",
            "text/detailed",
            "text/more_detailed",
            "region/category",
            "grounding/phrase",
        ),
    ),
    "plain_words": World(
        encode=lambda seed, index: plain_scene(seed, index, words=True).png(),
        rows=lambda seed, index, key: plain_scene(seed, index, words=True).all_rows(key),
        size=PLAIN_SIZE,
        classes=PLAIN_CLASSES,
        gives=(
            "text/brief",
            "text/detailed",
            "text/more_detailed",
            "region/category",
            "region/brief",
            "region/ocr",
            "grounding/phrase",
        ),
    ),
}


def true_rows(world: str, seed: int, indices: range) -> pa.Table:
    """The truth of some scenes as claims; `image_key` is the place in `indices` as digits.

    Args:
        world: One of `WORLDS`.
        seed: Which of its kind, 0 or more.
        indices: Of the scenes, at least one.
    """
    rows = WORLDS[world].rows
    tables = [rows(seed, index, str(place)) for place, index in enumerate(indices)]
    return pa.concat_tables(tables).unify_dictionaries().combine_chunks()


def noisy_rows(world: str, seed: int, block: int, share: float) -> pa.Table:
    """Labels of the scenes `block * BLOCK` and on, as `true_rows` gives them, some of them broken.

    With probability `share` each: a region is missing, of a wrong class (a word: another word) or
    shifted, a text is another scene's, a grounding is missing or shifted; the groundings of a wrong
    text are left out. Beside a region stands an invented one with a third of that probability, so
    that precision and recall of regions at IoU 0.5 are both about 1 - share. A larger share breaks
    the same things and more. See `engine.synthetic.noise.add_noise`.

    Args:
        world: One of `WORLDS`.
        seed: Which of its kind, 0 or more.
        block: Which block, 0 or more.
        share: 0 to 1; 0 is the truth.

    Raises:
        ConfigError: `share` is out of its range.
    """
    if not 0 <= share <= 1:
        raise ConfigError(f"noise is {share:g}; it is a share of the labels, 0 to 1")
    truth = true_rows(world, seed, range(block * BLOCK, (block + 1) * BLOCK))
    grounded = pc.equal(truth["kind"].cast(pa.string()), "grounding").to_numpy()
    places = np.flatnonzero(~grounded)
    said = truth.take(places)
    seeds = [int(n) for n in np.random.SeedSequence([seed, block]).generate_state(3, np.uint64)]
    broken, log = add_noise(said, share=share, seed=seeds[0], kinds=_BROKEN)
    beside, inventions = add_noise(
        said, share=share * _INVENTED_SHARE, seed=seeds[1], kinds=["invented"]
    )
    phrases, owners = _break_groundings(truth, np.flatnonzero(grounded), log, share, seeds[2])
    rows = pa.concat_tables([broken, beside.take(inventions["noisy_row"]), phrases])
    owners = np.concatenate(
        [places[_left(said, log)], places[inventions["row"].to_numpy()], owners]
    )
    order = np.argsort(owners, kind="stable")  # an invention stands behind what it is beside
    return rows.unify_dictionaries().take(order).combine_chunks()


def _break_groundings(
    truth: pa.Table, places: _Places, log: pa.Table, share: float, seed: int
) -> tuple[pa.Table, _Places]:
    """The groundings at some places of the truth, some broken, and the places of those left."""
    retold = log.filter(pc.equal(log["defect"], "wrong_caption"))["annotation_id"].drop_null()
    # in another text a phrase has no such span
    text_ids = truth["text_id"].take(places)
    places = places[~pc.is_in(text_ids, retold.combine_chunks()).to_numpy()]
    phrases = truth.take(places)
    # the noise model breaks regions; a phrase that is left keeps its words, as its span does
    regions = _of_kind(phrases, "region")
    broken, log = add_noise(regions, share=share, seed=seed, kinds=["missing", "shifted"])
    left = _left(phrases, log)
    return _of_kind(broken, "grounding"), places[left]


def _of_kind(rows: pa.Table, kind: str) -> pa.Table:
    return claims(**{**{name: rows[name] for name in CLAIM.names}, "kind": kind})


def _left(rows: pa.Table, log: pa.Table) -> _Places:
    """Which rows are not missing."""
    gone = log.filter(pc.equal(log["defect"], "missing"))["row"].to_numpy()
    return np.setdiff1d(np.arange(rows.num_rows), gone)


@functools.lru_cache(maxsize=1)  # scenes are read in order: the last block is the next one's too
def block_labels(
    world: str, seed: int, block: int, share: float
) -> tuple[tuple[dict[str, Any], ...], ...]:
    """What `noisy_rows` says, scene by scene: values that are not null by column, but image_key."""
    labels: list[list[dict[str, Any]]] = [[] for _ in range(BLOCK)]
    for row in noisy_rows(world, seed, block, share).to_pylist():
        said = {name: value for name, value in row.items() if value is not None}
        labels[int(said.pop("image_key"))].append(said)
    return tuple(tuple(rows) for rows in labels)
