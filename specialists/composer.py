"""Captions put together from what other specialists found: no model, nothing but the kept rows."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa

from engine.errors import ConfigError
from engine.protocols import Image, Need, Resources
from engine.schema import box_array, claims
from specialists.nouns import count_noun

_REVISION = "1"  # a change of the wording changes this
_ORDERS = {
    "area": ["area", "count", "top", "left"],
    "count": ["count", "area", "top", "left"],
    "reading": ["top", "left", "area", "count"],
}
_FALLING = frozenset({"area", "count"})  # the others rise


@dataclass(kw_only=True)
class Composer:
    """Answers each image that has kept regions or transcripts with one row `text`, role `brief`.

    `two people and a dog; text reads "STOP"`: classes counted, transcripts quoted in reading order.
    `parents` are the rows it was put together from, `score` and `text_score` are null. Regions that
    mark a crowd (`ignore`) have no count and are left out, as are proposals and region captions.

    Attributes:
        name: The `source` of its rows.
        max_classes: Most classes named; the others go unmentioned.
        max_transcripts: Most transcripts quoted.
        order: Which class comes first: the one of largest summed `area`, of highest `count`, or the
            first in `reading` order (top, then left). Ties go by the others.
        quiet_limit: Null, because images without kept regions are normal.
    """

    name: str = "composer"
    max_classes: int = 5
    max_transcripts: int = 3
    order: Literal["area", "count", "reading"] = "area"
    quiet_limit: int | None = None
    model: str = field(init=False, default="composer")
    produces: tuple[str, ...] = field(init=False, default=("text/brief",))
    requires: tuple[str, ...] = field(init=False, default=("region",))
    resources: Resources = field(init=False, default=Resources())

    def __post_init__(self) -> None:
        if self.max_classes < 0 or self.max_transcripts < 0:
            raise ConfigError(
                f"specialist {self.name!r}: max_classes {self.max_classes}, max_transcripts "
                f"{self.max_transcripts}; both must be 0 or more"
            )

    def needs(self) -> list[Need]:
        """Nothing."""
        return []

    def prepare(self) -> str:
        """The version of the wording."""
        return _REVISION

    def load(self) -> None:
        """Does nothing."""

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table:
        """At most one row per image, in order; see `engine.protocols.Specialist`."""
        regions = _frame(rows)
        objects = self._objects(regions[regions["role"].isin(["category", "phrase"])])
        writing = self._writing(regions[regions["role"] == "ocr"])
        keys, texts, parents = [], [], []
        for key in dict.fromkeys(image.image_key for image in images):
            nouns, their_rows = objects.get(key, ([], []))
            quotes, quoted_rows = writing.get(key, ([], []))
            clauses = [_join(nouns), f"text reads {_join(quotes)}" if quotes else ""]
            text = "; ".join(clause for clause in clauses if clause)
            if text:
                keys.append(key)
                texts.append(text)
                parents.append([*their_rows, *quoted_rows])
        return claims(image_key=keys, kind="text", role="brief", text=texts, parents=parents)

    def _objects(self, regions: pd.DataFrame) -> dict[str, tuple[list[str], list[str]]]:
        """By image: counted nouns in order, and the ids of their rows."""
        regions = regions.drop_duplicates(
            ["image_key", "region"]
        )  # two texts on one region count once
        keys = ["image_key", "label"]
        classes = regions.groupby(keys, sort=True, as_index=False).agg(
            count=("label", "size"),
            area=("area", "sum"),
            top=("top", "min"),
            left=("left", "min"),
            ids=("annotation_id", list),
        )
        by = _ORDERS[self.order]
        ascending = [column not in _FALLING for column in by]
        classes = classes.sort_values(by, ascending=ascending, kind="stable")
        kept = classes.groupby("image_key", sort=False).head(self.max_classes)
        found: dict[str, tuple[list[str], list[str]]] = {}
        for key, label, count, ids in kept[["image_key", "label", "count", "ids"]].itertuples(
            index=False
        ):
            nouns, rows = found.setdefault(key, ([], []))
            nouns.append(count_noun(label, count))
            rows.extend(ids)
        return found

    def _writing(self, regions: pd.DataFrame) -> dict[str, tuple[list[str], list[str]]]:
        """By image: quoted transcripts in reading order, and the ids of their rows."""
        found: dict[str, tuple[list[str], list[str]]] = {}
        for key, lines in regions.groupby("image_key", sort=False):
            read = lines.iloc[_reading_order(lines)].head(self.max_transcripts)
            found[str(key)] = ([_quote(t) for t in read["label"]], read["annotation_id"].tolist())
        return found


def _frame(rows: pa.Table) -> pd.DataFrame:
    """What composing needs of region rows with words; one without a box has area 0, comes last."""
    boxes = box_array(rows).astype(np.float64)
    sides = boxes[:, 2:] - boxes[:, :2]
    ids = rows["annotation_id"].to_pandas()
    frame = pd.DataFrame(
        {
            "image_key": rows["image_key"].to_pandas(),
            "annotation_id": ids,
            "region": rows["region_id"].to_pandas().fillna(ids),
            "role": rows["role"].cast(pa.string()).to_pandas(),
            "label": rows["text"].to_pandas().fillna("").str.split().str.join(" "),
            "area": np.nan_to_num(sides.prod(axis=1)),
            "left": boxes[:, 0],
            "top": boxes[:, 1],
            "height": sides[:, 1],
        }
    )
    is_region = (rows["kind"].cast(pa.string()).to_pandas() == "region") & ~rows[
        "ignore"
    ].to_pandas()
    wanted: pd.DataFrame = frame[is_region & (frame["label"] != "")]
    return wanted


def _reading_order(lines: pd.DataFrame) -> list[int]:
    """Positions of the rows line by line from the top, each line from the left.

    A box belongs to the line above it if its middle is above the bottom of the line's first box.
    """
    middle = (lines["top"] + lines["height"] / 2).to_numpy()
    bottom = (lines["top"] + lines["height"]).to_numpy()
    left = lines["left"].to_numpy()
    ordered: list[int] = []
    line: list[int] = []
    for i in np.argsort(middle, kind="stable").tolist():
        if line and not middle[i] < bottom[line[0]]:
            ordered += sorted(line, key=lambda j: left[j])
            line = []
        line.append(i)
    return ordered + sorted(line, key=lambda j: left[j])


def _quote(transcript: str) -> str:
    mark = "'" if '"' in transcript else '"'
    return f"{mark}{transcript}{mark}"


def _join(parts: list[str]) -> str:
    *first, last = parts or [""]
    return f"{', '.join(first)} and {last}" if first else last
