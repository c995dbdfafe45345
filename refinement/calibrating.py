"""What the scores of a round's predictor are worth, learned from gold or from the labels."""

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.evaluate.images import Images
from engine.evaluate.truth import Truth
from engine.reading import read_tables
from engine.schema import CLAIM, claims
from engine.source.shapes import Location
from refinement.calibrate import Calibration, agreement, fit
from refinement.gold import Truth as GoldTruth
from refinement.gold import parts_of
from refinement.predict import read_predictions


def fit_to(
    output: Location, version: str, predictions: Location, gold: GoldTruth | None
) -> Calibration | None:
    """Learns how often a prediction of a score is right; null where nothing was predicted.

    Args:
        output: The dataset.
        version: The version that was predicted.
        predictions: Where `refinement.predict` wrote.
        gold: What is right; null: the kept labels of the version, which makes it a lower bound.

    Raises:
        ConfigError: There are predictions and none has a score, or gold and dataset share no image.
    """
    scores, correct = [np.empty(0, np.float32)], [np.empty(0, bool)]
    references = _labels(output, version) if gold is None else _gold(output, version, gold)
    for shard, keys, reference in references:
        said = read_predictions(predictions, shard).claims
        said = said.filter(pc.is_in(said["image_key"], keys))
        known, right = agreement(said, reference)
        scores.append(known)
        correct.append(right)
    known, right = np.concatenate(scores), np.concatenate(correct)
    return fit(known, right) if len(known) else None


def _labels(output: Location, version: str) -> Iterator[tuple[int, pa.Array, pa.Table]]:
    """Shard, keys and kept rows of its images."""
    for shard, images, rows in read_tables(output, version):
        kept = rows.filter(pc.equal(rows["status"].cast(pa.string()), "kept"))
        yield shard, images["image_key"].combine_chunks(), kept.select(CLAIM.names)


def _gold(
    output: Location, version: str, gold: GoldTruth
) -> Iterator[tuple[int, pa.Array, pa.Table]]:
    """The same of gold: its rows on the images it knows, under the keys of the dataset."""
    tables = {
        shard: images.select(["image_key", "uri", "status"])
        for shard, images, _ in read_tables(output, version)
    }
    meet = Images(tables.values(), Truth(parts_of(gold)), output.uri)
    for shard, images in tables.items():
        keys = images["image_key"].combine_chunks()
        known, rows = meet.truth_of(keys)
        yield shard, keys.filter(pa.array(known)), _claims(rows)


def _claims(rows: pa.Table) -> pa.Table:
    names = ("image_key", "kind", "role", "text", "box", "ignore")
    ids = [f"gold-{place}" for place in range(rows.num_rows)]
    return claims(annotation_id=ids, **{name: rows[name] for name in names})
