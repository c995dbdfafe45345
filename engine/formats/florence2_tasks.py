"""Florence-2's tasks: what each is asked, in which form it answers, which rows it is about.

Pure, like `florence2_codec`, which knows how places and answers are spelt. `florence2_targets` goes
the other way, from rows to what the model should say.
"""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
import numpy.typing as npt

from engine.errors import ConfigError
from engine.formats.florence2_codec import (
    BOX_BINS,
    Form,
    Item,
    Span,
    decode_bins,
    encode_bins,
    parse_answer,
    spell_places,
)
from engine.geometry import order_ring, rings_box


@dataclass(frozen=True)
class Task:
    """One task of the model.

    Attributes:
        token: What the user writes, followed by the input where the task takes one.
        sentence: What the model reads in its place, `{input}` standing for the input.
        form: How its answers are spelt.
        takes: Its input: nothing, a text, or a region, which is spelt as four location tokens.
        kind: Of the rows it is about; null for `<OCR>`: a transcript without a place has no row.
        roles: Of those rows. Answers are of the first; those of a segmentation keep the role of the
            row they outline.
    """

    token: str
    sentence: str
    form: Form
    takes: Literal["nothing", "text", "region"] = "nothing"
    kind: Literal["text", "region", "grounding"] | None = "region"
    roles: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """The token as an option is written: `<DENSE_REGION_CAPTION>` is `dense_region_caption`."""
        return self.token.strip("<>").lower()


_DESCRIBED = ("category", "phrase", "brief")
_PLACED = (*_DESCRIBED, "proposal")
# Sentences and answer forms as in transformers' Florence2Processor.
_ALL = (
    Task("<CAPTION>", "What does the image describe?", "text", kind="text", roles=("brief",)),
    Task(
        "<DETAILED_CAPTION>",
        "Describe in detail what is shown in the image.",
        "text",
        kind="text",
        roles=("detailed",),
    ),
    Task(
        "<MORE_DETAILED_CAPTION>",
        "Describe with a paragraph what is shown in the image.",
        "text",
        kind="text",
        roles=("more_detailed",),
    ),
    Task(
        "<OD>",
        "Locate the objects with category name in the image.",
        "labelled_boxes",
        roles=("category",),
    ),
    Task(
        "<DENSE_REGION_CAPTION>",
        "Locate the objects in the image, with their descriptions.",
        "labelled_boxes",
        roles=("brief", "phrase"),
    ),
    Task(
        "<REGION_PROPOSAL>",
        "Locate the region proposals in the image.",
        "boxes",
        roles=("proposal", *_DESCRIBED),
    ),
    Task("<OCR>", "What is the text in the image?", "text", kind=None, roles=("ocr",)),
    Task(
        "<OCR_WITH_REGION>",
        "What is the text in the image, with regions?",
        "quads",
        roles=("ocr",),
    ),
    Task(
        "<CAPTION_TO_PHRASE_GROUNDING>",
        "Locate the phrases in the caption: {input}",
        "labelled_boxes",
        takes="text",
        kind="grounding",
        roles=("phrase",),
    ),
    Task(
        "<REFERRING_EXPRESSION_SEGMENTATION>",
        "Locate {input} in the image with mask",
        "polygons",
        takes="text",
        roles=_DESCRIBED,
    ),
    Task(
        "<REGION_TO_SEGMENTATION>",
        "What is the polygon mask of region {input}",
        "polygons",
        takes="region",
        roles=_PLACED,
    ),
    Task(
        "<OPEN_VOCABULARY_DETECTION>",
        "Locate {input} in the image.",
        "labelled_polygons",
        takes="text",
        roles=("phrase", "category", "brief"),
    ),
    Task(
        "<REGION_TO_CATEGORY>",
        "What is the region {input}?",
        "text",
        takes="region",
        roles=("category",),
    ),
    Task(
        "<REGION_TO_DESCRIPTION>",
        "What does the region {input} describe?",
        "text",
        takes="region",
        roles=("brief", "phrase"),
    ),
    Task(
        "<REGION_TO_OCR>",
        "What text is in the region {input}?",
        "text",
        takes="region",
        roles=("ocr",),
    ),
)
TASKS = {task.name: task for task in _ALL}


def find_task(name: str) -> Task:
    """The task of a name or token.

    Raises:
        ConfigError: There is none; the message lists the names.
    """
    for task in _ALL:
        if name in {task.name, task.token}:
            return task
    raise ConfigError(f"Florence-2 task {name!r} is not known; known: {', '.join(TASKS)}")


