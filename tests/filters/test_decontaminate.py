"""Images that a benchmark holds, by lists of its hashes in each form they may have."""

import pickle

import numpy as np
import pyarrow as pa
import pyarrow.csv
import pyarrow.parquet as pq
import pytest
from PIL import Image

from engine.errors import ConfigError
from engine.schema import Tables, empty_claims, image_rows
from filters.image_hashes import Decontaminate, write_hashes
from tests.builders import all_fresh

HASH = 0x00FF00FF00FF00FF
PHASHES = [f"{HASH:016x}", f"{HASH ^ 0b111111:016x}", f"{HASH ^ 0xFFFF0000:016x}"]
DIGESTS = ["a" * 64, "b" * 64, "c" * 64]


def judge(rule, **columns):
    count = len(next(iter(columns.values())))
    images = image_rows(image_key=[f"i{n}" for n in range(count)], status="ok", **columns)
    given = Tables(images, empty_claims())
    return rule.judge(given, all_fresh(given))


def as_parquet(path, **columns):
    pq.write_table(pa.table(columns), path)
    return str(path)


def test_the_nearest_picture_of_the_benchmark_is_named(tmp_path):
    hashes = as_parquet(tmp_path / "b.parquet", name=["x", "y", "z"], phash=PHASHES)
    given = [f"{HASH ^ 0b111:016x}", f"{HASH ^ 0b1111:016x}", f"{~HASH % 2**64:016x}", None]
    verdicts = judge(Decontaminate(hashes=hashes, max_distance=3), phash=given)
    assert verdicts.rejected.to_pylist() == [True, True, False, False]
    assert verdicts.against.to_pylist() == ["x", "y", None, None]  # of equally near ones the first
    assert verdicts.measured.to_pylist()[:2] == [3, 2]
    assert verdicts.measured.to_pylist()[3] is None
    assert verdicts.limit == 3


@pytest.mark.parametrize(("max_distance", "rejected"), [(2, False), (3, True)])
def test_the_distance_is_inclusive(tmp_path, max_distance, rejected):
    hashes = as_parquet(tmp_path / "b.parquet", phash=PHASHES[:1])
    rule = Decontaminate(hashes=hashes, max_distance=max_distance)
    assert judge(rule, phash=[f"{HASH ^ 0b111:016x}"]).rejected.to_pylist() == [rejected]


def test_equal_files_are_found_whatever_they_look_like(tmp_path):
    hashes = as_parquet(tmp_path / "b.parquet", image_key=["x", "y"], sha256=DIGESTS[:2])
    verdicts = judge(
        Decontaminate(hashes=hashes), sha256=[DIGESTS[1], DIGESTS[2], None], phash=[None] * 3
    )
    assert verdicts.rejected.to_pylist() == [True, False, False]
    assert verdicts.measured.to_pylist() == [0, None, None]
    assert verdicts.against.to_pylist() == ["y", None, None]


def test_a_plain_picture_of_the_benchmark_takes_no_blank_page(tmp_path):
    hashes = as_parquet(tmp_path / "b.parquet", phash=["8" + "0" * 15], sha256=DIGESTS[:1])
    given = {"phash": ["8" + "0" * 15] * 2, "sha256": [DIGESTS[0], DIGESTS[1]]}
    assert judge(Decontaminate(hashes=hashes), **given).rejected.to_pylist() == [True, False]
    telling = as_parquet(tmp_path / "c.parquet", phash=["000000000000ffff"])
    verdicts = judge(Decontaminate(hashes=telling), phash=["000000000000fffe", "000000000001ffff"])
    assert verdicts.rejected.to_pylist() == [False, True]  # one bit away, but plain
    assert verdicts.measured.to_pylist() == [None, 1]


def test_every_form_of_a_list_says_the_same(tmp_path):
    columns = {"phash": [PHASHES[0], PHASHES[1], None], "sha256": [None, None, DIGESTS[2]]}
    lines = ["# of a benchmark", PHASHES[0].upper(), "", f"{PHASHES[1]}  # second", DIGESTS[2]]
    (tmp_path / "b.txt").write_text("\ufeff" + "\r\n".join(lines), encoding="utf-8")
    pa.csv.write_csv(pa.table(columns), tmp_path / "b.csv")
    version = tmp_path / "round-0"
    version.mkdir()
    for n in range(2):
        part = image_rows(
            image_key=["k"],
            phash=[PHASHES[n]],
            sha256=[DIGESTS[2] if n else None],
        )
        pq.write_table(part, version / f"00000{n}.images.parquet")
    as_parquet(tmp_path / "b.parquet", **columns)
    given = {
        "phash": [PHASHES[0], PHASHES[1], None, f"{~HASH % 2**64:016x}"],
        "sha256": [DIGESTS[0], None, DIGESTS[2], DIGESTS[1]],
    }
    for name in ("b.txt", "b.csv", "b.parquet", "round-0"):
        verdicts = judge(Decontaminate(hashes=str(tmp_path / name)), **given)
        assert verdicts.rejected.to_pylist() == [True, True, True, False], name


