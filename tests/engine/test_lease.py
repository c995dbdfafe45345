"""One driver per output: who holds the lease, and when a dead driver's is taken over."""

import json
import os
import socket
import subprocess
import sys
import time

import pytest

from engine.errors import ConfigError, StoppedError
from engine.lease import LEASE, LEASE_TIMEOUT_S, Lease, holder
from engine.source.filesystem import open_location


@pytest.fixture
def output(tmp_path):
    return open_location(str(tmp_path / "out"))


def lease_of(output, **facts):
    """A lease as another driver left it."""
    held = {"host": "elsewhere", "pid": 7, "started": "1", "owner": "elsewhere-7", **facts}
    output.write(LEASE, json.dumps({"renewed": time.time(), **held}).encode())


def test_an_output_without_a_lease_is_free(output):
    assert holder(output) is None


def test_a_lease_is_held_while_its_block_lasts(output):
    with Lease.take(output):
        held = holder(output)
        assert (held["host"], held["pid"]) == (socket.gethostname(), os.getpid())
    assert holder(output) is None
    assert output.names("_run") == []


def test_a_lease_is_given_up_when_the_block_fails(output):
    with pytest.raises(ZeroDivisionError), Lease.take(output):
        _ = 1 / 0
    assert holder(output) is None


def test_a_second_driver_is_refused(output):
    with (
        Lease.take(output),
        pytest.raises(ConfigError, match=rf"process {os.getpid()} on .* is writing there; wait"),
    ):
        Lease.take(output)


def test_a_dead_drivers_lease_is_taken_over(output):
    """SIGKILL leaves the lease behind; the process table says that nobody holds it."""
    code = (
        "import os, signal\n"
        "from engine.lease import Lease\n"
        "from engine.source.filesystem import open_location\n"
        f"Lease.take(open_location({output.uri!r}))\n"
        "os.kill(os.getpid(), signal.SIGKILL)\n"
    )
    killed = subprocess.run([sys.executable, "-c", code], timeout=60, check=False)
    assert killed.returncode < 0
    assert output.exists(LEASE)
    assert holder(output) is None
    with Lease.take(output):
        assert holder(output)["pid"] == os.getpid()


def test_a_process_id_given_to_another_process_holds_nothing(output):
    lease_of(output, host=socket.gethostname(), pid=os.getpid(), started="1")
    assert holder(output) is None


@pytest.mark.parametrize(
    ("age_s", "is_held"),
    [(0, True), (LEASE_TIMEOUT_S - 5, True), (LEASE_TIMEOUT_S + 5, False)],
    ids=["just-renewed", "late", "expired"],
)
def test_a_driver_on_another_host_counts_as_dead_when_it_stops_renewing(output, age_s, is_held):
    lease_of(output, renewed=time.time() - age_s)
    assert (holder(output) is not None) == is_held


@pytest.mark.parametrize("content", [b"", b'{"host": "else', b"null", b"3", b"[]"])
def test_a_half_written_lease_is_nobodys(output, content):
    output.write(LEASE, content)
    assert holder(output) is None


def test_a_driver_that_slept_through_its_lease_stops(output):
    """Another took the output over meanwhile: two may not write, and its lease is not deleted."""
    lease = Lease.take(output)
    lease.renew()
    lease_of(output)
    with pytest.raises(StoppedError, match="another run has taken over; this one stops"):
        lease.renew()
    lease.release()
    assert holder(output)["owner"] == "elsewhere-7"
