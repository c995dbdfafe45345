"""Finished shards with real pictures, and label versions beside the first, made by hand."""

import io
import json
import shutil
import tarfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
from PIL import Image

from tests.shards import VERSION, Expected, verdicts, write_shard

LANDSCAPE = (8, 6)  # as the camera stored it; upright it is 6 x 8
FILTERED = "round-0.filter-1"


def jpeg(colour, orientation=None):
    exif = Image.Exif()
    if orientation:
        exif[0x0112] = orientation
    picture, out = Image.new("RGB", LANDSCAPE, colour), io.BytesIO()
    picture.paste((255, 255, 255), (0, 0, 4, 6))  # the left half is white
    picture.save(out, "JPEG", quality=95, exif=exif)
    return out.getvalue()


PIXELS = {
    "a": jpeg((255, 0, 0)),
    "b": jpeg((0, 0, 255), orientation=6),
    "c": jpeg((0, 255, 0)),
    "d": jpeg((9, 9, 9)),
}


def put(place, shard, images_table, rows, data):
    annotations = verdicts(rows, images_table)
    sources = annotations["source"].to_pylist()
    counts = {name: sources.count(name) for name in set(sources)}
    expected = Expected(images_table.num_rows, counts)
    write_shard(place, shard, images_table, annotations, data, expected, rules={})


def filter_version(place, *, pixels=False):
    """A version beside the first: everything rejected, its tars with labels alone."""
    root = Path(place.output.root)
    shutil.copytree(root / VERSION, root / FILTERED)
    for table in (root / FILTERED).glob("*.annotations.parquet"):
        rows = pq.read_table(table)
        at = rows.schema.get_field_index("status")
        status = pa.array(["rejected"] * rows.num_rows, pa.string()).dictionary_encode()
        pq.write_table(rows.set_column(at, "status", status), table)
    if not pixels:
        for path in (root / FILTERED).glob("*.tar"):
            with tarfile.open(path, "w") as tar:
                for key in ("a", "b", "c", "d"):
                    tar.addfile(tarfile.TarInfo(f"{key}.json"), io.BytesIO())
    content = json.loads((root / "dataset.json").read_text())
    content["versions"][FILTERED] = {"parent": VERSION, "made_by": "filter"}
    content["current"] = FILTERED
    (root / "dataset.json").write_text(json.dumps(content))
