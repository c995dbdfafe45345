"""From the answers of Florence-2 to the rows of a batch, with their scores."""

from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.formats.florence2_tasks import Decoded, Task, decode_answer, locate_phrases
from engine.geometry import is_box, pairwise_iou
from engine.protocols import Image
from engine.schema import claims
from specialists.florence2_model import Said

_COLUMNS = (
    *("annotation_id", "kind", "role", "text", "region_id", "text_id", "span_start", "span_end"),
    *("box", "polygon", "score", "text_score", "prompt", "parents"),
)


class Query(NamedTuple):
    """One question about one image."""

    image: int  # its place in the batch
    given: str = ""  # the input of the task
    about: tuple[dict[str, Any], ...] = ()  # the rows asked about


class Batch:
    """Images and the kept rows on them; takes in new rows, and counts what answers cost and lost.

    Attributes:
        sizes: Width and height of each image, pixels.
        captions: Rows of captions taken in so far, each with the place of its image.
        usage: Tokens generated, answers cut, things dropped; nothing that is zero.
    """

    def __init__(self, images: Sequence[Image], rows: pa.Table) -> None:
        self.images = images
        self.sizes = [(image.width, image.height) for image in images]
        self.captions: list[tuple[int, dict[str, Any]]] = []
        self.usage: Counter[str] = Counter()
        self._rows: list[dict[str, Any]] = []
        self._places: list[int] = []
        self._kept: list[list[dict[str, Any]]] = [[] for _ in images]
        place_of = {image.image_key: place for place, image in enumerate(images)}
        for row in rows.filter(pc.invert(rows["ignore"])).to_pylist():
            self._kept[place_of[row["image_key"]]].append(row)

    def kept_texts(self) -> Iterator[tuple[int, dict[str, Any]]]:
        """Kept texts that have words, each with the place of its image."""
        for image, rows in enumerate(self._kept):
            for row in rows:
                if row["kind"] == "text" and (row["text"] or "").strip():
                    yield image, row

    def regions(self, *, is_ocr: bool) -> Iterator[tuple[int, list[dict[str, Any]]]]:
        """For each image its kept regions that have a box: the transcripts, or all others."""
        for image, rows in enumerate(self._kept):
            yield (
                image,
                [
                    row
                    for row in rows
                    if row["kind"] == "region"
                    and (row["role"] == "ocr") == is_ocr
                    and row["box"] is not None
                    and is_box(np.array([row["box"]], np.float32))[0]
                ],
            )

    def add(self, image: int, rows: Sequence[dict[str, Any]]) -> None:
        """Takes in rows of one image; what a row does not name is null."""
        self._rows.extend(rows)
        self._places.extend([image] * len(rows))

    def table(self) -> pa.Table:
        """All rows taken in, by image, then as they came."""
        order = np.argsort(self._places, kind="stable").tolist()
        rows = [self._rows[place] for place in order]
        keys = [self.images[self._places[place]].image_key for place in order]
        columns = {name: [row.get(name) for row in rows] for name in _COLUMNS}
        return claims(image_key=keys, **columns)


def add_answer(batch: Batch, task: Task, query: Query, prompt: str, said: Said) -> None:
    """Takes the rows of one answer into the batch.

    Args:
        batch: Which.
        task: What was asked.
        query: Of which image and rows.
        prompt: In which words.
        said: The answer.
    """
    found = decode_answer(task, said.text, batch.sizes[query.image])
    made = list(_MAKERS.get(task.name, _found)(task, query, found, said))
    kept = [row for row in made if row is not None]
    for row in kept:
        row.setdefault("kind", task.kind)
        row.setdefault("role", task.roles[0])
        row["prompt"] = prompt
    batch.add(query.image, kept)
    if task.kind == "text":
        batch.captions.extend((query.image, row) for row in kept)
    batch.usage.update(
        {
            unit: count
            for unit, count in {
                "generated_tokens": len(said.log_probs),
                "cut_answers": int(said.is_cut),
                "lost_location_tokens": found.num_lost,
                "unplaced_items": len(found.items) - len(kept),
            }.items()
            if count
        }
    )


_Rows = Iterator[dict[str, Any] | None]  # null: said, but of nothing that was asked about


def _captions(task: Task, query: Query, found: Decoded, said: Said) -> _Rows:
    for item in found.items:
        yield {"annotation_id": task.name, "text": item.label, "text_score": said.text_score()}


def _found(task: Task, query: Query, found: Decoded, said: Said) -> _Rows:
    for place, item in enumerate(found.items):
        yield {
            **_entry(found, place),
            "score": said.place_score(item.place_spans),
            "text_score": said.label_score(item.label_span),
        }


def _groundings(task: Task, query: Query, found: Decoded, said: Said) -> _Rows:
    (text,) = query.about
    spans = locate_phrases(text["text"], found.items)
    for row, span in zip(_found(task, query, found, said), spans, strict=True):
        if span is None or row is None:
            yield None
            continue
        own = text["annotation_id"]
        yield {**row, "span_start": span[0], "span_end": span[1], "text_id": own, "parents": [own]}


def _descriptions(task: Task, query: Query, found: Decoded, said: Said) -> _Rows:
    (region,) = query.about
    for item in found.items:
        score = said.label_score(item.label_span)
        yield {"text": item.label, "text_score": score, "box": region["box"], **_of(region)}


def _outlines(task: Task, query: Query, found: Decoded, said: Said) -> _Rows:
    if not found.items:
        return
    regions = np.array([row["box"] for row in query.about], np.float32)
    overlaps = pairwise_iou(found.columns["box"], regions)
    best_region, best_outline = overlaps.argmax(axis=1), overlaps.argmax(axis=0)
    for place, item in enumerate(found.items):
        own = int(best_region[place])
        if best_outline[own] != place or not overlaps[place, own]:
            yield None
            continue
        region = query.about[own]
        score = said.place_score(item.place_spans)
        same = {name: region[name] for name in ("role", "text")}
        yield {**_entry(found, place), **same, "score": score, **_of(region)}


_MAKERS = {
    "caption": _captions,
    "detailed_caption": _captions,
    "more_detailed_caption": _captions,
    "caption_to_phrase_grounding": _groundings,
    "region_to_category": _descriptions,
    "region_to_description": _descriptions,
    "region_to_ocr": _descriptions,
    "referring_expression_segmentation": _outlines,
    "region_to_segmentation": _outlines,
}


def _entry(found: Decoded, place: int) -> dict[str, Any]:
    """One item of the columns."""
    row = {name: column[place] for name, column in found.columns.items() if column is not None}
    return row | {"box": row["box"].tolist()}


def _of(region: dict[str, Any]) -> dict[str, Any]:
    """What a row says of the region it belongs to."""
    return {"region_id": region["region_id"], "parents": [region["annotation_id"]]}
