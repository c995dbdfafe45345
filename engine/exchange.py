"""Labels of other formats into a dataset of ours, and out of one again."""

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.config import LimitsConfig
from engine.errors import ConfigError, TableError
from engine.failures import fail
from engine.formats.shapes import Header, LabelSet, Part
from engine.merge import check_rows, identify
from engine.output import read_if_there
from engine.reading import read_pixels, read_tables
from engine.schema import CLAIM, FAILURE, IMAGES, Tables, canonical
from engine.source.filesystem import read_each
from engine.source.names import image_keys
from engine.source.shapes import Blob, Location, ReadError, Sample
from engine.source.shard import read_shard
from engine.source.table_uris import root_of

ORIGIN = "origin.json"  # what imported labels said once for all images, by source


@dataclass(frozen=True, kw_only=True)
class Origin:
    """Where labels come from.

    Attributes:
        name: The `source` of their rows.
        human: Whether a person said them all.
        licence: Of every image that names none itself.
    """

    name: str
    human: bool = False
    licence: str | None = None


class Keys:
    """Gives every image of a label set a key; of records that name one picture each has its own.

    Web captions name some addresses many times. What was seen is held as 8 bytes an image.
    """

    def __init__(self) -> None:
        self._seen = [np.empty(0, np.uint64)]  # sorted, the longest first
        self._count = 0

    def of(self, uris: Sequence[str]) -> list[str]:
        """A key for each uri, as `image_keys` makes them; of a repetition with its number in it."""
        digests = np.array([_digest(uri) for uri in uris], np.uint64)
        known = np.zeros(len(digests), bool)
        for earlier in self._seen:
            known |= np.isin(digests, earlier)
        _, first = np.unique(digests, return_index=True)
        is_first = np.zeros(len(digests), bool)
        is_first[first] = True
        repeated = known | ~is_first
        self._add(np.sort(digests[~repeated]))
        named = [
            f"{uri}//{self._count + i}" if again else uri
            for i, (uri, again) in enumerate(zip(uris, repeated.tolist(), strict=True))
        ]
        self._count += len(uris)
        return image_keys(named)

    def _add(self, digests: npt.NDArray[np.uint64]) -> None:
        self._seen.append(digests)
        while len(self._seen) > 1 and len(self._seen[-2]) <= 2 * len(self._seen[-1]):
            last = self._seen.pop()
            self._seen[-1] = np.sort(np.concatenate([self._seen[-1], last]))


def _digest(uri: str) -> int:
    return int.from_bytes(hashlib.blake2b(uri.encode(), digest_size=8).digest(), "little")


def identified(part: Part, origin: Origin, known: Keys) -> Tables:
    """A part with keys and ids; an image whose rows break the table's rules keeps none of them.

    Such an image has a failure (stage `labels`, `bad_labels`) that says what was wrong.
    """
    keys = known.of(part.images["uri"].to_pylist())
    images = part.images
    if origin.licence is not None:
        licences = pc.coalesce(images["licence"], pa.scalar(origin.licence))
        images = _with(images, licence=licences)
    images = _with(images, image_key=pa.array(keys, pa.string()))
    rows = part.rows
    places = pc.cast(rows["image_key"], pa.int32())
    rows = _with(rows, image_key=pa.array(keys, pa.string()).take(places.combine_chunks()))
    if origin.human:
        rows = _with(rows, human=pa.repeat(pa.scalar(value=True), rows.num_rows))
    try:
        checked = check_rows(rows, keys)
    except TableError:
        images, checked = _each_checked(images, rows, origin.name)
    return Tables(images, identify(checked, source=origin.name, model=None, revision=None))


def _with(table: pa.Table, **columns: Any) -> pa.Table:
    for name, values in columns.items():
        place = table.schema.get_field_index(name)
        table = table.set_column(place, table.schema.field(place), values)
    return table


