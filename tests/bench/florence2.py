"""All tasks of a picture through specialist florence2, beside a plain `generate` for each task."""

from statistics import median

from tests.bench.children import ONE_THREAD, run_child
from tests.bench.results import Row
from tests.bench.settings import Part, say
from tests.conftest import shared_data


def florence2(part: Part) -> list[Row]:
    """CPU time on one core: how much less it takes to see a picture once than once for each task.

    With k tasks, v the cost of seeing and r that of an answer, the ratio is k (v + r) / (v + k r):
    it grows with the share v / (v + r) of the vision part, which is measured beside it, and with
    the number of tasks; from 1, where seeing is free, to k, where answers are. It depends on the
    checkpoint, the side of its pictures and the length of answers. A model of the base size, with
    pictures of 768 pixels a side and answers of 48 tokens, takes a share of about 0.8 on a CPU; the
    small random one here stays a little below.
    """
    tokenizer = shared_data() / "tokenizer" / "florence2_tokenizer"
    if not tokenizer.is_dir():
        say("florence2: skipped, no tokenizer; set FLD_TEST_DATA to the folder of real data")
        return []
    job = {
        "tokenizer": str(tokenizer),
        "folder": str(part.folder / "model"),
        "images": 4 if part.quick else 8,
        "repeats": 1 if part.quick else 5,
    }
    found = run_child("florence2_tasks", job, variables=ONE_THREAD)
    part.raw["florence2"] = found
    runs, num_images = found["runs"], job["images"]
    title = f"Florence-2, {found['tasks']} tasks of a picture"
    ratio = median(run["plain"] / run["specialist"] for run in runs)
    say(f"{title}: {ratio:.2f} times as fast as one call for each task")
    rows = [
        Row(title, what, 1000 * median(run[name] for run in runs) / num_images, "ms/image")
        for name, what in (("plain", "a plain generate per task"), ("specialist", "specialist"))
    ]
    shares = [run["seeing"] / run["plain"] * found["tasks"] for run in runs]
    return [
        *rows,
        Row(title, "plain / specialist", ratio, "", 1.0, at_most=False),
        Row(title, "share of seeing in a plain call", median(shares), ""),
    ]
