"""A label version of a dataset as a source: the same keys, shards and rows, shifted by nothing."""

import json
import pickle
import shutil
import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
import yaml

from engine import cli
from engine.compose import compose
from engine.config import LimitsConfig, RunnerConfig, parse_config
from engine.errors import ConfigError, ShardError, StoppedError
from engine.filtering import Filtering, filter_dataset
from engine.job import Job, Observer
from engine.reading import read_tables
from engine.run import annotate
from engine.source import open_source
from engine.source.filesystem import open_location
from engine.source.plan import make_plan
from engine.source.shapes import ReadError
from engine.source.shard import read_shard
from engine.stages import source_of
from engine.versions import read_versions
from tests import hostile
from tests.faults.fixtures import EITHER_RUNNER
from tests.stored_dataset import OK, job_of, make_dataset
from tests.teller import Teller


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A dataset that no test may change."""
    folder = tmp_path_factory.mktemp("stored")
    make_dataset(folder)
    return folder


@pytest.fixture
def place(made, tmp_path):
    """A copy of it for those who do."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    return open_location(str(tmp_path / "out"))


def stored(place, **options):
    return open_source(kind="dataset", uri=place.uri, **options)


def filtered(place, rules, **options):
    """The dataset with a version more; its tars hold no pictures."""
    raw = {"source": {"uri": place.uri}, "rules": rules}
    made = compose(parse_config(raw, (), "test"))
    runner = RunnerConfig(kind="serial")
    said = {"rules": made.rules, "options": made.config.rules, "runner": runner}
    return filter_dataset(Filtering(output=place, **said, **options)).name


def images_by_shard(place, version="round-0"):
    """Rows of the images table that are ok, by shard."""
    return {
        shard: images.filter(pc.equal(images["status"], "ok"))
        for shard, images, _ in read_tables(place, version)
    }


def rows_of(place, version="round-0"):
    tables = [rows for _, _, rows in read_tables(place, version)]
    return pa.concat_tables(tables).unify_dictionaries()


def planned(source):
    plan = make_plan(source.listing(), 256).rows
    uris = dict.fromkeys(range(plan["shard"][-1].as_py() + 1), ())
    for shard, uri in zip(plan["shard"].to_pylist(), plan["uri"].to_pylist(), strict=True):
        uris[shard] = (*uris[shard], uri)
    return uris


def test_a_dataset_that_is_none_is_refused(tmp_path):
    source = stored(open_location(str(tmp_path)))
    for asked in (source.listing, lambda: source.produces, lambda: source.order):
        with pytest.raises(ConfigError, match=r"no dataset.json there"):
            asked()


def test_images_keep_their_keys_shards_and_order(made):
    place = open_location(str(made / "out"))
    source = stored(place)
    expected = {n: tuple(f"{name}.jpg" for name in names) for n, names in OK.items() if n < 4}
    assert planned(source) == expected
    plan = make_plan(source.listing(), 2).rows
    ok = pa.concat_tables(images_by_shard(place).values())
    assert plan["image_key"].to_pylist() == ok["image_key"].to_pylist()
    assert source.listing().ignored == {"status duplicate": 1, "status failed": 10}


def test_a_limit_takes_the_first_images_and_reads_no_further(place):
    (Path(place.root) / "round-0" / "000003.images.parquet").write_bytes(b"")
    listed = stored(place).listing(4).images
    assert listed["uri"].to_pylist() == ["a.jpg", "d.jpg", "i.jpg", "j.jpg"]
    with pytest.raises(ConfigError, match="limit is 0"):
        stored(place).listing(0)


def test_images_read_again_are_the_rows_of_the_images_table(made):
    place = open_location(str(made / "out"))
    source = pickle.loads(pickle.dumps(stored(place)))
    plan = make_plan(source.listing(), 256)
    for shard, images in images_by_shard(place).items():
        rows = plan.rows.filter(pc.equal(plan.rows["shard"], shard))
        assert read_shard(source, rows).images.equals(images)


def test_a_shard_without_images_is_read_as_nothing(made):
    source = stored(open_location(str(made / "out")))
    nothing = make_plan(source.listing(), 256).rows.slice(0, 0)
    assert list(source.read(nothing, LimitsConfig())) == []
    assert source.claims(nothing).num_rows == 0


def test_rows_come_with_their_ids_and_verdicts(place):
    version = filtered(place, [{"rule": "min_score", "limits": {"*": 0.5}}])
    every = rows_of(place, version)
    assert {"kept", "rejected"} == set(every["status"].to_pylist())
    source = stored(place)
    plan = make_plan(source.listing(), 256).rows
    for shard in (0, 2, 3):
        mine = plan.filter(pc.equal(plan["shard"], shard))
        expected = every.filter(pc.is_in(every["image_key"], mine["image_key"].combine_chunks()))
        assert source.claims(mine).to_pylist() == expected.to_pylist()
    one = plan.slice(0, 1)
    assert set(source.claims(one)["image_key"].to_pylist()) == {one["image_key"][0].as_py()}
    assert source.produces == {"null": ("region/category", "text/brief")}
    assert source.order == {"levels": [["null"]], "replacing": {}}


