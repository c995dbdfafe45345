"""Training pairs as a training reads them: any example at once, in a seeded order without end."""

import json
from collections import OrderedDict
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path
from threading import Lock
from typing import Any, Literal, NamedTuple
from zlib import crc32

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.ancestry import damaged
from engine.errors import ConfigError
from engine.source.shapes import Location, ReadError
from refinement.pairs.files import IDENTITY, MappedFiles, PairCounts
from refinement.pairs.folds import fold_of, key_of
from refinement.pairs.mixture import Mixture
from refinement.pairs.options import check_weights
from refinement.pairs.permutation import permuted

Split = Literal["train", "valid"]
Numbers = npt.NDArray[np.unsignedinteger[Any]]

_OPEN_TARS = 256  # a process may often have no more than 1,024 files open


class Example(NamedTuple):
    """One pair with its picture.

    `image` is the encoded file as the source had it; `width` and `height` are of the upright
    picture, pixels, in which the target's places are counted. `engine.pixels.EncodedImage` turns
    the one into the other.
    """

    task: str
    prompt: str
    target: str
    image: bytes
    width: int
    height: int
    image_key: str


class Pairs:
    """The pairs of a folder, mapped, and the pictures they are about.

    Memory grows with the number of pairs by a byte for each, and by four for each in every stream
    made of them. It can be pickled, and used by several threads.

    Attributes:
        counts: As they were made.
        weights: Of each task, as they were made; the default of a stream.
        seed: With which folds are dealt out.
        version: The label version they are of.
    """

    def __init__(self, folder: Path, output: Location) -> None:
        """Reads what `open` opens."""
        said = _read_identity(folder)
        self._folder, self._output = folder, output
        self.counts = PairCounts(**said["counts"])
        self.weights: dict[str, float] = said["weights"]
        self.seed: int = said["seed"]
        self.version: str = said["version"]
        self._files = MappedFiles(folder, self.tasks)
        self._codes = self._files.codes
        self._pictures = _Pictures(output)

    @classmethod
    def open(cls, folder: Path, output: Location) -> "Pairs":
        """The pairs that `write_pairs` made.

        Args:
            folder: Theirs.
            output: The dataset's place, which holds the pictures.

        Raises:
            ConfigError: There are none, they are not all there, or a file is damaged.
        """
        return cls(folder, output)

    def __reduce__(self) -> tuple[Callable[..., "Pairs"], tuple[Path, Location]]:
        return Pairs.open, (self._folder, self._output)

    @property
    def tasks(self) -> tuple[str, ...]:
        """Those of the pairs."""
        return tuple(self.weights)

    def example(self, task: str, number: int) -> Example:
        """The pair of a task at that place, in the order of images; held out or not.

        Raises:
            ConfigError: The pairs have no such task.
            IndexError: It has no such pair.
        """
        if task not in self.weights:
            raise ConfigError(f"{self._folder}: no pairs of {task!r}; of {', '.join(self.tasks)}")
        numbers = self._by_task[task]
        if not 0 <= number < len(numbers):
            raise IndexError(f"example {number} of {len(numbers)} of the task {task!r}")
        return self.read(int(numbers[number]))

    def stream(
        self,
        *,
        split: Split = "train",
        seed: int,
        weights: Mapping[str, float] | None = None,
        without_fold: tuple[int, int] | None = None,
    ) -> "Stream":
        """An endless order of the pairs of a split, the same for the same seed.

        Args:
            split: Those trained on, or those held out.
            seed: Another one gives another order.
            weights: Of the tasks; those not named do not come. Null: as they were made.
            without_fold: Number of folds and one of them, whose images do not come; which fold an
                image is in is told by the seed the pairs were made with.

        Raises:
            ConfigError: A weight is no weight or of a task there are no pairs of, the fold is none,
                or a task is left without a pair to train on.
        """
        weights = dict(self.weights if weights is None else weights)
        check_weights(weights, "weights")
        for task in weights:
            if task not in self.weights:
                raise ConfigError(
                    f"{self._folder}: no pairs of {task!r}; of {', '.join(self.tasks)}"
                )
        comes = None if without_fold is None else ~self._in_fold(*without_fold)
        places = {task: self._numbers(task, split, comes) for task in weights}
        lacking = [task for task, numbers in places.items() if not len(numbers)]
        if lacking and split == "train":
            rest = (
                f" once fold {without_fold[1]} of {without_fold[0]} is out" if without_fold else ""
            )
            raise ConfigError(
                f"{self._folder}: the task {lacking[0]!r} has no pair left to train on{rest}, with "
                f"{self.counts.valid.get(lacking[0], 0):,} held out; give more images, fewer folds "
                "or a smaller valid_share, or take the task out"
            )
        # in one order however they were written down: it decides between equal weights
        weights = {task: weights[task] for task in self.tasks if len(places.get(task, ()))}
        return Stream(self, weights, places, seed)

    def read(self, number: int) -> Example:
        """The pair at that place among all, with its picture.

        Raises:
            ShardError: The tar of the picture is gone or damaged.
        """
        row = self._files.row(number)
        image = self._pictures.read(row["tar"], row["offset"], row["num_bytes"])
        names = ("task", "prompt", "target", "width", "height", "image_key")
        return Example(image=image, **{name: row[name] for name in names})

    def read_all(self, numbers: list[int]) -> list[Example]:
        """Several pairs, as many at a time as the place of the pictures answers best."""
        if self._output.readers == 1:
            return [self.read(number) for number in numbers]
        with ThreadPoolExecutor(self._output.readers) as pool:
            return list(pool.map(self.read, numbers))

    @cached_property
    def _by_task(self) -> dict[str, Numbers]:
        codes = self._codes // 2
        return {name: _small(np.flatnonzero(codes == i)) for i, name in enumerate(self.tasks)}

    def _numbers(self, task: str, split: Split, comes: npt.NDArray[np.bool_] | None) -> Numbers:
        found = self._codes == self.tasks.index(task) * 2 + (split == "valid")
        return _small(np.flatnonzero(found if comes is None else found & comes))

    def _in_fold(self, num_folds: int, fold: int) -> npt.NDArray[np.bool_]:
        """Whether each pair is of an image in that fold."""
        if not 0 <= fold < num_folds:
            raise ConfigError(f"fold {fold} of {num_folds}; folds count from 0")
        found = np.empty(self._files.num_rows, bool)
        start = 0
        for digests in self._files.column("sha256"):
            own = fold_of(digests.to_numpy(zero_copy_only=False), num_folds, self.seed) == fold
            found[start : start + len(own)] = own
            start += len(own)
        return found


