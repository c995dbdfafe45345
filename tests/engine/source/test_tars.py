"""WebDataset shards as a source: whole, odd, hostile and broken ones, and those of others."""

import json
import pickle
import tarfile

import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.config import LimitsConfig
from engine.errors import ConfigError
from engine.source import open_source
from engine.source.plan import make_plan
from engine.source.shapes import ReadError
from engine.source.shard import read_shard
from engine.source.tars import Tars
from tests import tiny
from tests.archives import tar_bytes, write_tar

KINDS = ["x.tar", "x.tar.gz", "x.tgz"]


def verdicts(images):
    """Uri to status, or to the stage and cause of the first failure of an image that has one."""
    return {
        row["uri"]: "/".join(row["failures"][0][part] for part in ("stage", "cause"))
        if row["failures"]
        else row["status"]
        for row in images.to_pylist()
    }


def read(source, limits=None):
    plan = make_plan(source.listing(), 1000)
    return read_shard(source, plan.rows, plan.modified, limits or LimitsConfig())


def texts(loaded):
    uris = dict(zip(*loaded.images.select(["image_key", "uri"]).columns, strict=True))
    uris = {key.as_py(): uri.as_py() for key, uri in uris.items()}
    return {uris[g.image_key]: [row["text"] for row in g.rows] for g in loaded.given}


@pytest.mark.parametrize("name", KINDS)
def test_a_sample_is_its_image_and_its_labels(tmp_path, name):
    label = json.dumps({"caption": "a small picture", "license": "CC0"}).encode()
    write_tar(
        tmp_path / name,
        {"a.png": tiny.PNG, "a.json": label, "a.cls": b"7\n", "b/c.gif": tiny.GIF, "b/c.txt": b"c"},
    )
    loaded = read(Tars(uri=str(tmp_path / name), classes=["dot"] * 8))
    assert verdicts(loaded.images) == {f"{name}/a.png": "ok", f"{name}/b/c.gif": "ok"}
    assert loaded.images["licence"].to_pylist() == ["CC0", None]
    assert texts(loaded) == {f"{name}/a.png": ["a small picture", "dot"], f"{name}/b/c.gif": ["c"]}
    assert [bytes(data) for data in loaded.data] == [tiny.PNG, tiny.GIF]


def test_any_row_of_the_plan_reads_alone(tmp_path):
    members = {"a.png": tiny.PNG, "a.txt": b"one", "b.gif": tiny.GIF, "b.txt": b"two"}
    for name in KINDS[:2]:
        source = Tars(uri=str(write_tar(tmp_path / name, members)))
        plan = make_plan(source.listing(), 1)
        loaded = read_shard(source, plan.rows.slice(1, 1), plan.modified.slice(1, 1))
        assert texts(loaded) == {f"{name}/b.gif": ["two"]}


def test_members_of_a_sample_need_not_be_adjacent(tmp_path):
    """`webdataset` makes four samples of these; an index needs no luck with the order."""
    filler = bytes(200_000)  # too far apart for one read
    members = {"a.txt": b"A", "b.png": tiny.PNG, "z.bin": filler, "a.gif": tiny.GIF, "b.txt": b"B"}
    loaded = read(Tars(uri=str(write_tar(tmp_path / "x.tar", members))))
    assert texts(loaded) == {"x.tar/a.gif": ["A"], "x.tar/b.png": ["B"]}
    assert set(verdicts(loaded.images).values()) == {"ok"}


def test_a_repeated_name_is_another_sample_with_its_own_labels(tmp_path):
    members = [
        *[("a.png", tiny.PNG), ("a.txt", b"first")],
        *[("a.png", tiny.PNG + b"2"), ("a.txt", b"second")],
    ]
    loaded = read(Tars(uri=str(write_tar(tmp_path / "x.tar", members))))
    assert texts(loaded) == {"x.tar/a.png": ["first"], "x.tar/a.png#2": ["second"]}
    assert [bytes(data) for data in loaded.data] == [tiny.PNG, tiny.PNG + b"2"]


def test_no_two_members_have_one_uri_whatever_they_are_called(tmp_path):
    """Two images of one key would refuse the whole source."""
    members = [
        *[("../a.png", tiny.GIF)] * 3,
        *[("b.png", tiny.PNG), ("b.png#2.png", tiny.GIF), ("b.png", tiny.PNG + b"2")],
        *[("c#2.png", tiny.BMP), ("c#2.png", tiny.BMP + b"2"), ("c#2.png#2", b"")],
    ]
    loaded = read(Tars(uri=str(write_tar(tmp_path / "x.tar", members))))
    found = verdicts(loaded.images)
    assert list(found.values()).count("read/unsafe_path") == 3
    assert list(found.values()).count("ok") == len(found) - 3 == 5


