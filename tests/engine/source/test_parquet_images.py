"""Images in Parquet files and in datasets that Hugging Face saved: listing, reading, refusals."""

import contextlib
import json
import pickle
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.config import LimitsConfig
from engine.errors import ConfigError
from engine.source import open_source
from engine.source.parquet_images import ParquetImages
from engine.source.plan import make_plan
from engine.source.row_files import open_rows
from engine.source.shapes import Opened, ReadError, Sample
from engine.source.shard import read_shard
from tests.tiny import BMP, GIF, PNG

BYTES = [PNG, BMP, GIF]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
DEFAULTS = LimitsConfig()


def pictures(count: int) -> list[dict[str, object]]:
    """Values of a column as Hugging Face writes it: bytes and the file's own name."""
    return [{"bytes": BYTES[n % 3] + bytes([n]), "path": f"photo {n}.png"} for n in range(count)]


def table(images, **columns) -> pa.Table:
    return pa.table({"image": pa.array(images, IMAGE), **columns})


def write(path, rows: pa.Table, **options) -> ParquetImages:
    pq.write_table(rows, path, **options)
    return ParquetImages(uri=str(path))


def write_arrow(path, *batches: pa.RecordBatch) -> ParquetImages:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return ParquetImages(uri=str(path))


def read(source: ParquetImages, limits: LimitsConfig = DEFAULTS) -> list[Sample | ReadError]:
    return list(source.read(source.listing().images, limits))


def contents(answers) -> list[bytes | str]:
    """The bytes of each image, or the cause that there are none."""
    return [
        answer.cause if isinstance(answer, ReadError) else answer.data.to_pybytes()
        for answer in answers
    ]


def texts(sample: Sample) -> list[tuple[str, str]]:
    return [(row["prompt"], row["text"]) for row in sample.rows]


def test_a_file_without_rows_is_counted_and_makes_no_plan(tmp_path):
    listing = write(tmp_path / "a.parquet", table([])).listing()
    assert (listing.images.num_rows, listing.ignored) == (0, {"file without rows": 1})
    with pytest.raises(ConfigError, match="no images among 1 entries: 1 x file without rows"):
        make_plan(listing, 2)


def test_a_listing_numbers_the_rows_and_keeps_the_images_own_names(tmp_path):
    images = [*pictures(2), None, {"bytes": PNG, "path": None}]
    listing = write(tmp_path / "a.parquet", table(images), row_group_size=2).listing()
    assert listing.images["uri"].to_pylist() == [
        "a.parquet/00000000-photo 0.png",
        "a.parquet/00000001-photo 1.png",
        "a.parquet/00000002",
        "a.parquet/00000003",
    ]
    assert listing.images["size_bytes"].null_count == 4


@pytest.mark.parametrize(
    "path",
    [
        "https://ann:secret@h/a.png?key=secret",
        "https://ann:secret@h",
        "x/ann:secret@h",
        "a\nsecret",
    ],
)
def test_no_secret_of_a_path_reaches_a_uri(tmp_path, path):
    source = write(tmp_path / "a.parquet", table([{"bytes": PNG, "path": path}]))
    [uri] = source.listing().images["uri"].to_pylist()
    assert uri.startswith("a.parquet/00000000")
    assert "secret" not in uri


def test_a_listing_reads_no_image(tmp_path):
    """Proven by breaking every image's page: nobody notices until they are read."""
    path = tmp_path / "a.parquet"
    source = write(path, table(pictures(3)), compression="none", use_dictionary=False)
    data = path.read_bytes()
    path.write_bytes(data.replace(PNG, b"\xff" * len(PNG)))
    assert source.listing().images["uri"].to_pylist()[2] == "a.parquet/00000002-photo 2.png"


@pytest.mark.parametrize("limit", [1, 3, 9])
def test_a_limit_takes_the_first_rows(tmp_path, limit):
    for name in ("a.parquet", "b.parquet"):
        pq.write_table(table(pictures(3)), tmp_path / name, row_group_size=2)
    source = ParquetImages(uri=str(tmp_path), column="image")
    assert source.listing(limit).images.equals(source.listing().images.slice(0, limit))
    with pytest.raises(ConfigError, match="limit is 0"):
        source.listing(0)


