"""Child: the same steps over the same examples, ours and those of transformers' Trainer."""

import io
import shutil
import time
from pathlib import Path
from typing import Any

import torch
import transformers
from PIL import Image

from tests.bench.children import answer, read_job
from tests.refinement.trainings import ANSWERS, example, png, run, save_checkpoint

_BATCH, _RATE = 16, 1e-3
_VISION = {"embed_dim": (32, 64, 96, 128), "window_size": 4}
_SIDE = 160  # of the pictures on disk, pixels


def main() -> None:
    job = read_job()
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    folder, steps = Path(job["folder"]), job["steps"]
    start = save_checkpoint(folder / "start", vision=_VISION)
    prompts = list(ANSWERS.items())
    examples = [
        example(*prompts[n % len(prompts)], image=png(n, _SIDE, _SIDE), image_key=f"image-{n}")
        for n in range(4 * _BATCH)
    ]
    runs = []
    for repeat in range(job["repeats"] + 1):
        took = {}
        sides = {"trainer": _run_trainer, "ours": _run_ours}
        for name in sorted(sides, reverse=repeat % 2 == 0):
            took[name] = sides[name](start, folder / "out", examples, steps)
            shutil.rmtree(folder / "out")
        if repeat:  # the first warms up
            runs.append(took)
    answer({"runs": runs, "examples": (steps - 1) * _BATCH})


class _Clock:
    """Wall and CPU seconds between the ends of the first and the last step."""

    def __init__(self) -> None:
        self._ticks: list[tuple[float, float]] = []

    def tick(self) -> None:
        self._ticks.append((time.perf_counter(), time.process_time()))

    def taken(self) -> dict[str, float]:
        first, last = self._ticks[0], self._ticks[-1]
        return {"wall": last[0] - first[0], "cpu": last[1] - first[1]}


def _run_ours(start: Path, out: Path, examples: list[Any], steps: int) -> dict[str, float]:
    clock = _Clock()
    values = {"steps": steps, "batch_size": _BATCH, "learning_rate": _RATE, "save_every": steps}
    run(out, start, examples, tell=lambda _line: clock.tick(), **values)
    return clock.taken()


def _run_trainer(start: Path, out: Path, examples: list[Any], steps: int) -> dict[str, float]:
    """As the library's own examples have it: its processor, `labels`, pads masked by -100."""
    processor = transformers.AutoProcessor.from_pretrained(start)
    model = transformers.Florence2ForConditionalGeneration.from_pretrained(start)
    clock = _Clock()

    class Ticks(transformers.TrainerCallback):
        def on_step_end(self, *_args: Any, **_kwargs: Any) -> None:
            clock.tick()

    def collate(chosen: list[Any]) -> dict[str, Any]:
        inputs = processor(
            images=[Image.open(io.BytesIO(one.image)).convert("RGB") for one in chosen],
            text=[one.prompt for one in chosen],
            padding=True,
            return_tensors="pt",
        )
        labels = processor.tokenizer(
            [f"<s>{one.target}</s>" for one in chosen],
            add_special_tokens=False,
            padding=True,
            return_tensors="pt",
        ).input_ids
        labels[labels == processor.tokenizer.pad_token_id] = -100
        return {**inputs, "labels": labels}

    arguments = transformers.TrainingArguments(
        output_dir=str(out),
        per_device_train_batch_size=_BATCH,
        max_steps=steps,
        learning_rate=_RATE,
        save_strategy="no",
        report_to=[],
        disable_tqdm=True,
        remove_unused_columns=False,
        logging_steps=steps,
        use_cpu=True,
        dataloader_pin_memory=False,
    )
    trainer = transformers.Trainer(
        model=model,
        args=arguments,
        train_dataset=examples,
        data_collator=collate,
        callbacks=[Ticks()],
    )
    trainer.train()
    return clock.taken()


if __name__ == "__main__":
    main()