def read_prompt(prompt: str) -> tuple[Task, str]:
    """Task and input of a prompt as `prompt_of` writes it, white space around the input cut off.

    Raises:
        ConfigError: It does not start with a task token, the task takes no input and gets one, or
            takes one and gets none.
    """
    for task in _ALL:
        if prompt.startswith(task.token):
            given = prompt[len(task.token) :].strip()
            if bool(given) != (task.takes != "nothing") or (not given and prompt != task.token):
                raise ConfigError(
                    f"prompt {prompt!r}: {task.token} takes {task.takes} as input; "
                    f"{'write the token alone' if task.takes == 'nothing' else 'add it'}"
                )
            return task, given
    raise ConfigError(
        f"prompt {prompt!r} does not start with a task token; "
        f"known: {', '.join(task.token for task in _ALL)}"
    )


def prompt_of(task: Task, given: str = "") -> str:
    """The token with its input: what the `prompt` column says."""
    return task.token + given


def sentence_of(prompt: str) -> str:
    """What the model reads for a prompt.

    Raises:
        ConfigError: As `read_prompt`.

    Example:
        >>> sentence_of("<OPEN_VOCABULARY_DETECTION>a red car")
        'Locate a red car in the image.'
    """
    task, given = read_prompt(prompt)
    return task.sentence.replace("{input}", given)


def spell_regions(boxes: npt.ArrayLike, size_wh: tuple[int, int]) -> list[str]:
    """The input that names each region, from boxes xyxy in pixels, shape (n, 4)."""
    return spell_places(encode_bins(np.reshape(boxes, (-1, BOX_BINS)), size_wh))


class Decoded(NamedTuple):
    """What one answer says.

    Attributes:
        items: With the characters of the answer each label and place was read from.
        columns: `text`, `box` and `polygon` of `engine.schema.claims`, an entry per item; null for
            all where the task's answers have none.
        num_lost: Location tokens that belong to no item.
    """

    items: list[Item]
    columns: dict[str, Any]
    num_lost: int


def decode_answer(task: Task, text: str, size_wh: tuple[int, int]) -> Decoded:
    """The items of a generated text as columns; any text at all gives some or none.

    Boxes are bin centres in pixels of the original image. The box of a quad or an outline is the
    smallest around it; their rings run clockwise from the top left. A thing thinner than a bin
    has a box without area, as it was said: `invalid_box` has the word on it.

    Args:
        task: What was asked.
        text: With its special tokens; see `florence2_codec.parse_answer`.
        size_wh: Width and height of the image, pixels.
    """
    items, num_lost = parse_answer(text, task.form)
    columns: dict[str, Any] = dict.fromkeys(("text", "box", "polygon"))
    if task.form not in {"boxes", "polygons"}:
        columns["text"] = [item.label for item in items]
    if all(len(place) == BOX_BINS for item in items for place in item.places):
        bins = np.array([item.places for item in items], np.int32).reshape(-1, BOX_BINS)
        if task.form != "text":
            columns["box"] = decode_bins(bins, size_wh)
        return Decoded(items, columns, num_lost)
    columns["polygon"] = [
        [order_ring(decode_bins(ring, size_wh)) for ring in item.places] for item in items
    ]
    columns["box"] = np.array([rings_box(rings) for rings in columns["polygon"]], np.float32)
    return Decoded(items, columns, num_lost)


def locate_phrases(caption: str, items: Sequence[Item]) -> list[Span | None]:
    """Where each grounded phrase stands in its caption, in code points; null where it does not.

    Phrases come in the order of the caption, so one that stands in it twice is looked for behind
    the phrase before, first as whole words. Boxes that share a phrase share its place.
    """
    found: dict[Span, Span | None] = {}
    behind = 0
    for item in items:
        if item.label_span not in found:
            place = _locate(caption, item.label, behind)
            found[item.label_span] = place
            behind = place[1] if place else behind
    return [found[item.label_span] for item in items]


def _locate(caption: str, phrase: str, behind: int) -> Span | None:
    spelt = re.escape(phrase)
    for pattern in (rf"(?<!\w){spelt}(?!\w)", spelt):
        searched = re.compile(pattern)
        for start in (behind, 0):
            if match := searched.search(caption, start):
                return match.span()
    return None
