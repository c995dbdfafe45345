"""A real HTTP server that answers as endpoints do on bad days; the picture says which way.

What it does depends on the bytes of the picture it is asked about, and on nothing else: the same
pictures get the same answers in every run.
"""

import base64
import contextlib
import gzip
import hashlib
import json
import threading
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

KEY = "sk-test-0123456789abcdefghijKLMNOPQRST"
PROMPT_TOKENS, COMPLETION_TOKENS = 100, 7
HUGE_BYTES = 64 << 20
_PATIENCE_S = 20  # how long a slow answer takes, unless the server is closed before

# What each behaviour comes to: the cause of the image's failure, None where a retry helps.
BEHAVIOURS: dict[str, str | None] = {
    "good": None,
    "fenced": None,
    "throttled_once": None,
    "throttled_once_politely": None,
    "breaks_once": None,
    "hangs_up_once": None,
    "throttled": "refused",
    "breaks": "refused",
    "breaks_at_length": "bad_answer",
    "bad_request": "refused",
    "echoes_key": "refused",
    "masks_key": "refused",
    "hangs_up": "refused",
    "closes_midway": "refused",
    "no_http": "refused",
    "slow": "timeout",
    "trickles": "timeout",
    "garbage": "bad_answer",
    "html": "bad_answer",
    "wrong_shape": "bad_answer",
    "no_choices": "bad_answer",
    "truncated_json": "bad_answer",
    "deep_json": "bad_answer",
    "not_utf8": "bad_answer",
    "lone_surrogate": "bad_answer",
    "filtered": "bad_answer",
    "refuses": "bad_answer",
    "cut_off": "bad_answer",
    "silent": "bad_answer",
    "huge": "bad_answer",
    "bomb": "bad_answer",
    "says_key": "bad_answer",
}


@dataclass
class Seen:
    """One request as it arrived."""

    body: dict[str, Any]
    picture: bytes
    media_type: str
    authorization: str | None

    @property
    def prompt(self) -> str:
        return next(part["text"] for part in self.parts if part["type"] == "text")

    @property
    def parts(self) -> list[dict[str, Any]]:
        return self.body["messages"][0]["content"]

    @property
    def digest(self) -> str:
        return hashlib.sha256(self.picture).hexdigest()


@dataclass
class Record:
    """What the server saw."""

    seen: list[Seen] = field(default_factory=list)
    most_at_once: int = 0
    sent_bytes: int = 0


