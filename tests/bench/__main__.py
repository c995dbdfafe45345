"""`python -m tests.bench [PART]... [--quick]`: measures, and writes bench.json, .md and .png."""

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.bench.florence2 import florence2
from tests.bench.labels import labels
from tests.bench.machine import describe
from tests.bench.memory import memory
from tests.bench.overhead import null, real
from tests.bench.results import Row, to_markdown, write_results
from tests.bench.resume import resume
from tests.bench.rules import rules
from tests.bench.settings import Part, say
from tests.bench.text_rules import text_rules
from tests.bench.train import train

_PARTS: dict[str, Callable[[Part], list[Row]]] = {
    "rules": rules,
    "labels": labels,
    "text_rules": text_rules,
    "resume": resume,
    "null": null,
    "real": real,
    "florence2": florence2,
    "train": train,
    "memory": memory,
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    parser.add_argument("parts", nargs="*", metavar="PART", help=f"{', '.join(_PARTS)}; none: all")
    parser.add_argument("--quick", action="store_true", help="small inputs, one run of each")
    parser.add_argument("--out", type=Path, default=Path("bench"), help="folder of the results")
    options = parser.parse_args()
    unknown = sorted(set(options.parts) - set(_PARTS))
    if unknown:
        parser.error(f"{unknown[0]!r} is no part; known: {', '.join(_PARTS)}")
    machine, rows = describe(), []
    raw: dict[str, Any] = {}
    for name in options.parts or _PARTS:
        say(f"{name} ...")
        with tempfile.TemporaryDirectory(prefix="fld-bench-") as folder:
            part = Part(Path(folder), options.quick)
            rows += _PARTS[name](part)
        raw |= part.raw
        write_results(options.out, machine, rows, raw)  # after each part: a later one may take long
    print(to_markdown(machine, rows))


if __name__ == "__main__":
    main()