class Stream:
    """Pairs in an order without end; every place of it is computed, so none need be passed over.

    Tasks come by their weights, see `Mixture`. The pairs of a task come in epochs: each once, in an
    order of that epoch's own, see `permuted`.

    Attributes:
        len_epoch: How many pairs an epoch of each task has.
    """

    def __init__(
        self, pairs: Pairs, weights: Mapping[str, float], places: Mapping[str, Numbers], seed: int
    ) -> None:
        self._pairs, self._places, self._seed = pairs, places, seed
        self._mixture = Mixture(weights) if weights else None
        self.len_epoch = {task: len(numbers) for task, numbers in places.items()}

    def at(self, position: int) -> Example:
        """The pair at a place of the order, counted from 0.

        Raises:
            IndexError: Before the first place, or there are no pairs at all.
            ShardError: The tar of the picture is gone or damaged.
        """
        return self._pairs.read(self._number(*self._deal(position)))

    def batch(self, start: int, count: int) -> list[Example]:
        """That many pairs from a place on."""
        dealt = [self._deal(position) for position in range(start, start + count)]
        return self._pairs.read_all([self._number(*each) for each in dealt])

    def draw(self, task: str, number: int) -> Example:
        """The pair of that task that comes after `number` others of it.

        Raises:
            IndexError: The task has no pair here.
        """
        return self._pairs.read(self._number(task, number))

    def _deal(self, position: int) -> tuple[str, int]:
        if self._mixture is None:
            raise IndexError("the stream has no pairs: none is held out")
        return self._mixture.at(position)

    def _number(self, task: str, draw: int) -> int:
        """Which of all pairs a draw of a task is."""
        numbers = self._places.get(task, ())
        if draw < 0 or not len(numbers):
            raise IndexError(f"draw {draw} of the task {task!r}, which has {len(numbers)} pairs")
        epoch, place = divmod(draw, len(numbers))
        key = key_of(self._seed, crc32(task.encode()), epoch)
        return int(numbers[permuted(place, len(numbers), key)])


class _Pictures:
    """Reads pictures out of tars, a few of which are held open: one request or read for each."""

    def __init__(self, output: Location) -> None:
        self._output = output
        self._open: OrderedDict[str, pa.NativeFile] = OrderedDict()
        self._lock = Lock()

    def read(self, tar: str, offset: int, num_bytes: int) -> bytes:
        """The bytes of a tar from an offset on.

        Raises:
            ShardError: It is gone, or shorter.
        """
        try:
            data: bytes = self._file(tar).read_at(num_bytes, offset)
        except (ReadError, OSError) as err:
            raise damaged(self._output, tar, err) from err
        if len(data) != num_bytes:
            raise damaged(self._output, tar, "ends early")
        return data

    def _file(self, tar: str) -> pa.NativeFile:
        with self._lock:
            if tar in self._open:
                self._open.move_to_end(tar)
                return self._open[tar]
        file = self._output.open(tar).file  # not while others wait: a bucket takes its time
        with self._lock:
            self._open[tar] = file
            if len(self._open) > _OPEN_TARS:
                self._open.popitem(last=False)  # closed by whoever lets go of it last
        return file


def _small(numbers: npt.NDArray[np.int64]) -> Numbers:
    """In four bytes each, where that is enough."""
    fits = not len(numbers) or numbers[-1] < 2**32
    return numbers.astype(np.uint32 if fits else np.uint64)


def _read_identity(folder: Path) -> dict[str, Any]:
    path = folder / IDENTITY
    try:
        content: dict[str, Any] = json.loads(path.read_bytes())
        counts = content["counts"]
    except OSError as err:
        raise ConfigError(f"{folder}: no training pairs there ({err.strerror})") from err
    except (ValueError, KeyError, TypeError) as err:
        raise ConfigError(
            f"{path}: is damaged; delete the folder and make the pairs again"
        ) from err
    if counts is None:
        raise ConfigError(
            f"{folder}: its pairs are not all there; run the command that makes them again"
        )
    return content
