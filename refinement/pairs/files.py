"""Training pairs as Arrow files, one per shard: their columns, their bytes, and how to map them."""

import json
from collections import Counter, OrderedDict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from engine.errors import ConfigError

IDENTITY = "pairs.json"
ENDING = ".arrow"
SCHEMA = pa.schema(
    [
        ("image_key", pa.string()),
        ("sha256", pa.string()),  # of the encoded picture
        ("is_valid", pa.bool_()),  # held out for the loss curve
        ("task", pa.dictionary(pa.int8(), pa.string())),  # of all tasks of the folder, in one order
        ("prompt", pa.string()),
        ("target", pa.string()),
        ("width", pa.int32()),  # of the upright picture, pixels
        ("height", pa.int32()),
        ("tar", pa.dictionary(pa.int8(), pa.string())),  # that holds it, relative to the dataset
        ("offset", pa.int64()),  # of its first byte there
        ("num_bytes", pa.int64()),
    ]
)
# Within this many rows no text column outgrows the 2 GB that its offsets can tell, as long as no
# text has over 32,000 characters of Latin letters; a shard seldom has more rows.
_BATCH_ROWS = 1 << 16
_OPEN_FILES = 256  # a process may often have no more than 1,024, and tars are open beside them
_COUNTS, _MADE_FROM = b"counts", b"made_from"


@dataclass(frozen=True, kw_only=True)
class PairCounts:
    """How many pairs were made, and what none was made of.

    Attributes:
        examples: Pairs of each task, those held out included.
        valid: Pairs of each task that are held out.
        images: Those with a pair.
        left_out: By reason. Images that have rows of a wanted task: `no_picture` in any tar,
            `no_size`, `no_sha256`. Rows of a wanted task: `gold`, `ignored`, and, once for every
            task, `not_said`: without words, a box or an outline, or with words that spell a special
            token. Pairs: `too_many_items`, `too_long`.
    """

    examples: Mapping[str, int] = field(default_factory=dict)
    valid: Mapping[str, int] = field(default_factory=dict)
    images: int = 0
    left_out: Mapping[str, int] = field(default_factory=dict)

    @property
    def train(self) -> dict[str, int]:
        """Pairs of each task that are trained on."""
        return {task: count - self.valid.get(task, 0) for task, count in self.examples.items()}


class Notes(NamedTuple):
    """What a file says of itself: its counts, and the files it was made from with their sha256."""

    counts: PairCounts
    made_from: dict[str, str | None]


def file_name(shard: int) -> str:
    """What the file of a shard is called."""
    return f"{shard:06d}{ENDING}"


def file_names(folder: Path) -> list[str]:
    """The files of a folder, in the order of their shards."""
    names = [path.name for path in folder.glob(f"*{ENDING}") if path.stem.isdigit()]
    return sorted(names, key=lambda name: int(name.removesuffix(ENDING)))


def encode_file(columns: Mapping[str, Sequence[Any]], tasks: Sequence[str], notes: Notes) -> Any:
    """The bytes of one file; the same columns give the same bytes.

    Args:
        columns: Of `SCHEMA`, all of one length.
        tasks: All tasks of the folder.
        notes: Go with it.

    Returns:
        A pyarrow.Buffer.
    """
    tars = list(dict.fromkeys(columns["tar"]))
    words = {"task": {name: code for code, name in enumerate(tasks)}}
    words["tar"] = {name: code for code, name in enumerate(tars)}
    arrays = []
    for column in SCHEMA:
        values = columns[column.name]
        if column.name in words:
            codes = pa.array([words[column.name][value] for value in values], pa.int8())
            known = pa.array(list(words[column.name]), pa.string())
            arrays.append(pa.DictionaryArray.from_arrays(codes, known))
        else:
            arrays.append(pa.array(values, column.type))
    said = {_COUNTS: asdict(notes.counts), _MADE_FROM: notes.made_from}
    metadata = {name: json.dumps(value, sort_keys=True) for name, value in said.items()}
    table = pa.Table.from_arrays(arrays, schema=SCHEMA.with_metadata(metadata))
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=_BATCH_ROWS)
    return sink.getvalue()