def test_a_shard_reads_its_rows_whatever_the_row_groups(tmp_path):
    images = pictures(50)
    source = write(tmp_path / "a.parquet", table(images), row_group_size=7)
    whole = write(tmp_path / "b.parquet", table(images))
    wanted = [image["bytes"] for image in images]
    assert contents(read(source)) == contents(read(whole)) == wanted
    some = source.listing().images.take([3, 20, 21, 49])
    assert contents(source.read(some, DEFAULTS)) == [wanted[i] for i in (3, 20, 21, 49)]


def test_a_shard_reads_only_the_row_groups_it_needs(tmp_path):
    path = tmp_path / "a.parquet"
    source = write(path, table(pictures(9)), row_group_size=3, compression="none")
    rows = source.listing().images
    data, other = path.read_bytes(), PNG + bytes([3])  # image 3 is the first of the second group
    path.write_bytes(data.replace(other, b"\xff" * len(other)))
    answers = list(source.read(rows.take([0, 8]), DEFAULTS))
    assert contents(answers) == [PNG + bytes([0]), GIF + bytes([8])]


def test_a_broken_row_group_fails_its_own_images(tmp_path):
    path = tmp_path / "a.parquet"
    options = {"row_group_size": 3, "compression": "none", "write_page_checksum": True}
    source = write(path, table(pictures(9)), **options)
    data, other = path.read_bytes(), PNG + bytes([3])
    path.write_bytes(data.replace(other, b"\xff" * len(other)))
    answers = contents(read(source))
    assert answers[3:6] == ["broken_archive"] * 3
    assert answers[:3] + answers[6:] == [pictures(9)[i]["bytes"] for i in (0, 1, 2, 6, 7, 8)]


@pytest.mark.parametrize("kept", [0, 3, 100, -9])
def test_a_file_that_ends_early_is_a_candidate_that_fails(tmp_path, kept):
    path = tmp_path / "a.parquet"
    write(path, table(pictures(3)))
    path.write_bytes(path.read_bytes()[:kept])
    pq.write_table(table(pictures(1)), tmp_path / "b.parquet")
    source = ParquetImages(uri=str(tmp_path))
    assert source.listing().images["uri"].to_pylist()[0] == "a.parquet"
    assert contents(read(source)) == ["broken_archive", PNG + bytes([0])]


def test_rows_without_bytes_fail_alone(tmp_path):
    images = [None, {"bytes": None, "path": "a.png"}, {"bytes": b"", "path": None}, *pictures(1)]
    source = write(tmp_path / "a.parquet", table(images))
    assert contents(read(source)) == ["missing", "missing", b"", PNG + bytes([0])]
    plan = make_plan(source.listing(), 9)
    shard = read_shard(source, plan.rows, plan.modified)
    assert shard.images["status"].to_pylist() == ["failed", "failed", "failed", "ok"]
    causes = [found[0]["cause"] for found in shard.images["failures"].to_pylist()[:3]]
    assert causes == ["missing", "missing", "empty"]


def test_an_image_beyond_the_limit_is_refused_and_the_next_is_read(tmp_path):
    source = write(tmp_path / "a.parquet", table([{"bytes": PNG * 9}, {"bytes": GIF}]))
    answers = read(source, LimitsConfig(max_bytes=len(PNG) + 1))
    assert contents(answers) == ["too_many_bytes", GIF]


@pytest.mark.parametrize(
    ("columns", "found"),
    [
        pytest.param({"image": pa.array([PNG])}, PNG, id="plain-binary"),
        pytest.param({"jpg": pa.array([PNG], pa.large_binary())}, PNG, id="large-binary"),
        pytest.param({"x": pa.array([PNG]), "y": pa.array(["a"])}, PNG, id="the-only-one"),
        pytest.param({"mask": pa.array([BMP]), "img": pa.array([PNG])}, PNG, id="usual-name"),
        pytest.param({"image": pa.array(["a.jpg"]), "jpg": pa.array([GIF])}, GIF, id="no-bytes"),
    ],
)
def test_the_column_of_images_is_found(tmp_path, columns, found):
    assert contents(read(write(tmp_path / "a.parquet", pa.table(columns)))) == [found]


