"""A pool with workers that answer, hang or die at will; real ones are tested with the runners."""

import asyncio
import logging

import pytest

from engine.errors import StoppedError
from engine.failures import fail
from engine.pool import Pool, WorkerDiedError
from engine.worker import Receipt

DEADLY, SLOW = "deadly", "slow"


class FakeWorker:
    """Answers an image with its name; images called deadly kill it, slow ones never end."""

    def __init__(self, born: list["FakeWorker"], answers: bool = True) -> None:
        self.calls: list[list[str]] = []
        self.killed = False
        self._answers = answers
        born.append(self)

    async def call(self, batch, rows, only):
        assert not self.killed, "a dead worker was asked"
        images = batch if only is None else [batch[only]]
        self.calls.append(images)
        await asyncio.sleep(0)
        if DEADLY in images:
            raise WorkerDiedError("worker_died", "signal SIGKILL")
        if SLOW in images:
            await asyncio.get_running_loop().create_future()
        failures = [(i, fail("annotate", "raised", source="yolo")) for i in images if i == "odd"]
        num_rows = len(images) if self._answers else 0
        return (images, rows), Receipt(len(images), num_rows, 0.5, failures)

    def kill(self):
        self.killed = True


class FlakyWorker(FakeWorker):
    """The first of them dies at its first call, whatever it was asked."""

    async def call(self, batch, rows, only):
        if len(self._born) == 1:
            raise WorkerDiedError("out_of_memory", "signal SIGKILL")
        return await super().call(batch, rows, only)

    def __init__(self, born):
        super().__init__(born)
        self._born = born


def run(batches, *, size=1, worker=FakeWorker, rows=None, **options):
    """The outcomes of batches handed in at once, the pool, and all workers ever born."""
    born: list[FakeWorker] = []

    async def spawn():
        return worker(born)

    async def main():
        pool = Pool("yolo", spawn, **{"timeout_s": 60, **options})
        await pool.grow(size)
        outcomes = await asyncio.gather(*(pool.annotate(b, rows, list(b)) for b in batches))
        return outcomes, pool

    outcomes, pool = asyncio.run(main())
    return outcomes, pool, born


def causes(outcome):
    return [(key, failure.cause, failure.source) for key, failure in outcome.failures]


def answered(outcome):
    return [images for images, _ in outcome.answers]


def test_a_pool_without_work_does_nothing():
    outcomes, pool, born = run([])
    assert outcomes == []
    assert (pool.size, pool.queued, pool.num_images, len(born)) == (1, 0, 0, 1)


def test_a_batch_is_answered_with_its_rows_and_counted():
    (outcome,), pool, _ = run([["a", "odd"]], rows="rows of a level below")
    assert outcome.answers == [(["a", "odd"], "rows of a level below")]
    assert causes(outcome) == [("odd", "raised", "yolo")]
    assert (outcome.num_rows, outcome.isolated) == (2, False)
    assert (pool.num_images, pool.num_rows, pool.num_failures) == (2, 2, 1)
    assert (pool.busy_s, pool.queued) == (0.5, 0)


def test_every_worker_has_one_batch_at_a_time():
    _, _, born = run([[str(n)] for n in range(6)], size=2)
    assert sorted(len(worker.calls) for worker in born) == [3, 3]


def test_a_worker_that_dies_is_replaced_and_the_batch_tried_again(caplog):
    with caplog.at_level(logging.WARNING):
        (outcome,), pool, born = run([["a"]], worker=FlakyWorker)
    assert answered(outcome) == [["a"]]
    assert (outcome.failures, outcome.isolated) == ([], False)
    assert (pool.size, len(born), born[0].killed) == (1, 2, True)
    assert "a worker died (out_of_memory: signal SIGKILL)" in caplog.text


def test_a_batch_that_kills_twice_is_run_one_by_one_and_the_culprit_fails(caplog):
    (outcome,), pool, born = run([["a", DEADLY, "b"]])
    assert answered(outcome) == [["a"], ["b"]]
    assert causes(outcome) == [(DEADLY, "worker_died", "yolo")]
    assert outcome.failures[0][1].message == "signal SIGKILL"
    assert outcome.isolated
    assert pool.size == 1
    assert len(born) == 1 + 2 + 2  # two deaths of the batch, two of the image
    assert "a batch of 3 images is run one by one" in caplog.text


def test_a_batch_over_its_time_is_run_one_by_one_and_its_worker_killed(caplog):
    (outcome,), pool, born = run([["a", SLOW]], timeout_s=0.2)
    assert answered(outcome) == [["a"]]
    assert causes(outcome) == [(SLOW, "timeout", "yolo")]
    assert outcome.failures[0][1].message == "no answer within 0.2 s"
    assert [worker.killed for worker in born] == [True, True, False]
    assert pool.size == 1


def test_one_image_alone_is_blamed_too():
    (outcome,), _, _ = run([[DEADLY]])
    assert causes(outcome) == [(DEADLY, "worker_died", "yolo")]
    assert outcome.answers == []


def test_others_go_on_while_a_worker_dies():
    outcomes, pool, _ = run([[DEADLY], ["a"], ["b"], ["c"]], size=2)
    assert [answered(outcome) for outcome in outcomes[1:]] == [[["a"]], [["b"]], [["c"]]]
    assert (pool.size, pool.queued) == (2, 0)


def quiet(born):
    return FakeWorker(born, answers=False)


@pytest.mark.parametrize(
    ("num_batches", "worker", "quiet_limit", "stops"),
    [
        pytest.param(9, quiet, 10, False, id="not-yet"),
        pytest.param(10, quiet, 10, True, id="nothing-at-all"),
        pytest.param(10, quiet, None, False, id="silence-is-normal"),
        pytest.param(10, FakeWorker, 10, False, id="rows-came"),
    ],
)
def test_a_specialist_that_answers_nothing_raises_an_alarm(num_batches, worker, quiet_limit, stops):
    batches = [["a"]] * num_batches
    if not stops:
        assert run(batches, worker=worker, quiet_limit=quiet_limit)[1].num_images == num_batches
        return
    with pytest.raises(StoppedError, match="'yolo' gave no row for its first 10 images; some"):
        run(batches, worker=worker, quiet_limit=quiet_limit)


def test_the_alarm_tells_of_failures():
    with pytest.raises(
        StoppedError, match=r"its first 1 images, 1 of them failures; .*quiet_limit"
    ):
        run([["odd"]], worker=quiet, quiet_limit=1)


def test_grow_starts_only_what_is_missing_and_close_ends_all():
    born: list[FakeWorker] = []

    async def main():
        async def spawn():
            return FakeWorker(born)

        pool = Pool("yolo", spawn, timeout_s=1)
        for size, expected in ((2, 2), (2, 2), (5, 5), (1, 5)):
            await pool.grow(size)
            assert pool.size == expected
        pool.close()
        return pool.size

    assert asyncio.run(main()) == 0
    assert [worker.killed for worker in born] == [True] * 5


def test_a_worker_that_cannot_start_ends_the_wait():
    async def main():
        async def spawn():
            raise StoppedError("no model")

        pool = Pool("yolo", spawn, timeout_s=1)
        with pytest.raises(StoppedError, match="no model"):
            await pool.grow(1)

    asyncio.run(main())