def test_kinds_of_which_no_row_is_kept_are_not_produced(place):
    filtered(place, [{"rule": "min_score", "limits": {"*": 1.0}, "alarm_share": 1}])
    assert stored(place).produces == {"null": ("text/brief",)}


def test_without_labels_nothing_is_said_of_the_images(made):
    source = stored(open_location(str(made / "out")), labels=False)
    assert source.produces == {}
    assert source.order == {"levels": [], "replacing": {}}
    assert source.claims(source.listing().images.slice(0, 2)).num_rows == 0


def test_the_version_named_is_read_and_else_the_current_one(place):
    version = filtered(place, [{"rule": "image_size", "min_side_px": 1000, "alarm_share": 1}])
    with pytest.raises(ConfigError, match=r"no images among 20 entries.*rejected"):
        make_plan(stored(place).listing(), 256)
    assert len(planned(stored(place, version="round-0"))) == 4
    with pytest.raises(ConfigError, match=rf"no label version 'x'; there are: round-0, {version}"):
        stored(place, version="x").listing()


def test_a_version_without_pixels_has_those_of_its_ancestor(place):
    version = filtered(place, [])
    source = stored(place, version=version)
    plan = make_plan(source.listing(), 256).rows
    images = images_by_shard(place, version)[2]
    rows = plan.filter(pc.equal(plan["shard"], 2))
    assert read_shard(source, rows).images["sha256"].equals(images["sha256"])


def test_a_plan_reads_the_version_it_was_made_of(place):
    plan = make_plan(stored(place).listing(), 256).rows
    filtered(place, [{"rule": "min_score", "limits": {"*": 1.0}, "alarm_share": 1}])
    claims = stored(place).claims(plan.slice(0, 2))
    assert set(claims["status"].to_pylist()) == {"kept"}


def test_a_version_that_is_not_finished_is_refused(place):
    content = json.loads((Path(place.root) / "dataset.json").read_text())
    content["versions"]["round-1"] = {"parent": "round-0", "finished": False}
    (Path(place.root) / "dataset.json").write_text(json.dumps(content))
    with pytest.raises(ConfigError, match="version 'round-1' is not finished"):
        stored(place, version="round-1").listing()
    (Path(place.root) / "round-0" / "_done" / "000003.json").unlink()
    with pytest.raises(ConfigError, match="round-0 has 4 of 5 shards; finish it"):
        stored(place).listing()


def test_a_damaged_table_is_told_in_one_line(place):
    source = stored(place)
    plan = make_plan(source.listing(), 256).rows.slice(0, 2)
    for what in ("images", "annotations"):
        (Path(place.root) / "round-0" / f"000000.{what}.parquet").write_bytes(b"PAR1")
    for asked in (lambda: source.claims(plan), lambda: list(source.read(plan, LimitsConfig()))):
        with pytest.raises(ShardError, match=r"000000\.\w+\.parquet is gone or damaged"):
            asked()


def test_a_picture_that_its_tar_lost_or_that_is_too_large_fails_alone(place):
    source = stored(place)
    plan = make_plan(source.listing(), 256).rows.slice(0, 2)
    size = plan["size_bytes"].to_pylist()
    told = list(source.read(plan, LimitsConfig(max_bytes=min(size))))
    assert sorted(getattr(each, "cause", "fine") for each in told) == ["fine", "too_many_bytes"]
    folder = Path(place.root) / "round-0"
    shutil.copy(folder / "000002.tar", folder / "000000.tar")
    told = list(source.read(plan, LimitsConfig()))
    assert [each.cause for each in told] == ["missing"] * 2


@pytest.fixture
def bare(tmp_path):
    """A dataset whose tars hold no pictures."""
    return make_dataset(tmp_path, output={"pixels": "none"})


def test_pictures_in_no_tar_are_read_where_the_dataset_was_made_from(bare, tmp_path):
    source = stored(bare)
    plan = make_plan(source.listing(), 256).rows
    rows = plan.filter(pc.equal(plan["shard"], 2))
    assert read_shard(source, rows).images.equals(images_by_shard(bare)[2])
    (tmp_path / "files" / "i.jpg").write_bytes((tmp_path / "files" / "a.jpg").read_bytes())
    (tmp_path / "files" / "j.jpg").unlink()
    told = list(source.read(rows, LimitsConfig()))
    assert [getattr(each, "cause", "fine") for each in told] == ["changed", "missing", "fine"]