def read_notes(path: Path) -> Notes | None:
    """What a file says of itself; null where it is no such file, or a damaged one."""
    try:
        with pa.memory_map(str(path)) as mapped:
            schema = pa.ipc.open_file(mapped).schema
        if not schema.equals(SCHEMA):
            return None
        counts = PairCounts(**json.loads(schema.metadata[_COUNTS]))
        return Notes(counts, json.loads(schema.metadata[_MADE_FROM]))
    except (OSError, pa.ArrowInvalid, KeyError, TypeError, ValueError):
        return None


class MappedFiles:
    """The pairs of all files of a folder as one long table, of which nothing is held but its sizes.

    A few files are mapped at a time: what is not looked at takes no memory, and a dataset of
    100,000 shards takes no more file handles than one of some hundred.

    Attributes:
        num_rows: Of all files.
        codes: Of each pair twice the number of its task, and one more where it is held out.
    """

    def __init__(self, folder: Path, tasks: Sequence[str]) -> None:
        """Opens every file once.

        Raises:
            ConfigError: One is not of this folder's making, or damaged.
        """
        self._folder, self._names = folder, file_names(folder)
        self._mapped: OrderedDict[int, pa.ipc.RecordBatchFileReader] = OrderedDict()
        self._lock = Lock()
        self._tasks = pa.array(list(tasks), pa.string())
        found = [self._read_codes(file) for file in range(len(self._names))]
        self._ends = np.cumsum([len(codes) for codes in found], dtype=np.int64)
        self.codes = np.concatenate([np.empty(0, np.uint8), *found])
        self.num_rows = len(self.codes)

    def row(self, number: int) -> dict[str, Any]:
        """One pair, by its place among all."""
        if not 0 <= number < self.num_rows:
            raise IndexError(f"pair {number} of {self.num_rows}")
        file = int(np.searchsorted(self._ends, number, side="right"))
        place = number - (int(self._ends[file - 1]) if file else 0)
        batch = self._open(file).get_batch(place // _BATCH_ROWS)
        row: dict[str, Any] = batch.slice(place % _BATCH_ROWS, 1).to_pylist()[0]
        return row

    def column(self, name: str) -> Iterator[pa.Array]:
        """One column, in pieces."""
        for file in range(len(self._names)):
            for batch in self._batches(file):
                yield batch[name]

    def _read_codes(self, file: int) -> npt.NDArray[np.uint8]:
        found = [np.empty(0, np.uint8)]
        for batch in self._batches(file):
            tasks = batch["task"].indices.to_numpy(zero_copy_only=False).astype(np.uint8)
            found.append(tasks * 2 + batch["is_valid"].to_numpy(zero_copy_only=False))
        return np.concatenate(found)

    def _batches(self, file: int) -> Iterator[pa.RecordBatch]:
        reader = self._open(file)
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)

    def _open(self, file: int) -> pa.ipc.RecordBatchFileReader:
        with self._lock:
            reader = self._mapped.get(file)
            if reader is None:
                reader = self._mapped[file] = self._map(file)
                if len(self._mapped) > _OPEN_FILES:
                    self._mapped.popitem(last=False)  # closed by whoever lets go of it last
            self._mapped.move_to_end(file)
            return reader

    def _map(self, file: int) -> pa.ipc.RecordBatchFileReader:
        path = self._folder / self._names[file]
        try:
            reader = pa.ipc.open_file(pa.memory_map(str(path)))
            is_own = reader.schema.equals(SCHEMA)
            if is_own and reader.num_record_batches:
                is_own = reader.get_batch(0)["task"].dictionary.equals(self._tasks)
        except (OSError, pa.ArrowInvalid) as err:
            raise _damaged(path, " ".join(str(err).split())) from err
        if not is_own:
            raise _damaged(path, "other columns or tasks than this folder's")
        return reader


def _damaged(path: Path, why: str) -> ConfigError:
    return ConfigError(
        f"{path}: is no file of training pairs, or damaged ({why}); delete it and run the command "
        "that makes the pairs again"
    )


def count_all(notes: Sequence[PairCounts], tasks: Sequence[str]) -> PairCounts:
    """The counts of all files together, every task named."""
    found: list[Counter[str]] = [Counter(), Counter(), Counter()]
    for counts in notes:
        for total, mine in zip(
            found, (counts.examples, counts.valid, counts.left_out), strict=True
        ):
            total.update(mine)
    examples, valid = ({task: counter[task] for task in tasks} for counter in found[:2])
    images = sum(counts.images for counts in notes)
    return PairCounts(
        examples=examples, valid=valid, images=images, left_out=dict(sorted(found[2].items()))
    )
