"""The commands on labels that exist: filter, import, export, versions."""

import logging
import time
from collections import deque
from collections.abc import Iterator, Mapping
from dataclasses import replace
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console
from rich.text import Text

from engine import dataset
from engine.assess import Version, assess
from engine.compose import compose
from engine.config import Config, PartConfig, SourceConfig, load_config, parse_config
from engine.errors import ConfigError
from engine.evaluate.results import Assessment
from engine.evaluate.scenes import truth_labels
from engine.exchange import StoredPictures, kept_labels
from engine.filter_summary import filter_summary
from engine.filtering import Filtering, filter_dataset
from engine.formats.places import made, new_place
from engine.formats.shapes import Format, LabelSet, Place
from engine.importing import Importing, Judging, open_labels
from engine.job import Job
from engine.output import everything_in
from engine.source.filesystem import open_location
from engine.source.shapes import Location
from engine.source.synthetic import Synthetic
from engine.versions import find_version, undo

_log = logging.getLogger(__name__)
_EVERY_S = 5.0  # between lines of progress
_MOST_NOTES = 20  # of what labels or formats have to say


def filter_job(config: str, overrides: list[str]) -> Job:
    """The job of a filter; without a file, our own rules and the overrides."""
    if "=" in config and not Path(config).exists():
        ours = yaml.safe_load((files("configs") / "filter.yaml").read_text(encoding="utf-8"))
        return compose(parse_config(ours, [config, *overrides], "filter"))
    return compose(load_config(Path(config), overrides))


def run_filter(
    job: Job,
    out: Console,
    *,
    only: list[str] | None,
    undo_last: bool,
    dry_run: bool,
    overwrite: bool,
) -> int:
    """Filters a dataset or a set of labels and prints what came of it.

    Returns:
        How many images have a failure.

    Raises:
        ConfigError: What is asked does not fit what is there.
    """
    _refuse_specialists(job)
    output = _dataset_of(job)
    if output is None:
        if undo_last or only:
            raise ConfigError(
                f"source.uri {job.config.source.uri}: --undo and --only are for datasets; there "
                "is no dataset.json"
            )
        return _filter_labels(job, out, dry_run=dry_run, overwrite=overwrite)
    if job.config.output.uri != job.config.source.uri:
        raise ConfigError(
            f"output.uri {job.config.output.uri}: the versions of a dataset lie beside each other; "
            "leave it out, and `fld export` the new version"
        )
    if undo_last:
        before, now = undo(output)
        out.print(f"{now} is the current version again; {before} is still there", soft_wrap=True)
        return 0
    _filter_dataset(job, output, out, only, dry_run=dry_run)
    return 0


def _refuse_specialists(job: Job) -> None:
    if job.config.specialists:
        raise ConfigError(
            "specialists: labels that exist are judged without any; take them out, or run "
            "`fld annotate`"
        )


def _dataset_of(job: Job) -> Location | None:
    """The dataset a source is, if it is one."""
    source = job.config.source
    if source.kind not in ("auto", "dataset"):
        return None
    place = open_location(source.uri, **_reach(source))
    if place.exists(dataset.DATASET):
        return place
    if source.kind == "dataset":
        raise ConfigError(f"source.uri {source.uri}: no dataset.json there")
    return None


def _reach(place: Any) -> dict[str, Any]:
    return {"endpoint": place.endpoint, "region": place.region, "anonymous": place.anonymous}


def _filter_dataset(
    job: Job, output: Location, out: Console, only: list[str] | None, *, dry_run: bool
) -> None:
    config = job.config
    asked = config.output.model_fields_set
    filtering = Filtering(
        output=output,
        rules=job.rules,
        options=config.rules,
        only=only,
        seed=config.seed,
        pixels="pixels" in asked and config.output.pixels == "copy",
        views=config.output.views,
        runner=config.runner,
    )
    found = filter_dataset(filtering, Lines("shards"), dry_run=dry_run)
    out.print(filter_summary(found.before, found.after, found.classes))
    if dry_run:
        out.print("nothing was written")
        return
    _draw(output, found.name, None, config.seed, out)
    out.print(
        f"{found.name} is the current version, made from {found.parent}; --undo goes back",
        soft_wrap=True,
    )


