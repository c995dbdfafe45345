"""Answers of a chat endpoint, checked: what was asked for, or a reason why it is not."""

import math
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from engine.protocols import Image

GRID = 1_000  # boxes are asked for in thousandths of the width and height, as vision models learn

_Coordinate = Annotated[float, Field(ge=0, le=GRID, allow_inf_nan=False)]
_Tokens = Annotated[int, Field(ge=0, le=2**40)]  # more is no count but nonsense


class AskError(Exception):
    """No answer, or not what was asked for; `cause` is one of `engine.failures`."""

    def __init__(self, cause: str, message: str) -> None:
        super().__init__(message)
        self.cause = cause


class _Strict(BaseModel):
    model_config = ConfigDict(strict=True)  # "3" is no number; keys we do not know are no harm


class _Spent(_Strict):
    prompt_tokens: _Tokens = 0
    completion_tokens: _Tokens = 0


class _Bill(_Strict):
    usage: _Spent | None = None


class _Token(_Strict):
    logprob: Annotated[float, Field(le=0, allow_inf_nan=False)]


class _Logprobs(_Strict):
    content: list[_Token] | None = None


class _Message(_Strict):
    content: str | None = None
    refusal: str | None = None


class _Choice(_Strict):
    message: _Message
    finish_reason: str | None = None
    logprobs: _Logprobs | None = None


class _Completion(_Strict):
    choices: list[_Choice] = Field(min_length=1)


class _Line(_Strict):
    text: str
    box: tuple[_Coordinate, _Coordinate, _Coordinate, _Coordinate]


class Lines(_Strict):
    """What the task `ocr` asks for: `{"lines": [{"text": ..., "box": [x0, y0, x1, y1]}]}`."""

    lines: list[_Line]

    def boxes(self, image: Image) -> npt.NDArray[np.float32]:
        """Boxes in pixels of that image, shape (n, 4), xyxy."""
        grid = np.array([line.box for line in self.lines], np.float64).reshape(-1, 4)
        size = np.array([image.width, image.height] * 2, np.float64)
        pixels: npt.NDArray[np.float32] = (grid * size / GRID).astype(np.float32)
        return pixels


LINES_SCHEMA: dict[str, Any] = {
    "type": "object",
    "properties": {
        "lines": {
            "type": "array",
            "items": {
                "type": "object",
                "properties": {
                    "text": {"type": "string"},
                    "box": {"type": "array", "items": {"type": "number"}},
                },
                "required": ["text", "box"],
                "additionalProperties": False,
            },
        }
    },
    "required": ["lines"],
    "additionalProperties": False,
}


def read_usage(body: bytes) -> dict[str, int]:
    """Tokens the service counts for this answer, whatever else is wrong with it; {} if none."""
    try:
        bill = _Bill.model_validate_json(body)
    except ValidationError:
        return {}
    return bill.usage.model_dump() if bill.usage else {}


def read_text(body: bytes) -> tuple[str, float | None]:
    """What the model says, stripped, and the geometric mean probability of its tokens where given.

    Raises:
        AskError: Another shape, cut off, filtered, refused, or empty.
    """
    try:
        choice = _Completion.model_validate_json(body).choices[0]
    except ValidationError as err:
        raise AskError("bad_answer", f"no chat completion: {_first_error(err)}") from err
    if choice.message.refusal:
        raise AskError("bad_answer", f"the model refused: {choice.message.refusal}")
    if choice.finish_reason == "length":
        raise AskError("bad_answer", "the answer was cut off; raise max_tokens")
    if choice.finish_reason == "content_filter":
        raise AskError("bad_answer", "the service's content filter cut the answer")
    text = (choice.message.content or "").strip()
    if not text:
        raise AskError("bad_answer", f"an empty answer, finish_reason {choice.finish_reason!r}")
    tokens = (choice.logprobs and choice.logprobs.content) or []
    return text, math.exp(sum(t.logprob for t in tokens) / len(tokens)) if tokens else None


def read_lines(text: str) -> Lines:
    """The lines of an answer to `ocr`; a fence of three backticks around the JSON is taken off.

    Raises:
        AskError: Not JSON, another shape, or a coordinate outside 0 to 1000.
    """
    if text.startswith("```") and text.endswith("```"):
        text = text.partition("\n")[2].removesuffix("```")
    try:
        return Lines.model_validate_json(text)
    except ValidationError as err:
        raise AskError("bad_answer", f"not the JSON asked for: {_first_error(err)}") from err


def _first_error(err: ValidationError) -> str:
    first = err.errors(include_url=False)[0]
    place = ".".join(str(step) for step in first["loc"])
    found = first["input"]
    shown = found.decode("utf-8", "replace") if isinstance(found, bytes) else repr(found)
    return f"{place + ': ' if place else ''}{first['msg']}; found {shown[:80]}"
