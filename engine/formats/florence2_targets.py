"""From rows of the annotation table to what Florence-2 should say of their image; pure.

Spelt as released checkpoints answer: the paper states no target format, these were read off their
public outputs.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.formats.florence2_codec import (
    LEAST_RING_BINS,
    QUAD_BINS,
    Floats,
    encode_bins,
    is_speakable,
    spell_places,
    spell_polygons,
)
from engine.formats.florence2_tasks import Task, prompt_of, spell_regions
from engine.geometry import area, is_box, order_ring, reading_order
from engine.schema import box_array

Order = Literal["area", "reading", "given"]


class Pair(NamedTuple):
    """What the model is asked and should answer, and the rows it was made of."""

    prompt: str
    target: str
    rows: tuple[int, ...]  # their places in the table given


def encode_pairs(
    task: Task, rows: pa.Table, size_wh: tuple[int, int], *, order: Order
) -> list[Pair]:
    """Training sequences of one task from the rows of one image.

    A task that takes no input gives one pair for the image, but captions one for each text; one
    that takes a text gives a pair for each distinct text, one that takes a region for each row.
    Nothing to say, no pair: an image without objects teaches no detection.

    Rows are left out, and then named by no pair, when they are of another kind or role, `ignore`,
    lack what the task needs (a box that encloses something, an outline, words), or have words that
    spell a special token.

    Args:
        task: Which.
        rows: Claims of one image, as a training should see them: the kept ones.
        size_wh: Width and height of the image, pixels.
        order: Of places in a target: by `area`, the largest first, as in the one public answer for
            proposals; in `reading` order, for transcripts; or as `given`. Phrases go by where they
            stand in their caption whatever the order, which then sorts the boxes of each.
    """
    columns = _Columns.read(rows, task, size_wh)
    columns = columns.take(columns.sorted(order))
    return list(_ENCODERS[task.name](task, columns))


@dataclass(frozen=True)
class _Columns:
    """The rows a task can use, in order, with their places spelt."""

    rows: npt.NDArray[np.int64]  # places in the table given
    kinds: npt.NDArray[np.object_]
    roles: npt.NDArray[np.object_]
    ids: npt.NDArray[np.object_]
    text_ids: npt.NDArray[np.object_]
    texts: npt.NDArray[np.object_]  # stripped
    starts: npt.NDArray[np.float64]  # of the phrase in its caption; NaN where not known
    boxes: Floats  # NaN where there is none
    spelt: npt.NDArray[np.object_]  # each box as tokens, "" where there is none
    rings: npt.NDArray[np.object_]  # each outline as a list of spelt rings, empty where none

    @classmethod
    def read(cls, rows: pa.Table, task: Task, size_wh: tuple[int, int]) -> "_Columns":
        rows = rows.append_column("row", pa.array(np.arange(rows.num_rows)))
        rows = rows.filter(_is_wanted(rows, task))
        boxes = box_array(rows)
        spelt = np.full(rows.num_rows, "", object)
        solid = np.flatnonzero(is_box(boxes))
        spelt[solid] = spell_regions(boxes[solid], size_wh)
        polygons = rows["polygon"].to_pylist()
        rings: list[list[str]] = [[]] * rows.num_rows
        if task.form == "quads":
            rings = [_spell_quad(*place, size_wh) for place in zip(polygons, boxes, strict=True)]
        elif task.form == "polygons":
            rings = [_spell_rings(polygon, size_wh) for polygon in polygons]
        texts = [(text or "").strip() for text in rows["text"].to_pylist()]
        return cls(
            rows=rows["row"].to_numpy(),
            kinds=_objects(rows["kind"].cast(pa.string())),
            roles=_objects(rows["role"].cast(pa.string())),
            ids=_objects(rows["annotation_id"]),
            text_ids=_objects(rows["text_id"]),
            texts=_array(texts),
            starts=rows["span_start"].cast(pa.float64()).to_numpy(),
            boxes=boxes,
            spelt=spelt,
            rings=_array(rings),
        )

    def take(self, wanted: npt.NDArray[Any]) -> "_Columns":
        """The rows of a mask or of positions."""
        return _Columns(**{name: column[wanted] for name, column in vars(self).items()})

    def sorted(self, order: Order) -> npt.NDArray[np.int64]:
        """Positions in that order, rows without a box last; equal ones stay as they were."""
        if order == "reading":
            return reading_order(self.boxes)
        if order == "area":
            return np.argsort(-area(self.boxes), kind="stable")
        return np.arange(len(self.rows))

    def by_text(self) -> Iterator[tuple[str, "_Columns"]]:
        """The rows of each distinct text, in order of their first."""
        for text in dict.fromkeys(self.texts.tolist()):
            # one by one: numpy's own comparison takes a text for the same text with a NUL behind it
            yield text, self.take(np.array([each == text for each in self.texts], bool))

    @property
    def places(self) -> tuple[int, ...]:
        """Of the rows, in the table given."""
        return tuple(self.rows.tolist())


def _is_wanted(rows: pa.Table, task: Task) -> pa.ChunkedArray:
    """Rows of the task's kind and roles; for tasks that take a text, where that may come from."""
    kinds, roles = rows["kind"].cast(pa.string()), rows["role"].cast(pa.string())
    of_task = pc.and_(
        pc.equal(kinds, task.kind or "region"), pc.is_in(roles, pa.array(task.roles, pa.string()))
    )
    other = {"<CAPTION_TO_PHRASE_GROUNDING>": "text"} | dict.fromkeys(
        ("<REFERRING_EXPRESSION_SEGMENTATION>", "<OPEN_VOCABULARY_DETECTION>"), "grounding"
    )
    if task.token in other:
        of_task = pc.or_(of_task, pc.equal(kinds, other[task.token]))
    return pc.and_(of_task.fill_null(False), pc.invert(rows["ignore"]))


