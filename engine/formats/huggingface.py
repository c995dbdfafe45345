"""A Hugging Face dataset: Parquet files in which a row is an image with all that is said of it."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import ClassVar

import pyarrow as pa

from engine.errors import LabelsError, TableError
from engine.formats.huggingface_rows import COLUMNS, SCHEMA, nest, unnest
from engine.formats.lines import LocalCopy
from engine.formats.parquet_files import open_parquet, parquet_writer
from engine.formats.parts import Losses
from engine.formats.shapes import Header, LabelSet, Part, Place, ReadOptions
from engine.source.shapes import Location, ReadError

_FOLDER = "data"
_IMAGES_PER_FILE = 10_000
_BYTES_PER_FILE = 500_000_000  # what the hub asks of a file: it shows and streams those well


@dataclass(frozen=True, kw_only=True)
class HuggingFace:
    """`data/train-00000.parquet` and so on, which `datasets.load_dataset` reads as they are.

    Columns: `image` (null where the pictures are not given), those of the images table, and the
    lists `texts`, `regions` and `grounding` with the columns of claims that apply to each. Read
    back, they are the same rows, texts first.

    Attributes:
        images: Where the pictures are; they are copied into the files.
    """

    images: Location | None = None

    name: ClassVar[str] = "huggingface"
    is_folder: ClassVar[bool] = True

    def recognises(self, place: Place, head: bytes) -> bool:
        """A folder of Parquet with those lists; see `engine.formats.shapes.Format`."""
        files = [] if place.path else _files(place)
        if not files:
            return False
        try:
            with open_parquet(Place(place.location, files[0])) as file:
                return set(COLUMNS) <= set(file.schema_arrow.names)
        except LabelsError:
            return False

    def read(self, place: Place, options: ReadOptions) -> LabelSet:
        """The labels; see `engine.formats.shapes.Format`."""
        files = _files(place)
        if not files:
            raise LabelsError(f"{place}: holds no {_FOLDER}/*.parquet; give a folder written so")
        for name in files:
            with open_parquet(Place(place.location, name)) as file:
                missing = [column for column in COLUMNS if column not in file.schema_arrow.names]
            if missing:
                raise LabelsError(
                    f"{place}/{name}: no column {missing[0]!r}; only datasets with the columns "
                    f"{', '.join(COLUMNS)} are read as labels; others are images: "
                    "source.kind=parquet"
                )
        return LabelSet(Header(self.name), _read(place.location, files, options.part_size))

    def write(self, place: Place, labels: LabelSet) -> list[str]:
        """One file after the other; see `engine.formats.shapes.Format`."""
        is_own = labels.header.kind == self.name
        losses = Losses()
        parts = iter(labels.parts)
        part, number = next(parts, None), 0
        while part is not None or number == 0:
            path = f"{_FOLDER}/train-{number:05d}.parquet"
            with LocalCopy() as copy:
                with parquet_writer(copy.file, SCHEMA, "zstd") as writer:
                    num_images = 0
                    while part is not None and not _is_full(num_images, copy.file.tell()):
                        pictures = self._pictures(part.images["uri"].to_pylist(), losses)
                        writer.write_table(nest(part, pictures, is_own=is_own))
                        num_images += part.images.num_rows
                        part = next(parts, None)
                copy.send(Place(place.location, path))
            number += 1
        return losses.sentences()

    def _pictures(self, uris: Sequence[str], losses: Losses) -> list[bytes | None]:
        if self.images is None:
            return [None] * len(uris)
        found: list[bytes | None] = []
        for uri in uris:
            try:
                found.append(self.images.read(uri).data.to_pybytes())
            except ReadError as err:
                found.append(None)
                losses.note(f"pictures that could not be read ({err.cause})")
        return found


def _is_full(num_images: int, num_bytes: int) -> bool:
    return num_images >= _IMAGES_PER_FILE or num_bytes >= _BYTES_PER_FILE


def _files(place: Place) -> list[str]:
    names = place.location.names(_FOLDER)
    return [f"{_FOLDER}/{name}" for name in names if name.endswith(".parquet")]


def _read(location: Location, files: Sequence[str], part_size: int) -> Iterator[Part]:
    for name in files:
        columns = [field for field in SCHEMA.names if field != "image"]
        with open_parquet(Place(location, name)) as file:
            known = [column for column in columns if column in file.schema_arrow.names]
            for batch in file.iter_batches(batch_size=part_size, columns=known):
                yield _part(batch, Place(location, name))


def _part(batch: pa.RecordBatch, place: Place) -> Part:
    try:
        return unnest(batch)
    except (pa.ArrowException, TableError, KeyError, TypeError, AttributeError) as err:
        found = " ".join(str(err).split())[:200]
        raise LabelsError(
            f"{place}: columns of another shape than those we write ({found}); read it as images: "
            "source.kind=parquet"
        ) from err
