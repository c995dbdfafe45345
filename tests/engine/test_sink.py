"""Committing a shard: what others read from it, what must add up, and that half a shard is none.

Kills while a shard is written are tested with whole runs.
"""

import hashlib
import json
import resource
import tarfile
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from engine import sink
from engine.errors import ShardError
from engine.schema import ANNOTATIONS, IMAGES
from engine.sink import Expected, ShardFiles, write_shard
from engine.source.names import MAX_STEM
from tests.builders import rows
from tests.shards import FAILED, VERSION, commit, images, target, verdicts

KEYS = ["a-1", "b_2"]
CLAIMS = rows(image_key=["a-1", "a-1", "b_2"], text=["dog", "no", "cat"])


def files(folder: Path) -> dict[str, bytes]:
    found = [p for p in (folder / "out").rglob("*") if p.is_file()]
    return {str(p.relative_to(folder / "out")): p.read_bytes() for p in found}


@pytest.mark.parametrize("shard", [0, 7, 1_234_567])
def test_shard_files_are_named_by_number(shard):
    names = ShardFiles(shard)
    assert names.data == (
        f"{shard:06d}.tar",
        f"{shard:06d}.annotations.parquet",
        f"{shard:06d}.images.parquet",
    )
    assert names.marker == f"_done/{shard:06d}.json"


def test_a_shard_without_images_is_complete_and_empty(tmp_path):
    marker = commit(target(tmp_path), 0, images())
    assert marker["images"] == {"ok": 0, "failed": 0, "duplicate": 0, "rejected": 0}
    assert marker["annotations"] == marker["failures"] == {}
    with tarfile.open(tmp_path / "out/round-0/000000.tar") as tar:
        assert tar.getnames() == []


# webdataset leaves its tars open
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_webdataset_reads_pixels_and_labels_of_the_ok_images(tmp_path):
    table = images(*KEYS, "c", status=["ok", "ok", "failed"])
    commit(target(tmp_path), 0, table, CLAIMS)
    tar = str(tmp_path / "out/round-0/000000.tar")
    found = list(webdataset.WebDataset(tar, shardshuffle=False).decode())
    assert [sample["__key__"] for sample in found] == KEYS
    assert [sample["jpg"] for sample in found] == [f"pixels of {key}".encode() for key in KEYS]
    assert [region["texts"][0]["text"] for region in found[0]["json"]["regions"]] == ["dog"]


@pytest.mark.parametrize(
    ("image_format", "extension"),
    [("jpeg", "jpg"), ("tiff", "tif"), ("png", "png"), ("webp", "webp"), ("bmp", "bmp")],
)
def test_members_are_named_by_what_the_bytes_are(tmp_path, image_format, extension):
    commit(target(tmp_path), 0, images("a", format=[image_format]))
    with tarfile.open(tmp_path / "out/round-0/000000.tar") as tar:
        assert tar.getnames() == [f"a.{extension}", "a.json"]


def test_without_pixels_the_tar_holds_labels_alone(tmp_path):
    commit(target(tmp_path, pixels=False), 0, images(*KEYS), CLAIMS)
    with tarfile.open(tmp_path / "out/round-0/000000.tar") as tar:
        assert tar.getnames() == ["a-1.json", "b_2.json"]


def test_members_carry_no_time_and_no_owner(tmp_path):
    commit(target(tmp_path), 0, images(*KEYS), CLAIMS)
    with tarfile.open(tmp_path / "out/round-0/000000.tar") as tar:
        facts = {(m.mtime, m.uid, m.gid, m.uname, m.gname, m.mode, m.type) for m in tar}
    assert facts == {(0, 0, 0, "", "", 0o644, tarfile.REGTYPE)}


def test_the_longest_key_a_source_gives_fits_a_tar(tmp_path):
    key = "k" * MAX_STEM + "-" + "0" * 10
    commit(target(tmp_path), 0, images(key))
    with tarfile.open(tmp_path / "out/round-0/000000.tar") as tar:
        assert tar.getnames() == [f"{key}.jpg", f"{key}.json"]


def test_the_marker_counts_and_digests_what_was_written(tmp_path):
    broken = [None, None, FAILED, [{**FAILED[0], "source": "yolo", "cause": "raised"}]]
    states = ["ok", "duplicate", "failed", "ok"]
    table = images("a-1", "x", "y", "b_2", status=states, failures=broken)
    marker = commit(target(tmp_path), 3, table, CLAIMS)
    written = files(tmp_path)
    assert json.loads(written["round-0/_done/000003.json"]) == marker
    assert marker["shard"] == 3
    assert marker["images"] == {"ok": 2, "failed": 1, "duplicate": 1, "rejected": 0}
    assert marker["failures"] == {"decode/corrupt": 1, "yolo/raised": 1}
    assert marker["annotations"] == {
        "yolo/region/category/kept": 2,
        "yolo/region/category/rejected": 1,
    }
    assert marker["rules"] == {"not_kept": [3, 1]}
    assert set(marker["files"]) == set(ShardFiles(3).data)
    for name, facts in marker["files"].items():
        content = written[f"round-0/{name}"]
        assert facts["size_bytes"] == len(content)
        assert facts["sha256"] == hashlib.sha256(content).hexdigest()


