"""A small dataset with everything that could shift its images: broken files, doubles, bare shards.

Of its 16 files in shards of four, the images of `OK` are `ok`.
"""

from pathlib import Path

from engine.compose import compose
from engine.config import parse_config
from engine.job import Job, Observer
from engine.run import annotate
from engine.source.filesystem import open_location
from engine.source.shapes import Location
from tests import hostile

BROKEN = b"<html></html>"
OK = {0: ["a", "d"], 1: [], 2: ["i", "j", "k"], 3: ["m", "n", "o", "p"], 4: []}


def write_files(folder: Path) -> Path:
    """Shard 0 holds a double and a broken file, 1 and 4 nothing but broken ones, 2 one of them."""
    folder.mkdir(parents=True)
    for place, name in enumerate("abcdefghijklmnopqrst"):
        content = hostile.encoded(hostile.photo(64, 48, place), "JPEG")
        if name == "c":
            content = (folder / "a.jpg").read_bytes()
        elif name in "befghlqrst":
            content = BROKEN
        (folder / f"{name}.jpg").write_bytes(content)
    return folder


def job_of(source: dict, out: Path, specialists: list[dict], **more) -> Job:
    raw = {
        "source": source,
        "output": {"uri": str(out), **more.pop("output", {})},
        "specialists": specialists,
        "runner": {"kind": "serial", "batch_size": 2},
        **more,
    }
    return compose(parse_config(raw, (), "test"))


def make_dataset(folder: Path, *specialists: dict, **more) -> Location:
    """A dataset in `folder/out` of files in `folder/files`."""
    write_files(folder / "files")
    named = list(specialists) or [{"kind": "null", "num_rows": 2, "kinds": _KINDS}]
    source = {"uri": str(folder / "files"), "shard_size": 4}
    annotate(job_of(source, folder / "out", named, **more), Observer())
    return open_location(str(folder / "out"))


_KINDS = ["region/category", "text/brief"]
