"""New images of a source become new shards; what was there keeps its bytes."""

import hashlib
import json

import pyarrow.parquet as pq
import pytest

from engine import dataset
from engine.compose import compose
from engine.config import parse_config
from engine.errors import ConfigError
from engine.job import Observer
from engine.run import annotate
from engine.source.filesystem import open_location
from engine.status import read_status
from tests import tiny
from tests.archives import write_tar


@pytest.fixture
def photos(tmp_path):
    folder = tmp_path / "photos"
    folder.mkdir()
    for i, name in enumerate(("b.png", "d.png", "f.png")):
        (folder / name).write_bytes(tiny.PNG + bytes(i))
    return folder


def run(source, out, **options):
    raw = {
        "source": {"shard_size": 2, **source},
        "output": {"uri": str(out)},
        "specialists": [{"kind": "null"}],
        "runner": {"kind": "serial"},
    }
    return annotate(compose(parse_config(raw, (), "test")), Observer(), **options)


def files(out):
    paths = [p for p in (out / "round-0").rglob("*") if p.is_file()]
    return {p.name: hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}


def planned(out):
    plan = pq.read_table(out / dataset.PLAN)
    return list(zip(plan["shard"].to_pylist(), plan["uri"].to_pylist(), strict=True))


def test_new_images_are_new_shards_and_the_old_ones_keep_their_bytes(photos, tmp_path):
    out = tmp_path / "out"
    source = {"uri": str(photos)}
    run(source, out)
    before = files(out)
    for i, name in enumerate(("a.png", "c.png", "z.png")):
        (photos / name).write_bytes(tiny.PNG + bytes(10 + i))
    (photos / "d.png").unlink()  # its shard is committed
    run(source, out)
    assert files(out) == before
    ended = run(source, out, extend=True)
    assert (ended.shards_done, ended.totals.num_images) == (4, 6)
    assert planned(out) == [
        *[(0, "b.png"), (0, "d.png"), (1, "f.png")],
        *[(2, "a.png"), (2, "c.png"), (3, "z.png")],
    ]
    after = files(out)
    assert {name: after[name] for name in before} == before
    status = read_status(open_location(str(out)), "round-0")
    assert (status["state"], status["images"]["planned"]) == ("finished", 6)
    run(source, out)  # the plain command knows the new plan
    assert files(out) == after


def test_extending_by_nothing_changes_nothing(photos, tmp_path):
    out = tmp_path / "out"
    run({"uri": str(photos)}, out)
    before, told = files(out), (out / dataset.DATASET).read_bytes()
    run({"uri": str(photos)}, out, extend=True)
    assert files(out) == before
    assert (out / dataset.DATASET).read_bytes() == told


def test_a_limit_can_be_lifted(photos, tmp_path):
    out = tmp_path / "out"
    run({"uri": str(photos)}, out, limit=1)
    with pytest.raises(ConfigError, match="limit: 1 -> nothing"):
        run({"uri": str(photos)}, out)
    run({"uri": str(photos)}, out, extend=True)
    assert planned(out) == [(0, "b.png"), (1, "d.png"), (1, "f.png")]
    run({"uri": str(photos)}, out)


def test_sources_can_be_added_but_not_changed(photos, tmp_path):
    out = tmp_path / "out"
    first = {"name": "mine", "uri": str(photos), "licence": "CC0"}
    made = {"name": "made", "uri": "synthetic", "num_images": 1, "weight": 2.0}
    run({"sources": [first]}, out)
    run({"sources": [first, made]}, out, extend=True)
    assert planned(out)[2:] == [(1, "mine/f.png"), (2, "made/scene-00000000.jpg")]
    told = json.loads((out / dataset.DATASET).read_text())
    assert [(s["name"], s["licence"], s["weight"]) for s in told["sources"]] == [
        ("mine", "CC0", 1.0),
        ("made", None, 2.0),
    ]
    with pytest.raises(ConfigError, match=r"made by another run.*shard_size: 2 -> 3"):
        run({"sources": [first, made], "shard_size": 3}, out, extend=True)
    changed = {**first, "licence": "CC-BY-4.0"}
    with pytest.raises(ConfigError, match=r"made by another run.*sources.*CC0"):
        run({"sources": [changed, made]}, out, extend=True)


def test_a_crash_between_plan_and_times_is_mended_by_the_same_call(photos, tmp_path):
    """The new plan is there, the times and dataset.json are still the old ones."""
    out, other = tmp_path / "out", tmp_path / "other"
    run({"uri": str(photos)}, out)
    old = {name: (out / name).read_bytes() for name in (dataset.MODIFIED, dataset.DATASET)}
    (photos / "z.png").write_bytes(tiny.PNG + bytes(9))
    run({"uri": str(photos)}, other)
    run({"uri": str(photos)}, out, extend=True)
    for name, content in old.items():
        (out / name).write_bytes(content)
    (out / "round-0" / "_done" / "000002.json").unlink()
    run({"uri": str(photos)}, out, extend=True)
    assert planned(out) == [(0, "b.png"), (0, "d.png"), (1, "f.png"), (2, "z.png")]
    assert json.loads((out / dataset.DATASET).read_text())["images"] == 4
    assert len(files(out)) == 3 * 4


def test_what_a_broken_archive_lacked_comes_in_once_it_is_whole(tmp_path):
    out, tar = tmp_path / "out", tmp_path / "x.tar"
    members = {"a.png": tiny.PNG, "b.png": tiny.PNG + b"1", "c.png": tiny.PNG + b"2"}
    write_tar(tar, members, cut=1_200)
    assert run({"uri": str(tar)}, out).totals.images["failed"] == 1  # the archive itself
    write_tar(tar, members)
    ended = run({"uri": str(tar)}, out, extend=True)
    assert planned(out)[2:] == [(1, "x.tar/b.png"), (1, "x.tar/c.png")]
    assert (ended.totals.images["ok"], ended.totals.images["failed"]) == (3, 1)
