"""From examples to the tensors of a batch, and that ahead of the model, in a thread of its own."""

import itertools
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

from PIL import Image as PillowImage

from engine.errors import ConfigError
from engine.formats.florence2_tasks import TASKS, find_task, sentence_of
from engine.pixels import DecodeError, EncodedImage
from refinement.training.loss import shift_right

T = TypeVar("T")
U = TypeVar("U")

# After so many examples in a row that do not fit, none is likely to.
_MOST_TRIES = 100
_PLACES = {name: place for place, name in enumerate(TASKS)}


class Example(Protocol):
    """One thing to learn, as `refinement.pairs.stream` gives it; see there."""

    @property
    def task(self) -> str:
        """Its name."""

    @property
    def prompt(self) -> str:
        """Task token and input."""

    @property
    def target(self) -> str:
        """What is to be said, without begin and end token."""

    @property
    def image(self) -> Any:
        """The encoded picture."""

    @property
    def width(self) -> int:
        """Pixels, upright."""

    @property
    def height(self) -> int:
        """Pixels, upright."""

    @property
    def image_key(self) -> str:
        """Names the picture."""


class Stream(Protocol):
    """Examples in a seeded order without end; any position can be asked for."""

    @property
    def len_epoch(self) -> Mapping[str, int]:
        """How many different examples there are of each task."""

    def at(self, position: int) -> Example:
        """The example at a position."""

    def batch(self, start: int, count: int, /) -> Sequence[Example]:
        """Those of that many positions from `start` on."""


@dataclass
class Batch:
    """Tensors of examples that go through the model together; n of them with p pictures.

    Attributes:
        pixels: Of each picture once, shape (p, 3, side, side), as the processor gives them.
        picture: Of each example, its place in `pixels`, shape (n,).
        read: Tokens of the sentences, padded, shape (n, tokens).
        read_mask: 1 where `read` is no padding.
        before: What the decoder reads, shape (n, answer tokens).
        counted: Where the decoder's answer counts, bool, shape (n, answer tokens).
        labels: What is to be said there, in order, shape (counted tokens,).
        task_of: For each label, the place of its task among all.
    """

    pixels: Any
    picture: Any
    read: Any
    read_mask: Any
    before: Any
    counted: Any
    labels: Any
    task_of: Any

    def inputs(self, device: Any) -> tuple[Any, ...]:
        """What `refinement.training.loss.answer_logits` takes, in its order."""
        names = ("pixels", "picture", "read", "read_mask", "before", "counted")
        return tuple(getattr(self, name).to(device, non_blocking=True) for name in names)


@dataclass
class Part:
    """What one worker computes of a step, in batches, and what was left out on the way.

    Attributes:
        batches: As many as the step is accumulated over.
        left_out: Number of examples by reason.
    """

    batches: list[Batch] = field(default_factory=list)
    left_out: dict[str, int] = field(default_factory=dict)


@dataclass(frozen=True)
class _Spelt:
    """An example, and the tokens of its sentence and its target."""

    example: Example
    read: list[int]
    said: list[int]


