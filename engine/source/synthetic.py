"""Generated images with known truth, as a source that needs no data at all."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import pyarrow as pa

from engine.config import LimitsConfig
from engine.errors import ConfigError
from engine.source.names import image_keys
from engine.source.shapes import LISTING, PLACE, Listing, ReadError, Sample, check_limit

_DIGITS = 8  # of the number in a name, so that names sort as numbers do
_ENDINGS = {"scenes": "jpg", "plain": "png", "plain_words": "png"}  # by world
_DEFAULT_GIVES = ("region/category",)
_PHRASES, _THEIR_TEXT = "grounding/phrase", "text/brief"


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """The first `num_images` scenes of a seed, generated when they are read.

    Attributes:
        uri: Always `synthetic`.
        num_images: How many scenes, 1 to 99,999,999.
        seed: Another seed gives other scenes.
        world: `scenes` are cluttered pictures with words, 384 x 288; `plain` are one to three
            shapes on a plain backdrop, 64 x 64, which a tiny model learns within minutes;
            `plain_words` are the same with a word on many, and a description of each shape.
        noise: Share of the labels that is broken, 0 to 1 (see `engine.synthetic.labels`): 0 gives
            the truth, null no labels at all. No label is `human`.
        gives: "kind/role" of the labels, where there are any; phrases come with the brief texts
            they stand in. What is broken does not depend on the choice.
        name: The `source` of the labels.
    """

    uri: str = "synthetic"
    num_images: int = 100
    seed: int = 0
    world: str = "scenes"
    noise: float | None = None
    gives: Sequence[str] = _DEFAULT_GIVES
    name: str = "synthetic"

    def __post_init__(self) -> None:
        if self.uri != "synthetic":
            raise ConfigError(
                f"source.uri is {self.uri!r}; the kind synthetic is written 'synthetic'"
            )
        if not 1 <= self.num_images < 10**_DIGITS:
            raise ConfigError(
                f"source.num_images is {self.num_images}; give a number from 1 to {10**_DIGITS - 1}"
            )
        if self.world not in _ENDINGS:
            raise ConfigError(
                f"source.world is {self.world!r}; allowed: {', '.join(sorted(_ENDINGS))}"
            )
        object.__setattr__(self, "gives", tuple(self.gives))  # so that equal sources are equal
        self._check_labels()

    def _check_labels(self) -> None:
        if self.noise is None:
            if self.gives != _DEFAULT_GIVES:
                raise ConfigError(
                    "source.gives is set, but without source.noise no labels are given; "
                    "set source.noise=0 for the truth"
                )
            return
        if not 0 <= self.noise <= 1:
            raise ConfigError(
                f"source.noise is {self.noise:g}; allowed: 0 to 1, or null for no labels"
            )
        from engine.synthetic.labels import WORLDS

        known = WORLDS[self.world].gives
        unknown = [pair for pair in self.gives if pair not in known]
        if unknown or not self.gives:
            found = repr(unknown[0]) if unknown else "nothing"
            raise ConfigError(
                f"source.gives holds {found}; the world {self.world} has: {', '.join(known)}"
            )
        if _PHRASES in self.gives and _THEIR_TEXT not in self.gives:
            raise ConfigError(
                f"source.gives holds {_PHRASES!r} without {_THEIR_TEXT!r}, the texts that the "
                "phrases stand in; add it"
            )

    def listing(self, limit: int | None = None) -> Listing:
        """Names alone: sizes are null, because knowing them would mean generating every scene."""
        check_limit(limit)
        count = self.num_images if limit is None else min(limit, self.num_images)
        uris = scene_uris(self.world, range(count))
        unknown = pa.nulls(count, pa.int64())
        nowhere = pa.nulls(count, PLACE)
        columns = [pa.array(image_keys(uris)), pa.array(uris), unknown, unknown, nowhere]
        return Listing(self.uri, pa.Table.from_arrays(columns, schema=LISTING))

    @property
    def produces(self) -> dict[str, tuple[str, ...]]:
        """What `gives` names; nothing without `noise`: then the truth is for evaluation."""
        return {} if self.noise is None else {self.name: tuple(self.gives)}

    def read(self, images: pa.Table, limits: LimitsConfig) -> Iterator[Sample | ReadError]:
        """The picture of each scene, the same bytes each time with the same Pillow, and labels."""
        for uri in images["uri"].to_pylist():
            try:
                yield self._sample(uri, limits.max_bytes)
            except ReadError as err:
                yield err

    def _sample(self, uri: str, max_bytes: int) -> Sample:
        number = uri.removeprefix("scene-").removesuffix(f".{_ENDINGS[self.world]}")
        if not number.isdecimal() or int(number) >= self.num_images:
            raise ReadError("missing", f"there is no scene {uri!r}")
        from engine.synthetic.labels import WORLDS  # those who only list do not load the painter

        index = int(number)
        data = WORLDS[self.world].encode(self.seed, index)
        if len(data) > max_bytes:
            raise ReadError("too_many_bytes", f"{len(data)} bytes, limits.max_bytes is {max_bytes}")
        if self.noise is None:
            return Sample(pa.py_buffer(data))
        return Sample(pa.py_buffer(data), source=self.name, rows=self._labels(index, self.noise))

    def _labels(self, index: int, noise: float) -> list[dict[str, Any]]:
        from engine.synthetic.labels import BLOCK, block_labels

        block, place = divmod(index, BLOCK)
        rows = block_labels(self.world, self.seed, block, noise)[place]
        return [row for row in rows if f"{row['kind']}/{row['role']}" in self.gives]


def scene_uris(world: str, indices: range) -> list[str]:
    """What the pictures of scenes are called, in the order of `indices`."""
    return [f"scene-{index:0{_DIGITS}}.{_ENDINGS[world]}" for index in indices]
