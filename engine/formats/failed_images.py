"""Failures of images, gathered while labels are read: one per image and cause, with a count."""

from engine.failures import Failure, fail


class FailedImages:
    """What could not be taken, by image and cause."""

    def __init__(self) -> None:
        self._found: dict[int, dict[str, tuple[str, int]]] = {}

    def add(self, image: int, cause: str, message: str) -> None:
        """Notes one label that could not be taken; the first message of a cause is kept."""
        causes = self._found.setdefault(image, {})
        first, count = causes.get(cause, (message, 0))
        causes[cause] = (first, count + 1)

    def of(self, image: int) -> list[Failure] | None:
        """Failures of an image, null if there are none."""
        causes = self._found.get(image)
        if causes is None:
            return None
        return [
            fail("labels", cause, message if count == 1 else f"{message} (and {count - 1} more)")
            for cause, (message, count) in causes.items()
        ]
