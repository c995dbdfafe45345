"""What a specialist and a rule must be. Protocols only: nothing here is inherited from."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.schema import Tables, Verdicts

# When a row supersedes its parents: `never`; when it is `kept`, so that what replaces is never
# worse than nothing; `always`, also when it is rejected: a vote decides on its parents both ways.
Replaces = Literal["never", "kept", "always"]


class Image(Protocol):
    """One decodable image as a specialist sees it. `engine.pixels` holds the real one."""

    @property
    def image_key(self) -> str:
        """Names the image in every table."""

    @property
    def width(self) -> int:
        """Pixels, upright."""

    @property
    def height(self) -> int:
        """Pixels, upright."""

    @property
    def data(self) -> memoryview:
        """The encoded bytes, unchanged."""

    def rgb(self, min_side: int | None = None) -> npt.NDArray[np.uint8]:
        """Upright pixels, shape (height, width, 3).

        With `min_side` a decoder that can shrink while it decodes may return a smaller picture
        whose shorter side is still at least that many pixels; the caller scales coordinates back.
        """


@dataclass(frozen=True, kw_only=True)
class Resources:
    """What one worker of a specialist needs.

    CPU threads, GPUs (a fraction shares one), and memory in bytes.
    """

    cpus: int = 1  # threads, where runner.threads says nothing
    gpus: float = 0.0
    memory: int | None = None


@dataclass(frozen=True)
class Need:
    """One thing a specialist needs (a weight, a package, a language) and whether it is there.

    `mend` is the command that gets what is missing. `downloads` says that the specialist fetches it
    by itself at first use, so that its absence is news and not an error.
    """

    what: str
    present: bool
    mend: str = ""
    downloads: bool = False


@dataclass(frozen=True, kw_only=True)
class Answer:
    """Rows, with the failures of single images and what the answer cost.

    For specialists to whom asking again is dear: an exception makes the batch be tried again image
    by image, a failure given here does not.

    Attributes:
        rows: As `annotate` returns them. A failed image may have some: what was got of it and paid
            for is kept, and `--retry-failed` replaces all its rows.
        failures: Image key, cause (one of `engine.failures` for the stage `annotate`), message.
        usage: What was spent, failures included, by unit: `{"prompt_tokens": 812}`.
    """

    rows: pa.Table
    failures: Sequence[tuple[str, str, str]] = ()
    usage: Mapping[str, int] = field(default_factory=dict)


class Specialist(Protocol):
    """A model that annotates images.

    Built from its config entry in the driver, pickled before `load`, loaded once in every worker.
    The same images and rows in the same order give the same answer.
    """

    name: str  # the `source` of its rows
    model: str  # model id, as stored in its rows
    produces: tuple[str, ...]  # "kind" or "kind/role" of the rows it writes
    requires: tuple[str, ...]  # "kind" or "kind/role" of the kept rows it wants to see
    resources: Resources
    replaces: Replaces  # whether its rows supersede those they name as parents
    quiet_limit: (
        int | None
    )  # alarm when its first images, this many, gave no row; null where silence is normal

    def needs(self) -> list[Need]:
        """Everything it needs on this machine; downloads nothing, loads nothing."""

    def prepare(self) -> str | None:
        """Makes the weights present (downloading where that is its way) and returns their revision.

        Called once in the driver before any worker starts; null where there are no weights.

        Raises:
            SpecialistError: Something is missing; the message says the command that mends it.
        """

    def load(self) -> None:
        """Loads the model; called once per worker, before the first `annotate`."""

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> pa.Table | Answer:
        """Claim rows (`engine.schema.claims`) for those images, in their order.

        Args:
            images: A batch of one shard; fixed size and order, so that reruns are identical.
            rows: The kept rows of these images of the kinds in `requires`; none when it is empty.

        Returns:
            Rows with `image_key`, `kind`, `role` and what it knows; `prompt`, `parents`,
            `region_id` where they apply. `annotation_id`, `source`, `model`, `revision`, `round`
            are filled in later. Any exception is taken as: this batch is to be tried again image
            by image. An `Answer` where single images may fail by themselves, or answers cost.
        """


@dataclass(frozen=True)
class Context:
    """What rules may look at beside the tables.

    `fresh` marks the rows under judgement; the others are kept rows of earlier levels. `seed` is
    the run's. `decisions` is what a `GlobalRule` came to over the whole dataset; null for others.
    """

    fresh: npt.NDArray[np.bool_]
    seed: int = 0
    decisions: pa.Table | None = None


class Rule(Protocol):
    """A rule that rejects rows. Pure: reads columns, returns verdict columns, edits nothing.

    It may have a method `needs() -> list[Need]` too, as specialists do, where it needs a model.
    """

    name: ClassVar[str]
    applies_to: ClassVar[tuple[str, ...]]  # kinds it judges; ("image",) judges images instead

    def judge(self, tables: Tables, context: Context) -> Verdicts:
        """One verdict per row of `tables.annotations`, in its order.

        The rows are those still kept when the rule's turn comes: earlier levels' survivors and the
        fresh rows no rule before it rejected. Verdicts on rows that are not fresh are not used.

        A rule on images judges `tables.images` instead, one verdict per row: all are `ok` and
        fresh. `against` names the image a rejected one is a duplicate of.
        """


class GlobalRule(Rule, Protocol):
    """A rule that must have seen the whole dataset: measure each shard, reduce, judge each shard.

    Found by having `measure`; only `fld filter` can run it.
    """

    def measure(self, tables: Tables) -> pa.Table:
        """What `reduce` needs of one shard, as small as can be; the same columns for every shard.

        `tables` are those of a finished label version: all images and rows, with their verdicts.
        """

    def reduce(self, measured: pa.Table) -> pa.Table:
        """The decisions, from the measures of all shards in order; `judge` gets the whole table.

        The same measures give the same table, byte for byte.
        """
