"""A bucket or folder of loose images, folders within folders included."""

from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice

import pyarrow as pa

from engine.config import LimitsConfig
from engine.sniff import HEAD_BYTES, sniff
from engine.source.filesystem import open_location, read_each
from engine.source.names import extension, image_keys
from engine.source.shapes import LISTING, Entry, Listing, Location, ReadError, Sample, check_limit

EXTENSIONS = frozenset({"jpg", "jpeg", "png", "webp", "tif", "tiff", "bmp", "gif"})

_BATCH = 8192  # entries sorted out at a time; what a walk holds beside its result
_SNIFFERS = 16  # files without extension are opened to look inside, which waits for the storage
_MAX_EXTENSION = 8  # characters; a longer one is part of the name and gets no count of its own


@dataclass(frozen=True, kw_only=True)
class Images:
    """Loose images below `uri`, sorted by their path relative to it.

    Candidates are files with a known extension in any case, whatever they hold, and files without
    extension that start like an image. Names starting with a dot are left out, as are links out of
    the folder and links to folders (see `LocalFolder.walk`). Everything left out is counted.

    Attributes:
        uri: A local path, `file://`, `s3://bucket/prefix` or `gs://bucket/prefix`.
        endpoint: Address of an S3 or GCS compatible server.
        region: The bucket's region.
        anonymous: Send no credentials.
        licence: Of every image.
    """

    uri: str
    licence: str | None = None
    endpoint: str | None = None
    region: str | None = None
    anonymous: bool = False
    location: Location = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        location = open_location(
            self.uri, endpoint=self.endpoint, region=self.region, anonymous=self.anonymous
        )
        # derived once; the config fields stay frozen
        object.__setattr__(self, "location", location)

    def listing(self, limit: int | None = None) -> Listing:
        """The candidates and a count of everything else; see `engine.source.shapes.Source`.

        One look per file, none inside but where the extension is missing. Ten million files take
        about a gigabyte in columns.
        """
        check_limit(limit)
        ignored: Counter[str] = Counter()
        batches: list[pa.RecordBatch] = []
        missing = limit
        walk = self.location.walk()
        while (missing is None or missing > 0) and (entries := list(islice(walk, _BATCH))):
            found = self._candidates(entries, ignored)[:missing]
            batches.append(_columns(found))
            missing = None if missing is None else missing - len(found)
        return Listing(
            self.uri, pa.Table.from_batches(batches, LISTING), dict(sorted(ignored.items()))
        )

    @property
    def produces(self) -> dict[str, tuple[str, ...]]:
        """Nothing: loose images have no labels."""
        return {}

    def read(self, images: pa.Table, limits: LimitsConfig) -> Iterator[Sample | ReadError]:
        """The images, many at a time from a bucket; see `engine.source.shapes.Source`."""

        def load(uri: str) -> Sample | ReadError:
            try:
                blob = self.location.read(uri, max_bytes=limits.max_bytes)
            except ReadError as err:
                return err
            return Sample(blob.data, blob.modified, self.licence)

        return read_each(self.location, load, images["uri"].to_pylist())

    def _candidates(self, entries: list[Entry], ignored: Counter[str]) -> list[Entry]:
        """The candidates among entries, in their order; the others are counted."""
        bare = [
            entry.uri for entry in entries if entry.ignored is None and not extension(entry.uri)
        ]
        reasons = dict(zip(bare, self._look_inside(bare), strict=True))
        found = []
        for entry in entries:
            reason = entry.ignored or reasons.get(entry.uri) or _unknown_extension(entry.uri)
            if reason:
                ignored[reason] += 1
            else:
                found.append(entry)
        return found

    def _look_inside(self, uris: list[str]) -> list[str | None]:
        """Per file without extension, the reason it is no candidate; null for an image."""
        if not uris:
            return []
        with ThreadPoolExecutor(_SNIFFERS) as pool:
            return list(pool.map(self._reason_inside, uris))

    def _reason_inside(self, uri: str) -> str | None:
        try:
            head = self.location.read_head(uri, HEAD_BYTES)
        except ReadError as err:
            return f"no extension, {err.cause}"
        return None if sniff(head) else "no extension, no image inside"


def _unknown_extension(uri: str) -> str | None:
    ending = extension(uri)
    if ending in EXTENSIONS or not ending:
        return None
    return f"extension .{ending}" if len(ending) <= _MAX_EXTENSION else "other extensions"


def _columns(entries: Iterable[Entry]) -> pa.RecordBatch:
    uris, sizes, modified = [], [], []
    for entry in entries:
        uris.append(entry.uri)
        sizes.append(entry.size_bytes)
        modified.append(entry.modified)
    return pa.RecordBatch.from_pydict(
        {
            "image_key": image_keys(uris),
            "uri": uris,
            "size_bytes": sizes,
            "modified": modified,
            "place": [None] * len(uris),
        },
        LISTING,
    )
