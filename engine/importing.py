"""Labels of another format judged and committed as a dataset of ours, shard by shard."""

import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pyarrow as pa

from engine import dataset
from engine.config import Config, SourceConfig
from engine.crew import scratch_folder
from engine.errors import ConfigError
from engine.exchange import Keys, Origin, identified, kept_part, with_pictures, write_origin
from engine.formats.places import find_format, find_place
from engine.formats.shapes import Format, LabelSet, Part, ReadOptions
from engine.judge import RuleCounts, RuleEntry, check_needs, raise_alarm
from engine.judge_images import judges_images
from engine.lease import RENEW_S, Lease
from engine.output import disk_error, empty, remove_leftovers
from engine.refilter import count_classes, global_rules, marker_of, pairs
from engine.rejudge import Replay, rejudge
from engine.run import refuse_foreign
from engine.schema import ANNOTATIONS, VERDICT, canonical
from engine.sink import DONE, Expected, Target, write_shard
from engine.source.filesystem import open_location
from engine.source.plan import PLAN
from engine.source.shapes import Location
from engine.versions import Version, put_version

# Images in a shard of labels without pictures: tables alone are small, and three files are made of
# each shard.
_SHARD_WITHOUT_PICTURES = 2048


@dataclass(frozen=True)
class Opened:
    """A set of labels found and opened."""

    format: Format
    labels: LabelSet
    origin: Origin
    pictures: Location | None


def open_labels(source: SourceConfig, config: Config) -> Opened:
    """The labels a config's source names.

    Raises:
        LabelsError: There are none that the format can read.
    """
    reach = {"endpoint": source.endpoint, "region": source.region, "anonymous": source.anonymous}
    place = find_place(source.uri, **_reach(source.uri, reach))
    found = find_format(source.kind, place)
    pictures = None
    if source.images is not None:
        pictures = open_location(source.images, **_reach(source.images, reach))
    second = None
    if source.annotations is not None:
        second = find_place(source.annotations, **_reach(source.annotations, reach))
    options = ReadOptions(
        images=pictures,
        annotations=second,
        classes=source.classes,
        limits=config.limits,
        part_size=shard_size(source),
    )
    origin = Origin(name=source.name or found.name, human=source.human, licence=source.licence)
    return Opened(found, found.read(place, options), origin, pictures)


def _reach(uri: str, options: dict[str, Any]) -> dict[str, Any]:
    """A bucket's options are not those of a folder beside it."""
    return options if "://" in uri and not uri.startswith("file://") else {}


def shard_size(source: SourceConfig) -> int:
    """Images of a shard: as the config says, and many where it says nothing and has no pictures."""
    if "shard_size" in source.model_fields_set or source.images is not None:
        return source.shard_size
    return _SHARD_WITHOUT_PICTURES


class Judging:
    """Judges a set of labels part by part, and counts; writes nothing."""

    def __init__(self, config: Config, rules: Sequence[RuleEntry], opened: Opened) -> None:
        for entry in global_rules(rules):
            raise ConfigError(
                f"rule {entry.rule.name!r} must have seen the whole dataset: leave it out, "
                "`fld import` the labels, and `fld filter` the dataset with it"
            )
        check_needs(rules)
        self.classes: Counter[tuple[str, str, str]] = Counter()
        self.totals = dataset.Totals()
        self.config = config
        self.rules = rules
        self.opened = opened
        self._keys = Keys()
        # to measure a picture is to decode it: only where somebody looks
        self._looks = any(judges_images(entry.rule) for entry in rules)

    def parts(self) -> Iterator[Part]:
        """The images of each part that are `ok`, and the rows on them that were kept."""
        for number, part in enumerate(self.opened.labels.parts):
            judged = self.judged(part, with_bytes=self._looks)
            self.totals.add(marker_of(number, judged.images, judged.rows, judged.counts))
            raise_alarm(self.totals.rules, self.rules)
            yield kept_part(judged.images, judged.rows)

    def judged(self, part: Part, *, with_bytes: bool) -> "Judged":
        """One part with verdicts, and with the bytes of its pictures where asked."""
        origin = self.opened.origin
        tables = identified(part, origin, self._keys)
        images, data = tables.images, dict[str, Any]()
        if with_bytes and self.opened.pictures is not None:
            images, data = with_pictures(images, self.opened.pictures, self.config.limits)
        replay = Replay(levels=[[origin.name]], rules=self.rules, seed=self.config.seed)
        images, rows, counts = rejudge(images, unjudged(tables.annotations), replay, {})
        self.classes.update(count_classes(rows))
        return Judged(images, rows, counts, data)


