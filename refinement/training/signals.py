"""Ctrl-C and SIGTERM as a wish that is looked at between steps."""

import contextlib
import signal
import threading
from collections.abc import Iterator
from types import FrameType


@contextlib.contextmanager
def stopped_by_signals(stop: threading.Event) -> Iterator[None]:
    """While inside, the first signal sets `stop`; a second one does what it did before.

    Outside the main thread, which signals never reach, nothing happens.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop_soon(number: int, frame: FrameType | None) -> None:
        stop.set()
        for each, handler in before.items():
            signal.signal(each, handler)

    before = {each: signal.getsignal(each) for each in (signal.SIGINT, signal.SIGTERM)}
    for each in before:
        signal.signal(each, stop_soon)
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)