def test_a_name_that_ends_like_a_repeated_one_is_read(tmp_path):
    loaded = read(Tars(uri=str(write_tar(tmp_path / "x.tar", {"a.png": tiny.PNG, "b#2.gif": b""}))))
    assert verdicts(loaded.images) == {"x.tar/a.png": "ok", "x.tar/b#2.gif": "read/empty"}


def test_a_dotted_name_belongs_to_the_sample_before_its_first_dot(tmp_path):
    """Labels go with the plain image; a mask beside it is an image of its own."""
    members = {"a.seg.png": tiny.PNG, "a.jpg": tiny.GIF, "a.txt": b"a", "b.v2.final.gif": tiny.BMP}
    loaded = read(Tars(uri=str(write_tar(tmp_path / "x.tar", members))))
    assert list(verdicts(loaded.images)) == [f"x.tar/{n}" for n in ("a.jpg", "a.seg.png")] + [
        "x.tar/b.v2.final.gif"
    ]
    assert texts(loaded) == {"x.tar/a.jpg": ["a"]}
    assert all("." not in key for key in loaded.images["image_key"].to_pylist())


@pytest.mark.parametrize("name", KINDS[:2])
def test_names_that_lead_out_and_links_fail_and_nothing_follows_them(tmp_path, name):
    (tmp_path / "secret.png").write_bytes(tiny.PNG)
    members = [
        ("../secret.png", tiny.GIF),
        (f"{tmp_path}/secret.png", tiny.GIF),
        ("a/../../b.png", tiny.GIF),
        ("..\\c.png", tiny.GIF),
        ("link.png", f"{tmp_path}/secret.png"),
        ("good.png", tiny.PNG),
        ("../good.txt", b"not mine"),
    ]
    write_tar(tmp_path / "in" / name, members)
    source = Tars(uri=str(tmp_path / "in"))
    loaded = read(source)
    found = {uri.removeprefix(f"{name}/"): v for uri, v in verdicts(loaded.images).items()}
    assert found == {
        "../secret.png": "read/unsafe_path",
        f"{tmp_path}/secret.png": "read/unsafe_path",
        "a/../../b.png": "read/unsafe_path",
        r"..\\c.png": "read/unsafe_path",
        "link.png": "read/special_file",
        "good.png": "ok",
    }
    assert source.listing().ignored == {"member refused, unsafe_path": 1}
    assert texts(loaded) == {}


@pytest.mark.parametrize("name", KINDS[:2])
@pytest.mark.parametrize("what", ["cut", "no-end", "header", "empty", "garbage"])
def test_a_broken_archive_says_so_and_gives_what_lies_before_the_break(tmp_path, name, what):
    members = {"a.png": tiny.PNG, "b.gif": tiny.GIF, "c.bmp": tiny.BMP}
    content = bytearray(tar_bytes(members))
    if what == "header":
        content[2048 + 150] ^= 0xFF  # of the third member
    content = {
        "cut": content[:2600],
        "no-end": content[:3072],
        "header": content,
        "empty": b"",
        "garbage": b"\x01" * 5000,
    }[what]
    source = Tars(uri=str(tmp_path / name))
    if name.endswith("gz"):
        import gzip

        content = gzip.compress(bytes(content))
    (tmp_path / name).write_bytes(content)
    whole = {"cut": 2, "no-end": 3, "header": 2, "empty": 0, "garbage": 0}[what]
    found = verdicts(read(source).images)
    broken = {uri for uri, verdict in found.items() if verdict == "read/broken_archive"}
    assert {name} <= broken <= {name, f"{name}/c.bmp"}
    assert [v for v in found.values() if v == "ok"] == ["ok"] * whole


def test_a_gzip_that_breaks_in_the_middle_gives_what_lies_before(tmp_path):
    import random

    noise = random.Random(0).randbytes(100_000)
    path = write_tar(tmp_path / "x.tgz", {"a.png": tiny.PNG, "n.bin": noise, "z.gif": tiny.GIF})
    path.write_bytes(path.read_bytes()[:50_000])
    assert verdicts(read(Tars(uri=str(path))).images) == {
        "x.tgz": "read/broken_archive",
        "x.tgz/a.png": "ok",
    }


