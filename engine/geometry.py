"""Boxes and polygon rings on numpy: area, clip, IoU, ring order, grouped suppression.

Boxes are xyxy in pixels of the original upright image, float32 as the tables hold them, and every
number is computed in float32, so that what is stored as measured compares with its limit exactly
as it did here.
"""

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

Boxes = npt.NDArray[np.float32]
Floats = npt.NDArray[np.float32]
Flags = npt.NDArray[np.bool_]
Indices = npt.NDArray[np.int64]

_PAIRS_AT_ONCE = 1 << 18  # about 30 MB of boxes and overlaps in flight; larger was not faster
# The float32 IoU of two boxes is off by less than 1e-6 of itself, so a window this much wider
# misses none.
_WINDOW_SLACK = 1e-5


def area(boxes: Boxes) -> Floats:
    """Area of each box, shape (n, 4) in, (n,) out, px squared.

    A box whose sides do not enclose anything (x_max <= x_min, or NaN) has area 0. No
    boxes, no areas.

    Example:
        >>> area(np.array([[0, 0, 4, 3], [5, 5, 5, 9]], np.float32)).tolist()
        [12.0, 0.0]
    """
    with np.errstate(invalid="ignore", over="ignore"):  # infinity minus infinity: not a box
        sides = boxes[:, 2:] - boxes[:, :2]
        areas: Floats = np.where(is_box(boxes), sides[:, 0] * sides[:, 1], np.float32(0))
    return areas


def is_box(boxes: Boxes) -> Flags:
    """Which boxes enclose something: all four numbers finite, x_min < x_max and y_min < y_max."""
    x_min, y_min, x_max, y_max = boxes.T
    encloses = (x_min < x_max) & (y_min < y_max)  # NaN is never smaller
    is_finite = (x_min > -np.inf) & (y_min > -np.inf) & (x_max < np.inf) & (y_max < np.inf)
    found: Flags = encloses & is_finite
    return found


def clip(boxes: Boxes, sizes_wh: npt.NDArray[np.floating]) -> Boxes:
    """The part of each box inside its image.

    Args:
        boxes: Shape (n, 4).
        sizes_wh: Width and height of the image of each box, shape (n, 2) or (2,) for all;
            NaN where it is not known, which leaves the far side alone.

    Returns:
        Shape (n, 4); a box wholly outside becomes one without area. NaN stays NaN.
    """
    far = np.tile(np.broadcast_to(sizes_wh, (len(boxes), 2)), 2).astype(np.float32)
    clipped: Boxes = np.where(boxes > far, far, boxes)
    return np.maximum(clipped, np.float32(0))


def pairwise_iou(a: Boxes, b: Boxes) -> Floats:
    """Overlap of every box in `a`, shape (n, 4), with every box in `b`, shape (m, 4).

    Returns:
        Shape (n, m), each in [0, 1]; 0 where either box has no area. Empty input, empty matrix.
    """
    return iou_of(a[:, None, :], b[None, :, :], area(a)[:, None], area(b)[None, :])


def paired_iou(a: Boxes, b: Boxes) -> Floats:
    """Overlap of each box in `a` with the box at the same place in `b`, both (n, 4).

    Returns:
        Shape (n,), each in [0, 1]; 0 where either box has no area.

    Example:
        >>> a, b = np.float32([[0, 0, 2, 2]]), np.float32([[1, 0, 3, 2]])
        >>> round(float(paired_iou(a, b)[0]), 3)
        0.333
    """
    return iou_of(a, b, area(a), area(b))


def iou_of(a: Boxes, b: Boxes, area_a: Floats, area_b: Floats) -> Floats:
    """Intersection over union of boxes whose areas are at hand; any shapes (..., 4) that broadcast.

    The one place where IoU is computed: all who ask get the same last bit.
    """
    meets = (area_a > 0) & (area_b > 0)
    shared = np.where(meets, shared_area(a, b), np.float32(0))
    with np.errstate(invalid="ignore", over="ignore"):
        union = np.where(meets, area_a + area_b - shared, np.float32(1))
        overlap = shared / union
    return overlap.astype(np.float32, copy=False)


