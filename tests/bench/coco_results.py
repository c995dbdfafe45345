"""Child: real detections of two detectors as COCO results, repeated until there are enough.

Each repetition is of images of its own, so that nothing is a duplicate that was none before.
"""

import json
from pathlib import Path
from typing import Any

from engine.compose import compose
from engine.config import parse_config
from engine.job import VERSION, Observer
from engine.reading import read_tables
from engine.run import annotate
from engine.source.filesystem import open_location
from tests.bench.children import answer, read_job

_APART = 1_000_000  # between the image ids of two repetitions; COCO's have six digits


def main() -> None:
    job = read_job()
    data, folder = Path(job["data"]), Path(job["folder"])
    found = _detect(data, folder)
    coco = json.loads((data / "coco80/annotations/instances.json").read_text(encoding="utf-8"))
    copies = -(-job["rows"] // len(found))
    images, records = _repeated(coco, found, copies)
    listed = {"images": images, "annotations": [], "categories": coco["categories"]}
    (folder / "instances.json").write_text(json.dumps(listed), encoding="utf-8")
    (folder / "results.json").write_text(json.dumps(records), encoding="utf-8")
    answer({"rows": len(records), "images": len(images), "detected": len(found), "copies": copies})


def _detect(data: Path, folder: Path) -> list[dict[str, Any]]:
    weights = data / "weights"
    eager = {"kind": "yolo", "min_score": 0.01, "iou": 0.95}  # as many doubtful boxes as they have
    raw = {
        "source": {"uri": str(data / "coco80/images")},
        "output": {"uri": str(folder / "detections")},
        "specialists": [
            {**eager, "name": "a", "model": str(weights / "yolo11n_int8_openvino_model")},
            {**eager, "name": "b", "model": str(weights / "yolov8n_int8_640.onnx")},
        ],
        "runner": {"kind": "serial"},
    }
    annotate(compose(parse_config(raw, (), "bench")), Observer())
    rows: list[dict[str, Any]] = []
    for _, images, table in read_tables(open_location(str(folder / "detections")), VERSION):
        uris = dict(zip(images["image_key"].to_pylist(), images["uri"].to_pylist(), strict=True))
        said = table.select(["image_key", "text", "box", "score"]).to_pylist()
        rows.extend({**row, "file_name": uris[row["image_key"]]} for row in said)
    return rows


def _repeated(
    coco: dict[str, Any], found: list[dict[str, Any]], copies: int
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    categories = {entry["name"]: entry["id"] for entry in coco["categories"]}
    ids = {image["file_name"]: image["id"] for image in coco["images"]}
    images, records = [], []
    for copy in range(copies):
        for image in coco["images"]:
            name = f"{copy:04d}/{image['file_name']}"
            size = {side: image[side] for side in ("width", "height")}
            images.append({"id": image["id"] + copy * _APART, "file_name": name, **size})
        for row in found:
            x0, y0, x1, y1 = row["box"]
            records.append(
                {
                    "image_id": ids[row["file_name"]] + copy * _APART,
                    "category_id": categories[row["text"]],
                    "bbox": [round(v, 2) for v in (x0, y0, x1 - x0, y1 - y0)],
                    "score": round(row["score"], 5),
                }
            )
    return images, records


if __name__ == "__main__":
    main()
