"""Rules on the shape of a box: broken ones, specks, whole pictures, threads, border slivers."""

import math
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.geometry import area, clip, is_box
from engine.protocols import Context
from engine.schema import Tables, Verdicts, box_array
from filters.columns import Flags, Floats, flags, image_sizes, is_word

_BOXED = ("region", "grounding")
_ROLES = ("category", "phrase", "brief", "ocr", "proposal")


def _has_box(annotations: pa.Table) -> Flags:
    return flags(pc.is_valid(annotations["box"]))


@dataclass(frozen=True, kw_only=True)
class InvalidBox:
    """Reject a box unless 0 <= x_min < x_max <= width and so in y, and a region without a box.

    Judges rows of kind `region` and `grounding`; grounding without a box is left alone. Measures
    how far, in px, the box reaches beyond its image at its worst side; the limit is 0. Null is
    measured, and the row rejected, where there is nothing to measure: no box, NaN or infinity, or
    sides that enclose nothing. An image of unknown size has no far sides to cross.
    """

    name: ClassVar[str] = "invalid_box"
    applies_to: ClassVar[tuple[str, ...]] = _BOXED

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        boxes = box_array(rows)
        near, far = -boxes[:, :2], np.fmax(boxes[:, 2:] - image_sizes(tables), 0)
        outside = np.maximum(np.maximum(near[:, 0], near[:, 1]), np.maximum(far[:, 0], far[:, 1]))
        measurable = is_box(boxes)
        judged = is_word(rows["kind"], _BOXED) & (
            _has_box(rows) | is_word(rows["kind"], ["region"])
        )
        rejected = judged & (~measurable | (outside > 0))
        measured = pa.array(outside, pa.float32(), mask=~(judged & measurable))
        return Verdicts(pa.array(rejected), measured=measured, limit=0.0)


@dataclass(frozen=True, kw_only=True)
class MinArea:
    """Reject specks.

    Judges rows of kind `region` and `grounding` that have a box. Measures the area of the part
    inside the image, px squared; kept when measured >= min_area_px. The default lies just below
    the smallest of the 739 boxes people drew on 80 COCO photos (23.0; one in a hundred is below
    54).
    """

    min_area_px: float = 20.0
    name: ClassVar[str] = "min_area"
    applies_to: ClassVar[tuple[str, ...]] = _BOXED

    def __post_init__(self) -> None:
        if not 0 < self.min_area_px < math.inf:
            raise ConfigError(
                f"rule 'min_area': min_area_px is {self.min_area_px}; "
                "it is an area above 0, in px squared"
            )

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        areas = area(clip(box_array(rows), image_sizes(tables)))
        judged = is_word(rows["kind"], _BOXED) & _has_box(rows)
        rejected = judged & (areas < np.float32(self.min_area_px))
        measured = pa.array(areas, pa.float32(), mask=~judged)
        return Verdicts(pa.array(rejected), measured=measured, limit=self.min_area_px)


@dataclass(frozen=True, kw_only=True)
class MaxAreaFraction:
    """Reject boxes that cover the whole image: they locate nothing.

    Judges rows of kind `region` and `grounding` of the named roles that have a box, in images of
    known size. Measures the area of the part inside the image over that of the image; kept when
    measured <= max_area_fraction. The default lies just above the largest of the 739 boxes people
    drew on 80 COCO photos (.9948; four are above .95), so that of what a person would draw it
    takes next to nothing. Phrases and captions are left alone by default: "a kitchen" may name the
    whole scene. So are rows marked `ignore`: a crowd may fill the picture.
    """

    max_area_fraction: float = 0.995
    roles: tuple[str, ...] = ("category", "ocr", "proposal")
    name: ClassVar[str] = "max_area_fraction"
    applies_to: ClassVar[tuple[str, ...]] = _BOXED

    def __post_init__(self) -> None:
        if not 0 < self.max_area_fraction <= 1:
            raise ConfigError(
                f"rule 'max_area_fraction': max_area_fraction is {self.max_area_fraction}; "
                "it is a share of the image, above 0 and up to 1"
            )
        check_roles(self.name, self.roles)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        sizes = image_sizes(tables)
        areas = area(clip(box_array(tables.annotations), sizes))
        with np.errstate(invalid="ignore", divide="ignore"):  # an image without a size or an area
            measured = areas / (sizes[:, 0] * sizes[:, 1])
        measured[~_is_judged(tables.annotations, self.roles)] = np.nan
        return _above(measured, self.max_area_fraction)


