"""transformers' own processor as the oracle, and texts as a model might write them."""

import re
from pathlib import Path

import transformers
from hypothesis import strategies as st

_PARSERS = (
    "ocr",
    "phrase_grounding",
    "pure_text",
    "description_with_bboxes",
    "description_with_polygons",
    "polygons",
    "bboxes",
    "description_with_bboxes_or_polygons",
)
SIZES = st.tuples(st.integers(1, 20_000), st.integers(1, 20_000))
BINS = st.integers(0, 999)
# Words that need no care: no bracket, no line break, no white space at the ends.
WORDS = st.text("abcXYZ 019.,'?-", min_size=1, max_size=12).map(str.strip).filter(bool)
_SCRAPS = [
    *("car", "a dog", " ", "x", "the image"),
    *("<sep>", "<poly>", "</poly>", "<od>", "</ocr>", "<and>", "</s>", "<s>", "<pad>"),
    *("<", ">", "<loc_", "loc_5>", "12>", "<loc_>", "<loc_-1>", "<loc_1000>", "<loc_99999>"),
    *("<loc_007>", "<poly", "/poly>"),
]


def locations(count):
    """That many location tokens in a row."""
    return st.lists(BINS, min_size=count, max_size=count).map(
        lambda bins: "".join(f"<loc_{n}>" for n in bins)
    )


# What a model that is not yet trained, or was cut, may write: too few tokens, too many, scraps.
WILD = st.lists(
    st.sampled_from(_SCRAPS) | st.integers(1, 20).flatmap(locations) | WORDS, max_size=14
).map("".join)


class Oracle:
    """Florence2Processor with the parsers of the released checkpoints, but without blacklist."""

    def __init__(self, tokenizer_folder: Path) -> None:
        self.tokenizer = transformers.AutoTokenizer.from_pretrained(
            tokenizer_folder, extra_special_tokens={"image_token": "<image>"}
        )
        pictures = transformers.CLIPImageProcessor(
            size={"height": 64, "width": 64}, crop_size={"height": 64, "width": 64}
        )
        pictures.image_seq_length = 5
        config = {name: {} for name in _PARSERS}
        self.processor = transformers.Florence2Processor(
            pictures, self.tokenizer, post_processor_config=config
        )
        self.parser = self.processor.post_processor

    def answer(self, text, task, size):
        found = self.processor.post_process_generation(text, task=task, image_size=size)
        return found[task]

    def sentence(self, prompt):
        return self.processor._construct_prompts(prompt)[0]


def last_words(label: str, form: str) -> str:
    """What stands behind the last scrap of a token, where two readings of a wild text agree.

    Behind the label of a polygon the processor takes separators for words.
    """
    if form == "labelled_polygons":
        label = re.sub(r"(<sep>|</?poly>)+$", "", label)
    return re.split("[<>]", label)[-1].strip()
