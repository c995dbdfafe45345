"""Which cold start of a dataset is which: each has a name, and a record of what was asked for."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any

from engine import dataset
from engine.ancestry import ancestors
from engine.errors import ConfigError
from engine.formats.florence2_tasks import Task
from engine.output import read_if_there
from engine.source.shapes import Location
from engine.versions import read_versions
from refinement.cold_start.tasks import short_name
from refinement.refine_job import WORK

_JOB = "job.json"


@dataclass(frozen=True)
class Slot:
    """The name of one cold start of a dataset, and the version it adds to.

    The version and the folder of its files bear the name; the source is spelt like one.
    `is_begun` where it has a record: what lies in the folder of one without is of nobody.
    """

    name: str
    source: str
    parent: str
    is_begun: bool


def find_slot(output: Location, task: Task, asked: Mapping[str, Any]) -> Slot:
    """The one that was begun for the same work on these labels, or the first that is free.

    Args:
        output: The dataset's.
        task: What is learned.
        asked: Everything that changes a row, as plain data.

    Raises:
        ConfigError: A record of one is damaged.
    """
    versions, current = read_versions(output)
    lineage = ancestors(dataset.read_dataset(output), current)
    taken = {
        source.partition("@")[0]
        for version in versions.values()
        for level in version.levels
        for source in level
    }
    identity = json.loads(json.dumps(asked))
    for number in count(1):
        more = "" if number == 1 else str(number)
        name = "-".join(filter(None, ["cold", short_name(task), more]))
        source = "_".join(filter(None, ["cold", short_name(task), more]))
        known = _read_record(output, name)
        if known is None:
            if name not in versions and source not in taken:
                return Slot(name, source, current, is_begun=False)
        elif known["identity"] == identity and (known["parent"] == current or name in lineage):
            return Slot(name, source, known["parent"], is_begun=True)
    raise AssertionError("numbers do not end")


def write_record(output: Location, slot: Slot, asked: Mapping[str, Any]) -> None:
    """Takes the slot for that work."""
    record = {"identity": asked, "parent": slot.parent, "source": slot.source}
    content = (json.dumps(record, indent=1) + "\n").encode()
    output.write(f"{WORK}/{slot.name}/{_JOB}", content)


def _read_record(output: Location, name: str) -> dict[str, Any] | None:
    path = f"{WORK}/{name}/{_JOB}"
    raw = read_if_there(output, path)
    if raw is None:
        return None
    try:
        content: dict[str, Any] = json.loads(raw.to_pybytes())
        return {"identity": content["identity"], "parent": content["parent"]}
    except (ValueError, KeyError, TypeError) as err:
        raise ConfigError(
            f"{output.uri}: {path} is not what a cold start writes ({err}); delete its folder"
        ) from err