@dataclass(frozen=True)
class Judged:
    """A part with verdicts; `data` are the bytes of its pictures by key."""

    images: pa.Table
    rows: pa.Table
    counts: RuleCounts
    data: dict[str, Any]


class Importing(Judging):
    """Commits a set of labels as a dataset while it judges them.

    A second time, the same labels and rules pass over the shards that are there.
    """

    def __init__(
        self, config: Config, rules: Sequence[RuleEntry], opened: Opened, output: Location
    ) -> None:
        super().__init__(config, rules, opened)
        self._output = output
        self._plan: list[pa.Table] = []
        self._markers = dataset.Markers(output, dataset.FIRST)
        self._copies = opened.pictures is not None and config.output.pixels == "copy"
        self._looks = self._looks or self._copies
        self._version = Version(
            made_by="import",
            levels=[[opened.origin.name]],
            rules=config.rules,
            pixels=self._copies,
            views=config.output.views,
            seed=config.seed,
            finished=False,
        )

    def run(self, *, overwrite: bool = False) -> Iterator[Part]:
        """The images of each shard that are `ok` and the rows on them that were kept, committed.

        Raises:
            ConfigError: The output holds something else.
            StoppedError: An alarm or a full disk; the same call goes on.
        """
        self._check_output(overwrite=overwrite)
        with Lease.take(self._output) as lease:
            try:
                done = self._begin(overwrite=overwrite)
                yield from self._shards(done, lease)
                self._end()
            except OSError as err:
                raise disk_error(err, self._output) from err

    def _check_output(self, *, overwrite: bool) -> None:
        refuse_foreign(self._output)
        if self._output.exists(dataset.DATASET) and not overwrite:
            stored = dataset.read_dataset(self._output)
            dataset.check_same_run(self._output, stored, self.config.identity())

    def _begin(self, *, overwrite: bool) -> set[int]:
        remove_leftovers(self._output)
        if overwrite or not self._output.exists(dataset.DATASET):
            empty(self._output, keep="_run", markers=DONE, proof=dataset.DATASET)
            dataset.forget_rolled_up(self._output)
            plan, times = PLAN.empty_table(), pa.array([], pa.int64())
            identity = self.config.identity()
            dataset.create_dataset(self._output, self.config, identity, plan, times)
            write_origin(self._output, self.opened.origin.name, self.opened.labels.header)
            put_version(self._output, dataset.FIRST, self._version)
        done = self._markers.load()
        for marker in self._markers.each():
            self.totals.add(marker)
        return done

    def _shards(self, done: set[int], lease: Lease) -> Iterator[Part]:
        renewed = time.monotonic()
        scratch = scratch_folder(self._output)
        output = self.config.output
        target = Target(self._output, dataset.FIRST, scratch, self._copies, output.views)
        for shard, part in enumerate(self.opened.labels.parts):
            judged = self.judged(part, with_bytes=self._looks)
            if shard not in done:
                self._commit(target, shard, judged)
            keys = judged.images.select(["image_key", "uri", "size_bytes"])
            numbers = pa.array(np.full(keys.num_rows, shard), pa.int32())
            self._plan.append(keys.add_column(0, "shard", numbers))
            if time.monotonic() - renewed > RENEW_S:
                lease.renew()
                renewed = time.monotonic()
            yield kept_part(judged.images, judged.rows)

    def _commit(self, target: Target, shard: int, judged: Judged) -> None:
        expected = Expected(judged.images.num_rows, {self.opened.origin.name: judged.rows.num_rows})
        data = judged.data if self._copies else {}
        counts = pairs(judged.counts)
        marker = write_shard(
            target, shard, judged.images, judged.rows, data, expected, rules=counts
        )
        self._markers.add(marker)
        self.totals.add(marker)
        raise_alarm(self.totals.rules, self.rules)

    def _end(self) -> None:
        plan = PLAN.empty_table()
        if self._plan:
            plan = pa.concat_tables(self._plan)
            place = PLAN.field("place")
            plan = plan.append_column(place, pa.nulls(plan.num_rows, place.type)).cast(PLAN)
        dataset.replace_plan(self._output, plan)
        self._markers.save()
        version = replace(self._version, finished=True)
        put_version(self._output, dataset.FIRST, version, current=True)


def unjudged(claims: pa.Table) -> pa.Table:
    """Claims with empty verdicts."""
    nothing = [pa.nulls(claims.num_rows, field.type) for field in VERDICT]
    return canonical(pa.table([*claims.columns, *nothing], schema=ANNOTATIONS), ANNOTATIONS)
