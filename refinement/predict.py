"""What a specialist says of every image of a label version: an ordinary run, resumable as all are.

The claims go into a dataset of their own beside the version, whose keys and shard numbers it has.
"""

import dataclasses
from dataclasses import dataclass
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine import dataset
from engine.config import Config, LimitsConfig, OutputConfig, RunnerConfig, SourceConfig
from engine.dataset import FIRST
from engine.errors import ConfigError
from engine.job import Job, Observer
from engine.judge import RuleEntry
from engine.protocols import Specialist
from engine.reading import read_failures, read_parquet
from engine.run import annotate
from engine.schema import CLAIM, canonical
from engine.sink import ShardFiles
from engine.source.shapes import Location
from engine.versions import find_version
from filters import RULES

# What keeps a table sound, first and last as in every run. How good a claim is, the policy decides
# that compares it with the label it is to replace; and no alarm, because to turn a bad model down
# is the work of the round.
_RULES = ("invalid_box", "orphan")
_NEVER = 1.0  # an alarm share


@dataclass(frozen=True)
class Predicted:
    """A finished prediction.

    Attributes:
        place: Its dataset.
        counts: Images, failures and rows of it, as its markers count them.
        failed: Keys of the images without an answer, because they could not be read, or the
            predictor failed on them; in order.
    """

    place: Location
    counts: dataset.Totals
    failed: tuple[str, ...]


class Predictions(NamedTuple):
    """What was predicted of one shard.

    Attributes:
        claims: Kept rows of the predictor, schema `engine.schema.CLAIM`, on answered images alone.
        answered: Keys of the images it answered, be it with no row at all; strings, in order.
    """

    claims: pa.Table
    answered: pa.Array


def predict(
    dataset_place: Location,
    version: str,
    predictor: Specialist,
    place: Location,
    *,
    runner: RunnerConfig,
    limits: LimitsConfig,
    seed: int,
    observer: Observer,
) -> Predicted:
    """Runs a specialist over the `ok` images of a label version; the same call resumes.

    It sees the rows the version keeps, with their ids, where it requires any. Nothing is written
    into the dataset.

    Args:
        dataset_place: The dataset.
        version: Its label version, finished.
        predictor: The specialist, built.
        place: Where its claims go, as a dataset without pixels; below the dataset is fine.
        runner: Where it runs; nothing of it changes an answer but `batch_size` and `threads`.
        limits: As of any run.
        seed: The run's.
        observer: Told of everything as it happens.

    Raises:
        ConfigError: No such version, no picture of it, or at `place` is something else: another
            predictor's answers, or of another checkpoint; the message shows what differs.
        SpecialistError: The model is missing or cannot be loaded.
        StoppedError: It ended early; the same call resumes.
    """
    config = Config(
        source=SourceConfig(
            kind="dataset",
            version=version,
            # a predictor that looks at no rows may bear the name of some: an earlier checkpoint's
            labels=bool(predictor.requires),
            **_reached(dataset_place),
        ),
        output=OutputConfig(pixels="none", views=False, **_reached(place)),
        specialists=[_described(predictor)],
        rules=[{"rule": name} for name in _RULES],
        runner=runner,
        limits=limits,
        seed=seed,
    )
    rules = [RuleEntry(RULES.find(name)(), _NEVER) for name in _RULES]
    annotate(Job(config, [predictor], rules), observer)
    failed = [
        failure["image_key"]
        for failure in read_failures(place, FIRST)
        if failure["status"] == "failed" or failure["source"] == predictor.name
    ]
    return Predicted(place, dataset.totals_of(place, FIRST), tuple(dict.fromkeys(failed)))


def read_predictions(place: Location, shard: int) -> Predictions:
    """What was predicted of one shard of the version; nothing where none of its images was `ok`.

    Raises:
        ConfigError: There is no prediction, or the shard is not done.
    """
    _, version = find_version(place, FIRST)
    files = ShardFiles(shard)
    if not place.exists(f"{FIRST}/{files.marker}"):
        planned = dataset.read_dataset(place)["shards"]
        if shard >= planned:  # the last shards of a version may hold no image that is ok
            return Predictions(CLAIM.empty_table(), pa.array([], pa.string()))
        raise ConfigError(
            f"{place.uri}: shard {shard:06d} of {planned:,} is not predicted yet; run the command "
            "that predicts again"
        )
    images = read_parquet(place, f"{FIRST}/{files.images}", use_threads=False)
    rows = read_parquet(place, f"{FIRST}/{files.annotations}", use_threads=False)
    predictor = version.levels[-1][0]
    answered = _answered(images, predictor)
    mine = pc.equal(rows["source"].cast(pa.string()), predictor)
    kept = pc.equal(rows["status"].cast(pa.string()), "kept")
    wanted = pc.and_(pc.and_(mine, kept), pc.is_in(rows["image_key"], answered))
    return Predictions(canonical(rows.filter(wanted).select(CLAIM.names), CLAIM), answered)


def _answered(images: pa.Table, predictor: str) -> pa.Array:
    """Keys of the `ok` images on which the predictor did not fail."""
    failures = images["failures"].combine_chunks()
    by = pc.struct_field(pc.list_flatten(failures), "source")
    places = pc.list_parent_indices(failures).filter(pc.equal(by, predictor).fill_null(False))
    numbers = pa.array(range(images.num_rows), pa.int64())
    lost = pc.is_in(numbers, places.cast(pa.int64()))
    ok = pc.and_(pc.equal(images["status"], "ok"), pc.invert(lost))
    return images["image_key"].filter(ok).combine_chunks()


def _reached(place: Location) -> dict[str, Any]:
    """A place as a config names it; a folder has no more than its uri."""
    names = ("uri", "endpoint", "region", "anonymous")
    return {name: getattr(place, name) for name in names if hasattr(place, name)}


def _described(specialist: Specialist) -> dict[str, Any]:
    """What was chosen of a specialist, as plain data: with its revision, what makes it the same."""
    kind = type(specialist)
    options = {field.name for field in dataclasses.fields(specialist) if field.init}  # type: ignore[arg-type]  # every one is
    chosen = {name: _plain(getattr(specialist, name)) for name in sorted(options)}
    return {"kind": f"{kind.__module__}:{kind.__qualname__}", "name": specialist.name, **chosen}


def _plain(value: Any) -> Any:
    if dataclasses.is_dataclass(value):
        return _described(value)  # type: ignore[arg-type]  # of those held by another one
    if isinstance(value, (list, tuple)):
        return [_plain(item) for item in value]
    return value
