"""`fld filter` on a dataset: versions beside each other, undone, resumed, equal on any runner."""

import hashlib
import json
import shutil
import signal
import subprocess
import sys
import tarfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest

from engine.compose import compose
from engine.config import RunnerConfig, parse_config
from engine.errors import ConfigError, StoppedError
from engine.filtering import Filtering, filter_dataset
from engine.job import Observer
from engine.judge import RuleEntry
from engine.reading import read_tables
from engine.run import annotate
from engine.schema import Verdicts
from engine.source.filesystem import open_location
from engine.versions import find_version, read_versions, undo

RULES = [
    {"rule": "min_score", "limits": {"*": 0.4}},
    {"rule": "min_area", "min_area_px": 4000},
    {"rule": "duplicate_region", "iou": 0.2},
]
STRICTER = [{"rule": "min_score", "limits": {"*": 0.8}}]


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """Datasets made once, by what is asked of them."""
    return tmp_path_factory.mktemp("made")


@pytest.fixture
def dataset(made, tmp_path):
    """A copy of a dataset of null and composer, in `out`."""

    def copy(*, rules=RULES, num_images=20, num_rows=8):
        name = hashlib.sha256(json.dumps([rules, num_images, num_rows]).encode()).hexdigest()
        if not (made / name).exists():
            annotated(made / name, rules, num_images, num_rows)
        shutil.copytree(made / name / "out", tmp_path / "out")
        return open_location(str(tmp_path / "out"))

    return copy


def annotated(tmp_path, rules, num_images, num_rows):
    raw = {
        "source": {"uri": "synthetic", "num_images": num_images, "shard_size": 5},
        "output": {"uri": str(tmp_path / "out")},
        "specialists": [{"kind": "null", "num_rows": num_rows}, {"kind": "composer"}],
        "rules": rules,
        "runner": {"kind": "serial"},
    }
    annotate(compose(parse_config(raw, (), "test")), Observer())


def filtering(place, rules=RULES, **options):
    raw = {"source": {"uri": place.uri}, "rules": rules}
    made = compose(parse_config(raw, (), "test"))
    said = {"rules": made.rules, "options": made.config.rules}
    runner = options.pop("runner", RunnerConfig(kind="serial"))
    return Filtering(output=place, runner=runner, **{**said, **options})


def digests(place, version):
    folder = Path(place.root) / version
    return {
        str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def table(place, version):
    tables = [annotations for _, _, annotations in read_tables(place, version)]
    return pa.concat_tables(tables).unify_dictionaries()


def tables_of(place, version):
    return {name: d for name, d in digests(place, version).items() if name.endswith("parquet")}


def test_the_rules_of_the_run_change_no_verdict_of_a_fresh_dataset(dataset):
    place = dataset()
    found = filter_dataset(filtering(place))
    assert found.name == "round-0.filter-1"
    assert tables_of(place, found.name) == tables_of(place, "round-0")
    assert set(table(place, found.name)["rule"].to_pylist()) >= {"min_score", "min_area", None}


def test_a_filter_writes_a_version_beside_the_old_one_and_undo_goes_back(tmp_path, dataset):
    place = dataset()
    before = digests(place, "round-0")
    filter_dataset(filtering(place, STRICTER))
    assert find_version(place, None)[0] == "round-0.filter-1"
    assert digests(place, "round-0") == before
    assert undo(place) == ("round-0.filter-1", "round-0")
    assert find_version(place, None)[0] == "round-0"
    with pytest.raises(ConfigError, match="'round-0' is the first version"):
        undo(place)


def test_a_second_filter_with_the_same_rules_writes_the_same_bytes(tmp_path, dataset):
    place = dataset()
    first = filter_dataset(filtering(place, STRICTER)).name
    second = filter_dataset(filtering(place, STRICTER)).name
    assert (first, second) == ("round-0.filter-1", "round-0.filter-2")
    assert digests(place, first) == digests(place, second)


def test_claims_that_a_looser_rule_keeps_come_back(tmp_path, dataset):
    place = dataset()
    filter_dataset(filtering(place, STRICTER))
    found = filter_dataset(filtering(place, []))
    kept = pc.equal(table(place, found.name)["status"].cast("string"), "kept")
    assert pc.all(kept).as_py()
    counts = {name: found.after.annotations[name] for name in found.after.annotations}
    assert counts["null/region/category/kept"] == 160


def test_only_one_rule_leaves_the_other_verdicts(tmp_path, dataset):
    place = dataset()
    loose = [{"rule": "min_score", "limits": {"*": 0.0}}, *RULES[1:]]
    found = filter_dataset(filtering(place, loose, only=["min_score"]))
    old, new = table(place, "round-0")["rule"], table(place, found.name)["rule"]
    stays = pc.is_in(old.cast("string"), pa.array(["min_area", "duplicate_region"]))
    assert pc.sum(stays).as_py() > 0
    assert old.filter(stays).to_pylist() == new.filter(stays).to_pylist()
    assert "min_score" in old.to_pylist()
    assert "min_score" not in new.to_pylist()
    with pytest.raises(ConfigError, match="--only 'nothing': the config has no such rule; it has"):
        filter_dataset(filtering(place, only=["nothing"]))


def test_a_dry_run_tells_what_would_come_and_writes_nothing(tmp_path, dataset):
    place = dataset()
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()}
    told = filter_dataset(filtering(place, STRICTER), dry_run=True)
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out").rglob("*") if p.is_file()} == before
    real = filter_dataset(filtering(place, STRICTER))
    assert told.after.annotations == real.after.annotations
    assert told.classes == real.classes


