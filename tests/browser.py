"""A real browser without a screen, told what to do over WebDriver, which is JSON over HTTP."""

import contextlib
import json
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import ProxyHandler, Request, build_opener

BROWSER = next(
    filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None
)
DRIVER = shutil.which("chromedriver")
_TIMEOUT_S = 90
# Where it runs as root it refuses its sandbox; the rest keeps it from asking the network for news.
_ARGUMENTS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"),
    *("--disable-background-networking", "--disable-component-update", "--disable-sync"),
)
_OPENER = build_opener(ProxyHandler({}))  # the driver is on this machine


@dataclass(frozen=True)
class Browser:
    """A session of a browser."""

    session: str

    def open(self, page: Path) -> None:
        """Loads a file and forgets what was logged before."""
        self.requests(), self.complaints()
        _call("POST", f"{self.session}/url", {"url": page.as_uri()})

    def run(self, script: str) -> Any:
        """What a script returns, which is outside the page's own policy."""
        return _call("POST", f"{self.session}/execute/sync", {"script": script, "args": []})

    def resize(self, width: int, height: int = 900) -> None:
        """Gives the page that many px, as a phone does."""
        metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600}
        command = {"cmd": "Emulation.setDeviceMetricsOverride", "params": metrics}
        _call("POST", f"{self.session}/goog/cdp/execute", command)

    def requests(self) -> list[str]:
        """Addresses asked for since the last call, those of `data:` left out."""
        events = [json.loads(entry["message"])["message"] for entry in self._log("performance")]
        sent = [e["params"] for e in events if e["method"] == "Network.requestWillBeSent"]
        urls = [params["request"]["url"] for params in sent]
        return [url for url in urls if not url.startswith("data:")]

    def complaints(self) -> list[str]:
        """Lines of the console since the last call."""
        return [entry["message"] for entry in self._log("browser")]

    def _log(self, kind: str) -> list[dict[str, Any]]:
        entries: list[dict[str, Any]] = _call("POST", f"{self.session}/se/log", {"type": kind})
        return entries


@contextmanager
def browser(profile: Path) -> Iterator[Browser]:
    """Starts driver and browser with an empty profile, and stops both for sure."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [DRIVER or "chromedriver", f"--port={port}"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    address = f"http://127.0.0.1:{port}"
    options = {"binary": BROWSER, "args": [*_ARGUMENTS, f"--user-data-dir={profile}"]}
    wanted = {"goog:chromeOptions": options}
    wanted["goog:loggingPrefs"] = {"browser": "ALL", "performance": "ALL"}
    try:
        _wait_until_it_answers(address, process)
        found = _call("POST", f"{address}/session", {"capabilities": {"alwaysMatch": wanted}})
        session = f"{address}/session/{found['sessionId']}"
        yield Browser(session)
        _call("DELETE", session)
    finally:
        process.terminate()
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(timeout=20)
        process.kill()


def _wait_until_it_answers(address: str, process: "subprocess.Popen[bytes]") -> None:
    deadline = time.monotonic() + _TIMEOUT_S
    while time.monotonic() < deadline:
        with contextlib.suppress(URLError, ConnectionError):
            if _call("GET", f"{address}/status")["ready"]:
                return
        assert process.poll() is None, "chromedriver ended"
        time.sleep(0.1)
    raise AssertionError(f"chromedriver did not answer in {_TIMEOUT_S} s")


def _call(method: str, url: str, content: dict[str, Any] | None = None) -> Any:
    body = None if content is None else json.dumps(content).encode()
    request = Request(url, body, {"Content-Type": "application/json"}, method=method)
    with _OPENER.open(request, timeout=_TIMEOUT_S) as answer:
        return json.loads(answer.read())["value"]
