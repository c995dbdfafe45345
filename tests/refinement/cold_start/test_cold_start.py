"""A small set of a new kind of annotation becomes rows on every image, as a version of its own."""

import io
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from rich.console import Console

from engine.cold_start_command import run_cold_start
from engine.config import LimitsConfig, RunnerConfig
from engine.dataset import totals_of
from engine.errors import ConfigError, StoppedError
from engine.filtering import Filtering, filter_dataset
from engine.formats.florence2_tasks import TASKS
from engine.job import Observer
from engine.judge import RuleEntry
from engine.reading import read_tables
from engine.source.filesystem import open_location
from engine.versions import find_version, read_versions, undo
from filters import RULES
from refinement.cold_start.gold import GoldSet
from refinement.cold_start.start import ColdJob, cold_start, refined_checkpoint
from refinement.cold_start.tasks import find_cold_task
from refinement.pairs.options import PairOptions
from refinement.series import Round, Series
from refinement.training.options import TrainOptions
from tests.faults.commands import ROOT
from tests.refinement.cold_starts import (
    DETAILED,
    NUM_IMAGES,
    config_of,
    lines,
    place,
    scene_name,
    start,
    write_gold,
)

VERSION = "cold-detailed"
# What a cold start leaves: its files, its version, and the roll-up of its markers.
BESIDE = shutil.ignore_patterns("_refine", VERSION, f"{VERSION}.*")
BOX = "<loc_200><loc_200><loc_700><loc_700>"


@pytest.fixture(scope="module")
def made(tmp_path_factory, untrained):
    """A dataset after one cold start, and what was said of it."""
    folder = tmp_path_factory.mktemp("cold")
    write_gold(folder / "gold.jsonl")
    told = io.StringIO()
    found = start(folder, untrained, out=Console(file=told, width=300))
    return folder, found, told.getvalue()


@pytest.fixture
def folder(made, tmp_path):
    shutil.copytree(made[0], tmp_path / "cold")
    return tmp_path / "cold"


@pytest.fixture
def fresh(made, tmp_path):
    """The same before the cold start."""
    shutil.copytree(made[0], tmp_path / "cold", ignore=BESIDE)
    file = tmp_path / "cold" / "out" / "dataset.json"
    content = json.loads(file.read_text())
    del content["versions"][VERSION]
    file.write_text(json.dumps({**content, "current": "round-0"}))
    return tmp_path / "cold"


def rows_of(folder, version):
    tables = [rows for _, _, rows in read_tables(place(folder), version)]
    return pa.concat_tables(tables).to_pylist()


def files_of(folder):
    """Bytes of everything of the version, and its name in dataset.json."""
    root = folder / "out" / VERSION
    found = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}
    return found, json.loads((folder / "out" / "dataset.json").read_text())


def test_every_image_gets_a_row_of_what_was_learned(made):
    folder, found, told = made
    new = [row for row in rows_of(folder, VERSION) if row["source"] == "cold_detailed"]
    assert len({row["image_key"] for row in new}) == NUM_IMAGES
    assert {(row["kind"], row["role"], row["text"], row["status"]) for row in new} == {
        ("text", "detailed", "red dog", "kept")
    }
    assert {row["prompt"] for row in new} == {DETAILED}
    assert all(row["text_score"] is not None and not row["human"] for row in new)
    assert found.rows == {"kept": NUM_IMAGES}
    assert read_versions(place(folder))[1] == VERSION
    assert (
        f"{VERSION} is the current version, made from round-0; `fld filter --undo` goes back"
        in told
    )
    assert "learned from here, and measures nothing" in told


def test_no_claim_or_verdict_of_before_changes(made):
    folder, _, _ = made
    old = [row for row in rows_of(folder, VERSION) if row["source"] != "cold_detailed"]
    assert old
    assert old == rows_of(folder, "round-0")


def test_the_same_command_again_changes_nothing(made, folder, untrained):
    before = files_of(folder)
    trained = folder / "out/_refine" / VERSION / "training/model/model.safetensors"
    time = trained.stat().st_mtime_ns
    lifted = {"refine": config_of(folder, untrained).refine}
    lifted["refine"]["predictor"]["quiet_limit"] = 2  # an alarm changes no row
    again = start(folder, untrained, **lifted)
    assert (again.version, again.rows, again.is_current) == (VERSION, made[1].rows, True)
    assert files_of(folder) == before
    assert trained.stat().st_mtime_ns == time


