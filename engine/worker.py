"""What runs inside the process of a specialist: load once, answer batches, blame single images."""

import contextlib
import os
import resource
import time
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import NamedTuple

import pyarrow as pa
import pyarrow.compute as pc

from engine.errors import SpecialistError, TableError
from engine.failures import Failure, fail
from engine.merge import check_rows, identify
from engine.pixels import EncodedImage
from engine.protocols import Answer, Specialist
from engine.schema import CLAIM, empty_claims

# What a specialist may raise. Workers are deaf to Ctrl-C, so a KeyboardInterrupt is its own. A
# SystemExit is not among them: processes are also ended by it from outside, which is a death.
_REFUSALS = (Exception, KeyboardInterrupt)

# One batch on its way to a worker: what `EncodedImage` needs, the bytes shared and not copied.
BATCH = pa.schema(
    [
        ("image_key", pa.string()),
        ("width", pa.int32()),
        ("height", pa.int32()),
        ("data", pa.large_binary()),
    ]
)

# Libraries read these once, when they are first imported: they are set before a worker starts.
THREAD_VARIABLES = (
    "OMP_NUM_THREADS",
    "MKL_NUM_THREADS",
    "OPENBLAS_NUM_THREADS",
    "NUMEXPR_NUM_THREADS",
    "OPENCV_FOR_THREADS_NUM",
)


@dataclass(frozen=True)
class SpecialistSpec:
    """A specialist as it travels to its workers: built, checked, with its weights' revision."""

    specialist: Specialist
    revision: str | None
    threads: int = 1
    memory_limit_bytes: int | None = None

    @property
    def name(self) -> str:
        """The `source` of its rows."""
        return self.specialist.name

    @property
    def model(self) -> str:
        """The model as its rows name it: of a file or folder the name alone, wherever it lies."""
        model = self.specialist.model
        path = Path(model)
        return path.name if path.is_absolute() or path.exists() else model

    def environment(self) -> dict[str, str]:
        """Variables for its workers, set before any model library is imported."""
        return dict.fromkeys(THREAD_VARIABLES, str(self.threads))


@dataclass(frozen=True)
class Receipt:
    """What the driver learns of one answered batch; the rows themselves go past it."""

    num_images: int
    num_rows: int
    seconds: float
    failures: list[tuple[str, Failure]] = field(default_factory=list)  # image_key, failure
    usage: dict[str, int] = field(default_factory=dict)  # what was spent, by unit