def shared_area(a: Boxes, b: Boxes) -> Floats:
    """Area that boxes have in common, px squared; any shapes (..., 4) that broadcast.

    0 where they do not meet; of what is no box (NaN, sides the wrong way round) it says nothing.
    """
    with np.errstate(invalid="ignore", over="ignore"):
        width = np.minimum(a[..., 2], b[..., 2]) - np.maximum(a[..., 0], b[..., 0])
        height = np.minimum(a[..., 3], b[..., 3]) - np.maximum(a[..., 1], b[..., 1])
        shared: Floats = np.where((width > 0) & (height > 0), width * height, np.float32(0))
    return shared


def ring_points(ring: npt.ArrayLike) -> npt.NDArray[np.float64]:
    """The corners of a ring stored as x0, y0, x1, y1, ..., shape (k, 2).

    Raises:
        ValueError: An odd number of coordinates.
    """
    flat = np.asarray(ring, np.float64)
    if flat.size % 2:
        raise ValueError(f"ring: {flat.size} coordinates; wanted x and y for every corner")
    return flat.reshape(-1, 2)


def ring_area(ring: npt.ArrayLike) -> float:
    """Signed area of a ring x0, y0, x1, y1, ..., px squared, by the shoelace formula.

    Positive when it runs clockwise as seen on the screen (y points down). Fewer than three corners
    enclose nothing: 0.

    Example:
        >>> ring_area([0, 0, 4, 0, 4, 3, 0, 3])
        12.0
    """
    points = ring_points(ring)
    if len(points) < 3:  # noqa: PLR2004  # a triangle is the least that encloses
        return 0.0
    x, y = (points - points[0]).T  # near the origin, so that large coordinates do not cancel
    return float(np.dot(x, np.roll(y, -1)) - np.dot(y, np.roll(x, -1))) / 2


def order_ring(ring: npt.ArrayLike) -> list[float]:
    """The same ring, clockwise on the screen, from the corner nearest the top left.

    Nearest is the smallest x + y, then the smallest y, then the first: no corner moves, and
    ordering twice is ordering once. An empty ring stays empty.

    Example:
        >>> order_ring([0, 3, 4, 3, 4, 0, 0, 0])
        [0.0, 0.0, 4.0, 0.0, 4.0, 3.0, 0.0, 3.0]
    """
    points = ring_points(ring)
    if len(points) == 0:
        return []
    if ring_area(ring) < 0:
        points = points[::-1]
    first = int(np.lexsort((points[:, 1], points.sum(axis=1)))[0])
    ordered: list[float] = np.roll(points, -first, axis=0).reshape(-1).tolist()
    return ordered


def rings_box(rings: list[list[float]]) -> list[float] | None:
    """The smallest xyxy box around all rings; null when they hold no corner."""
    points = [ring_points(ring) for ring in rings if len(ring)]
    if not points:
        return None
    corners = np.concatenate(points)
    return [*corners.min(axis=0).tolist(), *corners.max(axis=0).tolist()]