def _each_checked(images: pa.Table, rows: pa.Table, source: str) -> tuple[pa.Table, pa.Table]:
    """Of all images: each alone tells whose fault it is."""
    good, refused = [CLAIM.empty_table()], dict[str, dict[str, Any]]()
    for key in pc.unique(rows["image_key"]).to_pylist():
        mine = rows.filter(pc.equal(rows["image_key"], key))
        try:
            good.append(check_rows(mine, [key]))
        except TableError as err:
            refused[key] = fail("labels", "bad_labels", err, source=source)._asdict()
    failures = [
        [*(told or ()), *([refused[key]] if key in refused else [])]
        for key, told in zip(
            images["image_key"].to_pylist(), images["failures"].to_pylist(), strict=True
        )
    ]
    images = _with(images, failures=pa.array(failures, pa.list_(FAILURE)))
    return images, pa.concat_tables(good).unify_dictionaries().combine_chunks()


@dataclass(frozen=True)
class Pictures:
    """The pictures of a label set, by the names its labels use; a `Source` as far as it is read."""

    location: Location
    produces: Mapping[str, tuple[str, ...]] = field(init=False, default_factory=dict)

    @property
    def uri(self) -> str:
        """Of their folder."""
        return self.location.uri

    def listing(self, limit: int | None = None) -> Any:
        """Never asked: the labels say which pictures there are."""
        raise NotImplementedError

    def read(self, images: pa.Table, limits: LimitsConfig) -> Iterator[Sample | ReadError]:
        """The bytes of each picture; see `engine.source.shapes.Source`."""
        load = partial(self._load, limits)
        yield from read_each(self.location, load, images["uri"].to_pylist())

    def _load(self, limits: LimitsConfig, uri: str) -> Sample | ReadError:
        try:
            path = path_of(self.location, uri)
            return Sample(self.location.read(path, max_bytes=limits.max_bytes).data)
        except ReadError as err:
            return err


def path_of(pictures: Location, uri: str) -> str:
    """Where below the folder of the pictures the one lies that labels call so.

    Raises:
        ReadError: `unsafe_path` for what leads elsewhere, `missing` for what names no file.
    """
    path = root_of(pictures).path_of(uri)
    if pictures.leads_out(path):
        raise ReadError("unsafe_path", "a link out of source.images; it is not followed")
    return path


def with_pictures(
    images: pa.Table, pictures: Location, limits: LimitsConfig
) -> tuple[pa.Table, dict[str, Any]]:
    """The images measured as those of any source are, and their bytes by key.

    Labels whose picture is missing or broken make a `failed` image. Where the labels say another
    size than the picture has, upright as viewers show it, a failure (`bad_labels`) says so.
    """
    unknown = pa.nulls(images.num_rows, pa.int64())
    plan = pa.table(
        [images["image_key"], images["uri"], unknown], ["image_key", "uri", "size_bytes"]
    )
    loaded = read_shard(Pictures(pictures), plan, None, limits)
    found = loaded.images.to_pylist()
    for told, seen in zip(images.to_pylist(), found, strict=True):
        seen["source_id"], seen["extra"] = told["source_id"], told["extra"]
        seen["licence"] = told["licence"]
        seen["failures"] = [*(told["failures"] or ()), *(seen["failures"] or ())]
        if told["status"] == "failed":
            seen["status"] = "failed"
        sizes = [(each["width"], each["height"]) for each in (told, seen)]
        if None not in sizes[0] and None not in sizes[1] and sizes[0] != sizes[1]:
            said, real = (f"{width} by {height}" for width, height in sizes)
            message = f"the labels say {said} px, the picture has {real}: boxes may be out of place"
            seen["failures"].append(fail("labels", "bad_labels", message)._asdict())
    data = zip(images["image_key"].to_pylist(), loaded.data, strict=True)
    table = pa.Table.from_pylist(found, schema=IMAGES)
    ok = set(table.filter(pc.equal(table["status"], "ok"))["image_key"].to_pylist())
    return table, {key: content for key, content in data if content is not None and key in ok}


def write_origin(output: Location, name: str, header: Header) -> None:
    """Keeps what a label set said once, so that it can be written again."""
    content = {name: asdict(header)}
    output.write(ORIGIN, (json.dumps(content, ensure_ascii=False, indent=1) + "\n").encode())


