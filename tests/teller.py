"""A specialist that tells who it is and what it was shown, and can be made to fail or to wait."""

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pyarrow as pa

from engine.protocols import Answer, Image, Need, Replaces, Resources
from engine.schema import claims

PAUSE = "FLD_TEST_PAUSE_S"  # how long a batch takes


@dataclass(kw_only=True)
class Teller:
    """Regions of each image, named `tells`, whose parents are the kept rows it was shown.

    Attributes:
        name: The `source` of its rows.
        model: Its revision too.
        tells: The text of its rows; `nothing` for no row.
        requires: What it wants to be shown.
        fails_on: Images whose key starts like this fail, until there is a file `mended`.
        mended: Path of that file.
        tells_failing: Whether it tells of those it fails on too.
        copies: How many rows of each image.
        shift: Of its boxes to the right, px.
        memory: What it says it needs, bytes.
    """

    name: str = "teller"
    model: str = "teller"
    tells: str = "it"
    requires: tuple[str, ...] = ()
    fails_on: str | None = None
    mended: str = ""
    tells_failing: bool = False
    copies: int = 1
    shift: int = 0
    memory: int | None = None
    quiet_limit: int | None = None
    produces: tuple[str, ...] = field(init=False, default=("region/category",))
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False)
    is_loaded: bool = field(init=False, default=False)

    def __post_init__(self) -> None:
        self.resources = Resources(memory=self.memory)

    def needs(self) -> list[Need]:
        return [Need("a voice", True)]

    def prepare(self) -> str:
        return f"revision of {self.model}"

    def load(self) -> None:
        self.is_loaded = True

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> Answer:
        assert self.is_loaded
        time.sleep(float(os.environ.get(PAUSE, "0")))
        keys, ids = (rows[name].to_pylist() for name in ("image_key", "annotation_id"))
        shown = list(zip(keys, ids, strict=True))
        assert {*keys} <= {image.image_key for image in images}
        telling = [i for i in images if self.tells_failing or not self._fails(i)]
        copies = self.copies if self.tells != "nothing" else 0
        telling = [image for image in telling for _ in range(copies)]
        table = claims(
            image_key=[image.image_key for image in telling],
            kind="region",
            role="category",
            text=self.tells,
            box=[[self.shift, 0, self.shift + i.width, i.height] for i in telling],
            parents=[[row for key, row in shown if key == i.image_key] for i in telling],
        )
        failures = [(i.image_key, "refused", "will not") for i in images if self._fails(i)]
        return Answer(rows=table, failures=failures, usage={"images": len(images)})

    def _fails(self, image: Image) -> bool:
        fails = self.fails_on is not None and image.image_key.startswith(self.fails_on)
        return fails and not Path(self.mended or "/nowhere").exists()