def test_a_column_can_be_named(tmp_path):
    pq.write_table(table(pictures(1), mask=pa.array([GIF])), tmp_path / "a.parquet")
    source = ParquetImages(uri=str(tmp_path / "a.parquet"), column="mask")
    assert contents(read(source)) == [GIF]


@pytest.mark.parametrize(
    ("columns", "option", "message"),
    [
        pytest.param(
            {"URL": ["a"], "TEXT": ["b"]},
            None,
            "no column holds image bytes; found URL, TEXT; .*source.kind=table",
            id="urls",
        ),
        pytest.param({"image": pa.nulls(1)}, None, "no column holds image bytes", id="null"),
        pytest.param(
            {"left": [PNG], "right": [GIF]},
            None,
            "the columns left, right all hold bytes; name one in source.column",
            id="two",
        ),
        pytest.param({"image": [PNG]}, "photo", ".*'photo' is no column; found image", id="typo"),
        pytest.param(
            {"image": [PNG], "id": [1]}, "id", ".*'id' is no column of image bytes", id="numbers"
        ),
    ],
)
def test_a_file_without_a_column_of_images_is_refused(tmp_path, columns, option, message):
    pq.write_table(pa.table(columns), tmp_path / "a.parquet")
    with pytest.raises(ConfigError, match=f"a.parquet: {message}"):
        ParquetImages(uri=str(tmp_path / "a.parquet"), column=option).listing()


def test_columns_become_rows_of_the_source(tmp_path):
    rows = table(
        pictures(2),
        caption=["a cat", None],
        captions=pa.array([["a cat", "grey"], []], pa.list_(pa.string())),
        license=["CC0", None],
        number=[1, 2],
    )
    pq.write_table(rows, tmp_path / "a.parquet")
    source = ParquetImages(uri=str(tmp_path / "a.parquet"), name="pets", licence="CC-BY-4.0")
    first, second = read(source)
    assert texts(first) == [("caption", "a cat"), ("captions", "grey")]
    assert (first.source, first.licence, second.licence) == ("pets", "CC0", "CC-BY-4.0")
    assert (second.rows, second.failures) == ([], [])
    assert set(source.produces) == {"pets"}


def test_texts_says_which_columns_are_read_and_as_what(tmp_path):
    pq.write_table(table(pictures(1), short=["cat"], caption=["x"]), tmp_path / "a.parquet")
    options = {"uri": str(tmp_path / "a.parquet"), "texts": {"short": "brief"}}
    [sample] = read(ParquetImages(**options))
    assert [(row["role"], row["text"]) for row in sample.rows] == [("brief", "cat")]
    with pytest.raises(ConfigError, match=r"source.texts.short is 'long'; allowed: alt, brief"):
        ParquetImages(**{**options, "texts": {"short": "long"}})


def with_classes(rows: pa.Table, names: object) -> pa.Table:
    features = {"label": {"names": names, "_type": "ClassLabel"}}
    told = json.dumps({"info": {"features": features}})
    return rows.replace_schema_metadata({"huggingface": told})


def test_classes_get_the_names_that_the_file_holds(tmp_path):
    rows = with_classes(table(pictures(4), label=[1, -1, None, 7]), ["cat", "dog"])
    named, nothing, null, unknown = read(write(tmp_path / "a.parquet", rows))
    assert texts(named) == [("label", "dog")]
    assert nothing.rows == null.rows == []
    assert nothing.failures == null.failures == []
    [failure] = unknown.failures
    assert (failure.stage, failure.cause) == ("labels", "bad_labels")
    assert failure.message == "label is 7; 2 classes known"


def test_names_of_classes_in_the_config_win(tmp_path):
    pq.write_table(
        with_classes(table(pictures(1), label=[1]), ["cat", "dog"]), tmp_path / "a.parquet"
    )
    source = ParquetImages(uri=str(tmp_path / "a.parquet"), classes=["Katze", "Hund"])
    assert texts(read(source)[0]) == [("label", "Hund")]


@pytest.mark.parametrize("told", [b"{", b"[]", b'{"info": 3}', b'{"info": {"features": [1]}}'])
def test_metadata_of_another_shape_is_passed_over(tmp_path, told):
    rows = table(pictures(1), label=[1]).replace_schema_metadata({"huggingface": told})
    assert texts(read(write(tmp_path / "a.parquet", rows))[0]) == [("label", "1")]