def _spell_quad(
    polygon: list[list[float]] | None, box: Floats, size_wh: tuple[int, int]
) -> list[str]:
    """Four corners clockwise from the top left; those of the box where the outline has others.

    Nothing where there is no box either.
    """
    if polygon is not None and [len(ring) for ring in polygon] == [QUAD_BINS]:
        return spell_places(encode_bins([order_ring(polygon[0])], size_wh))
    if not is_box(box[None])[0]:
        return []
    return spell_places(encode_bins(box[[[0, 1, 2, 1, 2, 3, 0, 3]]], size_wh))


def _spell_rings(polygon: list[list[float]] | None, size_wh: tuple[int, int]) -> list[str]:
    """Every ring of an outline, clockwise from the top left; those of under three corners not."""
    rings = [order_ring(ring) for ring in polygon or [] if len(ring) >= LEAST_RING_BINS]
    return [spell_places(encode_bins([ring], size_wh))[0] for ring in rings]


def _objects(column: pa.ChunkedArray) -> npt.NDArray[np.object_]:
    values: npt.NDArray[np.object_] = column.to_numpy(zero_copy_only=False)
    return values.astype(object)


def _array(values: Sequence[Any]) -> npt.NDArray[np.object_]:
    array = np.empty(len(values), object)
    for place, value in enumerate(values):  # all at once, numpy would look into lists
        array[place] = value
    return array


def _speakable(columns: _Columns) -> npt.NDArray[np.bool_]:
    return np.array([is_speakable(text) for text in columns.texts], bool)


def _distinct(places: Iterable[Any]) -> list[Any]:
    """Each place once: what two sources say of one place is one thing to point at."""
    return list(dict.fromkeys(places))


def _encode_texts(task: Task, columns: _Columns) -> Iterator[Pair]:
    columns = columns.take(_speakable(columns))
    for row, text in zip(columns.places, columns.texts, strict=True):
        yield Pair(task.token, text, (row,))


def _encode_transcript(task: Task, columns: _Columns) -> Iterator[Pair]:
    columns = columns.take(_speakable(columns))
    if columns.places:  # lines follow each other without a separator, as in released answers
        yield Pair(task.token, "".join(columns.texts), columns.places)


