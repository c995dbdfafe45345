"""Child: what real detectors claim of real photos, as tables in two Parquet files."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from engine.merge import identify, merge
from engine.schema import CLAIM, canonical, empty_claims, image_rows
from specialists.yolo import Yolo
from tests.bench.children import answer, read_job
from tests.bench.hand_loop import read_image


def main() -> None:
    job = read_job()
    photos = [read_image(path) for path in sorted(Path(job["photos"]).glob("*.jpg"))]
    claims = []
    for name, weights in job["detectors"].items():
        detector = Yolo(name=name, model=weights, task="detect")  # claims as a config stores them
        detector.load()
        rows = detector.annotate(photos, empty_claims())
        claims.append(identify(rows, source=name, model=Path(weights).name, revision="1"))
    images = image_rows(
        image_key=[photo.image_key for photo in photos],
        uri=[f"{photo.image_key}.jpg" for photo in photos],
        width=[photo.width for photo in photos],
        height=[photo.height for photo in photos],
        format="jpeg",
        status="ok",
    )
    rows = canonical(merge(claims, images["image_key"].to_pylist()), CLAIM)
    folder = Path(job["folder"])
    _write(images, folder / "images.parquet")
    _write(rows, folder / "annotations.parquet")
    answer({"photos": len(photos), "rows": rows.num_rows})


def _write(table: pa.Table, path: Path) -> None:
    pq.write_table(table, path)


if __name__ == "__main__":
    main()
