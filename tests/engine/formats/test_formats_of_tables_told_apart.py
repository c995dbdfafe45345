"""Each format knows its own files by a look at them, and no file of another."""

import json

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from label_files import place_of

from engine.formats import FORMATS
from tests.archives import tar_bytes

KINDS = (
    "openimages",
    "conceptual_captions",
    "laion",
    "florence2",
    "webdataset",
    "flickr30k",
    "huggingface",
    "fiftyone",
)


def parquet_bytes(**columns):
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(columns), sink)
    return sink.getvalue().to_pybytes()


SETS = {
    "openimages": {"boxes.csv": b"ImageID,Source,LabelName,Confidence,XMin,XMax,YMin,YMax\n"},
    "conceptual_captions": {"train.tsv": b"a dog\thttp://h/1.jpg\n"},
    "laion": {"part.parquet": parquet_bytes(URL=["http://h/1"], TEXT=["a dog"])},
    "florence2": {"train.jsonl": b'{"image": "a.jpg", "prefix": "<OD>", "suffix": ""}\n'},
    "webdataset": {"0.tar": tar_bytes({"a.jpg": b"", "a.txt": b"x"})},
    "flickr30k": {"Sentences/1.txt": b"[/EN#1/people A man] .\n", "Annotations/1.xml": b"<a/>"},
    "huggingface": {
        "data/train-00000.parquet": parquet_bytes(
            image=[None], texts=[[]], regions=[[]], grounding=[[]]
        )
    },
    "fiftyone": {"metadata.json": b"{}", "samples.json": b'{"samples": []}'},
}
OTHERS = {
    "coco": {"instances.json": b'{"images": [], "annotations": [], "categories": []}'},
    "labels": {"lines.jsonl": b'{"image": "a.jpg", "text": "x"}\n'},
    "voc": {"Annotations/1.xml": b"<annotation/>", "ImageSets/Main/train.txt": b"1\n"},
    "yolo": {"data.yaml": b"names: [a]\n", "labels/1.txt": b"0 0.5 0.5 1 1\n"},
    "icdar": {"gt_img_1.txt": b"1,2,3,4,5,6,7,8,word\n"},
    "flickr8k": {"token.txt": b"1.jpg#0\tA dog .\n"},
    "table": {"some.csv": b"id,name\n1,a\n"},
    "sheet": {"some.tsv": b"id\tname\n1\ta\n"},
    "pictures": {"data/a.parquet": parquet_bytes(image=[b""], label=[1])},
    "other columns": {"a.parquet": parquet_bytes(x=[1])},
    "empty": {"nothing.csv": b""},
    "binary": {"noise.bin": bytes(range(256)) * 300},
    "photos": {"a.jpg": b"\xff\xd8\xff", "sub/b.jpg": b"\xff\xd8\xff"},
}


def knowing(folder):
    """The formats that know some file of a folder, or all of it."""
    places = [folder, *(path for path in folder.rglob("*") if path.is_file())]
    return {
        kind
        for kind in KINDS
        for path in places
        if _class(kind)().recognises(place_of(path), _head(path))
    }


def _class(kind):
    import importlib

    module, _, name = FORMATS.table[kind].partition(":")
    return getattr(importlib.import_module(module), name)


def _head(path):
    return b"" if path.is_dir() else path.read_bytes()[: 1 << 16]


def lay(folder, files):
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


@pytest.mark.parametrize("kind", KINDS)
def test_a_set_is_known_by_its_own_format_alone(tmp_path, kind):
    assert knowing(lay(tmp_path, SETS[kind])) == {kind}


@pytest.mark.parametrize("name", OTHERS)
def test_other_files_are_known_by_none(tmp_path, name):
    assert knowing(lay(tmp_path, OTHERS[name])) == set()


def test_an_empty_folder_is_known_by_none(tmp_path):
    assert knowing(tmp_path) == set()


@pytest.mark.parametrize("kind", KINDS)
def test_every_format_says_its_own_name_and_needs_no_options(kind):
    made = _class(kind)()
    assert made.name == kind
    assert isinstance(made.is_folder, bool)


def test_a_long_first_line_does_not_hide_what_a_file_is(tmp_path):
    line = json.dumps({"image": "a.jpg", "prefix": "<CAPTION>", "suffix": "x" * 100_000})
    assert knowing(lay(tmp_path, {"a.jsonl": line.encode() + b"\n"})) == {"florence2"}
