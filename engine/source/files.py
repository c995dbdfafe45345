"""Archives and tables that a uri names: one file, a pattern of several, or all in a folder."""

import re
from collections.abc import Sequence

from braceexpand import braceexpand

from engine.errors import ConfigError
from engine.source.shapes import Location, ReadError

_MAX_FILES = 10_000_000  # a pattern beyond it is a slip of the pen, not a dataset


def split_files(uri: str, endings: Sequence[str]) -> tuple[str, str | None]:
    """The folder of the files, and what they are called in it; null for all that end like that.

    Args:
        uri: `folder`, `folder/x.tar` or `folder/{0..9}.tar`, with or without a scheme.
        endings: Lower-case ends of file names, each with its dot.

    Example:
        >>> split_files("s3://b/c/{0..2}.tar", [".tar"]), split_files("c/", [".tar"])
        (('s3://b/c', '{0..2}.tar'), ('c/', None))
    """
    if not uri.lower().endswith(tuple(endings)):
        return uri, None
    before = re.split(r"[{]", uri, maxsplit=1)[0]
    folder, slash, _ = before.rpartition("/")
    if not slash:
        return ".", uri
    return folder or "/", uri[len(folder) + 1 :]


def list_files(location: Location, uri: str, endings: Sequence[str]) -> list[str]:
    """The files, relative to their folder: of a pattern in its order, of a folder sorted.

    A file that a pattern names is listed whether it exists or not.

    Raises:
        ConfigError: The pattern cannot be understood or names too many, or the folder holds no such
            file.
    """
    _, pattern = split_files(uri, endings)
    if pattern is not None:
        try:
            names = list(dict.fromkeys(_expanded(pattern)))
        except ValueError as err:  # braces that do not match
            raise ConfigError(f"source.uri {uri!r}: {err}; write it like {{0000..0127}}") from err
        return names
    names = [name for name in location.names() if name.lower().endswith(tuple(endings))]
    if not names:
        raise ConfigError(
            f"{uri!r}: holds no file that ends in {', '.join(endings)}; give their folder, one of "
            f"them, or a pattern like {{0000..0127}}{endings[0]}"
        )
    return names


def refuse_missing(uri: str, err: ReadError) -> None:
    """Refuses a uri that is one file which cannot be opened: that is a slip of the pen.

    Of several files one that is missing is a candidate that fails; the others may be fine.

    Raises:
        ConfigError: The uri names one file, and it is missing or no file.
    """
    if "{" not in uri and err.cause in ("missing", "special_file", "permission_denied"):
        raise ConfigError(f"{uri!r}: {err}; correct source.uri") from err


def _expanded(pattern: str) -> Sequence[str]:
    names = []
    for name in braceexpand(pattern):
        names.append(name)
        if len(names) > _MAX_FILES:
            raise ConfigError(f"source.uri: {pattern!r} names more than {_MAX_FILES:,} files")
    return names
