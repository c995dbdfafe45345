"""Truth in the form in which label formats give it, from the original files of the real data."""

import json
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa

from engine.formats.shapes import Header, LabelSet, Part
from engine.schema import claims, image_rows


def label_set(*parts: tuple[list[str], dict], notes: tuple[str, ...] = ()) -> LabelSet:
    """A set of labels of images of those uris; `image_key` of the rows is a place among them."""
    made = [Part(images(uris), claims(**rows)) for uris, rows in parts]
    return LabelSet(Header("hand", notes=notes), iter(made))


def images(uris: list[str]) -> pa.Table:
    keys = [str(i) for i in range(len(uris))]
    return image_rows(image_key=keys, uri=uris, status="ok")


def coco_labels(file: Path, *, part_size: int = 32) -> LabelSet:
    """COCO's instances or captions."""
    content = json.loads(file.read_text(encoding="utf-8"))
    return LabelSet(Header("coco"), _coco_parts(content, part_size))


def _coco_parts(content: dict, part_size: int) -> Iterator[Part]:
    listed = content["images"]
    for start in range(0, len(listed), part_size):
        some = listed[start : start + part_size]
        places = {image["id"]: str(i) for i, image in enumerate(some)}
        mine = [each for each in content["annotations"] if each["image_id"] in places]
        keys = [places[each["image_id"]] for each in mine]
        is_text = "caption" in content["annotations"][0]
        rows = coco_texts(mine, keys) if is_text else coco_boxes(content, mine, keys)
        yield Part(images([image["file_name"] for image in some]), rows)


def coco_texts(annotations: list[dict], keys: list[str]) -> pa.Table:
    texts = [each["caption"] for each in annotations]
    return claims(image_key=keys, kind="text", role="brief", text=texts)


def coco_boxes(content: dict, annotations: list[dict], keys: list[str]) -> pa.Table:
    """Annotations or results of COCO as rows; the record is in `extra`, as readers leave it."""
    names = {each["id"]: each["name"] for each in content["categories"]}
    xywh = [each["bbox"] for each in annotations]
    return claims(
        image_key=keys,
        kind="region",
        role="category",
        text=[names[each["category_id"]] for each in annotations],
        box=[[x, y, x + w, y + h] for x, y, w, h in xywh],
        score=[each.get("score") for each in annotations],
        ignore=[bool(each.get("iscrowd")) for each in annotations],
        extra=[json.dumps(each) for each in annotations],
    )


def icdar_rows(file: Path, key: str) -> pa.Table:
    """The words of a ground truth file of ICDAR 2015."""
    lines = [line.split(",", 8) for line in file.read_text(encoding="utf-8-sig").splitlines()]
    quads = [[float(number) for number in line[:8]] for line in lines]
    texts = [line[8] for line in lines]
    return claims(
        image_key=[key] * len(lines),
        kind="region",
        role="ocr",
        text=texts,
        box=[[min(q[::2]), min(q[1::2]), max(q[::2]), max(q[1::2])] for q in quads],
        polygon=[[quad] for quad in quads],
        ignore=[text == "###" for text in texts],
    )
