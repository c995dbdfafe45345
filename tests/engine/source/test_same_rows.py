"""The same photos in every layout give the same images and the same rows, their keys aside.

The layouts are written by the libraries people use for them, not by this project.
"""

import csv
import json
from collections.abc import Mapping
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import webdataset

from engine.config import parse_config
from engine.job import Job, Observer
from engine.run import annotate
from engine.source.plan import make_plan
from engine.source.shard import read_shard
from engine.stages import source_of
from specialists.composer import Composer
from tests import tiny
from tests.conftest import shared_data
from tests.digester import Digester

LABELLED = ("webdataset", "parquet", "datasets-parquet", "saved", "table", "table-parquet")
LAYOUTS = ("images", *LABELLED)
# What differs by nature: names and what is derived from them, and where a text was found.
NAMES = {"image_key", "uri", "annotation_id", "region_id", "text_id", "parents", "duplicate_of"}


class Photos:
    """Photos with a caption each, laid out in every way."""

    def __init__(self, folder: Path, photos: Mapping[str, bytes], captions: list[str]) -> None:
        self._folder = folder
        self._photos = photos
        self._captions = captions
        for name, content in photos.items():
            (folder / "images").mkdir(parents=True, exist_ok=True)
            (folder / "images" / name).write_bytes(content)
        for write in (self._tar, self._parquet, self._datasets, self._tables):
            write()

    def source(self, layout: str) -> dict[str, object]:
        """The part of a config that names a layout."""
        uri, images = self._folder / layout, {"images": str(self._folder / "images")}
        return {
            "images": {"uri": str(uri)},
            "webdataset": {"uri": f"{uri}/{{00..01}}.tar"},
            "parquet": {"uri": f"{uri}/{{0..1}}.parquet"},
            "datasets-parquet": {"uri": f"{uri}.parquet"},
            "saved": {"uri": str(uri), "kind": "parquet"},
            "table": {"uri": f"{uri}.csv", **images},
            "table-parquet": {"uri": f"{uri}.parquet", "kind": "table", **images},
        }[layout]

    def _tar(self) -> None:
        (self._folder / "webdataset").mkdir()
        half = (len(self._photos) + 1) // 2
        samples = [
            {"__key__": Path(name).stem, Path(name).suffix[1:]: content, "txt": caption}
            for (name, content), caption in zip(self._photos.items(), self._captions, strict=True)
        ]
        for number, part in enumerate((samples[:half], samples[half:])):
            path = str(self._folder / "webdataset" / f"{number:02}.tar")
            with webdataset.TarWriter(path, encoder=False) as tar:
                for sample in part:
                    tar.write({**sample, "txt": sample["txt"].encode()})

    def _rows(self) -> dict[str, list[object]]:
        images = [{"bytes": data, "path": name} for name, data in self._photos.items()]
        return {"image": images, "txt": self._captions}

    def _parquet(self) -> None:
        (self._folder / "parquet").mkdir()
        half = (len(self._photos) + 1) // 2
        table = pa.table(self._rows())
        for number, part in enumerate((table.slice(0, half), table.slice(half))):
            path = self._folder / "parquet" / f"{number}.parquet"
            pq.write_table(part, path, row_group_size=2)

    def _datasets(self) -> None:
        datasets = pytest.importorskip("datasets", reason="install the extra dev")
        datasets.disable_progress_bars()
        features = datasets.Features(
            {"image": datasets.Image(), "txt": datasets.Value("string")},
        )
        rows = datasets.Dataset.from_dict(self._rows(), features=features)
        rows.to_parquet(self._folder / "datasets-parquet.parquet")
        rows.save_to_disk(self._folder / "saved", num_shards=2)

    def _tables(self) -> None:
        rows = {"path": list(self._photos), "txt": self._captions}
        pq.write_table(pa.table(rows), self._folder / "table-parquet.parquet")
        with (self._folder / "table.csv").open("w", newline="") as file:
            csv.writer(file).writerows([rows, *zip(*rows.values(), strict=True)])