def test_bad_labels_fail_and_the_image_does_not(tmp_path):
    bad = pa.Array.from_buffers(pa.string(), 1, pa.array([b"caf\xe9"]).buffers())
    rows = table(pictures(1), caption=bad, text=[3], title=["x" * 99])
    [sample] = read(write(tmp_path / "a.parquet", rows), LimitsConfig(max_label_bytes=50))
    causes = {failure.message.partition(":")[0]: failure.cause for failure in sample.failures}
    assert causes == {"caption": "not_json", "text": "bad_labels", "title": "too_many_labels"}
    assert sample.rows == []
    assert sample.data.to_pybytes() == PNG + bytes([0])


def test_a_column_of_json_is_read_as_the_json_of_a_sample(tmp_path):
    for column in (['{"caption": "a cat"}'], [{"caption": "a cat"}]):
        source = write(tmp_path / "a.parquet", table(pictures(1), json=column))
        assert texts(read(source)[0]) == [("json.caption", "a cat")]


def test_a_pattern_names_files_and_one_that_is_missing_fails(tmp_path):
    pq.write_table(table(pictures(1)), tmp_path / "t-0.parquet")
    source = ParquetImages(uri=str(tmp_path / "t-{0..1}.parquet"))
    assert contents(read(source)) == [PNG + bytes([0]), "missing"]
    with pytest.raises(ConfigError, match=r"t-1.parquet': there is no such file; correct"):
        ParquetImages(uri=str(tmp_path / "t-1.parquet")).listing()
    with pytest.raises(ConfigError, match=r"holds no file that ends in .parquet, .arrow"):
        ParquetImages(uri=str(tmp_path / "none")).listing()


def test_a_file_written_anew_is_told(tmp_path):
    source = write(tmp_path / "a.parquet", table(pictures(3)))
    plan = make_plan(source.listing(), 3)
    write(tmp_path / "a.parquet", table(pictures(2)))
    images = read_shard(source, plan.rows, plan.modified).images
    assert [row[0]["cause"] for row in images["failures"].to_pylist()] == ["changed"] * 3
    pq.write_table(pa.table({"url": ["a"]}), tmp_path / "a.parquet")
    assert contents(source.read(plan.rows, DEFAULTS)) == ["changed"] * 3


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


def test_a_file_that_tells_of_more_rows_than_bytes_is_broken(tmp_path):
    path = tmp_path / "a.parquet"
    pq.write_table(pa.table({"image": pa.nulls(100_000, pa.binary())}), path)
    with pa.OSFile(str(path)) as file, pytest.raises(ReadError, match="more rows than") as caught:
        open_rows(Opened(file, file.size(), None), path.name)
    assert caught.value.cause == "broken_archive"


def test_a_source_pickles_and_is_found_by_its_ending(tmp_path):
    write(tmp_path / "a.parquet", table(pictures(1)))
    source = open_source(uri=str(tmp_path / "a.parquet"))
    assert isinstance(source, ParquetImages)
    assert contents(read(pickle.loads(pickle.dumps(source)))) == [PNG + bytes([0])]


def test_loose_images_say_which_kind_reads_the_files(tmp_path):
    for name in ("a.parquet", "b.parquet", "c.tar", "readme.md"):
        (tmp_path / name).write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"; set source.kind=parquet to read 2 of them"):
        make_plan(open_source(uri=str(tmp_path)).listing(), 3)


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


@pytest.mark.s3
def test_a_bucket_gives_the_rows_of_a_folder(s3, tmp_path):
    pq.write_table(table(pictures(40), caption=["x"] * 40), tmp_path / "a.parquet")
    write_arrow(tmp_path / "b.arrow", batch(pictures(3)), batch(pictures(2)))
    s3.fill("parquet-images", tmp_path)
    here = ParquetImages(uri=str(tmp_path))
    there = ParquetImages(uri="s3://parquet-images", endpoint=s3.endpoint)
    plans = [make_plan(source.listing(), 99) for source in (here, there)]
    assert plans[0].rows.equals(plans[1].rows)
    shards = [
        read_shard(source, plan.rows, plan.modified)
        for source, plan in zip((here, there), plans, strict=True)
    ]
    assert shards[0] == shards[1]
    assert len(shards[1].given) == 40
