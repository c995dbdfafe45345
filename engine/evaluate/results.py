"""What an evaluation found: numbers by family and by rule, as JSON."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from rich.console import Group

Measures = dict[str, float | int | None]


@dataclass(frozen=True)
class Step:
    """One rule: what was measured before its turn and after it.

    `num_rejected` counts rows of the family on the images that were compared.
    """

    rule: str
    num_rejected: int
    before: Measures
    after: Measures

    def change(self, name: str) -> float | None:
        """By how much a measure rose; null where it is not defined on either side."""
        before, after = self.before[name], self.after[name]
        return None if before is None or after is None else after - before


@dataclass(frozen=True)
class FamilyResult:
    """One family of rows against its truth.

    Attributes:
        measures: Of the kept rows.
        by_class: The same for each class, where there are classes.
        steps: The rules in order, from all claimed rows to the kept ones.
    """

    measures: Measures
    by_class: Mapping[str, Measures]
    steps: Sequence[Step]

    def telling_steps(self) -> list[Step]:
        """The steps that rejected something."""
        return [step for step in self.steps if step.num_rejected]


@dataclass(frozen=True)
class ImageCounts:
    """Which images were compared.

    Attributes:
        num_true: Images of the truth.
        num_dataset: Images in finished shards of the dataset.
        num_compared: In both.
        num_by: How they were recognised: `uri`, `path`, `stem`.
        num_ambiguous: Images of the truth that several images could be; left out.
        num_missing: Images of the truth that the dataset has not.
        num_extra: Images of the dataset that the truth has not.
        ambiguous, missing: A few of their names.
    """

    num_true: int
    num_dataset: int
    num_compared: int
    num_by: Mapping[str, int]
    num_ambiguous: int
    num_missing: int
    num_extra: int
    ambiguous: Sequence[str]
    missing: Sequence[str]


@dataclass(frozen=True)
class Assessment:
    """A label version against the truth."""

    output: str
    version: str
    source: str | None  # null: the kept rows of all sources
    min_iou: float
    images: ImageCounts
    families: Mapping[str, FamilyResult]
    notes: Sequence[str] = field(default=())  # what a reader of the numbers must know

    def to_json(self) -> str:
        """Everything as JSON, numbers as they are."""
        content: dict[str, Any] = asdict(self)
        for name, family in self.families.items():
            for step, plain in zip(family.steps, content["families"][name]["steps"], strict=True):
                plain["change"] = {key: step.change(key) for key in step.before}
        return json.dumps(content, indent=1, allow_nan=False) + "\n"

    def tables(self) -> Group:
        """For the terminal."""
        from engine.evaluate.tables import render

        return render(self)

    def plot(self, path: Path) -> None:
        """Draws precision and recall before and after every rule as PNG.

        Raises:
            ConfigError: There is neither boxes nor words to draw, or the file cannot be written.
        """
        from engine.evaluate.plot import plot_steps

        plot_steps(self, path)
