"""How a run ends that fails after it began. Kills, signals and full disks: tests/recovery."""

import pyarrow.parquet as pq
import pytest

from engine import dataset, drive, sink
from engine.compose import compose
from engine.config import parse_config
from engine.errors import ShardError, StoppedError
from engine.job import Observer
from engine.run import annotate


def job(out, num_images=4, **options):
    raw = {
        "source": {"uri": "synthetic", "num_images": num_images, "shard_size": 2},
        "output": {"uri": str(out)},
        "specialists": [{"kind": "null", **options}],
        "runner": {"kind": "serial", "shards_in_flight": 1},
    }
    return compose(parse_config(raw, (), "test"))


def test_a_shard_that_does_not_add_up_stops_the_run_and_the_same_one_resumes(tmp_path, monkeypatch):
    """Exit code 3, not 2: the first shard is committed, so the run had begun."""
    checked = []

    def refuse_the_second(*_):
        checked.append(1)
        if len(checked) == 2:
            raise ShardError("shard 000001: nothing was committed")

    with monkeypatch.context() as patch:
        patch.setattr(sink, "_check_conservation", refuse_the_second)
        with pytest.raises(StoppedError, match="nothing was committed; the same command resumes"):
            annotate(job(tmp_path / "out"), Observer())
    assert [p.name for p in (tmp_path / "out" / "round-0" / "_done").iterdir()] == ["000000.json"]
    run = annotate(job(tmp_path / "out"), Observer())
    assert (run.shards_done, run.totals.num_images) == (2, 4)


def test_markers_are_rolled_up_while_the_run_goes_on(tmp_path, monkeypatch):
    """Or a killed run of many shards would read every marker by itself."""
    monkeypatch.setattr(drive, "_SAVE_MARKERS_S", 0.0)
    seen = []

    class Watching(Observer):
        def shard_done(self, run, marker):
            seen.append(pq.read_table(tmp_path / "out" / dataset.rolled_up(dataset.FIRST)).num_rows)

    made = job(tmp_path / "out", num_images=30, work_ms=50)
    annotate(made, Watching())
    assert len(seen) == 15
    assert seen[0] == 0
    assert seen[-1] > 0
