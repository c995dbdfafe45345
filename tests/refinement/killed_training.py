"""Child: a training that ends itself without warning, or tells its parent that it has begun.

`python -m tests.refinement.killed_training START PAIRS OUTPUT FOLDER STEP HOW`
"""

import os
import signal
import sys
from pathlib import Path

from engine.errors import StoppedError
from engine.source.filesystem import open_location
from refinement.train import TrainJob, train
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
    start, pairs, output, folder, step, how = sys.argv[1:]

    def tell(line):
        if line["step"] == int(step):
            os.kill(os.getpid(), getattr(signal, how))

    try:
        train(job_of(start, pairs, output, folder), tell)
    except StoppedError as err:
        sys.stderr.write(f"stopped: {err}\n")
        sys.exit(3)


if __name__ == "__main__":
    main()
