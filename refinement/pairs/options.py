"""Which training pairs are wanted, and whether a label version has rows for them."""

import math
from collections import Counter
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from engine.config import nearest
from engine.errors import ConfigError
from engine.formats.florence2_targets import Order
from engine.formats.florence2_tasks import TASKS, Task


@dataclass(frozen=True, kw_only=True)
class PairOptions:
    """What to make training pairs of.

    Attributes:
        tasks: Names of Florence-2's tasks with their weights: shares of the draws of a training.
        order: Of places in a target: in `reading` order, line by line; by `area`, the largest
            first, as released checkpoints answer; or as `given`. Transcripts are never sorted by
            area.
        max_items: Most rows one answer may speak of; null for any number.
        max_characters: Most characters of prompt and target together. 9,000 are the 1,000 location
            tokens that Florence-2's decoder has room for; words need fewer tokens for as many.
        valid_share: Of the images, held out for the loss curve and never trained on.
    """

    tasks: dict[str, float] = field(default_factory=lambda: {"od": 1.0})
    order: Order = "reading"
    max_items: int | None = None
    max_characters: int = 9_000
    valid_share: float = 0.02

    def __post_init__(self) -> None:
        check_weights(self.tasks, "tasks")
        if self.max_items is not None and self.max_items < 1:
            raise ConfigError(f"max_items is {self.max_items}; give 1 or more, or null for any")
        if self.max_characters < 1:
            raise ConfigError(f"max_characters is {self.max_characters}; give 1 or more")
        if not 0 <= self.valid_share < 1:
            raise ConfigError(
                f"valid_share is {self.valid_share:g}; give a share of the images from 0 to below 1"
            )

    @property
    def wanted(self) -> tuple[Task, ...]:
        """The tasks, in the order of `TASKS` however they were written down."""
        return tuple(task for task in TASKS.values() if task.name in self.tasks)

    def identity(self) -> dict[str, Any]:
        """What decides which pairs are made: everything but the weights of the tasks."""
        names = ("order", "max_items", "max_characters", "valid_share")
        said = {name: getattr(self, name) for name in names}
        return {"tasks": [task.name for task in self.wanted], **said}


def check_weights(weights: Mapping[str, float], where: str) -> None:
    """Refuses weights that are no mixture of tasks.

    Raises:
        ConfigError: There are none, one is of an unknown task, or is not above 0 and finite.
    """
    if not weights:
        raise ConfigError(f"{where} is empty; name one task or more, such as od: 1")
    for name, weight in weights.items():
        if name not in TASKS:
            raise ConfigError(f"{where}.{name} is no task of Florence-2; {nearest(name, TASKS)}")
        if not 0 < weight < math.inf:
            raise ConfigError(
                f"{where}.{name} is {weight:g}; give a weight above 0, or take the task out"
            )


def is_about(rows: pa.Table, task: Task) -> npt.NDArray[np.bool_]:
    """Which rows a task can be about, by kind and role alone; shape (n,).

    Phrases of a caption serve every task that is asked a text. The caption itself is what is asked,
    and no row the task is about.
    """
    kinds, roles = rows["kind"].cast(pa.string()), rows["role"].cast(pa.string())
    found = pc.and_(
        pc.equal(kinds, task.kind or "region"), pc.is_in(roles, pa.array(task.roles, pa.string()))
    )
    if task.takes == "text":
        found = pc.or_(found, pc.equal(kinds, "grounding"))
    return np.asarray(pc.fill_null(found, False).to_numpy(zero_copy_only=False), bool)


def needs_of(task: Task) -> str:
    """What rows a task is made of, in words."""
    rows = " or ".join(f"{task.kind or 'region'}/{role}" for role in task.roles)
    if task.takes == "text" and task.kind != "grounding":
        rows += " or grounding/phrase"
    if task.form == "polygons":
        return f"{rows} with a polygon"
    if task.kind == "grounding":
        return f"{rows} with a box, of a kept text"
    return rows if task.form == "text" and task.takes == "nothing" else f"{rows} with a box"


def check_rows(
    options: PairOptions, counted: Mapping[str, int], gold: Collection[str], where: str
) -> None:
    """Refuses tasks of which a version has no row that may train.

    Args:
        options: Which tasks.
        counted: Rows by `source/kind/role/status`, as the markers of the version count them.
        gold: Sources whose rows never train.
        where: The dataset and version, for the message.

    Raises:
        ConfigError: A task has no kept row, or none but gold.
    """
    kept: Counter[str] = Counter()
    all_kept: Counter[str] = Counter()
    for name, count in counted.items():
        source, kind, role, status = name.rsplit("/", 3)
        if status == "kept" and count:
            all_kept[f"{kind}/{role}"] += count
            kept[f"{kind}/{role}"] += 0 if source in gold else count
    for task in options.wanted:
        if _count(task, kept):
            continue
        if _count(task, all_kept):
            raise ConfigError(
                f"{where}: all kept rows for the task {task.name!r} are of {_names(gold)}, which "
                "is gold, and gold never trains; take the task out, or label its images otherwise"
            )
        raise no_rows(task, where, all_kept)


def no_rows(task: Task, where: str, found: Mapping[str, int]) -> ConfigError:
    """That a task has nothing to learn from; `found` is what there is, by name."""
    held = ", ".join(f"{name} {count:,}" for name, count in sorted(found.items()) if count)
    return ConfigError(
        f"{where}: no kept row gives the task {task.name!r} an example; it is made of "
        f"{needs_of(task)}; found: {held or 'nothing at all'}; take the task out, or annotate and "
        "keep such rows"
    )


def _count(task: Task, counted: Mapping[str, int]) -> int:
    names = [name.split("/") for name in counted]
    rows = pa.table({"kind": [kind for kind, _ in names], "role": [role for _, role in names]})
    if not rows.num_rows:
        return 0
    return int(np.array(list(counted.values()))[is_about(rows, task)].sum())


def _names(gold: Collection[str]) -> str:
    return ", ".join(repr(name) for name in sorted(gold))
