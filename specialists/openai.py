"""Any OpenAI-compatible vision endpoint, a cloud's or your own vLLM (`fld-engine[endpoint]`).

The key is read from the environment when a worker loads, and from nowhere else; it is in no config,
pickle, row, message or file.
"""

import asyncio
import hashlib
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple, get_args
from urllib.parse import urlsplit

import pyarrow as pa

from engine.errors import ConfigError, SpecialistError
from engine.protocols import Answer, Image, Need, Replaces, Resources
from engine.schema import claims, empty_claims
from specialists.chat_answers import GRID, LINES_SCHEMA, AskError, Lines, read_lines, read_text
from specialists.data_url import data_url
from specialists.endpoint import Endpoint, Limits, Pace
from specialists.needs import package_need, refuse_missing
from specialists.redact import redact

Task = Literal["brief", "detailed", "more_detailed", "ocr"]

_PROMPTS: dict[Task, str] = {
    "brief": "Describe this image in one short sentence. Answer with that sentence alone.",
    "detailed": "Describe this image in two or three sentences. Answer with those alone.",
    "more_detailed": "Describe this image in one detailed paragraph: the things in it, what they "
    "look like, what they do, where they are. Answer with that paragraph alone.",
    "ocr": "Read all text in this image, line by line, exactly as written. Answer with JSON alone: "
    '{"lines": [{"text": "...", "box": [x0, y0, x1, y1]}]}. A box holds its line: left, top, '
    f"right, bottom, each from 0 to {GRID} over the whole width or height of the image. "
    'Without text in the image: {"lines": []}.',
}
_VARIABLE = re.compile(r"^[A-Za-z_][A-Za-z0-9_]*$")
_KEY = re.compile(r"^[!-~]+$")  # what an HTTP header can carry
_SECRET_CHARS = 12  # shorter keys are what local servers take for show, and ordinary words
_OURS = ("model", "messages", "stream", "n")  # set in extra_body, they would break our answers