def suppress(
    boxes: Boxes,
    scores: Floats,
    groups: npt.NDArray[np.integer],
    iou: float,
    *,
    fixed: Flags | None = None,
    tiers: npt.NDArray[np.integer] | None = None,
    exempt: Indices | None = None,
) -> tuple[Flags, Indices]:
    """Greedy non-maximum suppression inside every group.

    In each group the best box is kept, every other that overlaps it by more than `iou` is
    suppressed, and so on with the best of the rest. Best is: fixed first, then the lower tier, then
    the higher score (NaN last), then the earlier row.

    Args:
        boxes: Shape (n, 4), xyxy. One without area, or with NaN or infinity, takes no part.
        scores: Shape (n,); only their order counts.
        groups: Shape (n,), dense codes 0 <= g < 2**31 (memory grows with the largest); boxes of
            different groups never meet.
        iou: In [0, 1], compared in float32; an overlap of just `iou` is allowed.
        fixed: Shape (n,); boxes that are kept whatever happens. Default none.
        tiers: Shape (n,); a box of a lower tier beats one of a higher whatever their scores.
            Default all the same.
        exempt: Shape (k, 2), pairs of rows that never suppress one another. Default none.

    Returns:
        Which boxes are suppressed, shape (n,), and the row of the best kept box each lost against,
        shape (n,), -1 where it is not suppressed. No boxes, empty arrays.

    The same answer as the sequential algorithm, by another way: overlapping pairs are found by a
    sweep over x inside the groups, and only those few pairs are then decided, in rounds.
    """
    pairs = without_exempt(overlapping_pairs(boxes, groups, iou), exempt, len(boxes))
    return _fight(pairs, scores, fixed, tiers)


def suppress_contained(
    boxes: Boxes,
    scores: Floats,
    groups: npt.NDArray[np.integer],
    share: float,
    *,
    min_size: float = 0.0,
    fixed: Flags | None = None,
    exempt: Indices | None = None,
) -> tuple[Flags, Indices]:
    """`suppress` of boxes that lie by more than `share` of their own area in a larger, better one.

    A larger box never falls for a smaller one in it, nor a better one for a worse around it, nor
    one whose area is less than `min_size` times that of the other. `share` and `min_size` are in
    [0, 1] and compared in float32; the other arguments and the answer are those of `suppress`.
    """
    pairs = _contained_pairs(boxes, groups, share)
    areas = area(boxes)[pairs]
    pairs = pairs[areas[:, 0] >= np.float32(min_size) * areas[:, 1]]
    pairs = without_exempt(pairs, exempt, len(boxes))
    return _fight(pairs, scores, fixed, None, first_loses=True)


def _fight(
    pairs: Indices,
    scores: Floats,
    fixed: Flags | None,
    tiers: npt.NDArray[np.integer] | None,
    *,
    first_loses: bool = False,
) -> tuple[Flags, Indices]:
    """Who is beaten in those pairs, and by whom; with `first_loses` never the second of a pair."""
    fixed = np.zeros(len(scores), bool) if fixed is None else fixed
    tiers = np.zeros(len(scores), np.int8) if tiers is None else tiers
    pairs = pairs[~fixed[pairs].all(axis=1)]
    rows, local = _distinct(pairs, len(scores))
    # lexsort puts NaN last
    better_first = np.lexsort((rows, -scores[rows], tiers[rows], ~fixed[rows]))
    place = np.empty(len(rows), np.int64)
    place[better_first] = np.arange(len(rows))
    duels = place[local]
    if first_loses:
        duels = duels[duels[:, 0] > duels[:, 1]]
    lost_to = decide(np.sort(duels, axis=1), len(rows))
    against = np.full(len(scores), -1, np.int64)
    lost = np.flatnonzero(lost_to >= 0)
    against[rows[better_first[lost]]] = rows[better_first[lost_to[lost]]]
    return against >= 0, against


def _distinct(pairs: Indices, num_rows: int) -> tuple[Indices, Indices]:
    """The rows in the pairs, in order, and each pair as places among them."""
    is_paired = np.zeros(num_rows, bool)
    is_paired[pairs] = True
    rows = np.flatnonzero(is_paired)
    place = np.empty(num_rows, np.int64)
    place[rows] = np.arange(len(rows))
    return rows, place[pairs]


