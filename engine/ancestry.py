"""The label versions of a dataset: which there are, what each came from, where its pixels lie."""

import io
import re
import tarfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any

from engine.errors import ConfigError, ShardError
from engine.sink import ShardFiles
from engine.source.shapes import Location

_NAME = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._-]*")


def find_version(output: Location, content: Mapping[str, Any], version: str | None) -> str:
    """The version of that name, or the current one.

    Args:
        output: The dataset's, for messages.
        content: Of its dataset.json.
        version: Null for the current one.

    Raises:
        ConfigError: There is no such version; those there are, are named.
    """
    name = str(content["current"]) if version is None else version
    if name not in content["versions"]:
        known = ", ".join(content["versions"])
        raise ConfigError(f"{output.uri}: no label version {name!r}; there are: {known}")
    if not _NAME.fullmatch(name):
        raise ConfigError(
            f"{output.uri}: its dataset.json has a label version {name!r}, which is no name of a "
            "folder; names are letters, digits, dots, dashes and underscores"
        )
    return name


def ancestors(content: Mapping[str, Any], version: str) -> list[str]:
    """The version, its parent, the parent's parent and so on to the first."""
    found: list[str] = []
    known, name = content["versions"], version
    while name in known and name not in found:
        found.append(name)
        name = known[name].get("parent")
    return found


def pixel_version(output: Location, versions: Sequence[str], shard: int) -> str | None:
    """The first of those versions whose tar of that shard holds pictures; null where none does."""
    for version in versions:
        path = f"{version}/{ShardFiles(shard).tar}"
        if output.exists(path) and any(True for _ in _members(output, path, None)):
            return version
    return None


def read_pixels(
    output: Location, versions: Sequence[str], shard: int, keys: Collection[str]
) -> Iterator[tuple[str, bytes]]:
    """Key and encoded bytes of images of one shard, from the first version whose tar has any.

    A label version that copied no pixels has those of the version it came from.

    Args:
        output: The dataset's.
        versions: As `ancestors` gives them.
        shard: Its number.
        keys: Of the images wanted; those no tar holds are left out.

    Raises:
        ShardError: A tar is damaged.
    """
    for version in versions:
        path = f"{version}/{ShardFiles(shard).tar}"
        if not keys or not output.exists(path):
            continue
        any_found = False
        for key, data in _members(output, path, keys):
            any_found = True
            yield key, data
        if any_found:
            return


def _members(
    output: Location, path: str, keys: Collection[str] | None
) -> Iterator[tuple[str, bytes]]:
    """The images among the members: one at a time from a disk, the whole tar from a bucket."""
    local = output.readers == 1
    file = output.open(path).file if local else io.BytesIO(output.read(path).data)
    try:
        with file, tarfile.open(fileobj=file, mode="r:") as tar:
            for member in tar:
                key, _, suffix = member.name.partition(".")
                if suffix == "json" or (keys is not None and key not in keys):
                    continue
                content = tar.extractfile(member)
                yield key, content.read() if content is not None else b""
    except (tarfile.TarError, EOFError) as err:
        raise damaged(output, path, err) from err


def damaged(output: Location, path: str, why: object) -> ShardError:
    """What to tell of a file of a finished shard that cannot be read as it should."""
    said = " ".join(str(why).split()) or "ends early"
    return ShardError(
        f"{output.uri}: {path} is gone or damaged ({said}); delete the marker of its shard, and "
        "the command that made it makes it again"
    )
