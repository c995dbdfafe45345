"""Files others wrote, imported into a dataset and exported again: nothing but spelling changes."""

import io
import json

import pyarrow.parquet as pq
import pytest
from rich.console import Console

from engine.compose import compose
from engine.config import parse_config
from engine.label_commands import run_export, run_import
from engine.source.filesystem import open_location

FIXTURES = "format-fixtures"
COCO = [
    "coco80/annotations/instances.json",
    "coco80/annotations/captions.json",
    "coco80/annotations/person_keypoints.json",
    *(
        f"{FIXTURES}/coco_dataset/coco/annotations/{name}_train.json"
        for name in ("captions", "image_info", "instances", "labels", "person_keypoints", "stuff")
    ),
]
# A set, its kind and further options; `images` is where it lies.
TEXTS = [
    ("coco80/labels-yolo", "yolo", {"images": "coco80/images"}),
    *(
        (f"{FIXTURES}/yolo_dataset/{name}", "yolo", {"images": f"{FIXTURES}/yolo_dataset/{name}"})
        for name in ("yolo", "yolov8_detection_with_list_of_names", "yolov8_segmentation")
    ),
    *((f"{FIXTURES}/voc_dataset/voc_dataset{n}", "voc", {}) for n in (1, 2, 3)),
    *((f"{FIXTURES}/imagenet_txt_dataset/{n}", "imagenet", {}) for n in ("basic", "no_labels")),
    ("icdar5", "icdar", {}),
    ("flickr30k-entities-8", "flickr30k", {"images": "flickr30k-entities-8/images"}),
    ("cc3m-val-tsv/Validation_GCC-1.1.0-Validation.tsv", "conceptual_captions", {}),
]
OPEN_IMAGES = f"{FIXTURES}/open_images_dataset/v6"


def there_and_back(tmp_path, data, name, kind, options):
    source = data / name
    paths = {key: str(data / value) for key, value in options.items()}
    raw = {
        "source": {"uri": str(source), "kind": kind, **paths},
        "output": {"uri": str(tmp_path / "out"), "pixels": "none"},
    }
    told = Console(file=io.StringIO())
    failures = run_import(compose(parse_config(raw, (), "test")), told, overwrite=False)
    back = tmp_path / ("back" + (source.suffix if source.is_file() else ""))
    target = {"uri": str(back), "kind": kind}
    run_export(open_location(str(tmp_path / "out")), target, told, version=None, source=None)
    assert failures == 0
    return source, back


def plain(value):
    """JSON whose lists of records with an id are in the order of these."""
    if isinstance(value, dict):
        return {key: plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        inner = [plain(each) for each in value]
        if inner and all(isinstance(each, dict) and "id" in each for each in inner):
            return sorted(inner, key=lambda each: json.dumps(each, sort_keys=True))
        return inner
    return value


@pytest.mark.parametrize("name", COCO, ids=lambda name: name.split("/")[-1])
def test_coco_comes_back_but_for_its_order(tmp_path, data, name):
    source, back = there_and_back(tmp_path, data, name, "coco", {})
    assert plain(json.loads(back.read_text())) == plain(json.loads(source.read_text()))


@pytest.mark.parametrize(("name", "kind", "options"), TEXTS, ids=lambda v: str(v).split("/")[-1])
def test_files_of_text_come_back_to_the_byte(tmp_path, data, name, kind, options):
    source, back = there_and_back(tmp_path, data, name, kind, options)
    if source.is_file():
        assert back.read_bytes() == source.read_bytes()
        return
    written = {path.relative_to(back) for path in back.rglob("*") if path.is_file()}
    assert written
    for path in written:
        assert (back / path).read_bytes() == (source / path).read_bytes(), path
    labels = {".txt", ".xml", ".yaml", ".json", ".csv", ".names", ".data"}
    there = {path.relative_to(source) for path in source.rglob("*") if path.suffix in labels}
    assert there - written == set()


@pytest.mark.parametrize(
    "name", ["test-annotations-bbox.csv", "test-annotations-human-imagelabels.csv"]
)
def test_open_images_come_back_to_the_byte(tmp_path, data, name):
    options = {"images": f"{OPEN_IMAGES}/images"}
    path = f"{OPEN_IMAGES}/annotations/{name}"
    source, back = there_and_back(tmp_path, data, path, "openimages", options)
    assert back.read_bytes() == source.read_bytes()


def test_a_table_of_web_texts_comes_back_with_its_schema(tmp_path, data):
    name = "url-text-parquet/test_1000.parquet"
    source, back = there_and_back(tmp_path, data, name, "laion", {})
    assert pq.read_table(back).equals(pq.read_table(source), check_metadata=True)