def reading_order(boxes: Floats) -> Indices:
    """Positions of boxes line by line from the top, each line from the left; shape (n, 4) in.

    A box belongs to the line above it if its middle is above the bottom of the line's first box.
    Rows without a box (NaN) come last, as they were.
    """
    middles = (boxes[:, 1] + boxes[:, 3]) / 2
    from_top = np.argsort(middles, kind="stable")  # NaN last
    lines = np.zeros(len(boxes), np.int64)
    line, bottom = 0, -np.inf
    for place in from_top.tolist():
        if middles[place] >= bottom or np.isnan(middles[place]):
            line, bottom = line + 1, boxes[place, 3]
        lines[place] = line
    order: Indices = from_top[np.lexsort((boxes[from_top, 0], lines[from_top]))]
    return order


def decide(duels: Indices, num_places: int) -> Indices:
    """The best kept place each place loses against, -1 where it is kept.

    Places count from the best, 0. A place with no better rival left is kept and beats its worse
    rivals; then the duels of the beaten are void. Each round settles at least the best open place.

    Args:
        duels: Shape (k, 2), places that cannot both be kept, the better one first.
        num_places: How many there are.

    Returns:
        Shape (num_places,).
    """
    lost = np.zeros(num_places, bool)
    settled = [duels[:0]]
    while len(duels):
        has_better = np.zeros(num_places, bool)
        has_better[duels[:, 1]] = True
        won = ~has_better[duels[:, 0]]
        lost[duels[won, 1]] = True
        settled.append(duels[won])
        duels = duels[~won & ~lost[duels[:, 0]]]  # a lost one may yet meet a better winner
    lost_to = np.full(num_places, -1, np.int64)
    winners, losers = np.concatenate(settled).T
    worst_first = np.argsort(-winners)
    lost_to[losers[worst_first]] = winners[worst_first]  # the last write wins: the best
    return lost_to


def overlapping_pairs(boxes: Boxes, groups: npt.NDArray[np.integer], iou: float) -> Indices:
    """Rows of every two boxes of one group that overlap by more than `iou`, shape (k, 2).

    Arguments as `suppress` has them; the order of the pairs depends on the input alone.
    """
    limit = np.float32(iou)
    rows = _with_company(boxes, groups)
    # Two boxes that overlap by iou share at least that part of the wider one's width, so the one
    # further right starts no later than this.
    widths = boxes[rows, 2].astype(np.float64) - boxes[rows, 0]
    reach = boxes[rows, 2] - widths * float(limit) * (1 - _WINDOW_SLACK)
    reach = np.nextafter(reach.astype(np.float32), np.float32(np.inf))
    sweep = _Sweep.of(boxes, groups, rows, reach)
    found = [np.empty((0, 2), np.int64)]
    for left, right in sweep.partners():
        areas = sweep.areas[left], sweep.areas[right]
        near = iou_of(sweep.boxes(left), sweep.boxes(right), *areas) > limit
        found.append(sweep.rows[np.stack([left[near], right[near]], axis=1)])
    return np.concatenate(found)


def _contained_pairs(boxes: Boxes, groups: npt.NDArray[np.integer], share: float) -> Indices:
    """Rows (inner, outer) of one group: inner is no larger, and by more than `share` in outer.

    Of two equally large boxes either is the inner one.
    """
    limit = np.float32(share)
    rows = _with_company(boxes, groups)
    sweep = _Sweep.of(boxes, groups, rows, boxes[rows, 2])
    found = [np.empty((0, 2), np.int64)]
    for left, right in sweep.partners():
        shared = shared_area(sweep.boxes(left), sweep.boxes(right))
        with np.errstate(invalid="ignore"):  # areas too small or too large for a float32
            near = shared / np.minimum(sweep.areas[left], sweep.areas[right]) > limit
        pairs = np.stack([left[near], right[near]], axis=1)
        areas = sweep.areas[pairs]
        found.append(sweep.rows[pairs[areas[:, 0] <= areas[:, 1]]])
        found.append(sweep.rows[pairs[areas[:, 0] >= areas[:, 1], ::-1]])
    return np.concatenate(found)