@dataclass(frozen=True, kw_only=True)
class AspectRatio:
    """Reject boxes like threads.

    Judges rows of kind `region` and `grounding` of the named roles whose box encloses something.
    Measures the longer side over the shorter one, of the box as claimed; kept when measured <=
    max_ratio. The default lies above the thinnest of the 739 boxes people drew on 80 COCO photos
    (18.05; the third is 10.5). OCR is left alone by default: a line of text is long and thin; so
    are rows marked `ignore`, such as crowds.
    """

    max_ratio: float = 20.0
    roles: tuple[str, ...] = ("category", "phrase", "brief", "proposal")
    name: ClassVar[str] = "aspect_ratio"
    applies_to: ClassVar[tuple[str, ...]] = _BOXED

    def __post_init__(self) -> None:
        if not 1 <= self.max_ratio < math.inf:
            raise ConfigError(
                f"rule 'aspect_ratio': max_ratio is {self.max_ratio}; "
                "the longer side over the shorter is 1 or more"
            )
        check_roles(self.name, self.roles)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        boxes = box_array(tables.annotations)
        judged = _is_judged(tables.annotations, self.roles) & is_box(boxes)
        measured = np.full(len(boxes), np.nan, np.float32)
        with np.errstate(over="ignore", invalid="ignore"):  # sides too long for a float32
            width, height = (boxes[judged, 2:] - boxes[judged, :2]).T
            measured[judged] = np.maximum(width, height) / np.minimum(width, height)
        return _above(measured, self.max_ratio)


@dataclass(frozen=True, kw_only=True)
class BorderSliver:
    """Reject what the border of the image leaves of an object when next to nothing is left.

    Judges rows of kind `region` and `grounding` of the named roles whose box reaches within
    `margin_px` of a border of an image of known size. Measures, in px, how far the part inside the
    image reaches in from that border, of several borders the least; kept when measured >=
    min_depth_px. The default lies just below the least of the 136 boxes that people drew at a
    border of 80 COCO photos of 640 px (9.6; the second is 10.1). Rows marked `ignore` are left
    alone.
    """

    min_depth_px: float = 9.0
    margin_px: float = 1.0
    roles: tuple[str, ...] = ("category", "phrase", "brief", "proposal")
    name: ClassVar[str] = "border_sliver"
    applies_to: ClassVar[tuple[str, ...]] = _BOXED

    def __post_init__(self) -> None:
        for option, least in (("min_depth_px", "above 0"), ("margin_px", "0 or more")):
            value = getattr(self, option)
            if not 0 <= value < math.inf or (value == 0 and least == "above 0"):
                raise ConfigError(
                    f"rule 'border_sliver': {option} is {value}; it is a length in px, {least}"
                )
        check_roles(self.name, self.roles)

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.annotations`, in its order."""
        rows = tables.annotations
        sizes = image_sizes(tables)
        boxes = clip(box_array(rows), sizes)
        judged = _is_judged(rows, self.roles) & is_box(boxes)
        margin = np.float32(self.margin_px)
        touches = (boxes[:, :2] <= margin) | (boxes[:, 2:] >= sizes - margin)  # NaN touches nothing
        touches &= ~np.isnan(sizes)
        with np.errstate(over="ignore", invalid="ignore"):  # infinity minus infinity: not a box
            depths = np.where(touches, boxes[:, 2:] - boxes[:, :2], np.float32(np.inf))
        depth = np.minimum(depths[:, 0], depths[:, 1])
        judged &= np.isfinite(depth)
        rejected = judged & (depth < np.float32(self.min_depth_px))
        measured = pa.array(depth, pa.float32(), mask=~judged)
        return Verdicts(pa.array(rejected), measured=measured, limit=self.min_depth_px)


def check_roles(rule: str, roles: tuple[str, ...]) -> None:
    """Refuses an empty list of roles and names that are none.

    Raises:
        ConfigError: Naming the rule and the roles there are.
    """
    unknown = [role for role in roles if role not in _ROLES]
    if not roles or unknown:
        found = f"names {unknown[0]!r}" if unknown else "is empty"
        raise ConfigError(f"rule {rule!r}: roles {found}; allowed: {', '.join(_ROLES)}")


def _is_judged(rows: pa.Table, roles: tuple[str, ...]) -> Flags:
    """Rows with a box of those roles, but for those that only say where not to look."""
    chosen = is_word(rows["kind"], _BOXED) & is_word(rows["role"], roles) & _has_box(rows)
    return chosen & ~flags(rows["ignore"])


def _above(measured: Floats, limit: float) -> Verdicts:
    """Rejects what measures more than the limit; NaN is not judged."""
    return Verdicts(
        pa.array(measured > np.float32(limit)),
        measured=pa.array(measured, pa.float32(), from_pandas=True),
        limit=limit,
    )
