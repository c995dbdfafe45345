"""The exact truth of a synthetic dataset, as labels to compare it with."""

from collections.abc import Iterator

import pyarrow as pa

from engine.errors import ConfigError
from engine.formats.shapes import Header, LabelSet, Part
from engine.schema import image_rows
from engine.source.synthetic import scene_uris
from engine.synthetic.labels import WORLDS, true_rows

_PART = 256  # images that are laid out together


def truth_labels(seed: int, num_images: int, world: str) -> LabelSet:
    """Everything that is true of the first scenes of a world, in parts of at most 256 images.

    Names of pictures are those of the source `synthetic`; a part is laid out when it is asked for.

    Args:
        seed: As the dataset's config has it.
        num_images: Of the source; 0 or more.
        world: As the source has it: `scenes`, `plain` or `plain_words`.

    Raises:
        ConfigError: There is no such world, or a number is below 0.

    Example:
        >>> [part] = truth_labels(0, 2, "plain").parts
        >>> part.images["uri"].to_pylist()
        ['scene-00000000.png', 'scene-00000001.png']
    """
    if world not in WORLDS:
        raise ConfigError(f"truth: world {world!r}; allowed: {', '.join(sorted(WORLDS))}")
    if min(seed, num_images) < 0:
        raise ConfigError(f"truth: seed {seed}, num_images {num_images}; both must be 0 or more")
    header = Header(kind="synthetic", classes=WORLDS[world].classes)
    return LabelSet(header, _parts(seed, num_images, world))


def _parts(seed: int, num_images: int, world: str) -> Iterator[Part]:
    for first in range(0, num_images, _PART):
        indices = range(first, min(first + _PART, num_images))
        yield Part(_images(indices, world), true_rows(world, seed, indices))


def _images(indices: range, world: str) -> pa.Table:
    width, height = WORLDS[world].size
    return image_rows(
        image_key=[str(place) for place in range(len(indices))],
        uri=scene_uris(world, indices),
        width=width,
        height=height,
        status="ok",
    )