@dataclass(kw_only=True)
class OpenAi:
    """Answers each image with a caption per caption task, and a row per line of text for `ocr`.

    One request per image and task, in one conversation each. Captions are rows of kind `text`;
    `ocr` gives kind `region`, role `ocr`, its boxes asked for in thousandths of width and height
    and stored in pixels. Scores are null, but `text_score` of captions with `logprobs`: the
    geometric mean probability of the answer's tokens. Anything but what was asked for
    (no JSON, cut off, filtered, refused, empty) is the failure `bad_answer` of that image, an
    error after all tries `refused`, silence `timeout`. What other tasks gave for that image is
    kept. Nobody can promise that a service answers alike twice: `temperature` 0 and `seed` ask.

    `usage` of a run counts requests, retries, prompt_tokens and completion_tokens as the service
    reports them, failed images included. 408, 409, 429, 5xx and broken connections are tried
    again, each time twice as late or when Retry-After says; other errors are not.

    Attributes:
        model: As the service names it.
        name: The `source` of its rows.
        base_url: Such as http://localhost:8000/v1; null: OPENAI_BASE_URL, else OpenAI's service.
        key_variable: Environment variable with the key, on every node of a cluster; null: no key.
        tasks: Any of `brief`, `detailed`, `more_detailed`, `ocr`, each once.
        prompts: By task, in place of ours. One for `ocr` must ask for the same JSON.
        concurrency: Requests at the same time, per worker; no more than a batch has questions.
        requests_per_minute: Per worker, evenly spaced; null: no limit.
        timeout_s: One try, from request to the last byte.
        max_tries: Of one request, the first included.
        max_wait_s: Longest wait between two tries, whatever Retry-After says.
        batch_timeout_s: Images of a batch not answered by then fail as `timeout`. Keep it below
            runner.batch_timeout_s, after which the engine asks for the whole batch once more.
        max_tokens: Longest answer; null: not sent (models that want `max_completion_tokens` get it
            by extra_body).
        temperature: Null: not sent, for models that refuse it.
        seed: Null: not sent.
        logprobs: Ask for log-probabilities.
        json_mode: How `ocr` asks for JSON: `schema`, `object`, or `prompt` alone where the service
            knows no response_format.
        max_side_px: Larger pictures are scaled down to it. See `specialists.data_url`.
        detail: As OpenAI defines it for pictures; null: not sent.
        extra_body: More fields of every request, such as {chat_template_kwargs: {...}} for vLLM.
        quiet_limit: Alarm when the first images, this many, gave no row, as with a wrong key. For
            `ocr` alone raise it, or null: most photos hold no text.
    """

    model: str
    name: str = "openai"
    base_url: str | None = None
    key_variable: str | None = "OPENAI_API_KEY"
    tasks: tuple[Task, ...] = ("brief",)
    prompts: dict[Task, str] = field(default_factory=dict)
    concurrency: int = 8
    requests_per_minute: float | None = None
    timeout_s: float = 60.0
    max_tries: int = 4
    max_wait_s: float = 30.0
    batch_timeout_s: float = 270.0
    max_tokens: int | None = 1_024
    temperature: float | None = 0.0
    seed: int | None = 0
    logprobs: bool = False
    json_mode: Literal["schema", "object", "prompt"] = "schema"
    max_side_px: int = 1_024
    detail: Literal["auto", "low", "high"] | None = None
    extra_body: dict[str, Any] = field(default_factory=dict)
    quiet_limit: int | None = 16
    produces: tuple[str, ...] = field(init=False)
    requires: tuple[str, ...] = field(init=False, default=())
    replaces: Replaces = field(init=False, default="never")
    resources: Resources = field(init=False, default=Resources())
    _key: str | None = field(init=False, repr=False, compare=False, default=None)
    _pace: Pace = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        self._check_counts()
        self._check_tasks()
        self._check_secrets()
        taken = [name for name in _OURS if name in self.extra_body]
        if taken:
            raise self._wrong(f"extra_body.{taken[0]} is not yours to set; leave it out")
        roles = [f"region/{task}" if task == "ocr" else f"text/{task}" for task in self.tasks]
        self.produces = tuple(roles)
        self._pace = Pace(self.requests_per_minute)

    def _check_counts(self) -> None:
        for option in ("concurrency", "max_tries", "max_tokens", "max_side_px"):
            count = getattr(self, option)
            if count is not None and count < 1:
                raise self._wrong(f"{option} {count}; allowed: 1 or more")
        for option in ("timeout_s", "max_wait_s", "batch_timeout_s", "requests_per_minute"):
            limit = getattr(self, option)
            if limit is not None and not limit > 0:
                raise self._wrong(f"{option} {limit}; allowed: more than 0")

    def _check_tasks(self) -> None:
        if not self.tasks or len(set(self.tasks)) < len(self.tasks):
            allowed = ", ".join(get_args(Task))
            raise self._wrong(f"tasks {list(self.tasks)}; allowed: one or more of {allowed}")
        for task, prompt in self.prompts.items():
            if task not in self.tasks or not prompt.strip():
                raise self._wrong(f"prompts.{task} is empty or not among the tasks; leave it out")

    def _check_secrets(self) -> None:
        """A config is stored with the dataset, so its messages quote nothing either."""
        if self.key_variable is not None and not _VARIABLE.match(self.key_variable):
            raise self._wrong(
                "key_variable is no name of an environment variable; put the key into the "
                "environment and its variable's name here"
            )
        if self.base_url is None:
            return
        try:
            url = urlsplit(self.base_url)
            known = url.scheme in ("http", "https") and bool(url.hostname)
        except ValueError:
            known = False
        if not known:
            raise self._wrong("base_url is no URL; wanted such as http://localhost:8000/v1")
        if url.username is not None or url.password is not None or url.query or url.fragment:
            raise self._wrong(
                "base_url holds credentials or a query; give scheme, host, port and path, and the "
                "key by key_variable"
            )

    def _wrong(self, what: str) -> ConfigError:
        return ConfigError(f"specialist {self.name!r}: {what}")

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_key": None}

    def needs(self) -> list[Need]:
        """The `openai` package, and the key's variable in the environment."""
        needs = [package_need("openai", "endpoint")]
        if self.key_variable is not None:
            present = bool(os.environ.get(self.key_variable, "").strip())
            mend = f"export {self.key_variable}=..., on every node of a cluster"
            needs.append(Need(f"environment variable {self.key_variable}", present, mend))
        return needs

    def prepare(self) -> str:
        """A digest of what is asked: prompts, parameters, size of the picture.

        There is no better revision: what runs behind the model's name is not known before it
        answers.

        Raises:
            SpecialistError: The package or the key's variable is missing.
        """
        refuse_missing(self.name, self.needs())
        asked = [self._question(task, "") for task in self.tasks]
        spelled = json.dumps([asked, self.max_side_px], sort_keys=True)
        return hashlib.blake2b(spelled.encode(), digest_size=8).hexdigest()

    def load(self) -> None:
        """Reads the key; nothing is asked yet.

        Raises:
            SpecialistError: The variable is empty on this node, or holds what no header can carry.
        """
        refuse_missing(self.name, self.needs())
        if self.key_variable is not None:
            self._key = os.environ[self.key_variable].strip()
            if not _KEY.match(self._key):
                raise SpecialistError(
                    f"specialist {self.name!r}: the value of {self.key_variable} holds spaces, "
                    "line breaks or letters that no key has; set it anew"
                )

    def annotate(self, images: Sequence[Image], rows: pa.Table) -> Answer:
        """Rows by image and task, and the images that failed; see `engine.protocols.Specialist`."""
        if not images:
            return Answer(rows=empty_claims())
        # before anything is spent: a picture that cannot be drawn fails this batch, and is found
        urls = [data_url(image, self.max_side_px) for image in images]
        told, usage = asyncio.run(self._ask_all(images, urls))
        failures = [
            _failure(image.image_key, answers)
            for image, answers in zip(images, told, strict=True)
            if any(isinstance(answer, AskError) for answer in answers.values())
        ]
        return Answer(rows=self._rows(images, told), failures=failures, usage=usage)

    async def _ask_all(
        self, images: Sequence[Image], urls: list[str]
    ) -> tuple[list["_Answers"], dict[str, int]]:
        limits = Limits(
            timeout_s=self.timeout_s,
            max_tries=self.max_tries,
            max_wait_s=self.max_wait_s,
            concurrency=self.concurrency,
        )
        end = asyncio.get_running_loop().time() + self.batch_timeout_s
        async with Endpoint(self.base_url, self._key, limits, self._pace) as endpoint:
            flat = await asyncio.gather(
                *(
                    self._ask(endpoint, task, image.image_key, url, end)
                    for image, url in zip(images, urls, strict=True)
                    for task in self.tasks
                )
            )
        step = len(self.tasks)
        by_image = [flat[i : i + step] for i in range(0, len(flat), step)]
        told = [dict(zip(self.tasks, answers, strict=True)) for answers in by_image]
        return told, dict(endpoint.usage)

    async def _ask(
        self, endpoint: Endpoint, task: Task, image_key: str, url: str, end: float
    ) -> "_Said | AskError":
        try:
            async with asyncio.timeout_at(end):
                body = await endpoint.ask(self._question(task, url), f"{image_key}/{task}")
            text, score = read_text(body)
            lines = read_lines(text) if task == "ocr" else None
        except TimeoutError:
            waited = f"not answered before the batch's {self.batch_timeout_s:g} s were over"
            return AskError("timeout", waited)
        except AskError as err:
            return AskError(err.cause, redact(str(err), self._key))
        if self._key and len(self._key) >= _SECRET_CHARS and self._key in text:
            return AskError("bad_answer", "the answer holds the key")
        return _Said(text, score, lines)

    def _question(self, task: Task, url: str) -> dict[str, Any]:
        """Arguments of one chat completion request about the picture behind a data URL."""
        picture = {"url": url} | ({"detail": self.detail} if self.detail else {})
        content = [
            {"type": "image_url", "image_url": picture},
            {"type": "text", "text": self._prompt(task)},
        ]
        optional = {
            "max_tokens": self.max_tokens,
            "temperature": self.temperature,
            "seed": self.seed,
            "logprobs": self.logprobs or None,
            "response_format": self._response_format() if task == "ocr" else None,
            "extra_body": self.extra_body or None,
        }
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            **{name: value for name, value in optional.items() if value is not None},
        }

    def _prompt(self, task: Task) -> str:
        return self.prompts.get(task, _PROMPTS[task])

    def _response_format(self) -> dict[str, Any] | None:
        if self.json_mode == "prompt":
            return None
        if self.json_mode == "object":
            return {"type": "json_object"}
        schema = {"name": "lines", "strict": True, "schema": LINES_SCHEMA}
        return {"type": "json_schema", "json_schema": schema}

    def _rows(self, images: Sequence[Image], told: list["_Answers"]) -> pa.Table:
        tables = []
        for image, answers in zip(images, told, strict=True):
            for task, said in answers.items():
                if isinstance(said, AskError):
                    continue
                if said.lines is None:
                    tables.append(self._caption(image, task, said))
                else:
                    tables.append(self._text_lines(image, said.lines))
        return pa.concat_tables([empty_claims(), *tables]).unify_dictionaries()

    def _caption(self, image: Image, task: Task, said: "_Said") -> pa.Table:
        return claims(
            image_key=[image.image_key],
            kind="text",
            role=task,
            text=[said.text],
            text_score=[said.text_score],
            prompt=self._prompt(task),
        )

    def _text_lines(self, image: Image, lines: Lines) -> pa.Table:
        return claims(
            image_key=[image.image_key] * len(lines.lines),
            kind="region",
            role="ocr",
            text=[line.text for line in lines.lines],
            box=lines.boxes(image),
            prompt=self._prompt("ocr"),
        )


class _Said(NamedTuple):
    text: str
    text_score: float | None
    lines: Lines | None  # of the task `ocr`


_Answers = dict[Task, _Said | AskError]  # by task


def _failure(image_key: str, answers: _Answers) -> tuple[str, str, str]:
    """One failure of one image: the first cause, and what each failed task says."""
    failed = {task: said for task, said in answers.items() if isinstance(said, AskError)}
    causes = [err.cause for err in failed.values()]
    return image_key, causes[0], "; ".join(f"{task}: {err}" for task, err in failed.items())
