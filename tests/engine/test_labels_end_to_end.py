"""Labels of other formats filtered, imported and exported: nothing lost, nothing invented."""

import hashlib
import io
import json
import tarfile

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image
from rich.console import Console

from engine.compose import compose
from engine.config import parse_config
from engine.errors import ConfigError, LabelsError
from engine.exchange import Keys, read_origin
from engine.formats import FORMATS
from engine.job import Observer
from engine.label_commands import filter_job, run_export, run_filter, run_import
from engine.reading import read_failures, read_image, read_tables
from engine.run import annotate
from engine.source.filesystem import open_location

CATEGORIES = [{"id": 3, "name": "cat", "supercategory": "animal"}, {"id": 7, "name": "dog"}]
ALWAYS = ["source.kind=coco", "runner.kind=serial"]


def box(number, image, category, xywh, **more):
    return {"id": number, "image_id": image, "category_id": category, "bbox": xywh, **more}


def instances(**changes):
    images = [
        {"id": n, "file_name": f"{n}.png", "width": 40, "height": 30, "license": 1, "mine": n}
        for n in (1, 2, 5)
    ]
    annotations = [
        box(11, 1, 3, [1.25, 2, 20, 20], area=400.5, iscrowd=0, segmentation=[], note="caf\u00e9"),
        box(12, 1, 7, [1.25, 2, 2, 3], iscrowd=0),
        box(40, 2, 7, [0, 0, 39.99, 30], iscrowd=1),
        box(41, 2, 3, [30, 20, 30, 30], iscrowd=0),
    ]
    return {
        "info": {"year": 2026, "unknown": {"deep": [1, None]}},
        "licenses": [{"id": 1, "name": "CC-BY", "url": "u"}],
        "images": images,
        "annotations": annotations,
        "categories": CATEGORIES,
        "extra section": [1, 2],
        **changes,
    }


def write(tmp_path, content, name="labels.json"):
    path = tmp_path / name
    path.write_text(json.dumps(content), encoding="utf-8")
    return path


def photos(tmp_path, *names, size=(40, 30)):
    (tmp_path / "photos").mkdir(exist_ok=True)
    for shade, name in enumerate(names):
        picture = Image.new("RGB", size, (shade * 40, 10, 200))
        picture.putpixel((3, 3), (255, 255, 0))
        picture.save(tmp_path / "photos" / name)
    return tmp_path / "photos"


def filtered(path, out, *overrides, **options):
    said = {"only": None, "undo_last": False, "dry_run": False, "overwrite": False, **options}
    texts = [f"source.uri={path}", f"output.uri={out}", *ALWAYS, *overrides]
    job = filter_job(texts[0], texts[1:])
    told = io.StringIO()
    failures = run_filter(job, Console(file=told, width=120), **said)
    return failures, told.getvalue()


def imported(path, out, *overrides, overwrite=False):
    places = {"source": {"uri": str(path)}, "output": {"uri": str(out)}}
    job = compose(parse_config(places, [*ALWAYS, *overrides], "test"))
    told = io.StringIO()
    return run_import(job, Console(file=told, width=120), overwrite=overwrite), told.getvalue()


def exported(dataset, out, kind="coco", **options):
    said = {"version": None, "source": None, **options}
    target = {"uri": str(out), "kind": kind}
    run_export(open_location(str(dataset)), target, Console(file=io.StringIO()), **said)


def ledger(out):
    return [
        row
        for _, _, rows in read_tables(open_location(str(out)), "round-0")
        for row in rows.to_pylist()
    ]


AREA = "rules=[{rule: min_area, min_area_px: 20}]"


def test_a_filtered_file_keeps_its_records_word_for_word(tmp_path):
    content = instances()
    path = write(tmp_path, content)
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    failures, told = filtered(path, tmp_path / "clean.json", AREA)
    assert failures == 0
    assert hashlib.sha256(path.read_bytes()).hexdigest() == digest
    clean = json.loads((tmp_path / "clean.json").read_text())
    assert [record["id"] for record in clean["annotations"]] == [11, 40]
    assert clean["annotations"] == [content["annotations"][i] for i in (0, 2)]
    assert {k: v for k, v in clean.items() if k != "annotations"} == {
        k: v for k, v in content.items() if k != "annotations"
    }
    verdicts = {row["source_id"]: row["rule"] for row in ledger(tmp_path / "clean.json.ledger")}
    assert verdicts == {"11": None, "12": "min_area", "40": None, "41": "invalid_box"}
    assert "min_area" in told


