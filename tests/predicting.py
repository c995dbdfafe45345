"""One prediction as a process of its own, `python -m tests.predicting FOLDER RUNNER`, to be killed.

It is slow where FLD_TEST_PAUSE_S says so.
"""

import os
import sys
from pathlib import Path

from engine.config import LimitsConfig, RunnerConfig
from engine.job import Observer
from engine.protocols import Specialist
from engine.source.filesystem import open_location
from refinement.predict import Predicted, predict
from tests.teller import PAUSE, Teller


def predict_in(
    folder: Path,
    predictor: Specialist | None = None,
    *,
    version: str = "round-0",
    to: str = "predictions",
    runner: str = "serial",
) -> Predicted:
    """What is said of `folder/out`, in `folder/predictions`."""
    return predict(
        open_location(str(folder / "out")),
        version,
        predictor or Teller(requires=("text",)),
        open_location(str(folder / to)),
        runner=RunnerConfig(kind=runner, batch_size=2, shards_in_flight=1),
        limits=LimitsConfig(),
        seed=0,
        observer=Observer(),
    )


def main() -> None:
    os.environ.setdefault(PAUSE, "0.5")
    predict_in(Path(sys.argv[1]), runner=sys.argv[2])


if __name__ == "__main__":
    main()
