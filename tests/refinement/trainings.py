"""Small things to train: a checkpoint that is made in no time, examples, and runs over them."""

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import transformers
from PIL import Image
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from engine.config import RunnerConfig
from engine.formats.florence2_tasks import TASKS
from refinement.training.loop import Loop, LoopJob
from refinement.training.options import TrainOptions
from tests.specialists.tiny_captioners import save_florence2

SERIAL = RunnerConfig(kind="serial")
BOX, OTHER_BOX = "<loc_10><loc_20><loc_300><loc_400>", "<loc_500><loc_100><loc_900><loc_999>"
QUAD = "<loc_10><loc_20><loc_300><loc_20><loc_300><loc_40><loc_10><loc_40>"
RING = "<loc_20><loc_30><loc_290><loc_30><loc_290><loc_390>"
# One of each task; places and words as the targets of real pairs are spelt.
ANSWERS = {
    "<CAPTION>": "a dog",
    "<DETAILED_CAPTION>": "a dog near a bus.",
    "<MORE_DETAILED_CAPTION>": "a dog is near a red bus, and runs.",
    "<OD>": f"dog{BOX}{OTHER_BOX}bus{OTHER_BOX}",
    "<DENSE_REGION_CAPTION>": f"red bus{OTHER_BOX}",
    "<REGION_PROPOSAL>": BOX + OTHER_BOX,
    "<OCR>": "STOP",
    "<OCR_WITH_REGION>": f"STOP{QUAD}",
    "<CAPTION_TO_PHRASE_GROUNDING>a dog and a bus": f"a dog{BOX}a bus{OTHER_BOX}",
    "<REFERRING_EXPRESSION_SEGMENTATION>dog": RING,
    "<REGION_TO_SEGMENTATION>" + BOX: RING,
    "<OPEN_VOCABULARY_DETECTION>dog": f"dog{BOX}",
    "<REGION_TO_CATEGORY>" + BOX: f"dog{BOX}",
    "<REGION_TO_DESCRIPTION>" + BOX: f"a dog{BOX}",
    "<REGION_TO_OCR>" + QUAD: f"STOP{BOX}",
}
_MARKS = ("<s>", "<pad>", "</s>", "<unk>")
_ADDED = ("<sep>", "<poly>", "</poly>", "<image>")
_WORDS = ("dog", "bus", "red", "thing", "picture", "image", "STOP")


@dataclass(frozen=True)
class Listed:
    """One example, as `refinement.pairs.stream` gives them."""

    task: str
    prompt: str
    target: str
    image: bytes
    width: int
    height: int
    image_key: str


class ListedStream:
    """Examples from a list, over and over: each epoch begins one place later than the last."""

    def __init__(self, examples):
        self._examples = examples
        self.len_epoch = {}
        for example in examples:
            self.len_epoch[example.task] = self.len_epoch.get(example.task, 0) + 1

    def at(self, position):
        epoch, place = divmod(position, len(self._examples))
        return self._examples[(place + epoch) % len(self._examples)]

    def batch(self, start, count):
        return [self.at(position) for position in range(start, start + count)]


def png(seed, width=48, height=40):
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG")
    return stream.getvalue()


def example(prompt="<CAPTION>", target="a dog", *, seed=0, **values):
    task = next(name for name, task in TASKS.items() if prompt.startswith(task.token))
    defaults = {"image": png(seed), "width": 48, "height": 40, "image_key": f"image-{seed}"}
    return Listed(task=task, prompt=prompt, target=target, **{**defaults, **values})


def of_each_task():
    return [
        example(prompt, target, seed=n % 4) for n, (prompt, target) in enumerate(ANSWERS.items())
    ]


def save_tokenizer(folder: Path) -> Path:
    """Byte-level, a few words, the marks and locations of Florence-2."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocabulary = {token: n for n, token in enumerate([*_MARKS, *letters])}
    merges = []
    for word in _WORDS:
        for end in range(2, len(word) + 1):
            merges.append((word[: end - 1], word[end - 1]))
            vocabulary.setdefault(word[:end], len(vocabulary))
    merges = list(dict.fromkeys(merges))
    tokenizer = Tokenizer(models.BPE(vocabulary, merges, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        bos_token="<s>",
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
    )
    places = [f"<loc_{n}>" for n in range(1000)]
    fast.add_special_tokens({"additional_special_tokens": [*places, *_ADDED]})
    fast.save_pretrained(folder)
    return folder


def save_checkpoint(folder: Path, **options) -> Path:
    """An untrained one: 32 wide, pictures of 64 px, dropout as released ones have it."""
    tokenizer = save_tokenizer(folder.with_name(f"{folder.name}-tokenizer"))
    return save_florence2(folder, tokenizer, **{"init_std": 0.1, **options})


def options(**values) -> TrainOptions:
    """Six steps of four."""
    defaults = {"steps": 6, "batch_size": 4, "learning_rate": 2e-3, "warmup": 0, "prefetch": 2}
    return TrainOptions(**{**defaults, **values})


def run(folder, start, learns, checks=None, *, seed=0, tell=None, **values):
    """A loop over listed examples in this process."""
    folder.mkdir(parents=True, exist_ok=True)
    job = LoopJob(
        start=start,
        folder=folder,
        options=options(**values),
        seed=seed,
        learns=ListedStream(learns),
        checks=None if checks is None else ListedStream(checks),
    )
    return Loop(job, tell).run()
