"""A specialist without a model: rows from the image's key alone, for tests and for overhead."""

import hashlib
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import ConfigError
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import ROLES, claims, empty_claims

_NOUNS = np.array(["person", "dog", "cat", "car", "bus", "chair", "bottle", "book", "kite", "tree"])
_KINDS = tuple(f"{kind}/{role}" for kind in ("region", "text") for role in ROLES[kind])
_REVISION = "1"  # a change of the rows below changes this


@dataclass(kw_only=True)
class Null:
    """Answers each image with `num_rows` rows derived from its `image_key` by hash.

    The same key and size give the same rows, whatever the batch. Boxes lie inside the image; region
    rows have a score in [0, 1), caption rows have none.

    Attributes:
        name: The `source` of its rows.
        num_rows: Rows per image; row i is of the i-th kind, going round.
        kinds: `region/ROLE` or `text/ROLE`.
        after: Kinds it pretends to need, which puts it on the level after those who produce them.
        work_ms: CPU time burnt per image, milliseconds of this thread.
        quiet_limit: See `engine.protocols.Specialist`.
    """

    name: str = "null"
    num_rows: int = 3
    kinds: tuple[str, ...] = ("region/category",)
    after: tuple[str, ...] = ()
    work_ms: float = 0.0
    quiet_limit: int | None = None
    model: str = field(init=False, default="null")
    produces: tuple[str, ...] = field(init=False)
    requires: tuple[str, ...] = field(init=False)
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False, default=Resources())

    def __post_init__(self) -> None:
        if not self.kinds or not set(self.kinds) <= set(_KINDS):
            raise ConfigError(
                f"specialist {self.name!r}: kinds {list(self.kinds)}; allowed: {', '.join(_KINDS)}"
            )
        if self.num_rows < 0 or self.work_ms < 0:
            raise ConfigError(
                f"specialist {self.name!r}: num_rows {self.num_rows}, work_ms {self.work_ms}; "
                "both must be 0 or more"
            )
        self.produces = tuple(dict.fromkeys(self.kinds))
        self.requires = self.after

    def needs(self) -> list[Need]:
        """Nothing."""
        return []

    def prepare(self) -> str:
        """The version of how rows are derived."""
        return _REVISION

    def load(self) -> None:
        """Does nothing."""

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """`num_rows` rows per image, in order; see `engine.protocols.Specialist`."""
        for _ in images:
            _burn(self.work_ms / 1000)
        if not images or not self.num_rows:
            return empty_claims()
        keys = [image.image_key for image in images]
        noise = _noise(keys, self.num_rows)  # (n, 6) in [0, 1)
        sizes = np.array([(image.width, image.height) for image in images], np.float64)
        boxes = _boxes(noise[:, :4], np.repeat(sizes, self.num_rows, axis=0))
        pairs = np.array([pair.split("/") for pair in self.kinds])
        drawn = np.arange(self.num_rows) % len(pairs)
        kinds, roles = (np.tile(pairs[drawn, i], len(images)) for i in (0, 1))
        is_region = kinds == "region"
        no_text = roles == "proposal"
        nouns = _NOUNS[(noise[:, 4] * len(_NOUNS)).astype(np.intp)]
        return claims(
            image_key=np.repeat(np.array(keys, dtype=object), self.num_rows),
            kind=kinds,
            role=roles,
            text=pa.array(nouns, pa.string(), mask=no_text),
            box=pa.FixedSizeListArray.from_arrays(
                pa.array(boxes.reshape(-1), pa.float32()), 4, mask=pa.array(~is_region)
            ),
            score=pa.array(noise[:, 5], pa.float32(), mask=~is_region),
        )


def _noise(keys: list[str], num_rows: int) -> npt.NDArray[np.float64]:
    """Six numbers in [0, 1) per row of every key, shape (keys * num_rows, 6), from splitmix64.

    The generator is Steele, Lea and Flood's (OOPSLA 2014), started at a hash of the key.
    """
    hashed = b"".join(hashlib.blake2b(key.encode(), digest_size=8).digest() for key in keys)
    seeds = np.frombuffer(hashed, "<u8")
    steps = np.arange(1, num_rows * 6 + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
    z = seeds[:, None] + steps
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    z = z ^ (z >> np.uint64(31))
    uniform: npt.NDArray[np.float64] = (z >> np.uint64(11)) * 2.0**-53
    return uniform.reshape(-1, 6)


def _boxes(
    noise: npt.NDArray[np.float64], sizes: npt.NDArray[np.float64]
) -> npt.NDArray[np.float32]:
    """Boxes xyxy of a tenth to the whole of each side, inside images of `sizes`; both (n, ...)."""
    extent = sizes * (0.1 + 0.9 * noise[:, 2:])
    start = (sizes - extent) * noise[:, :2]
    return np.concatenate([start, start + extent], axis=1).astype(np.float32)


def _burn(seconds: float) -> None:
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        pass
