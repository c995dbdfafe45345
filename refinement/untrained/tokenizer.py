"""Florence-2's tokenizer: a byte-level BPE of the dataset's own words, or a given BART vocabulary.

Both get the special tokens of the released checkpoints, in their order.
"""

import json
from collections.abc import Iterable, Iterator
from itertools import chain, repeat
from pathlib import Path
from typing import Any

import pyarrow.compute as pc

from engine import dataset
from engine.errors import ConfigError
from engine.formats.florence2_codec import NUM_BINS
from engine.formats.florence2_tasks import TASKS
from engine.reading import read_parquet
from engine.sink import ShardFiles
from engine.source.shapes import Location

START = ("<s>", "<pad>", "</s>", "<unk>")  # ids 0 to 3, as in BART
MASK, IMAGE = "<mask>", "<image>"
LOCATIONS = tuple(f"<loc_{number}>" for number in range(NUM_BINS))
# What the released checkpoints add to BART's vocabulary, in order; one of them is misspelt there.
_PAIRS = ("cap", "ncap", "dcap", "grounding", "seg")
_REGION_PAIRS = ("region_cap", "region_to_desciption", "proposal", "poly")


def _both(names: Iterable[str]) -> Iterator[str]:
    return chain.from_iterable((f"<{name}>", f"</{name}>") for name in names)


ADDED = (
    *_both(("od", "ocr")),
    *LOCATIONS,
    *_both(_PAIRS),
    "<sep>",
    *_both(_REGION_PAIRS),
    "<and>",
)
_NUM_BYTES = 256
LEAST_WORDS = len(START) + _NUM_BYTES + 1 + len(ADDED) + 1
# A pair of pieces is worth a word of its own from the second time it is met.
_LEAST_COUNT = 2


def train_tokenizer(texts: Iterable[str], vocabulary_size: int) -> Any:
    """A tokenizer whose words are those of the texts and of what Florence-2 is asked.

    Any text survives it: what no word covers is spelt by bytes. The sentences of the tasks count as
    often as all texts together, because a model reads one with every text it learns. The same
    texts, in whatever order, give the same tokenizer.

    Args:
        texts: Read once.
        vocabulary_size: Most words, special tokens included; texts with few words give fewer.

    Returns:
        A fast tokenizer of transformers, which `save_pretrained` writes.

    Raises:
        ConfigError: The size has no place for bytes, locations and special tokens.
    """
    if vocabulary_size < LEAST_WORDS:
        raise ConfigError(
            f"vocabulary size {vocabulary_size}; {LEAST_WORDS} or more: {NUM_BINS} locations, "
            f"{_NUM_BYTES} bytes and {LEAST_WORDS - NUM_BINS - _NUM_BYTES} special tokens"
        )
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    learned = Tokenizer(models.BPE())
    learned.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary_size - (LEAST_WORDS - len(START) - _NUM_BYTES),
        min_frequency=_LEAST_COUNT,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=list(START),
        show_progress=False,
    )
    learned.train_from_iterator(_with_sentences(texts), trainer)
    model = json.loads(learned.to_str())["model"]
    return _assemble(model["vocab"], [tuple(merge) for merge in model["merges"]])


def dataset_texts(output: Location, version: str) -> Iterator[str]:
    """The texts of the kept rows of a label version, a shard at a time, in the order of its rows.

    Raises:
        ConfigError: A table of it cannot be read.
    """
    for shard in sorted(dataset.Markers(output, version).load()):
        path = f"{version}/{ShardFiles(shard).annotations}"
        rows = read_parquet(output, path, ["text", "status"])
        kept = rows["text"].filter(pc.equal(rows["status"], "kept"))
        yield from kept.drop_null().to_pylist()


def read_tokenizer(folder: Path) -> Any:
    """The tokenizer of a BART vocabulary, with Florence-2's tokens added where it lacks them.

    Args:
        folder: With vocab.json and merges.txt, or tokenizer.json: that of BART, of a Florence-2
            checkpoint, or one of `train_tokenizer`.

    Raises:
        ConfigError: There is none, or it is no byte-level BPE whose first words are BART's.
    """
    vocabulary, merges = _read_words(folder)
    _check_words(folder, vocabulary, merges)
    return _assemble(vocabulary, merges)


def _with_sentences(texts: Iterable[str]) -> Iterator[str]:
    num_texts = 0
    for text in texts:
        num_texts += 1
        yield text
    sentences = [task.sentence.replace("{input}", "") for task in TASKS.values()]
    times = max(_LEAST_COUNT, num_texts // len(sentences))
    yield from chain.from_iterable(repeat(sentence, times) for sentence in sentences)


def _assemble(vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> Any:
    """The tokenizer of words and merges; names it lacks get the next ids, in Florence-2's order."""
    import transformers
    from tokenizers import AddedToken

    words = dict(vocabulary)
    for name in (MASK, *ADDED, IMAGE):
        words.setdefault(name, len(words))
    library: Any = transformers  # partly typed
    tokenizer = library.BartTokenizer(
        vocab=words, merges=merges, extra_special_tokens={"image_token": IMAGE}
    )
    tokenizer.add_tokens([AddedToken(name, normalized=False, special=False) for name in ADDED])
    return tokenizer


def _read_words(folder: Path) -> tuple[dict[str, int], list[tuple[str, str]]]:
    """Ids by word, and pairs in the order they merge in, of whichever files there are."""
    whole, words, merges = (
        folder / name for name in ("tokenizer.json", "vocab.json", "merges.txt")
    )
    try:
        if whole.is_file():
            content = json.loads(whole.read_text(encoding="utf-8"))
            model = content["model"]
            if model["type"] != "BPE" or (content["pre_tokenizer"] or {})["type"] != "ByteLevel":
                raise ConfigError(_refusal(folder, "its tokenizer.json is no byte-level BPE"))
            return dict(model["vocab"]), [_pair(merge) for merge in model["merges"]]
        if words.is_file() and merges.is_file():
            lines = merges.read_text(encoding="utf-8").split("\n")
            pairs = [_pair(line) for line in lines if line and not line.startswith("#version")]
            return dict(json.loads(words.read_text(encoding="utf-8"))), pairs
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as err:
        raise ConfigError(_refusal(folder, f"it cannot be read: {err!r}")) from err
    raise ConfigError(_refusal(folder, "it has none of these files"))


def _pair(merge: Any) -> tuple[str, str]:
    first, second = merge.split(" ") if isinstance(merge, str) else merge
    return first + "", second + ""  # a TypeError where one is no text


def _check_words(folder: Path, vocabulary: dict[str, int], merges: list[tuple[str, str]]) -> None:
    from tokenizers import pre_tokenizers

    ids = list(vocabulary.values())
    if any(type(number) is not int for number in ids) or sorted(ids) != list(range(len(ids))):
        raise ConfigError(_refusal(folder, "the ids of its words are not 0, 1, 2, ..."))
    for number, name in enumerate(START):
        if vocabulary.get(name) != number:
            raise ConfigError(
                _refusal(
                    folder, f"{name} has the id {vocabulary.get(name)}, in BART it is {number}"
                )
            )
    parts = chain(pre_tokenizers.ByteLevel.alphabet(), *merges, map("".join, merges))
    if missing := sorted({part for part in parts if part not in vocabulary}):
        raise ConfigError(_refusal(folder, f"its vocabulary lacks {missing[0]!r}"))


def _refusal(folder: Path, found: str) -> str:
    return (
        f"tokenizer {folder}: {found}; name a folder with BART's vocab.json and merges.txt, "
        "or with the tokenizer.json of such a model"
    )
