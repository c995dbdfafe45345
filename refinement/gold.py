"""Gold labels: they measure rounds, and half of them may calibrate; they never train."""

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

import pyarrow as pa
import pyarrow.compute as pc

from engine.assess import Version, assess
from engine.errors import ConfigError
from engine.formats.shapes import Header, LabelSet, Part
from engine.reading import read_tables
from engine.source.shapes import Location

# What is compared unless the config says: objects are what a refinement corrects first.
_FAMILIES = ("boxes", "words", "phrases")
Truth = LabelSet | Version
Half = Literal["calibrating", "measuring"]


@dataclass(frozen=True)
class Quality:
    """A label version against gold; each number 0 to 1, or null where it is 0/0."""

    family: str
    f1: float | None
    precision: float | None
    recall: float | None
    num_images: int  # compared


@dataclass(frozen=True)
class Gold:
    """Gold labels, opened anew each time they are read, and how they are compared.

    Attributes:
        open: Gives them.
        family: What of them is compared; null: the first of boxes, words and phrases they have.
        halved: Whether half of the images is kept for calibrating.
        seed: Of the halves.
    """

    open: Callable[[], Truth]
    family: str | None = None
    halved: bool = False
    seed: int = 0

    def half(self, half: Half) -> Truth:
        """That half of the images, or all of them where they are not halved."""
        truth = self.open()
        if not self.halved:
            return truth
        return _filtered(truth, lambda uri: _is_measuring(uri, self.seed) == (half == "measuring"))

    def measure(self, output: Location, version: str) -> Quality:
        """The kept rows of a label version against the half that measures.

        Raises:
            ConfigError: They share no image, or gold has nothing of the family.
        """
        wanted = [self.family] if self.family else None
        found = assess(output, version, self.half("measuring"), families=wanted)
        for family in wanted or _FAMILIES:
            if family in found.families:
                measures = found.families[family].measures
                return Quality(
                    family,
                    measures["f1"],
                    measures["precision"],
                    measures["recall"],
                    found.images.num_compared,
                )
        known = ", ".join(found.families) or "nothing"
        raise ConfigError(
            f"gold: has {known} to compare; a round is measured by {', '.join(_FAMILIES)}"
        )


def _filtered(truth: Truth, wanted: Callable[[str], bool]) -> LabelSet:
    header = truth.header if isinstance(truth, LabelSet) else Header("dataset")
    return LabelSet(header, (_part(part, wanted) for part in parts_of(truth)))


def parts_of(truth: Truth) -> Iterator[Part]:
    """Images and rows of true labels; those of a dataset that it kept."""
    if isinstance(truth, LabelSet):
        yield from truth.parts
        return
    for _, images, rows in read_tables(truth.location, truth.name):
        yield Part(images, rows.filter(pc.equal(rows["status"].cast(pa.string()), "kept")))


def _part(part: Part, wanted: Callable[[str], bool]) -> Part:
    mask = pa.array([wanted(uri or "") for uri in part.images["uri"].to_pylist()], pa.bool_())
    images = part.images.filter(mask)
    keys = images["image_key"].combine_chunks()
    return Part(images, part.rows.filter(pc.is_in(part.rows["image_key"], keys)))


def _is_measuring(uri: str, seed: int) -> bool:
    """By the name of the file: folders differ from one spelling of a label set to another."""
    name = uri.rstrip("/").rsplit("/", 1)[-1]
    return hashlib.blake2b(f"{seed}/{name}".encode(), digest_size=1).digest()[0] % 2 == 0
