"""A label version against ground truth: `fld evaluate`, one pass over the shards."""

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine import dataset
from engine.errors import ConfigError
from engine.evaluate.captions import DocumentFrequencies
from engine.evaluate.choice import (
    Conventions,
    choose,
    frequencies_of,
    make,
    notes_on,
    without_idle,
)
from engine.evaluate.families import Family, Shard
from engine.evaluate.images import Images
from engine.evaluate.pairs import Flags, flags_of
from engine.evaluate.results import Assessment
from engine.evaluate.truth import Truth
from engine.formats.shapes import LabelSet, Part
from engine.reading import read_parquet, read_tables
from engine.schema import ANNOTATIONS
from engine.sink import ShardFiles
from engine.source.shapes import Location

# Rejections by what is no rule of the run, such as a relabelling; they come last.
OTHER_RULES = "(other rules)"
_IMAGE_COLUMNS = ["image_key", "uri", "status"]
_NOT_READ = {"region_id", "model", "revision", "prompt", "human", "round", "parents", "source_id"}
_NOT_READ |= {"extra", "measured", "limit", "against"}
_ROW_COLUMNS = [name for name in ANNOTATIONS.names if name not in _NOT_READ]


class Version(NamedTuple):
    """A label version of a dataset as truth: its kept rows."""

    location: Location
    name: str


def assess(
    output: Location,
    version: str,
    truth: LabelSet | Version,
    *,
    min_iou: float = 0.5,
    source: str | None = None,
    families: Sequence[str] | None = None,
    rules: Sequence[str] | None = None,
    ignore_case: bool = True,
    merged_boxes: bool = False,
    count_missing: bool = False,
    count_extra: bool = False,
) -> Assessment:
    """Compares the rows of a label version with the truth, as they are and before every rule.

    What is measured, and by which conventions, stands with the accumulators of `engine.evaluate`.
    Rows that a later rule rejected count as kept until its turn; a rule that stands twice in the
    config has its turn at its first place. What specialists of a later level would have said, had a
    rule not been, nobody knows: their rows are taken as they are. Superseded rows never count: what
    replaced them does. Rows with `ignore` never count. Memory grows with the truth, and by 19 bytes
    with every kept box that is ranked.

    Args:
        output: The dataset's.
        version: Its label version.
        truth: Labels as a format reads them, or a version of another dataset.
        min_iou: Least overlap of boxes and phrases, and what words must exceed; above 0, to 1.
        source: Compare the rows of this source alone; default those of all.
        families: Names of `engine.evaluate.families.FAMILIES`; default those of `DEFAULT_FAMILIES`
            that the truth has.
        rules: Their names in order; default those of the dataset's config. Others that the shards
            name come after them.
        ignore_case: Transcripts of words that differ in case alone are the same.
        merged_boxes: Compare a phrase with the one box around all its true boxes.
        count_missing: Truth on images that the dataset has not counts as missed; default it is left
            out.
        count_extra: Rows on images that the truth has not count as wrong; default they are left
            out. Captions there have no references and are never counted.

    Raises:
        ConfigError: There is no such version, source or family, the IoU is out of range, or truth
            and dataset share no image.
    """
    if not 0 < min_iou <= 1:
        raise ConfigError(f"min_iou is {min_iou:g}; allowed: above 0, to 1")
    reader = _Reader(output, version)
    reader.check_source(source)
    true = Truth(_parts(truth))
    chosen = choose(families, true)
    order = list(dict.fromkeys([*(rules or reader.rules()), *reader.judging(), OTHER_RULES]))
    images = Images((table for _, table in reader.images()), true, output.uri)
    frequencies = DocumentFrequencies()
    if "captions" in chosen:
        frequencies = frequencies_of(true, images.places(with_missing=count_missing))
    conventions = Conventions(min_iou=min_iou, ignore_case=ignore_case, merged_boxes=merged_boxes)
    roles = reader.caption_roles(source)
    made = make(chosen, roles, frequencies, conventions, len(order) + 1)
    counts = _feed(made, reader, images, order, source, count_extra=count_extra)
    if count_missing:
        nothing = ANNOTATIONS.empty_table()
        alive = np.zeros((len(order) + 1, 0), bool)
        _add(made, Shard(nothing, np.zeros(0, bool), alive, images.missing_truth()))
    results = {
        name: without_idle(family.result(order), OTHER_RULES) for name, family in made.items()
    }
    said = truth.header.notes if isinstance(truth, LabelSet) else ()
    told = _told(counts, count_extra=count_extra)
    notes = [
        *said,
        *reader.notes(),
        *images.notes(count_missing=count_missing),
        *told,
        *notes_on(results),
    ]
    return Assessment(output.uri, version, source, min_iou, images.counts(), results, notes)


