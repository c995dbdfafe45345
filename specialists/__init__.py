"""Specialists: one model per file behind `engine.protocols.Specialist`; importing loads none."""

import difflib
from importlib.metadata import EntryPoint, entry_points
from typing import Any

from engine.errors import ConfigError

SPECIALISTS: dict[str, str] = {
    "caption": "specialists.caption:Caption",
    "composer": "specialists.composer:Composer",
    "easyocr": "specialists.easyocr:EasyOcr",
    "null": "specialists.null:Null",
    "yolo": "specialists.yolo:Yolo",
}
ENTRY_POINTS = (
    "fld.specialists"  # where other people's packages name theirs, as name = "module:Class"
)


def known_specialists() -> dict[str, str]:
    """`module:Class` of every specialist there is, ours and those of installed packages, by name.

    Raises:
        ConfigError: Two installed packages, or a package and this one, claim the same name.
    """
    known = dict(SPECIALISTS)
    for point in sorted(entry_points(group=ENTRY_POINTS), key=lambda p: (p.name, p.value)):
        if known.get(point.name, point.value) != point.value:
            raise ConfigError(
                f"specialist {point.name!r} is claimed twice: by {known[point.name]} and by "
                f"{point.value} of an installed package; uninstall one of them"
            )
        known[point.name] = point.value
    return known


def specialist_class(kind: str) -> type[Any]:
    """The class behind a kind of specialist; its dataclass fields are a config entry's options.

    Raises:
        ConfigError: There is no such kind (the nearest known one comes first), or the package
            that offers it cannot be imported.
    """
    known = known_specialists()
    if kind not in known:
        raise ConfigError(f"specialist {kind!r} is not known; {_hint(kind, known)}")
    try:
        loaded: type[Any] = EntryPoint(name=kind, value=known[kind], group=ENTRY_POINTS).load()
    except (ImportError, AttributeError) as err:
        raise ConfigError(
            f"specialist {kind!r}: {known[kind]} cannot be imported: {err}; "
            "reinstall the package it is from"
        ) from err
    return loaded


def _hint(kind: str, known: dict[str, str]) -> str:
    nearest = difflib.get_close_matches(kind, known, n=len(known), cutoff=0.5)
    others = sorted(set(known) - set(nearest))
    return f"known, nearest first: {', '.join([*nearest, *others])}"