def test_an_alarm_stops_it_until_it_is_lifted(fresh, untrained, monkeypatch):
    monkeypatch.setattr("engine.judge.ALARM_MIN_ROWS", NUM_IMAGES // 2)
    harsh = {"rule": "min_tokens", "limits": {"text": 9}}
    stored = {"source": {"uri": str(fresh / "out")}, "output": {}}
    for _ in range(4):  # more often than there are shards: patience lifts no alarm
        with pytest.raises(StoppedError, match="'min_tokens' rejected"):
            start(fresh, untrained, rules=[harsh], **stored)
    assert read_versions(place(fresh))[1] == "round-0"
    found = start(fresh, untrained, rules=[{**harsh, "alarm_share": 1}], **stored)
    assert found.rows == {"rejected": NUM_IMAGES}


def test_it_can_be_undone_and_taken_up_again(folder, untrained):
    assert undo(place(folder)) == (VERSION, "round-0")
    assert start(folder, untrained).is_current
    versions, current = read_versions(place(folder))
    assert (list(versions), current) == (["round-0", VERSION], VERSION)


def test_a_filter_by_the_same_rules_changes_no_verdict(folder):
    _, version = find_version(place(folder), None)
    rules = [RuleEntry(RULES.find(name)()) for name in ("invalid_box", "orphan")]
    runner = RunnerConfig(kind="serial")
    assert [rule["rule"] for rule in version.rules] == [entry.rule.name for entry in rules]
    filtered = filter_dataset(
        Filtering(output=place(folder), rules=rules, options=version.rules, runner=runner)
    )
    assert filtered.name == f"{VERSION}.filter-1"
    assert rows_of(folder, filtered.name) == rows_of(folder, VERSION)


def test_a_killed_one_resumes_to_the_same_bytes(made, fresh, untrained):
    """What kills a training or a prediction has tests of its own."""
    trained = Path("out/_refine", VERSION, "training")
    shutil.copytree(made[0] / trained, fresh / trained)
    command = [sys.executable, "-m", "tests.refinement.cold_starts", str(fresh), str(untrained)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    run = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False)
    assert run.returncode == -signal.SIGKILL, run.stderr
    assert [p.stem for p in (fresh / "out" / VERSION / "_done").iterdir()] == ["000000"]
    with pytest.raises(ConfigError, match="not finished"):
        find_version(place(fresh), VERSION)
    assert start(fresh, untrained).rows == made[1].rows
    assert files_of(fresh) == files_of(made[0])


def test_another_kind_comes_on_top_and_its_places_need_no_pictures(folder, untrained):
    gold = folder / "boxes.jsonl"
    spelled = ("/photos/{}.png", "elsewhere/{}.png", "{}", "s3://bucket/a/../{}.png?v=1")
    names = [spelled[n % 4].format(Path(scene_name(n)).stem) for n in range(12)]
    told = [(name, "<OD>", f"dog{BOX}") for name in names]
    gold.write_text(lines(*told, ("not-there.png", "<OD>", f"dog{BOX}")))
    found = start(folder, untrained, kind="objects", gold=gold)
    assert (found.version, found.parent, found.lost) == ("cold-objects", VERSION, 1)
    rows = rows_of(folder, "cold-objects")
    assert [row for row in rows if row["source"] != "cold_objects"] == rows_of(folder, VERSION)
    new = [row for row in rows if row["source"] == "cold_objects"]
    assert {row["text"] for row in new} == {"dog"}
    assert find_version(place(folder), None)[1].levels[1:] == [["cold_detailed"], ["cold_objects"]]


def refuse_model(folder, gold):
    """All up to the training, which has no checkpoint to start from."""
    job = ColdJob(
        output=place(folder),
        folder=folder / "out" / "_refine",
        task=TASKS["detailed_caption"],
        gold=GoldSet(uri=str(gold), limits=LimitsConfig()),
        model="/nowhere/model",
        pairs=PairOptions(valid_share=0),
        training=TrainOptions(),
        predictor=lambda model, name: pytest.fail("nothing is trained"),
        rules=[],
        rule_options=[],
        identity={"other": True},
        runner=RunnerConfig(kind="serial"),
    )
    with pytest.raises(ConfigError, match="no such folder"):
        cold_start(job, Observer())


def test_other_labels_of_the_same_kind_are_another_specialist(folder):
    gold = folder / "more.jsonl"
    gold.write_text(lines((scene_name(20), DETAILED, "blue")))
    before = files_of(folder)
    refuse_model(folder, gold)
    record = json.loads((folder / "out/_refine/cold-detailed-2/job.json").read_text())
    assert (record["parent"], record["source"]) == (VERSION, "cold_detailed_2")
    assert files_of(folder) == before


def test_what_a_killed_one_left_is_not_taken_for_another_set(made, fresh):
    left = Path("out/_refine", VERSION, "gold")
    shutil.copytree(made[0] / left, fresh / left)  # killed before it was noted whose it is
    (fresh / "gold.jsonl").write_text(lines((scene_name(20), DETAILED, "blue")))
    refuse_model(fresh, fresh / "gold.jsonl")
    assert totals_of(open_location(str(fresh / left)), "round-0").images["ok"] == 1


def test_a_dataset_may_teach(made, fresh):
    gold = made[0] / "out/_refine" / VERSION / "gold"
    before = {path: path.read_bytes() for path in gold.rglob("*") if path.is_file()}
    refuse_model(fresh, gold)
    pairs = json.loads((fresh / "out/_refine" / VERSION / "pairs/pairs.json").read_text())
    assert pairs["counts"]["examples"] == {"detailed_caption": 12}
    assert {path: path.read_bytes() for path in gold.rglob("*") if path.is_file()} == before


REFUSED = {
    "empty": ("", "is empty"),
    "nothing known": ("words", "in a format that is recognised"),
    "another kind": (
        lines((scene_name(0), "<CAPTION>", "a dog")),
        "nothing in it teaches 'detailed_caption', .*text/detailed; found: text/brief 1",
    ),
    "no word": (lines((scene_name(0), DETAILED, "")), "found: nothing at all"),
    "other images": (
        lines(("cat.png", DETAILED, "a dog")),
        "has none of its images, which are named like 'cat.png'",
    ),
}


@pytest.mark.parametrize(("content", "message"), REFUSED.values(), ids=REFUSED)
def test_a_set_that_teaches_nothing_is_refused_and_leaves_nothing(
    fresh, untrained, content, message
):
    (fresh / "gold.jsonl").write_text(content)
    with pytest.raises(ConfigError, match=message):
        start(fresh, untrained)
    assert not (fresh / "out/_refine" / VERSION / "job.json").exists()
    assert list(read_versions(place(fresh))[0]) == ["round-0"]


def test_pictures_that_are_named_must_be_there(fresh, untrained):
    (fresh / "pictures").mkdir()
    with pytest.raises(ConfigError, match="none of its 12 images can be used, the first because"):
        start(fresh, untrained, images=str(fresh / "pictures"))


def test_a_kind_that_is_none_is_refused_by_its_nearest(fresh, untrained):
    with pytest.raises(ConfigError, match=r"'detaild' is no kind of annotation; .*'detailed'"):
        start(fresh, untrained, kind="detaild")


@pytest.mark.parametrize(
    ("name", "task"),
    [("brief", "caption"), ("objects", "od"), ("<OD>", "od"), ("ocr", "ocr_with_region")],
)
def test_a_kind_is_named_by_role_or_task(name, task):
    assert find_cold_task(name) is TASKS[task]


def test_what_measures_is_not_learned_from(fresh, untrained):
    config = config_of(fresh, untrained, gold={"uri": str(fresh / "gold.jsonl")})
    spelled = f"{fresh}/../{fresh.name}/gold.jsonl"
    with pytest.raises(ConfigError, match="measures and never trains"):
        run_cold_start(config, "detailed", spelled, Observer(), Console(file=io.StringIO()))


def test_the_dataset_does_not_teach_itself(fresh, untrained):
    with pytest.raises(ConfigError, match="is the dataset that is to be annotated"):
        start(fresh, untrained, gold=fresh / "out")


def test_without_training_nothing_is_learned(fresh, untrained):
    with pytest.raises(ConfigError, match=r"refine\.train is null, and a cold start trains"):
        start(fresh, untrained, refine={"train": None})


def test_a_checkpoint_that_is_missing_is_named(fresh, tmp_path):
    with pytest.raises(ConfigError, match="nowhere: no such folder"):
        start(fresh, tmp_path / "nowhere")
    with pytest.raises(ConfigError, match="no checkpoint to start from"):
        refined_checkpoint(place(fresh), None)


def test_the_checkpoint_of_the_rounds_comes_first(fresh, untrained):
    output, other = place(fresh), str(fresh)
    first = Round(round=0, version="round-0")
    series = Series(identity={"refine": {"train": {}}}, rounds=(first,))
    series.save(output)
    with pytest.raises(ConfigError, match="its refinement has not ended"):
        refined_checkpoint(output, other)
    rounds = (first, Round(round=1, version="round-1"))
    Series(identity=series.identity, rounds=rounds, ended="enough").save(output)
    with pytest.raises(ConfigError, match="left no checkpoint yet"):
        refined_checkpoint(output, other)
    Series(identity={}, rounds=rounds, ended="enough", model=str(untrained)).save(output)
    assert refined_checkpoint(output, other) == str(untrained)
    Series(identity={}, rounds=rounds, ended="enough", model="/nowhere/model").save(output)
    with pytest.raises(ConfigError, match="/nowhere/model, is gone"):
        refined_checkpoint(output, other)
    rolled_back = Round(round=1, version="round-1", accepted=False)
    Series(identity={}, rounds=(first, rolled_back), ended="worse").save(output)
    assert refined_checkpoint(output, other) == other