class _Reader:
    """The finished shards of a label version, and what their markers tell."""

    def __init__(self, output: Location, version: str) -> None:
        self._output = output
        self._version = version
        self._stored = dataset.read_dataset(output)
        markers = dataset.Markers(output, version)
        self._shards = sorted(markers.load())
        if not self._shards:
            known = ", ".join(self._stored.get("versions", {})) or "none"
            raise ConfigError(
                f"{output.uri}: no finished shard of version {version!r}; versions: {known}"
            )
        self._totals = dataset.Totals()
        for marker in markers.each():
            self._totals.add(marker)

    def check_source(self, source: str | None) -> None:
        """Refuses a source that gave no row."""
        known = sorted({name.split("/")[0] for name in self._totals.annotations})
        if source is not None and source not in known:
            raise ConfigError(
                f"{self._output.uri} {self._version}: no row is of source {source!r}; sources: "
                f"{', '.join(known) or 'none'}"
            )

    def caption_roles(self, source: str | None) -> list[str]:
        """Roles of the captions there are, of one source or of all."""
        names = [name.split("/") for name in self._totals.annotations]
        return sorted({n[2] for n in names if n[1] == "text" and source in (None, n[0])})

    def rules(self) -> list[str]:
        """Names of the rules of the run, in their order."""
        return [entry["rule"] for entry in self._stored["identity"]["rules"]]

    def judging(self) -> list[str]:
        """Names of all rules that the shards name, in their order."""
        return list(self._totals.rules)

    def images(self) -> Iterator[tuple[int, pa.Table]]:
        """Shard, and key, uri and status of its images."""
        for shard in self._shards:
            yield shard, self._read(ShardFiles(shard).images, _IMAGE_COLUMNS)

    def rows(self, shard: int) -> pa.Table:
        """What is looked at of the claims of a shard."""
        return self._read(ShardFiles(shard).annotations, _ROW_COLUMNS)

    def notes(self) -> Iterator[str]:
        """What of the dataset is not in the numbers."""
        planned = self._stored.get("shards", len(self._shards))
        if planned > len(self._shards):
            yield (
                f"only {len(self._shards):,} of {planned:,} shards are finished; images of the "
                "others count as not in the dataset"
            )

    def _read(self, name: str, columns: list[str]) -> pa.Table:
        return read_parquet(self._output, f"{self._version}/{name}", columns)


def _feed(
    made: Mapping[str, Family],
    reader: _Reader,
    images: Images,
    order: Sequence[str],
    source: str | None,
    *,
    count_extra: bool,
) -> Counter[str]:
    """Takes the shards past the truth; returns how many rows were left out, and why."""
    counts: Counter[str] = Counter()
    for number, table in reader.images():
        keys = table["image_key"].combine_chunks()
        known, truth = images.truth_of(keys)
        rows = reader.rows(number)
        mine = np.ones(rows.num_rows, bool)
        if source is not None:
            mine = flags_of(pc.equal(rows["source"].cast(pa.string()), source))
        on_known = flags_of(pc.is_in(rows["image_key"], keys.filter(pa.array(known))))
        compared = mine if count_extra else mine & on_known
        kept, replaced = (_has_status(rows, name) for name in ("kept", "superseded"))
        ignored = flags_of(rows["ignore"])
        counts["extra"] += int((kept & mine & ~on_known).sum())
        counts["superseded"] += int((replaced & compared).sum())
        counts["ignored"] += int((kept & compared & ignored).sum())
        _add(made, Shard(rows, compared & ~ignored, _worlds(rows, order), truth))
    return counts


def _add(made: Mapping[str, Family], shard: Shard) -> None:
    for family in made.values():
        family.add(shard)


def _told(counts: Counter[str], *, count_extra: bool) -> Iterator[str]:
    if counts["superseded"]:
        yield f"{counts['superseded']:,} superseded rows are left out, before and after every rule"
    if counts["extra"]:
        how = "count as wrong" if count_extra else "are left out"
        yield f"{counts['extra']:,} kept rows on images that the truth has not {how}"
    if counts["ignored"]:
        yield f"{counts['ignored']:,} kept rows marked `ignore` are left out"


def _worlds(rows: pa.Table, order: Sequence[str]) -> Flags:
    """Which rows there are before the first rule, after it, ..., after the last: (rules + 1, n)."""
    rule = rows["rule"].cast(pa.string())
    places = pc.index_in(rule, pa.array(order, pa.string())).fill_null(len(order) - 1).to_numpy()
    rejected = np.where(_has_status(rows, "rejected"), places, -1)
    until = np.where(_has_status(rows, "kept"), len(order), rejected)
    alive: Flags = until >= np.arange(len(order) + 1)[:, None]
    return alive


def _has_status(rows: pa.Table, status: str) -> Flags:
    return flags_of(pc.equal(rows["status"].cast(pa.string()), status))


def _parts(truth: LabelSet | Version) -> Iterator[Part]:
    if isinstance(truth, LabelSet):
        yield from truth.parts
        return
    found = False
    for _, images, rows in read_tables(truth.location, truth.name):
        found = True
        yield Part(images, rows.filter(pa.array(_has_status(rows, "kept"))))
    if not found:
        raise ConfigError(
            f"{truth.location.uri}: the truth has no finished shard of version {truth.name!r}"
        )
