"""Child: a training that ends itself without warning.

`python -m tests.refinement.killed_training START PAIRS OUTPUT FOLDER STEP`
"""

import os
import signal
import sys
from pathlib import Path

from engine.source.filesystem import open_location
from refinement.training.train import TrainJob, train
from tests.refinement.trainings import SERIAL, options


def job_of(start, pairs, output, folder, **values):
    return TrainJob(
        model=str(start),
        pairs=Path(pairs),
        output=open_location(str(output)),
        folder=Path(folder),
        options=options(**{"steps": 8, "save_every": 3, "validate_every": 4, **values}),
        runner=SERIAL,
    )


def main() -> None:
    start, pairs, output, folder, step = sys.argv[1:]

    def tell(line):
        if line["step"] == int(step):
            os.kill(os.getpid(), signal.SIGKILL)

    train(job_of(start, pairs, output, folder), tell)


if __name__ == "__main__":
    main()
