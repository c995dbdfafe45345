"""What a label version holds, counted shard by shard in memory that does not grow with it."""

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.ancestry import damaged
from engine.dataset import Markers, Totals
from engine.report.bins import Histogram, Range
from engine.report.tally import Tally, count_groups
from engine.sink import ShardFiles
from engine.source.shapes import Location, ReadError

BATCH_ROWS = 131_072  # read at a time
SHOWN_CHARACTERS = 200  # of a text that is counted; longer ones that begin alike count as one
_EXAMPLES = 3  # of each kind of failure
_ROWS = ("kind", "role", "source", "status", "rule")
_MODELS = ("source", "model", "revision", "human", "status")
_READ = (*_ROWS, "model", "revision", "human", "text", "measured", "limit", "against", "score")
_SIZES = ("width", "height", "size_bytes", "sharpness", "contrast")
_VERDICTS = ("status", "rule", "duplicate_of", "measured", "limit", "failures")
_IMAGES = ("image_key", "uri", "format", "licence", *_SIZES, *_VERDICTS)
# An annotation id names a row, not a term: 20 hex digits (DESIGN 1).
_ID = r"^[0-9a-f]{20}$"
MEASURES = ("megapixels", "longer side", "aspect", "kilobytes", "sharpness", "contrast")


@dataclass
class Failed:
    """One cause of failures: how many images, and some of them (key, uri, message)."""

    count: int = 0
    examples: list[dict[str, Any]] = field(default_factory=list)


@dataclass
class Ruled:
    """What one rule rejected, and the numbers it did that by."""

    rejected: int = 0
    measured: Range = field(default_factory=Range)
    limits: Tally = field(default_factory=lambda: Tally(["limit"], ["rejected"], cap=1_000))
    terms: Tally = field(default_factory=lambda: Tally(["against"], ["rejected"], cap=5_000))


def _scores() -> Histogram:
    return Histogram(np.linspace(0, 1, 41))


@dataclass
class Counts:
    """Everything counted.

    Keys of `rows` are kind, role, source, status, rule; of `models` source, model, revision, human,
    status; of `failures` stage, source, cause.
    """

    shards: list[int] = field(default_factory=list)
    totals: Totals = field(default_factory=Totals)  # as the markers have them
    rows: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    models: Counter[tuple[Any, ...]] = field(default_factory=Counter)
    classes: Tally = field(
        default_factory=lambda: Tally(["text"], ["kept", "rejected", "superseded"])
    )
    rules: dict[str, Ruled] = field(default_factory=dict)
    scores: dict[str, Histogram] = field(default_factory=dict)  # of boxes, by source
    images: Counter[str] = field(default_factory=Counter)  # by status
    formats: Counter[str | None] = field(default_factory=Counter)
    licences: Tally = field(default_factory=lambda: Tally(["licence"], ["ok", "others"]))
    image_rules: dict[str, Ruled] = field(default_factory=dict)
    num_duplicates: int = 0
    measures: dict[str, Range] = field(default_factory=lambda: {name: Range() for name in MEASURES})
    failures: dict[tuple[str, str | None, str], Failed] = field(default_factory=dict)
    has_polygons: bool = False

    def by(self, *names: str) -> Counter[tuple[Any, ...]]:
        """Rows by some of the columns that `rows` counts."""
        places = [_ROWS.index(name) for name in names]
        found: Counter[tuple[Any, ...]] = Counter()
        for key, count in self.rows.items():
            found[tuple(key[place] for place in places)] += count
        return found

    @property
    def num_rows(self) -> int:
        """All claims."""
        return sum(self.rows.values())

    @property
    def num_images(self) -> int:
        """All images accounted for."""
        return sum(self.images.values())


