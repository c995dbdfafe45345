"""Datasets as Hugging Face has them: one row an image, in Parquet."""

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_files import as_other, foreign, place_of, read, write
from PIL import Image

from engine.errors import LabelsError
from engine.formats import huggingface
from engine.formats.huggingface import HuggingFace
from engine.formats.shapes import LabelSet, Part
from engine.schema import claims, image_rows
from engine.source.filesystem import open_location

KIND = HuggingFace()
ROWS = [
    {
        "uri": "b.jpg",
        "kind": "region",
        "role": "category",
        "text": "dog",
        "box": [1, 2, 3.5, 4],
        "score": 0.1,
        "annotation_id": "r1",
        "region_id": "r1",
        "source": "yolo",
        "model": "yolo11n",
        "polygon": [[0, 0, 1, 1, 2, 0], [5, 5, 6, 6, 7, 5]],
        "ignore": True,
    },
    {
        "uri": "b.jpg",
        "kind": "region",
        "role": "brief",
        "text": "a dog",
        "box": [1, 2, 3.5, 4],
        "annotation_id": "r2",
        "region_id": "r1",
        "source": "florence",
        "round": 2,
        "parents": ["r1"],
        "extra": '{"verbatim": 1.10}',
    },
    {
        "uri": "a.jpg",
        "kind": "text",
        "role": "brief",
        "text": "a \U0001f600 \x01",
        "text_score": 0.5,
        "annotation_id": "t1",
        "source": "people",
        "human": True,
        "source_id": "77",
    },
    {
        "uri": "a.jpg",
        "kind": "grounding",
        "role": "phrase",
        "text": "a",
        "text_id": "t1",
        "span_start": 0,
        "span_end": 1,
        "box": [0, 0, float("nan"), -1],
        "annotation_id": "g1",
        "source": "people",
    },
]
IMAGES = [
    {"uri": "b.jpg", "width": 64, "height": 48, "licence": "CC0", "extra": '{"own": 1}'},
    {"uri": "a.jpg", "source_id": "5"},
    {"uri": "empty.jpg"},
]


def labels_of(told):
    return LabelSet(told.header, iter(told.parts))


def written(folder, told, kind=KIND):
    folder.mkdir(exist_ok=True)
    notes = kind.write(place_of(folder), labels_of(told))
    return pa.concat_tables(
        pq.read_table(path) for path in sorted(folder.rglob("*.parquet"))
    ), notes


def test_an_empty_set_is_one_file_without_rows(tmp_path):
    table, _ = written(tmp_path / "out", foreign([], []))
    assert table.num_rows == 0
    told = read(KIND, tmp_path / "out")
    assert told.images == []
    with pytest.raises(LabelsError, match=r"holds no data/\*\.parquet"):
        read(KIND, tmp_path)


def test_rows_come_back_with_everything_they_had(tmp_path):
    table, notes = written(tmp_path / "out", foreign(IMAGES, ROWS))
    assert notes == []
    assert [len(row) for row in table["regions"].to_pylist()] == [2, 0, 0]
    assert table["image"].null_count == 3
    assert KIND.recognises(place_of(tmp_path / "out"), b"")
    back = read(KIND, tmp_path / "out")
    assert [image["uri"] for image in back.images] == ["b.jpg", "a.jpg", "empty.jpg"]
    assert back.images[0]["licence"] == "CC0"
    assert {row["source"] for row in back.rows} == {None}
    shown = {(row["kind"], row["text"]): row for row in back.rows}
    assert shown["region", "dog"]["polygon"] == ROWS[0]["polygon"]
    assert shown["region", "dog"]["ignore"]
    assert shown["text", ROWS[2]["text"]]["human"]
    assert np.isnan(shown["grounding", "a"]["box"][2])
    again, _ = written(tmp_path / "again", back)
    assert repr(again.to_pylist()) == repr(table.to_pylist())


def test_rows_of_images_in_any_order_find_their_image(tmp_path):
    rows = [
        {"uri": uri, "kind": "text", "role": "alt", "text": f"{uri} {n}"}
        for n, uri in enumerate(["a.jpg", "empty.jpg", "b.jpg", "a.jpg"])
    ]
    table, _ = written(tmp_path / "out", foreign(IMAGES, rows))
    told = [[text["text"] for text in row] for row in table["texts"].to_pylist()]
    assert told == [["b.jpg 2"], ["a.jpg 0", "a.jpg 3"], ["empty.jpg 1"]]