class Host:
    """Holds one loaded specialist and answers batches with identified rows."""

    def __init__(self, spec: SpecialistSpec) -> None:
        self._spec = spec
        self._specialist = spec.specialist

    def load(self) -> None:
        """Loads the model and then caps the memory that batches may take on top of it.

        Raises:
            SpecialistError: Loading failed; the message holds the library's own first line.
        """
        _limit_cores(self._spec.threads)
        try:
            self._specialist.load()
        except Exception as err:
            raise SpecialistError(
                f"specialist {self._spec.name!r} could not be loaded: {type(err).__name__}: {err}; "
                "`fld checks` says what it needs"
            ) from err
        if self._spec.memory_limit_bytes is not None:
            _cap_memory(self._spec.memory_limit_bytes)

    def annotate(
        self, batch: pa.Table, rows: pa.Table | None, only: int | None = None
    ) -> tuple[pa.Table, Receipt]:
        """Claims for the images of a batch, and a receipt.

        When the specialist raises on the batch, every image is tried by itself: those that raise
        again become failures, the others keep their rows.

        Args:
            batch: Images in the `BATCH` schema.
            rows: Kept rows of earlier levels on these images; None at the first level.
            only: Answer just the image at this position.
        """
        started = time.perf_counter()
        if only is not None:
            batch = batch.slice(only, 1)
        images = _images(batch)
        rows = self._wanted(rows, images if only is not None else None)
        try:
            told = self._ask(images, rows)
        except _REFUSALS as err:  # whatever it was, each image alone tells whose fault
            told = self._ask_one_by_one(images, rows, err)
        seconds = time.perf_counter() - started
        num_rows = told.claims.num_rows
        return told.claims, Receipt(len(images), num_rows, seconds, told.failures, dict(told.usage))

    def _wanted(self, rows: pa.Table | None, images: Sequence[EncodedImage] | None) -> pa.Table:
        """The rows of the kinds it requires, on those images only where they are given."""
        if rows is None or not self._specialist.requires:
            return empty_claims()
        kinds, roles = rows["kind"].cast(pa.string()), rows["role"].cast(pa.string())
        pairs = pc.binary_join_element_wise(kinds, roles, "/")
        names = pa.array(self._specialist.requires, pa.string())
        rows = rows.filter(pc.or_(pc.is_in(kinds, names), pc.is_in(pairs, names)))
        return rows if images is None else _rows_of(rows, images)

    def _ask(self, images: Sequence[EncodedImage], rows: pa.Table) -> "_Told":
        given = self._specialist.annotate(images, rows)
        answer = given if isinstance(given, Answer) else Answer(rows=given)
        keys = [image.image_key for image in images]
        claims = identify(
            check_rows(answer.rows, keys),
            source=self._spec.name,
            model=self._spec.model,
            revision=self._spec.revision,
        )
        foreign = {key for key, _, _ in answer.failures} - set(keys)
        if foreign:
            raise TableError(f"returned a failure of {min(foreign)!r}, not among the images given")
        failures = [
            (key, fail("annotate", cause, message, source=self._spec.name))
            for key, cause, message in answer.failures
        ]
        return _Told(claims, failures, answer.usage)

    def _ask_one_by_one(
        self, images: Sequence[EncodedImage], rows: pa.Table, first: BaseException
    ) -> "_Told":
        if len(images) == 1:
            return _Told(empty_claims(), [(images[0].image_key, self._blame(first))])
        answers, failures, usage = [], [], Counter[str]()
        for image in images:
            try:
                told = self._ask([image], _rows_of(rows, [image]))
            except _REFUSALS as err:  # it becomes this image's failure, with its cause
                failures.append((image.image_key, self._blame(err)))
                continue
            answers.append(told.claims)
            failures.extend(told.failures)
            usage.update(told.usage)
        claims = pa.concat_tables([CLAIM.empty_table(), *answers]).unify_dictionaries()
        return _Told(claims, failures, usage)

    def _blame(self, err: BaseException) -> Failure:
        if isinstance(err, TableError):
            return fail("annotate", "bad_rows", err, source=self._spec.name)
        said = traceback.format_exception_only(err)[-1]  # even where str(err) raises
        cause = "out_of_memory" if _is_memory(err, said) else "raised"
        return fail("annotate", cause, said, source=self._spec.name)


class _Told(NamedTuple):
    """An answer with identified rows."""

    claims: pa.Table
    failures: list[tuple[str, Failure]]
    usage: Mapping[str, int] = MappingProxyType({})


def _images(batch: pa.Table) -> list[EncodedImage]:
    data = (
        batch["data"].combine_chunks() if batch["data"].num_chunks != 1 else batch["data"].chunk(0)
    )
    keys, widths, heights = (batch[name].to_pylist() for name in ("image_key", "width", "height"))
    return [
        EncodedImage(key, memoryview(data[i].as_buffer()), width, height)
        for i, (key, width, height) in enumerate(zip(keys, widths, heights, strict=True))
    ]


def _rows_of(rows: pa.Table, images: Sequence[EncodedImage]) -> pa.Table:
    keys = pa.array([image.image_key for image in images], pa.string())
    return rows.filter(pc.is_in(rows["image_key"], keys))


def _is_memory(err: BaseException, said: str) -> bool:
    # torch and onnxruntime report a failed allocation as RuntimeError, told apart only by its text
    return isinstance(err, MemoryError) or "allocate" in said.lower()


def _limit_cores(threads: int) -> None:
    """Tells libraries already imported by the runner; the environment covers those that are not."""
    pa.set_cpu_count(threads)
    pa.set_io_thread_count(threads)


def _cap_memory(extra_bytes: int) -> None:
    """Lets this process allocate that much more than it holds now; past it, allocation fails."""
    held = 0
    with contextlib.suppress(FileNotFoundError):  # Linux only; elsewhere the limit counts from zero
        for line in Path("/proc/self/status").read_text(encoding="utf-8").splitlines():
            if line.startswith("VmData:"):
                held = int(line.split()[1]) * 1024
    resource.setrlimit(resource.RLIMIT_DATA, (held + extra_bytes, resource.RLIM_INFINITY))


@contextlib.contextmanager
def environment(variables: dict[str, str]) -> Iterator[None]:
    """Sets environment variables for the processes started inside, and puts the old ones back."""
    before = {name: os.environ.get(name) for name in variables}
    os.environ.update(variables)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
