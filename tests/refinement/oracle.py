"""A specialist that knows the plain scenes of seed 0, and may lie, be silent or fail."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from engine.protocols import Answer, Image, Need, Replaces, Resources
from engine.schema import claims, empty_claims
from engine.synthetic.labels import true_rows
from tests.teller import PAUSE

_TELLS = {"category": "region/category", "brief": "text/brief"}


@dataclass(kw_only=True)
class Oracle:
    """What is said of a scene, which its key names.

    Attributes:
        name: The `source` of its rows.
        model: Its id; nothing is read from there.
        says: The truth, random boxes of classes that there are not, or nothing.
        score: Of every row; null for none.
        false_score: Beside each true box it says a random one with this score; null for none.
        fails_every: It fails on every so manieth scene; 0 for none.
        roles: What of the truth it tells.
        quiet_limit: As of all specialists.
    """

    name: str = "oracle"
    model: str = "oracle"
    says: Literal["truth", "garbage", "nothing"] = "truth"
    score: float | None = 0.9
    false_score: float | None = None
    fails_every: int = 0
    roles: tuple[str, ...] = ("category",)
    quiet_limit: int | None = 8
    produces: tuple[str, ...] = field(init=False)
    requires: tuple[str, ...] = field(init=False, default=())
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False, default=Resources())

    def __post_init__(self) -> None:
        self.produces = tuple(_TELLS[role] for role in self.roles)

    def needs(self) -> list[Need]:
        return []

    def prepare(self) -> str:
        return f"revision of {Path(self.model).name}"

    def load(self) -> None:
        """There is nothing."""

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> Answer:
        time.sleep(float(os.environ.get(PAUSE, "0")))
        numbers = [int(image.image_key.split("-")[1]) for image in images]
        tables, failures = [empty_claims()], []
        for number, image in zip(numbers, images, strict=True):
            if self.fails_every and number % self.fails_every == 0:
                failures.append((image.image_key, "refused", "will not"))
            elif self.says != "nothing":
                tables.append(self._said(number, image))
        return Answer(rows=pa.concat_tables(tables).unify_dictionaries(), failures=failures)

    def _said(self, number: int, image: Image) -> pa.Table:
        truth = true_rows("plain", 0, range(number, number + 1))
        truth = truth.filter(pc.is_in(truth["role"].cast(pa.string()), pa.array(self.roles)))
        corners = np.random.default_rng(number).uniform(0, 40, (truth.num_rows, 2))
        wrong = np.concatenate([corners, corners + 4], axis=1).astype(np.float32)
        if self.says == "garbage":
            return self._claims(image, truth, self.score, text="nonsense", box=wrong)
        told = self._claims(image, truth, self.score)
        if self.false_score is None:
            return told
        return pa.concat_tables([told, self._claims(image, truth, self.false_score, box=wrong)])

    def _claims(self, image: Image, truth: pa.Table, score: float | None, **changed) -> pa.Table:
        names = ("kind", "role", "text", "box", "polygon")
        columns = {name: truth[name] for name in names} | {"score": score, "text_score": score}
        return claims(image_key=[image.image_key] * truth.num_rows, **{**columns, **changed})