def test_labels_that_cannot_be_taken_are_a_failure_beside_a_fine_image(tmp_path):
    members = {
        "a.png": tiny.PNG,
        "a.json": b"{not json",
        "a.txt": b"\xff\xfe broken",
        "b.gif": tiny.GIF,
        "b.json": json.dumps({"caption": 5}).encode(),
        "b.txt": b"fine",
        "c.bmp": tiny.BMP,
        "c.txt": b"x" * 200,
    }
    source = Tars(uri=str(write_tar(tmp_path / "x.tar", members)))
    loaded = read(source, LimitsConfig(max_label_bytes=100))
    assert loaded.images["status"].to_pylist() == ["ok"] * 3
    causes = [[f["cause"] for f in fs] for fs in loaded.images["failures"].to_pylist()]
    assert causes == [["not_json", "not_json"], ["bad_labels"], ["too_many_labels"]]
    assert {f["source"] for fs in loaded.images["failures"].to_pylist() for f in fs} == {"dataset"}
    assert texts(loaded) == {"x.tar/b.gif": ["fine"]}


def test_an_image_too_large_is_not_read(tmp_path):
    for name in KINDS[:2]:
        source = Tars(uri=str(write_tar(tmp_path / name, {"a.png": tiny.PNG, "b.gif": tiny.GIF})))
        found = verdicts(read(source, LimitsConfig(max_bytes=len(tiny.GIF))).images)
        assert list(found.values()) == ["read/too_many_bytes", "ok"]


@pytest.mark.parametrize("name", KINDS[:2])
def test_an_archive_written_anew_gives_no_bytes_of_another_member(tmp_path, name):
    path = write_tar(tmp_path / name, {"a.png": tiny.PNG, "b.png": tiny.PNG + b"1"})
    source = Tars(uri=str(path))
    plan = make_plan(source.listing(), 10)
    write_tar(path, {"b.png": tiny.PNG, "a.png": tiny.PNG + b"1"})
    images = read_shard(source, plan.rows).images  # without times, as a retry reads
    assert set(verdicts(images).values()) == {"read/changed"}
    path.unlink()
    assert set(verdicts(read_shard(source, plan.rows).images).values()) == {"read/missing"}


def test_a_pattern_names_archives_there_or_not(tmp_path):
    write_tar(tmp_path / "00.tar", {"a.png": tiny.PNG})
    write_tar(tmp_path / "02.tar", {"a.png": tiny.PNG + b"1"})
    loaded = read(open_source(uri=str(tmp_path / "{00..02}.tar")))
    assert verdicts(loaded.images) == {
        "00.tar/a.png": "ok",
        "01.tar": "read/missing",
        "02.tar/a.png": "ok",
    }
    both = make_plan(Tars(uri=str(tmp_path / "{00,02}.tar")).listing(), 9).rows
    assert both.equals(make_plan(Tars(uri=str(tmp_path)).listing(), 9).rows)


def test_what_cannot_be_opened_is_refused_by_name(tmp_path):
    with pytest.raises(ConfigError, match=r"holds no file that ends in \.tar"):
        Tars(uri=str(tmp_path)).listing()
    write_tar(tmp_path / "x.tar", {"a.txt": b"no picture", ".hidden.png": tiny.PNG, "b.npy": b"1"})
    with pytest.raises(
        ConfigError, match=r"no images among .*: 2 x sample without an image, 1 x field \.npy"
    ):
        make_plan(Tars(uri=str(tmp_path)).listing(), 9)
    with pytest.raises(ConfigError, match=r"texts.caption is 'long'; allowed: alt, brief"):
        Tars(uri="x.tar", texts={"caption": "long"})
    with pytest.raises(ConfigError, match="limit is 0"):
        Tars(uri="x.tar").listing(0)


def test_a_limit_ends_the_listing_early(tmp_path):
    for i in range(3):
        write_tar(tmp_path / f"{i}.tar", {"a.png": tiny.PNG, "b.gif": tiny.GIF})
    uris = Tars(uri=str(tmp_path)).listing(3).images["uri"].to_pylist()
    assert uris == ["0.tar/a.png", "0.tar/b.gif", "1.tar/a.png"]


