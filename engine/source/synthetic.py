"""Generated images with known truth, as a source that needs no data at all."""

from collections.abc import Iterator
from dataclasses import dataclass

import pyarrow as pa

from engine.config import LimitsConfig
from engine.errors import ConfigError
from engine.source.names import image_keys
from engine.source.shapes import LISTING, PLACE, Listing, ReadError, Sample, check_limit

_DIGITS = 8  # of the number in a name, so that names sort as numbers do


@dataclass(frozen=True, kw_only=True)
class Synthetic:
    """The first `num_images` scenes of a seed, generated when they are read.

    Attributes:
        uri: Always `synthetic`.
        num_images: How many scenes, 1 to 99,999,999.
        seed: Another seed gives other scenes.
    """

    uri: str = "synthetic"
    num_images: int = 100
    seed: int = 0

    def __post_init__(self) -> None:
        if self.uri != "synthetic":
            raise ConfigError(
                f"source.uri is {self.uri!r}; the kind synthetic is written 'synthetic'"
            )
        if not 1 <= self.num_images < 10**_DIGITS:
            raise ConfigError(
                f"source.num_images is {self.num_images}; give a number from 1 to {10**_DIGITS - 1}"
            )

    def listing(self, limit: int | None = None) -> Listing:
        """Names alone: sizes are null, because knowing them would mean generating every scene."""
        check_limit(limit)
        count = self.num_images if limit is None else min(limit, self.num_images)
        uris = [f"scene-{index:0{_DIGITS}}.jpg" for index in range(count)]
        unknown = pa.nulls(count, pa.int64())
        nowhere = pa.nulls(count, PLACE)
        columns = [pa.array(image_keys(uris)), pa.array(uris), unknown, unknown, nowhere]
        return Listing(self.uri, pa.Table.from_arrays(columns, schema=LISTING))

    @property
    def produces(self) -> dict[str, tuple[str, ...]]:
        """Nothing: the truth of a scene is for evaluation."""
        return {}

    def read(self, images: pa.Table, limits: LimitsConfig) -> Iterator[Sample | ReadError]:
        """The JPEG of each scene, the same bytes each time with the same Pillow."""
        for uri in images["uri"].to_pylist():
            try:
                yield Sample(self._paint(uri, limits.max_bytes))
            except ReadError as err:
                yield err

    def _paint(self, uri: str, max_bytes: int) -> pa.Buffer:
        number = uri.removeprefix("scene-").removesuffix(".jpg")
        if not number.isdecimal() or int(number) >= self.num_images:
            raise ReadError("missing", f"there is no scene {uri!r}")
        from engine.synthetic import scene  # the painter is not loaded by those who only list

        data = scene(self.seed, int(number)).jpeg()
        if len(data) > max_bytes:
            raise ReadError("too_many_bytes", f"{len(data)} bytes, limits.max_bytes is {max_bytes}")
        return pa.py_buffer(data)
