"""Rules on an image by itself: its size and shape, and whether there is anything to see."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.protocols import Context
from engine.schema import Tables, Verdicts
from filters.columns import Floats


def _numbers(images: pa.Table, name: str) -> Floats:
    """A column as float32, shape (n,); NaN for null."""
    column = pc.cast(images[name], pa.float32(), safe=False)
    return np.asarray(column.to_numpy(), np.float32)


def _sides(images: pa.Table) -> tuple[Floats, Floats]:
    """The shorter and the longer side of each image, px; NaN where not known."""
    width, height = _numbers(images, "width"), _numbers(images, "height")
    return np.minimum(width, height), np.maximum(width, height)


def _verdicts(measured: Floats, rejected: np.ndarray, limit: pa.Array | float) -> Verdicts:
    return Verdicts(
        pa.array(rejected),
        measured=pa.array(measured, pa.float32(), from_pandas=True),
        limit=limit,
    )


@dataclass(frozen=True, kw_only=True)
class ImageSize:
    """Reject images too small, or too large.

    Measures the shorter side, px, kept when measured >= min_side_px; and where that is fine the
    longer one, kept when measured <= max_side_px (null: no limit). An image of unknown size is left
    alone. 200 is what DataComp's basic filtering asks of the shorter side (Gadre et al., 2023);
    crops of single words are smaller.
    """

    min_side_px: int = 200
    max_side_px: int | None = None
    name: ClassVar[str] = "image_size"
    applies_to: ClassVar[tuple[str, ...]] = ("image",)

    def __post_init__(self) -> None:
        for option in ("min_side_px", "max_side_px"):
            side = getattr(self, option)
            if side is not None and side < 1:
                raise ConfigError(f"rule 'image_size': {option} is {side}; allowed: 1 px or more")
        if self.max_side_px is not None and self.max_side_px < self.min_side_px:
            raise ConfigError(
                f"rule 'image_size': max_side_px {self.max_side_px} is below min_side_px "
                f"{self.min_side_px}, so that no image could be kept"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.images`, in its order."""
        shorter, longer = _sides(tables.images)
        too_small = shorter < self.min_side_px
        too_large = ~too_small & (longer > (self.max_side_px or math.inf))
        limits = np.where(too_large, self.max_side_px or 0, self.min_side_px)
        measured = np.where(too_large, longer, shorter).astype(np.float32)
        return _verdicts(measured, too_small | too_large, pa.array(limits, pa.float32()))


@dataclass(frozen=True, kw_only=True)
class ImageAspect:
    """Reject images like banners.

    Measures the longer side over the shorter one; kept when measured <= max_ratio. An image of
    unknown size is left alone. 3 is what DataComp's basic filtering allows (Gadre et al., 2023); of
    97 photos and scans here the longest has 2.66.
    """

    max_ratio: float = 3.0
    name: ClassVar[str] = "image_aspect"
    applies_to: ClassVar[tuple[str, ...]] = ("image",)

    def __post_init__(self) -> None:
        if not 1 <= self.max_ratio < math.inf:
            raise ConfigError(
                f"rule 'image_aspect': max_ratio is {self.max_ratio}; "
                "the longer side over the shorter is 1 or more"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.images`, in its order."""
        shorter, longer = _sides(tables.images)
        measured = np.full(len(shorter), np.nan, np.float32)
        np.divide(longer, shorter, out=measured, where=shorter > 0)
        return _verdicts(measured, measured > np.float32(self.max_ratio), self.max_ratio)


@dataclass(frozen=True, kw_only=True)
class Blank:
    """Reject images that show nothing.

    Measures `contrast`, the standard deviation of the grey levels, 0 to 127.5; kept when measured
    >= min_contrast. An image without it is left alone. The default leaves room below the lowest of
    107 photos, receipts and crops of words (13.0; of the 80 COCO photos 18.8); a white page with
    one percent of black ink has 25.
    """

    min_contrast: float = 5.0
    name: ClassVar[str] = "blank"
    applies_to: ClassVar[tuple[str, ...]] = ("image",)

    def __post_init__(self) -> None:
        if not 0 < self.min_contrast <= 127.5:  # noqa: PLR2004  # half black, half white
            raise ConfigError(
                f"rule 'blank': min_contrast is {self.min_contrast}; "
                "a standard deviation of grey levels, above 0 and up to 127.5"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.images`, in its order."""
        measured = _numbers(tables.images, "contrast")
        return _verdicts(measured, measured < np.float32(self.min_contrast), self.min_contrast)


@dataclass(frozen=True, kw_only=True)
class Blurred:
    """Reject images without a sharp edge.

    Measures `sharpness`, the variance of the Laplacian of a small grey copy, in squared grey
    levels; kept when measured >= min_sharpness. An image without it is left alone. The default lies
    just below the lowest of 107 photos, receipts and crops of words (22.9; the next is 101). Of 80
    COCO photos blurred by a Gaussian of 4 px it rejects 49, of 2 px 2; 50 would find all 80 and 9,
    and begin to take photos of fog and sky.
    """

    min_sharpness: float = 20.0
    name: ClassVar[str] = "blurred"
    applies_to: ClassVar[tuple[str, ...]] = ("image",)

    def __post_init__(self) -> None:
        if not 0 < self.min_sharpness < math.inf:
            raise ConfigError(
                f"rule 'blurred': min_sharpness is {self.min_sharpness}; a variance above 0"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.images`, in its order."""
        measured = _numbers(tables.images, "sharpness")
        return _verdicts(measured, measured < np.float32(self.min_sharpness), self.min_sharpness)