def test_a_source_of_tars_pickles(tmp_path):
    write_tar(tmp_path / "x.tar", {"a.png": tiny.PNG})
    copy = pickle.loads(pickle.dumps(Tars(uri=str(tmp_path))))
    assert list(verdicts(read(copy).images).values()) == ["ok"]


@pytest.mark.parametrize("format_", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT, tarfile.USTAR_FORMAT])
def test_long_and_foreign_names_are_read_in_every_tar_format(tmp_path, format_):
    long = "d" * 60 + "/" + "n" * 90 + ".png"
    names = [long, "caf\u00e9 \u6c34.gif"]
    with tarfile.open(tmp_path / "x.tar", "w", format=format_) as tar:
        for name, content in zip(names, (tiny.PNG, tiny.GIF), strict=True):
            (tmp_path / "m").write_bytes(content)
            tar.add(tmp_path / "m", arcname=f"./{name}")
    loaded = read(Tars(uri=str(tmp_path / "x.tar")))
    assert verdicts(loaded.images) == {f"x.tar/{name}": "ok" for name in sorted(names)}


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_no_damage_raises_or_gives_bytes_that_were_not_there(tmp_path_factory, data):
    members = {"a.png": tiny.PNG, "a.json": b'{"caption": "x"}', "b.gif": tiny.GIF}
    content = bytearray(tar_bytes(members)[:4096])
    for _ in range(data.draw(st.integers(1, 5))):
        content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.mktemp("damaged") / "x.tar"
    path.write_bytes(bytes(content))
    source = Tars(uri=str(path))
    listing = source.listing()
    plan = make_plan(listing, 9)  # at the least the archive itself is a candidate
    answers = list(source.read(plan.rows, LimitsConfig()))
    assert len(answers) == plan.rows.num_rows
    for answer in answers:
        assert isinstance(answer, ReadError) or answer.data.to_pybytes() in bytes(content)


def test_shards_of_others_are_read_or_refused_by_name(data):
    shards = data / "webdataset-shards"
    loaded = read(Tars(uri=str(shards / "sample.tgz"), classes=[f"class {i}" for i in range(10)]))
    assert loaded.images["status"].to_pylist() == ["ok"] * 90
    assert len(loaded.given) == 90
    assert {row["text"] for g in loaded.given for row in g.rows} <= {
        f"class {i}" for i in range(10)
    }
    images = read(Tars(uri=str(shards / "clip-retrieval"))).images
    assert [row["status"] for row in images.to_pylist()].count("ok") == 7
    assert images.num_rows == 11
    for name, field in (("compressed.tar", "field .txt.gz"), ("mpdata.tar", "field .mp")):
        with pytest.raises(ConfigError, match=rf"no images among .*{field}"):
            make_plan(Tars(uri=str(shards / name)).listing(), 9)


@pytest.mark.s3
def test_a_bucket_of_tars_gives_what_a_folder_gives(s3, tmp_path):
    far = bytes(150_000)
    write_tar(
        tmp_path / "0.tar",
        {"a.png": tiny.PNG, "n.bin": far, "a.txt": b"far", "b.gif": tiny.GIF, "b.txt": b"near"},
    )
    write_tar(tmp_path / "1.tgz", {"a.png": tiny.PNG + b"1", "a.txt": b"zipped"})
    write_tar(tmp_path / "2.tar", {"a.png": tiny.PNG + b"2", "b.gif": tiny.GIF}, cut=1300)
    s3.fill("archives", tmp_path)
    here, there = Tars(uri=str(tmp_path)), Tars(uri="s3://archives", endpoint=s3.endpoint)
    plans = [make_plan(source.listing(), 9) for source in (here, there)]
    assert plans[0].rows.equals(plans[1].rows)
    loaded = [
        read_shard(source, plan.rows, plan.modified)
        for source, plan in zip((here, there), plans, strict=True)
    ]
    assert texts(loaded[0]) == texts(loaded[1])
    assert verdicts(loaded[0].images) == verdicts(loaded[1].images)
    assert (
        loaded[0].images.drop_columns("failures").equals(loaded[1].images.drop_columns("failures"))
    )


def test_nothing_planned_nothing_read(tmp_path):
    write_tar(tmp_path / "x.tar", {"a.png": tiny.PNG})
    empty = pa.table({"uri": pa.array([], pa.string()), "place": pa.array([], pa.null())})
    assert list(Tars(uri=str(tmp_path)).read(empty, LimitsConfig())) == []
