"""How a run stands: its state as any machine sees it, and its numbers while it runs."""

import asyncio
import json
import time

import pytest

from engine.errors import ConfigError
from engine.lease import LEASE, Lease
from engine.pool import Pool
from engine.source.filesystem import open_location
from engine.status import STATUS, Run, StatusFile, read_status, snapshot
from engine.worker import Receipt
from tests.builders import rows
from tests.shards import FAILED, VERSION, commit, dataset, images, plan


class Answering:
    """A worker with ten rows per batch."""

    async def call(self, batch, rows, only):
        return [], Receipt(len(batch), 10, 0.25)

    def kill(self):
        """Nothing to end."""


def worked(*batches) -> Pool:
    """A pool that has answered those batches."""

    async def spawn():
        return Answering()

    async def main():
        pool = Pool("yolo", spawn, timeout_s=60)
        await pool.grow(2)
        for batch in batches:
            await pool.annotate(batch, None, batch)
        return pool

    return asyncio.run(main())


def test_status_of_no_dataset_is_an_error(tmp_path):
    with pytest.raises(ConfigError, match=r"no dataset\.json"):
        read_status(open_location(str(tmp_path)), VERSION)


def test_a_dataset_of_no_shards_is_finished(tmp_path):
    status = read_status(dataset(tmp_path).output, VERSION)
    assert status["state"] == "finished"
    assert (status["shards"], status["last"]) == ({"planned": 0, "done": 0}, {})


def test_states_of_a_run(tmp_path):
    place = dataset(tmp_path, ["a"], ["b"])
    assert read_status(place.output, VERSION)["state"] == "interrupted"
    with Lease.take(place.output) as lease:
        found = read_status(place.output, VERSION)
        assert (found["state"], found["driver"]["pid"]) == ("running", lease.owner["pid"])
        for shard, key in enumerate("ab"):
            commit(place, shard, images(key))
        assert read_status(place.output, VERSION)["state"] == "running"
    assert read_status(place.output, VERSION)["state"] == "finished"


def test_a_run_whose_driver_was_killed_is_interrupted(tmp_path):
    place = dataset(tmp_path, ["a"])
    old = {"host": "elsewhere", "pid": 7, "owner": "x", "renewed": time.time() - 3600}
    place.output.write(LEASE, json.dumps(old).encode())
    status = read_status(place.output, VERSION)
    assert (status["state"], status["driver"]) == ("interrupted", None)


def test_totals_come_from_the_markers(tmp_path):
    place = dataset(tmp_path, ["a", "b"], ["c"])
    table = images("a", "b", status=["ok", "failed"], failures=[None, FAILED])
    commit(place, 0, table, rows(text=["x", "no"]))
    status = read_status(place.output, VERSION)
    assert status["images"] == {"planned": 3, "ok": 1, "failed": 1, "duplicate": 0, "rejected": 0}
    assert status["failures"] == {"decode/corrupt": 1}
    assert status["rules"] == {"not_kept": [2, 1]}
    assert sum(status["annotations"].values()) == 2


def test_a_run_that_has_not_started_has_no_speed():
    found = snapshot(Run(plan(["a", "b"]), 1, []))
    assert found["images"] == {"planned": 2}
    assert (found["images_per_second"], found["eta_s"], found["specialists"]) == (0.0, None, {})


def test_images_under_way_count_as_far_as_their_specialists_answered():
    """The mean over specialists; never more than there are, never less than is committed."""
    run = Run(plan(["a", "b", "c", "d"]), 1, [["yolo"]])
    run.pools = {"yolo": worked(["a", "b"]), "ocr": worked(["a", "b"], ["c", "d"])}
    assert run.images_done == 3
    run.totals.images = {"ok": 2, "failed": 2}
    assert run.images_done == 4
    run.totals.images = {"ok": 4, "failed": 0}
    assert run.images_done == 4


def test_speed_is_that_of_this_run_alone():
    run = Run(plan(["a", "b", "c", "d"]), 1, [], resumed_images=2, resumed_ok=2)
    run.totals.images = {"ok": 3}
    run.started_at = time.monotonic() - 1000
    assert run.images_per_second == pytest.approx(1 / 1000, rel=0.1)
    assert snapshot(run)["eta_s"] == pytest.approx(1000, rel=0.1)


def test_the_status_file_says_what_every_specialist_does(tmp_path):
    output = open_location(str(tmp_path))
    run = Run(plan(["a"]), 1, [["yolo"]], pools={"yolo": worked(["a", "b"])})
    StatusFile(output).write(run, "running")
    found = json.loads(output.read(STATUS).data.to_pybytes())
    assert found["state"] == "running"
    assert found["specialists"]["yolo"] == {
        "workers": 2,
        "queued_batches": 0,
        "images": 2,
        "rows": 10,
        "failures": 0,
        "seconds_per_image": 0.125,
    }
