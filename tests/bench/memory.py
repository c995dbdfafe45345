"""Peak memory of a run at 10,000 and at 100,000 images, sampled from outside."""

import subprocess
import time
from typing import Any

import psutil

from tests.bench.children import run_child
from tests.bench.machine import family
from tests.bench.pictures import make_pictures
from tests.bench.results import Row
from tests.bench.settings import Part, say

_EVERY_S = 0.25
_SIDE = 16  # px
_GROWTH, _DRIVER_MB = 1.10, 500.0


class Peaks:
    """The most a run held: its driver, its largest other process, and all of them together, MB.

    `private sum` leaves out what processes share: above all the object store, which each maps
    and which stays resident once it was used.
    """

    def __init__(self) -> None:
        self.mb = dict.fromkeys(("driver", "largest worker", "sum", "private sum"), 0.0)

    def watch(self, child: subprocess.Popen[bytes]) -> None:
        """Samples until the child ends."""
        while child.poll() is None:
            self._sample(child.pid)
            time.sleep(_EVERY_S)

    def _sample(self, pid: int) -> None:
        resident, private = {}, {}
        for process in family(pid):
            try:
                facts = process.memory_info()
            except psutil.NoSuchProcess:
                continue
            resident[process.pid] = facts.rss / 2**20
            private[process.pid] = (facts.rss - getattr(facts, "shared", 0)) / 2**20
        workers = [size for number, size in private.items() if number != pid]
        now = {
            "driver": resident.get(pid, 0.0),
            "largest worker": max(workers, default=0.0),
            "sum": sum(resident.values()),
            "private sum": sum(private.values()),
        }
        self.mb = {name: max(self.mb[name], value) for name, value in now.items()}


def memory(part: Part) -> list[Row]:
    """Tiny distinct images, a null specialist: what grows, grows with their number alone."""
    counts = (1_000, 3_000) if part.quick else (10_000, 100_000)
    rows, peaks = [], []
    for count in counts:
        say(f"memory: making {count:,} images of {_SIDE} x {_SIDE} px")
        folder = make_pictures(part.folder / f"{count}", count, _SIDE, _SIDE)
        found = Peaks()
        with part.scratch() as output:
            config: dict[str, Any] = {
                "source": {"uri": str(folder)},
                "output": {"uri": str(output)},
                "specialists": [{"kind": "null"}],
                "runner": {"workers": {"null": 1}},
            }
            result = run_child("engine_run", {"config": config}, watch=found.watch)
        say(f"memory: {count:,} images in {result['seconds']:.0f} s: {_spelled(found.mb)}")
        peaks.append(found.mb)
        for name, value in found.mb.items():
            bar = _DRIVER_MB if name == "driver" else None
            rows.append(Row("memory", f"{count:,} images, {name}", value, "MB", bar))
    small, large = peaks
    part.raw["memory"] = dict(zip(map(str, counts), peaks, strict=True))
    for name in ("private sum", "driver", "largest worker"):
        growth = large[name] / small[name]
        what = f"{name}, {counts[1]:,} / {counts[0]:,} images"
        rows.append(Row("memory", what, growth, "", _GROWTH))
    return rows


def _spelled(mb: dict[str, float]) -> str:
    return ", ".join(f"{name} {value:,.0f} MB" for name, value in mb.items())