def test_a_hash_of_digits_alone_is_no_number(tmp_path):
    (tmp_path / "b.csv").write_text("phash\n0011001100110011\n0123012301230123\n")
    verdicts = judge(Decontaminate(hashes=str(tmp_path / "b.csv")), phash=["0123012301230123"])
    assert verdicts.rejected.to_pylist() == [True]


def test_a_list_that_changed_is_read_again(tmp_path):
    path = tmp_path / "b.txt"
    path.write_text(PHASHES[0])
    rule = Decontaminate(hashes=str(path), max_distance=0)
    assert judge(rule, phash=[PHASHES[2]]).rejected.to_pylist() == [False]
    path.write_text(f"{PHASHES[0]}\n{PHASHES[2]}\n")
    assert judge(rule, phash=[PHASHES[2]]).rejected.to_pylist() == [True]


def test_a_list_is_found_from_whatever_folder_a_worker_runs_in(tmp_path, monkeypatch):
    (tmp_path / "b.txt").write_text(PHASHES[0])
    monkeypatch.chdir(tmp_path)
    rule = pickle.dumps(Decontaminate(hashes="b.txt"))
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    assert judge(pickle.loads(rule), phash=PHASHES[:1]).rejected.to_pylist() == [True]


def test_no_images_have_no_verdict(tmp_path):
    hashes = as_parquet(tmp_path / "b.parquet", phash=PHASHES)
    assert judge(Decontaminate(hashes=hashes), phash=[]).rejected.to_pylist() == []


def test_many_hashes_are_compared_in_pieces(tmp_path, monkeypatch):
    monkeypatch.setattr("filters.image_hashes._PAIRS_AT_ONCE", 64)
    rng = np.random.default_rng(0)
    known = [f"{HASH ^ (int(n) << 40):016x}" for n in rng.integers(0, 2**16, 50)]
    given = [f"{int(known[n], 16) ^ 1:016x}" for n in rng.integers(0, 50, 40)]
    hashes = as_parquet(tmp_path / "b.parquet", phash=known)
    verdicts = judge(Decontaminate(hashes=hashes, max_distance=1), phash=given)
    assert all(verdicts.rejected.to_pylist())
    found = verdicts.against.to_pylist()
    assert all(int(a, 16) ^ int(b, 16) == 1 for a, b in zip(found, given, strict=True))


def test_a_list_made_from_photos_finds_them(tmp_path):
    rng = np.random.default_rng(0)
    for n in range(3):
        blobs = Image.fromarray(rng.integers(0, 256, (9, 12, 3), np.uint8))
        blobs.resize((240, 180)).save(tmp_path / f"{n}.png")
    assert write_hashes(tmp_path.glob("*.png"), tmp_path / "b.parquet") == 3
    listed = pq.read_table(tmp_path / "b.parquet")
    assert listed["name"].to_pylist() == ["0.png", "1.png", "2.png"]
    rule = Decontaminate(hashes=str(tmp_path / "b.parquet"))
    verdicts = judge(rule, sha256=[listed["sha256"][1].as_py()], phash=[None])
    assert verdicts.against.to_pylist() == ["1.png"]
    verdicts = judge(rule, phash=[listed["phash"][2].as_py()])
    assert verdicts.against.to_pylist() == ["2.png"]


def test_a_photo_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "broken.jpg").write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"broken\.jpg: .*; leave it out of the list"):
        write_hashes([tmp_path / "broken.jpg"], tmp_path / "b.parquet")


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("b.txt", "xyz\n", r"b\.txt, line 1: found 'xyz'; wanted 16 hex digits \(phash\) or 64"),
        ("b.txt", PHASHES[0] + "0", r"line 1: found '00ff00ff00ff00ff0'"),
        ("b.txt", "# nothing\n", "holds none"),
        ("b.txt", b"\xff\xfe\x00", "cannot be read"),
        ("b.csv", "phash\n12\n", r"b\.csv, row 1: phash is '12'; wanted 16 hex digits"),
        ("b.csv", "hash,n\n1,2\n", "no column phash or sha256; it has hash, n"),
        ("b.csv", "", "cannot be read"),
        ("b.parquet", "PAR1", "cannot be read"),
    ],
)
def test_a_broken_list_is_refused_with_its_place(tmp_path, name, content, complaint):
    data = content if isinstance(content, bytes) else content.encode()
    (tmp_path / name).write_bytes(data)
    with pytest.raises(ConfigError, match=complaint):
        Decontaminate(hashes=str(tmp_path / name))


def test_a_list_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(ConfigError, match=r"nowhere\.txt is not there"):
        Decontaminate(hashes=str(tmp_path / "nowhere.txt"))
    with pytest.raises(ConfigError, match=r"is a folder without \*\.images\.parquet"):
        Decontaminate(hashes=str(tmp_path))
    with pytest.raises(ConfigError, match=r"max_distance is 20; allowed: 0 to 16"):
        Decontaminate(hashes=str(tmp_path), max_distance=20)
