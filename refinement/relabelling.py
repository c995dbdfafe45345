"""One shard of a round: predictions meet labels, the rules judge what comes of it, it is kept."""

import io
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from engine.reading import read_parquet
from engine.refilter import pairs
from engine.rejudge import Replay, rejudge
from engine.sink import Expected, ShardFiles, Target, count_by, write_shard
from engine.source.shapes import Location
from refinement.calibrate import Calibration
from refinement.decisions import Policy
from refinement.outcomes import Relabelled, apply
from refinement.predict import read_predictions
from refinement.relabel import relabel


@dataclass(frozen=True)
class RelabelSpec:
    """What every process needs to relabel shards; the same for all of a round.

    Attributes:
        target: Where the new version goes.
        parent: The version whose labels are corrected.
        predictions: Where `refinement.predict` wrote.
        predictor: Name of the predictor: the `source` of its rows.
        tasks: What it was asked for, as `kind/role`.
        policy: What becomes of a disagreement.
        number: The round's.
        replay: How the result is judged.
        ledger: Folder of the outcomes, relative to the output.
        calibration: Of the predictor's scores; null: they are taken as they are.
    """

    target: Target
    parent: str
    predictions: Location
    predictor: str
    tasks: tuple[str, ...]
    policy: Policy
    number: int
    replay: Replay
    ledger: str
    calibration: Calibration | None = None


@dataclass
class Tally:
    """What became of the labels of some shards.

    Attributes:
        outcomes: Rows of their ledgers by outcome.
        num_regions: Regions among the labels, which a model can agree with or not; captions differ
            without contradicting each other.
        num_agreed: Of those, how many a prediction of the same text overlaps enough, whatever the
            policy made of it.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    num_regions: int = 0
    num_agreed: int = 0

    @property
    def agreement(self) -> float | None:
        """Share of the regions, 0 to 1; null where there are none."""
        return self.num_agreed / self.num_regions if self.num_regions else None

    def add(self, other: "Tally") -> None:
        """Adds that of other shards."""
        self.outcomes.update(other.outcomes)
        self.num_regions += other.num_regions
        self.num_agreed += other.num_agreed


def relabel_shard(spec: RelabelSpec, shard: int) -> tuple[dict[str, Any], Tally]:
    """Relabels and judges a shard, writes its outcomes and commits it to the new version.

    Returns:
        The marker, and what became of the labels.
    """
    output, files = spec.target.output, ShardFiles(shard)
    images = read_parquet(output, f"{spec.parent}/{files.images}")
    rows = read_parquet(output, f"{spec.parent}/{files.annotations}")
    found = outcomes(spec, shard, rows)
    grown = apply(rows, found, images["image_key"].to_pylist())
    images, judged, counts = rejudge(images, grown, spec.replay, {})
    output.write(ledger_path(spec, shard), _parquet(found.ledger))
    marker = write_shard(
        spec.target,
        shard,
        images,
        judged,
        {},
        Expected(images.num_rows, count_by(grown["source"])),
        rules=pairs(counts),
    )
    return marker, tally(found.ledger, spec.policy)


def outcomes(spec: RelabelSpec, shard: int, rows: pa.Table) -> Relabelled:
    """What the policy makes of a shard; nothing is written."""
    said = read_predictions(spec.predictions, shard)
    return relabel(
        rows,
        said.claims,
        spec.policy,
        number=spec.number,
        predictor=spec.predictor,
        tasks=spec.tasks,
        predicted_keys=said.answered.to_pylist(),
        calibration=spec.calibration,
    )


def ledger_path(spec: RelabelSpec, shard: int) -> str:
    """Where the outcomes of a shard are, relative to the output."""
    return f"{spec.ledger}/{shard:06d}.parquet"


def read_tally(spec: RelabelSpec, shard: int) -> Tally:
    """What became of the labels of a shard that is committed."""
    columns = ["kind", "outcome", "iou"]
    return tally(read_parquet(spec.target.output, ledger_path(spec, shard), columns), spec.policy)


def tally(ledger: pa.Table, policy: Policy) -> Tally:
    """Counts a ledger, schema `refinement.outcomes.LEDGER`; nothing of an empty one."""
    outcome = ledger["outcome"].cast(pa.string())
    is_region = pc.equal(ledger["kind"].cast(pa.string()), "region")
    labels = pc.and_(is_region, pc.not_equal(outcome, "added"))
    # a policy may put the model's own box in the place of one it agrees with
    agree_iou = pa.scalar(policy.agree_iou, pa.float32())
    overlaps = pc.greater_equal(ledger["iou"], agree_iou).fill_null(False)
    agrees = pc.or_(pc.equal(outcome, "confirmed"), pc.and_(pc.equal(outcome, "moved"), overlaps))
    return Tally(
        Counter(count_by(outcome)),
        pc.sum(labels, min_count=0).as_py(),
        pc.sum(pc.and_(labels, agrees), min_count=0).as_py(),
    )


def _parquet(table: pa.Table) -> bytes:
    buffer = io.BytesIO()
    pq.write_table(table, buffer, compression="zstd", version="2.6")
    return buffer.getvalue()
