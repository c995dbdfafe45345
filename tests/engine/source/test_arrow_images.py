"""Images in Arrow streams and in datasets that Hugging Face saved: batches, splits, damage."""

import contextlib
import struct

import pyarrow as pa
import pytest

from engine.errors import ConfigError
from engine.source.parquet_images import ParquetImages
from tests.parquet import (
    DEFAULTS,
    IMAGE,
    contents,
    pictures,
    read,
    table,
    texts,
    write_arrow,
)
from tests.tiny import GIF, PNG


def batch(images) -> pa.RecordBatch:
    return table(images).to_batches()[0]


def test_an_arrow_stream_is_read_batch_by_batch(tmp_path):
    images = pictures(5)
    source = write_arrow(tmp_path / "a.arrow", batch(images[:3]), batch(images[3:]))
    listing = source.listing().images
    assert listing["uri"].to_pylist()[3:] == ["a.arrow/00000003", "a.arrow/00000004"]
    assert contents(read(source)) == [image["bytes"] for image in images]
    assert contents(source.read(listing.slice(4), DEFAULTS)) == [images[4]["bytes"]]


def test_an_arrow_file_and_dictionaries_are_read_too(tmp_path):
    words = [pa.array(values).dictionary_encode() for values in (["a", "b"], ["c", "b"])]
    batches = [
        pa.RecordBatch.from_arrays([pa.array([PNG, GIF]), column], ["image", "caption"])
        for column in words
    ]
    write_arrow(tmp_path / "stream.arrow", *batches)
    plain = [b.set_column(1, "caption", b.column(1).dictionary_decode()) for b in batches]
    with pa.ipc.new_file(tmp_path / "file.arrow", plain[0].schema) as file:
        for each in plain:
            file.write_batch(each)
    for name in ("stream.arrow", "file.arrow"):
        found = read(ParquetImages(uri=str(tmp_path / name)))
        assert contents(found) == [PNG, GIF, PNG, GIF]
        assert [texts(sample)[0][1] for sample in found] == ["a", "b", "c", "b"]


@pytest.mark.parametrize("lost", [1, 8, 100])
def test_an_arrow_stream_that_ends_early_keeps_its_whole_batches(tmp_path, lost):
    path = tmp_path / "a.arrow"
    source = write_arrow(path, batch(pictures(1)), batch(pictures(1)))
    path.write_bytes(path.read_bytes()[:-lost])
    answers = contents(read(source))
    assert answers[0] == "broken_archive"
    assert answers[1:] == [PNG + bytes([0])] * (2 if lost <= 8 else 1)


@pytest.mark.parametrize("data", [b"", b"ARROW1\0\0", b"words, no stream", b"\xff" * 64])
def test_what_is_no_arrow_stream_is_a_candidate_that_fails(tmp_path, data):
    (tmp_path / "a.arrow").write_bytes(data)
    assert contents(read(ParquetImages(uri=str(tmp_path / "a.arrow")))) == ["broken_archive"]


@pytest.mark.parametrize("place", range(8, 1500, 61))
def test_a_damaged_arrow_stream_never_raises(tmp_path, place):
    path = tmp_path / "a.arrow"
    source = write_arrow(path, batch(pictures(2)))
    data = bytearray(path.read_bytes())
    data[place : place + 8] = b"\xff\xff\xff\x7f" * 2
    path.write_bytes(data)
    with contextlib.suppress(ConfigError):  # the name or type of the column may be hit
        assert contents(read(source))


def test_an_arrow_stream_whose_texts_lead_elsewhere_is_not_followed(tmp_path):
    path = tmp_path / "a.arrow"
    rows = table(pictures(2), caption=["abcde", "fghij"])
    source = write_arrow(path, rows.to_batches()[0])
    offsets, wild = struct.pack("<3i", 0, 5, 10), struct.pack("<3i", 0, 2**30, 10)
    assert path.read_bytes().count(offsets) == 1
    path.write_bytes(path.read_bytes().replace(offsets, wild))
    assert contents(read(source)) == ["broken_archive"] * 2


