"""Labels kept as one file per image: listed, read a part at a time, and written back safely."""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.failures import Failure, fail
from engine.formats.shapes import Part
from engine.schema import claims, image_rows
from engine.source.images import EXTENSIONS
from engine.source.labels import LabelError
from engine.source.names import decode_name, encode_name, extension
from engine.source.shapes import Location, ReadError

T = TypeVar("T")
R = TypeVar("R")
Row = dict[str, Any]

_AHEAD = 32  # files read before the first of them is used: enough to keep a net busy
_MAX_PART_BYTES = 64_000_000  # of verbatim records in one part; pictures inside labels are large
_BATCH = 100_000  # paths turned into a column at a time
# Control characters, what another system takes for a folder, hidden names (they would not be read
# again, and ".." is one of them), and empty parts.
_UNSAFE = re.compile(r"[\x00-\x1f\x7f\\]|(?:^|(?<=/))(?:\.|/|$)")
_SAID = ("kind", "role", "text", "box", "polygon", "score", "ignore", "source_id", "extra")
_OF_IMAGE = ("image_key", "uri", "width", "height", "source_id", "extra")


@dataclass
class Labelled:
    """One image and everything its labels say of it; `rows` are claims by column name.

    `unlisted` is set where labels name an image that the set does not have.
    """

    uri: str
    width: int | None = None
    height: int | None = None
    source_id: str | None = None
    extra: str | None = None
    rows: list[Row] = field(default_factory=list)
    failures: list[Failure] = field(default_factory=list)
    unlisted: bool = False

    def failed(self, cause: str, message: object) -> None:
        """Notes that a label of the image could not be taken."""
        self.failures.append(fail("labels", cause, message))


class Files(NamedTuple):
    """Paths of label files and of pictures, as columns in order of their names."""

    labels: pa.Array
    pictures: pa.Array


def find_files(location: Location, endings: Sequence[str]) -> Files:
    """Every label file (by its lower-case extension) and every picture below a location."""
    found: dict[bool, list[pa.Array]] = {True: [], False: []}
    entries = (entry.uri for entry in location.walk() if entry.ignored is None)
    while batch := list(islice(entries, _BATCH)):
        for is_label, wanted in ((True, endings), (False, EXTENSIONS)):
            paths = [path for path in batch if extension(path) in wanted]
            found[is_label].append(pa.array(paths, pa.string()))
    joined = {
        key: pa.concat_arrays(parts or [pa.array([], pa.string())]) for key, parts in found.items()
    }
    return Files(joined[True], joined[False])


def stems(paths: pa.Array) -> pa.Array:
    """The last part of each path, without its extension."""
    return pc.replace_substring_regex(
        pc.replace_substring_regex(paths, r"^.*/", ""), r"\.[^./]*$", ""
    )


def without(paths: pa.Array, labels: pa.Array) -> pa.Array:
    """The paths whose stem is none of `labels`, a column of stems."""
    return paths.filter(pc.invert(pc.is_in(stems(paths), value_set=labels)))


