"""What label formats are made of: a set of labels in parts, where it lies, and the protocol."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, NamedTuple, Protocol

import pyarrow as pa

from engine.config import LimitsConfig
from engine.source.shapes import Location


class Place(NamedTuple):
    """Where a set of labels lies: a file of a location, or, with an empty `path`, all of it."""

    location: Location
    path: str = ""

    def __str__(self) -> str:
        """For messages."""
        return f"{self.location.uri.rstrip('/')}/{self.path}" if self.path else self.location.uri


class Part(NamedTuple):
    """Some images of a label set, whole, with everything that is said of them.

    `images` has the schema `engine.schema.IMAGES`: `uri` is the name of the picture as the labels
    spell it, `source_id` and `extra` are the format's own, `status` is `ok`, or `failed` with a
    failure of the stage `labels` for an image that is only mentioned (`unknown_image`). Width and
    height are null where the labels do not tell them. `image_key` is the place of the image in this
    table as decimal digits, in both tables; who asked replaces it.

    `rows` has the schema `engine.schema.CLAIM`, in the order of the file. `annotation_id`,
    `region_id`, `text_id` and `parents` may hold names of the reader's own by which rows of one
    image refer to each other (see `engine.merge.identify`); `source`, `model`, `revision` are null.
    `source_id` is the record's own id, `extra` the record itself as JSON: written back unchanged
    where the row is written in the format it came from.
    """

    images: pa.Table
    rows: pa.Table


@dataclass(frozen=True)
class Header:
    """What a label set says once for all images.

    Attributes:
        kind: Name of the format.
        classes: Names in the order of the format's own numbers, where it has such.
        content: What the format needs to write the same set again, as plain JSON data: COCO's
            `info`, `licenses` and `categories`; the columns of a table; the layout of a folder.
        notes: What a user should hear, such as ids that stand twice: one sentence each.
    """

    kind: str
    classes: Sequence[str] = ()
    content: Mapping[str, Any] = field(default_factory=dict)
    notes: Sequence[str] = ()


@dataclass(frozen=True)
class LabelSet:
    """A set of labels: its header, and its images in parts, read once while they are used."""

    header: Header
    parts: Iterator[Part]


@dataclass(frozen=True, kw_only=True)
class ReadOptions:
    """What a reader may be told.

    Attributes:
        images: The pictures, where sizes must be looked up; null where they are not at hand.
        annotations: A second file of labels that the first rests on, such as the instances that
            COCO results belong to.
        classes: Names of numbered classes, where the format does not say them.
        limits: Of bytes: a picture's `max_bytes`, the `max_label_bytes` of one image.
        part_size: Images in a part, at most.
    """

    images: Location | None = None
    annotations: Place | None = None
    classes: Sequence[str] = ()
    limits: LimitsConfig = field(default_factory=LimitsConfig)
    part_size: int = 256


class Format(Protocol):
    """One way of writing labels down."""

    name: ClassVar[str]
    is_folder: ClassVar[bool]  # a set is a folder of files; else one file

    def recognises(self, place: Place, head: bytes) -> bool:
        """Whether a set of labels looks like this format; reads little.

        Args:
            place: Where it lies.
            head: The first 64 KiB of a file; empty for a folder.
        """

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels, none lost: what cannot be taken is a failure (stage `labels`) of its image.

        Raises:
            LabelsError: The set as a whole cannot be read; names file and line.
        """

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """Writes a set of labels; images without rows are kept where the format can say so.

        Rows of `labels` are in the schema `engine.schema.CLAIM` with final ids, those to be
        written alone; image_key joins them with their images. A row or image with an `extra` of
        this format (`labels.header.kind`) is written as it was, others from their columns.

        Returns:
            What could not be said in this format, one sentence each with a count.

        Raises:
            LabelsError: The format cannot hold such labels at all.
        """
