"""One driver per output: a lease that a living driver renews and a dead one loses."""

import contextlib
import json
import os
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.errors import ConfigError, StoppedError
from engine.output import read_if_there
from engine.source.shapes import Location

LEASE = "_run/lease.json"

# A driver renews its lease every RENEW_S; one on another machine that has not for
# LEASE_TIMEOUT_S is dead.
RENEW_S = 10.0
LEASE_TIMEOUT_S = 60.0
# Of two drivers that start at the same moment the one that writes last holds the lease; the other
# sees so if it looks again after longer than a look and a write take.
SETTLE_S = 0.25


@dataclass
class Lease:
    """One driver per output. Held by renewing it; a dead driver's lease is taken over."""

    output: Location
    owner: dict[str, Any]

    @classmethod
    def take(cls, output: Location) -> "Lease":
        """Takes the lease.

        Raises:
            ConfigError: Another driver that is alive holds it.
        """
        lease = cls(output, _owner())
        held = holder(output)
        if held is not None:
            raise ConfigError(
                f"{output.uri}: process {held.get('pid')} on {held.get('host')} is writing there; "
                f"wait for it, or delete {LEASE} if that process is gone"
            )
        lease._write()
        time.sleep(SETTLE_S)
        if not lease._is_ours():
            raise ConfigError(f"{output.uri}: another run took the lease at the same moment")
        return lease

    def renew(self) -> None:
        """Says that this driver is alive.

        Raises:
            StoppedError: The lease is another driver's: two would delete each other's files.
        """
        if not self._is_ours():
            raise StoppedError(f"{self.output.uri}: another run has taken over; this one stops")
        self._write()

    def _is_ours(self) -> bool:
        held = holder(self.output)
        return held is not None and held.get("owner") == self.owner["owner"]

    def _write(self) -> None:
        self.output.write(LEASE, json.dumps({**self.owner, "renewed": time.time()}).encode())

    def __enter__(self) -> "Lease":
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Gives the output free, unless another driver has taken it."""
        if self._is_ours():
            self.output.delete(LEASE)


def holder(output: Location) -> dict[str, Any] | None:
    """The living driver that holds the output, or None."""
    raw = read_if_there(output, LEASE)
    try:
        held = json.loads(raw.to_pybytes()) if raw is not None else None
    except ValueError:
        return None  # half-written by a driver that died: nobody holds it
    if not isinstance(held, dict) or "owner" not in held:
        return None
    return None if _is_dead(held) else held


def _owner() -> dict[str, Any]:
    pid = os.getpid()
    started = _process_start(pid)
    return {
        "host": socket.gethostname(),
        "pid": pid,
        "started": started,
        "owner": f"{socket.gethostname()}-{pid}-{started}-{time.time_ns()}",
    }


def _is_dead(held: dict[str, Any]) -> bool:
    if held.get("host") == socket.gethostname():
        # a process id may be given to another process: its start time tells them apart
        return _process_start(held.get("pid", -1)) != held.get("started")
    return time.time() - float(held.get("renewed", 0)) > LEASE_TIMEOUT_S


def _process_start(pid: int) -> str | None:
    """When the process started, as the kernel counts it; None when there is no such process."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8")
    except OSError:
        return _alive_without_proc(pid)
    fields = stat.rpartition(")")[2].split()
    return None if fields[0] == "Z" else fields[19]  # state, then starttime: proc(5)


def _alive_without_proc(pid: int) -> str | None:
    if Path("/proc/self").exists():
        return None
    try:
        os.kill(pid, 0)
    except OSError:
        return None
    return "alive"


@contextlib.contextmanager
def kept_alive(lease: Lease) -> Iterator[None]:
    """Renews a lease from a thread, for work that reports nothing for minutes, such as a training.

    A lease that was lost is noticed when the block ends or renews it itself.
    """
    done = threading.Event()

    def renew() -> None:
        while not done.wait(RENEW_S):
            with contextlib.suppress(StoppedError, OSError):
                lease.renew()

    thread = threading.Thread(target=renew, name="lease", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    lease.renew()
