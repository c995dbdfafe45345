"""Quality against truth: accumulators that are fed shard by shard, and what came of them."""

from engine.evaluate.average_precision import AveragePrecision, MeanPrecision
from engine.evaluate.regions import RegionScores, Score, score_regions

__all__ = ["AveragePrecision", "MeanPrecision", "RegionScores", "Score", "score_regions"]
