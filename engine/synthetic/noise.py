"""Known damage to labels: what a rule, a round or a checkpoint mends is measured against it."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.schema import CLAIM, annotation_ids, box_array, canonical, claims

# What can be done to an object, and the kind of row it is done to.
DEFECTS: dict[str, str] = {
    "missing": "region",  # the row is gone
    "wrong_class": "region",  # another text of the same role in its place
    "shifted": "region",  # box and polygon moved and scaled, IoU with the true box 0.1 to 0.5
    "invented": "region",  # the row stays, and one that describes nothing follows it
    "wrong_caption": "text",  # another text of the same role in its place
}
LOG = pa.schema(
    [
        ("row", pa.int64()),  # in the input
        ("noisy_row", pa.int64()),  # in the answer; null if missing; the new row if invented
        ("image_key", pa.string()),
        ("annotation_id", pa.string()),  # of the input row
        ("defect", pa.string()),
        ("before", pa.string()),  # text of the input row
        ("after", pa.string()),  # text of the noisy row
        ("iou", pa.float32()),  # shifted: with the true box; invented: the most with any box
    ]
)

_IOU = (0.1, 0.5)  # a shifted box: near enough to be meant, too far to pass at IoU 0.5
_KEPT_PART = 0.45  # of the true box, where no shift fits: its IoU by construction
_MAX_INVENTED_IOU = 0.3  # beyond it an invention could pass for a label of something real
_INVENTED_SIDE = (0.1, 0.5)  # of the image's extent
_TRIES = 12  # places drawn per object

FloatArray = npt.NDArray[np.float64]
IntArray = npt.NDArray[np.int64]


def add_noise(
    rows: pa.Table, *, share: float, seed: int, kinds: Sequence[str] = tuple(DEFECTS)
) -> tuple[pa.Table, pa.Table]:
    """A copy of the rows, each object broken with probability `share`, and what was done to which.

    An object is a row of kind `region` with a text and a box of at least a pixel, or a row of kind
    `text` with a text; never one to ignore. A broken one gets one of those of `kinds` that its row
    allows, each as likely as the others. A wrong text is another text of the same role in this
    table (so another image's caption: nearly always, not provably, false of this one). An object
    for which there is none, or no free place for an invention, stays whole.

    The same rows, seed and kinds give the same answer. A larger share breaks the same objects in
    the same way, and more beside them.

    Args:
        rows: Claims. Left as they are.
        share: Probability, 0 to 1.
        seed: 0 or more.
        kinds: Keys of `DEFECTS`, at least one, in any order.

    Returns:
        Claims in the order of `rows`, and the log (schema `LOG`), one row per broken object in that
        order too. Every new box lies between (0, 0) and the furthest x_max and y_max of the boxes
        on its image: valid where those are. A changed row keeps its id and scores; rows that name a
        missing one are left to dangle. An invented row has image, kind, role, text, box, source,
        model, revision and round, and an id where its neighbour has one. No rows, no log.

    Raises:
        ConfigError: An unknown kind, no kind, a share outside 0 to 1 or a negative seed.
        TableError: `rows` are not claims.
    """
    _check(share, seed, kinds)
    truth = canonical(rows, CLAIM)
    noise = _Noise(truth, np.random.default_rng(seed))
    chosen = noise.choose(share, [kind for kind in DEFECTS if kind in kinds])
    texts = noise.other_texts()
    boxes, iou = noise.new_boxes(chosen)
    chosen[np.isnan(iou) & np.isin(chosen, ["shifted", "invented"])] = ""
    return _assemble(truth, chosen, texts, boxes, iou)


def _check(share: float, seed: int, kinds: Sequence[str]) -> None:
    unknown = sorted(set(kinds) - set(DEFECTS))
    if unknown or not kinds:
        found = repr(unknown[0]) if unknown else "nothing"
        raise ConfigError(f"add_noise: kinds holds {found}; known: {', '.join(DEFECTS)}")
    if not 0 <= share <= 1:
        raise ConfigError(f"add_noise: share {share}; it is a probability, 0 to 1")
    if seed < 0:
        raise ConfigError(f"add_noise: seed {seed}; it must be 0 or more")


class _Noise:
    """The columns of the truth as arrays, and every random number any share could ask for."""

    def __init__(self, truth: pa.Table, rng: np.random.Generator) -> None:
        # Drawn for all rows, so that what happens to one does not depend on the share.
        self.luck, self.which, self.text_draw = list(rng.random((3, truth.num_rows)))
        self.places = rng.random((truth.num_rows, _TRIES, 4), np.float32)
        self.kind = np.asarray(truth["kind"].to_pylist(), object)
        self.texts, self.group = truth["text"].to_pylist(), _groups(truth)
        self.image = pc.rank(truth["image_key"], tiebreaker="dense").to_numpy().astype(np.int64) - 1
        self.boxes = box_array(truth).astype(np.float64)
        extent = self.boxes[:, 2:] - self.boxes[:, :2]
        self.has_box = np.asarray(np.all(extent >= 1, axis=1))  # false for NaN: no box
        spoken = pc.is_valid(truth["text"]).to_numpy(zero_copy_only=False)
        ignored = truth["ignore"].fill_null(False).to_numpy(zero_copy_only=False)
        self.usable = spoken & ~ignored & ((self.kind == "text") | self.has_box)

    def choose(self, share: float, kinds: list[str]) -> npt.NDArray[np.object_]:
        """What is to be done to each row: a key of `DEFECTS`, or an empty string."""
        has_other = np.array([other is not None for other in self.other_texts()], bool)
        allowed = np.stack(
            [
                self.usable
                & (self.kind == DEFECTS[kind])
                & (has_other | (not kind.startswith("wrong_")))
                for kind in kinds
            ],
            axis=1,
        )
        nth = np.floor(self.which * allowed.sum(axis=1)).astype(np.int64)
        column = np.argmax(allowed & (np.cumsum(allowed, axis=1) == nth[:, None] + 1), axis=1)
        broken = (self.luck < share) & allowed.any(axis=1)
        return np.where(broken, np.asarray(kinds, object)[column], "")

    def other_texts(self) -> list[str | None]:
        """For each row a text of its role that is not its own; null where there is none."""
        others: list[str | None] = [None] * len(self.texts)
        for members in self.group:
            known, own = np.unique([self.texts[i] for i in members], return_inverse=True)
            if len(known) > 1:
                step = 1 + np.floor(self.text_draw[members] * (len(known) - 1)).astype(np.int64)
                for i, text in zip(members, known[(own + step) % len(known)], strict=True):
                    others[i] = str(text)
        return others

    def new_boxes(self, chosen: npt.NDArray[np.object_]) -> tuple[FloatArray, FloatArray]:
        """Box and IoU of every row to be shifted or invented beside; NaN for all others."""
        boxes, iou = np.full((len(chosen), 4), np.nan), np.full(len(chosen), np.nan)
        order = np.argsort(self.image, kind="stable")
        order = order[self.has_box[order]]
        starts = np.searchsorted(self.image[order], [self.image, self.image + 1])
        for i in np.flatnonzero((chosen == "shifted") | (chosen == "invented")):
            mates = self.boxes[order[starts[0, i] : starts[1, i]]]
            put = _shift if chosen[i] == "shifted" else _invent
            found = put(self.boxes[i], mates, self.places[i].astype(np.float64))
            if found is not None:
                boxes[i], iou[i] = found
        return boxes, iou


def _groups(truth: pa.Table) -> list[IntArray]:
    """Row numbers of the rows with text, apart by kind and role."""
    spoken = np.flatnonzero(pc.is_valid(truth["text"]).to_numpy(zero_copy_only=False))
    names = [
        f"{k}/{r}" for k, r in zip(*(truth[c].to_pylist() for c in ("kind", "role")), strict=True)
    ]
    labels = np.asarray(names, object)[spoken]
    return [spoken[labels == label] for label in sorted(set(labels))]


def _shift(
    box: FloatArray, mates: FloatArray, draws: FloatArray
) -> tuple[FloatArray, float] | None:
    """The first drawn move of a box whose IoU with it is low enough, else a part of the box."""
    limit = mates[:, 2:].max(axis=0)
    extent = box[2:] - box[:2]
    size = np.minimum(extent * (0.7 + 0.6 * draws[:, :2]), limit)
    middle = (box[:2] + box[2:]) / 2 + (2 * draws[:, 2:] - 1) * extent
    corner = np.clip(middle - size / 2, 0, limit - size)
    placed = np.concatenate([corner, corner + size], axis=1).astype(np.float32).astype(np.float64)
    iou = _iou(placed, box[None])[:, 0]
    good = np.flatnonzero((iou >= _IOU[0]) & (iou < _IOU[1]))
    if len(good):
        return placed[good[0]], float(iou[good[0]])
    part = box.copy()
    part[2] = np.float32(box[0] + _KEPT_PART * extent[0])
    return part, float(_iou(part[None], box[None])[0, 0])


def _invent(
    box: FloatArray, mates: FloatArray, draws: FloatArray
) -> tuple[FloatArray, float] | None:
    """The drawn box that covers others least, or null if even that one is near a real one."""
    limit = mates[:, 2:].max(axis=0)
    low, high = _INVENTED_SIDE
    size = limit * (low + (high - low) * draws[:, :2])
    corner = draws[:, 2:] * (limit - size)
    placed = np.concatenate([corner, corner + size], axis=1).astype(np.float32).astype(np.float64)
    most = _iou(placed, mates).max(axis=1)
    best = int(np.argmin(most))
    return None if most[best] > _MAX_INVENTED_IOU else (placed[best], float(most[best]))


def _iou(a: FloatArray, b: FloatArray) -> FloatArray:
    """Overlap of every box in `a` with every box in `b`, shape (len(a), len(b)), 0 to 1."""
    low = np.maximum(a[:, None, :2], b[None, :, :2])
    high = np.minimum(a[:, None, 2:], b[None, :, 2:])
    shared = np.clip(high - low, 0, None).prod(axis=2)
    areas = [(boxes[:, 2:] - boxes[:, :2]).prod(axis=1) for boxes in (a, b)]
    return np.asarray(shared / (areas[0][:, None] + areas[1][None] - shared))


def _assemble(
    truth: pa.Table,
    chosen: npt.NDArray[np.object_],
    texts: list[str | None],
    boxes: FloatArray,
    iou: FloatArray,
) -> tuple[pa.Table, pa.Table]:
    """The noisy rows and the log, from what is done to each row."""
    wrong = np.flatnonzero((chosen == "wrong_class") | (chosen == "wrong_caption"))
    shifted, invented = np.flatnonzero(chosen == "shifted"), np.flatnonzero(chosen == "invented")
    stock = pa.concat_tables(
        [
            truth,
            _relabelled(truth, wrong, texts),
            _moved(truth, shifted, boxes),
            _inventions(truth, invented, texts, boxes),
        ]
    )
    taken = np.arange(truth.num_rows)
    taken[wrong] = truth.num_rows + np.arange(len(wrong))
    taken[shifted] = truth.num_rows + len(wrong) + np.arange(len(shifted))
    taken = np.append(taken, stock.num_rows - len(invented) + np.arange(len(invented)))
    # An invention stands right behind the object it was invented beside.
    owner = np.append(np.arange(truth.num_rows), invented)
    order = np.lexsort([np.arange(len(owner)), owner])
    order = order[np.append(chosen != "missing", np.ones(len(invented), bool))[order]]
    noisy = canonical(canonical(stock, CLAIM).take(taken[order]), CLAIM)
    noisy_row = np.full(truth.num_rows, -1)
    noisy_row[owner[order]] = np.arange(len(order))  # the later of two: the invention
    return noisy, _log(truth, noisy, chosen, noisy_row, iou)


def _relabelled(truth: pa.Table, wrong: IntArray, texts: list[str | None]) -> pa.Table:
    place = CLAIM.get_field_index("text")
    column = pa.array([texts[i] for i in wrong], pa.string())
    return truth.take(wrong).set_column(place, CLAIM.field("text"), column)


def _moved(truth: pa.Table, shifted: IntArray, boxes: FloatArray) -> pa.Table:
    """The shifted rows: outlines follow their boxes."""
    picked = truth.take(shifted)
    before, after = box_array(picked).astype(np.float64), boxes[shifted]
    polygons = [
        None if rings is None else [_carried(ring, old, new) for ring in rings]
        for rings, old, new in zip(picked["polygon"].to_pylist(), before, after, strict=True)
    ]
    columns = {name: picked[name] for name in CLAIM.names}
    return claims(**{**columns, "box": after.astype(np.float32), "polygon": polygons})


def _carried(ring: list[float], old: FloatArray, new: FloatArray) -> list[float]:
    scale = (new[2:] - new[:2]) / (old[2:] - old[:2])
    points = (np.reshape(ring, (-1, 2)) - old[:2]) * scale + new[:2]
    return [float(number) for number in points.reshape(-1)]


def _inventions(
    truth: pa.Table, invented: IntArray, texts: list[str | None], boxes: FloatArray
) -> pa.Table:
    beside = truth.take(invented)
    own = beside["text"].to_pylist()
    kept = ("image_key", "kind", "role", "source", "model", "revision", "round")
    columns = {name: beside[name] for name in kept}
    known = beside["annotation_id"].to_pylist()
    ids = annotation_ids(
        columns["image_key"].to_pylist(),
        [source or "" for source in columns["source"].to_pylist()],
        columns["revision"].to_pylist(),
        [None] * len(known),
        columns["round"].to_pylist(),
        [f"invented beside {name}" for name in known],
    )
    return claims(
        **columns,
        annotation_id=[new if name else None for new, name in zip(ids, known, strict=True)],
        text=[texts[i] or text for i, text in zip(invented, own, strict=True)],
        box=boxes[invented].astype(np.float32),
    )


def _log(
    truth: pa.Table,
    noisy: pa.Table,
    chosen: npt.NDArray[np.object_],
    noisy_row: IntArray,
    iou: FloatArray,
) -> pa.Table:
    broken = np.flatnonzero(chosen != "")
    seen = pa.array(noisy_row[broken], mask=chosen[broken] == "missing")
    picked = truth.take(broken)
    columns = [
        pa.array(broken),
        seen,
        picked["image_key"],
        picked["annotation_id"],
        pa.array(chosen[broken], pa.string()),
        picked["text"],
        noisy["text"].take(seen),
        pa.array(iou[broken].astype(np.float32), pa.float32(), from_pandas=True),
    ]
    return pa.table(columns, schema=LOG).combine_chunks()
