"""What sources and storage locations are made of: protocols and plain records."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, Protocol

import pyarrow as pa

LISTING = pa.schema(
    [
        ("image_key", pa.string()),
        ("uri", pa.string()),  # relative to the source
        ("size_bytes", pa.int64()),  # null where the listing cannot know it
        ("modified", pa.int64()),  # nanoseconds since 1970; null where there is none
    ]
)


class ReadError(Exception):
    """Bytes that did not arrive; `cause` is one of `engine.failures` for the stage `read`."""

    def __init__(self, cause: str, message: object) -> None:
        super().__init__(str(message))
        self.cause = cause


class Blob(NamedTuple):
    """The bytes of one file and when it was last modified (ns since 1970, null if unknown)."""

    data: pa.Buffer
    modified: int | None


class Entry(NamedTuple):
    """One thing found while walking a location.

    `ignored` is null for a file that may be a candidate; else the reason it is not, and the entry
    stands for a whole folder where the reason says so. `regular` is false for pipes, sockets,
    devices and links to nothing: their size is null.
    """

    uri: str
    size_bytes: int | None = None
    modified: int | None = None
    regular: bool = True
    ignored: str | None = None


@dataclass(frozen=True)
class Listing:
    """Every candidate image of a source, in order of `uri` by code points (schema LISTING).

    `ignored` counts what was seen and is no candidate, by reason. With a limit the walk stops
    early, so later entries are in neither.
    """

    uri: str  # the source's, for messages
    images: pa.Table
    ignored: dict[str, int] = field(default_factory=dict)


class Location(Protocol):
    """A folder or bucket prefix. Picklable; holds no connection and no credentials until used.

    Paths are relative to it, with "/" between names, as `engine.source.names` spells them.
    """

    @property
    def uri(self) -> str:
        """As the user gave it, for messages."""

    def walk(self) -> Iterator[Entry]:
        """Everything below, hidden names and links out of it marked as ignored, sorted by uri.

        Raises:
            ConfigError: The location is missing, not a folder, or may not be listed.
        """

    def names(self, folder: str = "") -> list[str]:
        """Names of the files directly in `folder`, hidden ones left out, sorted; may be none."""

    def read(self, path: str, *, max_bytes: int | None = None) -> Blob:
        """The whole file. Never blocks on a pipe or device.

        Raises:
            ReadError: With the cause; `too_many_bytes` before anything larger is read.
        """

    def read_head(self, path: str, num_bytes: int) -> bytes:
        """The first bytes of the file, fewer if it is shorter. Raises as `read`."""

    def write(self, path: str, data: "bytes | memoryview | pa.Buffer") -> None:
        """Writes the whole file, so that a reader sees all of it or the file before it.

        Raises:
            ConfigError: No right to write there, or the place cannot hold it.
            StoppedError: The storage is full or went away; the same command resumes.
        """

    def exists(self, path: str) -> bool:
        """Whether there is a file of that name."""

    def delete(self, path: str) -> None:
        """Removes the file; one that is gone already is fine."""


class Source(Protocol):
    """Where images come from. Picklable, so that every worker can read."""

    @property
    def uri(self) -> str:
        """As the user gave it, for messages."""

    def listing(self, limit: int | None = None) -> Listing:
        """The candidates, all of them or the first `limit` by uri.

        Raises:
            ConfigError: The source is missing or may not be listed.
        """

    def read(self, uri: str, *, max_bytes: int | None = None) -> Blob:
        """The bytes of one image. Raises ReadError with the cause."""