def coco(folder: Path) -> tuple[dict[str, bytes], list[str]]:
    """Six photos, and the first caption of each."""
    told = json.loads((folder / "annotations" / "captions.json").read_text())
    numbers = {image["id"]: image["file_name"] for image in told["images"]}
    captions: dict[str, str] = {}
    for entry in told["annotations"]:
        captions.setdefault(numbers[entry["image_id"]], entry["caption"])
    names = sorted(path.name for path in (folder / "images").iterdir())[:6]
    photos = {name: (folder / "images" / name).read_bytes() for name in names}
    return photos, [captions[name] for name in names]


@pytest.fixture(scope="module", params=["tiny", "coco"])
def photos(request, tmp_path_factory) -> Photos:
    if request.param == "tiny":  # one of them twice, and one that cannot be decoded
        contents = {"a.png": tiny.PNG, "b.bmp": tiny.BMP, "c.gif": tiny.GIF, "d.jpg": b"no photo\n"}
        contents["e.png"] = tiny.PNG
        captions = ["grey", 'black, "and" white', "caf\u00e9", "two\nlines", "grey again"]
    else:
        if not (shared_data() / "coco80").is_dir():
            pytest.skip("real data not found; set FLD_TEST_DATA to its folder")
        contents, captions = coco(shared_data() / "coco80")
    return Photos(tmp_path_factory.mktemp(request.param), contents, captions)


def rows_of(table: pa.Table, keys: list[str], without: set[str]) -> list[list[dict[str, object]]]:
    """The rows of each image, in the order of `keys`, without some columns."""
    found: dict[str, list[dict[str, object]]] = {key: [] for key in keys}
    for row in table.to_pylist():
        left = {name: value for name, value in row.items() if name not in without}
        found[row["image_key"]].append(left)
    return list(found.values())


def config(photos: Photos, layout: str, out: Path):
    raw = {
        "source": {"shard_size": 4, **photos.source(layout)},
        "output": {"uri": str(out)},
        "runner": {"kind": "serial", "batch_size": 2},
    }
    return parse_config(raw, [], layout)


def test_every_layout_gives_the_same_images_and_texts(photos, tmp_path):
    images, given = {}, {}
    for layout in LAYOUTS:
        source = source_of(config(photos, layout, tmp_path))
        plan = make_plan(source.listing(), 99)
        shard = read_shard(source, plan.rows, plan.modified)
        keys = shard.images["image_key"].to_pylist()
        images[layout] = rows_of(shard.images, keys, NAMES)
        originals = shard.images["duplicate_of"].to_pylist()
        images[layout].append([key and keys.index(key) for key in originals])
        given[layout] = [(keys.index(g.image_key), g.source, list(g.rows)) for g in shard.given]
    assert images["images"][0][0]["width"] > 0
    assert given.pop("images") == []
    assert len(given["webdataset"]) == len(images["webdataset"]) - 1
    for layout in LAYOUTS:
        assert images[layout] == images["images"], layout
    for layout in LABELLED:
        assert given[layout] == given["webdataset"], layout


def run(photos: Photos, layout: str, out: Path) -> tuple[object, ...]:
    """Images and annotations of a run with two specialists, by the image's place, keys aside."""
    job = Job(config(photos, layout, out), [Digester(), Composer()], [])
    annotate(job, Observer())
    images = pa.concat_tables(_read(out, "images"))
    annotations = pa.concat_tables(_read(out, "annotations"))
    keys = images["image_key"].to_pylist()
    own = rows_of(annotations, keys, NAMES)
    return rows_of(images, keys, NAMES), own


def _read(out: Path, name: str) -> list[pa.Table]:
    paths = sorted((out / "round-0").glob(f"*.{name}.parquet"))
    assert paths
    return [pq.read_table(path) for path in paths]


# Two processes for each layout: only for the photos that have a copy, a failure and odd captions.
@pytest.mark.slow
@pytest.mark.parametrize("photos", ["tiny"], indirect=True)
def test_runs_over_every_layout_give_the_same_rows(photos, tmp_path):
    found = {layout: run(photos, layout, tmp_path / layout) for layout in LAYOUTS}
    for layout in LABELLED:
        assert found[layout] == found["webdataset"], layout
    images, rows = found["images"]
    assert images == found["webdataset"][0]
    others = [[row for row in own if row["source"] != "dataset"] for own in found["webdataset"][1]]
    assert rows == others
    assert {row["source"] for own in found["table"][1] for row in own} == {
        "dataset",
        "digester",
        "composer",
    }
