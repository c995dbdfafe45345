"""Florence-2, native in transformers: any of its tasks from one checkpoint (`fld-engine[caption]`).

No remote code, safetensors only.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

import pyarrow as pa
from PIL import Image as PillowImage

from engine.errors import ConfigError, SpecialistError
from engine.formats.florence2_tasks import (
    TASKS,
    Task,
    find_task,
    prompt_of,
    sentence_of,
    spell_regions,
)
from engine.protocols import Answer, Image, Need, Replaces, Resources
from specialists.florence2_model import Checkpoint, Said
from specialists.florence2_rows import Batch, Query, add_answer
from specialists.hub import hub_needs, load_pretrained, pin
from specialists.needs import refuse_missing
from specialists.threads import device_resources

_CAPTIONS = ("caption", "detailed_caption", "more_detailed_caption")
_GROUNDING = "caption_to_phrase_grounding"
_OUTLINES = ("referring_expression_segmentation", "region_to_segmentation")
# Their answers are no rows: a transcript without a place, a search for words of the user.
_NOT_OFFERED = ("ocr", "open_vocabulary_detection")
_OFFERED = tuple(name for name in TASKS if name not in _NOT_OFFERED)
# Longest answers, tokens. 1,024 is what the model card asks for; a caption of FLD-5B has 8, 32 or
# 71 words on average (the paper's table 2), a region's text 3.
_MAX_NEW_TOKENS = {
    "caption": 64,
    "detailed_caption": 128,
    "more_detailed_caption": 256,
    "region_to_category": 64,
    "region_to_description": 64,
    "region_to_ocr": 64,
}
_MOST_NEW_TOKENS = 1024
# Regions and texts may be many times the images of a batch; so many are asked at once, or one for
# each image where the batch is larger.
_QUERIES_AT_ONCE = 16


@dataclass(kw_only=True)
class Florence2:
    """Answers each image with what Florence-2 says to any set of its tasks; features computed once.

    - `caption`, `detailed_caption`, `more_detailed_caption`: rows `text`, role `brief`, `detailed`,
      `more_detailed`;
    - `od`: `region/category`; `dense_region_caption`: `region/brief`; `region_proposal`:
      `region/proposal`; `ocr_with_region`: `region/ocr`, the quad in `polygon`;
    - `caption_to_phrase_grounding`: `grounding/phrase` for every kept text, or its own captions; a
      phrase that does not stand in the text letter for letter is dropped;
    - `region_to_category`, `region_to_description`: `region/category`, `region/brief` for every
      kept region but transcripts; `region_to_ocr`: `region/ocr` for kept transcripts. The row has
      the region's id and box and names it as parent;
    - `referring_expression_segmentation` asks for the outlines of each label among the kept
      regions, and gives an outline to the region of that label it overlaps most, if that region
      overlaps no other more; `region_to_segmentation` asks for the outline of each kept region.
      The row repeats role and text of the region, with its id, and names it as parent.

    `score` is the geometric mean of the probabilities of a place's location tokens, in 0..1;
    `text_score` is that of the words, of captions with the end token, as specialist `caption` has
    it. Both under the model's own unaltered distribution, and null where nothing of the kind was
    said: the box of a region that was asked about is not its answer.

    In float32 on a CPU a batch answers as its images one by one. `usage` of an answer counts
    generated tokens, answers that were cut, and what of them had to be dropped.

    Attributes:
        model: A folder, a hub id (downloaded when it is not in the cache), or `plain` for this
            project's own checkpoint, which answers within seconds and knows its plain world alone.
        name: The `source` of its rows.
        tasks: Names as above, or task tokens (`<OD>`); they run, and rows come, in this order.
            Those that look at kept rows need another specialist that produces them.
        ground: Which texts are grounded: `kept` ones of other specialists, or its `own` captions.
        max_new_tokens: Longest answer, tokens. Null: by task, 64 to 256 for captions, 64 for the
            text of a region, 1,024 for others, or less where the model has no positions for it.
        num_beams: 1 is greedy; the model card's 3 searches wider at as many times the cost.
        dtype: `float32`, `bfloat16` or `float16`.
        device: As torch names it; `cpu` unless asked otherwise.
        revision: Branch, tag or commit on the hub; null: its main branch.
        gpus: Share of a GPU one worker takes; null: a whole one if `device` is one, else none.
        quiet_limit: Alarm when the first images, this many, gave no row. Null suits tasks that only
            look at rows many images do not have.
    """

    model: str = "florence-community/Florence-2-base"
    name: str = "florence2"
    tasks: tuple[str, ...] = ("caption", "od")
    ground: Literal["kept", "own"] = "kept"
    max_new_tokens: int | None = None
    num_beams: int = 1
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    device: str = "cpu"
    revision: str | None = None
    gpus: float | None = None
    quiet_limit: int | None = 64
    produces: tuple[str, ...] = field(init=False)
    requires: tuple[str, ...] = field(init=False)
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False)
    _pinned: str | None = field(init=False, repr=False, default=None)
    _checkpoint: Checkpoint | None = field(init=False, repr=False, default=None)
    _wanted: tuple[str, ...] = field(init=False, repr=False)  # names of tasks, in their order

    def __post_init__(self) -> None:
        self._wanted = self._check_tasks()
        for option, count in {
            "max_new_tokens": self.max_new_tokens,
            "num_beams": self.num_beams,
        }.items():
            if count is not None and count < 1:
                raise ConfigError(f"specialist {self.name!r}: {option} {count}; allowed: 1 or more")
        made = (pair for name in self._wanted for pair in _pairs_of(TASKS[name]))
        self.produces = tuple(dict.fromkeys(made))
        self.requires = tuple(dict.fromkeys(self._required()))
        self.resources = device_resources(self.device, self.gpus)

    def _check_tasks(self) -> tuple[str, ...]:
        allowed = f"allowed: {', '.join(_OFFERED)}"
        try:
            names = [find_task(task).name for task in self.tasks]
        except ConfigError as err:
            raise ConfigError(f"specialist {self.name!r}: tasks: {err}") from err
        if not names or len(set(names)) < len(names):
            raise ConfigError(
                f"specialist {self.name!r}: tasks {list(self.tasks)}; "
                f"name at least one, each once; {allowed}"
            )
        if refused := [name for name in names if name in _NOT_OFFERED]:
            raise ConfigError(
                f"specialist {self.name!r}: task {refused[0]!r} gives no rows; {allowed}"
            )
        if self.ground == "own" and not (_GROUNDING in names and {*_CAPTIONS} & {*names}):
            raise ConfigError(
                f"specialist {self.name!r}: ground is own, which needs {_GROUNDING} and a caption "
                f"among its tasks; found {list(self.tasks)}"
            )
        return tuple(name for name in TASKS if name in names)

    def _required(self) -> Iterator[str]:
        for name in self._wanted:
            if name == _GROUNDING and self.ground == "kept":
                yield "text"
            elif name == "region_to_ocr":
                yield "region/ocr"
            elif TASKS[name].takes == "region" or name in _OUTLINES:
                yield "region"

    def needs(self) -> list[Need]:
        """transformers, torchvision, and the model as a folder or in the hub's cache."""
        return hub_needs(self.model, self.revision, "caption")

    def prepare(self) -> str:
        """Downloads a hub model; returns its commit, or the digest of a folder.

        Raises:
            SpecialistError: A package or the folder is missing, or the hub has no such model or
                cannot be reached.
        """
        refuse_missing(self.name, self.needs())
        self._pinned = pin(self.name, self.model, self.revision)
        return self._pinned

    def load(self) -> None:
        """Loads model and processor.

        Raises:
            SpecialistError: It is no Florence-2 in transformers' own format, or shorter than
                `max_new_tokens`.
        """
        processor, model = load_pretrained(
            self.name,
            self.model,
            self._pinned or self.revision,
            ("AutoProcessor", "AutoModelForImageTextToText"),
            dtype=self.dtype,
            device=self.device,
        )
        if model.config.model_type != "florence2":
            raise SpecialistError(
                f"specialist {self.name!r}: {self.model} is a {model.config.model_type}; "
                "name a Florence-2 checkpoint, or use kind caption"
            )
        self._checkpoint = Checkpoint(processor, model)
        most = self._checkpoint.max_tokens
        if self.max_new_tokens is not None and self.max_new_tokens > most:
            raise SpecialistError(
                f"specialist {self.name!r}: max_new_tokens {self.max_new_tokens}; "
                f"{self.model} has positions for {most}"
            )

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> Answer:
        """Rows in the images' order, then in the tasks'; see `engine.protocols.Specialist`."""
        batch = Batch(images, rows)
        assert self._checkpoint is not None
        if images:
            features = self._checkpoint.see([PillowImage.fromarray(i.rgb()) for i in images])
            for name in self._wanted:
                self._run(TASKS[name], batch, features)
        return Answer(rows=batch.table(), usage=batch.usage)

    def _run(self, task: Task, batch: Batch, features: Any) -> None:
        """Asks one task of all images, and adds the rows of its answers."""
        queries = list(self._queries(task, batch))
        at_once = max(_QUERIES_AT_ONCE, len(batch.images))
        for start in range(0, len(queries), at_once):
            part = queries[start : start + at_once]
            prompts = [prompt_of(task, query.given) for query in part]
            said = self._ask(task, features[[query.image for query in part]], prompts)
            for query, prompt, answer in zip(part, prompts, said, strict=True):
                add_answer(batch, task, query, prompt, answer)

    def _ask(self, task: Task, features: Any, prompts: list[str]) -> list[Said]:
        assert self._checkpoint is not None
        limit = self.max_new_tokens or _MAX_NEW_TOKENS.get(task.name, _MOST_NEW_TOKENS)
        return self._checkpoint.ask(
            features,
            [sentence_of(prompt) for prompt in prompts],
            max_new_tokens=min(limit, self._checkpoint.max_tokens),
            num_beams=self.num_beams,
        )

    def _queries(self, task: Task, batch: Batch) -> Iterator[Query]:
        if task.takes == "nothing":
            yield from (Query(image) for image in range(len(batch.images)))
        elif task.name == _GROUNDING:
            for image, row in batch.captions if self.ground == "own" else batch.kept_texts():
                yield Query(image, row["text"].strip(), (row,))
        elif task.takes == "region":
            for image, regions in batch.regions(is_ocr=task.name == "region_to_ocr"):
                last_to_first = {row["region_id"]: row for row in reversed(regions)}
                for row in reversed(last_to_first.values()):  # the first row of each region
                    yield Query(image, spell_regions(row["box"], batch.sizes[image])[0], (row,))
        else:
            for image, regions in batch.regions(is_ocr=False):
                for label, alike in _by_label(regions).items():
                    yield Query(image, label, tuple(alike))


def _pairs_of(task: Task) -> tuple[str, ...]:
    """The kinds and roles of the rows its answers become."""
    roles = task.roles if task.name in _OUTLINES else task.roles[:1]
    return tuple(f"{task.kind}/{role}" for role in roles)


def _by_label(regions: Sequence[dict[str, Any]]) -> dict[str, list[dict[str, Any]]]:
    """Regions by what they are called, in order; those without a name are left out."""
    found: dict[str, list[dict[str, Any]]] = {}
    for row in regions:
        if label := (row["text"] or "").strip():
            found.setdefault(label, []).append(row)
    return found
