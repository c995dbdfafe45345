"""Child: the tasks of a batch of pictures, by specialist florence2 and by a call for each task."""

import io
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from PIL import Image

from engine.formats.florence2_tasks import TASKS, decode_answer
from engine.pixels import EncodedImage
from engine.schema import empty_claims
from specialists.florence2 import Florence2
from tests.bench.children import answer, read_job
from tests.specialists.tiny_captioners import save_florence2

_TASKS = tuple(name for name, task in TASKS.items() if task.takes == "nothing" and task.kind)
# A tower large enough for seeing to be most of a call, as it is with released checkpoints; answers
# of fixed length, because a random model has no reason to end.
_SIDE, _VISION = 192, {"embed_dim": (48, 96, 192, 384), "depths": (1, 1, 3, 1), "window_size": 6}
_MAX_NEW_TOKENS = 24


def main() -> None:
    job = read_job()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    folder = Path(job["folder"])
    save_florence2(folder, Path(job["tokenizer"]), points=True, side=_SIDE, vision=_VISION)
    images = [_picture(number) for number in range(job["images"])]
    specialist = Florence2(model=str(folder), tasks=_TASKS, max_new_tokens=_MAX_NEW_TOKENS)
    specialist.load()
    plain = _Plain(folder)
    runs = []
    for repeat in range(job["repeats"] + 1):
        took, found = {}, {}
        for name, run in (
            ("plain", plain.annotate),
            ("specialist", lambda given: specialist.annotate(given, empty_claims()).rows),
            ("seeing", plain.see),
        ):
            took[name], found[name] = _timed(run, images)
        assert _said(found["specialist"].to_pylist()) == _said(found["plain"]), "not the same rows"
        if repeat:  # the first warms up
            runs.append(took)
    answer({"tasks": len(_TASKS), "rows": len(found["plain"]), "runs": runs})


class _Plain:
    """What one writes without the specialist: processor and `generate`, task by task."""

    def __init__(self, folder: Path) -> None:
        self._processor = transformers.AutoProcessor.from_pretrained(folder)
        model = transformers.Florence2ForConditionalGeneration.from_pretrained(folder)
        model.generation_config.forced_eos_token_id = None
        self._model = model.eval()

    @torch.inference_mode()
    def annotate(self, images: list[EncodedImage]) -> list[dict[str, Any]]:
        rows = []
        for name in _TASKS:
            pictures = [Image.fromarray(image.rgb()) for image in images]
            prompts = [TASKS[name].token] * len(images)
            inputs = self._processor(images=pictures, text=prompts, return_tensors="pt")
            tokens = self._model.generate(
                **inputs, max_new_tokens=_MAX_NEW_TOKENS, num_beams=1, do_sample=False
            )
            for image, text in zip(images, self._processor.batch_decode(tokens), strict=True):
                columns = decode_answer(TASKS[name], text, (image.width, image.height)).columns
                labels, boxes = columns["text"], columns["box"]
                count = len(boxes if labels is None else labels)
                for place in range(count):
                    row = {"image_key": image.image_key, "prompt": TASKS[name].token}
                    row["text"] = None if labels is None else labels[place]
                    row["box"] = None if boxes is None else boxes[place].tolist()
                    rows.append(row)
        return rows

    @torch.inference_mode()
    def see(self, images: list[EncodedImage]) -> Any:
        """The part of one call that does not depend on the task."""
        pictures = [Image.fromarray(image.rgb()) for image in images]
        pixels = self._processor.image_processor(pictures, return_tensors="pt")["pixel_values"]
        return self._model.get_image_features(pixels)


def _said(rows: list[dict[str, Any]]) -> list[str]:
    names = ("image_key", "prompt", "text", "box")
    return sorted(repr([row[name] for name in names]) for row in rows)


def _timed(run: Callable[[list[EncodedImage]], Any], images: list[EncodedImage]) -> Any:
    began = time.process_time()
    found = run(images)
    return time.process_time() - began, found


def _picture(number: int) -> EncodedImage:
    pixels = np.random.default_rng(number).integers(0, 256, (240, 320, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return EncodedImage(f"picture-{number}", memoryview(stream.getvalue()), 320, 240)


if __name__ == "__main__":
    main()
