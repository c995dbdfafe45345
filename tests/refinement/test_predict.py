"""A specialist over a label version: its keys, shards and rows, whatever stops it on the way."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pyarrow as pa
import pyarrow.compute as pc
import pytest

from engine.config import RunnerConfig
from engine.errors import ConfigError
from engine.filtering import Filtering, filter_dataset
from engine.judge import RuleEntry
from engine.reading import read_tables
from engine.source.filesystem import open_location
from filters import RULES
from refinement.predict import read_predictions
from tests.faults.commands import ROOT, data_files
from tests.faults.fixtures import EITHER_RUNNER
from tests.predicting import predict_in
from tests.stored_dataset import OK, make_dataset
from tests.teller import Teller


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    folder = tmp_path_factory.mktemp("predicted")
    make_dataset(folder)
    return folder


@pytest.fixture
def folder(made, tmp_path):
    """A dataset in `out`, and room beside it."""
    shutil.copytree(made / "out", tmp_path / "out")
    return tmp_path


def names(keys):
    """Which file each image is."""
    return [key.partition("-")[0] for key in keys]


def kept(folder, version, *kinds):
    """Ids of the kept rows of each image that are of those kinds."""
    found = {}
    for _, _, rows in read_tables(open_location(str(folder / "out")), version):
        for row in rows.to_pylist():
            if row["kind"] in kinds and row["status"] == "kept":
                found.setdefault(row["image_key"], []).append(row["annotation_id"])
    return found


def test_every_image_is_answered_under_its_key_in_its_shard(folder):
    before = data_files(folder / "out")
    done = predict_in(folder, Teller(requires=("text",)))
    assert data_files(folder / "out") == before
    assert (done.failed, done.counts.num_images) == ((), 9)
    texts = kept(folder, "round-0", "text")
    for shard, expected in OK.items():
        claims, answered = read_predictions(done.place, shard)
        assert names(answered.to_pylist()) == expected
        assert claims["image_key"].to_pylist() == answered.to_pylist()
        assert set(claims["source"].to_pylist()) <= {"teller"}
        assert claims["score"].null_count == len(expected)
        for key, parents in zip(answered.to_pylist(), claims["parents"].to_pylist(), strict=True):
            assert parents == texts[key]


def test_pictures_and_views_stay_where_they_are(folder):
    place = predict_in(folder).place
    assert {path.stat().st_size for path in Path(place.root).rglob("*.tar")} == {10240}  # empty


def test_images_it_fails_on_are_not_among_the_answered(folder):
    done = predict_in(folder, Teller(fails_on="j-"))
    assert names(done.failed) == ["j"]
    claims, answered = read_predictions(done.place, 2)
    assert names(answered.to_pylist()) == ["i", "k"]
    assert names(claims["image_key"].to_pylist()) == ["i", "k"]


def test_rows_of_a_failed_answer_are_left_out(folder):
    done = predict_in(folder, Teller(fails_on="j-", tells="part of it", tells_failing=True))
    assert done.counts.annotations == {"teller/region/category/kept": 9}
    assert names(read_predictions(done.place, 2).claims["image_key"].to_pylist()) == ["i", "k"]


def test_images_that_cannot_be_read_are_not_among_the_answered(folder):
    shutil.copy(folder / "out/round-0/000002.tar", folder / "out/round-0/000000.tar")
    done = predict_in(folder)
    assert names(done.failed) == ["a", "d"]
    assert read_predictions(done.place, 0).answered.to_pylist() == []


def test_an_image_of_which_nothing_is_said_is_answered(folder):
    done = predict_in(folder, Teller(tells="nothing"))
    claims, answered = read_predictions(done.place, 3)
    assert claims.num_rows == 0
    assert names(answered.to_pylist()) == OK[3]


def test_impossible_claims_are_left_out_and_stop_nothing(folder):
    done = predict_in(folder, Teller(shift=-100, copies=200))  # enough to raise an alarm elsewhere
    assert done.counts.annotations == {"teller/region/category/rejected": 1800}
    claims, answered = read_predictions(done.place, 3)
    assert (claims.num_rows, len(answered)) == (0, 4)


def test_a_filtered_version_is_seen_as_it_is(folder):
    place = open_location(str(folder / "out"))
    rules = [RuleEntry(RULES.find("min_score")(limits={"null": 0.5}), 1.0)]
    runner = RunnerConfig(kind="serial")
    job = Filtering(output=place, rules=rules, options=[{"rule": "min_score"}], runner=runner)
    version = filter_dataset(job).name
    done = predict_in(folder, Teller(requires=("text", "region")), version=version)
    rows = [read_predictions(done.place, shard).claims for shard in OK]
    told = {row["image_key"]: row["parents"] for table in rows for row in table.to_pylist()}
    assert told == kept(folder, version, "text", "region")
    assert told != kept(folder, "round-0", "text", "region")


def test_who_looks_at_no_rows_may_bear_the_name_of_a_source(folder):
    done = predict_in(folder, Teller(name="null"))
    claims = read_predictions(done.place, 3).claims
    assert claims["text"].to_pylist() == ["it"] * 4
    with pytest.raises(ConfigError, match="'null' is also the name of the source"):
        predict_in(folder, Teller(name="null", requires=("text",)), to="other")


def test_the_same_call_finds_it_done_and_another_predictor_is_refused(folder):
    done = predict_in(folder, Teller(fails_on="j-"))
    before = data_files(folder / "predictions")
    again = predict_in(folder, Teller(fails_on="j-"))
    assert (again.failed, again.counts) == (done.failed, done.counts)
    assert data_files(folder / "predictions") == before
    with pytest.raises(ConfigError, match=r"another run; differences: .*revisions\.teller"):
        predict_in(folder, Teller(fails_on="j-", model="next"))
    with pytest.raises(ConfigError, match=r"another run; differences: specialists\[0\]\.tells"):
        predict_in(folder, Teller(fails_on="j-", tells="else"))


def test_a_version_that_is_not_there_is_refused(folder):
    with pytest.raises(ConfigError, match="no label version 'round-7'; there are: round-0"):
        predict_in(folder, version="round-7")
    assert not (folder / "predictions" / "dataset.json").exists()


def test_a_shard_that_is_not_done_is_refused_and_one_without_images_is_empty(folder):
    with pytest.raises(ConfigError, match=r"no dataset\.json there"):
        read_predictions(open_location(str(folder / "predictions")), 0)
    place = predict_in(folder).place
    for shard in (1, 4):  # in the middle, and after the last that holds an image
        claims, answered = read_predictions(place, shard)
        assert (claims.num_rows, answered.to_pylist(), answered.type) == (0, [], pa.string())
    (folder / "predictions/round-0/_done/000002.json").unlink()
    with pytest.raises(ConfigError, match="shard 000002 of 4 is not predicted yet"):
        read_predictions(place, 2)


@pytest.mark.parametrize("runner", EITHER_RUNNER)
def test_a_killed_prediction_resumes_to_the_same_bytes(folder, runner):
    predict_in(folder, to="whole")
    kill_after_a_shard(folder, runner)
    left = [int(p.stem) for p in (folder / "predictions/round-0/_done").glob("*.json")]
    assert 0 < len(left) < 4
    predict_in(folder)
    assert data_files(folder / "predictions") == data_files(folder / "whole")


def kill_after_a_shard(folder, runner):
    """SIGKILL to a prediction and all it started, with one shard done and others to do."""
    command = [sys.executable, "-m", "tests.predicting", str(folder), runner]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdin=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + 300
        while not list((folder / "predictions/round-0/_done").glob("*.json")):
            assert process.poll() is None, "it ended before its first shard was done"
            assert time.monotonic() < end, "no shard was done in time"
            time.sleep(0.01)
    finally:
        started = psutil.Process(process.pid)
        for each in [started, *started.children(recursive=True)]:
            each.kill()
        process.wait()


def test_rows_of_the_version_keep_their_ids_and_verdicts_beside_the_claims(folder):
    place = predict_in(folder).place
    both = [
        pa.concat_tables([rows for _, _, rows in read_tables(each, "round-0")])
        for each in (open_location(str(folder / "out")), place)
    ]
    context = both[1].filter(pc.not_equal(both[1]["source"].cast(pa.string()), "teller"))
    assert context.to_pylist() == both[0].to_pylist()
    version = json.loads((folder / "predictions/dataset.json").read_text())["versions"]["round-0"]
    assert version["levels"] == [["null"], ["teller"]]