def test_final_ids_do_not_replace_those_that_were_read(tmp_path):
    table, _ = written(tmp_path / "out", foreign(IMAGES, ROWS))
    (tmp_path / "again").mkdir()
    write(KIND, tmp_path / "again", read(KIND, tmp_path / "out"), lambda row: row["text"] != "dog")
    again = pq.read_table(tmp_path / "again" / "data" / "train-00000.parquet")
    expected = table.to_pylist()
    del expected[0]["regions"][0]
    assert repr(again.to_pylist()) == repr(expected)


def test_datasets_loads_it_with_its_pictures(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_DATASETS_OFFLINE", "1")
    datasets = pytest.importorskip("datasets")
    photos = tmp_path / "photos"
    photos.mkdir()
    Image.new("RGB", (6, 4), "red").save(photos / "b.jpg")
    kind = HuggingFace(images=open_location(str(photos)))
    table, notes = written(tmp_path / "out", foreign(IMAGES, ROWS), kind)
    assert notes == ["2 pictures that could not be read (missing)"]
    assert table["image"][0].as_py()["bytes"] == (photos / "b.jpg").read_bytes()
    loaded = datasets.load_dataset(
        str(tmp_path / "out"), split="train", cache_dir=str(tmp_path / "cache")
    )
    first, second, _ = loaded
    assert first["image"].size == (6, 4)
    assert second["image"] is None
    assert first["regions"][0]["text"] == "dog"
    assert first["regions"][0]["box"] == [1, 2, 3.5, 4]
    assert second["grounding"][0]["span_end"] == 1


def test_large_sets_are_several_files(tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface, "_IMAGES_PER_FILE", 2)
    parts = [
        Part(image_rows(image_key=["0"], uri=[f"{n}.jpg"], status="ok"), claims()) for n in range(5)
    ]
    told = foreign([], [])._replace(parts=parts)
    table, _ = written(tmp_path / "out", told)
    assert len(list((tmp_path / "out" / "data").iterdir())) == 3
    assert table["uri"].to_pylist() == [f"{n}.jpg" for n in range(5)]
    assert len(read(KIND, tmp_path / "out", part_size=1).parts) == 5


def test_another_dataset_of_parquet_is_refused(tmp_path):
    (tmp_path / "data").mkdir()
    pq.write_table(pa.table({"image": [b""], "label": [1]}), tmp_path / "data" / "a.parquet")
    assert not KIND.recognises(place_of(tmp_path), b"")
    with pytest.raises(LabelsError, match=r"a\.parquet: no column 'texts'"):
        read(KIND, tmp_path)
    (tmp_path / "data" / "a.parquet").write_bytes(b"PAR1")
    assert not KIND.recognises(place_of(tmp_path), b"")
    with pytest.raises(LabelsError, match="cannot be read as Parquet"):
        read(KIND, tmp_path)


def test_columns_of_the_same_names_and_another_shape_are_refused(tmp_path):
    (tmp_path / "data").mkdir()
    table = pa.table({"texts": ["a"], "regions": [[]], "grounding": [1]})
    pq.write_table(table, tmp_path / "data" / "a.parquet")
    with pytest.raises(LabelsError, match=r"a\.parquet: columns of another shape"):
        read(KIND, tmp_path)


def test_what_was_read_can_be_written_as_if_it_came_from_elsewhere(tmp_path):
    written(tmp_path / "out", foreign(IMAGES, ROWS))
    table, _ = written(tmp_path / "other", as_other(read(KIND, tmp_path / "out")))
    assert [len(row) for row in table["texts"].to_pylist()] == [0, 1, 0]


TEXTS = st.text(st.characters(codec="utf-8"), max_size=6)
SIDES = st.floats(width=32)


@settings(max_examples=25, deadline=None)
@given(
    rows=st.lists(
        st.fixed_dictionaries(
            {
                "uri": st.sampled_from(["a.jpg", "b.jpg", "empty.jpg"]),
                "kind": st.just("region"),
                "role": st.just("category"),
                "text": TEXTS,
                "box": st.none() | st.lists(SIDES, min_size=4, max_size=4),
                "extra": st.none() | TEXTS,
                "parents": st.none() | st.lists(TEXTS, max_size=2),
                "score": st.none() | st.floats(0, 1, width=32),
            }
        ),
        max_size=6,
    )
)
def test_any_rows_come_back(tmp_path_factory, rows):
    folder = tmp_path_factory.mktemp("any")
    table, _ = written(folder / "out", foreign(IMAGES, rows))
    again, _ = written(folder / "again", read(KIND, folder / "out", part_size=2))
    assert repr(again.to_pylist()) == repr(table.to_pylist())