def test_a_row_that_is_null_as_a_whole_has_no_bytes(tmp_path):
    parts = [pa.array([PNG, GIF]), pa.array(["a", "b"])]
    images = pa.StructArray.from_arrays(parts, fields=list(IMAGE), mask=pa.array([True, False]))
    source = write_arrow(tmp_path / "a.arrow", pa.RecordBatch.from_arrays([images], ["image"]))
    assert contents(read(source)) == ["missing", GIF]


@pytest.fixture(scope="module")
def datasets():
    """The library that writes such folders; the engine itself never imports it."""
    library = pytest.importorskip("datasets", reason="install the extra dev")
    library.disable_progress_bars()
    return library


@pytest.fixture
def saved(datasets):
    features = datasets.Features(
        {
            "image": datasets.Image(),
            "label": datasets.ClassLabel(names=["cat", "dog"]),
            "caption": datasets.Value("string"),
        }
    )
    columns = {"image": pictures(5), "label": [0, 1, -1, 1, 0], "caption": list("abcde")}
    return datasets.Dataset.from_dict(columns, features=features)


def test_a_saved_dataset_is_its_parquet_file(saved, tmp_path):
    saved.to_parquet(tmp_path / "a.parquet")
    saved.save_to_disk(tmp_path / "folder", num_shards=2)
    parquet = ParquetImages(uri=str(tmp_path / "a.parquet"))
    folder = ParquetImages(uri=str(tmp_path / "folder"))
    wanted = [image["bytes"] for image in pictures(5)]
    assert contents(read(parquet)) == contents(read(folder)) == wanted
    said = [texts(sample) for sample in read(folder)]
    assert said == [texts(sample) for sample in read(parquet)]
    assert said[1:3] == [[("label", "dog"), ("caption", "b")], [("caption", "c")]]


@pytest.mark.parametrize("layout", ["lists", "list-of-objects"])
def test_categories_get_the_names_that_hugging_face_keeps(datasets, tmp_path, layout):
    parts = {
        "bbox": [datasets.Value("float32")],
        "category": datasets.ClassLabel(names=["cat", "dog"]),
    }
    lists = {name: [part] for name, part in parts.items()}
    feature = lists if layout == "lists" else [parts]
    value = {"bbox": [[1, 2, 3, 4]], "category": [1]}
    objects = value if layout == "lists" else [{"bbox": [1, 2, 3, 4], "category": 1}]
    features = datasets.Features({"image": datasets.Image(), "objects": feature})
    rows = {"image": pictures(1), "objects": [objects]}
    datasets.Dataset.from_dict(rows, features=features).save_to_disk(tmp_path / "d")
    [sample] = read(ParquetImages(uri=str(tmp_path / "d"), boxes="xyxy"))
    assert [(row["text"], row["box"]) for row in sample.rows] == [("dog", [1, 2, 3, 4])]


def test_all_splits_of_a_saved_dict_are_listed(datasets, saved, tmp_path):
    splits = {"train": saved.select(range(3)), "test": saved.select([4])}
    datasets.DatasetDict(splits).save_to_disk(tmp_path / "d")
    source = ParquetImages(uri=str(tmp_path / "d"))
    folders = [uri.partition("/")[0] for uri in source.listing().images["uri"].to_pylist()]
    assert folders == ["train"] * 3 + ["test"]
    assert contents(read(source)) == [pictures(5)[i]["bytes"] for i in (0, 1, 2, 4)]
    (tmp_path / "d" / "test" / "state.json").unlink()
    with pytest.raises(ConfigError, match=r"d': test/state.json: there is no such file; give"):
        source.listing()


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ('{"_data_files": [{"filename": "../x.arrow"}]}', "names '../x.arrow', which is no plain"),
        ('{"_data_files": [{"filename": ".."}]}', "which is no plain name"),
        ('{"_data_files": [{}]}', "holds no list of names"),
        ("[]", "lists no _data_files"),
        ("{", "state.json is no JSON"),
        ("[" * 100_000, "state.json is no JSON"),
    ],
)
def test_a_saved_folder_of_another_shape_is_refused(tmp_path, state, message):
    (tmp_path / "state.json").write_text(state)
    with pytest.raises(ConfigError, match=message):
        ParquetImages(uri=str(tmp_path)).listing()