def _encode_boxes(task: Task, columns: _Columns) -> Iterator[Pair]:
    columns = columns.take(_speakable(columns) & (columns.spelt != ""))
    groups = [(text, group) for text, group in columns.by_text()]
    if groups:
        target = "".join(text + "".join(_distinct(group.spelt)) for text, group in groups)
        yield Pair(task.token, target, tuple(row for _, group in groups for row in group.places))


def _encode_proposals(task: Task, columns: _Columns) -> Iterator[Pair]:
    columns = columns.take(columns.spelt != "")
    if columns.places:
        yield Pair(task.token, "".join(_distinct(columns.spelt)), columns.places)


def _encode_quads(task: Task, columns: _Columns) -> Iterator[Pair]:
    has_place = np.array([bool(quad) for quad in columns.rings], bool)
    columns = columns.take(_speakable(columns) & has_place)
    lines = [text + quad[0] for text, quad in zip(columns.texts, columns.rings, strict=True)]
    if lines:
        yield Pair(task.token, "".join(lines), columns.places)


def _encode_grounding(task: Task, columns: _Columns) -> Iterator[Pair]:
    columns = columns.take(_speakable(columns))
    captions = columns.take(columns.kinds == "text")
    phrases = columns.take((columns.kinds == "grounding") & (columns.spelt != ""))
    phrases = phrases.take(np.argsort(phrases.starts, kind="stable"))  # NaN last
    for row, text_id, caption in zip(captions.places, captions.ids, captions.texts, strict=True):
        mine = phrases.take(phrases.text_ids == text_id)
        if not mine.places:
            continue
        target, last = "", None
        for phrase, start, box in zip(mine.texts, mine.starts, mine.spelt, strict=True):
            target += box if (phrase, start) == last else phrase + box
            last = (phrase, start)
        yield Pair(prompt_of(task, caption), target, (row, *mine.places))


def _encode_expressions(task: Task, columns: _Columns) -> Iterator[Pair]:
    outlined = np.array([bool(rings) for rings in columns.rings], bool)
    for text, group in columns.take(_speakable(columns) & outlined).by_text():
        instances = _distinct(tuple(rings) for rings in group.rings)
        yield Pair(prompt_of(task, text), spell_polygons(instances), group.places)


def _encode_vocabulary(task: Task, columns: _Columns) -> Iterator[Pair]:
    for text, group in columns.take(_speakable(columns) & (columns.spelt != "")).by_text():
        target = "".join(
            text + box for box in _distinct(group.spelt)
        )  # released answers repeat the phrase
        yield Pair(prompt_of(task, text), target, group.places)


def _encode_region_texts(task: Task, columns: _Columns) -> Iterator[Pair]:
    columns = columns.take(_speakable(columns) & (columns.spelt != ""))
    for row, text, box in zip(columns.places, columns.texts, columns.spelt, strict=True):
        yield Pair(prompt_of(task, box), text + box, (row,))  # released answers echo the box


def _encode_region_masks(task: Task, columns: _Columns) -> Iterator[Pair]:
    outlined = np.array([bool(rings) for rings in columns.rings], bool)
    columns = columns.take(outlined & (columns.spelt != ""))
    for row, rings, box in zip(columns.places, columns.rings, columns.spelt, strict=True):
        yield Pair(prompt_of(task, box), spell_polygons([rings]), (row,))


_ENCODERS = {
    "caption": _encode_texts,
    "detailed_caption": _encode_texts,
    "more_detailed_caption": _encode_texts,
    "od": _encode_boxes,
    "dense_region_caption": _encode_boxes,
    "region_proposal": _encode_proposals,
    "ocr": _encode_transcript,
    "ocr_with_region": _encode_quads,
    "caption_to_phrase_grounding": _encode_grounding,
    "referring_expression_segmentation": _encode_expressions,
    "region_to_segmentation": _encode_region_masks,
    "open_vocabulary_detection": _encode_vocabulary,
    "region_to_category": _encode_region_texts,
    "region_to_description": _encode_region_texts,
    "region_to_ocr": _encode_region_texts,
}
