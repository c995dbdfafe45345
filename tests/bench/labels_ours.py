"""Child: the engine's filter over a COCO results file, its steps timed as CPU seconds."""

import time
from pathlib import Path

import pyarrow as pa

from engine.exchange import Keys, Origin, identified, kept_part
from engine.formats.places import find_place, made, new_place
from engine.formats.shapes import LabelSet, ReadOptions
from engine.judge import RuleEntry, judge
from engine.schema import ANNOTATIONS
from filters import RULES
from tests.bench.children import answer, read_job

_LIMIT = 0.25


def main() -> None:
    job = read_job()
    pa.set_cpu_count(1)
    folder = Path(job["folder"])
    steps = dict.fromkeys(("read", "filter", "write"), 0.0)
    rule = RuleEntry(RULES.find("min_score")(limits={"*": _LIMIT}))
    options = ReadOptions(annotations=find_place(f"{folder}/instances.json"), part_size=1024)
    coco, keys, kept, num_rows = made("coco"), Keys(), [], 0
    began = time.process_time()
    labels = coco.read(find_place(f"{folder}/results.json"), options)
    for part in labels.parts:
        tables = identified(part, Origin(name="coco"), keys)
        read = time.process_time()
        rows, _ = judge(tables.images, ANNOTATIONS.empty_table(), tables.annotations, [rule])
        kept.append(kept_part(tables.images, rows))
        judged = time.process_time()
        steps["read"] += read - began
        steps["filter"] += judged - read
        num_rows += rows.num_rows
        began = time.process_time()
    coco.write(
        new_place(f"{folder}/kept.json", is_folder=False), LabelSet(labels.header, iter(kept))
    )
    steps["write"] = time.process_time() - began
    answer({"rows": num_rows, "kept": sum(part.rows.num_rows for part in kept), **steps})


if __name__ == "__main__":
    main()