def test_the_tables_hold_everything_with_verdicts(tmp_path):
    table = images(*KEYS, "c", status=["ok", "ok", "failed"])
    commit(target(tmp_path), 0, table, CLAIMS)
    folder = tmp_path / "out/round-0"
    stored = pq.read_table(folder / "000000.annotations.parquet")
    assert stored.schema.equals(ANNOTATIONS)
    assert stored["status"].to_pylist() == ["kept", "rejected", "kept"]
    assert (stored["measured"][1].as_py(), stored["limit"][1].as_py()) == (0.25, 0.5)
    stored = pq.read_table(folder / "000000.images.parquet")
    assert stored.schema.equals(IMAGES)
    assert stored["image_key"].to_pylist() == [*KEYS, "c"]


def test_the_same_shard_is_the_same_bytes(tmp_path):
    """Whatever chunks and dictionaries its tables came in, and whatever was there before."""
    table = images(*KEYS)
    commit(target(tmp_path / "one"), 0, table, CLAIMS)
    pieces = pa.concat_tables([CLAIMS.slice(2), CLAIMS.slice(0, 2)]).take([1, 2, 0])
    place = target(tmp_path / "two")
    commit(place, 0, images("old"), rows(image_key=["old"]))
    commit(place, 0, pa.concat_tables([table.slice(0, 1), table.slice(1)]), pieces)
    assert files(tmp_path / "one") == files(tmp_path / "two")


@pytest.mark.parametrize(
    ("expected", "message"),
    [
        pytest.param(
            Expected(3, {"yolo": 3}),
            r"shard 000000: 3 images in, 2 accounted for \(ok 2, failed 0, duplicate 0, rejecte",
            id="an-image-vanished",
        ),
        pytest.param(
            Expected(2, {"yolo": 4}),
            "source 'yolo' gave 4 rows, the table holds 3; nothing was committed",
            id="a-row-vanished",
        ),
        pytest.param(
            Expected(2, {"yolo": 3, "easyocr": 1}),
            "source 'easyocr' gave 1 rows, the table holds 0",
            id="a-source-vanished",
        ),
        pytest.param(
            Expected(2, {}), "source 'yolo' gave 0 rows, the table holds 3", id="rows-of-nobody"
        ),
    ],
)
def test_what_does_not_add_up_is_not_committed(tmp_path, expected, message):
    with pytest.raises(ShardError, match=message):
        write_shard(target(tmp_path), 0, images(*KEYS), verdicts(CLAIMS), {}, expected, rules={})
    assert files(tmp_path) == {}


def test_an_image_of_an_unknown_status_is_not_accounted_for(tmp_path):
    with pytest.raises(ShardError, match="2 images in, 1 accounted for"):
        commit(target(tmp_path), 0, images(*KEYS, status=["ok", "fine"]))


@contextmanager
def room(num_bytes):
    """Lets no file of this process grow past so many bytes: a disk that fills up, for real.

    Only for as long as it must: pytest's own output may be a file too.
    """
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, limits[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("num_bytes", [512, 10_240], ids=["in-the-tar", "in-a-table"])
def test_nothing_is_left_when_writing_fails_halfway(tmp_path, num_bytes):
    place = target(tmp_path)
    commit(place, 0, images("old"))
    before = files(tmp_path)
    # rejected rows are in the table and not in the tar, which is then of 10,240 bytes
    many = rows(text=["no"] * 4000, source_id=[str(i * i) for i in range(4000)])
    with room(num_bytes), pytest.raises(OSError, match="File too large"):
        commit(replace(place, pixels=False), 0, images("a"), many)
    assert files(tmp_path) == before


def test_no_marker_stands_while_the_files_are_changed(tmp_path, monkeypatch):
    """A crash between two renames leaves a shard that counts as not done."""
    place = target(tmp_path)
    commit(place, 0, images("old"))
    real, moved = sink.take_over, []

    def crash(output, file, path):
        if moved:
            raise KeyboardInterrupt
        moved.append(path)
        real(output, file, path)

    monkeypatch.setattr(sink, "take_over", crash)
    with pytest.raises(KeyboardInterrupt):
        commit(place, 0, images(*KEYS), CLAIMS)
    assert moved == ["round-0/000000.tar"]
    assert "round-0/_done/000000.json" not in files(tmp_path)
    assert not [name for name in files(tmp_path) if "scratch" in name]


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        ("_write_tar", "shard 000000: its tar reads back 2 of 4 members"),
        ("_write_table", "000000.annotations.parquet reads back 1 of 3 rows"),
    ],
)
def test_a_shard_that_reads_back_short_is_not_committed(tmp_path, monkeypatch, damage, message):
    real = getattr(sink, damage)
    monkeypatch.setattr(sink, damage, lambda path, it: real(path, it[: max(len(it) // 2, 1)]))
    with pytest.raises(ShardError, match=message):
        commit(target(tmp_path), 0, images(*KEYS), CLAIMS)
    assert files(tmp_path) == {}


def test_versions_lie_beside_each_other(tmp_path):
    place = target(tmp_path)
    commit(place, 0, images("a"))
    commit(replace(place, version="round-1"), 0, images("a"))
    assert {name.split("/")[0] for name in files(tmp_path)} == {"round-0", "round-1"}


def test_a_table_without_rows_has_no_row_group_and_reads_back(tmp_path):
    """`datasets` refuses a file whose first row group is empty."""
    place = target(tmp_path)
    commit(place, 0, images("a"))
    path = tmp_path / "out" / VERSION / "000000.annotations.parquet"
    assert pq.read_metadata(path).num_row_groups == 0
    assert pq.read_table(path).schema.equals(ANNOTATIONS)