def count_version(output: Location, version: str) -> Counts:
    """Counts the complete shards of a label version; none gives zeros.

    Reads every row once, of a bucket a file at a time, of a disk a batch at a time.
    """
    markers = Markers(output, version)
    counts = Counts(shards=sorted(markers.load()))
    for marker in markers.each():
        counts.totals.add(marker)
    for shard in counts.shards:
        files = ShardFiles(shard)
        for batch in read_batches(output, f"{version}/{files.images}", _IMAGES):
            _add_images(counts, batch)
        for batch in read_batches(output, f"{version}/{files.annotations}", _READ):
            _add_rows(counts, batch)
        if not counts.has_polygons:
            counts.has_polygons = _holds(output, f"{version}/{files.annotations}", "polygon")
    return counts


def read_batches(
    output: Location, path: str, columns: Sequence[str] | None = None
) -> Iterator[pa.Table]:
    """A Parquet file as tables of at most `BATCH_ROWS` rows, one without rows if it has none.

    Args:
        output: The dataset's.
        path: Of the file.
        columns: Null for all.

    Raises:
        ShardError: It is gone or damaged.
    """
    names = list(columns) if columns is not None else None
    try:
        with _opened(output, path) as file:
            parquet = pq.ParquetFile(file)
            if parquet.metadata.num_rows == 0:
                yield parquet.read(columns=names)
            for batch in parquet.iter_batches(BATCH_ROWS, columns=names):
                yield pa.Table.from_batches([batch])
    except (ReadError, pa.ArrowInvalid, OSError) as err:
        raise damaged(output, path, err) from err


def _opened(output: Location, path: str) -> pa.NativeFile:
    """A file on a disk where it lies; of a bucket all of it, in one request."""
    if output.readers == 1:
        return output.open(path).file
    return pa.BufferReader(output.read(path).data)


def _holds(output: Location, path: str, column: str) -> bool:
    return any(
        table[column].null_count < table.num_rows for table in read_batches(output, path, [column])
    )


def _add_rows(counts: Counts, table: pa.Table) -> None:
    for key, count in count_groups(table, _ROWS):
        counts.rows[key] += count
    for key, count in count_groups(table, _MODELS):
        counts.models[key] += count
    _add_classes(counts.classes, table)
    _add_scores(counts.scores, table)
    rejected = table.filter(pc.equal(_words(table["status"]), "rejected"))
    against = rejected["against"]
    term = pc.if_else(pc.match_substring_regex(against, _ID), None, against)
    _add_ruled(counts.rules, rejected.set_column(_at(rejected, "against"), "against", term))


def _add_classes(classes: Tally, table: pa.Table) -> None:
    is_class = pc.and_(
        pc.equal(_words(table["kind"]), "region"), pc.equal(_words(table["role"]), "category")
    )
    chosen = table.filter(is_class)
    status = _words(chosen["status"])
    columns = {"text": _shortened(chosen["text"])}
    for name in ("kept", "rejected", "superseded"):
        columns[name] = pc.equal(status, name).cast(pa.int64())
    classes.add(pa.table(columns))


def _add_scores(scores: dict[str, Histogram], table: pa.Table) -> None:
    scored = table.filter(pc.is_valid(table["score"]))
    for (source, status), _ in count_groups(scored, ("source", "status")):
        mask = pc.and_(
            pc.equal(_words(scored["source"]), source), pc.equal(_words(scored["status"]), status)
        )
        numbers = scored["score"].filter(mask).to_numpy()
        scores.setdefault(str(source), _scores()).add(numbers, str(status))


def _add_ruled(rules: dict[str, Ruled], table: pa.Table) -> None:
    """Rows that a rule rejected: `rule`, `measured`, `limit` and in `against` a term or null."""
    for (name,), count in count_groups(table, ("rule",)):
        if name is None:
            continue
        rule, own = rules.setdefault(name, Ruled()), rows_of(table, name)
        rule.rejected += count
        rule.measured.add(finite_of(own["measured"]))
        rule.limits.add(_ones({"limit": own["limit"].drop_null()}, "rejected"))
        rule.terms.add(_ones({"against": _shortened(own["against"].drop_null())}, "rejected"))