def map_each(location: Location | None, do: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """What `do` gives for each item, in order, as many at a time as the location answers best.

    Without a location, which is for what reads nothing, one at a time.
    """
    if location is None or location.readers == 1:
        yield from map(do, items)
        return
    rest = iter(items)
    with ThreadPoolExecutor(location.readers) as pool:
        while batch := list(islice(rest, _AHEAD)):
            yield from pool.map(do, batch)


def stream(
    location: Location | None,
    items: Iterable[T],
    read: Callable[[T], Labelled],
    part_size: int,
) -> Iterator[Part]:
    """Parts of at most `part_size` images, smaller ones where their records are large.

    `location` is where `read` reads, see `map_each`.

    A name that stands twice is a failure of the second image.
    """
    seen: set[int] = set()  # hashes of the names: the set may have millions
    images: list[Labelled] = []
    size = 0
    for image in map_each(location, read, items):
        if hash(image.uri) in seen:
            image.failed("duplicate_id", f"{image.uri}: a second record of this image")
        seen.add(hash(image.uri))
        images.append(image)
        size += len(image.extra or "") + sum(len(row.get("extra") or "") for row in image.rows)
        if len(images) >= part_size or size >= _MAX_PART_BYTES:
            yield to_part(images)
            images, size = [], 0
    if images:
        yield to_part(images)


def to_part(images: Sequence[Labelled]) -> Part:
    """Images and their rows as tables; keys are their places, as decimal digits."""
    rows = [
        {**row, "image_key": str(place)} for place, image in enumerate(images) for row in image.rows
    ]
    columns = ("image_key", "prompt", "text_score", "human", *_SAID)
    absent = {"human": False, "ignore": False}
    return Part(
        image_rows(
            image_key=[str(place) for place in range(len(images))],
            uri=[image.uri for image in images],
            width=[image.width for image in images],
            height=[image.height for image in images],
            source_id=[image.source_id for image in images],
            extra=[image.extra for image in images],
            status=["failed" if image.unlisted else "ok" for image in images],
            failures=[[failure._asdict() for failure in image.failures] for image in images],
        ),
        claims(**{name: [row.get(name, absent.get(name)) for row in rows] for name in columns}),
    )


def whole_image_class(text: str, prompt: str, extra: str | None = None) -> Row:
    """The row of a class of the whole image, as `engine.source.labels` has it."""
    return {"kind": "text", "role": "alt", "text": text, "prompt": prompt, "extra": extra}


def region(
    text: str, box: Sequence[float] | None, *, role: str = "category", **columns: Any
) -> Row:
    """The row of one region. A ring that is no real outline is left out of its polygon."""
    polygon = columns.pop("polygon", None)
    rings = [ring for ring in polygon or [] if ring and _is_finite(ring)]
    return {
        "kind": "region",
        "role": role,
        "text": text,
        "box": None if box is None else list(box),
        "polygon": rings or None,
        **columns,
    }


def _is_finite(ring: Sequence[float]) -> bool:
    with np.errstate(over="ignore"):
        return bool(np.isfinite(np.asarray(ring, np.float64).astype(np.float32)).all())


def enclosing(ring: Sequence[float]) -> list[float]:
    """The xyxy box around corners x0, y0, x1, y1, ...; NaN where a corner is none."""
    x, y = np.asarray(ring[0::2], np.float64), np.asarray(ring[1::2], np.float64)
    return [float(side) for side in (x.min(), y.min(), x.max(), y.max())]


def number(text: str) -> float:
    """A number as label files spell it; NaN and infinities are numbers too.

    Raises:
        ValueError: It is none; Python's own `1_000` is none either.
    """
    if "_" in text:
        raise ValueError(f"could not convert string to float: {text!r}")
    return float(text)


def finite_score(value: object, image: Labelled, where: str) -> float | None:
    """A score, or null and a failure of the image where it is no finite number."""
    try:
        score = number(value) if isinstance(value, str) else float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError):
        score = float("nan")
    if isinstance(value, bool) or not _is_finite([score]):
        image.failed("bad_labels", f"{where}: score {str(value)[:40]!r} is not a finite number")
        return None
    return score


def read_text(location: Location, path: str, max_bytes: int) -> str:
    """The text of a label file, a byte order mark left in.

    Raises:
        LabelError: It cannot be read, is too large, or is not UTF-8: names the line.
    """
    return decode(read_bytes(location, path, max_bytes), path)


def read_bytes(location: Location, path: str, max_bytes: int) -> bytes:
    """The bytes of a label file.

    Raises:
        LabelError: It cannot be read, or is larger than `max_bytes`.
    """
    try:
        return bytes(location.read(path, max_bytes=max_bytes).data)
    except ReadError as err:
        if err.cause == "too_many_bytes":
            said = f"{path}: larger than limits.max_label_bytes ({max_bytes})"
            raise LabelError("too_many_labels", said) from err
        raise LabelError(err.cause, f"{path}: {err}") from err


def decode(data: bytes, path: str) -> str:
    """UTF-8 text.

    Raises:
        LabelError: It is not UTF-8: names the line.
    """
    try:
        return data.decode()
    except UnicodeDecodeError as err:
        line = data.count(b"\n", 0, err.start) + 1
        said = f"{path}: line {line}: byte {data[err.start]:02X} is not UTF-8; save it as UTF-8"
        raise LabelError("bad_labels", said) from err