def read_origin(output: Location) -> dict[str, Header]:
    """What imported labels said once for all images, by source; nothing where none were."""
    raw = read_if_there(output, ORIGIN)
    if raw is None:
        return {}
    try:
        content = json.loads(raw.to_pybytes())
        return {name: Header(**header) for name, header in content.items()}
    except (ValueError, TypeError, AttributeError) as err:
        raise ConfigError(f"{output.uri}: its {ORIGIN} is not readable: {err}") from err


class StoredPictures:
    """The pictures in a dataset's tars by their uri, those of the shard that was read last."""

    def __init__(self, output: Location, version: str) -> None:
        self._output = output
        self._version = version
        self._shard = -1
        self._keys: dict[str, str] = {}
        self._data: dict[str, bytes] | None = None

    def hold(self, shard: int, images: pa.Table) -> None:
        """Goes on to another shard."""
        uris, keys = images["uri"].to_pylist(), images["image_key"].to_pylist()
        self._shard, self._data = shard, None
        self._keys = dict(zip(uris, keys, strict=True))

    def read(self, path: str, *, max_bytes: int | None = None) -> Blob:
        """The bytes of a picture; as `Location.read`."""
        if self._data is None:
            keys = list(self._keys.values())
            self._data = read_pixels(self._output, self._version, self._shard, keys)
        data = self._data.get(self._keys.get(path, ""))
        if data is None:
            raise ReadError("missing", "the dataset holds no pixels of it")
        if max_bytes is not None and len(data) > max_bytes:
            raise ReadError("too_many_bytes", f"{len(data)} bytes")
        return Blob(pa.py_buffer(data), None)


def kept_labels(
    output: Location,
    version: str,
    kind: str,
    *,
    source: str | None = None,
    pictures: StoredPictures | None = None,
) -> LabelSet:
    """The kept rows of a label version, to be written in a format.

    Args:
        output: The dataset's.
        version: Its label version.
        kind: The format; records that came in it are written back as they were.
        source: Rows of this source alone; null for all.
        pictures: Told of each shard, for a format that takes the pictures along.
    """
    origins = read_origin(output)
    same = next((name for name, header in origins.items() if header.kind == kind), None)
    classes = next((header.classes for header in origins.values() if header.classes), ())
    header = origins[same] if same is not None else Header("dataset", classes)
    return LabelSet(header, _kept_parts(output, version, same, source, pictures))


def _kept_parts(
    output: Location,
    version: str,
    origin: str | None,
    source: str | None,
    pictures: StoredPictures | None,
) -> Iterator[Part]:
    for shard, images, every_row in read_tables(output, version):
        if pictures is not None:
            pictures.hold(shard, images)
        wanted = every_row
        if source is not None:
            wanted = every_row.filter(pc.equal(every_row["source"].cast(pa.string()), source))
        yield _of_origin(kept_part(images, wanted), origin)


def _of_origin(part: Part, origin: str | None) -> Part:
    """The records of other formats left out: they are not to be written back in this one."""
    nothing = pa.scalar(None, pa.string())
    if origin is None:
        images, rows = (_with(t, extra=pa.nulls(t.num_rows, pa.string())) for t in part)
        return Part(images, rows)
    ours = pc.equal(part.rows["source"].cast(pa.string()), origin)
    return Part(part.images, _with(part.rows, extra=pc.if_else(ours, part.rows["extra"], nothing)))


def kept_part(images: pa.Table, rows: pa.Table) -> Part:
    """Of tables with verdicts, the images that are `ok` and the claims on them that were kept.

    An imported image that has the bytes of another is among them: its labels are its own.
    """
    imported_twice = pc.and_(
        pc.and_(pc.equal(images["status"], "duplicate"), pc.is_null(images["rule"])),
        pc.is_valid(images["source_id"]),
    )
    ok = images.filter(pc.or_(pc.equal(images["status"], "ok"), imported_twice))
    on_ok = pc.is_in(rows["image_key"], ok["image_key"].combine_chunks())
    kept = pc.and_(pc.equal(rows["status"].cast(pa.string()), "kept"), on_ok)
    return Part(ok, canonical(rows.filter(kept).select(CLAIM.names), CLAIM))
