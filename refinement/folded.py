"""One specialist of several checkpoints, so that no image is answered by one that has seen it."""

import hashlib
import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import ConfigError
from engine.merge import check_rows, merge
from engine.protocols import Answer, Image, Need, Replaces, Resources, Specialist
from refinement.pairs.folds import fold_of

_SAME = ("produces", "requires", "replaces")


@dataclass(kw_only=True)
class Folded:
    """Answers each image with the specialist of its fold: the one that was trained without it.

    The fold follows from the bytes of an image (`refinement.pairs.folds`), so exact duplicates, and
    one image under two keys, go to the same one.

    Attributes:
        specialists: One of each fold, in order: that of place j has learned nothing of fold j. All
            of one kind.
        seed: The one the images were dealt into folds by.
        name: The `source` of its rows; empty: the name of the specialists.
    """

    specialists: Sequence[Specialist]
    seed: int
    name: str = ""
    model: str = field(init=False)
    produces: tuple[str, ...] = field(init=False)
    requires: tuple[str, ...] = field(init=False)
    resources: Resources = field(init=False)
    replaces: Replaces = field(init=False)
    quiet_limit: int | None = field(init=False)

    def __post_init__(self) -> None:
        if not self.specialists:
            raise ConfigError("folds: no specialist is given; give one of each fold")
        first = self.specialists[0]
        for other in self.specialists[1:]:
            differing = [name for name in _SAME if getattr(first, name) != getattr(other, name)]
            if type(other) is not type(first) or differing:
                raise ConfigError(
                    f"folds: specialists {first.model!r} and {other.model!r} differ in "
                    f"{', '.join(differing) or 'kind'}; they may differ in their checkpoint alone"
                )
        self.name = self.name or first.name
        self.model = "+".join(_short(each.model) for each in self.specialists)
        self.produces, self.requires = first.produces, first.requires
        self.replaces, self.quiet_limit = first.replaces, first.quiet_limit
        self.resources = _together([each.resources for each in self.specialists])

    def needs(self) -> list[Need]:
        """What any of them needs, each thing once."""
        return list(dict.fromkeys(need for each in self.specialists for need in each.needs()))

    def prepare(self) -> str:
        """Prepares all; returns a digest of all revisions and of how images are dealt to them.

        Raises:
            SpecialistError: One of them lacks something.
        """
        spelt = json.dumps([self.seed, *(each.prepare() for each in self.specialists)])
        return hashlib.blake2b(spelt.encode(), digest_size=16).hexdigest()

    def load(self) -> None:
        """Loads all of them."""
        for each in self.specialists:
            each.load()

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> Answer:
        """Each image by the one of its fold, rows in the images' order; see `Specialist`.

        Raises:
            TableError: One of them returned rows of an image that is not of its fold.
        """
        digests = [hashlib.sha256(image.data).hexdigest() for image in images]
        folds = fold_of(digests, len(self.specialists), self.seed)
        tables: list[pa.Table] = []
        failures: list[tuple[str, str, str]] = []
        usage = Counter[str]()
        for fold, specialist in enumerate(self.specialists):
            mine = [images[place] for place in np.flatnonzero(folds == fold).tolist()]
            if not mine:
                continue
            keys = pa.array([image.image_key for image in mine], pa.string())
            told = specialist.annotate(mine, rows.filter(pc.is_in(rows["image_key"], keys)))
            answer = told if isinstance(told, Answer) else Answer(rows=told)
            tables.append(check_rows(answer.rows, keys.to_pylist()))
            failures.extend(answer.failures)
            usage.update(answer.usage)
        merged = merge(tables, [image.image_key for image in images])
        return Answer(rows=merged, failures=failures, usage=dict(usage))


def _short(model: str) -> str:
    """As rows name a model: of a folder its name alone, wherever it lies."""
    path = Path(model)
    return path.name if path.is_absolute() or path.exists() else model


def _together(needed: Sequence[Resources]) -> Resources:
    """They answer in turn, but stay in memory all: cores and a GPU are shared, memory adds up."""
    memory = [each.memory for each in needed if each.memory is not None]
    return Resources(
        cpus=max(each.cpus for each in needed),
        gpus=max(each.gpus for each in needed),
        memory=sum(memory) if memory else None,
    )
