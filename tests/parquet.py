"""Files of images with columns of labels, as tests write and read them."""

import pyarrow as pa
import pyarrow.parquet as pq

from engine.config import LimitsConfig
from engine.source.parquet_images import ParquetImages
from engine.source.shapes import ReadError, Sample
from tests.tiny import BMP, GIF, PNG

BYTES = [PNG, BMP, GIF]
IMAGE = pa.struct([("bytes", pa.binary()), ("path", pa.string())])
DEFAULTS = LimitsConfig()


def pictures(count: int) -> list[dict[str, object]]:
    """Values of a column as Hugging Face writes it: bytes and the file's own name."""
    return [{"bytes": BYTES[n % 3] + bytes([n]), "path": f"photo {n}.png"} for n in range(count)]


def table(images, **columns) -> pa.Table:
    return pa.table({"image": pa.array(images, IMAGE), **columns})


def write(path, rows: pa.Table, **options) -> ParquetImages:
    pq.write_table(rows, path, **options)
    return ParquetImages(uri=str(path))


def write_arrow(path, *batches: pa.RecordBatch) -> ParquetImages:
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_stream(file, batches[0].schema) as stream:
        for batch in batches:
            stream.write_batch(batch)
    return ParquetImages(uri=str(path))


def read(source: ParquetImages, limits: LimitsConfig = DEFAULTS) -> list[Sample | ReadError]:
    return list(source.read(source.listing().images, limits))


def contents(answers) -> list[bytes | str]:
    """The bytes of each image, or the cause that there are none."""
    return [
        answer.cause if isinstance(answer, ReadError) else answer.data.to_pybytes()
        for answer in answers
    ]


def texts(sample: Sample) -> list[tuple[str, str]]:
    return [(row["prompt"], row["text"]) for row in sample.rows]
