"""Parquet files of any size, read in batches and written through a local copy."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO

import pyarrow as pa
import pyarrow.parquet as pq

from engine.errors import LabelsError
from engine.formats.lines import LocalCopy, open_file
from engine.formats.shapes import Place

MAGIC = b"PAR1"


@contextmanager
def open_parquet(place: Place) -> Iterator[pq.ParquetFile]:
    """The file, open for reading.

    Raises:
        LabelsError: It cannot be opened or is no Parquet, or breaks while it is read.
    """
    with open_file(place).file as file:
        try:
            yield pq.ParquetFile(file)
        except (pa.ArrowInvalid, pa.ArrowNotImplementedError, OSError, UnicodeDecodeError) as err:
            message = " ".join(str(err).split())[:200]
            raise LabelsError(f"{place}: cannot be read as Parquet: {message}") from err


@contextmanager
def new_parquet(place: Place, schema: pa.Schema, compression: str) -> Iterator[pq.ParquetWriter]:
    """A file under construction; it is at its place when the block ends, whole."""
    with LocalCopy() as copy:
        with parquet_writer(copy.file, schema, compression) as writer:
            yield writer
        copy.send(place)


def parquet_writer(file: IO[bytes], schema: pa.Schema, compression: str) -> pq.ParquetWriter:
    """A writer that keeps names as the schema has them."""
    return pq.ParquetWriter(
        file,
        schema,
        compression=compression,
        use_compliant_nested_type=False,  # which would rename the values of lists
    )


def column_compression(file: pq.ParquetFile) -> str:
    """The codec of the first column of the first row group, as Arrow's writer names it."""
    metadata = file.metadata
    if not metadata.num_row_groups or not metadata.num_columns:
        return "snappy"
    codec = str(metadata.row_group(0).column(0).compression).lower()
    return {"uncompressed": "none", "lzo": "snappy", "lz4_raw": "lz4"}.get(codec, codec)
