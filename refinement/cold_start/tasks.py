"""How a kind of annotation is named to a cold start: by a role of the table, or by a task."""

from engine.config import nearest
from engine.errors import ConfigError
from engine.formats.florence2_tasks import TASKS, Task

# Roles of the table, and what of them is asked; more than one task may speak of a role.
_TASK_OF = {
    "brief": "caption",
    "detailed": "detailed_caption",
    "more_detailed": "more_detailed_caption",
    "objects": "od",
    "proposal": "region_proposal",
    "phrase": "caption_to_phrase_grounding",
    "ocr": "ocr_with_region",
}
# Answers that become no rows: words without a place, a search for words of the user.
_WITHOUT_ROWS = ("ocr", "open_vocabulary_detection")
_TASKS = tuple(name for name in TASKS if name not in _WITHOUT_ROWS)


def find_cold_task(name: str) -> Task:
    """The task of a kind of annotation.

    Args:
        name: A role (`detailed`, `objects`), or a task as it is called or written.

    Raises:
        ConfigError: There is none; the nearest is named.

    Example:
        >>> find_cold_task("detailed").token, find_cold_task("<OD>").name
        ('<DETAILED_CAPTION>', 'od')
    """
    plain = name.strip("<>").lower()
    plain = _TASK_OF.get(plain, plain)
    if plain not in _TASKS:
        raise ConfigError(
            f"cold start {name!r} is no kind of annotation; {nearest(name, [*_TASK_OF, *_TASKS])}"
        )
    return TASKS[plain]


def short_name(task: Task) -> str:
    """The role a task answers with, where the role is named; else its own name.

    Example:
        >>> short_name(TASKS["detailed_caption"]), short_name(TASKS["region_to_category"])
        ('detailed', 'region_to_category')
    """
    return next((role for role, own in _TASK_OF.items() if own == task.name), task.name)
