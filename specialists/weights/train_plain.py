"""Train the small Florence-2 of the plain world, store it, and measure it on scenes it never saw.

    python specialists/weights/train_plain.py FOLDER

Everything is done by the commands of `fld`, in FOLDER; the same call goes on where one was stopped.
The model card says how long it takes.
"""

import argparse
import json
import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import yaml

from engine.evaluate import score_regions
from engine.job import VERSION

# Worlds, two to learn and one to measure: they share no scene.
SEEDS = {"boxes": 2001, "tasks": 2003, "test": 2002}
COUNTS = {"boxes": 24_000, "tasks": 6_000, "test": 500}
# What rows the plain world with words can give.
GIVES = (
    *("text/brief", "text/detailed", "text/more_detailed", "grounding/phrase"),
    *("region/category", "region/brief", "region/ocr"),
)
MIXTURE = {
    "od": 3,
    "caption_to_phrase_grounding": 1.5,
    "more_detailed_caption": 1.5,
    "caption": 1,
    "detailed_caption": 1,
    "dense_region_caption": 1,
    "region_to_category": 1,
    "region_to_description": 1,
    "ocr_with_region": 1,
    "region_proposal": 0.5,
    "ocr": 0.5,
    "region_to_ocr": 0.5,
}
# First boxes alone: beside other tasks they take several times as long to be found at all. Then
# all tasks, which boxes make easy, but for colours and words, of which most of a third stage is.
# The last one is for captions, whose colours come after everything else.
STAGES: dict[str, dict[str, Any]] = {
    "boxes": {
        "scenes": "boxes",
        "model": "start",
        "tasks": {"od": 1},
        "train": {"steps": 2500, "warmup": 0.1, "final_fraction": 0.5, "validate_every": 250},
    },
    "tasks": {
        "scenes": "tasks",
        "model": "boxes/model",
        "tasks": MIXTURE,
        "train": {"steps": 2000, "warmup": 0.03},
    },
    "names": {
        "scenes": "boxes",
        "model": "tasks/model",
        "tasks": {
            **dict.fromkeys(MIXTURE, 0.1),
            **{"od": 2, "region_to_description": 6, "region_to_ocr": 4},
        },
        "train": {"steps": 2000, "warmup": 0.03, "learning_rate": 7e-4, "final_fraction": 0.5},
    },
    "all": {
        "scenes": "boxes",
        "model": "names/model",
        "tasks": MIXTURE,
        "train": {"steps": 3000, "warmup": 0.03},
    },
    "captions": {
        "scenes": "boxes",
        "model": "all/model",
        "tasks": {
            **dict.fromkeys(MIXTURE, 0.5),
            **dict.fromkeys(("od", "caption_to_phrase_grounding", "ocr_with_region"), 1),
            **{"caption": 2, "detailed_caption": 2, "more_detailed_caption": 2},
            **{"dense_region_caption": 2, "region_to_description": 1.5},
        },
        "train": {"steps": 4000, "batch_size": 32, "learning_rate": 7e-4, "warmup": 0.03},
    },
}
TRAIN: dict[str, Any] = {
    "batch_size": 16,
    "learning_rate": 6e-4,
    "betas": [0.9, 0.99],
    "dtype": "bfloat16",
    "save_every": 250,
    "validate_every": 500,
    "validation_examples": 256,
}
# What is measured: the role of the rows a task gives, and of the true ones they are held against.
FINDS = {
    "od": ("category", "category"),
    "dense_region_caption": ("brief", "brief"),
    "region_proposal": ("proposal", "category"),
    "ocr_with_region": ("ocr", "ocr"),
}
CAPTIONS = {
    "caption": "brief",
    "detailed_caption": "detailed",
    "more_detailed_caption": "more_detailed",
}
ANSWERS = {
    "region_to_category": "category",
    "region_to_description": "brief",
    "region_to_ocr": "ocr",
}
SEES = (*CAPTIONS, *FINDS)
ASKED = ("caption_to_phrase_grounding", *ANSWERS)
STORED = (
    *("config.json", "generation_config.json", "processor_config.json"),
    *("tokenizer.json", "tokenizer_config.json"),
)

log = logging.getLogger("train_plain")


def fld(folder: Path, *arguments: str) -> None:
    """Runs a command of the engine there.

    Raises:
        CalledProcessError: It failed; it has said why.
    """
    subprocess.run([sys.executable, "-m", "engine.cli", *arguments], cwd=folder, check=True)


def write_config(folder: Path, name: str, content: dict[str, Any]) -> str:
    """Writes a config; returns the name of its file."""
    file = f"{name}.yaml"
    (folder / file).write_text(yaml.safe_dump(content, sort_keys=False), encoding="utf-8")
    return file


def annotate(
    folder: Path,
    name: str,
    split: str,
    *,
    with_truth: bool,
    specialist: dict[str, Any] | None = None,
) -> None:
    """Makes the dataset `name` of the scenes of a split, with their true labels or without."""
    truth = {"noise": 0, "gives": list(GIVES)} if with_truth else {}
    scenes = {"uri": "synthetic", "world": "plain_words", "num_images": COUNTS[split]}
    config = {
        "source": {**scenes, **truth, "shard_size": min(1000, COUNTS[split])},
        "seed": SEEDS[split],
        "output": {"uri": name},
        "specialists": [] if specialist is None else [specialist],
        "rules": [],
        "runner": {"kind": "serial", "batch_size": 50},
    }
    # answers of an earlier model are of no use
    anew = [] if specialist is None else ["--overwrite"]
    fld(folder, "annotate", write_config(folder, name, config), *anew)