def test_rejects_are_drawn_where_there_are_pictures(tmp_path):
    folder = photos(tmp_path, "1.png", "2.png", "5.png")
    path, out = write(tmp_path, instances()), tmp_path / "clean.json"
    _, told = filtered(path, out, AREA, f"source.images={folder}")
    page = tmp_path / "clean.json.ledger" / "_run" / "reports" / "round-0.rejects.png"
    assert page.name in told.replace("\n", "")
    with Image.open(page) as picture:
        colours = picture.convert("RGB").getcolors(1 << 20)
    assert (0, 10, 200) in {colour for _, colour in colours}  # the photo of the row is there


def test_the_same_filter_again_writes_the_same_bytes_and_another_is_refused(tmp_path):
    path, out = write(tmp_path, instances()), tmp_path / "clean.json"
    filtered(path, out, AREA)
    first = out.read_bytes()
    out.unlink()
    filtered(path, out, AREA)
    assert out.read_bytes() == first
    with pytest.raises(ConfigError, match=r"differences: rules.*--overwrite"):
        filtered(path, out, "rules=[]")
    filtered(path, out, "rules=[]", overwrite=True)
    assert len(json.loads(out.read_text())["annotations"]) == 3


def test_a_dry_run_of_labels_writes_nothing(tmp_path):
    path = write(tmp_path, instances())
    _, told = filtered(path, tmp_path / "clean.json", AREA, dry_run=True)
    assert "nothing was written" in told
    assert sorted(p.name for p in tmp_path.iterdir()) == ["labels.json"]


@pytest.mark.parametrize("out", ["labels.json", "labels.json/"])
def test_labels_are_never_written_over_themselves(tmp_path, out):
    path = write(tmp_path, instances())
    with pytest.raises(ConfigError, match="never changed; give another"):
        filtered(path, f"{tmp_path}/{out}")


def test_undo_and_only_are_for_datasets(tmp_path):
    path = write(tmp_path, instances())
    with pytest.raises(ConfigError, match="--undo and --only are for datasets"):
        filtered(path, tmp_path / "clean.json", undo_last=True)
    with pytest.raises(ConfigError, match="--undo and --only are for datasets"):
        filtered(path, tmp_path / "clean.json", only=["min_area"])


def test_what_lies_nowhere_or_is_no_label_file_is_told_in_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"nothing\.json"):
        filtered(tmp_path / "nothing.json", tmp_path / "clean.json", "source.kind=auto")
    (tmp_path / "x.bin").write_bytes(b"\x00\x01\x02")
    with pytest.raises(LabelsError, match=r"no labels that `auto` recognises; set source\.kind"):
        filtered(tmp_path / "x.bin", tmp_path / "clean.json", "source.kind=auto")


def test_labels_of_unknown_images_and_categories_are_told_and_not_written(tmp_path):
    more = [box(50, 99, 3, [0, 0, 9, 9]), box(51, 5, 42, [0, 0, 9, 9])]
    content = instances()
    content["annotations"] += more
    failures, _ = filtered(write(tmp_path, content), tmp_path / "clean.json", "rules=[]")
    assert failures == 2
    out = open_location(str(tmp_path / "clean.json.ledger"))
    told = {failure["cause"]: failure for failure in read_failures(out, "round-0")}
    assert set(told) == {"unknown_image", "unknown_category"}
    assert "42" in told["unknown_category"]["message"]
    clean = json.loads((tmp_path / "clean.json").read_text())
    assert {record["id"] for record in clean["annotations"]} == {11, 12, 40}
    orphan = next(row for row in ledger(out.root) if row["source_id"] == "50")
    assert (orphan["status"], orphan["rule"]) == ("rejected", "orphan")


def test_import_and_export_change_nothing_in_a_file(tmp_path):
    content = instances()
    content["annotations"] = content["annotations"][:3]
    path = write(tmp_path, content)
    assert imported(path, tmp_path / "out")[0] == 0
    exported(tmp_path / "out", tmp_path / "back.json")
    assert json.loads((tmp_path / "back.json").read_text()) == content


