"""What sources and storage locations are made of: protocols and plain records."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, Protocol, TypeGuard

import pyarrow as pa

from engine.config import LimitsConfig
from engine.errors import ConfigError
from engine.failures import Failure

# Bytes of a file, or rows of a table, that belong to an image: `field` is what a tar calls them
# (jpg, json, txt, cls), `row` for one of a file of images, the table's own name for one of a table.
# Of a row `offset` is its number and `size` is null, but in text, where both are bytes. What
# cannot be read has the cause as its only field.
PLACE = pa.list_(
    pa.struct([("field", pa.string()), ("offset", pa.int64()), ("size", pa.int64())]),
)
LISTING = pa.schema(
    [
        ("image_key", pa.string()),
        ("uri", pa.string()),  # relative to the source
        ("size_bytes", pa.int64()),  # null where the listing cannot know it
        ("modified", pa.int64()),  # nanoseconds since 1970; null where there is none
        ("place", PLACE),  # where in an archive or table; null for a file of its own
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


class Sample(NamedTuple):
    """One image as its source gives it, with what the source says of it.

    `rows` are claims without image, source and ids: values by column name of
    `engine.schema.CLAIM`, which may name each other in `annotation_id` (see `engine.merge`).
    `failures` (stage `labels`) tell which of its labels could not be taken.
    """

    data: pa.Buffer
    modified: int | None = None
    licence: str | None = None
    source: str | None = None  # the `source` of its rows; one of `Source.produces`
    rows: Sequence[Mapping[str, Any]] = ()
    failures: Sequence[Failure] = ()


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

    A source that is in shards already adds a column `shard` (int32) and lists them in their order.
    `ignored` counts what was seen and is no candidate, by reason. With a limit the walk stops
    early, so later entries are in neither.
    """

    uri: str  # the source's, for messages
    images: pa.Table
    ignored: dict[str, int] = field(default_factory=dict)


def check_limit(limit: int | None) -> None:
    """Refuses a limit of a listing that is below 1.

    Raises:
        ConfigError: With what was given.
    """
    if limit is not None and limit < 1:
        raise ConfigError(f"limit is {limit}; give 1 or more, or leave it out")


class Opened(NamedTuple):
    """A file open for reading, its size in bytes, and when it was last modified (as in `Blob`)."""

    file: pa.NativeFile
    size: int
    modified: int | None


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

    @property
    def readers(self) -> int:
        """How many reads at a time it answers best; more than one where each waits for a net."""

    def leads_out(self, path: str) -> bool:
        """Whether a link on the way to a file leads out of the location."""

    def open(self, path: str) -> "Opened":
        """The file, open for reading at any place; the caller closes it.

        Raises:
            ReadError: With the cause.
        """

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

    @property
    def produces(self) -> Mapping[str, tuple[str, ...]]:
        """By name of a labelled source, "kind/role" of the rows it may give; none without labels.

        Several parts of one source may bear different names.
        """

    def listing(self, limit: int | None = None) -> Listing:
        """The candidates, all of them or the first `limit` by uri.

        Raises:
            ConfigError: The source is missing or may not be listed.
        """

    def read(self, images: pa.Table, limits: LimitsConfig) -> Iterator["Sample | ReadError"]:
        """Each of the images, or why its bytes did not arrive, in order.

        Args:
            images: Rows of the plan or listing: `uri` and `place` are looked at.
            limits: Of bytes; nothing larger is read.
        """


class Ledger(Source, Protocol):
    """A source that gives rows as a label version has them: with ids, and verdicts that stay.

    Told by having `claims`.
    """

    @property
    def order(self) -> Mapping[str, Any]:
        """`levels` and `replacing` of its rows; see `engine.versions.Version`.

        Raises:
            ConfigError: The source is missing.
        """

    def claims(self, images: pa.Table) -> pa.Table:
        """All rows on those images, in the schema `engine.schema.ANNOTATIONS`.

        Args:
            images: Rows of one shard of the plan or listing.
        """


def is_ledger(source: Source) -> TypeGuard[Ledger]:
    """Whether the rows of a source come with ids and verdicts."""
    return hasattr(source, "claims")