def images_of(part: Part) -> Iterator[tuple[Row, list[Row]]]:
    """Each image of a part to be written, with its rows, by column name."""
    images = part.images.select(list(_OF_IMAGE)).to_pylist()
    rows: dict[str, list[Row]] = {image["image_key"]: [] for image in images}
    for row in part.rows.select(["image_key", "prompt", *_SAID]).to_pylist():
        rows[row["image_key"]].append(row)
    for image in images:
        yield image, rows[image["image_key"]]


def write_each(location: Location, files: Iterable[tuple[str, bytes]]) -> None:
    """Writes files by path, several at a time where the location answers so best."""
    for _ in map_each(location, lambda file: location.write(*file), files):
        pass


def cleaned(path: str) -> str:
    r"""A path below the output for a name of any origin; a good one comes back as it is.

    Example:
        >>> cleaned("a/b.jpg"), cleaned("../../etc/x"), cleaned("C:\\photos\\d.jpg")
        ('a/b.jpg', 'etc/x', 'photos/d.jpg')
        >>> cleaned("/etc/x"), cleaned("a//.b/"), cleaned("a/../..")
        ('etc/x', 'a/_b', 'a')
    """
    if not _UNSAFE.search(path):
        return path
    parts = re.split(r"[/\\]", decode_name(path))
    kept = [
        _UNSAFE.sub("_", part)
        for place, part in enumerate(parts)
        if part.strip() not in ("", ".", "..") and not (place == 0 and part.endswith(":"))
    ]
    return encode_name("/".join(kept)) or "image"


class Paths:
    """Paths of files to be written: none leads out, none is given twice."""

    def __init__(self) -> None:
        self._taken: set[int] = set()
        self._next: Counter[int] = Counter()
        self.renamed = 0

    def claim(self, wanted: str) -> str:
        """The path, or one like it that is free."""
        path = own = cleaned(wanted)
        stem, dot, ending = own.rpartition(".")
        while hash(path) in self._taken:
            self._next[hash(own)] += 1
            path = f"{stem or ending}-{self._next[hash(own)] + 1}{dot}{ending if stem else ''}"
        self.renamed += path != own
        self._taken.add(hash(path))
        return path


class LeftOut:
    """Counts what a format cannot say."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._counts: Counter[str] = Counter()

    def count(self, what: str, times: int = 1) -> None:
        """Notes something by a sentence about it, such as "no scores"."""
        self._counts[what] += times

    def row(self, row: Mapping[str, Any]) -> None:
        """Notes a row that is not written."""
        missing = " without a box" if row["kind"] == "region" and row["box"] is None else ""
        self.count(f"rows of {row['kind']}/{row['role']}{missing} are not written")

    def notes(self) -> list[str]:
        """One sentence each, with its count."""
        return [f"{self._name}: {count:,} {what}" for what, count in self._counts.items() if count]


def changed_stem(path: str, ending: str) -> str:
    """The path with another extension (with its dot).

    Example:
        >>> changed_stem("a/b.jpg", ".txt"), changed_stem("a.b/c", ".txt")
        ('a/b.txt', 'a.b/c.txt')
    """
    folder, slash, name = path.rpartition("/")
    stem, dot, last = name.rpartition(".")
    return f"{folder}{slash}{stem if dot and stem else last or 'image'}{ending}"


def picture_uri(folder: str, spelled: str) -> str:
    """Where a picture lies that labels in `folder` call so; its bare name if that leads out.

    Example:
        >>> picture_uri("a", "../b/c.jpg"), picture_uri("a", "../../c.jpg")
        ('b/c.jpg', 'a/c.jpg')
    """
    parts = folder.split("/") if folder else []
    own = spelled.replace("\\", "/")
    leads_out = own.startswith("/") or own[1:2] == ":"
    for part in own.split("/") if not leads_out else []:
        if part == ".." and not parts:
            leads_out = True
            break
        if part == "..":
            parts.pop()
        elif part not in ("", "."):
            parts.append(part)
    if leads_out:
        parts = [*(folder.split("/") if folder else []), own.rpartition("/")[2]]
    return "/".join(parts)
