"""The fixtures of `tests.faults.fixtures`, for this folder."""

from tests.faults.fixtures import shell, tricks

__all__ = ["shell", "tricks"]