@pytest.mark.ray
def test_ray_and_serial_write_the_same_bytes(tmp_path, dataset):
    place = dataset()
    serial = filter_dataset(filtering(place, STRICTER)).name
    ray = filter_dataset(filtering(place, STRICTER, runner=RunnerConfig(kind="ray"))).name
    assert digests(place, serial) == digests(place, ray)


@pytest.mark.parametrize("pixels", [False, True])
def test_pixels_are_copied_only_where_asked(tmp_path, dataset, pixels):
    place = dataset()
    name = filter_dataset(filtering(place, STRICTER, pixels=pixels)).name
    with tarfile.open(f"{place.root}/{name}/000000.tar") as tar:
        listed = tar.getnames()
    endings = {member.rpartition(".")[2] for member in listed}
    assert endings == ({"json", "jpg"} if pixels else {"json"})
    assert len([member for member in listed if member.endswith("json")]) == 5


def test_pixels_are_found_in_the_version_that_has_them(tmp_path, dataset):
    place = dataset()
    filter_dataset(filtering(place, STRICTER))
    name = filter_dataset(filtering(place, pixels=True)).name
    assert digests(place, name)["000000.tar"] == digests(place, "round-0")["000000.tar"]


def test_a_dataset_that_is_not_finished_is_refused(tmp_path, dataset):
    place = dataset()
    (tmp_path / "out" / "round-0" / "_done" / "000002.json").unlink()
    with pytest.raises(ConfigError, match="round-0 has 3 of 4 shards; finish it"):
        filter_dataset(filtering(place))


def test_an_extended_dataset_is_filtered_whole_from_the_version_that_has_it_all(tmp_path, dataset):
    place = dataset()
    name = filter_dataset(filtering(place, STRICTER)).name
    (tmp_path / "out" / name / "_done" / "000003.json").unlink()  # as if it had come later
    with pytest.raises(ConfigError, match=r"round-0\.filter-1 has 3 of 4 shards; finish"):
        filter_dataset(filtering(place, only=["min_score"]))
    found = filter_dataset(filtering(place, STRICTER))
    assert found.parent == "round-0"
    assert len(list((tmp_path / "out" / found.name / "_done").iterdir())) == 4


def test_a_rule_that_rejects_nearly_everything_stops_the_filter(tmp_path, dataset):
    place = dataset(rules=[], num_images=40, num_rows=50)
    strict = {"rule": "min_score", "limits": {"*": 1.0}}
    for _ in range(6):  # more often than there are shards: patience lifts no alarm
        with pytest.raises(StoppedError, match=r"'min_score' rejected 9[5-9].*% of .*alarm_share"):
            filter_dataset(filtering(place, [strict]))
    versions, current = read_versions(place)
    assert current == "round-0"
    assert not versions["round-0.filter-1"].finished
    filter_dataset(filtering(place, [{**strict, "alarm_share": 1}]))
    assert read_versions(place)[1] == "round-0.filter-1"


def test_a_killed_filter_is_finished_by_the_same_command(tmp_path, dataset):
    place = dataset(num_images=200)
    whole = filter_dataset(filtering(place, STRICTER)).name
    undo(place)
    command = [sys.executable, "-m", "engine.cli", "filter", f"source.uri={place.root}"]
    command += ['rules=[{rule: min_score, limits: {"*": 0.9}}]', "runner.kind=serial"]
    done = tmp_path / "out" / "round-0.filter-2" / "_done"
    running = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (done.is_dir() and len(list(done.iterdir())) >= 3):
        assert time.monotonic() < deadline
        assert running.poll() is None
        time.sleep(0.005)
    running.send_signal(signal.SIGKILL)
    running.wait()
    committed = len(list(done.iterdir()))
    assert 3 <= committed < 40
    subprocess.run(command, check=True, capture_output=True, timeout=300)
    assert read_versions(place)[1] == "round-0.filter-2"
    assert not (tmp_path / "out" / "round-0.filter-3").exists()
    assert len(list(done.iterdir())) == 40
    undisturbed = filter_dataset(
        filtering(place, [{"rule": "min_score", "limits": {"*": 0.9}}])
    ).name
    assert digests(place, undisturbed) == digests(place, "round-0.filter-2")
    assert digests(place, whole) != digests(place, undisturbed)


