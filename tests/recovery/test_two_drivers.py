"""The lease by itself; two real drivers in one output: see test_outputs."""

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
    return open_location(str(tmp_path))


def write(output, **changes):
    """A lease as this process would hold it, with changes."""
    lease = Lease.take(output)
    held = {**json.loads(output.read(LEASE).data.to_pybytes()), **changes}
    output.write(LEASE, json.dumps(held).encode())
    return lease


def test_lease_of_nobody_is_taken(output):
    assert holder(output) is None
    with Lease.take(output):
        assert holder(output)["pid"] == os.getpid()
    assert holder(output) is None


@pytest.mark.parametrize("content", [b"", b"{", b"{}", b'{"host": '])
def test_lease_that_a_dying_driver_left_half_written_is_nobodys(output, content):
    output.write(LEASE, content)
    assert holder(output) is None


def test_lease_of_a_living_process_is_refused(output):
    with Lease.take(output), pytest.raises(ConfigError, match=f"process {os.getpid()} on .* is wr"):
        Lease.take(output)


def test_lease_of_a_dead_process_is_taken_over(output):
    process = subprocess.Popen([sys.executable, "-c", "pass"])
    process.wait()
    write(output, pid=process.pid)
    with Lease.take(output):
        assert holder(output)["pid"] == os.getpid()


def test_lease_of_a_process_whose_id_was_given_to_another_is_taken_over(output):
    write(output, started="1")
    with Lease.take(output):
        pass


@pytest.mark.parametrize(
    ("age_s", "alive"), [(0, True), (LEASE_TIMEOUT_S - 20, True), (LEASE_TIMEOUT_S + 1, False)]
)
def test_lease_of_another_machine_lives_as_long_as_it_is_renewed(output, age_s, alive):
    write(output, host=f"not-{socket.gethostname()}", renewed=time.time() - age_s)
    assert (holder(output) is not None) == alive


def test_lease_that_was_taken_over_is_not_renewed_and_not_released(output):
    lease = write(output, owner="another")
    with pytest.raises(StoppedError, match="another run has taken over; this one stops"):
        lease.renew()
    lease.release()
    assert holder(output)["owner"] == "another"


def test_lease_written_over_at_the_same_moment_is_refused(output, monkeypatch):
    """The other driver writes in the pause between this one's write and its second look."""

    def other_writes(_):
        held = json.loads(output.read(LEASE).data.to_pybytes())
        output.write(LEASE, json.dumps({**held, "owner": "another"}).encode())

    monkeypatch.setattr(time, "sleep", other_writes)
    with pytest.raises(ConfigError, match="another run took the lease at the same moment"):
        Lease.take(output)
