"""Images in Parquet files and in datasets that Hugging Face saved: listing, reading, refusals."""

import json
import pickle

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from engine.config import LimitsConfig
from engine.errors import ConfigError
from engine.source import open_source
from engine.source.parquet_images import ParquetImages
from engine.source.plan import make_plan
from engine.source.row_files import open_rows
from engine.source.shapes import Opened, ReadError
from engine.source.shard import read_shard
from tests.parquet import (
    DEFAULTS,
    contents,
    pictures,
    read,
    table,
    texts,
    write,
    write_arrow,
)
from tests.tiny import BMP, GIF, PNG


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


OBJECTS = [
    pytest.param({"bbox": [[1, 2, 3, 4]], "category": ["dog"], "id": [7]}, id="lists"),
    pytest.param([{"bbox": [1, 2, 3, 4], "category": "dog", "id": 7}], id="list-of-objects"),
    pytest.param({"boxes": [[1, 2, 3, 4]], "labels": ["dog"], "id": [7]}, id="other-names"),
]


@pytest.mark.parametrize("objects", OBJECTS)
@pytest.mark.parametrize(("boxes", "box"), [("xywh", [1, 2, 4, 6]), ("xyxy", [1, 2, 3, 4])])
def test_objects_become_regions_once_the_format_of_boxes_is_said(tmp_path, objects, boxes, box):
    path = tmp_path / "a.parquet"
    pq.write_table(table(pictures(1), objects=[objects]), path)
    [sample] = read(ParquetImages(uri=str(path), boxes=boxes, human=True))
    [row] = sample.rows
    assert (row["kind"], row["role"], row["text"], row["box"]) == ("region", "category", "dog", box)
    assert (row["source_id"], row["human"]) == ("7", True)
    assert sample.failures == []


def test_objects_without_a_format_of_boxes_are_counted_and_not_guessed(tmp_path):
    objects = [{"bbox": [[1, 2, 3, 4]], "category": ["dog"]}]
    source = write(tmp_path / "a.parquet", table(pictures(1), objects=objects))
    assert source.listing().ignored == {"column objects without source.boxes": 1}
    assert read(source)[0].rows == []
    with pytest.raises(ConfigError, match=r"source.boxes is 'cxcywh'; allowed: xywh, xyxy"):
        ParquetImages(uri=source.uri, boxes="cxcywh")


@pytest.mark.parametrize(
    ("objects", "cause"),
    [
        ({"bbox": [[1, 2, 3]], "category": ["dog"]}, "bad_labels"),
        ({"bbox": [[1, 2, 3, float("nan")]], "category": ["dog"]}, "bad_labels"),
        ({"bbox": [[1, 2, 3, 4]], "category": ["dog", "cat"]}, "bad_labels"),
        ({"bbox": [[1, 2, 3, 4]], "category": [None]}, "bad_labels"),
        ({"bbox": [[1, 2, 3, 4]]}, "bad_labels"),
        ({"bbox": [[1, 2, 3, 4]] * 30, "category": ["dog"] * 30}, "too_many_labels"),
        (["dog"], "bad_labels"),
        (3, "bad_labels"),
        (None, None),
        ({"bbox": [], "category": []}, None),
        ({"bbox": None, "category": None}, None),
    ],
)
def test_objects_of_another_shape_fail_as_labels(tmp_path, objects, cause):
    path = tmp_path / "a.parquet"
    pq.write_table(table(pictures(1), objects=[objects], caption=["x"]), path)
    source = ParquetImages(uri=str(path), boxes="xywh")
    [sample] = read(source, LimitsConfig(max_label_bytes=500))
    assert [failure.cause for failure in sample.failures] == ([cause] if cause else [])
    assert texts(sample) == [("caption", "x")]


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


@pytest.mark.s3
def test_a_bucket_gives_the_rows_of_a_folder(s3, tmp_path):
    pq.write_table(table(pictures(40), caption=["x"] * 40), tmp_path / "a.parquet")
    write_arrow(tmp_path / "b.arrow", *table(pictures(5)).to_batches(2))
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
