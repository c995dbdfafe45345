"""How a run ends that fails after it began. Kills, signals and full disks: tests/recovery."""

import pytest

from engine import sink
from engine.compose import compose
from engine.config import parse_config
from engine.errors import ShardError, StoppedError
from engine.job import Observer
from engine.run import annotate


def job(out):
    raw = {
        "source": {"uri": "synthetic", "num_images": 4, "shard_size": 2},
        "output": {"uri": str(out)},
        "specialists": [{"kind": "null"}],
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
