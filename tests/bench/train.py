"""Training steps beside those of a plain transformers `Trainer` on the same model and examples."""

from statistics import median

from tests.bench.children import ONE_THREAD, run_child
from tests.bench.results import Row
from tests.bench.settings import Part, say


def train(part: Part) -> list[Row]:
    """Examples a second, from the first step's end to the last's, in pairs that alternate.

    Both compute with one thread, batches of 16 of as many pictures, float32, AdamW, gradient
    clipping. The Trainer has its defaults: its collator runs between steps, where ours runs beside
    them in a thread of its own. The ratio of CPU time, which knows no idle core, is told too.
    """
    job = {
        "folder": str(part.folder),
        "steps": 6 if part.quick else 20,
        "repeats": 1 if part.quick else 5,
    }
    found = run_child("train_steps", job, variables=ONE_THREAD)
    part.raw["train"] = found
    runs = found["runs"]
    title = "Training steps of a small Florence-2"
    ratio = median(run["trainer"]["wall"] / run["ours"]["wall"] for run in runs)
    cpu = median(run["trainer"]["cpu"] / run["ours"]["cpu"] for run in runs)
    say(f"{title}: {ratio:.3f} times the speed of Trainer, {cpu:.3f} by CPU time")
    rows = [
        Row(
            title, what, median(found["examples"] / run[name]["wall"] for run in runs), "examples/s"
        )
        for name, what in (("trainer", "transformers Trainer"), ("ours", "fld train"))
    ]
    return [
        *rows,
        Row(title, "fld train / Trainer", ratio, "", 0.98, at_most=False),
        Row(title, "the same by CPU time", cpu, ""),
    ]
