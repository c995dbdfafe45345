"""The main job from and to a real S3 server gives the data files a local run gives.

Single reads and writes on buckets are tested in tests/engine/source.
"""

import hashlib
import subprocess
import sys
from pathlib import Path

import pytest
from pyarrow import fs

pytestmark = [pytest.mark.s3, pytest.mark.slow]

_MODEL = "weights/yolo11n_int8_openvino_model"


def _fld(*arguments: str, code: int = 0) -> str:
    command = [sys.executable, "-m", "engine.cli", *arguments]
    run = subprocess.run(command, capture_output=True, text=True, timeout=400, check=False)
    assert run.returncode == code, run.stdout + run.stderr
    return run.stdout + run.stderr


def _is_data(name: str) -> bool:
    return not name.startswith("_run/") and (
        name.endswith((".tar", ".parquet")) or "_done/" in name
    )


def _local_digests(folder: Path) -> dict[str, str]:
    files = [p for p in folder.rglob("*") if p.is_file()]
    names = {p.relative_to(folder).as_posix(): p for p in files}
    return {n: hashlib.sha256(p.read_bytes()).hexdigest() for n, p in names.items() if _is_data(n)}


def _bucket_digests(store: fs.S3FileSystem, root: str) -> dict[str, str]:
    found = {}
    for info in store.get_file_info(fs.FileSelector(root, recursive=True)):
        name = info.path.removeprefix(f"{root}/")
        if info.type == fs.FileType.File and _is_data(name):
            with store.open_input_stream(info.path) as stream:
                found[name] = hashlib.sha256(stream.read()).hexdigest()
    return found


@pytest.mark.ray
@pytest.mark.weights
def test_a_run_from_and_to_a_bucket_writes_the_files_of_a_local_run(s3, data, tmp_path):
    photos = tmp_path / "photos"
    photos.mkdir()
    for photo in sorted((data / "coco80" / "images").iterdir())[:12]:
        (photos / photo.name).write_bytes(photo.read_bytes())
    s3.fill("main-job-photos", photos)
    s3.filesystem().create_dir("datasets")
    common = [
        "source.shard_size=4",
        f"specialists=[{{kind: yolo, model: {data}/{_MODEL}}}, {{kind: composer}}]",
        "rules=[{rule: min_score}]",
    ]
    here = [f"source.uri={photos}", f"output.uri={tmp_path}/out", "runner.kind=serial"]
    _fld("annotate", *common, *here)
    places = []
    for section, uri in (("source", "s3://main-job-photos"), ("output", "s3://datasets/fld")):
        options = (("uri", uri), ("endpoint", s3.endpoint), ("region", "us-east-1"))
        places += [f"{section}.{key}={value}" for key, value in options]
    _fld("annotate", *common, *places)
    local = _local_digests(tmp_path / "out")
    assert len(local) == 3 * 4 + 1  # three shards of three files and a marker, and the plan
    assert _bucket_digests(s3.filesystem(), "datasets/fld") == local
    bucket = ["s3://datasets/fld", "--endpoint", s3.endpoint, "--region", "us-east-1"]
    assert "12 ok" in _fld("status", *bucket)
    picture = tmp_path / "sheet.png"
    _fld("inspect", *bucket[:1], "--draw", str(picture), "--images", "2", *bucket[1:])
    assert picture.read_bytes().startswith(b"\x89PNG")
    strict = 'rules=[{rule: min_score, limits: {"*": 0.6}}]'
    _fld("filter", f"source.uri={tmp_path}/out", strict, "runner.kind=serial")
    sources = [place.replace("output.", "source.") for place in places if "output." in place]
    _fld("filter", *sources, strict, "runner.kind=serial")
    filtered = _local_digests(tmp_path / "out")
    assert len(filtered) == 2 * 3 * 4 + 1
    assert _bucket_digests(s3.filesystem(), "datasets/fld") == filtered
    assert "round-0.filter-1 *" in _fld("versions", *bucket)
    _fld("report", *bucket)
    page = s3.filesystem().open_input_stream("datasets/fld/_run/reports/round-0.filter-1.html")
    assert b"min_score" in page.read()


def test_labels_in_a_bucket_are_filtered_imported_and_exported(s3, data, tmp_path):
    labels = tmp_path / "labels"
    labels.mkdir()
    source = data / "coco80" / "annotations" / "instances.json"
    (labels / "instances.json").write_bytes(source.read_bytes())
    s3.fill("labels", labels)
    s3.filesystem().create_dir("cleaned")

    def at(section: str, uri: str) -> list[str]:
        options = (("uri", uri), ("endpoint", s3.endpoint), ("region", "us-east-1"))
        return [f"{section}.{key}={value}" for key, value in options]

    rules = ["rules=[{rule: min_area, min_area_px: 2000}]", "runner.kind=serial"]
    uri = "s3://labels/instances.json"
    _fld("filter", *at("source", uri), *at("output", "s3://cleaned/kept.json"), *rules)
    _fld("filter", f"source.uri={source}", f"output.uri={tmp_path}/kept.json", *rules)
    with s3.filesystem().open_input_stream("cleaned/kept.json") as stream:
        assert stream.read() == (tmp_path / "kept.json").read_bytes()
    reach = ["--endpoint", s3.endpoint, "--region", "us-east-1"]
    ledger = "s3://cleaned/kept.json.ledger"
    _fld("export", ledger, f"{tmp_path}/again.json", "kind=coco", *reach)
    assert (tmp_path / "again.json").read_bytes() == (tmp_path / "kept.json").read_bytes()


def test_a_bucket_run_resumes_and_is_refused_to_a_second_driver(s3, tmp_path):
    s3.filesystem().create_dir("resumed")
    options = (("uri", "s3://resumed/fld"), ("endpoint", s3.endpoint), ("region", "us-east-1"))
    common = [
        "source={uri: synthetic, num_images: 12, shard_size: 4}",
        "specialists=[{kind: null}]",
        "runner.kind=serial",
        *(f"output.{key}={value}" for key, value in options),
    ]
    _fld("annotate", *common)
    store = s3.filesystem()
    before = _bucket_digests(store, "resumed/fld")
    store.delete_file("resumed/fld/round-0/_done/000001.json")  # as if it was cut off before it
    store.delete_file("resumed/fld/round-0/000002.tar")
    store.delete_file("resumed/fld/round-0/_done/000002.json")
    _fld("annotate", *common)
    assert _bucket_digests(store, "resumed/fld") == before
    refused = _fld("annotate", *common, "seed=1", code=2)
    assert "seed: 0 -> 1" in refused
