"""Finds a class by the name a config uses: our own table first, then other people's packages."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any

from engine.config import nearest
from engine.errors import ConfigError


@dataclass(frozen=True)
class Registry:
    """Names and the `module:Class` behind each; nothing is imported before it is asked for."""

    what: str  # "specialist", "rule" or "source.kind", for messages
    table: Mapping[str, str]
    group: str  # the entry point group where installed packages name theirs

    def names(self) -> dict[str, str]:
        """`module:Class` of everything there is, by name.

        Raises:
            ConfigError: Two packages, or a package and this one, claim the same name.
        """
        known = dict(self.table)
        for point in sorted(entry_points(group=self.group), key=lambda p: (p.name, p.value)):
            if known.get(point.name, point.value) != point.value:
                raise ConfigError(
                    f"{self.what} {point.name!r} is claimed twice, by {known[point.name]} and by "
                    f"{point.value} of an installed package; uninstall one of them"
                )
            known[point.name] = point.value
        return known

    def find(self, name: str) -> type[Any]:
        """The class of that name; its dataclass fields are the options of a config entry.

        Raises:
            ConfigError: There is no such name (the nearest is named), or its module does not
                import.
        """
        known = self.names()
        if name not in known:
            raise ConfigError(f"{self.what} {name!r} is not known; {nearest(name, known)}")
        module, _, attribute = known[name].partition(":")
        try:
            found: type[Any] = getattr(import_module(module), attribute)
        except (ImportError, AttributeError) as err:
            raise ConfigError(
                f"{self.what} {name!r}: {known[name]} cannot be imported: {err}; reinstall the "
                "package it is from"
            ) from err
        return found