def test_an_import_with_pictures_makes_a_whole_dataset(tmp_path):
    folder = photos(tmp_path, "1.png", "2.png", "5.png")
    path = write(tmp_path, instances())
    assert imported(path, tmp_path / "out", f"source.images={folder}", "source.human=true")[0] == 0
    found = read_image(open_location(str(tmp_path / "out")), "round-0", "2.png")
    assert found.data == (folder / "2.png").read_bytes()
    row = found.image.to_pylist()[0]
    assert (row["source_id"], row["licence"], row["sha256"][:4]) == (
        "2",
        "CC-BY",
        hashlib.sha256(found.data).hexdigest()[:4],
    )
    assert json.loads(row["extra"])["mine"] == 2
    said = found.annotations.to_pylist()
    assert {(r["text"], r["human"], r["ignore"], r["score"]) for r in said} == {
        ("dog", True, True, None),
        ("cat", True, False, None),
    }


def test_a_picture_that_is_missing_or_of_another_size_is_told(tmp_path):
    folder = photos(tmp_path, "1.png", "5.png")
    Image.new("RGB", (30, 40)).save(folder / "5.png")
    path = write(tmp_path, instances())
    failures, _ = imported(path, tmp_path / "out", f"source.images={folder}")
    assert failures == 2
    out = open_location(str(tmp_path / "out"))
    told = {f["uri"]: (f["stage"], f["cause"], f["message"]) for f in read_failures(out, "round-0")}
    assert told["2.png"][:2] == ("read", "missing")
    assert told["5.png"][:2] == ("labels", "bad_labels")
    assert "the labels say 40 by 30 px, the picture has 30 by 40" in told["5.png"][2]


def test_a_picture_outside_the_folder_is_not_read(tmp_path):
    folder = photos(tmp_path, "1.png")
    (tmp_path / "secret.png").write_bytes((folder / "1.png").read_bytes())
    content = instances(images=[{"id": 1, "file_name": "../secret.png", "width": 40, "height": 30}])
    content["annotations"] = content["annotations"][:1]
    imported(write(tmp_path, content), tmp_path / "out", f"source.images={folder}")
    out = open_location(str(tmp_path / "out"))
    assert [f["cause"] for f in read_failures(out, "round-0")] == ["unsafe_path"]


def test_a_second_import_passes_over_what_is_there_and_another_is_refused(tmp_path):
    path = write(tmp_path, instances())
    imported(path, tmp_path / "out")
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "round-0").glob("0*")}
    imported(path, tmp_path / "out")
    assert {p: p.stat().st_mtime_ns for p in (tmp_path / "out" / "round-0").glob("0*")} == before
    with pytest.raises(ConfigError, match="was made by another run"):
        imported(path, tmp_path / "out", "source.name=people")


@pytest.mark.parametrize("name", ["diary.txt", "years/2026.txt"])
def test_a_folder_that_holds_something_else_is_left_alone(tmp_path, name):
    path = write(tmp_path, instances())
    (tmp_path / "full" / name).parent.mkdir(parents=True)
    (tmp_path / "full" / name).write_text("dear")
    for overwrite in (False, True):
        with pytest.raises(ConfigError, match=r"holds '.*' and no dataset\.json"):
            imported(path, tmp_path / "full", overwrite=overwrite)
    assert (tmp_path / "full" / name).read_text() == "dear"


def test_what_is_there_already_is_not_written_over(tmp_path):
    path = write(tmp_path, instances())
    (tmp_path / "clean.json").write_text("mine")
    with pytest.raises(ConfigError, match=r"holds 'clean\.json' already.*--overwrite"):
        filtered(path, tmp_path / "clean.json", AREA)
    assert (tmp_path / "clean.json").read_text() == "mine"
    imported(path, tmp_path / "out")
    with pytest.raises(ConfigError, match=r"holds 'clean\.json' already"):
        exported(tmp_path / "out", tmp_path / "clean.json")
    (tmp_path / "made").mkdir()
    (tmp_path / "made" / "diary.txt").write_text("dear")
    with pytest.raises(ConfigError, match=r"holds 'diary\.txt' already"):
        exported(tmp_path / "out", tmp_path / "made", "voc")
    exported(tmp_path / "out", tmp_path / "clean.json", overwrite=True)
    assert len(json.loads((tmp_path / "clean.json").read_text())["annotations"]) == 3


def test_shards_are_cut_as_asked_and_the_plan_names_every_image(tmp_path):
    imported(write(tmp_path, instances()), tmp_path / "out", "source.shard_size=2")
    plan = pq.read_table(tmp_path / "out" / "plan.parquet")
    assert list(zip(plan["shard"].to_pylist(), plan["uri"].to_pylist(), strict=True)) == [
        (0, "1.png"),
        (0, "2.png"),
        (1, "5.png"),
    ]
    assert read_origin(open_location(str(tmp_path / "out")))["coco"].kind == "coco"