def rows_of(table: pa.Table, rule: str) -> pa.Table:
    """The rows that rule decided on."""
    return table.filter(pc.equal(_words(table["rule"]), rule))


def finite_of(column: pa.ChunkedArray) -> npt.NDArray[np.floating]:
    """The numbers of a column, nulls left out."""
    numbers: npt.NDArray[np.floating] = column.drop_null().to_numpy()
    return numbers


def _add_images(counts: Counts, table: pa.Table) -> None:
    for (status,), count in count_groups(table, ("status",)):
        counts.images[status] += count
    for (name,), count in count_groups(table, ("format",)):
        counts.formats[name] += count
    ok = pc.equal(table["status"], "ok")
    columns = {"licence": _shortened(table["licence"]), "ok": ok, "others": pc.invert(ok)}
    as_counts = [("licence", pa.string()), ("ok", pa.int64()), ("others", pa.int64())]
    counts.licences.add(pa.table(columns).cast(pa.schema(as_counts)))
    counts.num_duplicates += table.num_rows - table["duplicate_of"].null_count
    names = ("rule", "measured", "limit")
    ruled = pa.table({name: table[name] for name in names})
    _add_ruled(
        counts.image_rules, ruled.append_column("against", pa.nulls(len(ruled), pa.string()))
    )
    for name, numbers in image_measures(table).items():
        counts.measures[name].add(numbers)
    _add_failures(counts.failures, table)


def image_measures(table: pa.Table) -> dict[str, npt.NDArray[np.floating]]:
    """Numbers of images by name in `MEASURES`, of those images that have them."""
    sides = np.stack(
        [_floats(table["width"]), _floats(table["height"])], axis=1
    )  # NaN where not known
    sides = sides[(sides > 0).all(axis=1)]
    return {
        "megapixels": sides.prod(axis=1) / 1e6,
        "longer side": sides.max(axis=1),
        "aspect": sides[:, 0] / sides[:, 1],
        "kilobytes": finite_of(table["size_bytes"]) / 1e3,
        "sharpness": finite_of(table["sharpness"]),
        "contrast": finite_of(table["contrast"]),
    }


def _add_failures(failures: dict[tuple[str, str | None, str], Failed], table: pa.Table) -> None:
    column = table["failures"].combine_chunks()
    flat, of = pc.list_flatten(column), pc.list_parent_indices(column)
    if len(flat) == 0:
        return
    names = [field.name for field in flat.type]
    rows = pa.table(dict(zip(names, flat.flatten(), strict=True)))
    for key, count in count_groups(rows, ("stage", "source", "cause")):
        failed = failures.setdefault(key, Failed())
        failed.count += count
        missing = _EXAMPLES - len(failed.examples)
        if missing <= 0:
            continue
        mine = pc.and_(pc.equal(rows["stage"], key[0]), pc.equal(rows["cause"], key[2]))
        same = pc.is_null(rows["source"]) if key[1] is None else pc.equal(rows["source"], key[1])
        found = np.flatnonzero(pc.and_(mine, same).to_numpy())[:missing]
        images = table.select(["image_key", "uri"]).take(of.take(pa.array(found)))
        messages = rows["message"].take(pa.array(found)).to_pylist()
        failed.examples += [
            {**image, "message": message}
            for image, message in zip(images.to_pylist(), messages, strict=True)
        ]


def _ones(columns: dict[str, Any], name: str) -> pa.Table:
    length = len(next(iter(columns.values())))
    return pa.table({**columns, name: pa.array(np.ones(length, np.int64))})


def _shortened(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return pc.utf8_slice_codeunits(column, 0, SHOWN_CHARACTERS)


def _words(column: pa.ChunkedArray) -> pa.ChunkedArray:
    return column.cast(pa.string())


def _floats(column: pa.ChunkedArray) -> npt.NDArray[np.float64]:
    return np.asarray(pc.fill_null(column.cast(pa.float64()), np.nan).to_numpy(), np.float64)


def _at(table: pa.Table, name: str) -> int:
    return int(table.schema.get_field_index(name))