def _with_company(boxes: Boxes, groups: npt.NDArray[np.integer]) -> Indices:
    """The rows of boxes that are not alone in their group."""
    rows = np.flatnonzero(is_box(boxes))
    num_in_group = np.bincount(groups[rows]) if len(rows) else np.empty(0, np.int64)
    accompanied: Indices = rows[num_in_group[groups[rows]] > 1]
    return accompanied


class _Sweep(NamedTuple):
    """Boxes by group, then by where they start in x, and the end of each one's window of partners.

    `rows` says which row of the input each is; shapes (n,), (4, n), (n,), (n,). The coordinates lie
    side by side, because what is done with the many pairs is done coordinate by coordinate.
    """

    rows: Indices
    coordinates: Boxes
    areas: Floats
    ends: Indices

    @classmethod
    def of(
        cls, boxes: Boxes, groups: npt.NDArray[np.integer], rows: Indices, reach: Floats
    ) -> "_Sweep":
        """Partners of a box are those of its group that start after it and within its reach."""
        keys = _sweep_keys(groups[rows], boxes[rows, 0])
        order = np.argsort(keys, kind="stable")
        rows, reach = rows[order], reach[order]
        ends = np.searchsorted(keys[order], _sweep_keys(groups[rows], reach), side="right")
        swept = boxes[rows]
        return cls(rows, np.ascontiguousarray(swept.T), area(swept), ends)

    def partners(self) -> Iterator[tuple[Indices, Indices]]:
        """Places of every box and each of its partners, in pieces of bounded size."""
        return following_pairs(self.ends - np.arange(1, len(self.ends) + 1))

    def boxes(self, places: Indices) -> Boxes:
        """Shape (k, 4)."""
        taken: Boxes = np.take(self.coordinates, places, axis=1).T
        return taken


def following_pairs(num_partners: Indices) -> Iterator[tuple[Indices, Indices]]:
    """Positions (i, i + 1), ..., (i, i + num_partners[i]) for every i, in pieces of bounded size.

    A piece never splits one i, so one box with more partners than a piece holds makes a larger one.
    """
    totals = np.cumsum(num_partners)
    start = 0
    while start < len(num_partners):
        before = totals[start - 1] if start else 0
        stop = max(start + 1, int(np.searchsorted(totals, before + _PAIRS_AT_ONCE, side="right")))
        counts = num_partners[start:stop]
        left = np.repeat(np.arange(start, stop), counts)
        firsts = np.repeat(np.cumsum(counts) - counts, counts)
        yield left, left + 1 + np.arange(len(left)) - firsts
        start = stop


def _sweep_keys(groups: npt.NDArray[np.integer], x: Floats) -> npt.NDArray[np.uint64]:
    """One integer per box that sorts by group, then by x.

    The bits of a float32 sort like its value once the sign bit is flipped, and all bits of a
    negative.
    """
    bits = (x + np.float32(0)).view(np.uint32)  # adding 0 makes -0 the same bits as 0
    negative = (bits >> 31).astype(bool)
    ordered = np.where(negative, ~bits, bits | np.uint32(1 << 31))
    return (groups.astype(np.uint64) << np.uint64(32)) | ordered


def without_exempt(pairs: Indices, exempt: Indices | None, num_rows: int) -> Indices:
    """The pairs, shape (k, 2), that are not among the exempt ones in either order."""
    if exempt is None or len(exempt) == 0 or len(pairs) == 0:
        return pairs
    is_paired = np.zeros(num_rows, bool)
    is_paired[pairs] = True
    exempt = exempt[is_paired[exempt].all(axis=1)]  # few remain, whatever the number of families

    def codes(two: Indices) -> Indices:
        ordered = np.sort(two, axis=1)
        spelled: Indices = ordered[:, 0] * num_rows + ordered[:, 1]
        return spelled

    return pairs[~np.isin(codes(pairs), codes(exempt))]