def train(folder: Path) -> Path:
    """Data, an untrained checkpoint, and the stages; returns the folder of the last model."""
    for scenes in dict.fromkeys(stage["scenes"] for stage in STAGES.values()):
        annotate(folder, f"{scenes}-scenes", scenes, with_truth=True)
    if not (folder / "start").exists():
        fld(folder, "model", "init", "start", "--dataset", "boxes-scenes")
    for name, stage in STAGES.items():
        config = {
            "source": {"uri": f"{stage['scenes']}-scenes"},
            "output": {"uri": "unused"},
            "model": stage["model"],
            "runner": {"kind": "serial"},
            "refine": {"pairs": {"tasks": stage["tasks"]}, "train": {**TRAIN, **stage["train"]}},
        }
        fld(folder, "train", write_config(folder, name, config), name)
    return folder / name / "model"


def store(model: Path, target: Path) -> None:
    """Copies a checkpoint with its weights as float16: half the bytes."""
    import torch
    from safetensors.torch import load_file, save_file

    weights = load_file(model / "model.safetensors")
    halved = {name: tensor.to(torch.float16) for name, tensor in weights.items()}
    target.mkdir(parents=True, exist_ok=True)
    save_file(halved, target / "model.safetensors", metadata={"format": "pt"})
    for name in STORED:
        text = (model / name).read_text(encoding="utf-8")
        (target / name).write_text(text.rstrip() + "\n", encoding="utf-8")


def measure(folder: Path, model: Path) -> dict[str, Any]:
    """Annotates the test scenes with a model and compares its rows with the truth.

    Returns:
        Of tasks that find regions: precision, recall and F1 (IoU 0.5, one to one, the same text,
        but of proposals); of those that are asked about true regions: the share answered word for
        word; of captions the same share and CIDEr-D; of phrases recall@1.
    """
    florence2 = {"kind": "florence2", "model": str(model.resolve())}
    seen = {**florence2, "tasks": list(SEES)}
    asked = {**florence2, "tasks": list(ASKED)}
    annotate(folder, "truth", "test", with_truth=True)
    annotate(folder, "seen", "test", with_truth=False, specialist=seen)
    annotate(folder, "asked", "test", with_truth=True, specialist=asked)
    truth = _rows(folder / "truth", "synthetic")
    numbers: dict[str, Any] = {}
    said = _rows(folder / "seen", "florence2")
    for task, (role, true_role) in FINDS.items():
        found, true = _of(said, "region", role), _of(truth, "region", true_role)
        score = score_regions(found, true, same_text=role == true_role)
        numbers[task] = {"precision": score.precision, "recall": score.recall, "f1": score.f1}
    compared = _evaluated(folder, "seen", "captions")
    for task, role in CAPTIONS.items():
        found, true = _of(said, "text", role), _of(truth, "text", role)
        cider_d = compared[f"captions/{role}"]["measures"]["cider_d"]
        numbers[task] = {"word_for_word": _share_said(found, true), "cider_d": cider_d}
    said = _rows(folder / "asked", "florence2")
    compared = _evaluated(folder, "asked", "grounding")
    numbers["caption_to_phrase_grounding"] = compared["grounding"]["measures"]
    for task, role in ANSWERS.items():
        # answers have the boxes they were asked about: those that match have the right text
        score = score_regions(_of(said, "region", role), _of(truth, "region", role))
        numbers[task] = {"word_for_word": score.recall}
    return numbers


def _evaluated(folder: Path, name: str, family: str) -> dict[str, Any]:
    """What `fld evaluate` says of rows, by the name of their family."""
    file = f"{name}-{family}.json"
    options = ("--source", "florence2", "--family", family, "--json", file)
    fld(folder, "evaluate", name, "truth", *options)
    families: dict[str, Any] = json.loads((folder / file).read_text())["families"]
    return families


def _rows(dataset: Path, source: str) -> pa.Table:
    rows = pa.concat_tables(
        pq.read_table(file) for file in sorted((dataset / VERSION).glob("*.annotations.parquet"))
    )
    return rows.filter(pc.equal(rows["source"].cast(pa.string()), source))


def _of(rows: pa.Table, kind: str, role: str) -> pa.Table:
    is_kind = pc.equal(rows["kind"].cast(pa.string()), kind)
    return rows.filter(pc.and_(is_kind, pc.equal(rows["role"].cast(pa.string()), role)))


def _share_said(said: pa.Table, truth: pa.Table) -> float:
    """Share of the true texts, one for each image, that were said just so."""
    texts = dict(zip(said["image_key"].to_pylist(), said["text"].to_pylist(), strict=True))
    pairs = zip(truth["image_key"].to_pylist(), truth["text"].to_pylist(), strict=True)
    return float(np.mean([texts.get(key) == text for key, text in pairs]))


def main() -> None:
    """Train, store beside this script, measure what was stored."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where data and checkpoints go, about 250 MB")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "plain")
    options = parser.parse_args()
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    folder = options.folder.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    store(train(folder), options.out)
    log.info("%s", json.dumps(measure(folder, options.out), indent=2))


if __name__ == "__main__":
    main()
