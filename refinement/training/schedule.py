"""Where each optimizer step stands: its pictures' size, its examples, its learning rate.

All of it is a function of the step's number, so that a training that was killed needs to know
nothing else to go on.
"""

import bisect
import itertools
import math
from dataclasses import dataclass

from refinement.training.options import TrainOptions

# One word of a splitmix64 sequence; mixes a seed and a step into seeds that look unrelated.
_GOLDEN, _MASK = 0x9E3779B97F4A7C15, (1 << 64) - 1


@dataclass(frozen=True)
class Step:
    """One optimizer step.

    Attributes:
        number: Counted from 0.
        resolution: Side of its pictures, pixels; null: the processor's own.
        position: Of its first example in the stream.
        batch_size: Examples, of all workers.
        learning_rate: In it.
    """

    number: int
    resolution: int | None
    position: int
    batch_size: int
    learning_rate: float


class Plan:
    """All steps of a training."""

    def __init__(self, options: TrainOptions) -> None:
        self._options = options
        self._stages = options.stages
        lengths = [stage.steps or 0 for stage in self._stages]
        sizes = [stage.batch_size or 0 for stage in self._stages]
        self._starts = [0, *itertools.accumulate(lengths)]
        spent = itertools.accumulate(n * size for n, size in zip(lengths, sizes, strict=True))
        self._positions = [0, *spent]

    @property
    def num_steps(self) -> int:
        """Of all stages."""
        return self._starts[-1]

    def at(self, number: int) -> Step:
        """The step of a number in 0..num_steps - 1."""
        stage = bisect.bisect_right(self._starts, number) - 1
        options = self._stages[stage]
        size = options.batch_size or 0
        return Step(
            number=number,
            resolution=options.resolution,
            position=self._positions[stage] + (number - self._starts[stage]) * size,
            batch_size=size,
            learning_rate=(options.learning_rate or 0.0) * self.fraction(number),
        )

    def fraction(self, number: int) -> float:
        """Of the highest learning rate, in (0, 1]: linear warm-up, then the schedule.

        The first step of the warm-up is no lost one: its rate is one part of as many as there are
        steps of warm-up. The cosine reaches the final fraction with the last step.
        """
        warmup, final = self._options.warmup_steps, self._options.final_fraction
        if number < warmup:
            return (number + 1) / warmup
        if self._options.schedule == "constant":
            return 1.0
        done = (number - warmup) / max(self.num_steps - 1 - warmup, 1)
        return final + (1 - final) * 0.5 * (1 + math.cos(math.pi * min(done, 1.0)))


def step_seed(seed: int, step: int, worker: int) -> int:
    """The seed of what is random in one step of one worker (dropout), in 0..2**63 - 1.

    Drawn anew for each step, so that no state of a generator has to survive a kill.
    """
    mixed = seed & _MASK
    for part in (step, worker):
        mixed = (mixed + _GOLDEN * (part + 1)) & _MASK
        mixed = ((mixed ^ (mixed >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
        mixed = ((mixed ^ (mixed >> 27)) * 0x94D049BB133111EB) & _MASK
        mixed ^= mixed >> 31
    return mixed >> 1
