"""Which labels name the same class in different vocabularies, and which class holds another.

Two relations, kept apart: `couch` and `sofa` are one class, a `man` is a `person`. Models that look
for agreement ask the first only; a phrase of a caption finds its object by both.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

from engine.errors import ConfigError
from specialists.nouns import singular
from specialists.synonym_table import KINDS, NAMES

_JOINTS = re.compile(r"[\s_-]+")


@cache
def fold(label: str) -> str:
    """A label in lower case and the singular, its words parted by single spaces.

    Example:
        >>> [fold(label) for label in ("Wine_Glass", "T-shirts", "  Traffic  lights", "bus")]
        ['wine glass', 't shirt', 'traffic light', 'bus']
    """
    words = _JOINTS.sub(" ", label.casefold()).strip()
    return singular(words) if words else words


@dataclass(frozen=True, kw_only=True)
class Synonyms:
    """A table of synonyms and kinds; `read_synonyms` makes one.

    Attributes:
        names: The class's name by every folded label known for it.
        kinds: The folded names of all classes that hold a class, near or far, by its folded name.
    """

    names: Mapping[str, str]
    kinds: Mapping[str, frozenset[str]]

    def key(self, label: str) -> str:
        """Equal for labels of one class: the folded name of the class, or the folded label."""
        folded = fold(label)
        return fold(self.names.get(folded, folded))

    def name(self, label: str) -> str:
        """The name of the label's class; a label the table does not know stays as it is."""
        return self.names.get(fold(label), label)

    def knows(self, label: str) -> bool:
        """Whether the table has the label, as a name or as a kind."""
        return fold(label) in self.names or self.key(label) in self.kinds

    def is_a(self, label: str, wider: str) -> bool:
        """Whether whatever bears the first label also bears the second.

        Example:
            >>> table = read_synonyms()
            >>> table.is_a("ladies", "Person"), table.is_a("person", "lady")
            (True, False)
        """
        narrow, wide = self.key(label), self.key(wider)
        return narrow == wide or wide in self.kinds.get(narrow, ())


def read_synonyms(
    more_names: Mapping[str, Sequence[str]] | None = None,
    more_kinds: Mapping[str, Sequence[str]] | None = None,
) -> Synonyms:
    """The table that ships, extended and overruled by a config.

    Args:
        more_names: Other names by the name of a class, `{couch: [sofa]}`. A name given here leaves
            the class it had in the shipped table.
        more_kinds: Kinds by the class that holds them, `{vehicle: [car, bus]}`; added to those
            shipped.

    Raises:
        ConfigError: A name is empty, stands for two classes, or a class is a kind of itself.
    """
    names = _names({name: _split(others) for name, others in NAMES.items()})
    for label, name in _names(more_names or {}).items():
        names[label] = name
    table = Synonyms(names=names, kinds={})
    above: dict[str, set[str]] = {}
    for kinds in ({name: _split(kinds) for name, kinds in KINDS.items()}, more_kinds or {}):
        for wider, narrower in kinds.items():
            for name in narrower:
                above.setdefault(_checked(table, name), set()).add(_checked(table, wider))
    known = set(above).union(*above.values())
    return Synonyms(names=names, kinds={name: _closure(name, above) for name in known})


def _split(names: str) -> list[str]:
    return names.split(", ")


def _names(classes: Mapping[str, Sequence[str]]) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, others in classes.items():
        for label in (name, *others):
            folded = fold(label)
            if not folded:
                raise ConfigError(f"synonyms: a name of {name!r} is empty; remove it")
            if found.setdefault(folded, name) != name:
                raise ConfigError(
                    f"synonyms: {label!r} stands for {found[folded]!r} and for {name!r}; "
                    "a name has one class"
                )
    return found


def _checked(table: Synonyms, name: str) -> str:
    key = table.key(name)
    if not key:
        raise ConfigError("hypernyms: a name is empty; remove it")
    return key


def _closure(name: str, above: Mapping[str, set[str]]) -> frozenset[str]:
    found: set[str] = set()
    open_ = [name]
    while open_:
        more = above.get(open_.pop(), set()) - found
        found |= more
        open_.extend(more)
    if name in found:
        raise ConfigError(f"hypernyms: {name!r} is a kind of itself; remove one of the entries")
    return frozenset(found)