def test_a_dataset_of_a_dataset_without_pixels_still_finds_them(bare, tmp_path):
    source = {"uri": bare.uri, "kind": "dataset"}
    two = [{"kind": "null", "name": "two"}]
    annotate(job_of(source, tmp_path / "next", two, output={"pixels": "none"}), Observer())
    far = stored(open_location(str(tmp_path / "next")))
    rows = make_plan(far.listing(), 256).rows.slice(0, 2)
    assert read_shard(far, rows).images.equals(images_by_shard(bare)[0])


def test_pictures_of_an_archive_are_found_by_their_place(tmp_path, made):
    shutil.copy(made / "out" / "round-0" / "000003.tar", tmp_path / "x.tar")
    source, bare = {"uri": str(tmp_path / "x.tar")}, {"pixels": "none"}
    annotate(job_of(source, tmp_path / "bare", [], output=bare), Observer())
    place = open_location(str(tmp_path / "bare"))
    rows = make_plan(stored(place).listing(), 256).rows
    assert rows.num_rows == 4
    assert read_shard(stored(place), rows).images.equals(images_by_shard(place)[0])


def test_pictures_that_are_nowhere_are_refused_when_the_dataset_is_listed(bare):
    (Path(bare.root) / "config.yaml").write_text("source: [")
    with pytest.raises(ConfigError, match="hold no pictures, and where they came from cannot be"):
        stored(bare).listing()
    content = json.loads((Path(bare.root) / "dataset.json").read_text())
    content["versions"]["round-0"]["made_by"] = "import"
    (Path(bare.root) / "dataset.json").write_text(json.dumps(content))
    labels = {"source": {"uri": "a.json", "kind": "coco"}, "output": {"uri": "x"}}
    (Path(bare.root) / "config.yaml").write_text(yaml.safe_dump(labels))
    with pytest.raises(ConfigError, match=r"was never said; `fld import` the labels with source"):
        stored(bare).listing()


def test_pictures_of_imported_labels_are_read_from_their_folder(bare, tmp_path):
    content = json.loads((Path(bare.root) / "dataset.json").read_text())
    content["versions"]["round-0"]["made_by"] = "import"
    (Path(bare.root) / "dataset.json").write_text(json.dumps(content))
    labels = {"uri": "a.json", "kind": "coco", "images": str(tmp_path / "files")}
    raw = {"source": labels, "output": {"uri": "x"}}
    (Path(bare.root) / "config.yaml").write_text(yaml.safe_dump(raw))
    rows = make_plan(stored(bare).listing(), 256).rows.slice(0, 2)
    assert not any(isinstance(each, ReadError) for each in stored(bare).read(rows, LimitsConfig()))


def test_a_dataset_is_no_part_of_a_mixture_and_not_its_own_output(made, tmp_path):
    source = {"uri": str(made / "out"), "kind": "dataset"}
    with pytest.raises(ConfigError, match=r"source 'x': a dataset keeps its own keys and shards"):
        source_of(job_of({"sources": [{"name": "x", **source}]}, tmp_path, []).config)
    job = job_of(source, made / "files" / ".." / "out", [{"kind": "null", "name": "b"}])
    with pytest.raises(ConfigError, match="is the dataset that is read; name another folder"):
        annotate(job, Observer(), overwrite=True)
    assert (made / "out" / "dataset.json").exists()


def test_images_of_old_shards_cannot_be_appended_to_a_plan(made):
    listing = stored(open_location(str(made / "out"))).listing()
    assert make_plan(listing, 1, first_shard=0).rows["shard"].to_pylist()[-1] == 3
    with pytest.raises(ConfigError, match="images in shard 0 that were not there"):
        make_plan(listing, 1, first_shard=4)


def test_new_shards_of_the_dataset_are_new_shards_of_what_was_made_of_it(tmp_path):
    place, null = make_dataset(tmp_path, {"kind": "null"}), {"kind": "null"}
    source, other = {"uri": place.uri, "kind": "dataset"}, [null | {"name": "b"}]
    following = job_of(source, tmp_path / "next", other)
    annotate(following, Observer())
    before = rows_of(open_location(str(tmp_path / "next"))).to_pylist()
    content = hostile.encoded(hostile.photo(64, 48, 99), "JPEG")
    (tmp_path / "files" / "z.jpg").write_bytes(content)
    files = {"uri": str(tmp_path / "files"), "shard_size": 4}
    annotate(job_of(files, tmp_path / "out", [null]), Observer(), extend=True)
    annotate(following, Observer(), extend=True)
    found = images_by_shard(open_location(str(tmp_path / "next")))
    assert {shard: table["uri"].to_pylist() for shard, table in found.items() if shard > 3} == {
        4: [],
        5: ["z.jpg"],
    }
    assert rows_of(open_location(str(tmp_path / "next"))).to_pylist()[: len(before)] == before