def _draw(
    output: Location, version: str, pictures: Location | None, seed: int, out: Console
) -> None:
    from engine.rejects import write_rejects  # fonts and drawing are slow to load

    path = write_rejects(output, version, pictures, seed=seed)
    if path is not None:
        out.print(f"random rejects are drawn in {path}", soft_wrap=True)


def _filter_labels(job: Job, out: Console, *, dry_run: bool, overwrite: bool) -> int:
    config = job.config
    opened = open_labels(config.source, config)
    if dry_run:
        judging = Judging(config, job.rules, opened)
        deque(judging.parts(), maxlen=0)
        _say_what_came(judging, opened.labels, [], out)
        out.print("nothing was written")
        return sum(judging.totals.failures.values())
    format_ = opened.format if config.output.kind == "auto" else made(config.output.kind)
    place = _output_place(job, format_)
    ledger = open_location(f"{config.output.uri.rstrip('/')}.ledger", **_reach(config.output))
    beside = config.output.model_copy(update={"uri": ledger.uri, "pixels": "none", "views": False})
    importing = Importing(
        config.model_copy(update={"output": beside}),
        job.rules,
        opened,
        ledger,
    )
    if not ledger.exists(dataset.DATASET):  # else it was us who wrote what is there
        _check_free(place, overwrite=overwrite)
    parts = _told(importing.run(overwrite=overwrite))
    notes = format_.write(place, LabelSet(opened.labels.header, parts))
    deque(parts, maxlen=0)  # a writer may stop before the end; the ledger has it all
    _say_what_came(importing, opened.labels, notes, out)
    if opened.pictures is not None:
        _draw(ledger, dataset.FIRST, opened.pictures, config.seed, out)
    out.print(f"wrote {place}; every verdict is in {ledger.uri}", soft_wrap=True)
    return sum(importing.totals.failures.values())


def _output_place(job: Job, format_: Format) -> Place:
    source, output = job.config.source, job.config.output
    if output.uri.rstrip("/") == source.uri.rstrip("/"):
        raise ConfigError(
            f"output.uri is missing, or is the labels themselves ({source.uri}), which are never "
            "changed; give another file or folder"
        )
    return new_place(output.uri, is_folder=format_.is_folder, **_reach(output))


def _check_free(place: Place, *, overwrite: bool) -> None:
    """Labels are not written over others, nor among other files, unless asked."""
    if overwrite:
        return
    if place.path:
        found = place.path if place.location.exists(place.path) else None
    else:
        found = next(everything_in(place.location), None)
    if found is not None:
        raise ConfigError(
            f"{place}: holds {found!r} already; choose another place, or pass --overwrite to "
            "replace what bears the same name"
        )


def _say_what_came(judging: Judging, labels: LabelSet, notes: list[str], out: Console) -> None:
    out.print(filter_summary(None, judging.totals, judging.classes))
    for name, count in sorted(judging.totals.failures.items()):
        out.print(Text(f"could not be taken: {count:,} x {name}", style="red"))
    _say_notes([*labels.header.notes, *notes], out)


def _say_notes(notes: list[str], out: Console) -> None:
    for note in notes[:_MOST_NOTES]:
        out.print(Text(f"note: {note}"), soft_wrap=True)
    if len(notes) > _MOST_NOTES:
        out.print(f"... and {len(notes) - _MOST_NOTES:,} more notes")


def labels_config(labels: str, place: str, options: list[str]) -> Config:
    """The config of labels and a dataset; options without a section are the source's."""
    spelled = [
        option if option.split("=")[0].split(".")[0] in Config.model_fields else f"source.{option}"
        for option in options
    ]
    places = {"source": {"uri": labels}, "output": {"uri": place}}
    return parse_config(places, spelled, "import")