class Collator:
    """Examples as tensors, spelt and scaled as the checkpoint will meet them when it is asked."""

    def __init__(
        self, processor: Any, config: Any, num_image_tokens: dict[int | None, int]
    ) -> None:
        """Takes the processor and the config of the checkpoint.

        Args:
            processor: A Florence2Processor.
            config: Of the model.
            num_image_tokens: Of a picture, by resolution.
        """
        self._pictures = processor.image_processor
        self._tokenizer = processor.tokenizer
        self._start = config.text_config.decoder_start_token_id
        self._most = int(config.text_config.max_position_embeddings)
        self._num_image_tokens = num_image_tokens

    def collect(
        self,
        stream: Stream,
        start: int,
        count: int,
        *,
        resolution: int | None,
        parts: int = 1,
        replace: bool = True,
    ) -> Part:
        """The examples of `count` positions from `start` on, in as many equal parts.

        An example that the model has no positions for, or whose picture does not decode, is left
        out and counted; the one that stands as many places later as there are examples takes its
        place, so that which examples a step has depends on nothing but its number. Without
        `replace` its place stays empty; where all are, there is no batch.

        Raises:
            ConfigError: 100 in a row had to be left out.
        """
        pictures: dict[str, PillowImage.Image] = {}
        made = Part()
        found = []
        for place, one in enumerate(self._spell(stream.batch(start, count))):
            tries = self._candidates(stream, start + place) if replace else iter(())
            fits = self._first_that_fits(
                itertools.chain([_Spelt(*one)], tries), resolution, pictures, made.left_out
            )
            if fits is not None:
                found.append(fits)
            elif replace:
                raise self._none_fits(one[0], made.left_out)
        size = max(len(found) // parts, 1)
        made.batches = [
            self._collate(found[first : first + size], pictures, resolution)
            for first in range(0, len(found), size)
        ]
        return made

    def _candidates(self, stream: Stream, position: int) -> Iterator["_Spelt"]:
        """What stands at a position, further and further on."""
        distance = sum(stream.len_epoch.values())
        for again in range(1, _MOST_TRIES):
            later = stream.at(position + again * distance)
            yield _Spelt(*next(iter(self._spell([later]))))

    def _first_that_fits(
        self,
        candidates: Iterable["_Spelt"],
        resolution: int | None,
        pictures: dict[str, PillowImage.Image],
        left_out: dict[str, int],
    ) -> "_Spelt | None":
        for spelt in candidates:
            reason = self._reason_against(spelt, resolution) or _decode(spelt.example, pictures)
            if reason is None:
                return spelt
            left_out[reason] = left_out.get(reason, 0) + 1
        return None

    def _none_fits(self, example: Example, left_out: dict[str, int]) -> ConfigError:
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(left_out.items()))
        return ConfigError(
            f"training pairs: {_MOST_TRIES} examples in a row were left out ({reasons}; the first "
            f"is {example.task} of image {example.image_key!r}); the checkpoint has positions for "
            f"{self._most} tokens: make pairs with fewer places or shorter texts, or use another "
            "checkpoint"
        )

    def _reason_against(self, spelt: "_Spelt", resolution: int | None) -> str | None:
        if len(spelt.said) > self._most:
            return "long_target"
        if len(spelt.read) > self._most - self._num_image_tokens[resolution]:
            return "long_prompt"  # prediction would cut it
        return None

    def _spell(self, examples: Sequence[Example]) -> Iterable[tuple[Example, list[int], list[int]]]:
        """With tokens of sentence and target, each from its begin to its end token."""
        bos, eos = self._tokenizer.bos_token, self._tokenizer.eos_token
        texts = [sentence_of(example.prompt) for example in examples]
        texts += [example.target for example in examples]
        ids = self._tokenizer(
            [f"{bos}{text}{eos}" for text in texts], add_special_tokens=False
        ).input_ids
        return zip(examples, ids[: len(examples)], ids[len(examples) :], strict=True)

    def _collate(
        self,
        found: Sequence["_Spelt"],
        pictures: dict[str, PillowImage.Image],
        resolution: int | None,
    ) -> Batch:
        """The tensors of examples whose pictures, by image key, are decoded."""
        import torch

        examples = [spelt.example for spelt in found]
        keys = list(dict.fromkeys(example.image_key for example in examples))
        place = {key: number for number, key in enumerate(keys)}
        read_ids, read_mask = self._pad([spelt.read for spelt in found])
        labels, mask = self._pad([spelt.said for spelt in found])
        counted = mask.bool()
        task_of = torch.tensor([_PLACES[find_task(example.task).name] for example in examples])
        return Batch(
            pixels=self.scale([pictures[key] for key in keys], resolution),
            picture=torch.tensor([place[example.image_key] for example in examples]),
            read=read_ids,
            read_mask=read_mask,
            before=shift_right(labels, self._start),
            counted=counted,
            labels=labels[counted],
            task_of=task_of[:, None].expand_as(labels)[counted],
        )

    def scale(self, pictures: Sequence[PillowImage.Image], resolution: int | None) -> Any:
        """Pixel values as the processor makes them, but for its size where a stage has its own."""
        sides = {} if resolution is None else square(resolution)
        return self._pictures(list(pictures), return_tensors="pt", **sides)["pixel_values"]

    def _pad(self, rows: Sequence[Sequence[int]]) -> tuple[Any, Any]:
        import torch

        longest = max(map(len, rows))
        ids = torch.full((len(rows), longest), self._tokenizer.pad_token_id)
        mask = torch.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = torch.tensor(row)
            mask[number, : len(row)] = 1
        return ids, mask


def square(side: int) -> dict[str, dict[str, int]]:
    """The options of an image processor for square pictures."""
    return {name: {"height": side, "width": side} for name in ("size", "crop_size")}


def _decode(example: Example, pictures: dict[str, PillowImage.Image]) -> str | None:
    """Adds the picture of an example, if need be; the reason where it does not decode."""
    key = example.image_key
    if key not in pictures:
        image = EncodedImage(key, memoryview(example.image), example.width, example.height)
        try:
            pictures[key] = PillowImage.fromarray(image.rgb())
        except DecodeError as err:
            return f"undecodable_image ({err.cause})"
    return None


def ahead(make: Callable[[T], U], of: Iterable[T], depth: int) -> Iterator[U]:
    """`make` of each in turn, up to `depth` of them made ahead in one thread."""
    waiting: deque[Future[U]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="collate") as pool:
        try:
            for one in of:
                waiting.append(pool.submit(make, one))
                if len(waiting) > depth:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            for future in waiting:
                future.cancel()