@pytest.mark.parametrize("runner", EITHER_RUNNER)
def test_another_specialist_adds_its_rows_to_those_of_the_dataset(made, tmp_path, runner):
    place = open_location(str(made / "out"))
    entry = {"kind": "null", "name": "two", "num_rows": 1, "after": ["text/brief"]}
    source = {"uri": place.uri, "kind": "dataset"}
    job = job_of(source, tmp_path / "next", [entry], runner={"kind": runner, "batch_size": 2})
    run = annotate(job, Observer())
    assert run.totals.images == {"ok": 9, "failed": 0, "duplicate": 0, "rejected": 0}
    found = open_location(str(tmp_path / "next"))
    for shard, images in images_by_shard(place).items():
        if shard < 4:
            assert images_by_shard(found)[shard].equals(images)
    rows = rows_of(found)
    old = rows.filter(pc.equal(rows["source"].cast(pa.string()), "null"))
    assert old.to_pylist() == rows_of(place).to_pylist()
    assert rows.num_rows == old.num_rows + 9
    assert read_versions(found)[0]["round-0"].levels == [["null"], ["two"]]


def test_rows_that_rest_on_superseded_ones_stay_and_a_filter_changes_nothing(tmp_path):
    twins = [{"kind": "null", "name": name, "num_rows": 1} for name in ("one", "two")]
    place = make_dataset(tmp_path, *twins, {"kind": "consensus"})
    assert {"kept", "superseded"} == set(rows_of(place)["status"].to_pylist())
    three = [{"kind": "null", "name": "three", "num_rows": 1, "after": ["region/category"]}]
    annotate(job_of({"uri": place.uri, "kind": "dataset"}, tmp_path / "next", three), Observer())
    found = open_location(str(tmp_path / "next"))
    rows = rows_of(found)
    old = rows.filter(pc.not_equal(rows["source"].cast(pa.string()), "three"))
    assert old.to_pylist() == rows_of(place).to_pylist()
    assert rows_of(found, filtered(found, [])).to_pylist() == rows.to_pylist()


def test_a_retry_keeps_the_rows_of_the_dataset_once(made, tmp_path):
    config = job_of({"uri": str(made / "out"), "kind": "dataset"}, tmp_path / "next", []).config
    teller = Teller(requires=("text",), fails_on="i-", mended=str(tmp_path / "mended"))
    job = Job(config, [teller], ())
    assert annotate(job, Observer()).totals.failures == {"teller/refused": 1}
    before = rows_of(open_location(str(tmp_path / "next")))
    (tmp_path / "mended").touch()
    run = annotate(job, Observer(), retry_failed=True)
    assert run.totals.failures == {}
    after = rows_of(open_location(str(tmp_path / "next")))
    assert after.num_rows == before.num_rows + 1
    mine = [row for row in after.to_pylist() if row["image_key"].startswith("i-")]
    [told] = [row for row in mine if row["source"] == "teller"]
    assert told["parents"] == [row["annotation_id"] for row in mine if row["kind"] == "text"]


def test_a_specialist_named_like_a_source_of_the_dataset_is_refused(made, tmp_path):
    job = job_of({"uri": str(made / "out"), "kind": "dataset"}, tmp_path, [{"kind": "null"}])
    with pytest.raises(ConfigError, match="'null' is also the name of the source"):
        annotate(job, Observer())


def test_a_table_damaged_under_a_run_stops_it(place, tmp_path):
    (Path(place.root) / "round-0" / "000000.annotations.parquet").write_bytes(b"PAR1")
    job = job_of(
        {"uri": place.uri, "kind": "dataset"}, tmp_path / "n", [{"kind": "null", "name": "b"}]
    )
    with pytest.raises(StoppedError, match=r"annotations\.parquet is gone or damaged"):
        annotate(job, Observer())


def test_the_command_annotates_a_dataset_by_its_config_alone(made, tmp_path, monkeypatch, capsys):
    path = tmp_path / "again.yaml"
    content = {
        "source": {"uri": str(made / "out"), "kind": "dataset", "version": "round-0"},
        "output": {"uri": str(tmp_path / "next")},
        "specialists": [{"kind": "composer"}],
        "runner": {"kind": "serial"},
    }
    path.write_text(yaml.safe_dump(content), encoding="utf-8")
    monkeypatch.setattr(sys, "argv", ["fld", "annotate", str(path)])
    with pytest.raises(SystemExit) as ended:
        cli.main()
    assert not ended.value.code, capsys.readouterr().err
    rows = rows_of(open_location(str(tmp_path / "next"))).to_pylist()
    regions = {r["annotation_id"] for r in rows if r["kind"] == "region"}
    composed = [r for r in rows if r["source"] == "composer"]
    assert {parent for row in composed for parent in row["parents"]} == regions
    assert pq.read_table(tmp_path / "next" / "plan.parquet").num_rows == 9