def run_evaluate(
    output: Location,
    truth: Config,
    *,
    version: str | None,
    source: str | None,
    families: list[str] | None,
    **conventions: Any,
) -> Assessment:
    """A label version held against labels in any format, or against another dataset.

    `conventions` are those of `engine.assess.assess`.
    """
    name, chosen = find_version(output, version)
    true = open_truth(truth.source, truth)
    rules = [str(entry["rule"]) for entry in chosen.rules] if chosen.rules else None
    return assess(output, name, true, source=source, families=families, rules=rules, **conventions)


def open_truth(part: PartConfig, config: Config) -> LabelSet | Version:
    """True labels: a dataset of ours, the truth of synthetic scenes, or labels in any format.

    Args:
        part: Where they are.
        config: Whose seed and limits hold.
    """
    if part.uri == "synthetic":
        count, world = part.num_images or Synthetic.num_images, part.world or Synthetic.world
        return truth_labels(config.seed, count, world)
    place = place_of(part)
    if place.exists(dataset.DATASET):
        return Version(place, find_version(place, part.version)[0])
    options = part.model_dump(exclude_unset=True)
    return open_labels(SourceConfig.model_validate(options), config).labels


def place_of(part: PartConfig) -> Location:
    """The place a config names, reached as it says."""
    return open_location(part.uri, **_reach(part))


def run_import(job: Job, out: Console, *, overwrite: bool) -> int:
    """Makes a dataset of labels; returns how many images have a failure."""
    _refuse_specialists(job)
    opened = open_labels(job.config.source, job.config)
    output = open_location(job.config.output.uri, **_reach(job.config.output))
    importing = Importing(job.config, job.rules, opened, output)
    deque(_told(importing.run(overwrite=overwrite)), maxlen=0)
    _say_what_came(importing, opened.labels, [], out)
    out.print(f"wrote {output.uri}", soft_wrap=True)
    return sum(importing.totals.failures.values())


def run_export(
    output: Location,
    target: Mapping[str, Any],
    out: Console,
    *,
    version: str | None,
    source: str | None,
    overwrite: bool = False,
) -> None:
    """Writes the kept rows of a version in another format.

    Args:
        output: The dataset's.
        target: `uri`, `kind`, and how a bucket is reached.
        out: Where notes go.
        version: Its name; null for the current one.
        source: Rows of this source alone; null for all.
        overwrite: Whether files of the same names may be replaced.
    """
    name, _ = find_version(output, version)
    reach = {key: value for key, value in target.items() if key not in ("uri", "kind")}
    format_ = made(target["kind"])
    place = new_place(target["uri"], is_folder=format_.is_folder, **reach)
    _check_free(place, overwrite=overwrite)
    pictures = None
    if "images" in getattr(format_, "__dataclass_fields__", {}):
        pictures = StoredPictures(output, name)
        format_ = replace(format_, images=pictures)  # type: ignore[type-var]  # it is a dataclass
    labels = kept_labels(output, name, target["kind"], source=source, pictures=pictures)
    notes = format_.write(place, LabelSet(labels.header, _told(labels.parts)))
    _say_notes(notes, out)
    out.print(f"wrote {place} from {name}", soft_wrap=True)


def _told(parts: Iterator[Any]) -> Iterator[Any]:
    """The parts, with a line of progress now and then."""
    lines, images = Lines("images"), 0
    for part in parts:
        images += part.images.num_rows
        lines("read", images, 0)
        yield part


class Lines:
    """A line of progress every few seconds, for work that has no bar."""

    def __init__(self, what: str) -> None:
        self._what = what
        self._last = time.monotonic()

    def __call__(self, done: str, number: int, total: int) -> None:
        """Says how far it is; a total of 0 is not known."""
        if time.monotonic() - self._last < _EVERY_S:
            return
        self._last = time.monotonic()
        of = f" of {total:,}" if total else ""
        _log.info("%s", f"{done} {number:,}{of} {self._what}".rstrip())
