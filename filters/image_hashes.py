"""Decontamination: images that a benchmark holds, found by a list of its hashes."""

import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.csv
import pyarrow.parquet as pq

from engine.errors import ConfigError
from engine.pixels import DecodeError, probe
from engine.protocols import Context
from engine.schema import Tables, Verdicts
from engine.source.measures import hash_picture, perceptual_hashes
from filters.columns import Indices, flags
from filters.image_duplicates import check_distance, tells_pictures_apart
from filters.image_hamming import Distances, Hashes, distance, read_hashes

_SPELLED = {"phash": re.compile(r"[0-9a-f]{16}"), "sha256": re.compile(r"[0-9a-f]{64}")}
_NAMES = ("image_key", "name", "file_name", "uri")  # what a list may call its pictures
_WANTED = (*_NAMES, *_SPELLED)
_PAIRS_AT_ONCE = 1 << 22  # 64 MB of differences in flight
_MAX_PIXELS = 200_000_000  # as limits.max_pixels has it
_SHARD_TABLES = "*.images.parquet"


@dataclass(frozen=True, kw_only=True)
class Decontaminate:
    """Reject images that a benchmark holds, by a list of its hashes.

    Measures in how many of 64 bits the perceptual hash differs from the nearest of the list, and
    rejects when measured <= max_distance; an image whose `sha256` is on the list measures 0.
    `against` is the name the list gives that picture, or its hash. An image without hashes is left
    alone, and so is a plain one (see `near_duplicate`, which also says where the default is from)
    but for its sha256.

    Attributes:
        hashes: A Parquet or CSV file with a column `phash` (16 hex digits, as our images tables
            have) or `sha256` (64) or both, and maybe `image_key`, `name`, `file_name` or `uri`;
            the folder of a label version, whose images tables are such files; or a text file of
            one hash per line, `#` begins a comment. `write_hashes` makes one from photos. Every
            machine that judges must find it there; it is part of a config's identity by its name
            only.
        max_distance: 0 to 16; 0 asks for equal hashes.
    """

    hashes: str
    max_distance: int = 4
    _path: str = field(init=False, repr=False, compare=False)  # workers may run elsewhere
    name: ClassVar[str] = "decontaminate"
    applies_to: ClassVar[tuple[str, ...]] = ("image",)

    def __post_init__(self) -> None:
        check_distance(self.name, self.max_distance)
        object.__setattr__(self, "_path", str(Path(self.hashes).absolute()))
        self._list()

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """Verdict columns, one entry per row of `tables.images`, in its order."""
        images, known = tables.images, self._list()
        measured = np.full(images.num_rows, np.nan, np.float32)
        which = np.full(images.num_rows, -1, np.int64)
        hashed = np.flatnonzero(flags(pc.is_valid(images["phash"])))
        hashes = read_hashes(images["phash"].take(pa.array(hashed)))
        telling = tells_pictures_apart(hashes)
        hashed, hashes = hashed[telling], hashes[telling]
        if len(known.hashes) and len(hashes):
            places, away = _nearest(hashes, known.hashes)
            measured[hashed], which[hashed] = away, known.hash_names[places]
        same = pc.fill_null(pc.index_in(images["sha256"], known.digests), -1).to_numpy()
        measured[same >= 0], which[same >= 0] = 0, known.digest_names[same[same >= 0]]
        rejected = measured <= self.max_distance
        return Verdicts(
            pa.array(rejected),
            measured=pa.array(measured, pa.float32(), from_pandas=True),
            limit=self.max_distance,
            against=known.names.take(pa.array(which, mask=~rejected)),
        )

    def _list(self) -> "_Known":
        """The list, read once per process as long as the file stays as it is."""
        files = _files(Path(self._path))
        state = tuple((str(path), path.stat().st_mtime_ns, path.stat().st_size) for path in files)
        return _read_all(state)


class _Known(NamedTuple):
    """Hashes of a benchmark; `*_names` are places in `names`."""

    names: pa.Array
    hashes: Hashes
    hash_names: Indices
    digests: pa.Array
    digest_names: Indices


def write_hashes(photos: Iterable[str | Path], path: str | Path) -> int:
    """Writes the list `decontaminate` reads: name, phash and sha256 of each photo, as Parquet.

    Args:
        photos: Image files, such as `Path("val2017").glob("*.jpg")`; taken in order of their names.
        path: Where to write it.

    Returns:
        How many.

    Raises:
        ConfigError: A photo cannot be read; the message names it.
    """
    names, pictures, digests = [], [], []
    for photo in sorted(Path(each) for each in photos):
        try:
            data = photo.read_bytes()
            pictures.append(hash_picture(probe(data, max_pixels=_MAX_PIXELS).thumbnail))
        except (OSError, DecodeError) as err:
            raise ConfigError(f"{photo}: {err}; leave it out of the list") from err
        names.append(photo.name)
        digests.append(hashlib.sha256(data).hexdigest())
    columns = {"name": names, "phash": perceptual_hashes(pictures), "sha256": digests}
    pq.write_table(pa.table({name: pa.array(c, pa.string()) for name, c in columns.items()}), path)
    return len(names)


