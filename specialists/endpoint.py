"""One OpenAI-compatible endpoint: bounded tries, bounded answers, and what they cost.

The tries are ours and not the `openai` package's: every try has to wait for its turn in
`requests_per_minute`, to be counted even when the last one fails, and to end within limits of our
own; the package's delays are random and its counts are lost with an exception.
"""

import asyncio
import contextlib
import email.utils
import importlib
import json
import math
import time
import zlib
from collections import Counter
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

from specialists.chat_answers import AskError, read_usage
from specialists.redact import redact

UNITS = ("requests", "retries", "prompt_tokens", "completion_tokens")

_MAX_ANSWER_BYTES = 8 << 20  # text a page long takes 100 kB with log-probabilities
_MAX_QUOTED = 600  # characters of a service's message, before it is cut for the table
_FIRST_WAIT_S = 0.5  # doubled with every try
_ERROR, _SERVER_ERROR = 400, 500  # HTTP statuses from here on
_TRANSIENT = (408, 409, 429)  # and server errors: what the openai package tries again as well
_HINTS = {
    401: "the key is not accepted",
    403: "the key may not do this",
    404: "no such model or path; check `model` and `base_url`",
}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How long and how often one answer is waited for."""

    timeout_s: float  # of one try, from request to the last byte
    max_tries: int
    max_wait_s: float  # between two tries, whatever Retry-After says
    concurrency: int


@dataclass
class Pace:
    """Gives every request its turn, evenly spaced."""

    requests_per_minute: float | None
    _next: float = field(init=False, default=-math.inf)

    def delay(self, now: float) -> float:
        """Takes the next turn; seconds from `now` until it comes."""
        if self.requests_per_minute is None:
            return 0.0
        turn = max(now, self._next)
        self._next = turn + 60 / self.requests_per_minute
        return turn - now


class _TryAgainError(AskError):
    """A try that failed in a way another may not; `wait_s` is what the service asked for."""

    def __init__(self, cause: str, message: str, wait_s: float | None = None) -> None:
        super().__init__(cause, message)
        self.wait_s = wait_s


class _RefusalError(Exception):
    """An HTTP status of 400 or more, with a body that was read within limits."""

    def __init__(self, status: int, headers: Mapping[str, str], body: bytes) -> None:
        super().__init__(str(status))
        self.status, self.headers, self.body = status, headers, body


class Endpoint:
    """Asks questions at the same time, for one batch; `usage` counts what they cost."""

    def __init__(self, base_url: str | None, key: str | None, limits: Limits, pace: Pace) -> None:
        self.usage: Counter[str] = Counter(dict.fromkeys(UNITS, 0))
        self._base_url = base_url
        self._key = key
        self._limits = limits
        self._pace = pace
        self._free = asyncio.Semaphore(limits.concurrency)

    async def __aenter__(self) -> Self:
        import openai

        # httpx2, or httpx in older releases: the one whose errors this openai package meets
        self._http: Any = importlib.import_module(
            openai.DefaultAsyncHttpxClient.__mro__[1].__module__
        )
        self._client = openai.AsyncOpenAI(
            api_key=self._key or "none",  # the package insists on one; a local server ignores it
            base_url=self._base_url,
            max_retries=0,
            timeout=self._limits.timeout_s,
            http_client=openai.DefaultAsyncHttpxClient(event_hooks={"response": [_refuse]}),
        )
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        await self._client.close()

    async def ask(self, question: Mapping[str, Any], label: str) -> bytes:
        """The body of the answer to one chat completion request.

        Args:
            question: Arguments of `chat.completions.create`.
            label: Names the question; spreads the waits of questions that failed together.

        Raises:
            AskError: `refused` or `timeout` after the last try; nothing in it tells the key.
        """
        async with self._free:
            for tries in range(1, self._limits.max_tries + 1):
                await asyncio.sleep(self._pace.delay(time.monotonic()))
                self.usage["requests"] += 1
                self.usage["retries"] += tries > 1
                try:
                    return await self._try(question)
                except _TryAgainError as err:
                    if tries == self._limits.max_tries:
                        raise AskError(err.cause, f"{err}; tried {tries} times") from err
                    await asyncio.sleep(self._wait_s(err.wait_s, tries, label))
        raise AssertionError("max_tries is 1 or more")

    def _wait_s(self, asked: float | None, tries: int, label: str) -> float:
        if asked is None:
            # 50 to 100 % of the doubled wait: spread, yet the same in every run
            spread = 0.5 + zlib.crc32(f"{label}/{tries}".encode()) / 2**33
            asked = _FIRST_WAIT_S * 2 ** (tries - 1) * spread
        return min(asked, self._limits.max_wait_s)

    async def _try(self, question: Mapping[str, Any]) -> bytes:
        limit = self._limits.timeout_s
        try:
            async with asyncio.timeout(limit):
                with self._translated():
                    create = self._client.chat.completions.with_streaming_response.create
                    async with create(**question) as answer:
                        body = await _read(answer.iter_bytes())
        except TimeoutError as err:
            raise _TryAgainError("timeout", f"no answer within {limit:g} s") from err
        self.usage.update(read_usage(body))
        return body

    @contextlib.contextmanager
    def _translated(self) -> Iterator[None]:
        """Turns what the package and its HTTP library raise into AskErrors."""
        import anyio
        import openai

        broken = (self._http.HTTPError, anyio.EndOfStream, OSError)
        try:
            yield
        except (_RefusalError, openai.OpenAIError, *broken) as err:
            known = err.__cause__ if isinstance(err.__cause__, (_RefusalError, AskError)) else err
            if isinstance(known, AskError):
                raise known from err
            if isinstance(known, _RefusalError):
                raise self._refusal(known) from err
            if isinstance(err, (openai.APITimeoutError, self._http.TimeoutException)):
                raise TimeoutError from err
            message = self._clean(f"{type(known).__name__}: {known.__cause__ or known}")
            if isinstance(err, (openai.APIConnectionError, *broken)):
                raise _TryAgainError("refused", f"no connection, or it broke: {message}") from err
            raise AskError("refused", message) from err

    def _refusal(self, refusal: _RefusalError) -> AskError:
        hint = _HINTS.get(refusal.status)
        message = f"HTTP {refusal.status}{f', {hint}' if hint else ''}: {_said(refusal.body)}"
        message = self._clean(message)
        if refusal.status in _TRANSIENT or refusal.status >= _SERVER_ERROR:
            return _TryAgainError("refused", message, retry_after_s(refusal.headers, time.time()))
        return AskError("refused", message)

    def _clean(self, message: str) -> str:
        return redact(message, self._key)[:_MAX_QUOTED]


async def _refuse(response: Any) -> None:
    """Reads an error here and within limits: the package would read it whole, however long."""
    if response.status_code >= _ERROR:
        body = await _read(response.aiter_bytes())
        raise _RefusalError(response.status_code, response.headers, body)


async def _read(chunks: AsyncIterator[bytes]) -> bytes:
    body = bytearray()
    async for chunk in chunks:
        body += chunk
        if len(body) > _MAX_ANSWER_BYTES:
            raise AskError("bad_answer", f"an answer of more than {_MAX_ANSWER_BYTES:,} bytes")
    return bytes(body)


def _said(body: bytes) -> str:
    """The message of an error: OpenAI's shape, the common others, else the body's beginning."""
    text = body[: 4 * _MAX_QUOTED].decode("utf-8", "replace")
    try:
        told = json.loads(body)
    except (ValueError, RecursionError):
        return text
    for name in ("error", "message", "detail"):
        if isinstance(told, dict) and told.get(name):
            told = told[name]
    return told if isinstance(told, str) else text


def retry_after_s(headers: Mapping[str, str], now: float) -> float | None:
    """Seconds the service asks to wait, from Retry-After as a number or as an HTTP date.

    Args:
        headers: Of the answer, names without regard to case.
        now: Unix time, seconds.

    Returns:
        0 or more; null where there is no such header, or none that makes sense.
    """
    asked = headers.get("retry-after", "")
    try:
        seconds = float(asked)
    except ValueError:
        try:
            seconds = email.utils.parsedate_to_datetime(asked).timestamp() - now
        except (ValueError, OverflowError):
            return None
    return max(seconds, 0.0) if math.isfinite(seconds) else None