@dataclass(frozen=True, kw_only=True)
class CommonClass:
    """Rejects the class that the whole dataset names most often."""

    name: ClassVar[str] = "common_class"
    applies_to: ClassVar[tuple[str, ...]] = ("region",)

    def measure(self, tables):
        return pa.table({"text": tables.annotations["text"]})

    def reduce(self, measured):
        counts = measured.group_by("text").aggregate([([], "count_all")])
        return counts.sort_by([("count_all", "descending"), ("text", "ascending")]).slice(0, 1)

    def judge(self, tables, context):
        most = context.decisions["text"][0].as_py()
        return Verdicts(pc.equal(tables.annotations["text"], most).combine_chunks())


def test_a_rule_over_the_whole_dataset_decides_once_for_all_shards(tmp_path, dataset):
    place = dataset(rules=[])
    rules = [RuleEntry(CommonClass())]
    job = filtering(place, [])
    found = filter_dataset(Filtering(output=place, rules=rules, options=[], runner=job.runner))
    lost = table(place, found.name).filter(
        pc.equal(table(place, found.name)["rule"].cast("string"), "common_class")
    )
    whole = table(place, "round-0").filter(
        pc.equal(table(place, "round-0")["kind"].cast("string"), "region")
    )
    names, counts = np.unique(whole["text"].to_pylist(), return_counts=True)
    assert set(lost["text"].to_pylist()) == {names[np.argmax(counts)]}
    assert lost.num_rows == counts.max()
    content = json.loads((tmp_path / "out" / "dataset.json").read_text())
    assert len(content["versions"][found.name]["decisions"]["common_class"]) == 64


FREQUENT = [{"rule": "frequent_text", "roles": ["region/category"], "max_images": 12}]


def test_a_rule_over_the_whole_dataset_decides_the_same_when_it_is_asked_again(tmp_path, dataset):
    """What it had rejected counts again, or it would come back."""
    place = dataset(rules=[])
    first = filter_dataset(filtering(place, FREQUENT))
    assert 0 < first.after.rules["frequent_text"].rejected < 160
    second = filter_dataset(filtering(place, FREQUENT))
    assert tables_of(place, first.name) == tables_of(place, second.name)
    only = filter_dataset(filtering(place, FREQUENT, only=["frequent_text"]))
    assert tables_of(place, only.name) == tables_of(place, first.name)


@dataclass(frozen=True, kw_only=True)
class SmallImage:
    """Rejects images that are less wide than a limit."""

    width: int
    name: ClassVar[str] = "small_image"
    applies_to: ClassVar[tuple[str, ...]] = ("image",)

    def judge(self, tables, context):
        widths = tables.images["width"]
        return Verdicts(
            pc.less(widths, self.width).combine_chunks(),
            measured=pc.cast(widths, pa.float32()).combine_chunks(),
            limit=float(self.width),
        )


def test_an_image_rule_takes_its_rows_with_it_and_gives_them_back(tmp_path, dataset):
    place = dataset(rules=[])
    runner = RunnerConfig(kind="serial")
    all_of_them = Filtering(
        output=place,
        rules=[RuleEntry(SmallImage(width=10_000)), *filtering(place, []).rules],
        options=[],
        runner=runner,
    )
    found = filter_dataset(all_of_them)
    assert found.after.images == {"ok": 0, "failed": 0, "duplicate": 0, "rejected": 20}
    judged = table(place, found.name)
    assert set(judged["rule"].to_pylist()) == {"orphan"}
    assert judged["against"].to_pylist() == judged["image_key"].to_pylist()
    images = pq.read_table(f"{place.root}/{found.name}/000000.images.parquet")
    assert set(images["rule"].to_pylist()) == {"small_image"}
    assert set(images["limit"].to_pylist()) == {10_000.0}
    back = filter_dataset(filtering(place, []))
    assert tables_of(place, back.name) == tables_of(place, "round-0")


def test_the_levels_of_a_run_are_kept_for_the_versions_made_of_it(tmp_path, dataset):
    place = dataset()
    name = filter_dataset(filtering(place)).name
    versions, _ = read_versions(place)
    assert versions[name].levels == [["null"], ["composer"]] == versions["round-0"].levels
