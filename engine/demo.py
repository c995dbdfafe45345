"""`fld demo`: the whole job on a machine that has nothing yet, on known scenes and on photos."""

import contextlib
import importlib.util
import shutil
from collections.abc import Iterator
from importlib.resources import files
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml
from rich.console import Console
from rich.progress import track
from rich.table import Table

from engine.compose import compose
from engine.config import parse_config
from engine.demo_round import run_demo_round
from engine.errors import SpecialistError
from engine.evaluate import Score, score_regions
from engine.job import VERSION, Job
from engine.pictures import draw_one, draw_sheet
from engine.progress import LogObserver, TerminalObserver
from engine.reading import read_tables
from engine.run import annotate, prepare
from engine.source.filesystem import open_location
from engine.source.names import image_keys
from engine.synthetic import scene

NUM_SCENES = 96
SEED = 2_026  # unseen: the shipped detector was trained on another
COCO_DETECTOR = "yolo11n.pt"
EXPLAINED = "scene-0011.jpg"  # drawn with its rejected rows too

# Photos that installed packages ship; those that are not installed are left out.
_PHOTOS = {
    "ultralytics": ("assets/bus.jpg", "assets/zidane.jpg"),
    "sklearn": ("datasets/images/china.jpg", "datasets/images/flower.jpg"),
    "skimage": ("data/astronaut.png", "data/coffee.png", "data/chelsea.png", "data/rocket.jpg"),
    "matplotlib": ("mpl-data/sample_data/grace_hopper.jpg",),
}


def run_demo(folder: Path, console: Console, *, detector: str | None = None) -> None:
    """Fills a bucket, annotates it with real models, scores the scenes, draws contact sheets.

    Args:
        folder: Everything is written below it.
        console: Where to tell about it.
        detector: A COCO detector ultralytics can load; by default one that it downloads.
    """
    bucket = folder / "bucket"
    truth = write_scenes(bucket / "scenes", console)
    photos = copy_photos(bucket / "photos")
    console.print(f"{bucket}: {NUM_SCENES} synthetic scenes and {photos} photos")
    scenes = _annotate(folder, "scenes", console, [])
    console.print(quality_table(scenes, truth))
    drawn = [folder / "scenes.png", folder / "explained.png"]
    place = open_location(str(scenes))
    draw_sheet(place, VERSION, drawn[0], num_images=12, rejected=False)
    draw_one(place, VERSION, EXPLAINED, drawn[1])
    if photos:
        overrides = _detector_overrides(console, detector)
        # a detector named now may not be the one of the demo before: those rows are made anew
        again = detector is not None
        result = _annotate(folder, "photos", console, overrides, again=again)
        drawn.append(folder / "photos.png")
        draw_sheet(open_location(str(result)), VERSION, drawn[-1], num_images=12, rejected=False)
    console.rule("refinement")
    observer = _observer(console)
    with contextlib.closing(observer):
        drawn.append(run_demo_round(folder, observer, console))
    _tell_next(folder, drawn, console)


def write_scenes(folder: Path, console: Console) -> pa.Table:
    """Writes the scenes as JPEG files, unless they are there; returns their truth."""
    folder.mkdir(parents=True, exist_ok=True)
    names = [f"scene-{i:04d}.jpg" for i in range(NUM_SCENES)]
    tables = []
    pairs = list(zip(names, image_keys(names), strict=True))
    for i, (name, key) in enumerate(track(pairs, "drawing scenes", console=console)):
        one = scene(SEED, i)
        (folder / name).write_bytes(one.jpeg())
        tables.append(one.rows(key))
    truth = pa.concat_tables(tables).unify_dictionaries()
    pq.write_table(truth, folder.parent / "scenes-truth.parquet")
    return truth


def copy_photos(folder: Path) -> int:
    """Copies the photos of installed packages; returns how many there are."""
    folder.mkdir(parents=True, exist_ok=True)
    for photo in _installed_photos():
        shutil.copyfile(photo, folder / photo.name)
    return sum(1 for _ in folder.iterdir())


def _installed_photos() -> Iterator[Path]:
    for package, names in _PHOTOS.items():
        spec = importlib.util.find_spec(package)
        if spec is None or spec.origin is None:
            continue
        for name in names:
            path = Path(spec.origin).parent / name
            if path.is_file():
                yield path


def quality_table(dataset: Path, truth: pa.Table) -> Table:
    """Precision, recall and F1 of the kept rows against the truth of the scenes."""
    kept = pa.concat_tables(
        [rows for _, _, rows in read_tables(open_location(str(dataset)), VERSION)]
    )
    kept = kept.filter(pc.equal(kept["status"].cast(pa.string()), "kept"))
    table = Table(title="quality on the scenes, against their exact truth", title_justify="left")
    for heading in ("what", "precision", "recall", "F1", "claimed", "true"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for what, role, same_text in (
        ("objects: class and box (IoU 0.5)", "category", True),
        ("words: box (IoU 0.5)", "ocr", False),
        ("words: box and transcript", "ocr", True),
    ):
        score = score_regions(_of_role(kept, role), _of_role(truth, role), same_text=same_text)
        table.add_row(what, *_percent(score), f"{score.num_claimed:,}", f"{score.num_true:,}")
    return table


def _percent(score: Score) -> list[str]:
    values = (score.precision, score.recall, score.f1)
    return ["-" if value is None else f"{value:.3f}" for value in values]


def _of_role(rows: pa.Table, role: str) -> pa.Table:
    return rows.filter(pc.equal(rows["role"].cast(pa.string()), role))


def _annotate(
    folder: Path, part: str, console: Console, overrides: list[str], *, again: bool = False
) -> Path:
    job = _job(folder, part, overrides)
    console.rule(part)
    observer = _observer(console)
    with contextlib.closing(observer):
        annotate(job, observer, overwrite=again)
    return folder / part


def _observer(console: Console) -> TerminalObserver | LogObserver:
    return TerminalObserver(console) if console.is_terminal else LogObserver()


def _job(folder: Path, part: str, overrides: list[str]) -> Job:
    raw = yaml.safe_load((files("configs") / "demo.yaml").read_text(encoding="utf-8"))
    places = [f"source.uri={folder / 'bucket' / part}", f"output.uri={folder / part}"]
    return compose(parse_config(raw, [*places, *overrides], "demo.yaml"))


def _detector_overrides(console: Console, detector: str | None) -> list[str]:
    """The COCO detector in place of ours, which knows no photos; none where none is to be had."""
    model = detector or COCO_DETECTOR
    wanted = [f"specialists.0={{kind: yolo, model: {model}}}"]
    try:
        prepare(_job(Path("demo"), "photos", wanted))
    except SpecialistError as err:
        if detector is not None:
            raise
        console.print(
            f"no COCO detector for the photos: {err}\nthey get OCR and captions only; "
            "`fld demo DIR --detector MODEL` names one on this machine"
        )
        return ["specialists=[{kind: easyocr, languages: [en]}, {kind: composer}]"]
    return wanted


def _tell_next(folder: Path, drawn: list[Path], console: Console) -> None:
    console.rule("look at")
    for path in drawn:
        console.print(f"  {path}")
    console.print(
        f"  {folder / 'scenes' / VERSION}  the dataset: tars, annotations, images, markers"
    )
    console.rule("try next")
    console.print(f"  fld inspect {folder / 'scenes'} {EXPLAINED} --draw one.png", markup=False)
    console.print(f"  fld status {folder / 'scenes'}")
    console.print(f"  fld rounds {folder / 'refined'}")
    console.print("  fld init annotate.yaml && fld annotate annotate.yaml source.uri=YOUR_PHOTOS")
