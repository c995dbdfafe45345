"""Label versions of a dataset: which there are, what each was made from, which one is current."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from engine import ancestry
from engine.dataset import read_dataset, write_dataset
from engine.errors import ConfigError
from engine.protocols import Replaces
from engine.source.shapes import Location

_FILTERED = re.compile(r"^(?P<round>.+?)\.filter-(?P<number>\d+)$")


@dataclass(frozen=True, kw_only=True)
class Version:
    """One label version as dataset.json holds it.

    Attributes:
        parent: The version it was made from; null for the first.
        made_by: `annotate`, `import`, `filter`, `cold-start`, or the round that wrote it.
        levels: Names of sources, those whose rows were judged together in one list, in order.
        replacing: When rows of a source supersede their parents, see `engine.protocols`.
        rules: With every option, in order; null for the first version, whose identity holds them.
        only: Names of the rules that were judged again; null for all.
        seed: The run's.
        pixels: Whether its tars hold the pictures; else those of its parent do.
        views: Whether its tars hold the nested view of each image.
        decisions: Digest of what each rule over the whole dataset came to, by name.
        finished: Whether all its shards are there.
    """

    parent: str | None = None
    made_by: str = "annotate"
    levels: Sequence[Sequence[str]] = ()
    replacing: Mapping[str, Replaces] = field(default_factory=dict)
    rules: Sequence[Mapping[str, Any]] | None = None
    only: Sequence[str] | None = None
    seed: int = 0
    pixels: bool = True
    views: bool = True
    decisions: Mapping[str, str] = field(default_factory=dict)
    finished: bool = True

    def is_same_work(self, other: "Version") -> bool:
        """Whether the other asks for the same shards, finished or not, its alarms lifted or not."""
        return self._work() == other._work()

    def _work(self) -> dict[str, Any]:
        said = asdict(self)
        del said["finished"], said["decisions"]
        for rule in said["rules"] or ():
            rule.pop("alarm_share", None)
        return said


def read_versions(output: Location) -> tuple[dict[str, Version], str]:
    """All versions by name, oldest first, and the name of the current one.

    Raises:
        ConfigError: There is no dataset.
    """
    content = read_dataset(output)
    names = Version.__dataclass_fields__
    found = {
        name: Version(**{key: value for key, value in entry.items() if key in names})
        for name, entry in content["versions"].items()
    }
    return found, str(content["current"])


def find_version(output: Location, name: str | None) -> tuple[str, Version]:
    """A version by its name, or the current one.

    Raises:
        ConfigError: There is none of that name, or it is not finished.
    """
    versions, _ = read_versions(output)
    name = ancestry.find_version(output, read_dataset(output), name)
    if not versions[name].finished:
        raise ConfigError(
            f"{output.uri}: version {name!r} is not finished; run the command that makes it again"
        )
    return name, versions[name]


def next_name(versions: Mapping[str, Version], parent: str) -> str:
    """The name of the next filtered version of the round that `parent` belongs to.

    Example:
        >>> next_name({"round-0": Version(), "round-0.filter-1": Version()}, "round-0.filter-1")
        'round-0.filter-2'
    """
    found = _FILTERED.match(parent)
    base = found["round"] if found else parent
    numbers = [int(m["number"]) for m in map(_FILTERED.match, versions) if m and m["round"] == base]
    return f"{base}.filter-{max(numbers, default=0) + 1}"


def put_version(output: Location, name: str, version: Version, *, current: bool = False) -> None:
    """Notes a version, new or changed, and makes it the current one where asked."""
    content = read_dataset(output)
    content["versions"][name] = {**content["versions"].get(name, {}), **asdict(version)}
    if current:
        content["current"] = name
    write_dataset(output, content)


def undo(output: Location) -> tuple[str, str]:
    """Makes the parent of the current version the current one; deletes nothing.

    Returns:
        The name of the version that was current, and of the one that is now.

    Raises:
        ConfigError: The current version is the first.
    """
    versions, current = read_versions(output)
    parent = versions[current].parent
    if parent is None:
        raise ConfigError(
            f"{output.uri}: {current!r} is the first version, there is nothing to undo"
        )
    content = read_dataset(output)
    content["current"] = parent
    write_dataset(output, content)
    return current, parent