def test_a_dataset_of_models_is_exported_with_ids_of_its_own(tmp_path):
    raw = {
        "source": {"uri": "synthetic", "num_images": 6},
        "output": {"uri": str(tmp_path / "out")},
        "specialists": [{"kind": "null", "num_rows": 3}],
        "runner": {"kind": "serial"},
    }
    annotate(compose(parse_config(raw, (), "test")), Observer())
    exported(tmp_path / "out", tmp_path / "made.json")
    made = json.loads((tmp_path / "made.json").read_text())
    assert len(made["images"]) == 6
    assert len({record["id"] for record in made["annotations"]}) == 18
    assert all(0 <= record["score"] <= 1 for record in made["annotations"])
    known = {category["id"] for category in made["categories"]}
    assert {record["category_id"] for record in made["annotations"]} <= known


def test_a_hugging_face_export_takes_the_pictures_along(tmp_path):
    folder = photos(tmp_path, "1.png", "2.png", "5.png")
    path = write(tmp_path, instances())
    imported(path, tmp_path / "out", f"source.images={folder}", "source.shard_size=2")
    exported(tmp_path / "out", tmp_path / "hf", "huggingface")
    table = pq.read_table(tmp_path / "hf" / "data")
    stored = {row["uri"]: row["image"]["bytes"] for row in table.to_pylist()}
    assert stored == {name: (folder / name).read_bytes() for name in ("1.png", "2.png", "5.png")}


@pytest.mark.parametrize("kind", sorted(FORMATS.names()))
def test_every_format_takes_a_dataset_or_says_why_not(tmp_path, kind):
    folder = photos(tmp_path, "1.png", "2.png", "5.png")
    path = write(tmp_path, instances())
    imported(path, tmp_path / "out", f"source.images={folder}")
    if kind == "webdataset":  # it filters its own tars and makes none
        with pytest.raises(LabelsError):
            exported(tmp_path / "out", tmp_path / "made", kind)
        return
    exported(tmp_path / "out", tmp_path / "made", kind)
    assert (tmp_path / "made").exists()


def test_pictures_named_twice_have_keys_of_their_own():
    keys = Keys()
    first, again = keys.of(["a.jpg", "b.jpg", "a.jpg"]), keys.of(["b.jpg", "c.jpg"])
    assert len({*first, *again}) == 5
    same = Keys()
    assert [*same.of(["a.jpg", "b.jpg", "a.jpg"]), *same.of(["b.jpg", "c.jpg"])] == [*first, *again]
    assert Keys().of([]) == []
    plain = Keys().of(["c.jpg"])
    assert plain == [again[1]]


def test_a_row_that_breaks_the_table_costs_its_image_its_rows_and_no_other(tmp_path):
    content = instances()
    content["annotations"][0]["score"] = float("nan")
    path = write(tmp_path, content)
    filtered(path, tmp_path / "clean.json", "rules=[]")
    rows = ledger(tmp_path / "clean.json.ledger")
    assert {"40", "41"} <= {row["source_id"] for row in rows}
    assert pa.array([row["score"] for row in rows], pa.float32()).is_nan().sum().as_py() in (
        0,
        None,
    )


def test_an_import_or_filter_that_names_a_specialist_is_refused(tmp_path):
    path = write(tmp_path, instances())
    with pytest.raises(ConfigError, match="labels that exist are judged without any"):
        imported(path, tmp_path / "out", "specialists=[{kind: composer}]")
    assert not (tmp_path / "out").exists()


def test_a_run_takes_the_options_of_its_output_or_refuses_them(tmp_path):
    raw = {
        "source": {"uri": "synthetic", "num_images": 3},
        "output": {"uri": str(tmp_path / "out"), "views": False},
        "specialists": [{"kind": "null"}],
        "runner": {"kind": "serial"},
    }
    annotate(compose(parse_config(raw, (), "test")), Observer())
    with tarfile.open(tmp_path / "out" / "round-0" / "000000.tar") as tar:
        assert {name.rpartition(".")[2] for name in tar.getnames()} == {"jpg"}
    with pytest.raises(ConfigError, match=r"differences: views: false -> nothing"):
        annotate(compose(parse_config(raw, ["output.views=true"], "test")), Observer())
    with pytest.raises(ConfigError, match=r"output\.kind is 'coco'; a run writes a dataset"):
        annotate(compose(parse_config(raw, ["output.kind=coco"], "test")), Observer())
