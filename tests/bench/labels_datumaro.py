"""Run by a Python that has datumaro: its XPath filter over a COCO file, timed as CPU seconds.

Its COCO reader takes results only as instances, so the records get the fields those have; the score
goes where it keeps scores, into `attributes`.
"""

import json
import sys
import time
from pathlib import Path

import datumaro

_LIMIT = 0.25


def main() -> None:
    folder = Path(sys.argv[1])
    listed = json.loads((folder / "instances.json").read_text(encoding="utf-8"))
    records = json.loads((folder / "results.json").read_text(encoding="utf-8"))
    for number, record in enumerate(records, start=1):
        width, height = record["bbox"][2:]
        said = {"id": number, "area": width * height, "iscrowd": 0, "segmentation": []}
        record.update(said, attributes={"score": record["score"]})
    listed["annotations"] = records
    (folder / "datumaro/annotations").mkdir(parents=True)
    (folder / "datumaro/images/x").mkdir(parents=True)
    path = folder / "datumaro/annotations/instances_x.json"
    path.write_text(json.dumps(listed), encoding="utf-8")
    del listed, records

    began = time.process_time()
    found = datumaro.Dataset.import_from(str(folder / "datumaro"), "coco")
    num_rows = sum(len(item.annotations) for item in found)
    read = time.process_time()
    found.filter(f"/item/annotation[score>={_LIMIT}]", filter_annotations=True)
    kept = sum(len(item.annotations) for item in found)
    judged = time.process_time()
    found.export(str(folder / "exported"), "coco", save_media=False)
    written = time.process_time()
    print(
        json.dumps(
            {
                "version": datumaro.__version__,
                "rows": num_rows,
                "kept": kept,
                "read": read - began,
                "filter": judged - read,
                "write": written - judged,
            }
        )
    )


if __name__ == "__main__":
    main()
