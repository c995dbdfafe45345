"""A specialist in a package of its own: which colour a picture mostly has, as a brief text.

See engine/protocols.py for what every attribute and method promises. A real one would import its
model library in `load`: this module is also imported where no model runs.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from engine.errors import ConfigError
from engine.protocols import Image, Need, Replaces, Resources
from engine.schema import claims

_COLORS = {
    "black": (0, 0, 0),
    "gray": (128, 128, 128),
    "white": (255, 255, 255),
    "red": (220, 40, 40),
    "yellow": (230, 220, 50),
    "green": (50, 160, 60),
    "blue": (50, 90, 210),
    "brown": (120, 75, 40),
}


@dataclass(kw_only=True)  # its fields are the options of a config entry, checked by name and type
class DominantColor:
    """Answers each image with a brief text, if enough of its pixels are nearest to one colour.

    Attributes:
        name: The `source` of its rows.
        min_share: Of the pixels, 0 to 1; below it there is no text.
        quiet_limit: Null, because pictures without a main colour are normal.
    """

    name: str = "dominant_color"
    min_share: float = 0.5
    quiet_limit: int | None = None
    # the rest is fixed: what it is, what it writes, which kept rows it wants to see, what it needs
    model: str = field(init=False, default="dominant_color")
    produces: tuple[str, ...] = field(init=False, default=("text/brief",))
    requires: tuple[str, ...] = field(init=False, default=())
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False, default=Resources(cpus=1, gpus=0.0))

    def __post_init__(self) -> None:
        # one line: what failed, what was found, what is allowed
        if not 0 <= self.min_share <= 1:
            raise ConfigError(
                f"specialist {self.name!r}: min_share {self.min_share}; allowed: 0 to 1"
            )

    def needs(self) -> list[Need]:
        """Packages and weights for `fld checks`; nothing here."""
        return []

    def prepare(self) -> str:
        """Runs once before any worker: fetch weights here, return their digest or commit."""
        return "1"  # no weights: a version, to be raised when the answers change

    def load(self) -> None:
        """Runs once in every worker; what it sets need not survive pickling."""
        self._colors = np.array(list(_COLORS.values()), np.float32)

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """At most one row per image, in order. An exception is blamed on one image, not all."""
        shares = [self._shares(image) for image in images]
        told = [i for i, share in enumerate(shares) if share.max() >= self.min_share]
        names = list(_COLORS)
        return claims(  # columns that are not given are null: no score is ever invented
            image_key=[images[i].image_key for i in told],
            kind="text",
            role="brief",
            text=[f"a mostly {names[shares[i].argmax()]} picture" for i in told],
        )

    def _shares(self, image: Image) -> np.ndarray:
        """Share of the pixels nearest to each colour, shape (colours,)."""
        pixels = image.rgb(min_side=64)[::4, ::4].reshape(-1, 3).astype(np.float32)
        distances = np.linalg.norm(pixels[:, None] - self._colors, axis=2)
        return np.bincount(distances.argmin(axis=1), minlength=len(_COLORS)) / len(pixels)