def _files(path: Path) -> list[Path]:
    """The file, or the images tables in the folder.

    Raises:
        ConfigError: There is none.
    """
    files = sorted(path.glob(_SHARD_TABLES)) if path.is_dir() else [path]
    if not files:
        raise ConfigError(
            f"rule 'decontaminate': hashes {path} is a folder without {_SHARD_TABLES}; name a "
            "label version of a dataset, or a file"
        )
    if not files[0].is_file():
        raise ConfigError(
            f"rule 'decontaminate': hashes {path} is not there; name a Parquet, CSV or text file"
        )
    return files


@lru_cache(maxsize=4)
def _read_all(files: tuple[tuple[str, int, int], ...]) -> _Known:
    """The lists of those files (path, time, size) as one.

    Raises:
        ConfigError: A file that is no such list, or none of them has a hash.
    """
    listed = pa.concat_tables([_read(Path(path)) for path, _, _ in files]).combine_chunks()
    valid = {column: np.flatnonzero(flags(pc.is_valid(listed[column]))) for column in _SPELLED}
    hashes = read_hashes(listed["phash"].take(pa.array(valid["phash"])))
    telling = tells_pictures_apart(hashes)
    digests = listed["sha256"].take(pa.array(valid["sha256"])).combine_chunks()
    if not len(hashes) and not len(digests):
        raise ConfigError(f"rule 'decontaminate': hashes {files[0][0]} holds none; see its docs")
    return _Known(
        pc.coalesce(listed["name"], listed["phash"], listed["sha256"]).combine_chunks(),
        hashes[telling],
        valid["phash"][telling],
        digests,
        valid["sha256"],
    )


def _read(path: Path) -> pa.Table:
    """One file as columns `name`, `phash` and `sha256`, in lower case."""
    try:
        if path.suffix == ".parquet":
            schema = pq.read_schema(path)
            table = pq.read_table(path, columns=[n for n in schema.names if n in _WANTED])
        elif path.suffix == ".csv":
            as_text = dict.fromkeys(_WANTED, pa.string())  # a hash of digits alone is no number
            convert = pyarrow.csv.ConvertOptions(column_types=as_text, strings_can_be_null=True)
            table = pyarrow.csv.read_csv(path, convert_options=convert)
        else:
            table = _read_lines(path)
    except (pa.ArrowInvalid, OSError, UnicodeDecodeError) as err:
        reason = str(err).splitlines()[0]
        raise ConfigError(f"rule 'decontaminate': hashes {path} cannot be read: {reason}") from err
    if not any(column in table.column_names for column in _SPELLED):
        raise ConfigError(
            f"rule 'decontaminate': hashes {path} has no column phash or sha256; it has "
            f"{', '.join(table.column_names) or 'none'}"
        )
    name = next((n for n in _NAMES if n in table.column_names), None)
    columns = {"name": name, "phash": "phash", "sha256": "sha256"}
    return pa.table({column: _texts(table, source, path) for column, source in columns.items()})


def _texts(table: pa.Table, column: str | None, path: Path) -> pa.Array:
    """A column as text, nulls where the file has none; hashes in lower case and checked."""
    if column not in table.column_names:
        return pa.nulls(table.num_rows, pa.string())
    texts = table[column].cast(pa.string()).combine_chunks()
    if column not in _SPELLED:
        return texts
    texts = pc.ascii_lower(pc.utf8_trim_whitespace(texts))
    spelled = pc.match_substring_regex(texts, f"^(?:{_SPELLED[column].pattern})$")
    wrong = pc.index(spelled, False).as_py()
    if wrong >= 0:
        digits = 16 if column == "phash" else 64
        raise ConfigError(
            f"rule 'decontaminate': hashes {path}, row {wrong + 1}: {column} is "
            f"{texts[wrong].as_py()[:80]!r}; wanted {digits} hex digits"
        )
    return texts


def _read_lines(path: Path) -> pa.Table:
    """A text file: 16 or 64 hex digits a line."""
    found: dict[str, list[str | None]] = {"phash": [], "sha256": []}
    for number, line in enumerate(path.read_text(encoding="utf-8-sig").splitlines(), start=1):
        text = line.partition("#")[0].strip().lower()
        if not text:
            continue
        kinds = [kind for kind, pattern in _SPELLED.items() if pattern.fullmatch(text)]
        if not kinds:
            raise ConfigError(
                f"rule 'decontaminate': hashes {path}, line {number}: found {text[:80]!r}; wanted "
                "16 hex digits (phash) or 64 (sha256)"
            )
        for kind, column in found.items():
            column.append(text if kind in kinds else None)
    return pa.table({kind: pa.array(column, pa.string()) for kind, column in found.items()})


def _nearest(hashes: Hashes, known: Hashes) -> tuple[Indices, Distances]:
    """The place of the nearest known hash, of equally near ones the first, and how far it is.

    Shapes (n,). All are compared with all, some 400 million pairs a second: a shard of 256 images
    against a benchmark of 50,000 takes 0.03 s.
    """
    at_once = max(_PAIRS_AT_ONCE // len(known), 1)
    places, away = [], []
    for start in range(0, len(hashes), at_once):
        every = distance(hashes[start : start + at_once, None], known[None, :])
        places.append(every.argmin(axis=1))
        away.append(every.min(axis=1))
    return np.concatenate(places), np.concatenate(away)