class MisbehavingServer(ThreadingHTTPServer):
    """Answers by behaviour; pictures it was told nothing about get a good answer.

    With `crowd` every request waits a second for that many to be under way.
    """

    daemon_threads = True

    def __init__(self, crowd: int = 1) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.record = Record()
        self.behaviours: dict[str, str] = {}
        self.closing = threading.Event()
        self.tries: Counter[tuple[str, str]] = Counter()
        self._crowd = crowd
        self._at_once = 0
        self._changed = threading.Condition()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/v1"

    def behave(self, picture: bytes, behaviour: str) -> None:
        self.behaviours[hashlib.sha256(picture).hexdigest()] = behaviour

    @contextlib.contextmanager
    def counted(self, seen: Seen) -> Iterator[int]:
        """Holds the request in the count of those under way; how often it was tried."""
        with self._changed:
            self._at_once += 1
            self.record.seen.append(seen)
            self.record.most_at_once = max(self.record.most_at_once, self._at_once)
            self.tries[seen.digest, seen.prompt] += 1
            tries = self.tries[seen.digest, seen.prompt]
            self._changed.notify_all()
            self._changed.wait_for(lambda: self.record.most_at_once >= self._crowd, timeout=1)
        try:
            yield tries
        finally:
            with self._changed:
                self._at_once -= 1

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Clients hang up on answers that are too long or too slow; that is no error here."""


@contextlib.contextmanager
def misbehaving_server(crowd: int = 1) -> Iterator[MisbehavingServer]:
    with MisbehavingServer(crowd) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield server
        finally:
            server.closing.set()
            server.shutdown()
            thread.join()


def caption_of(digest: str) -> str:
    return f"a picture with the digest {digest[:8]}"


def completion(
    content: str | None, *, finish: str = "stop", logprobs: object = None, **message: object
) -> bytes:
    """A chat completion as services send it."""
    answer = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": "tiny",
        "choices": [
            {
                "index": 0,
                "finish_reason": finish,
                "message": {"role": "assistant", "content": content, **message},
                "logprobs": logprobs,
            }
        ],
        "usage": {"prompt_tokens": PROMPT_TOKENS, "completion_tokens": COMPLETION_TOKENS},
    }
    return json.dumps(answer).encode()


class _Handler(BaseHTTPRequestHandler):
    server: MisbehavingServer
    protocol_version = "HTTP/1.1"

    def log_message(self, format: str, *args: object) -> None:
        pass

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        parts = body["messages"][0]["content"]
        url = next(part["image_url"]["url"] for part in parts if part["type"] == "image_url")
        media_type, _, data = url.removeprefix("data:").partition(";base64,")
        seen = Seen(body, base64.b64decode(data), media_type, self.headers["Authorization"])
        self.seen = seen
        behaviour = self.server.behaviours.get(seen.digest, "good")
        with self.server.counted(seen) as tries:
            getattr(self, behaviour, self._told)(*([tries] if behaviour.endswith(ONCE) else []))

    @property
    def is_ocr(self) -> bool:
        return "JSON" in self.seen.prompt

    def _told(self) -> None:
        self.send(_BODIES[self.server.behaviours[self.seen.digest]])

    def send(self, body: bytes, status: int = 200, **headers: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        self.wfile.write(body)

    def good(self) -> None:
        content = json.dumps(LINES) if self.is_ocr else caption_of(self.seen.digest)
        asked = self.seen.body.get("logprobs")
        scores = {"content": [{"logprob": -0.5}, {"logprob": -1.5}]} if asked else None
        self.send(completion(content, logprobs=scores))

    def fenced(self) -> None:
        if not self.is_ocr:
            return self.good()
        return self.send(completion(f"```json\n{json.dumps(LINES)}\n```\n"))

    def throttled_once(self, tries: int) -> None:
        return self.throttled() if tries == 1 else self.good()

    def throttled_once_politely(self, tries: int) -> None:
        if tries > 1:
            return self.good()
        return self.send(_error("slow down"), 429, Retry_After="3600")

    def breaks_once(self, tries: int) -> None:
        return self.breaks() if tries == 1 else self.good()

    def hangs_up_once(self, tries: int) -> None:
        return self.hangs_up() if tries == 1 else self.good()

    def throttled(self) -> None:
        self.send(_error("slow down"), 429)

    def breaks(self) -> None:
        self.send(b"<html><body>Internal Server Error</body></html>", 500)

    def breaks_at_length(self) -> None:
        self.huge(500)

    def bad_request(self) -> None:
        self.send(_error("this picture is too small at /srv/app/vision.py"), 400)

    def echoes_key(self) -> None:
        self.send(_error(f"wrong key: {self.headers['Authorization']}"), 401)

    def masks_key(self) -> None:
        self.send(_error(f"Incorrect API key provided: {KEY[:8]}{'*' * 20}{KEY[-4:]}."), 401)

    def hangs_up(self) -> None:
        self.close_connection = True

    def closes_midway(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", "5000")
        self.end_headers()
        self.wfile.write(completion("half of")[:40])
        self.close_connection = True

    def no_http(self) -> None:
        self.wfile.write(b"\x00\x01SSH-2.0-OpenSSH\r\n\r\n")
        self.close_connection = True

    def slow(self) -> None:
        self.server.closing.wait(_PATIENCE_S)
        self.close_connection = True

    def trickles(self) -> None:
        """A byte now and then: every single read is fast enough."""
        self.send_response(200)
        self.send_header("Content-Length", "5000")
        self.end_headers()
        for _ in range(_PATIENCE_S * 20):
            self.wfile.write(b" ")
            if self.server.closing.wait(0.05):
                break
        self.close_connection = True

    def bomb(self) -> None:
        self.send(gzip.compress(bytes(HUGE_BYTES)), Content_Encoding="gzip")

    def huge(self, status: int = 200) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(HUGE_BYTES))
        self.end_headers()
        piece = b" " * (1 << 16)
        for _ in range(HUGE_BYTES // len(piece)):
            self.wfile.write(piece)
            self.server.record.sent_bytes += len(piece)


def _error(message: str) -> bytes:
    return json.dumps({"error": {"message": message, "type": "error", "code": None}}).encode()


ONCE = ("_once", "_once_politely")
LINES = {
    "lines": [
        {"text": "STOP", "box": [0, 0, 500, 1000]},
        {"text": "Stra\u00dfe", "box": [250.5, 100, 1000, 200]},
    ]
}
_BODIES = {
    "garbage": bytes(range(256)) * 4,
    "html": b"<!DOCTYPE html><html><body>Please log in</body></html>",
    "wrong_shape": b'{"choices": [{"message": {"content": ["not", "a", "string"]}}]}',
    "no_choices": b'{"choices": [], "usage": {"prompt_tokens": 100, "completion_tokens": 7}}',
    "truncated_json": completion("a dog")[:-40],
    "deep_json": b"[" * 200_000,
    "not_utf8": completion("a caf?").replace(b"?", b"\xe9"),
    "lone_surrogate": completion("a ?").replace(b"?", b"\\ud800"),
    "filtered": completion("a ", finish="content_filter"),
    "refuses": completion(None, refusal="I cannot help with that."),
    "cut_off": completion("a dog that", finish="length"),
    "silent": completion("  \n"),
    "says_key": completion(f"a sign with {KEY} on it"),
}
